//! Sessions as a list, and what is set in one.

use serde_json::{Value, json};
use sortie::{
    Availability, OsBytes, OutputRule, SessionId, SessionScope, SessionState, SessionView,
    Timestamp,
};
use sortie_model::view::ChildPlace;

use crate::args::output::Whose;
use crate::known_sessions::Known;
use crate::render::clean::one_line;
use crate::render::listing::{quiet_id, time};
use crate::render::sheet::{Column, Item, Sheet, columns};
use crate::render::table::Tone;

pub(crate) const COLUMNS: &[Column] = columns![
    "id" "ID" Always,
    "name" "NAME" Always,
    "node" "NODE" Always,
    "owner" "OWNER" Always,
    "state" "STATE" Always,
    "availability" "AVAILABILITY" Always,
    "jobs" "JOBS" Always,
    "unfinished" "UNFINISHED" Always,
    "expires" "EXPIRES" Wide,
    "epoch" "EPOCH" Wide,
    "output_policy" "OUTPUT_POLICY" Wide,
    "temporary" "TEMPORARY" Wide,
    "created" "CREATED" Wide,
    "instance_id" "INSTANCE_ID" Wide,
    "below" "BELOW" Wide,
];
const STATE: usize = 4;

/// Sessions: those of our own node, then others.
pub(crate) fn sessions(own: &[SessionView], others: &[SessionView]) -> Sheet {
    let item = |(view, whose): (&SessionView, Whose)| Item {
        json: session(view),
        id: quiet_id(whose, view.id, view.instance),
        name: view.name.clone(),
        depth: 0,
        cells: vec![
            if is_known(view) { view.id.to_string() } else { String::new() },
            view.name.clone(),
            view.node.to_string(),
            view.owner.clone(),
            view.state.as_str().to_owned(),
            view.availability.as_str().to_owned(),
            view.jobs.to_string(),
            view.unfinished.to_string(),
            time(view.expires),
            view.epoch.to_string(),
            view.output.policy.as_str().to_owned(),
            view.temporary.to_string(),
            time(Some(view.created).filter(|_| is_known(view))),
            view.instance.to_string(),
            view.below.as_ref().map(ToString::to_string).unwrap_or_default(),
        ],
        tone: Some((STATE, tone(view.state))),
    };
    let own = own.iter().map(|view| (view, Whose::OwnNodes));
    let others = others.iter().map(|view| (view, Whose::Others));
    let items = own.chain(others).map(item).collect();
    Sheet { field: "sessions", columns: COLUMNS, items, more: Vec::new() }
}

/// What the home knows of a session whose node does not answer.
pub(crate) fn out_of_reach(known: &Known) -> SessionView {
    SessionView {
        id: SessionId(0),
        instance: known.instance,
        name: known.name.clone(),
        node: known.host.clone(),
        owner: String::new(),
        temporary: false,
        jobs: 0,
        unfinished: 0,
        created: Timestamp(0),
        below: None,
        state: SessionState::Broken,
        availability: Availability::None,
        epoch: 0,
        idle_timeout: None,
        expires: None,
        output: OutputRule::default(),
    }
}

/// Whether its node showed it; of one that does not answer the home knows little.
fn is_known(view: &SessionView) -> bool {
    view.state != SessionState::Broken
}

const fn tone(state: SessionState) -> Tone {
    match state {
        SessionState::Opened => Tone::Good,
        SessionState::Disconnected => Tone::Odd,
        SessionState::Broken | SessionState::Closed => Tone::Bad,
    }
}

/// A session as JSON.
pub(crate) fn session(view: &SessionView) -> Value {
    json!({
        "id": is_known(view).then_some(view.id.0),
        "instance_id": view.instance.to_string(),
        "name": view.name,
        "node": view.node.as_str(),
        "owner": view.owner,
        "temporary": view.temporary,
        "jobs": view.jobs,
        "unfinished": view.unfinished,
        "created": is_known(view).then(|| view.created.to_string()),
        "below": view.below.as_ref().map(below),
        "state": view.state.code(),
        "availability": view.availability.code(),
        "epoch": view.epoch,
        "idle_timeout": view.idle_timeout.map(|time| time.as_secs_f64()),
        "expires": view.expires.map(|at| at.to_string()),
        "output_policy": view.output.policy.as_str(),
        "quota": view.output.quota,
    })
}

