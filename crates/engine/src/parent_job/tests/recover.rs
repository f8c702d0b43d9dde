//! A job that outlived its node.

use sortie_model::restart::{Intensity, RestartType};

use super::*;

/// What is kept of a job, as its node keeps it.
#[derive(Debug, Default)]
pub(super) struct Kept(pub(super) BTreeMap<Ordinal, KeptChild>);

impl Kept {
    pub(super) fn take(&mut self, job: &mut ParentJob) {
        for ordinal in job.take_touched() {
            self.0.extend(job.kept(ordinal).map(|child| (ordinal, child)));
        }
    }
}

pub(super) fn kept_job(job: &ParentJob) -> KeptJob {
    KeptJob {
        identity: job.identity().clone(),
        spec: job.spec().clone(),
        nodes: job.nodes().map(|(id, name)| (name.clone(), id)).collect(),
        told: job.told(),
        stop: job.any_stop().cloned(),
        throttle: None,
        begin: job.begin_time(),
        end: job.end_time(),
        restarts: job.restarts(),
        items: KeptItems::None,
    }
}

/// The job's next life.
pub(super) fn back(job: &ParentJob, kept: &Kept) -> ParentJob {
    let children = kept.0.iter().map(|(ordinal, child)| (*ordinal, child.clone()));
    ParentJob::recover(kept_job(job), children.collect())
}

pub(super) fn states(job: &ParentJob) -> Vec<State> {
    (0..job.children()).filter_map(|child| job.child_state(Ordinal(child))).collect()
}

pub(super) fn begun(spec: JobSpec) -> (ParentJob, Kept) {
    let (mut job, _) = accept(spec, 1);
    job.note_touched();
    let mut kept = Kept::default();
    for child in 0..job.children() {
        kept.0.extend(job.kept(Ordinal(child)).map(|row| (Ordinal(child), row)));
    }
    (job, kept)
}

/// The child stands still, as that order said.
pub(super) fn still(child: u32, number: u64) -> ChildMotion {
    let (ordinal, incarnation) = (Ordinal(child), ChildIncarnation(0));
    ChildMotion { ordinal, incarnation, number, motion: Motion::Suspended }
}

/// The number of the last order to stand still.
pub(super) fn last_order(effects: &Effects) -> u64 {
    let orders = effects.iter().filter_map(|effect| match effect {
        JobEffect::Move { order, .. } => Some(order.number),
        _ => None,
    });
    orders.max().unwrap_or(0)
}

#[test]
fn what_waits_for_its_turn_and_was_told_to_stop_never_begins() {
    let (job, mut kept) = begun(spec(per_node(2), Some(1)));
    kept.0.get_mut(&Ordinal(1)).expect("it is kept").told_to_stop = true;
    let mut job = back(&job, &kept);
    let mut effects = Effects::new();
    job.on_recovered(node(0), |_, _| Found::NeverBegan, NOW, &mut effects);
    assert_eq!(states(&job), [State::NotStarted, State::Stopped]);
    assert_eq!(started(&effects), BTreeMap::from([(0, vec![0])]));
}

#[test]
fn what_was_found_runs_on_what_never_began_waits_again_and_the_rest_has_failed() {
    let (mut job, mut kept) = begun(spec(per_node(5), Some(4)));
    let mut effects = Effects::new();
    job.on_report(node(0), &[begin(0), begin(1)], vec![], &mut effects).expect("true");
    kept.take(&mut job);
    let mut job = back(&job, &kept);
    let found = |child: Ordinal, _| match child.0 {
        0 | 2 => Found::Alive,
        3 => Found::NeverBegan,
        _ => Found::Gone,
    };
    let mut effects = Effects::new();
    job.on_recovered(node(0), found, NOW, &mut effects);
    use State::{Failed, NotStarted, Running};
    assert_eq!(states(&job), [Running, Failed, NotStarted, NotStarted, NotStarted]);
    let why = job.child_failure(Ordinal(1)).map(|(reason, _)| reason);
    assert_eq!(why, Some(Reason::NodeLost { since: NOW }));
    // The one that was to run before goes first.
    assert_eq!(started(&effects), BTreeMap::from([(0, vec![3, 4])]));
    assert_eq!(job.state(), Running);
}

