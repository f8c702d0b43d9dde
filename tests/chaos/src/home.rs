//! A home of a run: where its node lives, how commands are run in it, and which processes are its.

use std::fs::File;
use std::io::{Read, Seek};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::violation::{Violation, machine};

/// How long a command may take before it counts as hung: longer than the four minutes for which it
/// may look for a node that is killed again and again before it is up, on a machine that is busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);
/// Time between two looks at something that only can be looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(3);
/// Statuses of a command whose node was killed under it, or that found none: `docs/cli.md`.
const CUT_OFF: [i32; 2] = [101, 125];
/// The status of a command whose time ran out.
const RAN_OUT: i32 = 124;
/// What a reader says whose node did not confirm in time.
const MAY_COME_AGAIN: &str = "may come again";
/// Characters of what a command said that a violation shows.
const SHOWN: usize = 600;

/// A home, which is kept when its run finds a violation.
pub(crate) struct Home {
    folder: PathBuf,
    binary: PathBuf,
    /// Words before each command of this home.
    through: Vec<String>,
    /// Raised before and after each kill of its node: a command that sees none has no excuse.
    kills: AtomicU64,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) command: String,
    /// None when it was killed by us.
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) took: Duration,
    /// Whether its node was killed while it ran.
    pub(crate) under_kill: bool,
}

impl Ran {
    /// Whether it was killed, or its node was: then it may be asked again.
    pub(crate) fn was_cut_off(&self) -> bool {
        let Some(code) = self.code else { return true };
        self.under_kill && CUT_OFF.contains(&code)
    }

    /// Whether a node that was killed, or too busy, may not have noted what it confirmed: of the
    /// latter the reader says so.
    pub(crate) fn may_come_again(&self) -> bool {
        let ran_out = self.code == Some(RAN_OUT);
        self.was_cut_off() || (ran_out && (self.under_kill || self.err.contains(MAY_COME_AGAIN)))
    }

    /// That it ended with something else than it should.
    pub(crate) fn refused(self) -> Violation {
        let code = self.code.unwrap_or(-1);
        let said = format!("{} {}", self.err.trim(), self.out.trim());
        let said = said.chars().take(SHOWN).collect();
        Violation::Refused { command: self.command, code, said }
    }
}

