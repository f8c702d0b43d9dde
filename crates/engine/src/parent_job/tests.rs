use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use proptest::prelude::*;
use sortie_model::nodeset::NodeExpr;
use sortie_model::reason::ReachStep;
use sortie_model::spec::{BodySpec, MaxFails, OsBytes, Placement};
use sortie_model::{ChildIncarnation, Motion, QuestionNumber};
use uuid::Uuid;

use sortie_wire::host_proto::{ChildEnd, ChildMotion, ChildOutcome, ChildStart, Verdict};

use super::start::read_ahead;
use super::*;

const NOW: Timestamp = Timestamp(1);

fn node(number: u8) -> NodeId {
    NodeId([number; 16])
}

fn spec(fan: Fan, throttle: Option<u32>) -> JobSpec {
    let words = vec![OsBytes::try_from("true").expect("no NUL")];
    let most = throttle.and_then(NonZeroU32::new);
    JobSpec {
        placement: Placement::Nodes { on: NodeExpr::all(), exclude: None },
        fan,
        throttle: most.map_or(Throttle::Unlimited, Throttle::AtMost),
        ..JobSpec::new("true", BodySpec::Command { words })
    }
}

fn per_node(copies: u32) -> Fan {
    Fan::PerNode { copies: NonZeroU32::new(copies).expect("at least one") }
}

fn accept(spec: JobSpec, nodes: u8) -> (ParentJob, Effects) {
    let nodes =
        (0..nodes).map(|number| (format!("n{number}").parse().expect("a good name"), node(number)));
    let identity = JobIdentity {
        id: EntryId(1),
        instance: JobInstance(Uuid::nil()),
        session: SessionId(1),
        created: NOW,
    };
    let mut effects = Effects::new();
    let job = ParentJob::accept(identity, spec, nodes.collect(), &mut effects);
    (job, effects)
}

/// The ordinals that the effects start, by node.
fn started(effects: &[JobEffect]) -> BTreeMap<u32, Vec<u32>> {
    let mut by_node: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for effect in effects {
        let JobEffect::Start { node, children } = effect else { continue };
        let list = by_node.entry(node.0).or_default();
        match children {
            ChildBatch::Range { first, step, count, .. } => {
                list.extend((0..*count).map(|index| first.0 + index * step));
            }
            ChildBatch::Items(items) => list.extend(items.iter().map(|item| item.ordinal.0)),
            ChildBatch::Again(some) => list.extend(some.iter().map(|again| again.ordinal.0)),
            ChildBatch::From(some) => list.extend(some.iter().map(|from| from.again.ordinal.0)),
        }
    }
    by_node
}

fn end(ordinal: u32, verdict: Verdict) -> ChildEnd {
    ChildEnd {
        incarnation: ChildIncarnation(0),
        ordinal: Ordinal(ordinal),
        end: sortie_model::Seq(0),
        begin_time: Some(NOW),
        end_time: NOW,
        outcome: ChildOutcome::of(verdict),
    }
}

fn begin(ordinal: u32) -> ChildStart {
    ChildStart { ordinal: Ordinal(ordinal), incarnation: ChildIncarnation(0), time: NOW }
}

fn failed() -> Verdict {
    Verdict::Failed(Reason::Exit { code: 1 })
}

fn order(children: ChildSet) -> StopOrder {
    StopOrder { children, how: StopSpec::default(), by: "me".into() }
}

fn moves(ordinal: u32, number: u64, motion: Motion) -> ChildMotion {
    ChildMotion { ordinal: Ordinal(ordinal), incarnation: ChildIncarnation(0), number, motion }
}

fn items(count: u32) -> Vec<Bytes> {
    (0..count).map(|number| Bytes::from(number.to_string())).collect()
}

#[test]
fn a_fan_out_starts_one_child_per_node_and_ends_with_the_last() {
    let (mut job, effects) = accept(spec(per_node(1), None), 3);
    let expected = BTreeMap::from([(0, vec![0]), (1, vec![1]), (2, vec![2])]);
    assert_eq!((started(&effects), job.state()), (expected, State::Running));
    let mut effects = Effects::new();
    for number in 0..3 {
        let verdict = if number == 0 { failed() } else { Verdict::Completed };
        let ended = vec![end(u32::from(number), verdict)];
        assert_eq!(job.on_report(node(number), &[], ended, &mut effects), Ok(()));
    }
    assert_eq!(job.state(), State::Failed);
    assert_eq!(effects.last(), Some(&JobEffect::ParentChanged(State::Failed)));
}

