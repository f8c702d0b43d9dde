//! Rows 21 and 22: the real node over a home with a long history, and what a durable start costs
//! its client. The limits are the bare storage engine, and a node without a history.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use redb::{Database, ReadableDatabase};
use sortie::{HomePaths, Session};
use sortie_benches::history::{
    BARE, FAILED_ONE_IN, ROW_BYTES, answered, bare_commits, fill, session, timed,
};
use sortie_benches::home::{HomeNode, in_memory};
use sortie_benches::measure::quantile;
use sortie_benches::{Bound, Options, Outcome, Row, Size, run, work};
use sortie_model::selector::{Glob, Query};
use sortie_model::{State, limits};
use sortie_store::journal::{Change, Durability, Journal, JournalBounds};

const HISTORY: u64 = 100_000;
const FULL_HISTORY: u64 = 1_000_000;
const STARTS: usize = 300;
const PAGES: usize = 11;

fn main() -> ExitCode {
    run(scenario)
}

/// What a node showed, in ms and MiB.
struct Seen {
    ready: f64,
    memory: f64,
    pages: Vec<(&'static str, f64)>,
    command: f64,
    durable: Vec<f64>,
    temporary: Vec<f64>,
}

async fn scenario(options: Options) -> Outcome<Vec<Row>> {
    let jobs = if options.size == Size::Full { FULL_HISTORY } else { HISTORY };
    let directory = in_memory()?;
    let (long, none) = (directory.path().join("long"), directory.path().join("none"));
    let sessions = HomePaths::within(&long).state.join("sessions");
    tokio::task::spawn_blocking(move || write(&sessions, jobs)).await??;
    let bare = directory.path().join("bare");
    let (page, commits) = tokio::task::spawn_blocking(move || bare_figures(&bare, jobs)).await??;
    let (first, seen) = (look(&none, 0).await?, look(&long, jobs).await?);
    // Where there is a disk: what a start costs there is for the most part the disk's.
    let on_disk = tempfile::tempdir()?;
    let disk = look(on_disk.path(), 0).await?;
    let name = |what: &str| format!("{what}, {jobs} finished jobs");
    let p = |figures: &[f64], share| quantile(figures.to_vec(), share);
    let mut rows = vec![
        Row::new(21, name("start of a node to its first answer"), "ms", seen.ready)
            .limit(first.ready)
            .bound(Bound::AtMost(5_000.0)),
        Row::new(21, name("memory of the node"), "MiB", seen.memory).limit(first.memory),
        Row::new(21, name("`sortie get`, the whole command"), "ms", seen.command)
            .limit(first.command)
            .bound(Bound::AtMost(100.0)),
    ];
    rows.extend(seen.pages.iter().map(|(what, taken)| {
        Row::new(21, name(what), "ms", *taken).limit(page).bound(Bound::AtMost(100.0))
    }));
    rows.extend([
        Row::new(22, "durable start of a client, p50", "ms", p(&first.durable, 0.5))
            .limit(p(&commits, 0.5))
            .bound(Bound::AtMost(2.0)),
        Row::new(22, "durable start of a client, p99", "ms", p(&first.durable, 0.99))
            .limit(p(&commits, 0.99)),
        Row::new(22, name("durable start of a client, p50"), "ms", p(&seen.durable, 0.5))
            .limit(p(&first.durable, 0.5)),
        Row::new(22, "durable start of a client on the disk, p50", "ms", p(&disk.durable, 0.5)),
        Row::new(22, "start in a temporary session, p50", "ms", p(&first.temporary, 0.5))
            .limit(p(&first.durable, 0.5)),
        Row::new(
            22,
            "start in a temporary session on the disk, p50",
            "ms",
            p(&disk.temporary, 0.5),
        )
        .limit(p(&disk.durable, 0.5)),
    ]);
    Ok(rows)
}

/// A home's sessions, with a history.
fn write(sessions: &Path, jobs: u64) -> Outcome<()> {
    std::fs::create_dir_all(sessions)?;
    let journal = Journal::open(sessions, JournalBounds::default())?;
    let opened = Change::SessionOpened(Box::new(session()));
    answered(|done| journal.change(vec![opened], Durability::Durable, done))?;
    fill(&journal, jobs)
}

/// The scan of as many rows as a page has, and durable commits of one row, in ms.
fn bare_figures(path: &Path, jobs: u64) -> Outcome<(f64, Vec<f64>)> {
    let database = Database::create(path)?;
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(BARE)?;
        for row in 0..jobs {
            table.insert(&row.to_be_bytes()[..], &[7; ROW_BYTES][..])?;
        }
    }
    transaction.commit()?;
    let page = |_| {
        timed(|| {
            let transaction = database.begin_read()?;
            let table = transaction.open_table(BARE)?;
            for row in table.range::<&[u8]>(..)?.take(limits::PAGE) {
                std::hint::black_box(row?.1.value().len());
            }
            Ok(())
        })
    };
    let pages = (0..PAGES).map(page).collect::<Outcome<Vec<f64>>>()?;
    Ok((quantile(pages, 0.5), bare_commits(&database, jobs, STARTS as u64)?))
}

