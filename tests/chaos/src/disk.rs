//! Every call by which a node's journal is written fails once, each in a run of its own, by what
//! `strace` injects: an error of the disk, and a disk without room. Then the node is killed, and
//! the next one finds a sound disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::check::{self, Ended};
use crate::daemon::nothing_left;
use crate::home::{Home, PATIENCE};
use crate::ledger::{Ledger, Reader, Whose, records};
use crate::options::{Options, Size};
use crate::random::Random;
use crate::violation::{Violation, machine};

/// The calls that change a journal, or that see to it that a change is on the disk.
const CALLS: [&str; 4] = ["pwrite64", "fdatasync", "ftruncate", "fallocate"];
const ERRORS: [&str; 2] = ["EIO", "ENOSPC"];
/// Of the short run, which takes any of the first ones; the long one takes each there is.
const SHORT: u64 = 60;
/// Jobs of a run.
const JOBS: u64 = 4;
/// The job that is stopped, and the one of which some is received before the kill.
const STOPPED: u64 = 3;
const READ: u64 = 1;
/// Their process, which notes that it began and ends with 3 once its gate is there.
const PROCESS: &str = "echo . >> \"$0\"; echo said; while [ ! -e \"$1\" ]; do sleep 0.05; done; \
                       echo last; exit 3";
const SAID: &str = "said\nlast\n";

/// Which call fails, and how.
#[derive(Debug, Clone, Copy)]
struct Fault {
    call: &'static str,
    error: &'static str,
    at: u64,
}

impl Fault {
    fn any(random: &mut Random) -> Self {
        let mut one_of = |words: &[&'static str]| {
            let last = (words.len() as u64).saturating_sub(1);
            let at = usize::try_from(random.within(0..=last)).unwrap_or_default();
            words.get(at).copied().unwrap_or_default()
        };
        let (call, error) = (one_of(&CALLS), one_of(&ERRORS));
        Self { call, error, at: random.within(1..=SHORT) }
    }
}

/// What came of a run.
#[derive(Debug, Default)]
struct Tally {
    faults: u64,
    refused: u64,
    never_ready: u64,
    ended_itself: u64,
}

/// Runs the scenario. Returns its closing line.
///
/// # Errors
/// The first violation.
pub(crate) fn run(home: &Home, options: &Options) -> Result<String, Violation> {
    if let Err(error) = Command::new("strace").arg("-V").stdout(Stdio::null()).status() {
        return Ok(format!("skipped, since there is no strace here: {error}"));
    }
    let (begun, mut tally) = (Instant::now(), Tally::default());
    let is_over = || begun.elapsed() >= options.time;
    let mut one = |fault| {
        let beside = home.beside("one")?;
        let went = Run::new(&beside, fault).whole(&mut tally);
        beside.end();
        let went = went.inspect_err(|_| eprintln!("chaos: with {fault:?}"));
        // The home of a run that went well is not kept.
        went.inspect(|_| drop(fs::remove_dir_all(beside.folder())))
    };
    match options.size {
        Size::Short => {
            let mut random = Random::new(options.seed, 1 << 46);
            while !is_over() {
                one(Fault::any(&mut random))?;
            }
        }
        // Each of the calls in turn, so that a run that ends early has had some of each.
        Size::Long => {
            let mut kinds: Vec<_> =
                CALLS.iter().flat_map(|call| ERRORS.map(|error| (call, error))).collect();
            let mut at = 1;
            while !kinds.is_empty() && !is_over() {
                let mut left = Vec::new();
                for (call, error) in kinds {
                    if is_over() || one(Fault { call, error, at })? {
                        left.push((call, error));
                    }
                }
                (kinds, at) = (left, at + 1);
            }
        }
    }
    let Tally { faults, refused, never_ready, ended_itself } = tally;
    Ok(format!(
        "{faults} calls of the journal failed, {refused} commands with them; {never_ready} nodes \
         were never ready, {ended_itself} ended by themselves"
    ))
}

/// One run.
struct Run<'a> {
    home: &'a Home,
    fault: Fault,
    /// The jobs of the starts that were acknowledged.
    jobs: Vec<Option<u64>>,
    is_stopped: bool,
    ledgers: Vec<Ledger>,
}

impl<'a> Run<'a> {
    fn new(home: &'a Home, fault: Fault) -> Self {
        let ledgers = (0..JOBS).map(|_| Ledger::default()).collect();
        Self { home, fault, jobs: Vec::new(), is_stopped: false, ledgers }
    }

    /// Runs it. Returns whether there was such a call.
    fn whole(mut self, tally: &mut Tally) -> Result<bool, Violation> {
        let mut traced = self.trace()?;
        let is_ready = self.becomes_ready(&mut traced)?;
        if is_ready {
            self.act(tally)?;
        }
        tally.never_ready += u64::from(!is_ready);
        tally.ended_itself += u64::from(is_ready && !self.home.kill_daemon());
        let checked = self.check();
        self.home.end();
        // It ends with the last process that it traces, the guardian, and has written its log then.
        traced.wait().map_err(machine("strace"))?;
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let has_failed = log.contains("(INJECTED)");
        tally.faults += u64::from(has_failed);
        checked.map(|()| has_failed)
    }

    fn log(&self) -> PathBuf {
        self.home.folder().with_extension("calls")
    }

    /// Runs a node of which that call fails once.
    fn trace(&self) -> Result<Child, Violation> {
        let Fault { call, error, at } = self.fault;
        let node = self.home.command(&["node", "run", "--listen", "127.0.0.1:0"]);
        let mut strace = Command::new("strace");
        strace.args(["-f", "--seccomp-bpf", "-qq", "-o"]).arg(self.log());
        strace.args(["-e", &format!("trace={call}")]);
        strace.args(["-e", &format!("inject={call}:error={error}:when={at}")]);
        strace.arg("-P").arg(self.home.folder().join("sessions/journal")).arg("--");
        strace.arg(node.get_program()).args(node.get_args());
        strace.env("SORTIE_HOME", self.home.folder());
        strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        strace.spawn().map_err(machine("strace"))
    }

