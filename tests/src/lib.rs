//! The harness of the end-to-end tests: real daemons in processes of their own, each with a home in
//! a temporary directory, and the real `sortie` command.
#![expect(clippy::expect_used, reason = "a harness fails its test by panicking")]

pub mod jobs;
pub mod terminal;
pub mod worker_lies;

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::task::Poll;
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long anything that should happen may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `condition` gives something.
///
/// # Panics
/// When it gives nothing within [`PATIENCE`]; the message names what was waited for.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < until, "waited in vain for {what}");
        // tidy: waits because a condition in another process can only be polled
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Polls a future so many times, as often as it wakes, and drops it then: what it gives if it ends
/// before. With 0, 1, 2 ... a future is dropped at each of its await points in turn.
pub async fn dropped_after<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    let mut left = polls;
    std::future::poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Drops what `verb` gives at each await point in turn, until one comes to its end.
///
/// # Panics
/// When none does.
pub async fn at_every_point<F: Future>(mut verb: impl FnMut() -> F) -> F::Output {
    for polls in 0..100_000 {
        if let Some(output) = soon(dropped_after(polls, verb())).await {
            return output;
        }
    }
    panic!("it never ends")
}

/// What comes within [`PATIENCE`].
///
/// # Panics
/// When it does not.
pub async fn soon<F: IntoFuture>(what: F) -> F::Output {
    tokio::time::timeout(PATIENCE, what).await.expect("it takes too long")
}

/// The `sortie` command that was built beside this test.
///
/// # Panics
/// When it was not built: `cargo test --workspace` builds it.
pub fn sortie_binary() -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    let deps = test.parent().expect("a directory");
    let found = [deps, deps.parent().unwrap_or(deps)]
        .iter()
        .map(|directory| directory.join("sortie"))
        .find(|path| path.is_file());
    found.expect("the `sortie` command is not built: run `cargo build --bin sortie` first")
}

/// A home of its own: a machine, as far as Sortie can tell. Its node ends with it.
#[derive(Debug)]
pub struct Home {
    directory: tempfile::TempDir,
    daemon: Option<Child>,
    /// What is run in it, if not the `sortie` command.
    program: Option<PathBuf>,
}

impl Home {
    /// An empty home.
    ///
    /// # Panics
    /// When there is no temporary directory.
    #[expect(clippy::new_without_default, reason = "a home on disk is no default value")]
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        Self { directory, daemon: None, program: None }
    }

    /// An empty home that is used through another program, which is a full `sortie` itself.
    pub fn of(program: &Path) -> Self {
        let mut home = Self::new();
        home.program = Some(program.to_owned());
        home
    }

    /// A home whose node runs: `sortie node run --name NAME`, with more arguments behind.
    pub fn running(name: &str, arguments: &[&str]) -> Self {
        let mut home = Self::new();
        home.run(name, arguments);
        home
    }

    /// A home whose node is another program that takes the home's path and the node's name.
    pub fn running_program(program: &Path, name: &str) -> Self {
        let mut home = Self::new();
        home.run_program(program, name);
        home
    }

    /// Starts such a node in this home.
    pub fn run_program(&mut self, program: &Path, name: &str) {
        let mut command = Command::new(program);
        command.arg(self.path()).arg(name);
        self.spawn(command);
    }

    /// Starts the node of this home.
    pub fn run(&mut self, name: &str, arguments: &[&str]) {
        let mut command = self.command(["node", "run", "--name", name]);
        command.args(["--listen", "127.0.0.1:0"]).args(arguments);
        self.spawn(command);
    }

    fn spawn(&mut self, mut command: Command) {
        let address = self.path().join("node.addr");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        self.daemon = Some(command.spawn().expect("a program to run"));
        wait_for("the node's address", || address.exists().then_some(()));
    }

    /// Where the home lies.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The process id of the node.
    ///
    /// # Panics
    /// When none runs.
    pub fn daemon_pid(&self) -> u32 {
        self.daemon.as_ref().expect("a running node").id()
    }

    /// Kills the node as `kill -9` does.
    pub fn kill_daemon(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            // It may have ended by itself, which is as good.
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }

    /// Whether processes of the home run on without a node.
    fn keeps_processes(&self) -> bool {
        sortie::HomePaths::within(self.path()).keeps_processes()
    }

    /// Kills the node and starts it again.
    pub fn live_again(&mut self, name: &str) {
        self.kill_daemon();
        // One that was never ready, or was killed within its end, has left none.
        let _ = std::fs::remove_file(self.path().join("node.addr"));
        self.run(name, &[]);
    }

    fn program(&self) -> PathBuf {
        self.program.clone().unwrap_or_else(sortie_binary)
    }

    /// A `sortie` command in this home.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(self.program());
        command.env("SORTIE_HOME", self.path()).env("NO_COLOR", "1").args(arguments);
        command
    }

    /// Runs a `sortie` command to its end.
    pub fn sortie(&self, arguments: &[&str]) -> Ran {
        let output = self.command(arguments).stdin(Stdio::null()).output();
        Ran::new(arguments, output)
    }

    /// Runs a `sortie` command by a shell line, in which `"$@"` stands for it.
    pub fn by_shell(&self, line: &str, arguments: &[&str]) -> Ran {
        let mut command = Command::new("sh");
        command.args(["-c", line, "sh"]).arg(self.program()).args(arguments);
        command.env("SORTIE_HOME", self.path()).env("NO_COLOR", "1").stdin(Stdio::null());
        Ran::new(arguments, command.output())
    }

    /// Runs a `sortie` command that must succeed and print JSON.
    ///
    /// # Panics
    /// When it does not.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let ran = self.sortie(&[arguments, &["-o", "json"]].concat());
        assert_eq!(ran.code, 0, "{ran:?}");
        serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error} in {ran:?}"))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // One that a command started is not our child.
        let started = self.daemon.is_none() && self.path().join("node.addr").exists();
        self.kill_daemon();
        if started || self.keeps_processes() {
            // They outlive a node that is killed, and end with one that is stopped.
            let _ = self.sortie(&["node", "stop"]);
        }
    }
}

