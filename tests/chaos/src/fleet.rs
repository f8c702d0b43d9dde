//! A fleet: the items of a run, which commands start, read and look at in random order, each item
//! by one command at a time.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::check;
use crate::home::{Home, Ran};
use crate::item::{End, Notes, Plan};
use crate::ledger::{Ledger, Reader, Record, Whose};
use crate::random::Random;
use crate::violation::{Violation, machine};

/// How long records may be in the hands of readers that are gone.
const REST_TIME: Duration = Duration::from_secs(300);

/// How long a process may outlive its job.
const LEFT_TIME: Duration = Duration::from_secs(10);

/// How many items a fleet has, and how they are asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) seed: u64,
    /// Items that run at the same time.
    pub(crate) together: usize,
    /// How long an item lives at most, in milliseconds.
    pub(crate) most_millis: u64,
    /// Commands at the same time.
    pub(crate) workers: u64,
    /// What is killed.
    pub(crate) killed: Killed,
}

/// What is killed under a fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Killed {
    /// The node.
    Node,
    /// Every second client, within that many milliseconds.
    Clients(u64),
    /// The node's guardian.
    Guardian,
}

/// What a fleet came to.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) items: AtomicU64,
    pub(crate) starts: AtomicU64,
    pub(crate) lines: AtomicU64,
    pub(crate) records: AtomicU64,
    pub(crate) again: AtomicU64,
    pub(crate) commands: AtomicU64,
    pub(crate) cut_off: AtomicU64,
    pub(crate) clients_killed: AtomicU64,
    /// Items that ended with the guardian.
    pub(crate) lost: AtomicU64,
}

/// An item under way.
pub(crate) struct Item {
    pub(crate) plan: Plan,
    pub(crate) job: Option<u64>,
    pub(crate) ledger: Ledger,
    pub(crate) stop_asked: bool,
    /// What was asked of it and answered, for who looks for the cause of a violation.
    history: Vec<String>,
}

impl Item {
    fn note(&mut self, ran: &Ran, what: &str) {
        let time =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let Ran { command, code, took, under_kill, .. } = ran;
        let verb: Vec<&str> = command.split(' ').take(8).collect();
        let kill = if *under_kill { ", node killed" } else { "" };
        let verb = verb.join(" ");
        self.history.push(format!("{time} {verb}: {code:?} in {took:?}{kill}: {what}"));
    }

    fn tell(&self) {
        eprintln!("item {}: {:?}", self.plan.number, self.plan);
        self.history.iter().for_each(|line| eprintln!("  {line}"));
    }
}

/// See the module.
pub(crate) struct Fleet<'a> {
    home: &'a Home,
    size: Size,
    notes: PathBuf,
    waiting: Mutex<Vec<Item>>,
    under_way: AtomicU64,
    next: AtomicU64,
    draining: AtomicBool,
    failed: AtomicBool,
    pub(crate) tally: Tally,
}

/// Whether an item goes on.
enum Went {
    On,
    Over,
}

impl<'a> Fleet<'a> {
    /// A fleet without items.
    ///
    /// # Errors
    /// When its folder cannot be made.
    pub(crate) fn new(home: &'a Home, size: Size) -> Result<Self, Violation> {
        let notes = home.folder().join("notes");
        std::fs::create_dir_all(&notes).map_err(machine("a folder for notes"))?;
        Ok(Self {
            home,
            size,
            notes,
            waiting: Mutex::default(),
            under_way: AtomicU64::new(0),
            next: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            tally: Tally::default(),
        })
    }

    /// Starts no more items: what runs is brought to its end.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    /// Whether something went wrong, so that nothing else matters.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }

    /// Runs commands until the fleet is drained, beside `beside`, which must drain it.
    ///
    /// # Errors
    /// The first violation.
    pub(crate) fn run(
        &self,
        beside: impl FnOnce() -> Result<(), Violation> + Send,
    ) -> Result<(), Violation> {
        std::thread::scope(|scope| {
            let work = |worker| self.guarded(|| self.work(worker));
            let workers: Vec<_> =
                (0..self.size.workers).map(|worker| scope.spawn(move || work(worker))).collect();
            let besides = self.guarded(beside);
            self.drain();
            let ends = workers.into_iter().map(|worker| worker.join().unwrap_or(Ok(())));
            ends.fold(besides, Result::and)
        })
    }