    /// Waits until the node listens, or ends because it cannot.
    fn becomes_ready(&self, traced: &mut Child) -> Result<bool, Violation> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if self.home.folder().join("node.addr").exists() {
                return Ok(true);
            }
            if traced.try_wait().map_err(machine("strace"))?.is_some() {
                return Ok(false);
            }
            // tidy: waits because a node's address can only be polled
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(Violation::Vain { what: "a node's address, or its end", limit: PATIENCE })
    }

    fn note(&self, number: u64) -> PathBuf {
        self.home.folder().join(format!("note-{number}"))
    }

    fn gate(&self) -> PathBuf {
        self.home.folder().join("gate")
    }

    /// Starts a job, by its key. Returns its id if that was acknowledged.
    fn start(&self, number: u64) -> Result<Option<u64>, Violation> {
        let (note, gate) = (text(&self.note(number)), text(&self.gate()));
        let key = format!("key-{number}");
        let words = ["start", "-q", "--key", &key, "--", "sh", "-c", PROCESS, &note, &gate];
        let ran = self.home.run(&words)?;
        Ok(ran.out.trim().parse().ok().filter(|_| ran.code == Some(0)))
    }

    /// What is done while the call fails.
    fn act(&mut self, tally: &mut Tally) -> Result<(), Violation> {
        for number in 0..JOBS {
            let job = self.start(number)?;
            tally.refused += u64::from(job.is_none());
            self.jobs.push(job);
            if let (READ, Some(job)) = (number, job) {
                self.receive(number, job)?;
            }
        }
        let stopped = self.jobs.get(usize::try_from(STOPPED).unwrap_or_default());
        if let Some(Some(job)) = stopped {
            let ran = self.home.run(&["stop", &job.to_string()])?;
            self.is_stopped = ran.code == Some(0);
            tally.refused += u64::from(!self.is_stopped);
        }
        Ok(())
    }

    /// Reads what is there. What a receive that did not end well printed may come again.
    fn receive(&mut self, number: u64, job: u64) -> Result<(), Violation> {
        let ran = self.home.run(&["receive", "-o", "ndjson", &job.to_string()])?;
        let is_confirmed = matches!(ran.code, Some(0 | 100 | 102));
        let reader = if is_confirmed { Reader::Confirmed } else { Reader::CutOff };
        let read = records(&ran)?;
        let ledger = self.ledgers.get_mut(usize::try_from(number).unwrap_or_default());
        ledger.map_or(Ok(()), |ledger| ledger.note(Whose { item: number, job }, read, reader))
    }

    /// Checks all on a sound disk.
    fn check(&mut self) -> Result<(), Violation> {
        fs::write(self.gate(), "").map_err(machine("a file"))?;
        let known = self.jobs.clone();
        for number in 0..JOBS {
            let known = known.get(usize::try_from(number).unwrap_or_default()).copied().flatten();
            if known.is_some_and(|job| !self.is_known(job)) {
                return Err(self.lost(number, known.unwrap_or_default()));
            }
            // Asked for again, by its key, as one does that got no answer.
            let Some(job) = self.start(number)? else { return Err(self.lost(number, 0)) };
            if let Some(first) = known.filter(|first| *first != job) {
                return Err(Violation::OtherJob { item: number, first, then: job });
            }
            self.check_end(Whose { item: number, job })?;
        }
        nothing_left(self.home)
    }

    fn is_known(&self, job: u64) -> bool {
        self.home.json(&["get", &job.to_string()]).is_ok()
    }

    fn lost(&self, item: u64, job: u64) -> Violation {
        let (found, wanted) = ("nothing".to_owned(), "what was acknowledged".to_owned());
        Violation::End { item, job, found, wanted }
    }

    fn check_end(&mut self, whose: Whose) -> Result<(), Violation> {
        let Whose { item, job } = whose;
        let words = job.to_string();
        self.home.run(&["wait", &words])?;
        let answer = self.home.json(&["get", &words, "--children"])?;
        let children = check::children_over(&answer).unwrap_or_default();
        let ended = children.first().and_then(|child| Ended::of(child));
        self.receive(item, job)?;
        let is_stopped = ended.as_ref().is_some_and(|ended| ended.was("stopped", None));
        let is_stopped = is_stopped && item == STOPPED;
        let has_ended = ended.is_some_and(|ended| ended.was("failed", Some(3)));
        if !(is_stopped || has_ended && !(item == STOPPED && self.is_stopped)) {
            let wanted = "its end, with status 3".to_owned();
            return Err(Violation::End { item, job, found: shown(&answer), wanted });
        }
        let times = fs::read_to_string(self.note(item)).map_or(0, |text| text.len() / 2) as u64;
        // What is stopped may not have begun.
        if times != 1 && !(is_stopped && times == 0) {
            return Err(Violation::Starts { item, job, times, wanted: 1 });
        }
        let Some(ledger) = self.ledgers.get(usize::try_from(item).unwrap_or_default()) else {
            return Ok(());
        };
        ledger.whole(whose, 1)?;
        let said = ledger.bytes("output");
        if said == SAID || (is_stopped && SAID.starts_with(&said)) {
            return Ok(());
        }
        let (found, wanted) = (format!("{said:?}"), format!("{SAID:?}"));
        Err(Violation::End { item, job, found, wanted })
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn shown(answer: &Value) -> String {
    answer.to_string().chars().take(1_500).collect()
}