#[test]
fn the_throttle_lets_children_start_in_order_as_slots_free() {
    let (mut job, effects) = accept(spec(per_node(4), Some(2)), 1);
    assert_eq!(started(&effects), BTreeMap::from([(0, vec![0, 1])]));
    let mut effects = Effects::new();
    let ended = vec![end(1, Verdict::Completed)];
    assert_eq!(job.on_report(node(0), &[begin(0)], ended, &mut effects), Ok(()));
    assert_eq!(started(&effects), BTreeMap::from([(0, vec![2])]));
    let mut effects = Effects::new();
    job.set_throttle(Throttle::Unlimited, NOW, &mut effects);
    assert_eq!(started(&effects), BTreeMap::from([(0, vec![3])]));
}

#[test]
fn a_report_about_a_child_that_waits_is_false() {
    let (mut job, _) = accept(spec(per_node(2), Some(1)), 1);
    let mut effects = Effects::new();
    assert!(job.runs_on(Ordinal(0), node(0)) && !job.runs_on(Ordinal(1), node(0)));
    let ended = vec![end(1, Verdict::Completed)];
    assert_eq!(job.on_report(node(0), &[], ended, &mut effects), Err(FalseReport));
    assert_eq!(effects, []);
}

#[test]
fn a_stop_ends_the_queued_at_once_and_tells_the_nodes_of_the_others() {
    let (mut job, _) = accept(spec(per_node(3), Some(1)), 1);
    let mut effects = Effects::new();
    assert_eq!(job.on_report(node(0), &[begin(0)], vec![], &mut effects), Ok(()));
    effects.clear();
    let how = StopSpec::default();
    job.on_stop(order(ChildSet::All), NOW, &mut effects);
    assert_eq!(job.state(), State::Stopping);
    let stop = JobEffect::Stop { node: NodeIndex(0), children: ChildSet::All, how };
    assert!(effects.contains(&stop) && effects.contains(&JobEffect::Close(Ordinal(2))));
    assert!(started(&effects).is_empty());
    let ended = vec![end(0, Verdict::Stopped)];
    assert_eq!(job.on_report(node(0), &[], ended, &mut effects), Ok(()));
    assert_eq!(job.state(), State::Stopped);
}

#[test]
fn an_end_that_won_the_race_against_a_stop_stands() {
    let (mut job, _) = accept(spec(per_node(1), None), 1);
    let mut effects = Effects::new();
    job.on_stop(order(ChildSet::All), NOW, &mut effects);
    let ended = vec![end(0, Verdict::Completed)];
    assert_eq!(job.on_report(node(0), &[], ended, &mut effects), Ok(()));
    assert_eq!(job.state(), State::Completed);
    let late = vec![end(0, failed())];
    assert_eq!(job.on_report(node(0), &[], late, &mut effects), Ok(()));
    assert_eq!(job.state(), State::Completed);
}

#[test]
fn a_stop_of_what_stops_already_keeps_the_grace_that_it_has_unless_it_names_one() {
    let told = |stops: &[Option<u64>]| {
        let (mut job, _) = accept(spec(per_node(1), None), 1);
        let mut effects = Effects::new();
        assert_eq!(job.on_report(node(0), &[begin(0)], vec![], &mut effects), Ok(()));
        let mut last = None;
        for grace in stops {
            let grace = grace.map(Duration::from_secs);
            let how = StopSpec { grace, ..StopSpec::default() };
            let mut effects = Effects::new();
            job.on_stop(StopOrder { how, ..order(ChildSet::All) }, NOW, &mut effects);
            last = effects.iter().find_map(|effect| match effect {
                JobEffect::Stop { how, .. } => Some(how.grace.map(|grace| grace.as_secs())),
                _ => None,
            });
        }
        last.expect("a stop for its node")
    };
    assert_eq!(told(&[None]), None);
    assert_eq!(told(&[Some(60), None]), Some(60));
    assert_eq!(told(&[Some(60), None, None]), Some(60));
    assert_eq!(told(&[Some(60), Some(5)]), Some(5));
    assert_eq!(told(&[None, None]), None);
}

