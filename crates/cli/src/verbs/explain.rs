//! `sortie explain`: one screen about a job or a child.

use sortie::SessionView;
use sortie::answer::Explanation;
use sortie_model::selector::Selector;

use crate::args::ExplainArgs;
use crate::connect::Connection;
use crate::failure::Failure;
use crate::program::own_command;
use crate::render::listing::quiet_id;
use crate::render::out::print;
use crate::render::sheet::Format;
use crate::render::{explain, json, yaml};

pub(super) async fn run(args: ExplainArgs) -> Result<u8, Failure> {
    let selector: Selector = args.selector.parse().map_err(Failure::usage)?;
    let connection = Connection::open(&args.reach).await?;
    let explained = connection.session().explain(selector.clone()).await;
    let mut explanation =
        explained.map_err(|error| Failure::from(error).where_one_is_wanted(&selector))?;
    add_what_is_below(&connection, &mut explanation).await;
    connection.close().await;
    for command in &mut explanation.next {
        *command = args.reach.there(own_command(command));
    }
    print(&match args.look.format() {
        Some(Format::Json | Format::Ndjson) => format!("{}\n", json::explanation(&explanation)),
        Some(Format::Yaml) => yaml::to_yaml(&json::explanation(&explanation)),
        _ if args.look.quiet => {
            let job = &explanation.job;
            format!("{}\n", quiet_id(args.look.whose, job.id, job.instance))
        }
        _ => explain::screen(&explanation),
    })?;
    Ok(0)
}

/// Where a job that was started without nodes says that its child is.
const HERE: &str = "localhost";

/// Says which jobs the one child has that the screen is about. Its own node knows nothing of them:
/// they are in a session of the node that the child runs on.
async fn add_what_is_below(connection: &Connection, explanation: &mut Explanation) {
    let [explained] = explanation.children.as_slice() else { return };
    let child = &explained.child;
    if child.state.is_finished() || child.begin_time.is_none() {
        return;
    }
    let found = async {
        let nodes = connection.client().nodes(None).await?;
        let owner = nodes.iter().find(|node| node.is_self).map(|node| node.name.clone());
        let at = |location: &str| location == HERE && explanation.job.location == HERE;
        let node = nodes.iter().find(|node| {
            node.name.as_str() == child.location || (node.is_self && at(&child.location))
        });
        let (Some(owner), Some(node)) = (owner, node) else { return Ok(None) };
        let (session, job) = (explanation.job.session, explanation.job.id);
        let is_below = |view: &SessionView| {
            view.below.as_ref().is_some_and(|place| {
                place.node == owner
                    && (place.session, place.job, place.child) == (session, job, child.id)
            })
        };
        let sessions = connection.sessions_at(node).await?;
        Ok(sessions.into_iter().find(is_below).map(|session| (node.clone(), session)))
    };
    match found.await {
        Ok(None) => {}
        Ok(Some((node, SessionView { id, jobs, unfinished, .. }))) => {
            let name = &node.name;
            let sentence = format!(
                "it has jobs of its own: {jobs}, {unfinished} of them unfinished, in session {id} \
                 on {name}"
            );
            let at = if node.is_self { String::new() } else { format!("--node {name} ") };
            explanation.because.push(sentence);
            explanation.next.push(format!("sortie get {at}--session {id}"));
        }
        Err::<_, Failure>(failure) => {
            let why = failure.message;
            explanation.because.push(format!("whether it has jobs of its own is not known: {why}"));
        }
    }
}