/// How a command ended.
#[derive(Debug)]
pub struct Ran {
    /// What was run.
    pub arguments: Vec<String>,
    /// Its exit status; 128 and the signal's number if a signal ended it.
    pub code: i32,
    /// Its standard output, as text.
    pub out: String,
    /// Its standard output.
    pub bytes: Vec<u8>,
    /// Its standard error, as text.
    pub err: String,
}

impl Ran {
    fn new(arguments: &[&str], output: io::Result<Output>) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let output = output.expect("a program to run");
        let signal = output.status.signal().map(|signal| 128 + signal);
        Self {
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            code: output.status.code().or(signal).unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            bytes: output.stdout,
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The lines of its output.
    pub fn lines(&self) -> Vec<&str> {
        self.out.lines().collect()
    }
}

/// Joins homes to the first one's cluster, by token.
///
/// # Panics
/// When one is refused.
pub fn join_all(homes: &[&Home]) {
    let Some((first, others)) = homes.split_first() else { return };
    let mut offer = first.json(&["cluster", "init"]);
    for home in others {
        let text = |key: &str| offer.get(key).and_then(Value::as_str).expect("a text").to_owned();
        let (address, token) = (text("address"), text("token"));
        let ran = home.sortie(&["cluster", "join", &address, "--token", &token]);
        assert_eq!(ran.code, 0, "{ran:?}");
        offer = first.json(&["cluster", "token"]);
    }
}

/// Two nodes of one cluster: `a` and `b`.
///
/// # Panics
/// When they do not start, or do not join.
pub fn two() -> [Home; 2] {
    let homes = ["a", "b"].map(|name| Home::running(name, &[]));
    join_all(&homes.each_ref());
    homes
}

/// Three nodes of one cluster, which run a program of the tests: `a`, `b` and `c`.
pub fn three(program: impl AsRef<Path>) -> [Home; 3] {
    let homes = ["a", "b", "c"].map(|name| Home::running_program(program.as_ref(), name));
    join_all(&homes.each_ref());
    homes
}

/// A client of a home's node.
///
/// # Panics
/// When none runs.
pub async fn client(home: &Home) -> sortie::Client {
    let paths = sortie::HomePaths::within(home.path());
    sortie::Client::connect_home(&paths, PATIENCE).await.expect("a running node")
}

/// The sessions of children on a node.
///
/// # Panics
/// When it does not say.
pub async fn nested(client: &sortie::Client) -> Vec<sortie::SessionView> {
    let sessions = client.sessions().await.expect("sessions");
    sessions.into_iter().filter(|session| session.below.is_some()).collect()
}

/// Polls until no child on these nodes has a session.
///
/// # Panics
/// When one still has after [`PATIENCE`].
pub async fn none_nested(clients: &[&sortie::Client]) {
    let until = Instant::now() + PATIENCE;
    for client in clients {
        while !nested(client).await.is_empty() {
            assert!(Instant::now() < until, "a child's session outlives it");
        }
    }
}

/// Processes on this machine that carry a mark in their command line.
pub fn processes_marked(mark: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("a process table");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let marked = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        *pid != std::process::id() && line.windows(mark.len()).any(|part| part == mark.as_bytes())
    };
    pids.filter(marked).collect()
}

/// Those of them that were not forked by another one: a shell that forked and has not become
/// another program yet is marked as its parent is.
pub fn roots_marked(mark: &str) -> Vec<u32> {
    let marked: Vec<(u32, u32)> =
        processes_marked(mark).into_iter().filter_map(|pid| Some((pid, parent_of(pid)?))).collect();
    let is_fork = |parent: &u32| marked.iter().any(|(pid, _)| pid == parent);
    marked.iter().filter(|(_, parent)| !is_fork(parent)).map(|(pid, _)| *pid).collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

/// The processes that a process started itself and that have not been collected.
pub fn children_of(parent: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("a process table");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| parent_of(*pid) == Some(parent)).collect()
}

/// Resident memory of a process, in bytes.
pub fn memory_of(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok());
    kilobytes.unwrap_or(0_u64) * 1024
}

/// What can be said to the counters of `actor-node`: numbers are added, and `()` asks where it is
/// and for the sum.
#[derive(Debug)]
pub struct Counting;

impl sortie_ractor::Protocol for Counting {
    type Cast = u64;
    type Call = ();
    type Answer = (String, u64);
}
