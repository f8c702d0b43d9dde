use Motion::{Running, Suspended};

use super::ask::running;
use super::*;
use crate::suspend::{Fresh, Orders};

pub(super) fn tell(
    job: &mut ParentJob,
    children: ChildSet,
    motion: Motion,
) -> (Vec<Unmoved>, Effects) {
    let mut effects = Effects::new();
    let unmoved = job.on_move(children, motion, NOW, &mut effects);
    (unmoved, effects)
}

pub(super) fn one(ordinal: u32) -> ChildSet {
    ChildSet::Some(vec![Ordinal(ordinal)])
}

fn moved(job: &mut ParentJob, moved: ChildMotion) -> Effects {
    let mut effects = Effects::new();
    assert_eq!(job.on_moved(node(0), &[moved], NOW, &mut effects), Ok(()));
    effects
}

fn told(children: ChildSet, number: u64, motion: Motion) -> JobEffect {
    JobEffect::Move { node: NodeIndex(0), children, order: MotionOrder { number, motion } }
}

#[track_caller]
fn check(job: &ParentJob, child: State, parent: State) {
    assert_eq!((job.child_state(Ordinal(0)), job.state()), (Some(child), parent));
}

#[test]
fn a_child_is_suspended_once_its_node_says_so_and_runs_once_it_says_that() {
    let mut job = running(1);
    let (unmoved, effects) = tell(&mut job, ChildSet::All, Suspended);
    assert!(unmoved.is_empty() && effects.contains(&told(ChildSet::All, 1, Suspended)));
    check(&job, State::Suspending, State::Suspending);
    let effects = moved(&mut job, moves(0, 1, Suspended));
    assert_eq!(effects.last(), Some(&JobEffect::ParentChanged(State::Suspended)));
    check(&job, State::Suspended, State::Suspended);
    let (unmoved, effects) = tell(&mut job, ChildSet::All, Running);
    assert!(unmoved.is_empty() && effects.contains(&told(one(0), 2, Running)));
    assert_eq!(job.child_state(Ordinal(0)), Some(State::Suspended));
    moved(&mut job, moves(0, 2, Running));
    check(&job, State::Running, State::Running);
}

#[test]
fn a_job_goes_on_with_its_first_child_and_does_what_it_was_told_with_its_last() {
    let mut job = running(2);
    tell(&mut job, ChildSet::All, Suspended);
    assert!(!job.does(&ChildSet::All, Suspended));
    moved(&mut job, moves(0, 1, Suspended));
    moved(&mut job, moves(1, 1, Suspended));
    assert!(job.does(&ChildSet::All, Suspended) && !job.does(&ChildSet::All, Running));
    tell(&mut job, ChildSet::All, Running);
    moved(&mut job, moves(0, 2, Running));
    assert_eq!(job.state(), State::Running);
    assert!(job.does(&one(0), Running) && !job.does(&one(1), Running));
    assert!(!job.does(&ChildSet::All, Running));
    moved(&mut job, moves(1, 2, Running));
    assert!(job.does(&ChildSet::All, Running));
}

#[test]
fn a_job_of_which_nothing_has_begun_does_what_it_was_told_when_its_node_says_so() {
    let (mut job, _) = accept(spec(per_node(1), None), 1);
    tell(&mut job, ChildSet::All, Suspended);
    moved(&mut job, moves(0, 1, Suspended));
    check(&job, State::NotStarted, State::Suspended);
    tell(&mut job, ChildSet::All, Running);
    assert!(!job.does(&ChildSet::All, Running));
    moved(&mut job, moves(0, 2, Running));
    assert!(job.does(&ChildSet::All, Running));
}

#[test]
fn a_late_word_about_an_earlier_order_changes_nothing() {
    let mut job = running(1);
    tell(&mut job, ChildSet::All, Suspended);
    tell(&mut job, ChildSet::All, Running);
    moved(&mut job, moves(0, 1, Suspended));
    check(&job, State::Suspending, State::Running);
    moved(&mut job, moves(0, 2, Running));
    check(&job, State::Running, State::Running);
    moved(&mut job, moves(0, 1, Suspended));
    moved(&mut job, moves(0, 2, Suspended));
    check(&job, State::Running, State::Running);
}

