//! Things to keep, all made from a number.

use std::path::Path;
use std::sync::mpsc;

use bytes::Bytes;
use sortie_model::facts::WaitsFor;
use sortie_model::spec::BodySpec;
use sortie_model::view::Kind;
use sortie_model::{
    Body, ChildIncarnation, ChildKey, EntryId, IdempotencyKey, JobInstance, JobSpec, Ordinal,
    Record, Seq, SessionId, SessionInstance, State, Stream, Timestamp,
};
use sortie_store::Store;
use sortie_store::journal::{
    Change, ChildFacts, ChildRun, Durability, JobEntry, JobFacts, JobPlan, Journal, JournalBounds,
    JournalError, NewJob, SessionEntry, SpecDigest, Started,
};
use uuid::Uuid;

pub(crate) const SESSION: SessionInstance = SessionInstance(Uuid::from_u128(1));

pub(crate) fn open(directory: &Path) -> Store {
    let bounds = JournalBounds { reserve: 1 << 20, ..JournalBounds::default() };
    Store::open(directory, bounds).expect("a store")
}

pub(crate) fn session() -> SessionEntry {
    SessionEntry {
        id: SessionId(1),
        instance: SESSION,
        name: "default".to_owned(),
        owner: "ann".to_owned(),
        created: Timestamp(5),
        next_id: EntryId(1),
        epoch: 3,
        idle_timeout: Some(std::time::Duration::from_secs(7_200)),
        disconnected: None,
        output: Default::default(),
        directory: "/srv".try_into().ok(),
        environment: Vec::new(),
    }
}

pub(crate) fn key(number: u64) -> IdempotencyKey {
    format!("key-{number}").try_into().expect("a key")
}

pub(crate) fn child(number: u64) -> ChildKey {
    ChildKey { job: JobInstance(Uuid::from_u128(1_000 + u128::from(number))), ordinal: Ordinal(0) }
}

/// A job of one child.
pub(crate) fn new_job(number: u64) -> NewJob {
    let entry = JobEntry {
        id: EntryId(2 * number + 1),
        instance: child(number).job,
        name: format!("Job{}", 2 * number + 1),
        command: "echo done".to_owned(),
        kind: Kind::Background,
        created: Timestamp(7),
        known_children: 1,
        facts: JobFacts::default(),
    };
    let body = BodySpec::Script { text: Bytes::from_static(b"echo done"), arguments: Vec::new() };
    let plan = JobPlan { spec: JobSpec::new("echo done", body), nodes: Vec::new() };
    let next_id = EntryId(2 * number + 3);
    let (digest, children) = (SpecDigest::of(&plan.spec).expect("short"), Vec::new());
    let of_all = digest;
    NewJob { session: SESSION, key: key(number), entry, plan, digest, of_all, children, next_id }
}

pub(crate) fn ended(number: u64) -> Vec<Change> {
    let end = Some(Timestamp(100 + number as i64));
    let facts = ChildFacts {
        id: EntryId(2 * number + 2),
        node: None,
        incarnation: ChildIncarnation(0),
        state: State::Completed,
        waits_for: WaitsFor::Slot,
        told_to_stop: false,
        begin: Some(Timestamp(9)),
        end,
        outcome: None,
    };
    let runs = vec![ChildRun { first: Ordinal(0), count: 1, facts }];
    let (session, job, next_id) = (SESSION, child(number).job, None);
    let facts = Box::new(JobFacts { state: State::Completed, end, ..JobFacts::default() });
    vec![
        Change::ChildrenChanged { session, job, runs, next_id },
        Change::JobChanged { session, job: EntryId(2 * number + 1), facts },
    ]
}

pub(crate) fn records(range: std::ops::Range<u64>) -> Vec<Record> {
    let record = |seq: u64| {
        let text = format!("line {seq}\n").repeat(1 + seq as usize % 7);
        let stream = if seq.is_multiple_of(3) { Stream::Error } else { Stream::Output };
        let (time, body) = (Timestamp(seq as i64), Body::Bytes(Bytes::from(text)));
        Record { seq: Seq(seq), stream, time, body }
    };
    range.map(record).collect()
}

type Done<T> = Box<dyn FnOnce(Result<T, JournalError>) + Send>;

fn wait<T: Send + 'static>(
    ask: impl FnOnce(Done<T>) -> Result<(), JournalError>,
) -> Result<T, JournalError> {
    let (told, answer) = mpsc::channel();
    ask(Box::new(move |done| told.send(done).expect("somebody waits")))?;
    answer.recv().expect("every request is answered")
}

pub(crate) fn start(journal: &Journal, new: NewJob) -> Result<Started, JournalError> {
    wait(|done| journal.start(new, done))
}

pub(crate) fn change(journal: &Journal, changes: Vec<Change>) -> Result<(), JournalError> {
    wait(|done| journal.change(changes, Durability::Durable, done))
}
