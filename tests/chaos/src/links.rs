//! Numbered lines of a session on another node come through a relay that is cut again and again,
//! and are taken over by another home in between. Now and then their node is killed.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::home::{Home, PATIENCE};
use crate::ledger::Record;
use crate::lines::{self, Intake, LINE_BYTES};
use crate::options::{Options, Size};
use crate::random::Random;
use crate::relay::Relay;
use crate::violation::{Violation, machine};

/// The session that is read.
const SESSION: &str = "lines";
/// How long a cut may have effects after it was mended.
const AFTER_EFFECT: Duration = Duration::from_secs(15);
/// Bytes of a mebibyte.
const MEBIBYTE: u64 = 1 << 20;

/// How the run goes.
#[derive(Debug, Clone, Copy)]
struct Course {
    bytes: u64,
    cuts: u64,
    takeovers: u64,
    /// How long a cut lasts at most, and the time between two, in milliseconds.
    cut_millis: u64,
    pause_millis: u64,
}

impl Course {
    fn of(options: &Options) -> Self {
        let bytes = options.mebibytes * MEBIBYTE;
        let cut_millis = u64::try_from(options.cut.as_millis()).unwrap_or(u64::MAX);
        let (cuts, takeovers, pause_millis) = match options.size {
            Size::Short => (4, 2, 1_500),
            Size::Long => (200, 20, 5_000),
        };
        Self { bytes, cuts, takeovers, cut_millis, pause_millis }
    }
}

/// A node that is reached through a relay, and homes that read there.
struct Stage {
    relay: Relay,
    node: Home,
    readers: [Home; 2],
    daemons: Mutex<Vec<Child>>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.relay.mend();
        for home in self.readers.iter().chain([&self.node]) {
            home.end();
        }
        for daemon in self.daemons.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

/// What disturbs, and when it did last.
#[derive(Debug, Default)]
struct Disturbed {
    cuts: AtomicU64,
    kills: AtomicU64,
    is_cut: AtomicBool,
    /// Milliseconds since the beginning.
    mended: AtomicU64,
    over: AtomicBool,
    /// Nothing can be received any more.
    failed: AtomicBool,
}

/// Runs the scenario. Returns its closing line.
///
/// # Errors
/// The first violation.
pub(crate) fn run(first: &Home, options: &Options) -> Result<String, Violation> {
    let course = Course::of(options);
    let stage = Stage::new(first)?;
    stage.start(course.bytes / LINE_BYTES)?;
    let (disturbed, begun) = (Disturbed::default(), Instant::now());
    let mut random = Random::new(options.seed, 1 << 43);
    let mut reading = Reading {
        stage: &stage,
        disturbed: &disturbed,
        begun,
        intake: Intake::new(),
        holder: 0,
        takeovers: 0,
        history: Vec::new(),
    };
    let read = std::thread::scope(|scope| {
        let disturbing = scope.spawn(|| {
            let went = disturb(&stage, (&disturbed, begun), (course, options));
            disturbed.failed.store(went.is_err(), Ordering::SeqCst);
            went
        });
        let read = reading.all(course, &mut random);
        disturbed.over.store(true, Ordering::SeqCst);
        disturbing.join().unwrap_or(Ok(())).and(read)
    });
    read?;
    let Reading { intake, takeovers, .. } = reading;
    let (bytes, again) = (intake.bytes(), intake.again());
    let sum = intake.check(course.bytes / LINE_BYTES)?;
    let [cuts, kills] =
        [&disturbed.cuts, &disturbed.kills].map(|count| count.load(Ordering::SeqCst));
    let dropped = stage.relay.dropped();
    Ok(format!(
        "{bytes} bytes through {cuts} cuts ({dropped} packets dropped), {kills} kills of the node \
         and {takeovers} takeovers, {again} records came again, sha256 {sum}"
    ))
}

impl Stage {
    fn new(first: &Home) -> Result<Self, Violation> {
        let relay = Relay::bind().map_err(machine("a relay"))?;
        let beside = |name: &str| first.beside(name);
        let (node, readers) = (beside("node")?, [beside("one")?, beside("two")?]);
        let address = relay.address().map_err(machine("a relay"))?.to_string();
        let stage = Self { relay, node, readers, daemons: Mutex::default() };
        let [one, two] = &stage.readers;
        stage.run(one, "one", &[])?;
        stage.run(two, "two", &[])?;
        stage.run(&stage.node, "node", &["--advertise", &address])?;
        stage.relay.pass_to(stage.node.address()?).map_err(machine("a relay"))?;
        one.joined_by(&[two, &stage.node])?;
        Ok(stage)
    }

