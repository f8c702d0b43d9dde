//! Two nodes in network namespaces of their own. The way between them is cut, both ways or one
//! way without a word, and each of their daemons is stopped, for some seconds and for a minute. A
//! job of the first one's `default` session prints numbered lines on the other one meanwhile, and
//! runs on; one of a foreground command ends where the silence is long, and before it is said.

mod stage;

use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::daemon::nothing_left;
use crate::home::{Home, PATIENCE, command_line};
use crate::options::{Options, Size};
use crate::violation::{Violation, machine};
use stage::{Stage, Way};

/// What disturbs; of it the short run has the last ones. The way is cut right behind a standstill,
/// which leaves the connection with the smallest congestion window that there is.
const DISTURBANCES: [Disturbance; 5] = [
    Disturbance::Cut(Way::Both),
    Disturbance::Cut(Way::FromOther),
    Disturbance::Stopped(Whose::Other),
    Disturbance::Stopped(Whose::Owner),
    Disturbance::Cut(Way::ToOther),
];
/// How long each lasts.
const SHORT: [Duration; 1] = [Duration::from_secs(4)];
const LONG: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(60)];
/// Within how long a node that is not heard is shown as lost, and how long one must be away for
/// that to be looked at.
const LOST_TIME: Duration = Duration::from_secs(15);
/// How long one is heard that hears nothing itself.
const STILL_HEARD: Duration = Duration::from_secs(8);
/// How long one must be away to be shown as one that nobody waits for any more.
const GIVEN_UP: Duration = Duration::from_secs(255);
/// How long a silence ends nothing at all.
const HARMLESS: Duration = Duration::from_secs(5);
/// Within how long the nodes have found each other again.
const BACK_TIME: Duration = Duration::from_secs(60);
/// A look at something that only can be looked at.
const LOOK: Duration = Duration::from_millis(50);
/// Prints numbered lines until its gate is there, notes each, and ends with 7.
const LINES: &str = "i=0; while [ ! -e \"$0\" ]; do i=$((i+1)); echo $i >> \"$1\"; echo $i; \
                     sleep 0.05; done; exit 7";
/// Lives on until it is killed.
const LASTS: &str = "while :; do sleep 0.05; done";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disturbance {
    Cut(Way),
    Stopped(Whose),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Owner,
    Other,
}

/// Runs the scenario. Returns its closing line.
///
/// # Errors
/// The first violation.
pub(crate) fn run(first: &Home, options: &Options) -> Result<String, Violation> {
    let stage = match Stage::new(first)? {
        Ok(stage) => stage,
        Err(why) => return Ok(format!("skipped, since no network namespace can be made: {why}")),
    };
    let (mut lengths, skipped) = match options.size {
        Size::Short => (SHORT.to_vec(), 2),
        Size::Long => (LONG.to_vec(), 0),
    };
    // A longer one where it is asked for.
    let longer = options.size == Size::Long && lengths.iter().all(|length| *length < options.cut);
    lengths.extend(longer.then_some(options.cut));
    let gate = stage.owner.folder().join("gate").display().to_string();
    let own = stage.owner.folder().join("own").display().to_string();
    stage.owner.must(&["start", "--on", "b", "--", "sh", "-c", LINES, &gate, &own])?;
    let mut told = Vec::new();
    for length in lengths {
        for disturbance in DISTURBANCES.into_iter().skip(skipped) {
            let back = Trial { stage: &stage, disturbance, length }.run()?;
            told.push(format!("{disturbance:?} {}s: {:.1}", length.as_secs(), back.as_secs_f64()));
        }
    }
    std::fs::write(&gate, "").map_err(machine("a file"))?;
    let lines = whole(&stage.owner, &own)?;
    nothing_left(&stage.owner)?;
    nothing_left(&stage.other)?;
    let told = told.join(", ");
    Ok(format!("{lines} lines came once; seconds until the nodes were back: {told}"))
}