#[test]
fn orders_of_a_next_life_are_above_those_that_its_nodes_remember() {
    let (mut job, mut kept) = begun(spec(per_node(1), None));
    let mut effects = Effects::new();
    job.on_report(node(0), &[begin(0)], vec![], &mut effects).expect("true");
    for motion in [Motion::Suspended, Motion::Running, Motion::Suspended] {
        job.on_move(ChildSet::All, motion, NOW, &mut effects);
    }
    let before = last_order(&effects);
    kept.take(&mut job);
    let (mut job, mut effects) = (back(&job, &kept), Effects::new());
    job.on_recovered(node(0), |_, _| Found::Alive, Timestamp(1_000), &mut effects);
    let told_again = last_order(&effects);
    job.on_move(ChildSet::All, Motion::Running, Timestamp(1_000), &mut effects);
    assert!(before < told_again && told_again < last_order(&effects), "{effects:?}");
}

fn notes(job: &ParentJob, child: u32) -> Vec<String> {
    job.child_view(Ordinal(child), MailboxFacts::default())
        .map(|view| view.notes)
        .unwrap_or_default()
}

#[test]
fn what_outlived_a_daemon_says_so_until_its_next_life() {
    let (later, mut effects) = (Timestamp(9), Effects::new());
    let mut spec = spec(per_node(1), None);
    spec.restart.restart = RestartType::Permanent;
    let (mut job, _) = accept(spec, 2);
    job.note_touched();
    let mut kept = Kept::default();
    job.on_report(node(0), &[begin(0)], vec![], &mut effects).expect("true");
    job.on_report(node(1), &[begin(1)], vec![], &mut effects).expect("true");
    kept.take(&mut job);
    assert!(notes(&job, 0).is_empty());
    let mut job = back(&job, &kept);
    job.on_recovered(node(0), |_, _| Found::Alive, NOW, &mut effects);
    let said = [format!("it outlived a daemon, and was taken over by the next at {NOW}")];
    assert_eq!((notes(&job, 0), notes(&job, 1)), (said.to_vec(), Vec::new()));
    job.on_adopted((node(1), Memory::Whole), later, &mut Effects::new());
    let also = [format!("it outlived a daemon, and was taken over by the next at {later}")];
    assert_eq!((notes(&job, 0), notes(&job, 1)), (said.to_vec(), also.to_vec()));
    job.on_report(node(0), &[], vec![end(0, failed())], &mut effects).expect("true");
    job.on_wake(later, &mut effects);
    assert_eq!((notes(&job, 0), notes(&job, 1)), (Vec::new(), also.to_vec()));
    // One that is about to begin there did not outlive anything, though one before it ran.
    job.on_adopted((node(0), Memory::Whole), later, &mut Effects::new());
    assert_eq!((job.child_state(Ordinal(0)), notes(&job, 0)), (Some(State::NotStarted), vec![]));
}

#[test]
fn a_start_of_which_nobody_knows_is_uncertain_and_is_never_made_twice() {
    let (job, kept) = begun(spec(per_node(2), Some(1)));
    let mut job = back(&job, &kept);
    let mut effects = Effects::new();
    job.on_recovered(node(0), |_, _| Found::Gone, NOW, &mut effects);
    assert_eq!(job.child_failure(Ordinal(0)), Some((Reason::StartUncertain, None)));
    assert_eq!(started(&effects), BTreeMap::from([(0, vec![1])]));
}

#[test]
fn what_was_told_to_stop_and_is_gone_was_stopped_and_nothing_starts() {
    let (mut job, mut kept) = begun(spec(per_node(3), Some(1)));
    let mut effects = Effects::new();
    job.on_report(node(0), &[begin(0)], vec![], &mut effects).expect("true");
    job.on_stop(order(ChildSet::All), NOW, &mut effects);
    kept.take(&mut job);
    let mut job = back(&job, &kept);
    effects.clear();
    job.on_recovered(node(0), |_, _| Found::Gone, NOW, &mut effects);
    assert_eq!((states(&job), job.state()), (vec![State::Stopped; 3], State::Stopped));
    assert_eq!(started(&effects), BTreeMap::new());
}

