//! Row 20: the journal. A durable start, a page of a long history, and the opening of one, beside
//! the bare storage engine with as many rows of the same size.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Instant;

use bytes::Bytes;
use redb::{Database, ReadableDatabase, TableDefinition};
use sortie_benches::measure::quantile;
use sortie_benches::{Bound, Options, Outcome, Row, Size, run};
use sortie_model::spec::BodySpec;
use sortie_model::view::Kind;
use sortie_model::{
    EntryId, JobInstance, JobSpec, SessionId, SessionInstance, State, Timestamp, limits,
};
use sortie_store::journal::{
    Change, Durability, JobEntry, JobFacts, JobPlan, Journal, JournalBounds, JournalError, NewJob,
    Order, SessionEntry, SpecDigest,
};
use uuid::Uuid;

const STARTS: u64 = 1_000;
const HISTORY: u64 = 100_000;
const FULL_HISTORY: u64 = 1_000_000;
const PAGES: usize = 20;
const OPENINGS: usize = 3;
const SESSION: SessionInstance = SessionInstance(Uuid::from_u128(1));
const BARE: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("bare");
/// What a job takes in the journal's table of jobs, in bytes.
const ROW_BYTES: usize = 200;

fn main() -> ExitCode {
    run(async |options: Options| tokio::task::spawn_blocking(move || scenario(options)).await?)
}

fn scenario(options: Options) -> Outcome<Vec<Row>> {
    let jobs = if options.size == Size::Full { FULL_HISTORY } else { HISTORY };
    // Memory, where there is a file system of it: how fast a disk syncs is the disk's figure.
    let memory = Path::new("/dev/shm");
    let directory = match memory.is_dir() {
        true => tempfile::tempdir_in(memory)?,
        false => tempfile::tempdir()?,
    };
    let (ours, bare) = (directory.path().join("ours"), directory.path().join("bare"));
    let journal = Journal::open(&ours, JournalBounds::default())?;
    let session = Change::SessionOpened(Box::new(session()));
    answered(|done| journal.change(vec![session], Durability::Durable, done))?;
    let database = Database::create(&bare)?;
    let starts = starts(&journal)?;
    let commits = bare_commits(&database)?;
    fill(&journal, jobs)?;
    fill_bare(&database, jobs)?;
    let (pages, bare_pages) = (pages(&journal)?, bare_pages(&database)?);
    // What a kill would leave.
    let killed = directory.path().join("killed");
    copy(&ours, &killed)?;
    drop((journal, database));
    let (clean, bare_clean) = (openings(&ours)?, bare_openings(&bare)?);
    let crashed = openings(&killed)?;
    let size = std::fs::metadata(ours.join("journal"))?.len();
    let name = |what: &str| format!("{what}, {jobs} finished jobs");
    let (median, last) = (
        |figures: &[f64]| quantile(figures.to_vec(), 0.5),
        |figures: &[f64]| quantile(figures.to_vec(), 1.0),
    );
    Ok(vec![
        Row::new(20, "durable start, p50", "ms", median(&starts))
            .limit(median(&commits))
            .bound(Bound::AtMost(2.0)),
        Row::new(20, "durable start, p99", "ms", quantile(starts, 0.99))
            .limit(quantile(commits, 0.99)),
        Row::new(20, name("page of get, slowest"), "ms", last(&pages))
            .limit(last(&bare_pages))
            .bound(Bound::AtMost(100.0)),
        Row::new(20, name("opening"), "ms", last(&clean))
            .limit(last(&bare_clean))
            .bound(Bound::AtMost(5_000.0)),
        Row::new(20, name("opening after a kill"), "ms", last(&crashed))
            .bound(Bound::AtMost(5_000.0)),
        Row::new(20, "disk for a finished job", "bytes", size as f64 / jobs as f64),
    ])
}

fn session() -> SessionEntry {
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

fn job(number: u64, state: State) -> Outcome<NewJob> {
    let body = BodySpec::Script { text: Bytes::from_static(b"echo done"), arguments: Vec::new() };
    let end = state.is_finished().then_some(Timestamp(number.cast_signed()));
    let instance = JobInstance(Uuid::from_u128(u128::from(number) + 1_000));
    let entry = JobEntry {
        id: EntryId(2 * number + 1),
        instance,
        name: format!("Job{}", 2 * number + 1),
        command: format!("echo job number {number}"),
        kind: Kind::Background,
        created: Timestamp(0),
        known_children: 1,
        facts: JobFacts { state, end, ..JobFacts::default() },
    };
    let spec = JobSpec::new("echo done", body);
    let plan = JobPlan { spec, nodes: Vec::new() };
    let next_id = EntryId(2 * number + 3);
    let key = instance.0.to_string().try_into()?;
    let (digest, children) = (SpecDigest::of(&plan.spec)?, Vec::new());
    Ok(NewJob { session: SESSION, key, entry, plan, digest, children, next_id })
}

type Done<T> = Box<dyn FnOnce(Result<T, JournalError>) + Send>;

fn answered<T: Send + 'static>(
    ask: impl FnOnce(Done<T>) -> Result<(), JournalError>,
) -> Outcome<T> {
    let (told, answer) = mpsc::sync_channel(1);
    ask(Box::new(move |done| {
        // The other end waits below.
        let _ = told.send(done);
    }))?;
    Ok(answer.recv()??)
}

