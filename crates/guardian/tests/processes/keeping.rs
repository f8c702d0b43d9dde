//! Children that outlive their daemon.

pub(crate) mod deaths;
pub(crate) mod output;
pub(crate) mod places;
pub(crate) mod stopped;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use sortie_exec::{
    Adopted, Guardian, Keep, LaunchError, LaunchOptions, ProcessIo, ProcessSpec, RunPlan, resume,
    run, stop_channel,
};
use sortie_model::facts::ProcessFacts;
use sortie_model::{ChildIncarnation, ChildKey, JobInstance, Ordinal, Record, Seq, Stream, limits};
use sortie_wire::guardian_proto::{Containment, ContainmentChoice};

use crate::daemon_death::{CONTAINMENT_VARIABLE, containment_asked_for, containment_word, kill};
use crate::support::{eventually, marked};

/// Set in the environment of a daemon that keeps children; its value is their directory.
pub(crate) const DIRECTORY_VARIABLE: &str = "TEST_KEEP";
/// What its children execute, their mark, how many there are, and the mark of one that is not kept.
const SCRIPT_VARIABLE: &str = "TEST_SCRIPT";
const MARK_VARIABLE: &str = "TEST_KEPT_MARK";
const COUNT_VARIABLE: &str = "TEST_COUNT";
const OTHER_VARIABLE: &str = "TEST_OTHER";

/// A directory of kept children. Dropping it kills the guardian that has it, and so its children.
pub(crate) struct KeepDirectory {
    directory: tempfile::TempDir,
    containment: ContainmentChoice,
}

impl KeepDirectory {
    pub(crate) fn new(guardian: &Guardian) -> Self {
        let containment = match guardian.containment() {
            Containment::ControlGroup { .. } => ContainmentChoice::Best,
            Containment::Parentage => ContainmentChoice::Parentage,
        };
        Self { directory: tempfile::tempdir().unwrap(), containment }
    }

    pub(crate) fn path(&self) -> PathBuf {
        // Deeper than an address of a socket can say.
        self.directory.path().join("d".repeat(120)).join("keep")
    }

    /// A file beside it.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn options(&self) -> LaunchOptions {
        let keep = Some(self.path());
        LaunchOptions { containment: self.containment, keep, ..LaunchOptions::default() }
    }

    pub(crate) async fn launch(&self) -> Result<Guardian, LaunchError> {
        Guardian::launch(self.options()).await
    }

    /// The process that has the directory.
    pub(crate) fn holder(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.path().join("guardian")).ok()?;
        text.split(' ').next().map(str::to_owned)
    }

    /// Every file in it.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        files_below(&self.path())
    }
}

fn files_below(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            true => files_below(&entry.path()),
            false => vec![entry.path()],
        })
        .collect()
}

impl Drop for KeepDirectory {
    fn drop(&mut self) {
        let name = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/comm"));
        if let Some(pid) = self.holder()
            && name(&pid).is_ok_and(|name| name == "sortie-guardian\n")
        {
            let _ = Command::new("kill").args(["-KILL", &pid]).status();
        }
    }
}

pub(crate) fn key(ordinal: u32) -> ChildKey {
    ChildKey { job: JobInstance(uuid::Uuid::from_u128(0x50f7)), ordinal: Ordinal(ordinal) }
}

pub(crate) fn keep(ordinal: u32) -> Keep {
    Keep {
        child: key(ordinal),
        incarnation: ChildIncarnation(1),
        first: Seq(0),
        drain: limits::DRAIN,
        note: Bytes::from(format!("note {ordinal}")),
    }
}

pub(crate) fn kept(ordinal: u32, spec: ProcessSpec) -> ProcessSpec {
    ProcessSpec { keep: Some(keep(ordinal)), ..spec }
}

