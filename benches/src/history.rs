//! A history of finished jobs as a journal has it, written by the store itself, and the bare
//! storage engine beside it.

use std::sync::mpsc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use redb::{Database, TableDefinition};
use sortie_model::facts::WaitsFor;
use sortie_model::spec::BodySpec;
use sortie_model::view::Kind;
use sortie_model::{
    ChildIncarnation, EntryId, JobInstance, JobSpec, Ordinal, SessionId, SessionInstance, State,
    Timestamp, limits,
};
use sortie_store::journal::{
    ChildFacts, ChildRun, JobEntry, JobFacts, JobPlan, Journal, JournalError, NewJob, SessionEntry,
    SpecDigest,
};
use uuid::Uuid;

use crate::Outcome;

/// The session that has the history.
pub const SESSION: SessionInstance = SessionInstance(Uuid::from_u128(1));
/// The table of the bare storage engine.
pub const BARE: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("bare");
/// One of so many jobs of a history failed.
pub const FAILED_ONE_IN: u64 = 1_000;
/// What a job takes in the journal's table of jobs, in bytes.
pub const ROW_BYTES: usize = 200;

/// The session as a node opens it for its user.
pub fn session() -> SessionEntry {
    SessionEntry {
        id: SessionId(1),
        instance: SESSION,
        name: "default".to_owned(),
        owner: "bench".to_owned(),
        created: Timestamp(0),
        next_id: EntryId(1),
        epoch: 0,
        idle_timeout: None,
        disconnected: None,
        output: Default::default(),
        directory: None,
        environment: Vec::new(),
    }
}

/// A job with one child.
///
/// # Errors
/// None, but for a spec that cannot be encoded.
pub fn job(number: u64, state: State) -> Outcome<NewJob> {
    let body = BodySpec::Script { text: Bytes::from_static(b"echo done"), arguments: Vec::new() };
    let end = state.is_finished().then(now);
    let instance = JobInstance(Uuid::from_u128(u128::from(number) + 1_000));
    let entry = JobEntry {
        id: EntryId(2 * number + 1),
        instance,
        name: format!("Job{}", 2 * number + 1),
        command: format!("echo job number {number}"),
        kind: Kind::Background,
        created: Timestamp(0),
        known_children: 1,
        facts: facts(state, end),
    };
    let spec = JobSpec::new("echo done", body);
    let plan = JobPlan { spec, nodes: Vec::new() };
    let next_id = EntryId(2 * number + 3);
    let key = instance.0.to_string().try_into()?;
    let child = ChildRun { first: Ordinal(0), count: 1, facts: child(2 * number + 2, state, end) };
    let children = if end.is_some() { vec![child] } else { Vec::new() };
    let digest = SpecDigest::of(&plan.spec)?;
    Ok(NewJob { session: SESSION, key, entry, plan, digest, of_all: digest, children, next_id })
}

/// Who is told what became of a request.
pub type Done<T> = Box<dyn FnOnce(Result<T, JournalError>) + Send>;

/// Asks the journal, and waits for its answer.
///
/// # Errors
/// [`JournalError`].
pub fn answered<T: Send + 'static>(
    ask: impl FnOnce(Done<T>) -> Result<(), JournalError>,
) -> Outcome<T> {
    let (told, answer) = mpsc::sync_channel(1);
    ask(Box::new(move |done| {
        // The other end waits below.
        let _ = told.send(done);
    }))?;
    Ok(answer.recv()??)
}

/// Of an older end nothing would be kept.
fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(now.as_micros()).unwrap_or(i64::MAX))
}

fn facts(state: State, end: Option<Timestamp>) -> JobFacts {
    let mut facts = JobFacts { state, end, begin: end, ..JobFacts::default() };
    facts.location = "localhost".to_owned();
    if let Some(count) = facts.tally.by_state.get_mut(state as usize) {
        *count = 1;
    }
    facts
}

fn child(id: u64, state: State, end: Option<Timestamp>) -> ChildFacts {
    ChildFacts {
        id: EntryId(id),
        node: None,
        incarnation: ChildIncarnation(0),
        state,
        waits_for: WaitsFor::Slot,
        told_to_stop: false,
        begin: end,
        end,
        outcome: None,
    }
}

/// Puts so many finished jobs into a journal; many at once, so that they are gathered.
///
/// # Errors
/// [`JournalError`], or that some are missing.
pub fn fill(journal: &Journal, jobs: u64) -> Outcome<()> {
    let (told, answers) = mpsc::channel();
    let mut answered = 0;
    for number in 0..jobs {
        let told = told.clone();
        let failed = number % FAILED_ONE_IN == FAILED_ONE_IN / 2;
        let new = job(number, if failed { State::Failed } else { State::Completed })?;
        // No more than the queue holds is under way.
        while number - answered >= limits::JOURNAL_QUEUE as u64 / 2 {
            let _: Result<_, JournalError> = answers.recv()?;
            answered += 1;
        }
        journal.start(new, move |started| {
            // The other end is there until all are answered.
            let _ = told.send(started);
        })?;
    }
    for _ in answered..jobs {
        answers.recv()??;
    }
    let kept = journal.history()?.jobs;
    if kept == jobs { Ok(()) } else { Err(format!("{kept} of {jobs} jobs are kept").into()) }
}

/// Durable commits of one row each by the bare engine, in ms, with keys from `first` on.
///
/// # Errors
/// The engine's.
pub fn bare_commits(database: &Database, first: u64, count: u64) -> Outcome<Vec<f64>> {
    let measured = (0..count).map(|number| {
        timed(|| {
            let mut transaction = database.begin_write()?;
            transaction.set_quick_repair(true);
            let key = (first + number).to_be_bytes();
            transaction.open_table(BARE)?.insert(&key[..], &[7; ROW_BYTES][..])?;
            Ok(transaction.commit()?)
        })
    });
    measured.collect()
}

/// How long it takes, in ms.
///
/// # Errors
/// Those of the act.
pub fn timed(act: impl FnOnce() -> Outcome<()>) -> Outcome<f64> {
    let begun = Instant::now();
    act()?;
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}