#[test]
fn what_is_queued_starts_only_after_the_resume_and_does_not_keep_the_job_from_being_suspended() {
    let (mut job, _) = accept(spec(per_node(3), Some(1)), 1);
    let mut effects = Effects::new();
    assert_eq!(job.on_report(node(0), &[begin(0)], vec![], &mut effects), Ok(()));
    tell(&mut job, ChildSet::All, Suspended);
    moved(&mut job, moves(0, 1, Suspended));
    check(&job, State::Suspended, State::Suspended);
    let mut effects = Effects::new();
    let ended = vec![end(0, failed())];
    assert_eq!(job.on_report(node(0), &[], ended, &mut effects), Ok(()));
    assert!(started(&effects).is_empty());
    check(&job, State::Failed, State::Suspended);
    let (unmoved, effects) = tell(&mut job, ChildSet::All, Running);
    assert_eq!((unmoved, started(&effects)), (vec![], BTreeMap::from([(0, vec![1])])));
    check(&job, State::Failed, State::Running);
}

#[test]
fn a_child_that_its_node_holds_back_has_not_started_and_counts_as_suspended() {
    let (mut job, _) = accept(spec(per_node(2), None), 1);
    tell(&mut job, ChildSet::All, Suspended);
    check(&job, State::NotStarted, State::Suspending);
    moved(&mut job, moves(0, 1, Suspended));
    moved(&mut job, moves(1, 1, Suspended));
    check(&job, State::NotStarted, State::Suspended);
    job.on_stop(order(one(0)), NOW, &mut Effects::new());
    check(&job, State::NotStarted, State::Suspending);
    tell(&mut job, ChildSet::All, Running);
    moved(&mut job, moves(1, 2, Running));
    let ended = vec![end(0, Verdict::Stopped)];
    assert_eq!(job.on_report(node(0), &[begin(1)], ended, &mut Effects::new()), Ok(()));
    check(&job, State::Stopped, State::Running);
    assert_eq!(job.child_state(Ordinal(1)), Some(State::Running));
}

#[test]
fn a_suspended_child_is_stopped_and_heeds_nothing_else_then() {
    let mut job = running(1);
    tell(&mut job, ChildSet::All, Suspended);
    moved(&mut job, moves(0, 1, Suspended));
    let mut effects = Effects::new();
    job.on_stop(order(ChildSet::All), NOW, &mut effects);
    let how = StopSpec::default();
    let stop = JobEffect::Stop { node: NodeIndex(0), children: ChildSet::All, how };
    assert!(effects.contains(&stop));
    check(&job, State::Stopping, State::Stopping);
    assert_eq!(tell(&mut job, ChildSet::All, Running).0, [Unmoved::Job]);
    assert_eq!(tell(&mut job, one(0), Suspended).0, [Unmoved::Child(Ordinal(0))]);
    moved(&mut job, moves(0, 1, Suspended));
    check(&job, State::Stopping, State::Stopping);
}

#[test]
fn what_does_not_run_or_was_not_suspended_is_said() {
    let (mut job, _) = accept(spec(per_node(2), Some(1)), 1);
    assert_eq!(job.on_report(node(0), &[begin(0)], vec![], &mut Effects::new()), Ok(()));
    assert_eq!(tell(&mut job, one(1), Suspended).0, [Unmoved::Child(Ordinal(1))]);
    assert_eq!(tell(&mut job, one(0), Running).0, [Unmoved::Child(Ordinal(0))]);
    assert_eq!(tell(&mut job, ChildSet::All, Running).0, [Unmoved::Job]);
    assert_eq!(tell(&mut job, one(9), Suspended).0, [Unmoved::Child(Ordinal(9))]);
    let ended = vec![end(0, Verdict::Completed)];
    assert_eq!(job.on_report(node(0), &[], ended, &mut Effects::new()), Ok(()));
    assert_eq!(tell(&mut job, one(0), Suspended).0, [Unmoved::Child(Ordinal(0))]);
    assert_eq!(job.on_report(node(0), &[], vec![end(1, failed())], &mut Effects::new()), Ok(()));
    assert_eq!(tell(&mut job, ChildSet::All, Suspended).0, [Unmoved::Job]);
}