#[test]
fn what_was_told_to_stop_and_is_found_is_told_so_again() {
    let (mut job, mut kept) = begun(spec(per_node(1), None));
    let mut effects = Effects::new();
    job.on_report(node(0), &[begin(0)], vec![], &mut effects).expect("true");
    job.on_stop(order(ChildSet::All), NOW, &mut effects);
    kept.take(&mut job);
    let mut job = back(&job, &kept);
    effects.clear();
    job.on_recovered(node(0), |_, _| Found::Alive, NOW, &mut effects);
    assert_eq!(job.state(), State::Stopping);
    assert!(effects.iter().any(|effect| matches!(effect, JobEffect::Stop { .. })));
    assert_eq!(job.stop().map(|(_, by)| by), Some("me"));
}

#[test]
fn how_it_was_told_to_stop_is_told_again_as_it_was() {
    for children in [ChildSet::All, ChildSet::Some(vec![Ordinal(0)])] {
        let (mut job, mut kept) = begun(spec(per_node(1), None));
        let mut effects = Effects::new();
        job.on_report(node(0), &[begin(0)], vec![], &mut effects).expect("true");
        let told = StopSpec { signal: 2, grace: Some(Duration::from_secs(300)) };
        job.on_stop(StopOrder { how: told, ..order(children) }, NOW, &mut effects);
        kept.take(&mut job);
        let mut job = back(&job, &kept);
        effects.clear();
        job.on_recovered(node(0), |_, _| Found::Alive, NOW, &mut effects);
        let stops = effects.iter().filter_map(|effect| match effect {
            JobEffect::Stop { how, .. } => Some(*how),
            _ => None,
        });
        assert!(stops.into_iter().all(|how| how == told), "{effects:?}");
        assert!(effects.iter().any(|effect| matches!(effect, JobEffect::Stop { .. })));
    }
}

#[test]
fn what_stands_still_is_told_so_again_and_what_waits_in_a_suspended_job_stays_there() {
    let (mut job, mut kept) = begun(spec(per_node(3), Some(1)));
    let mut effects = Effects::new();
    job.on_report(node(0), &[begin(0)], vec![], &mut effects).expect("true");
    job.on_move(ChildSet::All, Motion::Suspended, NOW, &mut effects);
    job.on_moved(node(0), &[still(0, 1)], NOW, &mut effects).expect("true");
    kept.take(&mut job);
    let mut job = back(&job, &kept);
    effects.clear();
    let found = |child: Ordinal, _| if child.0 == 0 { Found::Alive } else { Found::NeverBegan };
    job.on_recovered(node(0), found, NOW, &mut effects);
    use State::{NotStarted, Suspended};
    assert_eq!((states(&job), job.state()), (vec![Suspended, NotStarted, NotStarted], Suspended));
    assert_eq!(started(&effects), BTreeMap::new());
    let again = effects.iter().any(|effect| match effect {
        JobEffect::Move { children, order, .. } => {
            *children == ChildSet::Some(vec![Ordinal(0)]) && order.motion == Motion::Suspended
        }
        _ => false,
    });
    assert!(again, "{effects:?}");
    job.on_move(ChildSet::All, Motion::Running, NOW, &mut effects);
    assert_eq!((states(&job)[0], job.state()), (Suspended, State::Running), "told, not done yet");
}

/// A job with as many functions, of which the first stands still at its checkpoint, in its next
/// life: the others run, and are gone.
fn parked(spec: JobSpec) -> (ParentJob, Kept) {
    let (mut job, mut kept) = begun(spec);
    let mut effects = Effects::new();
    job.on_report(node(0), &[begin(0), begin(1)], vec![], &mut effects).expect("true");
    let none = job.on_move(ChildSet::Some(vec![Ordinal(0)]), Motion::Suspended, NOW, &mut effects);
    assert_eq!(none, []);
    let number = last_order(&effects);
    job.on_moved(node(0), &[still(0, number)], NOW, &mut effects).expect("true");
    kept.take(&mut job);
    let mut job = back(&job, &kept);
    job.note_touched();
    effects.clear();
    job.on_recovered(node(0), |_, _| Found::AtCheckpoint, NOW, &mut effects);
    assert!(!effects.iter().any(|effect| matches!(effect, JobEffect::Move { .. })));
    kept.take(&mut job);
    (job, kept)
}

