mod model;

use sortie_model::limits;
use sortie_model::restart::{Backoff, Intensity};

use super::*;
use Act::{GiveUp, Settle, Start, Stop, StopAll};
use RestartType::{Permanent, Temporary, Transient};
use Step::{
    Adds, Begins, Closes, EndsWell, Fails, IsLate, IsStopped, Passes, UserStops, UserStopsAll,
};
use Strategy::{OneForAll, OneForOne, RestForOne};

const SECOND: Duration = Duration::from_secs(1);
const PERIOD: Duration = Duration::from_secs(5);

/// An effect in short: that each start is the next incarnation is checked by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Act {
    Start(u32),
    Stop(u32),
    StopAll,
    GiveUp(u32),
    Settle(u32),
}

/// What happens to the child with that ordinal, or to all.
#[derive(Debug, Clone, Copy)]
enum Step {
    Fails(u32),
    EndsWell(u32),
    IsStopped(u32),
    Begins(u32),
    UserStops(u32),
    UserStopsAll(StopSequence),
    Adds(RestartType),
    Closes,
    /// So many seconds.
    Passes(u64),
    /// The same, and nobody hears of a timer yet.
    IsLate(u64),
}

struct Job {
    supervisor: Supervisor,
    now: Uptime,
}

fn spec(strategy: Strategy, restarts: u32) -> RestartSpec {
    let intensity = Intensity::new(restarts, PERIOD).expect("in bounds");
    RestartSpec { strategy, intensity, ..RestartSpec::default() }
}

fn open_job(spec: RestartSpec, children: &[RestartType]) -> Job {
    let mut supervisor = Supervisor::new(&spec, StopSequence::AtOnce);
    children.iter().for_each(|restart| supervisor.on_added(1, *restart));
    Job { supervisor, now: Duration::ZERO }
}

/// A job to which no more children are added.
fn job_of(spec: RestartSpec, children: &[RestartType]) -> Job {
    let mut job = open_job(spec, children);
    job.check(Closes, &[]);
    job
}

/// The same, with an intensity that is no matter.
fn job(strategy: Strategy, children: &[RestartType]) -> Job {
    job_of(spec(strategy, 100), children)
}

fn with_backoff(strategy: Strategy, children: &[RestartType]) -> Job {
    let backoff = Backoff::new(SECOND, 4 * SECOND).ok();
    job_of(RestartSpec { backoff, ..spec(strategy, 100) }, children)
}

impl Job {
    fn end(&mut self, child: u32, exit: Exit, effects: &mut Effects) {
        let child = Ordinal(child);
        let incarnation = self.supervisor.incarnation(child).expect("a child");
        self.supervisor.on_ended(ChildEnded { child, incarnation, exit }, self.now, effects);
    }

    fn step(&mut self, step: Step) -> Effects {
        let mut effects = Effects::new();
        match step {
            Fails(child) => self.end(child, Exit::Failure, &mut effects),
            EndsWell(child) => self.end(child, Exit::Normal, &mut effects),
            IsStopped(child) => self.end(child, Exit::Stopped, &mut effects),
            Begins(child) => {
                let incarnation = self.supervisor.incarnation(Ordinal(child)).expect("a child");
                self.supervisor.on_begun(Ordinal(child), incarnation, self.now);
            }
            UserStops(child) => self.supervisor.on_stop(Ordinal(child), &mut effects),
            UserStopsAll(sequence) => self.supervisor.on_stop_all(sequence, &mut effects),
            Adds(restart) => self.supervisor.on_added(1, restart),
            Closes => self.supervisor.on_closed(&mut effects),
            Passes(seconds) => {
                self.now += Duration::from_secs(seconds);
                self.supervisor.on_timer(self.now, &mut effects);
            }
            IsLate(seconds) => self.now += Duration::from_secs(seconds),
        }
        effects
    }

    #[track_caller]
    fn check(&mut self, step: Step, expected: &[Act]) {
        let before: Vec<_> =
            (0..8).map(|child| self.supervisor.incarnation(Ordinal(child))).collect();
        let effects = self.step(step);
        for effect in &effects {
            let RestartEffect::Start { child, incarnation } = effect else { continue };
            let before = before[child.0 as usize].expect("a child");
            assert_eq!(*incarnation, before.next(), "{step:?}");
        }
        assert_eq!(acts(&effects), expected, "{step:?}");
    }
}

fn acts(effects: &[RestartEffect]) -> Vec<Act> {
    let act = |effect: &RestartEffect| match *effect {
        RestartEffect::Start { child, .. } => Start(child.0),
        RestartEffect::Stop(child) => Stop(child.0),
        RestartEffect::StopAll => StopAll,
        RestartEffect::GiveUp { child, .. } => GiveUp(child.0),
        RestartEffect::Settle(child) => Settle(child.0),
    };
    effects.iter().map(act).collect()
}

