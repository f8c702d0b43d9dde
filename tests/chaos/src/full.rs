//! A node whose home lies on a small disk, which is full: what was started goes on and ends, what
//! is refused never begins, also when the node is killed meanwhile, and all is there once there is
//! room again.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::daemon::nothing_left;
use crate::home::{Home, PATIENCE};
use crate::ledger::{Ledger, Reader, Whose, records};
use crate::options::Options;
use crate::violation::{Violation, machine};

/// What the disk has; the reserve of a journal takes 16 MiB of it.
const SIZE: &str = "size=64m,mode=700";
/// Starts that are tried until one is refused, at most.
const STARTS: u64 = 400;
/// Prints lines, notes that it began, and ends with 3 once its gate is there.
const LASTS: &str = "echo . >> \"$0\"; seq 1 200000; while [ ! -e \"$1\" ]; do sleep 0.05; done; \
                     echo last; exit 3";
/// The lines of it.
const LINES: u64 = 200_000;
/// Lines of a job whose output has no room, and less so twice.
const MANY: u64 = 6_000_000;
/// Notes that it began.
const SHORT: &str = "echo . >> \"$0\"; echo said";

/// Runs the scenario. Returns its closing line.
///
/// # Errors
/// The first violation.
pub(crate) fn run(first: &Home, _: &Options) -> Result<String, Violation> {
    let disk = first.beside("disk")?;
    let _mounted = match Mounted::at(disk.folder().to_owned()) {
        Ok(mounted) => mounted,
        Err(why) => return Ok(format!("skipped, since nothing can be mounted here: {why}")),
    };
    let went = Run { home: &disk, notes: first.folder().to_owned() }.whole();
    disk.end();
    went
}

struct Run<'a> {
    home: &'a Home,
    /// A folder on another disk.
    notes: PathBuf,
}