#[test]
fn a_lost_node_ends_its_children_by_what_is_known_of_them() {
    let (mut job, _) = accept(spec(per_node(2), None), 2);
    let mut effects = Effects::new();
    assert_eq!(job.on_report(node(0), &[begin(0)], vec![], &mut effects), Ok(()));
    job.on_lost((node(0), Timestamp(7)), |_| false, NOW, &mut effects);
    let reason = |ordinal| job.child_failure(Ordinal(ordinal)).map(|(reason, _)| reason);
    assert_eq!(reason(0), Some(Reason::NodeLost { since: Timestamp(7) }));
    assert_eq!(reason(2), Some(Reason::StartUncertain));
    assert_eq!((reason(1), reason(3)), (None, None));
}

#[test]
fn a_spread_map_goes_on_without_a_node_that_cannot_be_reached() {
    let (mut job, effects) = accept(spec(Fan::Spread, Some(4)), 2);
    assert!(effects.iter().any(|effect| matches!(effect, JobEffect::Want(_))));
    let mut effects = Effects::new();
    job.on_items(items(4), EntryId(2), NOW, &mut effects);
    assert_eq!(started(&effects), BTreeMap::from([(0, vec![0, 2]), (1, vec![1, 3])]));
    let mut effects = Effects::new();
    job.on_unreachable(node(0), ReachStep::Connect, NOW, &mut effects);
    assert_eq!(started(&effects), BTreeMap::from([(1, vec![0, 2])]));
    job.on_input_end(NOW, &mut effects);
    assert_eq!((job.state(), job.children()), (State::Running, 4));
}

#[test]
fn without_any_reachable_node_every_input_fails() {
    let (mut job, _) = accept(spec(Fan::Spread, Some(4)), 1);
    let mut effects = Effects::new();
    job.on_unreachable(node(0), ReachStep::Resolve, NOW, &mut effects);
    job.on_items(items(2), EntryId(2), NOW, &mut effects);
    job.on_input_end(NOW, &mut effects);
    assert_eq!(job.state(), State::Failed);
    let reason = job.child_failure(Ordinal(1)).map(|(reason, _)| reason);
    assert_eq!(reason, Some(Reason::Unreachable { step: ReachStep::Resolve }));
}

#[test]
fn every_item_runs_on_every_node_with_each() {
    let (mut job, _) = accept(spec(Fan::Each, None), 2);
    let mut effects = Effects::new();
    job.on_items(items(2), EntryId(2), NOW, &mut effects);
    assert_eq!(started(&effects), BTreeMap::from([(0, vec![0, 2]), (1, vec![1, 3])]));
    assert_eq!(job.item(Ordinal(3)), Some((2, &Bytes::from("1"))));
}

#[test]
fn enough_failures_stop_the_rest() {
    let spec = JobSpec { max_fails: MaxFails::Count(0), ..spec(per_node(3), Some(1)) };
    let (mut job, _) = accept(spec, 1);
    let mut effects = Effects::new();
    assert_eq!(job.on_report(node(0), &[], vec![end(0, failed())], &mut effects), Ok(()));
    assert_eq!(job.state(), State::Failed);
    assert_eq!(job.child_state(Ordinal(2)), Some(State::Stopped));
}

#[test]
fn a_report_about_another_nodes_child_is_not_believed() {
    let (mut job, _) = accept(spec(per_node(1), None), 2);
    let mut effects = Effects::new();
    let ended = vec![end(1, Verdict::Completed)];
    assert_eq!(job.on_report(node(0), &[], ended, &mut effects), Err(FalseReport));
    assert_eq!(job.on_report(node(9), &[begin(0)], vec![], &mut effects), Err(FalseReport));
    assert_eq!(job.child_state(Ordinal(1)), Some(State::NotStarted));
}