/// The lives that are to begin, by child.
fn lives(job: &ParentJob, effects: &Effects) -> Vec<(u32, u32)> {
    let again = effects.iter().flat_map(|effect| match effect {
        JobEffect::StartAgain { children, .. } => children.clone(),
        _ => Vec::new(),
    });
    let life =
        |child| job.again(child, sortie_model::Seq(0)).map_or(0, |again| again.incarnation.0);
    again.map(|child| (child.0, life(child))).collect()
}

#[test]
fn a_function_that_stood_still_stays_so_and_its_resume_is_its_next_life() {
    use State::{Completed, Failed, NotStarted, Running, Suspended};
    for restart in [RestartType::Temporary, RestartType::Permanent] {
        let mut asked = spec(per_node(2), None);
        asked.restart.restart = restart;
        asked.restart.intensity = Intensity::new(9, Duration::from_secs(5)).expect("in bounds");
        let (job, kept) = parked(asked);
        let second = if restart == RestartType::Temporary { Failed } else { NotStarted };
        assert_eq!(states(&job), [Suspended, second]);
        // Over another end of its node, too.
        let mut job = back(&job, &kept);
        let mut effects = Effects::new();
        job.on_recovered(node(0), |_, _| Found::AtCheckpoint, NOW, &mut effects);
        assert!(job.is_parked(Ordinal(0)));
        let restarts = job.restarts();
        effects.clear();
        let alone = ChildSet::Some(vec![Ordinal(0)]);
        assert_eq!(job.on_move(alone.clone(), Motion::Suspended, NOW, &mut effects), []);
        assert_eq!(job.on_move(alone, Motion::Running, NOW, &mut effects), []);
        assert_eq!(lives(&job, &effects), [(0, 1)]);
        assert_eq!((job.is_parked(Ordinal(0)), job.restarts()), (false, restarts));
        let again = ChildStart { incarnation: ChildIncarnation(1), ..begin(0) };
        job.on_report(node(0), &[again], vec![], &mut effects).expect("true");
        assert_eq!(job.child_state(Ordinal(0)), Some(Running));
        let end = ChildEnd { incarnation: ChildIncarnation(1), ..end(0, Verdict::Completed) };
        job.on_report(node(0), &[], vec![end], &mut effects).expect("true");
        let ended = if restart == RestartType::Temporary { Completed } else { NotStarted };
        assert_eq!(job.child_state(Ordinal(0)), Some(ended));
    }
}

#[test]
fn a_function_of_a_map_has_no_input_to_go_on_with() {
    let asked = spec(Fan::Spread, None);
    let (mut job, _) = accept(asked, 1);
    job.note_touched();
    let (mut effects, mut kept) = (Effects::new(), Kept::default());
    job.on_items(vec![Bytes::from_static(b"1")], EntryId(2), NOW, &mut effects);
    job.on_report(node(0), &[begin(0)], vec![], &mut effects).expect("true");
    job.on_move(ChildSet::All, Motion::Suspended, NOW, &mut effects);
    let number = last_order(&effects);
    job.on_moved(node(0), &[still(0, number)], NOW, &mut effects).expect("true");
    kept.take(&mut job);
    let mut job = back(&job, &kept);
    job.on_recovered(node(0), |_, _| Found::AtCheckpoint, NOW, &mut effects);
    assert_eq!(job.child_failure(Ordinal(0)), Some((Reason::InputLost, None)));
}

#[test]
fn the_resume_of_a_job_is_for_what_ended_with_its_node_too() {
    let (mut job, _) = parked(spec(per_node(2), None));
    let mut effects = Effects::new();
    assert_eq!(job.on_move(ChildSet::All, Motion::Running, NOW, &mut effects), []);
    assert_eq!(lives(&job, &effects), [(0, 1)]);
    assert_eq!(job.state(), State::Running);
}

#[test]
fn a_stop_of_what_ended_with_its_node_waits_for_nobody() {
    for children in [ChildSet::All, ChildSet::Some(vec![Ordinal(0)])] {
        let (mut job, _) = parked(spec(per_node(2), None));
        let mut effects = Effects::new();
        job.on_stop(order(children), NOW, &mut effects);
        assert_eq!(states(&job), [State::Stopped, State::Failed]);
        assert!(job.state().is_finished());
        assert!(!effects.iter().any(|effect| matches!(effect, JobEffect::Stop { .. })));
        assert!(effects.contains(&JobEffect::Close(Ordinal(0))));
    }
}

