//! What the commands of a fleet do with an item.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Fleet, Item, Killed, OTHER, Went};
use crate::check::{self, Ended};
use crate::home::Ran;
use crate::item::{End, Notes};
use crate::ledger::{Reader, Whose, records};
use crate::random::Random;
use crate::violation::Violation;

/// How long records may be in the hands of readers that are gone.
const REST_TIME: Duration = Duration::from_secs(300);
/// How long a process may stand still that was told to go on.
const ASTRAY_TIME: Duration = Duration::from_secs(30);
/// How long a process may outlive its job.
const LEFT_TIME: Duration = Duration::from_secs(10);
/// Within how many milliseconds a client is killed that is: one that waits for what comes, and any
/// other.
const KILLED_WITHIN: (u64, u64) = (1_500, 120);

impl Fleet<'_> {
    /// Does something with an item.
    pub(super) fn act(&self, item: &mut Item, random: &mut Random) -> Result<Went, Violation> {
        let Some(job) = item.job else { return self.start(item, random) };
        let whose = Whose { item: item.plan.number, job };
        if item.suspended && (self.is_draining() || random.once_in(4)) {
            return self.move_on(item, job, "resume");
        }
        match random.within(0..=23) {
            0 | 1 => self.start(item, random),
            2 | 3 if item.plan.end == End::IsStopped || self.is_cut_short() => self.stop(item, job),
            4 if !self.is_draining() => self.move_on(item, job, "suspend"),
            2..=15 => self.receive(item, whose, random).map(|_| Went::On),
            _ => self.look(item, whose, random),
        }
    }

    /// Whether items are stopped that would live on for long.
    fn is_cut_short(&self) -> bool {
        self.is_draining() && self.size.running > 0
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// When the next client is killed, if it is.
    fn killed_after(&self, random: &mut Random, within: u64) -> Option<Duration> {
        let once_in = match self.size.killed {
            Killed::Clients => 2,
            Killed::Node | Killed::Either => 8,
            Killed::Guardian => return None,
        };
        (!self.is_draining() && random.once_in(once_in)).then(|| random.millis(within))
    }

    fn run_one(&self, words: &[&str], killed: Option<Duration>) -> Result<Ran, Violation> {
        let ran = self.home.run_until(words, killed)?;
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
        if self.size.killed == Killed::Either {
            words.extend(["--on", OTHER]);
        }
        words.push("--");
        let process = item.plan.words(&self.notes, self.size.most_millis);
        words.extend(process.iter().map(String::as_str));
        let ran = self.run_one(&words, self.killed_after(random, KILLED_WITHIN.1))?;
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

    /// Suspends or resumes it.
    fn move_on(&self, item: &mut Item, job: u64, verb: &str) -> Result<Went, Violation> {
        item.suspended = true;
        let ran = self.home.run(&[verb, &job.to_string()])?;
        item.note(&ran, ran.err.trim());
        // 124: it does not heed it yet.
        if !ran.was_cut_off() && !matches!(ran.code, Some(0 | 124)) {
            return Err(ran.refused());
        }
        if verb == "resume" && ran.code == Some(0) {
            item.suspended = false;
        }
        Ok(Went::On)
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
        let killed = self.killed_after(random, KILLED_WITHIN.0);
        if killed.is_some() {
            words.push("--wait");
        } else if random.once_in(3) {
            words.extend(["--wait", "--timeout", "300ms"]);
        }
        let ran = self.run_one(&words, killed)?;
        let reader = if ran.may_come_again() { Reader::CutOff } else { Reader::Confirmed };
        // 100 to 102 say how the job ended, 124 that it did not, 125 that its node was not reached.
        let is_known = match ran.code {
            Some(125) => self.size.killed == Killed::Either,
            code => matches!(code, Some(0 | 100 | 102 | 124)),
        };
        if reader == Reader::Confirmed && !is_known {
            return Err(ran.refused());
        }
        let read = records(&ran)?;
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
        if item.suspended || !check::stands_still(&answer) {
            item.astray = None;
        } else if item.astray.get_or_insert_with(Instant::now).elapsed() > ASTRAY_TIME {
            return Err(Violation::Suspended { item: whose.item, job: whose.job });
        }
        let children = check::children_over(&answer).unwrap_or_default();
        let end = children.first().and_then(|child| Ended::of(child));
        let Some(end) = end else { return Ok(Went::On) };
        self.receive_rest(item, whose, random)?;
        let notes = Notes::of(&self.notes, whose.item);
        let is_lost = end.is_of("guardian_lost") || end.is_of("start_uncertain");
        if self.size.killed == Killed::Guardian && is_lost {
            self.tally.lost.fetch_add(1, Ordering::Relaxed);
            check::lost(item, whose, &notes)?;
        } else if self.size.killed == Killed::Either && end.is_of("unreachable") {
            self.tally.unreached.fetch_add(1, Ordering::Relaxed);
            check::never_began(item, whose, &notes)?;
        } else {
            check::item(item, whose, &end, &notes)?;
        }
        let mark = item.plan.mark(&self.notes).join(" ") + " ";
        self.home.none_left(LEFT_TIME, |line| line.contains(&mark))?;
        if random.once_in(3) {
            self.remove(item, &job)?;
        }
        let (records, again) = item.ledger.counts();
        let tally = &self.tally;
        tally.items.fetch_add(1, Ordering::Relaxed);
        tally.starts.fetch_add(notes.starts(), Ordering::Relaxed);
        tally.lines.fetch_add(item.plan.lines() * item.plan.lives, Ordering::Relaxed);
        tally.records.fetch_add(records, Ordering::Relaxed);
        tally.again.fetch_add(again, Ordering::Relaxed);
        Ok(Went::Over)
    }

    /// Removes it, and wants it to be gone.
    fn remove(&self, item: &mut Item, job: &str) -> Result<(), Violation> {
        let mut was_cut_off = false;
        loop {
            let ran = self.home.run(&["remove", job])?;
            item.note(&ran, "");
            if !ran.was_cut_off() {
                let is_gone = ran.code == Some(0) || (was_cut_off && ran.code == Some(4));
                return if is_gone { Ok(()) } else { Err(ran.refused()) };
            }
            was_cut_off = true;
        }
    }
}