#[test]
fn after_a_reconnection_what_was_not_confirmed_is_said_again() {
    let (mut job, _) = accept(spec(per_node(3), None), 1);
    let mut effects = Effects::new();
    assert_eq!(job.on_report(node(0), &[begin(0)], vec![], &mut effects), Ok(()));
    let one = ChildSet::Some(vec![Ordinal(2)]);
    job.on_stop(order(one.clone()), NOW, &mut effects);
    effects.clear();
    job.on_reconnected(node(0), NOW, &mut effects);
    assert_eq!(started(&effects), BTreeMap::from([(0, vec![1, 2])]));
    let how = StopSpec::default();
    assert!(effects.contains(&JobEffect::Stop { node: NodeIndex(0), children: one, how }));
}

#[test]
fn an_empty_map_that_is_closed_is_completed() {
    let (mut job, _) = accept(spec(Fan::Spread, None), 1);
    assert_eq!(job.state(), State::Running);
    job.on_input_end(NOW, &mut Effects::new());
    assert_eq!(job.state(), State::Completed);
}

#[derive(Debug, Clone)]
enum Step {
    Items(u32),
    Report(u8, u8),
    Stop,
    StopOne(u32),
    Unreachable(u8),
    Lost(u8),
    Throttle(u32),
    Move(ChildSet, Motion),
    Moved(u8, Motion),
    End,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1_u32..6).prop_map(Step::Items),
        8 => (0_u8..3, any::<u8>()).prop_map(|(node, what)| Step::Report(node, what)),
        1 => Just(Step::Stop),
        2 => (0_u32..12).prop_map(Step::StopOne),
        1 => (0_u8..3).prop_map(Step::Unreachable),
        1 => (0_u8..3).prop_map(Step::Lost),
        1 => (1_u32..8).prop_map(Step::Throttle),
        2 => motion().prop_map(|motion| Step::Move(ChildSet::All, motion)),
        1 => (0_u32..12, motion())
            .prop_map(|(child, motion)| Step::Move(ChildSet::Some(vec![Ordinal(child)]), motion)),
        4 => (0_u8..3, motion()).prop_map(|(node, motion)| Step::Moved(node, motion)),
        2 => Just(Step::End),
    ]
}

fn motion() -> impl Strategy<Value = Motion> {
    prop::sample::select(vec![Motion::Running, Motion::Suspended])
}

