//! Functions of another node that ended with it while they stood still at a checkpoint.

use sortie_model::restart::{Intensity, RestartType};

use super::suspend::{one, parked_elsewhere, tell};
use super::*;

/// Of the job, which runs none of its children.
const OWN: u8 = 9;

/// Two functions on a node, of which the first is parked.
fn parked(restart: RestartType) -> ParentJob {
    let mut spec = spec(per_node(2), None);
    if restart != RestartType::Temporary {
        spec.restart.restart = restart;
        spec.restart.intensity = Intensity::new(9, Duration::from_secs(5)).expect("in bounds");
    }
    let (job, _) = parked_elsewhere(spec, |_| {});
    assert_eq!(job.is_supervised(), restart != RestartType::Temporary);
    assert!(job.is_parked(Ordinal(0)));
    job
}

/// The job in the next life of its own node, which found that of the first one.
fn back(job: &ParentJob, found: Found) -> (ParentJob, Effects) {
    let children = (0..job.children()).map(Ordinal);
    let kept = children.filter_map(|child| job.kept(child).map(|row| (child, row)));
    let mut job = ParentJob::recover(recover::kept_job(job), kept.collect());
    let mut effects = Effects::new();
    let of = |child| if child == Ordinal(0) { found } else { Found::Gone };
    job.on_recovered(node(OWN), |child, _| of(child), NOW, &mut effects);
    (job, effects)
}

/// Whether the node that is heard is to begin the next life of the first one.
fn begins(job: &mut ParentJob) -> bool {
    let mut effects = Effects::new();
    job.on_reconnected(node(0), NOW, &mut effects);
    effects.iter().any(|effect| match effect {
        JobEffect::StartAgain { children, .. } => children.contains(&Ordinal(0)),
        _ => false,
    })
}

#[track_caller]
fn still_parked(job: &ParentJob) {
    assert!(job.is_parked(Ordinal(0)));
    assert_eq!(job.child_state(Ordinal(0)), Some(State::Suspended));
}

#[track_caller]
fn on_its_way(job: &ParentJob) {
    let life = job.again(Ordinal(0), sortie_model::Seq(0)).map(|it| it.incarnation);
    assert_eq!((job.is_parked(Ordinal(0)), life), (false, Some(ChildIncarnation(1))));
    assert_eq!(job.child_state(Ordinal(0)), Some(State::NotStarted));
}

#[test]
fn one_that_is_resumed_while_its_node_is_away_begins_when_that_is_heard() {
    for restart in [RestartType::Temporary, RestartType::Permanent] {
        let mut job = parked(restart);
        let (unmoved, effects) = tell(&mut job, one(0), Motion::Running);
        assert_eq!(unmoved, []);
        assert!(effects.contains(&JobEffect::Reach(NodeIndex(0))), "{effects:?}");
        for _ in 0..2 {
            job.on_unreachable(node(0), ReachStep::Connect, NOW, &mut Effects::new());
            still_parked(&job);
        }
        let restarts = job.restarts();
        assert!(begins(&mut job), "{restart:?}");
        on_its_way(&job);
        assert_eq!(job.restarts(), restarts);
    }
}

#[test]
fn one_that_is_resumed_while_its_node_is_away_can_be_stopped_and_told_to_stay() {
    let mut job = parked(RestartType::Temporary);
    tell(&mut job, one(0), Motion::Running);
    job.on_unreachable(node(0), ReachStep::Connect, NOW, &mut Effects::new());
    assert_eq!(tell(&mut job, one(0), Motion::Suspended).0, []);
    assert!(!begins(&mut job));
    still_parked(&job);
    tell(&mut job, one(0), Motion::Running);
    job.on_stop(order(one(0)), NOW, &mut Effects::new());
    assert_eq!(job.child_state(Ordinal(0)), Some(State::Stopped));
    assert!(job.state().is_finished());
}

#[test]
fn what_could_not_be_sent_when_its_node_was_heard_does_not_wait_for_ever() {
    let mut job = parked(RestartType::Temporary);
    tell(&mut job, one(0), Motion::Running);
    assert!(begins(&mut job));
    job.on_unreachable(node(0), ReachStep::Connect, NOW, &mut Effects::new());
    let reason = Reason::Unreachable { step: ReachStep::Connect };
    assert_eq!(job.child_failure(Ordinal(0)), Some((reason, None)));
}

#[test]
fn its_resume_outlives_the_jobs_own_node() {
    let mut job = parked(RestartType::Temporary);
    job.note_touched();
    tell(&mut job, one(0), Motion::Running);
    assert!(job.take_touched().contains(&Ordinal(0)));
    let (mut job, _) = back(&job, Found::AtCheckpoint);
    still_parked(&job);
    let said = Unknown { expired: false, later: true, remembers: false };
    job.on_unknown((node(0), said, NOW), |_| true, NOW, &mut Effects::new());
    assert!(begins(&mut job));
    on_its_way(&job);
}

#[test]
fn it_is_known_to_be_parked_over_the_end_of_the_jobs_own_node() {
    let (mut job, effects) = back(&parked(RestartType::Temporary), Found::AtCheckpoint);
    still_parked(&job);
    assert!(!effects.iter().any(|effect| matches!(effect, JobEffect::Move { .. })));
    // Its node knows the job, for another child's sake.
    job.on_adopted((node(0), Memory::Whole), NOW, &mut Effects::new());
    assert!(!begins(&mut job));
    let view = job.child_view(Ordinal(0), MailboxFacts::default()).expect("a child");
    assert!(view.notes.is_empty(), "{:?}", view.notes);
    let (unmoved, effects) = tell(&mut job, one(0), Motion::Running);
    assert_eq!(unmoved, []);
    assert!(effects.contains(&JobEffect::Reach(NodeIndex(0))), "{effects:?}");
    assert!(begins(&mut job));
    on_its_way(&job);
}

#[test]
fn a_stop_ends_it_over_the_end_of_the_jobs_own_node() {
    let (mut job, _) = back(&parked(RestartType::Temporary), Found::AtCheckpoint);
    job.on_stop(order(ChildSet::All), NOW, &mut Effects::new());
    assert_eq!(job.child_state(Ordinal(0)), Some(State::Stopped));
    assert!(job.state().is_finished());
}

#[test]
fn without_its_checkpoint_it_went_with_its_node() {
    let (job, _) = back(&parked(RestartType::Temporary), Found::Gone);
    let reason = job.child_failure(Ordinal(0)).map(|(reason, _)| reason);
    assert_eq!(reason, Some(Reason::NodeLost { since: NOW }));
}

#[test]
fn a_node_that_does_not_know_the_job_again_says_nothing_new_of_it() {
    let mut job = parked(RestartType::Temporary);
    let said = Unknown { expired: false, later: false, remembers: false };
    job.on_unknown((node(0), said, NOW), |_| true, NOW, &mut Effects::new());
    still_parked(&job);
}
