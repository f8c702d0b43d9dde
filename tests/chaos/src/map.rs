//! The node is killed under jobs of many children, one for each line of a map, of which few run at
//! a time. Every line runs whose client was told that they are stored; of another one's a line may
//! be lost, and says so.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::check::{self, Ended};
use crate::daemon::{kill_again_and_again, nothing_left};
use crate::fleet::Item;
use crate::home::Home;
use crate::item::{Notes, Plan};
use crate::ledger::{Ledger, Reader, Whose, records};
use crate::options::Options;
use crate::random::Random;
use crate::violation::{Violation, machine};

/// Jobs at the same time.
const TOGETHER: usize = 4;
/// Lines of a map at most.
const LINES: u64 = 16;
/// How long a child lives at most, in milliseconds.
const MOST_MILLIS: u64 = 600;
/// How long a job may take at most, kills included.
const JOB_TIME: Duration = Duration::from_secs(600);

#[derive(Debug, Default)]
struct Tally {
    jobs: AtomicU64,
    children: AtomicU64,
    lost: AtomicU64,
}

impl Tally {
    fn sentence(&self) -> String {
        let [jobs, children, lost] =
            [&self.jobs, &self.children, &self.lost].map(|count| count.load(Ordering::Relaxed));
        format!("{jobs} jobs of {children} children, {lost} lines lost with it")
    }
}

/// Runs the scenario. Returns its closing line.
///
/// # Errors
/// The first violation.
pub(crate) fn run(home: &Home, options: &Options) -> Result<String, Violation> {
    let notes = home.folder().join("notes");
    std::fs::create_dir_all(&notes).map_err(machine("a folder for notes"))?;
    let (tally, over) = (Tally::default(), AtomicBool::new(false));
    let is_over = || over.load(Ordering::SeqCst);
    let work = |worker: u64| {
        let mut numbers = (worker..).step_by(TOGETHER);
        let went = numbers.try_for_each(|number| match is_over() {
            true => Err(None),
            false => Batch::new(home, options, number).run(&tally).map_err(Some),
        });
        over.store(true, Ordering::SeqCst);
        went.or_else(|violation| violation.map_or(Ok(()), Err))
    };
    let kills = std::thread::scope(|scope| {
        let workers: Vec<_> =
            (0..TOGETHER as u64).map(|worker| scope.spawn(move || work(worker))).collect();
        let kills = kill_again_and_again(&[home], options, is_over, || tally.sentence());
        over.store(true, Ordering::SeqCst);
        let ends = workers.into_iter().map(|worker| worker.join().unwrap_or(Ok(())));
        ends.fold(kills, |kills, end| end.and(kills))
    })?;
    nothing_left(home)?;
    Ok(format!("{kills} kills of the node, {}", tally.sentence()))
}

/// One job of many children.
struct Batch<'a> {
    home: &'a Home,
    seed: u64,
    /// The numbers of its children's plans.
    numbers: Vec<u64>,
    throttle: u64,
    /// Its client was told that all lines are stored.
    stored: bool,
    ledgers: BTreeMap<u64, Ledger>,
}

impl<'a> Batch<'a> {
    fn new(home: &'a Home, options: &Options, number: u64) -> Self {
        let mut random = Random::new(options.seed, 1 << 45 | number);
        let lines = random.within(1..=LINES);
        let first = number * LINES;
        // Their plans must come to an end by themselves, in one life.
        let plans = (first..first + lines)
            .map(|number| Plan::new(options.seed, number, MOST_MILLIS))
            .filter(Plan::ends_by_itself);
        let numbers = plans.map(|plan| plan.number).collect();
        let throttle = random.within(1..=4);
        Self {
            home,
            seed: options.seed,
            numbers,
            throttle,
            stored: false,
            ledgers: BTreeMap::new(),
        }
    }

