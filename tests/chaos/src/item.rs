//! An item: one job of a run, whose process is this program itself. What it writes, how long it
//! lives and how it ends follow from the seed and its number, so that the run knows what must come.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use crate::random::Random;

/// The first word of this program when it is the process of an item.
pub(crate) const WORD: &str = "item";
/// The word behind it of a process that an item leaves behind.
const IDLE: &str = "idle";
/// Bytes of a long line, without its number.
const LONG_LINE: u64 = 3_000;
/// Milliseconds of a minute.
const MINUTE: u64 = 60_000;
/// The status with which a life ends after which another one follows.
const FAILED_LIFE: u8 = 9;

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself.
    Exits(u8),
    /// By the signal KILL, which it sends to itself.
    KillsItself,
    /// Not before it is stopped, or its plan is over.
    IsStopped,
}

/// What the process of an item does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The seed of the run, and the item's number.
    pub(crate) seed: u64,
    pub(crate) number: u64,
    /// How often it begins: all lives but the last one end as failures.
    pub(crate) lives: u64,
    pub(crate) end: End,
    /// Lines of each burst, and the pause after it.
    bursts: Vec<(u64, Duration)>,
    /// Whether it leaves a process behind that does nothing.
    leaves_one: bool,
}

impl Plan {
    /// The plan of an item that lives at most that many milliseconds.
    pub(crate) fn new(seed: u64, number: u64, most_millis: u64) -> Self {
        let mut random = Random::new(seed, number);
        let lives = if random.once_in(8) { random.within(2..=3) } else { 1 };
        let end = match random.within(0..=11) {
            0 if lives == 1 => End::KillsItself,
            1 | 2 if lives == 1 => End::IsStopped,
            3..=6 => End::Exits(0),
            _ => End::Exits((1 + number % 100) as u8),
        };
        // A failure would begin another life.
        let end = if lives > 1 { End::Exits(0) } else { end };
        let lines = if random.once_in(10) { 400 } else { 12 };
        let count = random.within(1..=20 * (most_millis / MINUTE).max(1));
        let pause = random.within(0..=most_millis) / (count * lives);
        let bursts = (0..count).map(|_| (random.within(0..=lines), random.millis(2 * pause)));
        let bursts = bursts.collect();
        Self { seed, number, lives, end, bursts, leaves_one: random.once_in(6) }
    }

    /// A line, and whether it goes to the error stream.
    fn line(&self, life: u64, line: u64) -> (String, bool) {
        let mut random = Random::new(self.seed ^ self.number, life << 32 | line);
        let long = if random.once_in(40) { random.within(0..=LONG_LINE) } else { 0 };
        let padding = "x".repeat(usize::try_from(long).unwrap_or_default());
        (format!("{}.{life}.{line}{padding}\n", self.number), random.once_in(7))
    }

    /// What it says on both streams in all its lives.
    pub(crate) fn output(&self) -> (String, String) {
        let (mut output, mut error) = (String::new(), String::new());
        for life in 1..=self.lives {
            for line in 0..self.lines() {
                let (text, is_error) = self.line(life, line);
                if is_error { &mut error } else { &mut output }.push_str(&text);
            }
        }
        (output, error)
    }

    /// Whether one life is all, and comes to its end by itself.
    pub(crate) const fn ends_by_itself(&self) -> bool {
        self.lives == 1 && !matches!(self.end, End::IsStopped)
    }

    /// Lines of one life.
    pub(crate) fn lines(&self) -> u64 {
        self.bursts.iter().map(|(lines, _)| lines).sum()
    }

    /// The words of its process.
    pub(crate) fn words(&self, notes: &Path, most_millis: u64) -> Vec<String> {
        let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("chaos"));
        let program = program.display().to_string();
        let whose = self.mark(notes);
        [program, WORD.to_owned()]
            .into_iter()
            .chain(whose)
            .chain([most_millis.to_string()])
            .collect()
    }

    /// Whether a command line is that of an item's own process, of those that note there.
    pub(crate) fn is_of(line: &str, notes: &Path) -> bool {
        let program = std::env::current_exe().unwrap_or_default();
        line.starts_with(&format!("{} {WORD} {} ", program.display(), notes.display()))
    }

    /// Words that only the processes of this item have in their command line, in this order.
    pub(crate) fn mark(&self, notes: &Path) -> [String; 3] {
        [notes.display().to_string(), self.seed.to_string(), self.number.to_string()]
    }
}