/// Receives everything, and wants each line once. Returns how many there are.
fn whole(owner: &Home, own: &str) -> Result<usize, Violation> {
    let rest = owner.run(&["receive", "--wait", "1"])?;
    let printed = std::fs::read_to_string(own).map_err(machine("its own lines"))?;
    let lines = printed.lines().count();
    let wanted: String = (1..=lines).map(|number| format!("{number}\n")).collect();
    if printed != wanted || rest.out != wanted || rest.code != Some(100) {
        return Err(rest.refused());
    }
    let status = owner.json(&["get", "2"])?;
    let status = status.pointer("/jobs/0/exit_code").and_then(Value::as_i64);
    match status {
        Some(7) => Ok(lines),
        _ => Err(Violation::Vain { what: "its exit status", limit: PATIENCE }),
    }
}

/// One disturbance.
struct Trial<'a> {
    stage: &'a Stage,
    disturbance: Disturbance,
    length: Duration,
}

impl Trial<'_> {
    /// Disturbs, and mends. Returns how long it took then until the nodes had found each other.
    fn run(&self) -> Result<Duration, Violation> {
        let owner = &self.stage.owner;
        let mark = owner.folder().join(format!("mark-{:?}", Instant::now()));
        let mark = mark.display().to_string().replace(' ', "");
        let mut foreground = self.foreground(&mark)?;
        self.disturb()?;
        let begun = Instant::now();
        let seen = self.watch(begun, &mark, &mut foreground);
        self.mend()?;
        seen?;
        let mended = Instant::now();
        self.wait_for("the nodes to find each other again", BACK_TIME, || {
            Ok(shown_as(owner, "b")? == "alive" && shown_as(&self.stage.other, "a")? == "alive")
        })?;
        let back = mended.elapsed();
        let runs = || Ok(self.shown()? == "running");
        self.wait_for("what runs there to be shown as running", BACK_TIME, runs)?;
        if self.length <= HARMLESS {
            // It ended nothing; we do.
            if foreground.try_wait().map_err(machine("a command"))?.is_some() {
                let (command, said) = ("invoke".to_owned(), format!("{:?}", self.disturbance));
                return Err(Violation::Refused { command, code: -1, said });
            }
            let _ = rustix::process::kill_process(pid_of(&foreground)?, Signal::INT);
        }
        foreground.wait().map_err(machine("a command"))?;
        let is_gone = || Ok(processes(owner, &mark) == 0);
        self.wait_for("the end of what its command left", BACK_TIME, is_gone)?;
        Ok(back)
    }

    /// A command whose child ends with it, which runs when this returns.
    fn foreground(&self, mark: &str) -> Result<Child, Violation> {
        let words = ["invoke", "--on", "b", "--", "sh", "-c", LASTS, mark];
        let mut command = self.stage.owner.command(&words);
        command.stdout(std::process::Stdio::null());
        let child = command.spawn().map_err(machine("the sortie command"))?;
        let runs = || Ok(processes(&self.stage.owner, mark) > 0);
        self.wait_for("a foreground command's process", PATIENCE, runs)?;
        Ok(child)
    }

    fn disturb(&self) -> Result<(), Violation> {
        match self.disturbance {
            Disturbance::Cut(way) => self.stage.cut(way),
            Disturbance::Stopped(whose) => self.signal(whose, Signal::STOP),
        }
    }

    fn mend(&self) -> Result<(), Violation> {
        match self.disturbance {
            Disturbance::Cut(way) => self.stage.mend(way),
            Disturbance::Stopped(whose) => self.signal(whose, Signal::CONT),
        }
    }

    fn signal(&self, whose: Whose, signal: Signal) -> Result<(), Violation> {
        let home = if whose == Whose::Owner { &self.stage.owner } else { &self.stage.other };
        let sent = home.daemon().map(|pid| rustix::process::kill_process(pid, signal));
        match sent {
            Some(Ok(())) => Ok(()),
            _ => Err(Violation::Vain { what: "a daemon to stop", limit: Duration::ZERO }),
        }
    }

    /// Looks on while it lasts. Where nodes answer that are parted for long, they show each other
    /// as lost in time, and a foreground command says that its child is lost only when it is gone.
    fn watch(&self, begun: Instant, mark: &str, client: &mut Child) -> Result<(), Violation> {
        if self.length <= HARMLESS {
            // tidy: waits because it is to last for this long and no longer
            std::thread::sleep(self.length);
            return Ok(());
        }
        let owner = &self.stage.owner;
        let owner_answers = self.disturbance != Disturbance::Stopped(Whose::Owner);
        let other_is_stopped = self.disturbance == Disturbance::Stopped(Whose::Other);
        let limit = match self.disturbance {
            Disturbance::Cut(Way::ToOther) => LOST_TIME + STILL_HEARD,
            _ => LOST_TIME,
        };
        let (mut is_shown, mut has_ended) = (false, false);
        while begun.elapsed() < self.length {
            let looked = begun.elapsed();
            if owner_answers && !is_shown {
                is_shown = shown_as(owner, "b")? == "lost";
                if !is_shown && looked > limit {
                    return Err(Violation::Vain { what: "a node to be shown as lost", limit });
                }
            }
            if !has_ended && client.try_wait().map_err(machine("a command"))?.is_some() {
                has_ended = true;
                // A frozen node kills it when it wakes: `docs/semantics.md`, section 4.
                let left = processes(owner, mark);
                if left > 0 && !other_is_stopped {
                    let line = "a child that was said to be lost".to_owned();
                    return Err(Violation::Left { count: left, pid: 0, line });
                }
            }
            // tidy: waits because the length of a disturbance is given
            std::thread::sleep(LOOK);
        }
        if owner_answers && self.length > LOST_TIME {
            let wanted = if self.length > GIVEN_UP { "disconnected" } else { "running" };
            let found = self.shown()?;
            if found != wanted {
                return Err(Violation::End { item: 0, job: 1, found, wanted: wanted.to_owned() });
            }
            if !has_ended {
                return Err(Violation::Vain {
                    what: "an end that silence has",
                    limit: self.length,
                });
            }
        }
        Ok(())
    }

    /// How what runs there is shown, which is to run on.
    fn shown(&self) -> Result<String, Violation> {
        let answer = self.stage.owner.json(&["get", "1"])?;
        Ok(answer.pointer("/jobs/0/state").and_then(Value::as_str).unwrap_or_default().to_owned())
    }

    fn wait_for(
        &self,
        what: &'static str,
        limit: Duration,
        is_so: impl Fn() -> Result<bool, Violation>,
    ) -> Result<(), Violation> {
        let begun = Instant::now();
        while !is_so()? {
            if begun.elapsed() > limit {
                eprintln!("chaos: {:?} for {:?}", self.disturbance, self.length);
                return Err(Violation::Vain { what, limit });
            }
            // tidy: waits because other processes can only be looked at
            std::thread::sleep(LOOK);
        }
        Ok(())
    }
}

fn pid_of(child: &Child) -> Result<Pid, Violation> {
    let found = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    found.ok_or(Violation::Vain { what: "a process id", limit: Duration::ZERO })
}

/// Processes with that mark that a shell runs: commands of ours have it in their words, too.
fn processes(home: &Home, mark: &str) -> usize {
    let lines = home.processes().into_iter().filter_map(command_line);
    lines.filter(|line| line.starts_with("sh ") && line.contains(mark)).count()
}

/// How a node shows another one.
fn shown_as(home: &Home, name: &str) -> Result<String, Violation> {
    let answer = home.json(&["node", "get"])?;
    let nodes = answer.get("nodes").and_then(Value::as_array);
    let is_it = |node: &&Value| node.get("name").and_then(Value::as_str) == Some(name);
    let node = nodes.and_then(|nodes| nodes.iter().find(is_it));
    let state = node.and_then(|node| node.get("state")?.as_str());
    Ok(state.unwrap_or_default().to_owned())
}
