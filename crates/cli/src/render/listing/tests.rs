//! Golden lists: what scripts read.

use sortie_model::view::Kind;
use sortie_model::{EntryId, JobInstance, NodeId, Ordinal, Reason, SessionId};

use super::*;
use crate::render::sheet::{Format, Wanted};
use crate::render::table::Look;

const PLAIN: Look = Look { width: None, colour: false };
const INSTANCE: &str = "00000000-0000-0000-0000-000000000007";

pub(crate) fn instance() -> JobInstance {
    JobInstance(INSTANCE.parse().expect("a UUID"))
}

pub(crate) fn a_job() -> JobView {
    let mut tally = Tally::default();
    tally.by_state[State::Completed as usize] = 2;
    tally.by_state[State::Failed as usize] = 1;
    tally.by_state[State::Running as usize] = 5;
    JobView {
        id: EntryId(1),
        instance: instance(),
        name: "web".to_owned(),
        kind: Kind::Remote,
        state: State::Running,
        has_more_data: true,
        location: "a,b".to_owned(),
        command: "sh -c 'echo \"x, y\"'".to_owned(),
        created: Timestamp(1_500_000),
        begin_time: Some(Timestamp(2_500_000)),
        end_time: None,
        with_errors: false,
        tally,
        children: vec![EntryId(2), EntryId(3)],
        session: SessionId(1),
        stopped_by: None,
        stop_pending: Vec::new(),
        notes: Vec::new(),
        restarts: 0,
        paused: 0,
    }
}

pub(crate) fn a_child() -> ChildView {
    ChildView {
        id: EntryId(2),
        instance: instance().child(Ordinal(0)),
        parent: EntryId(1),
        ordinal: Ordinal(0),
        state: State::Failed,
        reason: Some(Reason::Exit { code: 3 }),
        has_more_data: false,
        location: "a".to_owned(),
        command: "false\u{1b}[2J".to_owned(),
        begin_time: Some(Timestamp(2_500_000)),
        end_time: Some(Timestamp(3_000_000)),
        exit_code: Some(3),
        signal: None,
        with_errors: true,
        progress: None,
        queue_position: None,
        unread_bytes: 0,
        notes: Vec::new(),
        restarts: 0,
        question: None,
        dropped_records: 0,
        dropped_bytes: 0,
        paused: None,
    }
}

fn both() -> Entries {
    let entries = vec![EntryView::Job(a_job()), EntryView::Child(a_child())];
    Entries { entries, total: 2, troubles: Vec::new() }
}

fn render(format: Format, columns: &[&str]) -> String {
    let columns = columns.iter().map(|name| (*name).to_owned()).collect();
    let wanted = Wanted { format, columns, ids_only: false };
    entries(&both(), &crate::args::output::Look::default())
        .render(&wanted, PLAIN)
        .expect("known columns")
}

#[test]
fn a_table_has_the_documented_columns_and_indents_children() {
    assert_eq!(
        render(Format::Table, &[]),
        "ID   NAME  KIND    STATE    HAS_MORE_DATA  LOCATION  COMMAND\n\
         1    web   remote  Running  true           a,b       sh -c 'echo \"x, y\"'\n  \
         2  Job2          Failed   false          a         false[2J\n"
    );
}

#[test]
fn wide_says_how_far_a_job_is_and_why_a_child_failed() {
    let wide = render(Format::Wide, &[]);
    assert!(wide.contains("3/8 done, 1 failed"), "{wide}");
    assert!(wide.contains("1970-01-01T00:00:02Z"), "{wide}");
    assert!(wide.contains("exited with status 3"), "{wide}");
}

#[test]
fn columns_are_chosen_and_ordered_by_name() {
    assert_eq!(render(Format::Table, &["state", "id"]), "STATE     ID\nRunning   1\n  Failed  2\n");
    let wanted = Wanted { columns: vec!["colour".to_owned()], ..Wanted::default() };
    let failure = entries(&both(), &crate::args::output::Look::default())
        .render(&wanted, PLAIN)
        .expect_err("no such column");
    assert!(failure.hint.is_some_and(|hint| hint.contains("has_more_data")));
}

#[test]
fn csv_is_quoted_and_keeps_the_words_of_json() {
    assert_eq!(
        render(Format::Csv, &["id", "state", "location", "command"]),
        "id,state,location,command\n\
         1,running,\"a,b\",\"sh -c 'echo \"\"x, y\"\"'\"\n\
         2,failed,a,false\u{1b}[2J\n"
    );
}