/// One start after the other, each in ms.
fn starts(journal: &Journal) -> Outcome<Vec<f64>> {
    let measured = (0..STARTS).map(|number| {
        let new = job(FULL_HISTORY + number, State::Running)?;
        timed(|| answered(|done| journal.start(new, done)).map(|_| ()))
    });
    measured.collect()
}

/// As many commits of one row, each in ms.
fn bare_commits(database: &Database) -> Outcome<Vec<f64>> {
    let measured = (0..STARTS).map(|number| {
        timed(|| {
            let mut transaction = database.begin_write()?;
            transaction.set_quick_repair(true);
            let key = (FULL_HISTORY + number).to_be_bytes();
            transaction.open_table(BARE)?.insert(&key[..], &[7; ROW_BYTES][..])?;
            Ok(transaction.commit()?)
        })
    });
    measured.collect()
}

/// Many starts at once: they are gathered.
fn fill(journal: &Journal, jobs: u64) -> Outcome<()> {
    let (told, answers) = mpsc::channel();
    let mut answered = 0;
    for number in 0..jobs {
        let told = told.clone();
        let new = job(number, State::Completed)?;
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

fn fill_bare(database: &Database, rows: u64) -> Outcome<()> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(BARE)?;
        for row in 0..rows {
            table.insert(&row.to_be_bytes()[..], &[7; ROW_BYTES][..])?;
        }
    }
    Ok(transaction.commit()?)
}

/// Pages from the first to the last and the newest ones, each in ms.
fn pages(journal: &Journal) -> Outcome<Vec<f64>> {
    let jobs = journal.history()?.jobs;
    let page = |at: usize| {
        timed(|| {
            let after = EntryId(2 * jobs * at as u64 / PAGES as u64);
            let found = journal.jobs(SESSION, Some(after), limits::PAGE)?.len();
            let newest = journal.finished(Order::NewestFirst, limits::PAGE)?.len();
            let whole = found == limits::PAGE && newest == limits::PAGE;
            if whole { Ok(()) } else { Err(format!("{found} and {newest} rows").into()) }
        })
    };
    (0..PAGES).map(page).collect()
}

fn bare_pages(database: &Database) -> Outcome<Vec<f64>> {
    let page = |at: usize| {
        timed(|| {
            let transaction = database.begin_read()?;
            let table = transaction.open_table(BARE)?;
            let from = (at as u64).to_be_bytes();
            for row in table.range::<&[u8]>(&from[..]..)?.take(2 * limits::PAGE) {
                std::hint::black_box(row?.1.value().len());
            }
            Ok(())
        })
    };
    (0..PAGES).map(page).collect()
}

/// From nothing to the first page, each in ms.
fn openings(directory: &Path) -> Outcome<Vec<f64>> {
    let open = |_| {
        timed(|| {
            let journal = Journal::open(directory, JournalBounds::default())?;
            journal.sessions()?;
            let unfinished = journal.unfinished(SESSION, None, limits::JOURNAL_PAGE)?;
            let is_all = unfinished.len() as u64 == STARTS;
            if is_all { Ok(()) } else { Err("jobs are missing".into()) }
        })
    };
    (0..OPENINGS).map(open).collect()
}

fn bare_openings(path: &Path) -> Outcome<Vec<f64>> {
    let open = |_| timed(|| Ok(Database::open(path)?.close()?));
    (0..OPENINGS).map(open).collect()
}

fn copy(from: &Path, to: &PathBuf) -> Outcome<()> {
    std::fs::create_dir(to)?;
    for name in ["journal", "version"] {
        std::fs::copy(from.join(name), to.join(name))?;
    }
    Ok(())
}

/// How long it takes, in ms.
fn timed(act: impl FnOnce() -> Outcome<()>) -> Outcome<f64> {
    let begun = Instant::now();
    act()?;
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}