#[test]
fn the_restart_type_says_after_which_ends_a_child_starts_again() {
    for (restart, after_failure, after_success) in [
        (Permanent, Start(0), Start(0)),
        (Transient, Start(0), Settle(0)),
        (Temporary, Settle(0), Settle(0)),
    ] {
        job(OneForOne, &[restart; 2]).check(Fails(0), &[after_failure]);
        job(OneForOne, &[restart; 2]).check(EndsWell(0), &[after_success]);
        job(OneForOne, &[restart; 2]).check(IsStopped(0), &[Settle(0)]);
    }
}

#[test]
fn one_for_all_stops_the_others_from_the_last_on_and_starts_all_in_order() {
    let mut job = job(OneForAll, &[Permanent; 4]);
    job.check(Fails(1), &[Stop(3)]);
    job.check(IsStopped(3), &[Stop(2)]);
    job.check(EndsWell(2), &[Stop(0)]);
    job.check(Fails(0), &[Start(0), Start(1), Start(2), Start(3)]);
}

#[test]
fn rest_for_one_takes_along_what_comes_after_the_child() {
    let mut job = job(RestForOne, &[Permanent; 4]);
    job.check(Fails(1), &[Stop(3)]);
    job.check(IsStopped(3), &[Stop(2)]);
    job.check(IsStopped(2), &[Start(1), Start(2), Start(3)]);
    job.check(Fails(3), &[Start(3)]);
}

#[test]
fn what_ends_while_siblings_are_stopped_belongs_to_the_same_restart() {
    let mut job = job_of(spec(OneForAll, 1), &[Permanent; 4]);
    job.check(Fails(3), &[Stop(2)]);
    job.check(Fails(0), &[]);
    job.check(EndsWell(1), &[]);
    job.check(Fails(2), &[Start(0), Start(1), Start(2), Start(3)]);
}

#[test]
fn a_child_before_the_round_is_judged_after_it() {
    let mut job = job_of(spec(RestForOne, 2), &[Permanent, Permanent, Permanent]);
    job.check(Fails(1), &[Stop(2)]);
    job.check(Fails(0), &[]);
    job.check(IsStopped(2), &[Start(1), Start(2), Stop(2)]);
    job.check(IsStopped(2), &[Stop(1)]);
    job.check(IsStopped(1), &[Start(0), Start(1), Start(2)]);
}

#[test]
fn a_temporary_child_that_is_stopped_for_a_sibling_does_not_come_back() {
    let mut job = job(OneForAll, &[Temporary, Permanent, Temporary]);
    job.check(Fails(1), &[Stop(2)]);
    job.check(IsStopped(2), &[Settle(2), Stop(0)]);
    job.check(Fails(0), &[Settle(0), Start(1)]);
    job.check(Fails(1), &[Start(1)]);
}

#[test]
fn a_transient_child_that_ended_well_starts_again_with_a_sibling() {
    let mut job = job(RestForOne, &[Permanent, Transient, Transient]);
    job.check(EndsWell(1), &[]);
    job.check(Fails(2), &[Start(2)]);
    job.check(Fails(0), &[Stop(2)]);
    job.check(IsStopped(2), &[Start(0), Start(1), Start(2)]);
}

#[test]
fn a_child_settles_when_no_sibling_can_start_it_again() {
    let mut job = job(OneForAll, &[Transient, Transient, Temporary, Permanent]);
    job.check(EndsWell(0), &[]);
    job.check(EndsWell(1), &[]);
    job.check(UserStops(3), &[Settle(0), Settle(1)]);
    job.check(Fails(2), &[Settle(2)]);
    job.check(IsStopped(3), &[Settle(3)]);
    assert_eq!(job.supervisor.unsettled(), 0);
}

#[test]
fn under_rest_for_one_only_earlier_children_hold_a_child_back() {
    let mut job = job(RestForOne, &[Transient, Transient, Transient, Permanent]);
    job.check(EndsWell(1), &[]);
    job.check(EndsWell(2), &[]);
    job.check(EndsWell(0), &[Settle(0), Settle(1), Settle(2)]);
    job.check(Fails(3), &[Start(3)]);
}

#[test]
fn a_child_that_may_still_be_added_holds_its_siblings_back_under_one_for_all() {
    let mut job = open_job(spec(OneForAll, 9), &[Transient]);
    job.check(EndsWell(0), &[]);
    job.check(Adds(Transient), &[]);
    job.check(Fails(1), &[Start(0), Start(1)]);
    job.check(EndsWell(1), &[]);
    job.check(EndsWell(0), &[]);
    job.check(Closes, &[Settle(0), Settle(1)]);
}