/// The child whose jobs a session holds.
fn below(place: &ChildPlace) -> Value {
    json!({
        "node": place.node.as_str(),
        "session": place.session.0,
        "job": place.job.0,
        "child": place.child.0,
        "incarnation": place.incarnation.0,
    })
}

pub(crate) const SCOPE_COLUMNS: &[Column] = columns![
    "name" "NAME" Always,
    "value" "VALUE" Always,
];

/// What is set in a session: variables, and the working directory.
pub(crate) fn scope(scope: &SessionScope) -> Sheet {
    let text = |bytes: &OsBytes| String::from_utf8_lossy(bytes.as_bytes()).into_owned();
    let item = |(name, value): &(OsBytes, OsBytes)| {
        let (name, value) = (text(name), text(value));
        Item {
            json: json!({ "name": name, "value": value }),
            id: one_line(&name).into_owned(),
            name: one_line(&name).into_owned(),
            depth: 0,
            cells: vec![one_line(&name).into_owned(), one_line(&value).into_owned()],
            tone: None,
        }
    };
    Sheet {
        field: "variables",
        columns: SCOPE_COLUMNS,
        items: scope.variables.iter().map(item).collect(),
        more: vec![("directory", json!(scope.directory.as_ref().map(text)))],
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sortie::SessionInstance;

    use super::*;
    use crate::render::listing::tests::instance;
    use crate::render::sheet::Wanted;
    use crate::render::table::Look;

    const PLAIN: Look = Look { width: None, colour: false };

    fn a_session() -> SessionView {
        SessionView {
            id: SessionId(2),
            instance: SessionInstance(instance().0),
            name: "work".to_owned(),
            node: "b".parse().expect("a name"),
            owner: "ann".to_owned(),
            temporary: false,
            jobs: 3,
            unfinished: 1,
            created: Timestamp(0),
            below: None,
            state: SessionState::Disconnected,
            availability: Availability::Busy,
            epoch: 4,
            idle_timeout: Some(Duration::from_secs(7200)),
            expires: Some(Timestamp(7_200_000_000)),
            output: OutputRule::default(),
        }
    }

    #[test]
    fn a_session_shows_how_it_stands() {
        let table =
            sessions(&[a_session()], &[]).render(&Wanted::default(), PLAIN).expect("a table");
        assert_eq!(
            table,
            "ID  NAME  NODE  OWNER  STATE         AVAILABILITY  JOBS  UNFINISHED\n\
             2   work  b     ann    Disconnected  Busy          3     1\n"
        );
        let json = session(&a_session());
        assert_eq!((&json["id"], &json["state"]), (&json!(2), &json!("disconnected")));
        assert_eq!((&json["epoch"], &json["idle_timeout"]), (&json!(4), &json!(7200.0)));
        assert_eq!(json["expires"], "1970-01-01T02:00:00Z");
    }

    #[test]
    fn a_number_is_the_id_of_our_own_nodes_sessions_only() {
        let sheet = sessions(&[a_session()], &[a_session()]);
        let quiet = Wanted { ids_only: true, ..Wanted::default() };
        let expected = format!("2\n{}\n", a_session().instance);
        assert_eq!(sheet.render(&quiet, PLAIN), Ok(expected));
    }

    #[test]
    fn a_session_that_is_known_under_an_address_shows_its_node() {
        let known = crate::known_sessions::tests::known("work", 1, "127.0.0.1:7000");
        let json = session(&out_of_reach(&known));
        assert_eq!((&json["node"], &json["state"]), (&json!("host"), &json!("broken")));
    }

    #[test]
    fn a_session_whose_node_does_not_answer_shows_what_the_home_knows() {
        let broken = SessionView { state: SessionState::Broken, ..a_session() };
        let json = session(&broken);
        assert_eq!((&json["id"], &json["created"]), (&Value::Null, &Value::Null));
        assert_eq!(json["name"], "work");
    }
}