    /// Runs a node, and waits until it listens.
    fn run(&self, home: &Home, name: &str, more: &[&str]) -> Result<(), Violation> {
        let daemon = home.run_node(name, more)?;
        self.daemons.lock().unwrap_or_else(PoisonError::into_inner).push(daemon);
        home.address().map(|_| ())
    }

    /// Kills the node and runs it again.
    fn kill(&self) -> Result<(), Violation> {
        self.node.kill_daemon();
        // It holds its home until it is gone. It was started last.
        let dead = self.daemons.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(mut dead) = dead {
            dead.wait().map_err(machine("a node"))?;
        }
        // The dead one's address says nothing of the next one.
        let _ = std::fs::remove_file(self.node.folder().join("node.addr"));
        self.run(&self.node, "node", &[])
    }

    /// Starts the job.
    fn start(&self, lines: u64) -> Result<(), Violation> {
        let [one, two] = &self.readers;
        one.must(&["session", "new", "--on", "node", "--name", SESSION])?;
        // Each home is to know where the session is.
        two.must(&["session", "connect", SESSION, "--take", "--node", "node"])?;
        one.must(&["session", "connect", SESSION, "--take", "--node", "node"])?;
        let program = std::env::current_exe().map_err(machine("our program"))?;
        let (program, lines) = (program.display().to_string(), lines.to_string());
        let words = ["start", "--session", SESSION, "--", &program, lines::WORD, &lines];
        one.must(&words)
    }
}

/// Cuts the relay and mends it, or kills the node and runs it again, until the reader is done or
/// the relay was cut often enough.
fn disturb(
    stage: &Stage,
    (disturbed, begun): (&Disturbed, Instant),
    (course, options): (Course, &Options),
) -> Result<(), Violation> {
    let mut random = Random::new(options.seed, 1 << 44);
    let is_over = || disturbed.over.load(Ordering::SeqCst);
    let wait = |millis: u64| {
        let until = Instant::now() + Duration::from_millis(millis);
        while Instant::now() < until && !is_over() {
            // tidy: waits because the length of a cut is random
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    while !is_over() && disturbed.cuts.load(Ordering::SeqCst) < course.cuts {
        wait(random.within(0..=course.pause_millis));
        disturbed.is_cut.store(true, Ordering::SeqCst);
        if random.once_in(4) {
            disturbed.kills.fetch_add(1, Ordering::SeqCst);
            stage.kill()?;
        } else {
            disturbed.cuts.fetch_add(1, Ordering::SeqCst);
            stage.relay.cut(&mut random);
            // Most are short: a cut of some seconds ends no link.
            let most = if random.once_in(4) { course.cut_millis } else { course.cut_millis / 10 };
            wait(random.within(0..=most));
            stage.relay.mend();
        }
        let now = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        disturbed.mended.store(now, Ordering::SeqCst);
        disturbed.is_cut.store(false, Ordering::SeqCst);
    }
    Ok(())
}

/// The lines on their way in.
struct Reading<'a> {
    stage: &'a Stage,
    disturbed: &'a Disturbed,
    begun: Instant,
    intake: Intake,
    /// Which reader holds the session.
    holder: usize,
    takeovers: u64,
    /// How the receives ended, for who looks for the cause of a violation.
    history: Vec<String>,
}

/// How a receive ended.
enum Ended {
    AtTheEnd,
    CutOff,
    TakenOver,
}

impl Reading<'_> {
    /// Reads until everything came. The session is taken over whenever another part of it is here.
    fn all(&mut self, course: Course, random: &mut Random) -> Result<(), Violation> {
        while !self.disturbed.failed.load(Ordering::SeqCst) {
            let part = course.bytes / (course.takeovers + 1);
            let due = (self.takeovers < course.takeovers)
                .then(|| part * (self.takeovers + 1) - random.within(0..=part / 2));
            match self.receive(due)? {
                Ended::AtTheEnd if self.intake.bytes() == course.bytes => return Ok(()),
                // A reader that is gone has something in hand.
                Ended::AtTheEnd if self.was_disturbed(self.now()) => {}
                Ended::AtTheEnd => return Ok(()),
                Ended::CutOff => {}
                Ended::TakenOver => {
                    self.takeovers += 1;
                    self.holder = 1 - self.holder;
                }
            }
        }
        Ok(())
    }

    /// Receives until the end, until the link breaks, or until so many bytes are here: then the
    /// other home takes the session over.
    fn receive(&mut self, due: Option<u64>) -> Result<Ended, Violation> {
        let [one, two] = &self.stage.readers;
        let (home, other) = if self.holder == 0 { (one, two) } else { (two, one) };
        let words = ["receive", "--session", SESSION, "--wait", "-o", "ndjson", "1"];
        let begun = self.now();
        self.intake.begin(self.was_disturbed(begun));
        let mut command = home.command(&words);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(machine("the sortie command"))?;
        let output = child.stdout.take().map(BufReader::new);
        let mut taken = None;
        for line in output.into_iter().flat_map(BufReader::lines) {
            let line = line.map_err(machine("its output"))?;
            // What a receive that was killed wrote of its last line is no record.
            if let Ok(record) = serde_json::from_str::<Record>(&line) {
                self.intake.take(&record).inspect_err(|_| self.tell())?;
            }
            if taken.is_none() && due.is_some_and(|due| self.intake.bytes() >= due) {
                taken = Some(self.take_over(other)?);
            }
        }
        let ended = child.wait_with_output().map_err(machine("the sortie command"))?;
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        let code = ended.status.code();
        let line = format!(
            "{:?} to {:?}, reader {}: {code:?}, taken {taken:?}, {} bytes: {said}",
            begun,
            self.now(),
            self.holder,
            self.intake.bytes()
        );
        self.history.push(line);
        match (code, taken) {
            (Some(0), _) => Ok(Ended::AtTheEnd),
            (_, Some(())) => Ok(Ended::TakenOver),
            (Some(101 | 125), None) if self.was_disturbed(begun) => Ok(Ended::CutOff),
            (code, _) => {
                let command = words.join(" ");
                Err(Violation::Refused { command, code: code.unwrap_or(-1), said })
            }
        }
    }

    /// Has another home take the session over, however long the link is cut.
    fn take_over(&self, other: &Home) -> Result<(), Violation> {
        let words = ["session", "connect", SESSION, "--take", "--node", "node"];
        let first = Instant::now();
        loop {
            let begun = self.now();
            let ran = other.run(&words)?;
            match ran.code {
                Some(0) => return Ok(()),
                Some(101 | 125) if self.was_disturbed(begun) && first.elapsed() < PATIENCE => {}
                _ => return Err(ran.refused()),
            }
        }
    }

    fn tell(&self) {
        self.history.iter().rev().take(20).rev().for_each(|line| eprintln!("  {line}"));
        eprintln!("  it is {:?}, and was mended {:?}", self.now(), self.disturbed.mended);
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Whether the link was cut since then, or not long before.
    fn was_disturbed(&self, since: Duration) -> bool {
        let mended = Duration::from_millis(self.disturbed.mended.load(Ordering::SeqCst));
        let is_cut = self.disturbed.is_cut.load(Ordering::SeqCst);
        is_cut || (!mended.is_zero() && mended + AFTER_EFFECT > since)
    }
}