#[test]
fn a_child_that_is_added_during_a_round_runs_on() {
    let mut job = open_job(spec(OneForAll, 9), &[Permanent, Permanent]);
    job.check(Fails(0), &[Stop(1)]);
    job.check(Adds(Permanent), &[]);
    job.check(IsStopped(1), &[Start(0), Start(1)]);
    job.check(Fails(1), &[Stop(2)]);
}

#[test]
fn a_child_that_its_user_stopped_stays_away() {
    let mut running = job(OneForAll, &[Permanent; 3]);
    running.check(UserStops(1), &[]);
    running.check(IsStopped(1), &[Settle(1)]);
    running.check(Fails(0), &[Stop(2)]);
    running.check(UserStops(2), &[]);
    running.check(IsStopped(2), &[Settle(2), Start(0)]);
    running.check(UserStops(2), &[]);

    let mut ended = job(OneForAll, &[Permanent, Transient, Permanent]);
    ended.check(EndsWell(1), &[]);
    ended.check(Fails(0), &[Stop(2)]);
    ended.check(UserStops(1), &[Settle(1)]);
    ended.check(UserStops(0), &[Settle(0)]);
    ended.check(IsStopped(2), &[Start(2)]);
}

#[test]
fn a_round_waits_also_for_a_child_that_its_user_stops() {
    let mut job = job(OneForAll, &[Permanent; 3]);
    job.check(UserStops(2), &[]);
    job.check(Fails(0), &[]);
    job.check(IsStopped(2), &[Settle(2), Stop(1)]);
    job.check(IsStopped(1), &[Start(0), Start(1)]);
}

#[test]
fn one_restart_too_many_within_the_period_gives_up() {
    let mut job = job_of(spec(OneForOne, 2), &[Permanent, Transient, Temporary]);
    job.check(Fails(0), &[Start(0)]);
    job.check(Fails(1), &[Start(1)]);
    job.check(Passes(6), &[]);
    job.check(EndsWell(0), &[Start(0)]);
    job.check(Passes(3), &[]);
    job.check(Fails(0), &[Start(0)]);
    let effects = job.step(Fails(1));
    assert_eq!(acts(&effects), [GiveUp(1), Settle(1), StopAll]);
    let gave_up = RestartEffect::GiveUp { child: Ordinal(1), restarts: 2, period: PERIOD };
    assert_eq!(effects.first(), Some(&gave_up));
    job.check(Fails(0), &[Settle(0)]);
    job.check(EndsWell(2), &[Settle(2)]);
    assert_eq!(job.supervisor.unsettled(), 0);
}

#[test]
fn who_gives_up_stops_the_rest_in_the_order_of_the_strategy() {
    let mut ended = job_of(spec(RestForOne, 0), &[Permanent; 4]);
    ended.check(Fails(1), &[GiveUp(1), Settle(1), Stop(3)]);
    ended.check(Fails(0), &[Settle(0)]);
    ended.check(IsStopped(3), &[Settle(3), Stop(2)]);
    ended.check(IsStopped(2), &[Settle(2)]);

    let mut ordered = Supervisor::new(&spec(OneForOne, 0), StopSequence::OneByOne);
    ordered.on_added(3, Permanent);
    let mut ordered = Job { supervisor: ordered, now: Duration::ZERO };
    ordered.check(Fails(2), &[GiveUp(2), Settle(2), Stop(1)]);
    ordered.check(IsStopped(1), &[Settle(1), Stop(0)]);
}

#[test]
fn giving_up_after_a_round_settles_what_was_to_be_judged() {
    let mut job = job_of(spec(RestForOne, 1), &[Permanent, Permanent, Permanent, Transient]);
    job.check(EndsWell(3), &[]);
    job.check(Fails(2), &[Start(2), Start(3)]);
    job.check(Passes(6), &[]);
    job.check(Fails(2), &[Stop(3)]);
    job.check(Fails(1), &[]);
    job.check(Fails(0), &[]);
    job.check(IsStopped(3), &[Start(2), Start(3), GiveUp(1), Settle(1), Settle(0), Stop(3)]);
}

#[test]
fn a_job_that_its_user_stops_starts_nothing_any_more() {
    let mut ordered = job(OneForAll, &[Permanent; 4]);
    ordered.check(Fails(3), &[Stop(2)]);
    ordered.check(UserStopsAll(StopSequence::OneByOne), &[Settle(3)]);
    ordered.check(Fails(1), &[Settle(1)]);
    ordered.check(IsStopped(2), &[Settle(2), Stop(0)]);
    ordered.check(IsStopped(0), &[Settle(0)]);

    let mut hurried = open_job(spec(OneForAll, 9), &[Permanent; 3]);
    hurried.check(UserStopsAll(StopSequence::OneByOne), &[Stop(2)]);
    hurried.check(UserStopsAll(StopSequence::AtOnce), &[]);
    hurried.check(IsStopped(2), &[Settle(2)]);
    hurried.check(Adds(Permanent), &[]);
    hurried.check(Fails(0), &[Settle(0)]);
    assert_eq!(hurried.supervisor.unsettled(), 1);
}