#[test]
fn inputs_that_were_read_and_did_not_start_are_lost_with_their_node() {
    let (mut job, mut kept) = begun(spec(Fan::Spread, Some(1)));
    let mut effects = Effects::new();
    job.on_items(items(3), EntryId(2), NOW, &mut effects);
    job.on_report(node(0), &[begin(0)], vec![], &mut effects).expect("true");
    kept.take(&mut job);
    let mut job = back(&job, &kept);
    effects.clear();
    job.on_recovered(node(0), |_, _| Found::Alive, NOW, &mut effects);
    assert_eq!(states(&job), [State::Running, State::Failed, State::Failed]);
    assert_eq!(job.child_failure(Ordinal(2)), Some((Reason::InputLost, None)));
    let ended = vec![end(0, Verdict::Completed)];
    job.on_report(node(0), &[], ended, &mut effects).expect("true");
    assert_eq!(job.state(), State::Failed);
}

#[test]
fn an_input_that_was_sent_and_certainly_did_not_begin_is_lost_and_not_uncertain() {
    let (mut job, mut kept) = begun(spec(Fan::Spread, Some(2)));
    let mut effects = Effects::new();
    job.on_items(items(3), EntryId(2), NOW, &mut effects);
    kept.take(&mut job);
    let mut job = back(&job, &kept);
    effects.clear();
    let found = |child: Ordinal, _| if child.0 == 0 { Found::NeverBegan } else { Found::Gone };
    job.on_recovered(node(0), found, NOW, &mut effects);
    let reasons = [Reason::InputLost, Reason::StartUncertain, Reason::InputLost];
    for (child, reason) in (0..3).map(Ordinal).zip(reasons) {
        assert_eq!(job.child_failure(child), Some((reason, None)), "{child:?}");
    }
    assert_eq!((started(&effects), job.state()), (BTreeMap::new(), State::Failed));
}

/// The same with what is known again of its map's items.
fn back_with(job: &ParentJob, kept: &Kept, items: KeptItems) -> ParentJob {
    let children = kept.0.iter().map(|(ordinal, child)| (*ordinal, child.clone()));
    let mut next = ParentJob::recover(KeptJob { items, ..kept_job(job) }, children.collect());
    next.note_touched();
    next
}

/// The items that go out, by child.
fn sent_items(effects: &Effects) -> BTreeMap<u32, (u64, Vec<u8>)> {
    let batches = effects.iter().filter_map(|effect| match effect {
        JobEffect::Start { children: ChildBatch::Items(items), .. } => Some(items),
        _ => None,
    });
    let each = batches.flatten();
    each.map(|item| (item.ordinal.0, (item.number, item.item.to_vec()))).collect()
}

#[test]
fn a_map_reads_on_behind_the_lines_that_have_children() {
    let (mut job, mut kept) = begun(spec(Fan::Spread, Some(2)));
    let mut effects = Effects::new();
    job.on_items(items(4), EntryId(2), NOW, &mut effects);
    job.on_report(node(0), &[begin(0)], vec![], &mut effects).expect("true");
    kept.take(&mut job);
    let mut job = back_with(&job, &kept, KeptItems::Known(items(4)));
    effects.clear();
    let found = |child: Ordinal, _| match child.0 {
        0 => Found::Alive,
        _ => Found::NeverBegan,
    };
    job.on_recovered(node(0), found, NOW, &mut effects);
    use State::{NotStarted, Running};
    assert_eq!(states(&job), [Running, NotStarted, NotStarted, NotStarted]);
    // The one that its node never heard of goes first, with its own line.
    let second = items(4)[1].to_vec();
    assert_eq!(sent_items(&effects), BTreeMap::from([(1, (2, second))]));
    assert!(job.is_open() && effects.iter().any(|effect| matches!(effect, JobEffect::Want(_))));
    effects.clear();
    job.on_items(items(1), EntryId(9), NOW, &mut effects);
    assert_eq!((job.children(), job.item(Ordinal(4)).map(|(number, _)| number)), (5, Some(5)));
    job.on_input_end(NOW, &mut effects);
    for child in 0..5 {
        let started = [begin(child)];
        let _ =
            job.on_report(node(0), &started, vec![end(child, Verdict::Completed)], &mut effects);
    }
    assert_eq!((states(&job), job.state()), (vec![State::Completed; 5], State::Completed));
}