proptest! {
    /// Whatever happens in whatever order: the throttle holds, no child starts twice at once, final
    /// states are final, and the parent's state is that of its children.
    #[test]
    fn a_job_keeps_its_rules(
        spread in any::<bool>(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let fan = if spread { Fan::Spread } else { per_node(4) };
        let (mut job, effects) = accept(spec(fan, Some(3)), 3);
        let mut running: BTreeMap<u32, u8> = BTreeMap::new();
        let mut finals: BTreeMap<u32, State> = BTreeMap::new();
        let (mut limit, mut suspended) = (3, false);
        note_starts(&effects, &mut running)?;
        for step in steps {
            let mut effects = Effects::new();
            match step {
                Step::Items(count) if spread => {
                    let first = EntryId(u64::from(job.children()) + 2);
                    job.on_items(items(count), first, NOW, &mut effects);
                }
                Step::Items(_) => {}
                Step::Report(from, what) => {
                    let of_it = running.iter().find(|(_, at)| **at == from).map(|(o, _)| *o);
                    let Some(ordinal) = of_it else { continue };
                    let (starts, ends) = match what % 3 {
                        0 => (vec![begin(ordinal)], vec![]),
                        1 => (vec![], vec![end(ordinal, Verdict::Completed)]),
                        _ => (vec![], vec![end(ordinal, failed())]),
                    };
                    if !ends.is_empty() {
                        running.remove(&ordinal);
                    }
                    prop_assert_eq!(job.on_report(node(from), &starts, ends, &mut effects), Ok(()));
                }
                Step::Stop => job.on_stop(order(ChildSet::All), NOW, &mut effects),
                Step::StopOne(ordinal) => {
                    let one = ChildSet::Some(vec![Ordinal(ordinal)]);
                    job.on_stop(order(one), NOW, &mut effects);
                }
                Step::Unreachable(at) => {
                    // Only what was never confirmed there can be taken back.
                    let confirmed = (0..job.children()).any(|ordinal| {
                        running.get(&ordinal) == Some(&at)
                            && job.child_state(Ordinal(ordinal)) != Some(State::NotStarted)
                    });
                    if confirmed { continue }
                    running.retain(|_, node| *node != at);
                    job.on_unreachable(node(at), ReachStep::Connect, NOW, &mut effects);
                }
                Step::Lost(at) => {
                    running.retain(|_, node| *node != at);
                    job.on_lost((node(at), NOW), |_| false, NOW, &mut effects);
                }
                Step::Throttle(most) => {
                    limit = limit.max(most);
                    let most = NonZeroU32::new(most).map_or(Throttle::Unlimited, Throttle::AtMost);
                    job.set_throttle(most, NOW, &mut effects);
                }
                Step::Move(children, motion) => {
                    if children == ChildSet::All { suspended = motion == Motion::Suspended }
                    job.on_move(children, motion, NOW, &mut effects);
                }
                Step::Moved(from, motion) => all_move(&mut job, &running, from, motion),
                Step::End => job.on_input_end(NOW, &mut effects),
            }
            prop_assert!(!suspended || started(&effects).is_empty(), "a held child starts");
            note_starts(&effects, &mut running)?;
            prop_assert!(running.len() <= limit as usize, "{} run, {limit} may", running.len());
            check_states(&job, &mut finals)?;
        }
    }
}

/// A node says of all its children that they do that, by whatever order it was.
fn all_move(job: &mut ParentJob, running: &BTreeMap<u32, u8>, from: u8, motion: Motion) {
    for (ordinal, _) in running.iter().filter(|(_, at)| **at == from) {
        let moved: Vec<_> = (0..8).map(|number| moves(*ordinal, number, motion)).collect();
        assert_eq!(job.on_moved(node(from), &moved, NOW, &mut Effects::new()), Ok(()));
    }
}

fn note_starts(
    effects: &[JobEffect],
    running: &mut BTreeMap<u32, u8>,
) -> Result<(), TestCaseError> {
    for (node, ordinals) in started(effects) {
        for ordinal in ordinals {
            let before = running.insert(ordinal, node as u8);
            prop_assert_eq!(before, None, "child {} started twice", ordinal);
        }
    }
    Ok(())
}

fn check_states(job: &ParentJob, finals: &mut BTreeMap<u32, State>) -> Result<(), TestCaseError> {
    let mut counts = StateCounts::default();
    for ordinal in 0..job.children() {
        let state = job.child_state(Ordinal(ordinal)).expect("a child");
        counts.add(state);
        if let Some(was) = finals.get(&ordinal) {
            prop_assert_eq!(*was, state, "child {} moved after its end", ordinal);
        }
        if state.is_finished() {
            finals.insert(ordinal, state);
        }
    }
    let told = match (job.told_to_stop(), job.told_to_suspend()) {
        (true, _) => Told::Stop,
        (_, true) => Told::Suspend,
        _ => Told::Nothing,
    };
    prop_assert_eq!(job.state(), parent_state(&counts, job.outlook(), told));
    Ok(())
}

#[test]
fn a_share_of_failures_stops_the_rest_once_it_is_reached() {
    let spec = JobSpec { max_fails: MaxFails::Percent(50), ..spec(per_node(4), Some(1)) };
    let (mut job, _) = accept(spec, 1);
    let mut effects = Effects::new();
    assert_eq!(job.on_report(node(0), &[], vec![end(0, failed())], &mut effects), Ok(()));
    assert_eq!(job.child_state(Ordinal(2)), Some(State::NotStarted));
    assert_eq!(job.on_report(node(0), &[], vec![end(1, failed())], &mut effects), Ok(()));
    assert_eq!(job.child_state(Ordinal(2)), Some(State::Stopped));
}

#[test]
fn longer_items_are_read_less_far_ahead() {
    let check = |item_bytes: usize, ahead: u64| {
        assert_eq!(read_ahead(item_bytes), ahead, "items of {item_bytes} bytes");
    };
    check(0, limits::MAP_READ_AHEAD as u64);
    check(limits::MAP_ITEM_BYTES_FORETOLD, 1_024);
    check(limits::MAP_LINE_BYTES, 16);
    check(usize::MAX, limits::MAP_READ_AHEAD_LEAST as u64);
}

mod ask;
mod astray;
mod parked;
mod quota;
mod recover;
mod silence;
mod supervise;
mod suspend;
mod unkept;
