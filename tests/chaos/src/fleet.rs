//! A fleet: the items of a run, which commands start, read and look at in random order, each item
//! by one command at a time.

mod acts;
mod crowd;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::home::{Home, Ran};
use crate::item::Plan;
use crate::ledger::Ledger;
use crate::random::Random;
use crate::violation::{Violation, machine};
use crowd::Crowd;

/// How many items a fleet has, and how they are asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) seed: u64,
    /// Items that run at the same time.
    pub(crate) together: usize,
    /// Processes of items that run at every moment; as it comes if 0.
    pub(crate) running: u64,
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
    /// The node, and few clients.
    Node,
    /// Every second client.
    Clients,
    /// The node's guardian, and now and then the node with it.
    Guardian,
    /// The node, the other one on which everything runs, or both.
    Either,
}

/// The node on which everything runs under [`Killed::Either`].
pub(crate) const OTHER: &str = "b";

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
    /// Items whose node was away for too long to begin with.
    pub(crate) unreached: AtomicU64,
}

/// An item under way.
pub(crate) struct Item {
    pub(crate) plan: Plan,
    pub(crate) job: Option<u64>,
    pub(crate) ledger: Ledger,
    pub(crate) stop_asked: bool,
    /// Whether it may stand still.
    suspended: bool,
    /// Since when it stands still although its resume was confirmed: the order of a suspend that
    /// was cut off may come to it later, and is taken back when its node says so.
    astray: Option<Instant>,
    /// What was asked of it and answered, for who looks for the cause of a violation.
    history: Vec<String>,
}

impl Item {
    pub(crate) fn new(plan: Plan) -> Self {
        let (ledger, history) = (Ledger::default(), Vec::new());
        Self { plan, job: None, ledger, stop_asked: false, suspended: false, astray: None, history }
    }

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
    crowd: Crowd,
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
            crowd: Crowd::default(),
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
            if self.size.running > 0 {
                scope.spawn(|| self.count());
            }
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
        if room && self.has_place() && !self.draining.load(Ordering::SeqCst) {
            self.under_way.fetch_add(1, Ordering::SeqCst);
            let plan = self.next_plan();
            return Some(Item::new(plan));
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
}