#[test]
fn lines_that_are_not_certain_are_lost_and_those_before_run() {
    let (mut job, mut kept) = begun(spec(Fan::Spread, Some(1)));
    let mut effects = Effects::new();
    job.on_items(items(4), EntryId(2), NOW, &mut effects);
    kept.take(&mut job);
    let mut job = back_with(&job, &kept, KeptItems::Known(items(2)));
    effects.clear();
    job.on_recovered(node(0), |_, _| Found::NeverBegan, NOW, &mut effects);
    use State::{Failed, NotStarted};
    assert_eq!(states(&job), [NotStarted, NotStarted, Failed, Failed]);
    assert_eq!(job.child_failure(Ordinal(3)), Some((Reason::InputLost, None)));
    assert_eq!(sent_items(&effects).len(), 1);
}

#[test]
fn what_went_to_another_node_without_a_line_that_is_known_never_gets_another_one() {
    let (mut job, _) = accept(spec(Fan::Spread, None), 2);
    job.note_touched();
    let (mut effects, mut kept) = (Effects::new(), Kept::default());
    job.on_items(items(4), EntryId(2), NOW, &mut effects);
    kept.take(&mut job);
    let mut job = back_with(&job, &kept, KeptItems::Known(items(1)));
    effects.clear();
    job.on_recovered(node(0), |_, _| Found::Alive, NOW, &mut effects);
    job.on_reconnected(node(1), NOW, &mut effects);
    let plain = effects.iter().filter_map(|effect| match effect {
        JobEffect::Start { children: ChildBatch::Range { first, step, count, .. }, .. } => {
            Some((first.0, *step, *count))
        }
        _ => None,
    });
    assert_eq!(
        (plain.collect::<Vec<_>>(), sent_items(&effects)),
        (vec![(1, 2, 2)], BTreeMap::new())
    );
}

#[test]
fn a_map_that_was_told_to_stop_gave_up_or_is_lost_reads_no_more() {
    let (mut job, mut kept) = begun(spec(Fan::Spread, Some(1)));
    let mut effects = Effects::new();
    job.on_items(items(2), EntryId(2), NOW, &mut effects);
    kept.take(&mut job);
    assert!(back_with(&job, &kept, KeptItems::Known(items(2))).is_open());
    assert!(!back_with(&job, &kept, KeptItems::Shown(items(2))).is_open());
    let lost = back_with(&job, &kept, KeptItems::Lost);
    assert!(!lost.is_open());
    let notes = lost.view(false, false, false).notes;
    assert_eq!(notes, ["the rest of its input was lost"]);
    let reason =
        Reason::RestartLimit { restarts: 1, period: Duration::from_secs(1), last: "".into() };
    let outcome = ChildOutcome::of(Verdict::Failed(reason));
    let mut gave_up = Kept(kept.0.clone());
    if let Some(child) = gave_up.0.get_mut(&Ordinal(0)) {
        child.outcome = Some(Box::new(outcome));
    }
    assert!(!back_with(&job, &gave_up, KeptItems::Known(items(2))).is_open());
    job.on_stop(order(ChildSet::All), NOW, &mut effects);
    assert!(!back_with(&job, &kept, KeptItems::Known(items(2))).is_open());
}

#[test]
fn a_supervised_child_that_is_gone_starts_again_in_its_next_incarnation() {
    let mut supervised = spec(per_node(2), None);
    supervised.restart.restart = RestartType::Permanent;
    let (mut job, mut kept) = begun(supervised);
    let mut effects = Effects::new();
    job.on_report(node(0), &[begin(0), begin(1)], vec![], &mut effects).expect("true");
    kept.take(&mut job);
    let mut job = back(&job, &kept);
    effects.clear();
    let found = |child: Ordinal, _| if child.0 == 0 { Found::Gone } else { Found::Alive };
    job.on_recovered(node(0), found, NOW, &mut effects);
    let again = effects.iter().filter_map(|effect| match effect {
        JobEffect::StartAgain { children, .. } => Some(children.clone()),
        _ => None,
    });
    assert_eq!(again.collect::<Vec<_>>(), [vec![Ordinal(0)]]);
    let life = job.life(Ordinal(0)).map(|life| life.incarnation);
    assert_eq!((life, job.restarts()), (Some(ChildIncarnation(1)), 1));
}