#[test]
fn a_lost_node_ends_its_suspended_children() {
    let mut job = running(1);
    tell(&mut job, ChildSet::All, Suspended);
    moved(&mut job, moves(0, 1, Suspended));
    job.on_lost((node(0), Timestamp(7)), |_| false, NOW, &mut Effects::new());
    let reason = job.child_failure(Ordinal(0)).map(|(reason, _)| reason);
    assert_eq!(reason, Some(Reason::NodeLost { since: Timestamp(7) }));
    assert_eq!(job.state(), State::Failed);
}

/// Two functions on a node of which the first stands still, and the node knows nothing of them
/// any more; the first one's checkpoint is known here.
pub(super) fn parked_elsewhere(
    spec: JobSpec,
    before: impl FnOnce(&mut ParentJob),
) -> (ParentJob, Effects) {
    let (mut job, _) = accept(spec, 1);
    let started = [begin(0), begin(1)];
    assert_eq!(job.on_report(node(0), &started, vec![], &mut Effects::new()), Ok(()));
    tell(&mut job, one(0), Suspended);
    moved(&mut job, moves(0, 1, Suspended));
    before(&mut job);
    let mut effects = Effects::new();
    let said = Unknown { expired: false, later: true, remembers: false };
    job.on_unknown((node(0), said, NOW), |child| child == Ordinal(0), NOW, &mut effects);
    (job, effects)
}

#[test]
fn a_function_elsewhere_that_stood_still_outlives_its_nodes_memory_of_it() {
    let (mut job, effects) = parked_elsewhere(spec(per_node(2), None), |_| {});
    assert!(job.is_parked(Ordinal(0)));
    assert_eq!(job.child_state(Ordinal(0)), Some(State::Suspended));
    assert_eq!(job.child_state(Ordinal(1)), Some(State::Failed));
    assert!(!effects.iter().any(|effect| matches!(effect, JobEffect::StartAgain { .. })));
    // The node is asked for once more, and hears of it if it is there again.
    let (unmoved, effects) = tell(&mut job, one(0), Running);
    assert_eq!(unmoved, []);
    assert!(effects.contains(&JobEffect::Reach(NodeIndex(0))), "{effects:?}");
    let mut effects = Effects::new();
    job.on_reconnected(node(0), NOW, &mut effects);
    let children = vec![Ordinal(0)];
    assert!(effects.contains(&JobEffect::StartAgain { node: NodeIndex(0), children }));
    let life = ChildIncarnation(1);
    assert_eq!(job.again(Ordinal(0), sortie_model::Seq(0)).map(|it| it.incarnation), Some(life));
    assert!(job.is_life_on(Ordinal(0), life, node(0)));
    assert!(!job.is_life_on(Ordinal(0), ChildIncarnation(0), node(0)), "that one is over");
    assert!(
        !job.is_life_on(Ordinal(0), life, node(7)) && !job.is_life_on(Ordinal(9), life, node(0))
    );
}

#[test]
fn one_that_was_to_go_on_when_its_node_forgot_it_does_so_once_that_is_heard() {
    let (mut job, effects) = parked_elsewhere(spec(per_node(2), None), |job| {
        tell(job, one(0), Running);
        assert_eq!(job.child_state(Ordinal(0)), Some(State::Suspended), "its node has not said so");
    });
    assert!(effects.contains(&JobEffect::Reach(NodeIndex(0))), "{effects:?}");
    let mut effects = Effects::new();
    job.on_reconnected(node(0), NOW, &mut effects);
    let children = vec![Ordinal(0)];
    assert!(effects.contains(&JobEffect::StartAgain { node: NodeIndex(0), children }));
    assert!(!job.is_parked(Ordinal(0)));
    assert_eq!(job.child_state(Ordinal(0)), Some(State::NotStarted));
}

#[test]
fn one_of_a_map_whose_inputs_are_gone_has_nothing_to_go_on_with() {
    let (mut job, _) = accept(spec(Fan::Spread, None), 1);
    job.on_items(items(1), EntryId(2), NOW, &mut Effects::new());
    assert_eq!(job.on_report(node(0), &[begin(0)], vec![], &mut Effects::new()), Ok(()));
    tell(&mut job, one(0), Suspended);
    moved(&mut job, moves(0, 1, Suspended));
    job.note_touched();
    let kept = job.kept(Ordinal(0)).expect("a row");
    let mut job = ParentJob::recover(recover::kept_job(&job), vec![(Ordinal(0), kept)]);
    job.on_lost((node(0), NOW), |_| true, NOW, &mut Effects::new());
    assert_eq!(job.child_failure(Ordinal(0)), Some((Reason::InputLost, None)));
}