impl Home {
    /// An empty home below that folder, used through the `sortie` command that lies there.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub(crate) fn new(folder: PathBuf, binary: PathBuf) -> Result<Self, Violation> {
        std::fs::create_dir_all(&folder).map_err(machine("a folder for a home"))?;
        Ok(Self { folder, binary, through: Vec::new(), kills: AtomicU64::new(0) })
    }

    /// The same, with words before each command.
    pub(crate) fn through(mut self, words: Vec<String>) -> Self {
        self.through = words;
        self
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A command in this home.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = match self.through.split_first() {
            None => Command::new(&self.binary),
            Some((first, more)) => {
                let mut command = Command::new(first);
                command.args(more).arg(&self.binary);
                command
            }
        };
        command.env("SORTIE_HOME", &self.folder).env("NO_COLOR", "1").args(words);
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    /// When it hangs.
    pub(crate) fn run(&self, words: &[&str]) -> Result<Ran, Violation> {
        self.run_until(words, None)
    }

    /// Runs a command, and kills it after that time if it has not ended by then.
    ///
    /// # Errors
    /// When it hangs.
    pub(crate) fn run_until(
        &self,
        words: &[&str],
        killed_after: Option<Duration>,
    ) -> Result<Ran, Violation> {
        let before = self.kills.load(Ordering::SeqCst);
        let mut files = [(); 2].map(|()| tempfile::tempfile());
        let mut command = self.command(words);
        if let [Ok(out), Ok(err)] = &files {
            let clones = (out.try_clone(), err.try_clone());
            let (out, err) = (clones.0, clones.1);
            command.stdout(out.map_err(machine("a file"))?);
            command.stderr(err.map_err(machine("a file"))?);
        }
        let mut child = command.spawn().map_err(machine("the sortie command"))?;
        let (begun, limit) = (Instant::now(), killed_after.unwrap_or(PATIENCE));
        let command = words.join(" ");
        let code = loop {
            if let Some(status) = child.try_wait().map_err(machine("a child"))? {
                break status.code();
            }
            if begun.elapsed() > limit {
                let _ = child.kill();
                let _ = child.wait();
                if killed_after.is_none() {
                    return Err(Violation::Hung { command, limit });
                }
                break None;
            }
            // tidy: waits because the end of another process can only be polled
            std::thread::sleep(LOOK_AGAIN);
        };
        let [out, err] = files.each_mut().map(|file| file.as_mut().map_or(String::new(), whole));
        let under_kill = self.kills.load(Ordering::SeqCst) != before;
        Ok(Ran { command, code, out, err, took: begun.elapsed(), under_kill })
    }

    /// Runs a command that must succeed and print JSON, again as long as kills cut it off.
    ///
    /// # Errors
    /// When it fails otherwise.
    pub(crate) fn json(&self, words: &[&str]) -> Result<Value, Violation> {
        let words = [words, &["-o", "json"]].concat();
        loop {
            let ran = self.run(&words)?;
            if ran.was_cut_off() {
                continue;
            }
            if ran.code != Some(0) {
                return Err(ran.refused());
            }
            return serde_json::from_str(&ran.out)
                .map_err(|_| Violation::Answer { command: ran.command, said: ran.out });
        }
    }

    /// Another empty home, beside it.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub(crate) fn beside(&self, name: &str) -> Result<Self, Violation> {
        Self::new(self.folder.with_file_name(name), self.binary.clone())
    }

    /// Runs a command that must succeed.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) fn must(&self, words: &[&str]) -> Result<(), Violation> {
        let ran = self.run(words)?;
        if ran.code == Some(0) { Ok(()) } else { Err(ran.refused()) }
    }

    /// Runs its node under that name, which may not listen yet.
    ///
    /// # Errors
    /// When it cannot be run.
    pub(crate) fn run_node(&self, name: &str, more: &[&str]) -> Result<Child, Violation> {
        let words = ["node", "run", "--name", name, "--listen", "127.0.0.1:0"];
        let mut command = self.command(&[&words[..], more].concat());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().map_err(machine("a node"))
    }

    /// Makes a cluster of its node and the others', which listen.
    ///
    /// # Errors
    /// When one is refused.
    pub(crate) fn joined_by(&self, others: &[&Self]) -> Result<(), Violation> {
        let mut offer = self.json(&["cluster", "init"])?;
        for home in others {
            let text = |key: &str| offer.get(key).and_then(Value::as_str).unwrap_or_default();
            home.must(&["cluster", "join", text("address"), "--token", text("token")])?;
            offer = self.json(&["cluster", "token"])?;
        }
        Ok(())
    }

    /// Where its node listens, as soon as it does.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) fn address(&self) -> Result<SocketAddr, Violation> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let text = std::fs::read_to_string(self.folder.join("node.addr")).unwrap_or_default();
            if let Ok(address) = text.trim().parse() {
                return Ok(address);
            }
            // tidy: waits because a node's address can only be polled
            std::thread::sleep(LOOK_AGAIN);
        }
        Err(Violation::Vain { what: "a node's address", limit: PATIENCE })
    }

    /// The process of its node, if one runs.
    pub(crate) fn daemon(&self) -> Option<Pid> {
        let lock = std::fs::read_to_string(self.folder.join("lock")).ok()?;
        let pid = Pid::from_raw(lock.trim().parse().ok()?)?;
        let line = command_line(pid)?;
        (line.contains("node run") && self.owns(pid)).then_some(pid)
    }

    /// The process of its guardian, if one runs: not what that is about to start, which has its
    /// command line for a moment.
    pub(crate) fn guardian(&self) -> Option<Pid> {
        let note = self.folder.join("sessions/processes/guardian");
        let note = std::fs::read_to_string(note).ok()?;
        let pid = Pid::from_raw(note.split_whitespace().next()?.parse().ok()?)?;
        let line = command_line(pid)?;
        (line.starts_with("sortie-guardian") && self.owns(pid)).then_some(pid)
    }

    /// Kills its node, if one runs. Returns whether one did.
    pub(crate) fn kill_daemon(&self) -> bool {
        let Some(pid) = self.daemon() else { return false };
        self.kills.fetch_add(1, Ordering::SeqCst);
        let killed = rustix::process::kill_process(pid, Signal::KILL).is_ok();
        self.kills.fetch_add(1, Ordering::SeqCst);
        killed
    }

    /// The processes that have this home in their environment, or a path below it in their words:
    /// those on other nodes have an environment of their own.
    pub(crate) fn processes(&self) -> Vec<Pid> {
        let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let pids = names.filter_map(|name| Pid::from_raw(name.parse().ok()?));
        pids.filter(|pid| self.owns(*pid)).collect()
    }

    fn owns(&self, pid: Pid) -> bool {
        let below = format!("{}/", self.folder.display());
        if command_line(pid).is_some_and(|line| line.contains(&below)) {
            return true;
        }
        let path = format!("/proc/{}/environ", pid.as_raw_nonzero());
        let variables = std::fs::read(path).unwrap_or_default();
        let wanted = format!("SORTIE_HOME={}", self.folder.display());
        variables.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
    }

    /// Waits until no process of the home is left that `unwanted` means.
    ///
    /// # Errors
    /// When some are left after `limit`.
    pub(crate) fn none_left(
        &self,
        limit: Duration,
        unwanted: impl Fn(&str) -> bool,
    ) -> Result<(), Violation> {
        let begun = Instant::now();
        loop {
            let lines =
                self.processes().into_iter().filter_map(|pid| Some((pid, command_line(pid)?)));
            let left: Vec<_> = lines.filter(|(_, line)| unwanted(line)).collect();
            let Some((pid, line)) = left.first() else { return Ok(()) };
            if begun.elapsed() > limit {
                let (pid, line) = (pid.as_raw_nonzero().get().unsigned_abs(), line.clone());
                return Err(Violation::Left { count: left.len(), pid, line });
            }
            // tidy: waits because the end of another process can only be polled
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Ends its node and all that is left of it.
    pub(crate) fn end(&self) {
        let _ = self.run(&["node", "stop"]);
        for pid in self.processes() {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}

/// What a process was started as; none when it is gone or has ended.
pub(crate) fn command_line(pid: Pid) -> Option<String> {
    let line = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).ok()?;
    let line = String::from_utf8_lossy(&line).replace('\0', " ");
    (!line.is_empty()).then_some(line)
}

fn whole(file: &mut File) -> String {
    let mut bytes = Vec::new();
    let read = file.rewind().and_then(|()| file.read_to_end(&mut bytes));
    read.map_or(String::new(), |_| String::from_utf8_lossy(&bytes).into_owned())
}
