//! The same rules over plain lists, each looked up by walking along them.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::strategy::Strategy as Values;
use sortie_model::restart::Strategy;

use super::*;

#[derive(Debug, Clone)]
struct Child {
    restart: RestartType,
    incarnation: u32,
    /// Its present incarnation has not ended.
    runs: bool,
    told: bool,
    /// Nothing may follow.
    barred: bool,
    settled: bool,
    waits_until: Option<Uptime>,
    /// Restarts in a row, and when the present incarnation began.
    row: (u32, Uptime),
}

#[derive(Debug, Clone)]
struct Model {
    spec: RestartSpec,
    children: Vec<Child>,
    restarts: Vec<Uptime>,
    /// Who starts again together, and when at the earliest.
    round: Option<(Vec<u32>, Uptime)>,
    deferred: Vec<u32>,
    /// Whom to stop one by one, once nothing starts any more.
    ending: Option<Vec<u32>>,
    open: bool,
    acts: Vec<Act>,
}

impl Model {
    fn new(spec: RestartSpec) -> Self {
        let (children, restarts, deferred, acts) = Default::default();
        Self { spec, children, restarts, round: None, deferred, ending: None, open: true, acts }
    }

    fn child(&mut self, child: u32) -> &mut Child {
        &mut self.children[child as usize]
    }

    fn add(&mut self, restart: RestartType) {
        let barred = self.ending.is_some();
        self.children.push(Child {
            restart,
            incarnation: 0,
            runs: !barred,
            told: false,
            barred,
            settled: barred,
            waits_until: None,
            row: (0, Duration::ZERO),
        });
    }

    fn end(&mut self, child: u32, incarnation: u32, exit: Exit, now: Uptime) {
        self.timer(now);
        let state = self.child(child);
        if !state.runs || state.incarnation != incarnation {
            return;
        }
        let (told, restart) = (state.told, state.restart);
        (state.runs, state.told) = (false, false);
        let in_round = self.round.as_ref().is_some_and(|(members, _)| members.contains(&child));
        let by_user = exit == Exit::Stopped && !told;
        let asks = match restart {
            Permanent => true,
            Transient => exit == Exit::Failure,
            Temporary => false,
        };
        if self.ending.is_some() || by_user || restart == Temporary {
            self.child(child).barred = true;
        } else if in_round || self.child(child).barred {
            // Its round starts it, or nobody does.
        } else if asks && self.is_stopping() {
            self.deferred.push(child);
        } else if asks {
            self.restart(child, now);
        }
        self.go_on(now);
    }

    fn is_stopping(&self) -> bool {
        let runs = |child: &u32| self.children[*child as usize].runs;
        self.round.as_ref().is_some_and(|(members, _)| members.iter().any(runs))
    }

    fn restart(&mut self, child: u32, now: Uptime) {
        let period = self.spec.intensity.period();
        self.restarts.push(now);
        let counted = self.restarts.iter().filter(|then| now - **then <= period).count();
        if counted > self.spec.intensity.restarts() as usize {
            self.acts.push(GiveUp(child));
            if self.spec.strategy == OneForOne {
                self.acts.push(StopAll);
            }
            self.stop_all(self.spec.strategy.stop_sequence());
            return;
        }
        let mut until = now;
        if let Some(backoff) = self.spec.backoff {
            let row = &mut self.child(child).row;
            if now - row.1 > period {
                row.0 = 0;
            }
            until += backoff.wait(row.0);
            row.0 += 1;
        }
        let first = match self.spec.strategy {
            OneForOne if until > now => {
                self.child(child).waits_until = Some(until);
                return;
            }
            OneForOne => return self.start(child, now),
            OneForAll => 0,
            RestForOne => child,
        };
        let (first, until) = match &self.round {
            Some((members, waits)) => (first.min(members[0]), until.max(*waits)),
            None => (first, until),
        };
        self.round = Some(((first..self.children.len() as u32).collect(), until));
        let (members, _) = self.round.clone().expect("a round");
        self.deferred.retain(|child| !members.contains(child));
    }

    fn start(&mut self, child: u32, now: Uptime) {
        self.acts.push(Start(child));
        let child = self.child(child);
        child.incarnation += 1;
        (child.runs, child.waits_until, child.row.1) = (true, None, now);
    }

    fn stop(&mut self, child: u32) {
        self.child(child).barred = true;
        self.child(child).waits_until = None;
        self.deferred.retain(|other| *other != child);
        self.settle();
    }

    fn stop_all(&mut self, sequence: StopSequence) {
        let all = 0..self.children.len() as u32;
        match (&self.ending, sequence) {
            (Some(_), StopSequence::OneByOne) => return,
            (_, StopSequence::OneByOne) => self.ending = Some(all.rev().collect()),
            (_, StopSequence::AtOnce) => self.ending = Some(Vec::new()),
        }
        self.round = None;
        self.deferred.clear();
        self.children.iter_mut().for_each(|child| child.waits_until = None);
        self.tell_next();
        self.settle();
    }