#[test]
fn only_the_first_word_about_the_present_incarnation_counts() {
    let mut job = job(OneForAll, &[Permanent, Transient]);
    let end = |incarnation| ChildEnded {
        child: Ordinal(0),
        incarnation: ChildIncarnation(incarnation),
        exit: Exit::Failure,
    };
    let mut effects = Effects::new();
    job.supervisor.on_ended(end(1), job.now, &mut effects);
    assert_eq!(effects, []);
    job.check(EndsWell(1), &[]);
    job.check(Fails(1), &[]);
    job.check(Fails(0), &[Start(0), Start(1)]);
    job.supervisor.on_ended(end(0), job.now, &mut effects);
    job.supervisor.on_ended(ChildEnded { child: Ordinal(9), ..end(0) }, job.now, &mut effects);
    assert_eq!(effects, []);
}

#[test]
fn a_backoff_grows_with_each_restart_in_a_row_of_the_same_child() {
    let mut job = with_backoff(OneForOne, &[Permanent; 2]);
    job.check(Fails(0), &[]);
    assert_eq!(job.supervisor.next_wake(), Some(SECOND));
    job.check(Passes(1), &[Start(0)]);
    job.check(Fails(0), &[]);
    job.check(Fails(1), &[]);
    job.check(Passes(1), &[Start(1)]);
    job.check(Passes(1), &[Start(0)]);
    assert_eq!(job.supervisor.next_wake(), None);
}

#[test]
fn an_incarnation_that_lived_longer_than_the_period_ends_the_row() {
    let mut job = with_backoff(OneForOne, &[Permanent]);
    job.check(Fails(0), &[]);
    job.check(Passes(1), &[Start(0)]);
    job.check(Passes(4), &[]);
    job.check(Begins(0), &[]);
    job.check(Passes(5), &[]);
    job.check(Fails(0), &[]);
    job.check(Passes(2), &[Start(0)]);
    job.check(Passes(6), &[]);
    job.check(Fails(0), &[]);
    job.check(Passes(1), &[Start(0)]);
}

#[test]
fn a_child_that_waits_and_is_stopped_never_starts() {
    let mut waiting = with_backoff(OneForOne, &[Permanent; 2]);
    waiting.check(Fails(0), &[]);
    waiting.check(UserStops(0), &[Settle(0)]);
    assert_eq!(waiting.supervisor.next_wake(), None);
    waiting.check(Fails(1), &[]);
    waiting.check(UserStopsAll(StopSequence::AtOnce), &[Settle(1)]);
    waiting.check(Passes(9), &[]);
}

#[test]
fn a_round_waits_for_the_child_that_asked_and_takes_others_along() {
    let mut job = with_backoff(RestForOne, &[Permanent; 4]);
    job.check(Fails(2), &[Stop(3)]);
    assert_eq!(job.supervisor.next_wake(), None);
    job.check(IsStopped(3), &[]);
    assert_eq!(job.supervisor.next_wake(), Some(SECOND));
    job.check(Fails(0), &[Stop(1)]);
    job.check(Passes(1), &[]);
    job.check(IsStopped(1), &[Start(0), Start(1), Start(2), Start(3)]);
}

#[test]
fn an_end_that_is_heard_before_the_timer_of_a_round_does_not_belong_to_it() {
    let mut job = with_backoff(RestForOne, &[Permanent; 3]);
    job.check(Fails(1), &[Stop(2)]);
    job.check(IsStopped(2), &[]);
    job.check(IsLate(1), &[]);
    job.check(Fails(0), &[Start(1), Start(2), Stop(2)]);
    job.check(IsStopped(2), &[Stop(1)]);
    job.check(IsStopped(1), &[]);
    job.check(Passes(1), &[Start(0), Start(1), Start(2)]);
}

#[test]
fn a_hundred_thousand_children_start_again_one_by_one() {
    let many = limits::RESTARTS_MOST;
    let mut supervisor = Supervisor::new(&spec(OneForOne, many), StopSequence::AtOnce);
    supervisor.on_added(many, Permanent);
    let mut effects = Effects::new();
    for child in (0..many).map(Ordinal) {
        let end = ChildEnded { child, incarnation: ChildIncarnation(0), exit: Exit::Failure };
        supervisor.on_ended(end, SECOND, &mut effects);
        let incarnation = ChildIncarnation(1);
        assert_eq!(effects.drain(..).as_slice(), [RestartEffect::Start { child, incarnation }]);
    }
}