    fn guarded(&self, act: impl FnOnce() -> Result<(), Violation>) -> Result<(), Violation> {
        act().inspect_err(|_| self.failed.store(true, Ordering::SeqCst))
    }

    fn work(&self, worker: u64) -> Result<(), Violation> {
        let mut random = Random::new(self.size.seed, worker | 1 << 40);
        while !self.has_failed() {
            let Some(mut item) = self.take(&mut random) else {
                if self.draining.load(Ordering::SeqCst) && self.is_empty() {
                    break;
                }
                // tidy: waits because others have every item in hand
                std::thread::sleep(Duration::from_millis(5));
                continue;
            };
            let went = self.act(&mut item, &mut random);
            match went.inspect_err(|_| item.tell())? {
                Went::On => self.waiting().push(item),
                Went::Over => {
                    self.under_way.fetch_sub(1, Ordering::SeqCst);
                }
            }
        }
        Ok(())
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Item>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_empty(&self) -> bool {
        self.under_way.load(Ordering::SeqCst) == 0
    }

    /// A new item while there is room for one, else any that no other command has in hand.
    fn take(&self, random: &mut Random) -> Option<Item> {
        let mut waiting = self.waiting();
        let room = self.under_way.load(Ordering::SeqCst) < self.size.together as u64;
        if room && !self.draining.load(Ordering::SeqCst) {
            self.under_way.fetch_add(1, Ordering::SeqCst);
            let plan = self.next_plan();
            return Some(Item {
                plan,
                job: None,
                ledger: Ledger::default(),
                stop_asked: false,
                history: Vec::new(),
            });
        }
        let last = (waiting.len() as u64).checked_sub(1)?;
        let at = usize::try_from(random.within(0..=last)).ok()?;
        Some(waiting.swap_remove(at))
    }

    fn next_plan(&self) -> Plan {
        loop {
            let number = self.next.fetch_add(1, Ordering::SeqCst);
            let plan = Plan::new(self.size.seed, number, self.size.most_millis);
            // A life that ends with the guardian begins another one, and so on.
            if self.size.killed != Killed::Guardian || plan.lives == 1 {
                return plan;
            }
        }
    }

    fn act(&self, item: &mut Item, random: &mut Random) -> Result<Went, Violation> {
        let Some(job) = item.job else { return self.start(item, random) };
        let whose = Whose { item: item.plan.number, job };
        match random.within(0..=9) {
            0 => self.start(item, random),
            1 if item.plan.end == End::IsStopped => self.stop(item, job),
            1..=6 => self.receive(item, whose, random).map(|_| Went::On),
            _ => self.look(item, whose, random),
        }
    }

    fn run_one(&self, words: &[&str], random: &mut Random) -> Result<Ran, Violation> {
        let is_draining = self.draining.load(Ordering::SeqCst);
        let until = match self.size.killed {
            Killed::Clients(most) if !is_draining && random.once_in(2) => Some(random.millis(most)),
            _ => None,
        };
        let ran = self.home.run_until(words, until)?;
        self.tally.commands.fetch_add(1, Ordering::Relaxed);
        if ran.code.is_none() {
            self.tally.clients_killed.fetch_add(1, Ordering::Relaxed);
        } else if ran.was_cut_off() {
            self.tally.cut_off.fetch_add(1, Ordering::Relaxed);
        }
        Ok(ran)
    }

    /// Starts it, or asks for its key again.
    fn start(&self, item: &mut Item, random: &mut Random) -> Result<Went, Violation> {
        let number = item.plan.number;
        let key = format!("{}-{number}", self.size.seed);
        let mut words = vec!["start", "-q", "--key", &key];
        if item.plan.lives > 1 {
            words.extend(["--restart", "transient", "--intensity", "100/1s"]);
            words.extend(["--restart-delay", "20ms"]);
        }
        words.push("--");
        let process = item.plan.words(&self.notes, self.size.most_millis);
        words.extend(process.iter().map(String::as_str));
        let ran = self.run_one(&words, random)?;
        item.note(&ran, ran.out.trim());
        if ran.was_cut_off() {
            return Ok(Went::On);
        }
        match (ran.code, ran.out.trim().parse::<u64>()) {
            (Some(0), Ok(job)) => {
                if let Some(first) = item.job.filter(|first| *first != job) {
                    return Err(Violation::OtherJob { item: number, first, then: job });
                }
                item.job = Some(job);
                Ok(Went::On)
            }
            _ => Err(ran.refused()),
        }
    }

    fn stop(&self, item: &mut Item, job: u64) -> Result<Went, Violation> {
        item.stop_asked = true;
        let ran = self.home.run(&["stop", &job.to_string(), "--grace", "500ms"])?;
        item.note(&ran, "");
        // 102 and 124: it is stopped, or will be.
        if ran.was_cut_off() || matches!(ran.code, Some(0 | 102 | 124)) {
            return Ok(Went::On);
        }
        Err(ran.refused())
    }

    /// Reads what is there. Returns how the reader ended.
    fn receive(
        &self,
        item: &mut Item,
        whose: Whose,
        random: &mut Random,
    ) -> Result<Reader, Violation> {
        let job = whose.job.to_string();
        let mut words = vec!["receive", "-o", "ndjson", &job];
        if random.once_in(3) {
            words.extend(["--wait", "--timeout", "300ms"]);
        }
        let ran = self.run_one(&words, random)?;
        let reader = if ran.may_come_again() { Reader::CutOff } else { Reader::Confirmed };
        // 100 to 102 say how the job ended, 124 that it did not.
        if reader == Reader::Confirmed && !matches!(ran.code, Some(0 | 100 | 102 | 124)) {
            return Err(ran.refused());
        }
        let mut read = Vec::new();
        // What a killed reader wrote of its last line is no record yet.
        for line in ran.out.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let record: Record = serde_json::from_str(line).map_err(|_| Violation::Answer {
                command: ran.command.clone(),
                said: line.to_owned(),
            })?;
            read.push(record);
        }
        let numbers: Vec<u64> = read.iter().map(|record| record.seq).collect();
        item.note(&ran, &format!("{reader:?} {numbers:?}"));
        item.ledger.note(whose, read, reader)?;
        Ok(reader)
    }