impl Run<'_> {
    fn whole(&self) -> Result<String, Violation> {
        let gate = self.notes.join("gate");
        let lasting = self.start("lasts", LASTS)?.ok_or_else(|| vain("a start with room"))?;
        let stopped = self.start("stopped", LASTS)?.ok_or_else(|| vain("a start with room"))?;
        let fill = self.home.folder().join("fill");
        fill_up(&fill)?;
        let (mut started, mut refused) = (Vec::new(), None);
        for number in 0..STARTS {
            match self.start(&number.to_string(), SHORT)? {
                Some(job) => started.push((number, job)),
                None => {
                    refused = Some(number);
                    break;
                }
            }
        }
        let refused = refused.ok_or_else(|| vain("a refusal on a full disk"))?;
        self.home.must(&["get", "-q"])?;
        self.home.must(&["stop", &stopped.to_string()])?;
        for _ in 0..2 {
            self.home.kill_daemon();
            self.is(stopped, "stopped")?;
            self.is(lasting, "running")?;
        }
        fs::write(&gate, "").map_err(machine("a file"))?;
        self.wait(lasting)?;
        self.home.kill_daemon();
        self.is(lasting, "failed")?;
        if self.starts(&refused.to_string()) != 0 {
            return Err(self.starts_of(&refused.to_string(), 0, 0));
        }
        fs::remove_file(&fill).map_err(machine("a file"))?;
        // With room again it is done, once.
        let again = self.start_in_time(&refused.to_string())?;
        started.push((refused, again));
        for (number, job) in &started {
            self.wait(*job)?;
            let (name, whose) = (number.to_string(), Whose { item: *number, job: *job });
            self.said(whose, "said\n")?;
            if self.starts(&name) != 1 {
                return Err(self.starts_of(&name, *job, 1));
            }
        }
        let lines: String = (1..=LINES).map(|line| format!("{line}\n")).collect();
        self.said(Whose { item: 0, job: lasting }, &(lines + "last\n"))?;
        self.comes_back()?;
        nothing_left(self.home)?;
        let started = started.len();
        Ok(format!(
            "{started} starts until one was refused, and again with room; {MANY} lines came back \
             from a full disk; 5 kills"
        ))
    }

    /// A job that fills the disk is received whole, each line once, also where its node is killed
    /// while the disk is full.
    fn comes_back(&self) -> Result<(), Violation> {
        let ran = self.home.run(&["start", "-q", "--", "seq", &MANY.to_string()])?;
        let Ok(job) = ran.out.trim().parse::<u64>() else { return Err(ran.refused()) };
        let (begun, name) = (Instant::now(), job.to_string());
        let paused = || -> Result<bool, Violation> {
            let answer = self.home.json(&["get", &name])?;
            Ok(answer.pointer("/jobs/0/paused").and_then(Value::as_u64) > Some(0))
        };
        while !paused()? {
            if begun.elapsed() > PATIENCE {
                return Err(vain("a job that is paused by the full disk"));
            }
            // tidy: waits because a job that is paused tells nobody
            std::thread::sleep(Duration::from_millis(100));
        }
        self.home.kill_daemon();
        let ran = self.home.run(&["receive", "--wait", &name])?;
        if ran.code != Some(0) {
            return Err(ran.refused());
        }
        let is_whole = ran.out.lines().map(str::parse).eq((1..=MANY).map(Ok::<u64, _>));
        self.home.kill_daemon();
        let again = self.home.run(&["receive", &name])?;
        if is_whole && again.out.is_empty() {
            return Ok(());
        }
        let found = format!("{} bytes, and again {}", ran.out.len(), again.out.len());
        Err(Violation::End { item: 0, job, found, wanted: format!("{MANY} lines, once") })
    }

    fn note(&self, name: &str) -> PathBuf {
        self.notes.join(format!("note-{name}"))
    }

    /// Starts a job by its key; none when it was refused.
    fn start(&self, name: &str, line: &str) -> Result<Option<u64>, Violation> {
        let (note, gate) = (self.note(name), self.notes.join("gate"));
        let (note, gate) = (note.display().to_string(), gate.display().to_string());
        let words = ["start", "-q", "--key", name, "--", "sh", "-c", line, &note, &gate];
        let ran = self.home.run(&words)?;
        match ran.out.trim().parse() {
            Ok(job) if ran.code == Some(0) => Ok(Some(job)),
            _ if ran.err.contains("full") => Ok(None),
            _ => Err(ran.refused()),
        }
    }

    /// The same once the node has noticed that there is room.
    fn start_in_time(&self, name: &str) -> Result<u64, Violation> {
        let begun = Instant::now();
        loop {
            if let Some(job) = self.start(name, SHORT)? {
                return Ok(job);
            }
            if begun.elapsed() > PATIENCE {
                return Err(vain("room"));
            }
            // tidy: waits because a node looks for room now and then
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn starts(&self, name: &str) -> u64 {
        fs::read_to_string(self.note(name)).map_or(0, |text| text.lines().count() as u64)
    }

    fn starts_of(&self, name: &str, job: u64, wanted: u64) -> Violation {
        Violation::Starts { item: 0, job, times: self.starts(name), wanted }
    }

    fn wait(&self, job: u64) -> Result<(), Violation> {
        let ran = self.home.run(&["wait", &job.to_string()])?;
        // 100: one failed, as it is to.
        if matches!(ran.code, Some(0 | 100)) { Ok(()) } else { Err(ran.refused()) }
    }

    /// A job has that state.
    fn is(&self, job: u64, wanted: &str) -> Result<(), Violation> {
        let answer = self.home.json(&["get", &job.to_string()])?;
        let state = answer.pointer("/jobs/0/state").and_then(Value::as_str);
        if state == Some(wanted) {
            return Ok(());
        }
        let (found, wanted) = (format!("{state:?}"), wanted.to_owned());
        Err(Violation::End { item: 0, job, found, wanted })
    }

    /// All that a job said is there, once.
    fn said(&self, whose: Whose, wanted: &str) -> Result<(), Violation> {
        let ran = self.home.run(&["receive", "-o", "ndjson", &whose.job.to_string()])?;
        if !matches!(ran.code, Some(0 | 100)) {
            return Err(ran.refused());
        }
        let mut ledger = Ledger::default();
        ledger.note(whose, records(&ran)?, Reader::Confirmed)?;
        ledger.whole(whose, 1)?;
        let found = ledger.bytes("output");
        if found == wanted {
            return Ok(());
        }
        let (found, wanted) = (format!("{} bytes", found.len()), format!("{} bytes", wanted.len()));
        Err(Violation::End { item: whose.item, job: whose.job, found, wanted })
    }
}

fn vain(what: &'static str) -> Violation {
    Violation::Vain { what, limit: Duration::ZERO }
}

/// Writes until the disk takes nothing more, not even one byte.
fn fill_up(path: &PathBuf) -> Result<(), Violation> {
    let mut file = File::options().append(true).create(true).open(path);
    let file = file.as_mut().map_err(|error| machine("a file")(error.kind().into()))?;
    for length in [1 << 20, 1 << 12, 1] {
        let zeros = vec![0; length];
        while file.write(&zeros).is_ok() {}
    }
    Ok(())
}

/// A disk in memory, which is unmounted when this is dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn at(folder: PathBuf) -> Result<Self, String> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", SIZE, "sortie-chaos"]).arg(&folder);
        let output = mount.stdin(Stdio::null()).output();
        let output = output.map_err(|error| format!("mount: {error}"))?;
        if output.status.success() {
            return Ok(Self(folder));
        }
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).stdin(Stdio::null()).status();
    }
}