proptest! {
    /// Whatever happened before: the next life shows what the last one did, and its slots add up.
    #[test]
    fn the_next_life_begins_where_the_last_one_was_kept(
        steps in prop::collection::vec((0_u32..6, 0_u8..7), 0..40),
        throttle in 1_u32..4,
        spread in any::<bool>(),
        alive in prop::collection::vec(any::<bool>(), 6),
    ) {
        let fan = if spread { Fan::Spread } else { per_node(6) };
        let (mut job, mut kept) = begun(spec(fan, Some(throttle)));
        let mut effects = Effects::new();
        if spread {
            job.on_items(items(6), EntryId(2), NOW, &mut effects);
        }
        for (child, what) in steps {
            let _ = match what {
                0 => job.on_report(node(0), &[begin(child)], vec![], &mut effects),
                1 => {
                    let ended = vec![end(child, Verdict::Completed)];
                    job.on_report(node(0), &[], ended, &mut effects)
                }
                2 => job.on_report(node(0), &[], vec![end(child, failed())], &mut effects),
                4 => {
                    let one = ChildSet::Some(vec![Ordinal(child)]);
                    job.on_move(one, Motion::Suspended, NOW, &mut effects);
                    Ok(())
                }
                5 => {
                    let number = last_order(&effects);
                    job.on_moved(node(0), &[still(child, number)], NOW, &mut effects)
                }
                _ => {
                    let one = order(ChildSet::Some(vec![Ordinal(child)]));
                    job.on_stop(one, NOW, &mut effects);
                    Ok(())
                }
            };
        }
        kept.take(&mut job);
        let mut next = back(&job, &kept);
        prop_assert_eq!(states(&next), states(&job));
        for child in (0..job.children()).map(Ordinal) {
            prop_assert_eq!(next.kept(child), job.kept(child));
        }
        prop_assert_eq!(next.line().in_progress(), job.line().in_progress());
        prop_assert_eq!(next.line().waiting(), job.line().waiting());
        prop_assert_eq!(next.unfinished_on(node(0)), job.unfinished_on(node(0)));

        // Its node is back: what is alive ends, what waits runs, and the job ends.
        effects.clear();
        let found = |child: Ordinal, _| {
            if alive[child.0 as usize] { Found::Alive } else { Found::Gone }
        };
        next.on_recovered(node(0), found, NOW, &mut effects);
        let finished_before: Vec<State> = states(&job);
        for (before, after) in finished_before.iter().zip(states(&next)) {
            prop_assert!(!before.is_finished() || *before == after, "an end is final");
        }
        for _ in 0..=6 {
            for child in 0..next.children() {
                let ended = vec![end(child, Verdict::Completed)];
                let _ = next.on_report(node(0), &[], ended, &mut effects);
            }
        }
        prop_assert!(next.state().is_finished());
        prop_assert_eq!(next.line().in_progress(), 0);
    }
}

#[test]
fn who_was_told_to_stop_and_died_of_the_signal_was_stopped() {
    let died =
        |number| Verdict::Failed(Reason::Signal { number, name: "X".into(), core_dumped: false });
    for (told, number, state) in [
        (true, 15, State::Stopped),
        (true, 9, State::Stopped),
        (true, 11, State::Failed),
        (false, 15, State::Failed),
    ] {
        let (mut job, _) = begun(spec(per_node(1), None));
        let mut effects = Effects::new();
        job.on_report(node(0), &[begin(0)], vec![], &mut effects).expect("true");
        if told {
            job.on_stop(order(ChildSet::All), NOW, &mut effects);
        }
        job.on_report(node(0), &[], vec![end(0, died(number))], &mut effects).expect("true");
        assert_eq!(job.state(), state, "{number}");
    }
}