    /// Reads until nothing is left: what a killed reader had in hand may come late.
    fn receive_rest(
        &self,
        item: &mut Item,
        whose: Whose,
        random: &mut Random,
    ) -> Result<(), Violation> {
        let begun = Instant::now();
        loop {
            let reader = self.receive(item, whose, random)?;
            let answer = self.home.json(&["get", &whose.job.to_string()])?;
            if reader == Reader::Confirmed && !check::has_more(&answer) {
                return Ok(());
            }
            if begun.elapsed() > REST_TIME {
                let what = "what a killed reader had in hand";
                return Err(Violation::Vain { what, limit: REST_TIME });
            }
        }
    }

    /// Looks whether it has ended, and checks everything of it if so.
    fn look(&self, item: &mut Item, whose: Whose, random: &mut Random) -> Result<Went, Violation> {
        let job = whose.job.to_string();
        let answer = self.home.json(&["get", &job, "--children"])?;
        let Some(end) = check::end_of(&answer) else { return Ok(Went::On) };
        self.receive_rest(item, whose, random)?;
        let notes = Notes::of(&self.notes, whose.item);
        let ended_with_guardian = self.size.killed == Killed::Guardian && end.is_guardian_lost();
        if ended_with_guardian {
            self.tally.lost.fetch_add(1, Ordering::Relaxed);
            check::lost(item, whose, &notes)?;
        } else {
            check::item(item, whose, &end, &notes)?;
        }
        let mark = item.plan.mark(&self.notes).join(" ") + " ";
        self.home.none_left(LEFT_TIME, |line| line.contains(&mark))?;
        let (records, again) = item.ledger.counts();
        let tally = &self.tally;
        tally.items.fetch_add(1, Ordering::Relaxed);
        tally.starts.fetch_add(notes.starts(), Ordering::Relaxed);
        tally.lines.fetch_add(item.plan.lines() * item.plan.lives, Ordering::Relaxed);
        tally.records.fetch_add(records, Ordering::Relaxed);
        tally.again.fetch_add(again, Ordering::Relaxed);
        Ok(Went::Over)
    }
}