#[test]
fn names_and_ids_are_one_a_line() {
    assert_eq!(render(Format::Name, &[]), "web\nJob2\n");
    let wanted = Wanted { ids_only: true, ..Wanted::default() };
    assert_eq!(
        entries(&both(), &crate::args::output::Look::default()).render(&wanted, PLAIN).as_deref(),
        Ok("1\n2\n")
    );
}

const JOB_JSON: &str = concat!(
    r#"{"id":1,"instance_id":"00000000-0000-0000-0000-000000000007","name":"web","#,
    r#""kind":"remote","state":"running","has_more_data":true,"location":"a,b","#,
    r#""command":"sh -c 'echo \"x, y\"'","created":"1970-01-01T00:00:01.5Z","#,
    r#""begin_time":"1970-01-01T00:00:02.5Z","end_time":null,"reason":null,"#,
    r#""exit_code":null,"with_errors":false,"session":1,"progress":{"done":3,"total":8,"#,
    r#""failed":1,"running":5},"children_total":8,"stopped_by":null,"stop_pending":[],"#,
    r#""notes":[],"restarts":0,"paused":0,"children":[2,3]}"#,
);

#[test]
fn the_json_of_a_job_is_a_contract() {
    assert_eq!(json::job(&a_job()).to_string(), JOB_JSON);
    let document = json::document("job", json::job(&a_job())).to_string();
    assert_eq!(document, format!("{{\"schema\":1,\"job\":{JOB_JSON}}}"));
}

#[test]
fn the_json_of_a_child_is_a_contract() {
    let shown = json::child(&a_child());
    assert_eq!(
        shown["reason"].to_string(),
        r#"{"code":"exit","message":"exited with status 3","is_retryable":false,"exit_code":3}"#
    );
    let fields: Vec<&String> = shown.as_object().expect("an object").keys().collect();
    assert_eq!(
        fields,
        [
            "id",
            "instance_id",
            "name",
            "kind",
            "state",
            "has_more_data",
            "location",
            "command",
            "begin_time",
            "end_time",
            "reason",
            "exit_code",
            "signal",
            "with_errors",
            "parent",
            "ordinal",
            "progress",
            "queue_position",
            "unread_bytes",
            "notes",
            "restarts",
            "dropped_records",
            "dropped_bytes",
            "paused",
            "question",
        ]
    );
}

#[test]
fn a_list_is_a_document_or_an_object_a_line() {
    let document = render(Format::Json, &[]);
    assert!(document.starts_with(&format!("{{\"schema\":1,\"jobs\":[{JOB_JSON},{{\"id\":2,")));
    assert!(document.ends_with("}]}\n"));
    let lines = render(Format::Ndjson, &[]);
    assert_eq!(lines.lines().count(), 2);
    assert_eq!(lines.lines().next(), Some(JOB_JSON));
    assert!(
        render(Format::Yaml, &[]).starts_with("schema: 1\njobs:\n  - id: 1\n    instance_id: \"")
    );
}

#[test]
fn a_cut_answer_says_how_many_there_are() {
    let cut = Entries { total: 9, ..both() };
    let wanted = Wanted { format: Format::Json, ..Wanted::default() };
    let document =
        entries(&cut, &crate::args::output::Look::default()).render(&wanted, PLAIN).expect("JSON");
    assert!(document.ends_with(",\"total\":9}\n"), "{document}");
}

#[test]
fn nodes_have_their_documented_fields() {
    let node = NodeView {
        name: "a".parse().expect("a name"),
        id: NodeId([0xab; 16]),
        incarnation: None,
        address: "127.0.0.1:7000".to_owned(),
        state: NodeState::Suspect,
        labels: vec![("zone".to_owned(), "x".to_owned())],
        version: Some("0.1.0".to_owned()),
        running: 4,
        is_self: true,
    };
    assert_eq!(
        json::node(&node).to_string(),
        concat!(
            r#"{"name":"a","id":"abababababababababababababababab","#,
            r#""address":"127.0.0.1:7000","state":"suspect","labels":{"zone":"x"},"#,
            r#""version":"0.1.0","running":4,"is_self":true}"#,
        )
    );
    let table = nodes(&[node]).render(&Wanted::default(), PLAIN).expect("a table");
    assert_eq!(
        table,
        "NAME  STATE    ADDRESS         RUNNING  LABELS  VERSION\n\
         a     suspect  127.0.0.1:7000  4        zone=x  0.1.0\n"
    );
}
