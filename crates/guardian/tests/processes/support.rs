//! What the cases share: specs, a sink for output, looking for processes by a mark.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sortie_exec::{Guardian, ProcessIo, ProcessSpec, RunPlan, run, stop_channel};
use sortie_model::Stream;
use sortie_model::facts::{ProcessEnd, ProcessFacts};
use sortie_model::spec::OsBytes;
use sortie_wire::guardian_proto::{NulList, Program, StandardInput};

pub(crate) const EXIT_0: ProcessEnd = ProcessEnd::Exited { code: 0 };

pub(crate) fn word(text: &str) -> OsBytes {
    OsBytes::try_from(text).unwrap()
}

/// A command with the environment of a clean child.
pub(crate) fn command(words: &[&str]) -> ProcessSpec {
    let words: Vec<_> = words.iter().map(|text| word(text)).collect();
    ProcessSpec {
        program: Program::Command(NulList::of_words(&words)),
        environment: environment(&[("PATH", "/usr/local/bin:/usr/bin:/bin")]),
        directory: None,
        input: StandardInput::Null,
        init: None,
        keep: None,
    }
}

pub(crate) fn shell(script: &str) -> ProcessSpec {
    command(&["sh", "-c", script])
}

/// A shell command whose processes all carry a mark in their environment and can be found by it.
pub(crate) fn marked(mark: &str, script: &str) -> ProcessSpec {
    let path = ("PATH", "/usr/local/bin:/usr/bin:/bin");
    ProcessSpec { environment: environment(&[path, (MARK, mark)]), ..shell(script) }
}

pub(crate) fn environment(variables: &[(&str, &str)]) -> NulList {
    let variables: Vec<_> =
        variables.iter().map(|(name, value)| (word(name), word(value))).collect();
    NulList::of_variables(variables.iter().map(|(name, value)| (name, value)))
}

pub(crate) fn mark(case: &str) -> String {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{case}-{}-{number}", std::process::id())
}

const MARK: &str = "TEST_MARK";

/// The living processes with that mark.
pub(crate) fn with_mark(mark: &str) -> Vec<PathBuf> {
    let wanted = format!("{MARK}={mark}");
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    processes
        .filter(|path| {
            let environment = std::fs::read(path.join("environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
        })
        .collect()
}

/// The limit of descriptors with which this process began; to be called first before a launch.
pub(crate) fn soft_descriptor_limit() -> &'static str {
    static LIMIT: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    LIMIT.get_or_init(|| {
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        line.split_whitespace().nth(3).unwrap().to_owned()
    })
}

/// Waits until a condition holds, for at most ten seconds.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(10), "{what} did not come true");
        // tidy: waits because the end of a process elsewhere can only be polled
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Collects output, hands out input.
#[derive(Default)]
pub(crate) struct Sink {
    pub(crate) output: Mutex<Vec<u8>>,
    pub(crate) error: Mutex<Vec<u8>>,
    pub(crate) input: Mutex<VecDeque<Bytes>>,
    /// Whether it was told that the child has closed its input.
    pub(crate) input_closed: AtomicBool,
    /// What each write takes.
    pub(crate) pace: Duration,
}

impl Sink {
    pub(crate) fn output(&self) -> String {
        String::from_utf8(self.output.lock().unwrap().clone()).unwrap()
    }
}

impl ProcessIo for Sink {
    fn started(&self, _pid: u32) {}

    async fn write(&self, stream: Stream, bytes: Bytes) {
        if !self.pace.is_zero() {
            // tidy: waits because a slow reader is what is tested
            tokio::time::sleep(self.pace).await;
        }
        let store = if stream == Stream::Output { &self.output } else { &self.error };
        store.lock().unwrap().extend_from_slice(&bytes);
    }

    async fn next_input(&self) -> Option<Bytes> {
        self.input.lock().unwrap().pop_front()
    }

    async fn input_closed(&self) {
        self.input.lock().unwrap().clear();
        self.input_closed.store(true, Ordering::Release);
    }
}

/// Runs a child to its end, undisturbed.
pub(crate) async fn run_with(
    guardian: &Guardian,
    spec: ProcessSpec,
    plan: RunPlan,
    sink: &Sink,
) -> ProcessFacts {
    let (_stopper, stops) = stop_channel(plan.grace);
    run(guardian, spec, plan, (sink, &stops)).await
}

pub(crate) async fn run_plain(guardian: &Guardian, spec: ProcessSpec) -> (ProcessFacts, Sink) {
    let sink = Sink::default();
    let facts = run_with(guardian, spec, RunPlan::default(), &sink).await;
    (facts, sink)
}