#[test]
fn an_order_that_was_not_confirmed_is_said_again_to_its_node() {
    let mut job = running(2);
    tell(&mut job, ChildSet::All, Suspended);
    moved(&mut job, moves(0, 1, Suspended));
    let mut effects = Effects::new();
    job.on_reconnected(node(0), NOW, &mut effects);
    assert_eq!(effects, [told(one(1), 1, Suspended)]);
}

#[test]
fn a_report_about_a_child_elsewhere_is_not_believed() {
    let (mut job, _) = accept(spec(per_node(1), None), 2);
    let lie = [moves(1, 1, Suspended)];
    assert_eq!(job.on_moved(node(0), &lie, NOW, &mut Effects::new()), Err(FalseReport));
}

#[derive(Debug, Clone)]
enum Step {
    Tell(Motion),
    /// The body comes to do what it was told, or, by itself, goes on.
    Does(Motion),
    OrderArrives,
    ReportArrives,
    Reconnect,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => motion().prop_map(Step::Tell),
        3 => motion().prop_map(Step::Does),
        3 => Just(Step::OrderArrives),
        3 => Just(Step::ReportArrives),
        1 => Just(Step::Reconnect),
    ]
}

/// A child with its node on one side, its owner on the other, and what is on the way between.
struct Both {
    job: ParentJob,
    child: Orders,
    body: Motion,
    orders: Vec<MotionOrder>,
    /// Everything that the node ever reported; repeated from the start by a reconnection.
    reports: Vec<ChildMotion>,
    arrived: usize,
}

impl Both {
    fn carry(&mut self, effects: Effects) {
        self.orders.extend(effects.into_iter().filter_map(|effect| match effect {
            JobEffect::Move { order, .. } => Some(order),
            _ => None,
        }));
    }

    fn does(&mut self, motion: Motion) {
        self.body = motion;
        if let Some(number) = self.child.on_motion(motion) {
            self.reports.push(moves(0, number, motion));
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Tell(motion) => {
                let (_, effects) = tell(&mut self.job, ChildSet::All, motion);
                self.carry(effects);
            }
            // It never stands still unless it was told to.
            Step::Does(Suspended) if self.child.told() == Running => {}
            Step::Does(motion) => self.does(motion),
            Step::OrderArrives => {
                if !self.orders.is_empty() {
                    let MotionOrder { number, motion } = self.orders.remove(0);
                    if self.child.on_order(number, motion) == Fresh::Yes && motion == self.body {
                        self.does(motion);
                    }
                }
            }
            Step::ReportArrives => {
                if let Some(report) = self.reports.get(self.arrived).copied() {
                    self.arrived += 1;
                    moved(&mut self.job, report);
                }
            }
            Step::Reconnect => {
                // What was on its way is lost; reports come again, some of them twice.
                self.orders.clear();
                self.arrived = self.arrived.saturating_sub(2);
                let mut effects = Effects::new();
                self.job.on_reconnected(node(0), NOW, &mut effects);
                self.carry(effects);
            }
        }
    }
}

proptest! {
    /// Whatever is lost, repeated and late between a child and its owner: in the end the owner
    /// shows what the child does, and that is what it was told last.
    #[test]
    fn owner_and_node_agree_on_what_a_child_does(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut both = Both {
            job: running(1),
            child: Orders::default(),
            body: Running,
            orders: Vec::new(),
            reports: Vec::new(),
            arrived: 0,
        };
        let mut last = Running;
        for step in steps {
            if let Step::Tell(motion) = step {
                last = motion;
            }
            both.take(step);
        }
        both.take(Step::Reconnect);
        while !both.orders.is_empty() {
            both.take(Step::OrderArrives);
        }
        both.does(last);
        while both.arrived < both.reports.len() {
            both.take(Step::ReportArrives);
        }
        let shown = match last {
            Running => State::Running,
            Suspended => State::Suspended,
        };
        prop_assert_eq!(both.job.child_state(Ordinal(0)), Some(shown));
        prop_assert_eq!(both.job.state(), shown);
    }
}