/// Starts a node over a home with so many finished jobs, and asks it.
async fn look(home: &Path, jobs: u64) -> Outcome<Seen> {
    let begun = Instant::now();
    let node = HomeNode::start(home).await?;
    let found = node.client().session().get(Query::default()).await?;
    let ready = begun.elapsed().as_secs_f64() * 1e3;
    work::same("jobs", found.total, jobs)?;
    let pages = pages(&node.client().session(), jobs).await?;
    let memory = node.memory()?;
    let commands = (0..PAGES).map(|_| node.command(&["get"])).collect::<Outcome<Vec<f64>>>()?;
    let durable = starts(&node.client().session()).await?;
    let temporary = starts(&node.client().temporary().await?).await?;
    node.end().await?;
    let command = quantile(commands, 0.5);
    Ok(Seen { ready, memory, pages, command, durable, temporary })
}

/// Pages of each kind, the median of each in ms.
async fn pages(session: &Session, jobs: u64) -> Outcome<Vec<(&'static str, f64)>> {
    let page = limits::PAGE as u64;
    let query = |change: fn(&mut Query)| {
        let mut query = Query::default();
        change(&mut query);
        query
    };
    let middle = Query { offset: jobs / 2, ..Query::default() };
    let failed = query(|query| query.selection.states = vec![State::Failed]);
    let sevens = query(|query| query.selection.command = Some(Glob("*77".to_owned())));
    let newest = query(|query| query.newest = Some(10));
    let unread = query(|query| query.has_more_data = Some(true));
    let kinds = [
        ("first page of get", Query::default(), jobs.min(page)),
        ("page of get in the middle", middle, (jobs - jobs / 2).min(page)),
        ("get --newest 10", newest, jobs.min(10)),
        ("get --state failed", failed, (jobs / FAILED_ONE_IN).min(page)),
        ("get --has-more-data", unread, 0),
        ("get --command '*77'", sevens, (jobs / 100).min(page)),
    ];
    let mut pages = Vec::new();
    for (what, query, expected) in kinds {
        let mut taken = Vec::new();
        for _ in 0..PAGES {
            let begun = Instant::now();
            let found = session.get(query.clone()).await?;
            taken.push(begun.elapsed().as_secs_f64() * 1e3);
            work::same(what, found.entries.len() as u64, expected)?;
        }
        pages.push((what, quantile(taken, 0.5)));
    }
    Ok(pages)
}

/// One start after the other, each in ms; the end of each is waited for.
async fn starts(session: &Session) -> Outcome<Vec<f64>> {
    let mut taken = Vec::new();
    for _ in 0..STARTS {
        let begun = Instant::now();
        let job = session.job(sortie::Command::new("true")).start().await?;
        taken.push(begun.elapsed().as_secs_f64() * 1e3);
        let view = job.wait().await?;
        work::same("the end", view.state, State::Completed)?;
    }
    Ok(taken)
}