/// Takes what a kept child wrote, and says so to its guardian.
pub(crate) struct Taker {
    pub(crate) child: ChildKey,
    pub(crate) guardian: Guardian,
    pub(crate) records: Mutex<Vec<Record>>,
    pub(crate) input: Mutex<Vec<Bytes>>,
    pub(crate) on_input_end: InputEnd,
    pub(crate) stores: bool,
    pub(crate) prints: bool,
}

/// What comes after the input that there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InputEnd {
    Ends,
    Waits,
}

impl Taker {
    pub(crate) fn new(guardian: &Guardian, ordinal: u32) -> Self {
        Self {
            child: key(ordinal),
            guardian: guardian.clone(),
            records: Mutex::default(),
            input: Mutex::default(),
            on_input_end: InputEnd::Ends,
            stores: true,
            prints: false,
        }
    }

    pub(crate) fn text(&self) -> String {
        text_of(&self.records.lock().unwrap())
    }

    /// Asserts that records came once and in order, from that number on, and none is missing.
    pub(crate) fn assert_dense(&self, first: Seq) {
        let records = self.records.lock().unwrap();
        let numbers: Vec<_> = records.iter().map(|record| record.seq.0).collect();
        let expected: Vec<_> = (first.0..).take(numbers.len()).collect();
        assert_eq!(numbers, expected);
    }

    pub(crate) fn bytes(&self, stream: Stream) -> Vec<u8> {
        let records = self.records.lock().unwrap();
        let mut bytes = Vec::new();
        for record in records.iter().filter(|record| record.stream == stream) {
            bytes.extend_from_slice(&record.body.bytes());
        }
        bytes
    }
}

pub(crate) fn text_of(records: &[Record]) -> String {
    let bytes: Vec<u8> = records.iter().flat_map(|record| record.body.bytes().to_vec()).collect();
    String::from_utf8(bytes).unwrap()
}

impl ProcessIo for Taker {
    fn started(&self, _: u32) {
        if self.prints {
            println!("started {}", self.child.ordinal.0);
        }
    }

    async fn write(&self, _: Stream, _: Bytes) {
        panic!("a kept child's output has numbers");
    }

    async fn keep(&self, record: Record) {
        assert!(record.body.len() <= limits::RECORD_BYTES && record.time.0 > 0);
        let next = record.seq.after(1);
        if self.prints {
            let text = String::from_utf8(record.body.bytes().to_vec()).unwrap();
            println!("record {} {} {text:?}", self.child.ordinal.0, record.seq.0);
        }
        self.records.lock().unwrap().push(record);
        if self.stores {
            self.guardian.stored(self.child, next);
        }
    }

    async fn next_input(&self) -> Option<Bytes> {
        let next = self.input.lock().unwrap().pop();
        if next.is_none() && self.on_input_end == InputEnd::Waits {
            std::future::pending::<()>().await;
        }
        next
    }

    async fn input_closed(&self) {}
}

/// Runs a kept child to its end, undisturbed.
pub(crate) async fn run_kept(
    guardian: &Guardian,
    spec: ProcessSpec,
    plan: RunPlan,
    taker: &Taker,
) -> ProcessFacts {
    let (_stopper, stops) = stop_channel(plan.grace);
    run(guardian, spec, plan, (taker, &stops)).await
}

/// Goes on with an adopted child to its end, undisturbed.
pub(crate) async fn resume_kept(
    guardian: &Guardian,
    adopted: Adopted,
    taker: &Taker,
) -> ProcessFacts {
    let plan = RunPlan::default();
    let (_stopper, stops) = stop_channel(plan.grace);
    resume(guardian, adopted, plan, (taker, &stops)).await
}