    /// Tells the last one that runs, unless it or its user knows.
    fn tell_next(&mut self) {
        let list = match (&self.ending, &self.round) {
            (Some(list), _) => list.clone(),
            (None, Some((members, _))) => members.iter().rev().copied().collect(),
            (None, None) => return,
        };
        let running = list.into_iter().find(|child| self.children[*child as usize].runs);
        if let Some(child) = running {
            let state = self.child(child);
            if !state.told && !state.barred {
                state.told = true;
                self.acts.push(Stop(child));
            }
        }
    }

    fn go_on(&mut self, now: Uptime) {
        loop {
            self.tell_next();
            if self.ending.is_some() || self.is_stopping() {
                break;
            }
            match self.round.take() {
                Some((members, until)) if until <= now => {
                    for child in members {
                        // A child that was added while the round waits may have settled.
                        if !self.child(child).barred && !self.child(child).settled {
                            self.start(child, now);
                        }
                    }
                    continue;
                }
                round => self.round = round,
            }
            if self.deferred.is_empty() {
                break;
            }
            let child = self.deferred.remove(0);
            self.restart(child, now);
        }
        self.settle();
    }

    fn timer(&mut self, now: Uptime) {
        let mut due: Vec<(Uptime, u32)> = Vec::new();
        for (child, state) in (0..).zip(&self.children) {
            due.extend(state.waits_until.filter(|until| *until <= now).map(|until| (until, child)));
        }
        due.sort();
        due.into_iter().for_each(|(_, child)| self.start(child, now));
        self.go_on(now);
    }

    /// Whether an incarnation of a child that does not run may follow.
    fn may_follow(&self, child: u32) -> bool {
        let state = &self.children[child as usize];
        if state.barred || self.ending.is_some() {
            return false;
        }
        let in_round =
            |child: u32| self.round.as_ref().is_some_and(|(members, _)| members.contains(&child));
        let is_due = |child: u32| {
            let waits = self.children[child as usize].waits_until.is_some();
            waits || in_round(child) || self.deferred.contains(&child)
        };
        let may_start_others = |other: u32| {
            let state = &self.children[other as usize];
            state.restart != Temporary && !state.barred && (state.runs || is_due(other))
        };
        let others = 0..self.children.len() as u32;
        is_due(child)
            || match self.spec.strategy {
                OneForOne => false,
                OneForAll => self.open || others.clone().any(may_start_others),
                RestForOne => (0..child).any(may_start_others),
            }
    }

