//! A process that is killed at any moment loses nothing that it was told is kept.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sortie_model::{EntryId, Seq};
use sortie_store::journal::{Change, Started};
use sortie_store::segment::{Batch, ReadBounds};

use crate::kept::{SESSION, change, child, ended, new_job, open, records, session, start};

/// Where the killed process writes.
const DIRECTORY: &str = "SORTIE_STORE_TEST_DIRECTORY";
const KILLS: u64 = 12;

/// What the killed process said before its end.
#[derive(Debug, Default)]
struct Said {
    started: u64,
    ended: Vec<u64>,
    synced: u64,
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill_at_any_moment() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        return write_until_killed(&PathBuf::from(directory));
    }
    let directory = tempfile::tempdir().expect("a directory");
    let mut said = Said::default();
    for kill in 0..KILLS {
        // A number of lines that differs each time; where the process is then is chance.
        run_and_kill(directory.path(), 1 + kill * 37 % 50, &mut said);
        check(directory.path(), &said);
    }
    assert!(said.started > KILLS && said.synced > 0, "{said:?}");
}

fn run_and_kill(directory: &Path, lines: u64, said: &mut Said) {
    let mut writer = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "--nocapture"])
        .arg("killed::what_was_acknowledged_is_there_after_a_kill_at_any_moment")
        .env(DIRECTORY, directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a process");
    let mut heard = 0;
    // What it wrote before the kill is read to the end.
    for line in BufReader::new(writer.stdout.take().expect("a pipe")).lines() {
        let line = line.expect("text");
        let Some((word, number)) = line.rsplit_once(' ') else { continue };
        let number = number.parse().unwrap_or(0);
        match word {
            "started" => said.started = number,
            "ended" => said.ended.push(number),
            "synced" => said.synced = number,
            _ => continue,
        }
        heard += 1;
        if heard == lines {
            writer.kill().expect("it runs");
        }
    }
    let status = writer.wait().expect("it ended");
    assert!(heard >= lines, "it ended by itself: {status}");
}

fn check(directory: &Path, said: &Said) {
    let store = open(directory);
    let journal = store.journal();
    for number in 0..said.started {
        let id = EntryId(2 * number + 1);
        let (_, entry) = journal.job(SESSION, id).expect("readable").expect("a job is lost");
        let is_finished = entry.facts.state.is_finished();
        assert!(is_finished || !said.ended.contains(&number), "the end of {number} is lost");
        let again = start(journal, new_job(number)).expect("known");
        assert_eq!(again, Started::Same(id));
    }
    let mut reader = store.read(child(0), Seq(0));
    let mut next = 0;
    while let Batch::Records(read) = reader.read(ReadBounds::default()).expect("no damage") {
        let count = read.len() as u64;
        assert_eq!(read, records(next..next + count));
        next += count;
    }
    assert!(next >= said.synced, "{next} of {} records are left", said.synced);
}

/// Starts and ends jobs and writes output, and says what is kept once it is.
fn write_until_killed(directory: &Path) {
    let store = open(directory);
    let journal = store.journal();
    change(journal, vec![Change::SessionOpened(Box::new(session()))]).expect("opened");
    let mut log = store.write(child(0)).expect("no damage").with_segments_of(4_096);
    let say = |word: &str, number: u64| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{word} {number}").and_then(|()| out.flush()).expect("the test reads");
    };
    let next = journal.session(SESSION).expect("readable").expect("a session").next_id;
    for number in next.0 / 2.. {
        start(journal, new_job(number)).expect("accepted");
        say("started", number + 1);
        change(journal, ended(number)).expect("stored");
        say("ended", number);
        let from = log.next().0;
        log.append(&records(from..from + 1 + number % 9)).expect("room");
        if number.is_multiple_of(2) {
            say("synced", log.sync().expect("a disk that works").0);
        }
    }
}
