//! Row 20: the journal. A durable start, a page of a long history, and the opening of one, beside
//! the bare storage engine with as many rows of the same size.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use redb::{Database, ReadableDatabase};
use sortie_benches::history::{
    BARE, ROW_BYTES, SESSION, answered, bare_commits, fill, job, session, timed,
};
use sortie_benches::measure::quantile;
use sortie_benches::{Bound, Options, Outcome, Row, Size, run};
use sortie_model::{EntryId, State, limits};
use sortie_store::journal::{Change, Durability, Journal, JournalBounds, Order};

const STARTS: u64 = 1_000;
const HISTORY: u64 = 100_000;
const FULL_HISTORY: u64 = 1_000_000;
const PAGES: usize = 20;
const OPENINGS: usize = 3;

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
    let commits = bare_commits(&database, FULL_HISTORY, STARTS)?;
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

/// One start after the other, each in ms.
fn starts(journal: &Journal) -> Outcome<Vec<f64>> {
    let measured = (0..STARTS).map(|number| {
        let new = job(FULL_HISTORY + number, State::Running)?;
        timed(|| answered(|done| journal.start(new, done)).map(|_| ()))
    });
    measured.collect()
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