    fn run(mut self, tally: &Tally) -> Result<(), Violation> {
        let Some(first) = self.numbers.first().copied() else { return Ok(()) };
        let notes = self.home.folder().join("notes");
        let list = notes.join(format!("{first}.list"));
        let lines: String = self.numbers.iter().map(|number| format!("{number}\n")).collect();
        std::fs::write(&list, lines).map_err(machine("a list"))?;
        let job = self.start(first, &list.display().to_string())?;
        let whose = Whose { item: first, job };
        let children = self.wait(whose)?;
        if self.stored && children.len() != self.numbers.len() {
            let (times, wanted) = (children.len() as u64, self.numbers.len() as u64);
            return Err(Violation::Starts { item: first, job, times, wanted });
        }
        for child in &children {
            let lost = self.check(child, job)?;
            tally.lost.fetch_add(u64::from(lost), Ordering::Relaxed);
        }
        tally.jobs.fetch_add(1, Ordering::Relaxed);
        tally.children.fetch_add(children.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn start(&mut self, first: u64, list: &str) -> Result<u64, Violation> {
        let (key, throttle) = (format!("map-{}-{first}", self.seed), self.throttle.to_string());
        let plan = Plan::new(self.seed, first, MOST_MILLIS);
        let mut process = plan.words(&self.home.folder().join("notes"), MOST_MILLIS);
        if let Some(number) = process.iter_mut().rfind(|word| **word == first.to_string()) {
            "{}".clone_into(number);
        }
        let mut words = vec!["start", "-q", "--key", &key, "-j", &throttle, "--map", list, "--"];
        words.extend(process.iter().map(String::as_str));
        // A key that is used again takes no input.
        self.stored = true;
        loop {
            let ran = self.home.run(&words)?;
            match ran.out.trim().parse::<u64>() {
                _ if ran.was_cut_off() => self.stored = false,
                Ok(job) if ran.code == Some(0) => return Ok(job),
                // The command that was cut off had sent a part of it.
                Ok(job) if ran.err.contains("only a part of its input came") => {
                    self.stored = false;
                    return Ok(job);
                }
                _ => return Err(ran.refused()),
            }
        }
    }

    /// Receives until all children are over and nothing is left. Returns them as they are then.
    fn wait(&mut self, whose: Whose) -> Result<Vec<Child>, Violation> {
        let (begun, job) = (Instant::now(), whose.job.to_string());
        while begun.elapsed() < JOB_TIME {
            let answer = self.home.json(&["get", &job, "--children"])?;
            let over = check::children_over(&answer);
            let of = |entry| Child::of(entry, &self.numbers);
            let over = over.map(|all| all.into_iter().filter_map(of).collect::<Vec<_>>());
            let ran = self.home.run(&["receive", "-o", "ndjson", &job])?;
            let reader = if ran.may_come_again() { Reader::CutOff } else { Reader::Confirmed };
            if reader == Reader::Confirmed && ran.code != Some(0) {
                return Err(ran.refused());
            }
            for record in records(&ran)? {
                let ledger = self.ledgers.entry(record.child).or_default();
                ledger.note(whose, vec![record], reader)?;
            }
            if let (Some(children), Reader::Confirmed) = (over, reader)
                && !check::has_more(&self.home.json(&["get", &job])?)
            {
                return Ok(children);
            }
            // tidy: waits because processes take their time
            std::thread::sleep(Duration::from_millis(100));
        }
        Err(Violation::Vain { what: "the end of a map", limit: JOB_TIME })
    }

    /// Checks a child. Returns whether its line was lost.
    fn check(&mut self, child: &Child, job: u64) -> Result<bool, Violation> {
        let whose = Whose { item: child.number, job };
        let notes = Notes::of(&self.home.folder().join("notes"), child.number);
        let mut item = Item::new(Plan::new(self.seed, child.number, MOST_MILLIS));
        item.ledger = self.ledgers.remove(&child.id).unwrap_or_default();
        if child.ended.is_of("input_lost") && !self.stored {
            check::never_began(&item, whose, &notes)?;
            return Ok(true);
        }
        check::item(&item, whose, &child.ended, &notes)?;
        Ok(false)
    }
}

/// A child of a map that is over.
struct Child {
    id: u64,
    /// The number of its plan.
    number: u64,
    ended: Ended,
}

impl Child {
    /// Children have the places of their lines.
    fn of(entry: &Value, numbers: &[u64]) -> Option<Self> {
        let place = usize::try_from(entry.get("ordinal")?.as_u64()?).ok()?;
        let id = entry.get("id")?.as_u64()?;
        Some(Self { id, number: *numbers.get(place)?, ended: Ended::of(entry)? })
    }
}