/// The files in which an item notes what it did.
pub(crate) struct Notes(PathBuf);

impl Notes {
    /// Those of one item, in the folder of the run.
    pub(crate) fn of(folder: &Path, number: u64) -> Self {
        Self(folder.join(number.to_string()))
    }

    fn starts_file(&self) -> PathBuf {
        self.0.with_extension("starts")
    }

    /// How often its process began.
    pub(crate) fn starts(&self) -> u64 {
        std::fs::read(self.starts_file()).map_or(0, |bytes| bytes.len() as u64)
    }

    /// How many lines of its life were written for certain.
    pub(crate) fn written(&self) -> u64 {
        let text = std::fs::read_to_string(self.0.with_extension("lines")).unwrap_or_default();
        text.lines().last().and_then(|line| line.parse().ok()).unwrap_or_default()
    }

    /// Notes that the process began. Returns which life it is.
    fn begin(&self) -> io::Result<u64> {
        let mut options = OpenOptions::new();
        let mut file = options.append(true).create(true).open(self.starts_file())?;
        file.write_all(b".")?;
        Ok(self.starts())
    }
}

/// The process of an item, by its words behind [`WORD`].
pub(crate) fn run(words: &[String]) -> ExitCode {
    match words {
        [idle, ..] if idle == IDLE => idle_until_killed(),
        [folder, seed, number, millis] => {
            let numbers = [seed, number, millis].map(|word| word.parse().unwrap_or_default());
            let plan = Plan::new(numbers[0], numbers[1], numbers[2]);
            perform(&plan, &Notes::of(Path::new(folder), plan.number)).unwrap_or(ExitCode::from(99))
        }
        _ => ExitCode::from(98),
    }
}

fn idle_until_killed() -> ExitCode {
    // tidy: waits because it is there to be killed
    std::thread::sleep(Duration::from_secs(3_600));
    ExitCode::FAILURE
}

fn perform(plan: &Plan, notes: &Notes) -> io::Result<ExitCode> {
    let life = notes.begin()?;
    if plan.leaves_one {
        let mut idle = Command::new(std::env::current_exe()?);
        let folder = notes.0.parent().unwrap_or_else(|| Path::new("/"));
        idle.args([WORD, IDLE]).args(plan.mark(folder)).arg("0");
        idle.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // It belongs to nobody: whoever kills the tree has to find it.
        drop(idle.spawn()?);
    }
    let mut written = File::create(notes.0.with_extension("lines"))?;
    let (mut line, mut output, mut error) = (0, io::stdout().lock(), io::stderr().lock());
    for (lines, pause) in &plan.bursts {
        for _ in 0..*lines {
            let (text, is_error) = plan.line(life, line);
            let bytes = text.as_bytes();
            if is_error {
                error.write_all(bytes)?
            } else {
                output.write_all(bytes)?
            }
            line += 1;
        }
        output.flush()?;
        writeln!(written, "{line}")?;
        // tidy: waits because the pauses of an item are part of its plan
        std::thread::sleep(*pause);
    }
    if life < plan.lives {
        return Ok(ExitCode::from(FAILED_LIFE));
    }
    match plan.end {
        End::Exits(status) => Ok(ExitCode::from(status)),
        End::KillsItself => kill_oneself(),
        End::IsStopped => Ok(idle_until_killed()),
    }
}

fn kill_oneself() -> io::Result<ExitCode> {
    let own = rustix::process::getpid();
    rustix::process::kill_process(own, rustix::process::Signal::KILL)?;
    Ok(ExitCode::FAILURE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_follows_from_seed_and_number() {
        for number in 0..200 {
            let plan = Plan::new(7, number, 1_000);
            assert_eq!(plan, Plan::new(7, number, 1_000));
            let (output, error) = plan.output();
            let lines = output.lines().count() + error.lines().count();
            assert_eq!(lines as u64, plan.lines() * plan.lives);
        }
    }
}