    fn settle(&mut self) {
        for child in 0..self.children.len() as u32 {
            let state = &self.children[child as usize];
            if !state.runs && !state.settled && !self.may_follow(child) {
                self.child(child).settled = true;
                self.acts.push(Settle(child));
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Event {
    Ends(Index, Exit),
    /// A child that was told to stop ends, however.
    ToldEnds(Exit),
    /// What was said is said again, perhaps much later and otherwise.
    Again(Index, Exit),
    UserStops(Index),
    UserStopsAll(StopSequence),
    Adds(RestartType),
    Closes,
    Passes(u64),
    IsLate(u64),
}

fn restart_type() -> impl Values<Value = RestartType> {
    select(vec![Permanent, Permanent, Transient, Transient, Temporary])
}

fn exit() -> impl Values<Value = Exit> {
    select(vec![Exit::Failure, Exit::Failure, Exit::Normal, Exit::Stopped])
}

fn event() -> impl Values<Value = Event> {
    let index = any::<Index>;
    prop_oneof![
        12 => (index(), exit()).prop_map(|(child, exit)| Event::Ends(child, exit)),
        12 => exit().prop_map(Event::ToldEnds),
        4 => (index(), exit()).prop_map(|(end, exit)| Event::Again(end, exit)),
        2 => index().prop_map(Event::UserStops),
        1 => select(vec![StopSequence::AtOnce, StopSequence::OneByOne])
            .prop_map(Event::UserStopsAll),
        2 => restart_type().prop_map(Event::Adds),
        1 => Just(Event::Closes),
        6 => (0..4_u64).prop_map(Event::Passes),
        2 => (1..4_u64).prop_map(Event::IsLate),
    ]
}

fn any_spec() -> impl Values<Value = RestartSpec> {
    let backoff = prop::option::of(Just(Backoff::new(SECOND, 4 * SECOND).expect("in bounds")));
    (select(Strategy::ALL.to_vec()), select(vec![0, 1, 3, 50]), backoff).prop_map(
        |(strategy, restarts, backoff)| RestartSpec { backoff, ..spec(strategy, restarts) },
    )
}

/// The machine and the model, told the same things.
struct Both {
    job: Job,
    model: Model,
    told: Vec<ChildEnded>,
}

impl Both {
    /// The children that run, told to stop or not.
    fn running(&self, test: impl Fn(&Child) -> bool) -> Vec<u32> {
        let children = (0..).zip(&self.model.children);
        children.filter(|(_, it)| it.runs && test(it)).map(|(child, _)| child).collect()
    }

    fn ends(&mut self, child: u32, exit: Exit) -> Effects {
        let incarnation = ChildIncarnation(self.model.children[child as usize].incarnation);
        let end = ChildEnded { child: Ordinal(child), incarnation, exit };
        self.told.push(end);
        self.says(end)
    }

    fn says(&mut self, end: ChildEnded) -> Effects {
        let mut effects = Effects::new();
        self.job.supervisor.on_ended(end, self.job.now, &mut effects);
        self.model.end(end.child.0, end.incarnation.0, end.exit, self.job.now);
        effects
    }

    fn happens(&mut self, event: &Event) -> Effects {
        match event {
            Event::Ends(place, exit) => {
                let running = self.running(|_| true);
                let child = (!running.is_empty()).then(|| running[place.index(running.len())]);
                child.map_or_else(Effects::new, |child| self.ends(child, *exit))
            }
            Event::ToldEnds(exit) => {
                let told = self.running(|child| child.told).first().copied();
                told.map_or_else(Effects::new, |child| self.ends(child, *exit))
            }
            Event::Again(place, exit) if !self.told.is_empty() => {
                let end = self.told[place.index(self.told.len())];
                self.says(ChildEnded { exit: *exit, ..end })
            }
            Event::UserStops(place) if !self.model.children.is_empty() => {
                let child = place.index(self.model.children.len()) as u32;
                self.model.stop(child);
                self.job.step(UserStops(child))
            }
            Event::UserStopsAll(sequence) => {
                self.model.stop_all(*sequence);
                self.job.step(UserStopsAll(*sequence))
            }
            Event::Adds(restart) if self.model.open => {
                self.model.add(*restart);
                self.job.step(Adds(*restart))
            }
            Event::Closes => {
                self.model.open = false;
                self.model.settle();
                self.job.step(Closes)
            }
            Event::Passes(seconds) => {
                let effects = self.job.step(Passes(*seconds));
                self.model.timer(self.job.now);
                effects
            }
            Event::IsLate(seconds) => self.job.step(IsLate(*seconds)),
            Event::Again(..) | Event::UserStops(_) | Event::Adds(_) => Effects::new(),
        }
    }

    fn check(&mut self, event: &Event) -> Result<(), TestCaseError> {
        let effects = self.happens(event);
        let split = |acts: Vec<Act>| -> (Vec<Act>, Vec<Act>) {
            acts.into_iter().partition(|act| matches!(act, Settle(_)))
        };
        let (mut settled, done) = split(acts(&effects));
        let (mut expected_settled, expected) = split(std::mem::take(&mut self.model.acts));
        settled.sort();
        expected_settled.sort();
        prop_assert_eq!((done, settled), (expected, expected_settled), "{:?}", event);
        let unsettled = self.model.children.iter().filter(|child| !child.settled).count();
        prop_assert_eq!(self.job.supervisor.unsettled(), unsettled);
        for (child, state) in (0..).zip(&self.model.children) {
            let incarnation = self.job.supervisor.incarnation(Ordinal(child));
            prop_assert_eq!(incarnation, Some(ChildIncarnation(state.incarnation)));
        }
        let told = self.running(|child| child.told && !child.barred).len();
        let is_ending = self.model.ending.is_some();
        prop_assert!(told <= 1 || is_ending, "children of a round are told one by one");
        let waits = self.model.children.iter().filter_map(|child| child.waits_until).min();
        let round = self.model.round.as_ref().filter(|_| !self.model.is_stopping());
        let wake = waits.or(round.map(|(_, until)| *until));
        prop_assert_eq!(self.job.supervisor.next_wake(), wake);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_machine_agrees_with_lists_whatever_ends_when(
        spec in any_spec(),
        children in vec(restart_type(), 0..6),
        events in vec(event(), 0..60),
    ) {
        let job = Job {
            supervisor: Supervisor::new(&spec, StopSequence::AtOnce),
            now: Duration::ZERO,
        };
        let mut both = Both { job, model: Model::new(spec), told: Vec::new() };
        for event in children.into_iter().map(Event::Adds).chain(events) {
            both.check(&event)?;
        }
        // Whatever happened, a stop of all and the ends of what runs settle every child once.
        both.check(&Event::UserStopsAll(StopSequence::AtOnce))?;
        for child in both.running(|_| true) {
            both.ends(child, Exit::Stopped);
        }
        prop_assert_eq!(both.job.supervisor.unsettled(), 0);
        prop_assert_eq!(both.job.supervisor.next_wake(), None);
    }
}