/// The daemon that is to be killed. It goes on with what it adopts, and starts the others.
pub(crate) fn be_a_daemon_until_killed() -> ! {
    let variable = |name: &str| std::env::var(name).unwrap();
    let options = LaunchOptions {
        containment: containment_asked_for(),
        keep: Some(variable(DIRECTORY_VARIABLE).into()),
        ..LaunchOptions::default()
    };
    let (script, mark) = (variable(SCRIPT_VARIABLE), variable(MARK_VARIABLE));
    let count: u32 = variable(COUNT_VARIABLE).parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let guardian = Guardian::launch(options).await.unwrap();
        let mut adopted: BTreeMap<u32, Adopted> =
            guardian.take_adopted().into_iter().map(|one| (one.child.ordinal.0, one)).collect();
        println!("adopted {}", adopted.len());
        for ordinal in 0..count {
            let guardian = guardian.clone();
            let mut taker = Taker { prints: true, ..Taker::new(&guardian, ordinal) };
            let one = adopted.remove(&ordinal);
            let spec = kept(ordinal, marked(&mark, &script));
            let spec = match script.contains("read line") {
                true => {
                    taker.on_input_end = InputEnd::Waits;
                    ProcessSpec { input: sortie_wire::guardian_proto::StandardInput::Pipe, ..spec }
                }
                false => spec,
            };
            tokio::spawn(async move {
                let facts = match one {
                    Some(one) => resume_kept(&guardian, one, &taker).await,
                    None => run_kept(&guardian, spec, RunPlan::default(), &taker).await,
                };
                println!("ended {ordinal} {facts:?}");
            });
        }
        if let Ok(other) = std::env::var(OTHER_VARIABLE) {
            let other = guardian.spawn(marked(&other, "exec sleep 1000")).await.unwrap();
            println!("other");
            std::mem::forget(other);
        }
        std::future::pending::<()>().await;
    });
    unreachable!("it waits for ever")
}

/// A daemon in a process of its own, and what it says.
pub(crate) struct Daemon {
    process: Child,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

/// What a daemon is to keep.
pub(crate) struct Order<'a> {
    pub(crate) script: &'a str,
    pub(crate) mark: &'a str,
    pub(crate) count: u32,
    pub(crate) other: Option<&'a str>,
}

impl Daemon {
    pub(crate) fn start(guardian: &Guardian, directory: &KeepDirectory, order: &Order<'_>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .env(DIRECTORY_VARIABLE, directory.path())
            .env(CONTAINMENT_VARIABLE, containment_word(guardian))
            .env(SCRIPT_VARIABLE, order.script)
            .env(MARK_VARIABLE, order.mark)
            .env(COUNT_VARIABLE, order.count.to_string())
            .stdout(Stdio::piped());
        if let Some(other) = order.other {
            command.env(OTHER_VARIABLE, other);
        }
        let mut process = command.spawn().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let lines = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            for line in output.lines() {
                shared.lock().unwrap().push(line.unwrap());
            }
        });
        Self { process, lines, reader: Some(reader) }
    }

    /// Waits until it has said so many lines that begin so.
    pub(crate) async fn says(&self, begin: &str, count: usize) {
        let what = format!("{count} lines `{begin}`");
        eventually(&what, || {
            let lines = self.lines.lock().unwrap();
            lines.iter().filter(|line| line.starts_with(begin)).count() >= count
        })
        .await;
    }

    /// Kills it, and gives all that it has said.
    pub(crate) fn kill(mut self) -> Vec<String> {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
        std::mem::take(&mut *self.lines.lock().unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The records that a daemon told of, by child and number.
pub(crate) fn told(lines: &[String]) -> BTreeMap<(u32, u64), String> {
    let records = lines.iter().filter_map(|line| line.strip_prefix("record "));
    records
        .map(|line| {
            let mut words = line.splitn(3, ' ');
            let ordinal = words.next().unwrap().parse().unwrap();
            let seq = words.next().unwrap().parse().unwrap();
            ((ordinal, seq), words.next().unwrap().to_owned())
        })
        .collect()
}

/// Kills a guardian.
pub(crate) fn kill_holder(directory: &KeepDirectory) {
    kill("-KILL", &directory.holder().expect("a guardian has the directory"));
}

/// A wait that is longer than anything here takes.
pub(crate) const LONG: Duration = Duration::from_secs(600);
