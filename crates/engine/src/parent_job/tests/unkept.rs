//! Decisions that the journal does not take.

use sortie_model::restart::RestartType;

use super::*;

/// A job that outlives its node, of a map over two nodes, two at once.
fn map() -> ParentJob {
    let (mut job, _) = accept(spec(Fan::Spread, Some(2)), 2);
    job.note_touched();
    job
}

fn kept(job: &mut ParentJob) -> Effects {
    let mut effects = Effects::new();
    job.on_kept(NOW, &mut effects);
    effects
}

#[test]
fn what_the_journal_does_not_have_does_not_begin_and_begins_once_it_has_it() {
    let mut job = map();
    let mut effects = Effects::new();
    job.on_items(items(3), EntryId(2), NOW, &mut effects);
    assert_eq!(started(&effects).values().flatten().count(), 2);
    job.on_not_kept(Unkept::Full, NOW, &mut effects);
    assert_eq!(started(&effects), BTreeMap::new());
    assert_eq!((job.unkept(), job.line().waiting()), (Some(Unkept::Full), 3));
    assert_eq!(job.line().position(Ordinal(0)), Some(0), "in their order");
    // Nor does what comes meanwhile, and a node that is heard again is told nothing.
    let mut effects = Effects::new();
    job.on_items(items(1), EntryId(5), NOW, &mut effects);
    job.on_reconnected(node(0), NOW, &mut effects);
    job.set_throttle(Throttle::Unlimited, NOW, &mut effects);
    assert_eq!(started(&effects), BTreeMap::new());
    let begun = started(&kept(&mut job));
    assert_eq!(begun.values().flatten().count(), 4);
    assert_eq!(started(&kept(&mut job)), BTreeMap::new(), "only once");
}

#[test]
fn a_stop_of_what_could_not_be_kept_ends_it_before_it_began() {
    let mut job = map();
    let mut effects = Effects::new();
    job.on_items(items(2), EntryId(2), NOW, &mut effects);
    job.on_not_kept(Unkept::Failed, NOW, &mut effects);
    let mut effects = Effects::new();
    job.on_stop(order(ChildSet::All), NOW, &mut effects);
    assert_eq!(job.state(), State::Stopped);
    let stops = effects.iter().filter(|effect| matches!(effect, JobEffect::Stop { .. }));
    assert_eq!(stops.count(), 0, "no node was told of it");
}

#[test]
fn what_was_to_begin_and_to_stop_in_one_breath_ends_and_never_begins() {
    let mut job = map();
    let mut effects = Effects::new();
    job.on_items(items(1), EntryId(2), NOW, &mut effects);
    job.on_input_end(NOW, &mut effects);
    job.on_stop(order(ChildSet::Some(vec![Ordinal(0)])), NOW, &mut effects);
    job.on_not_kept(Unkept::Full, NOW, &mut effects);
    assert_eq!((started(&effects), job.state()), (BTreeMap::new(), State::Stopped));
    assert_eq!(started(&kept(&mut job)), BTreeMap::new());
}

#[test]
fn what_was_told_before_is_repeated_and_stopped_whatever_the_journal_takes() {
    let (mut job, _) = accept(spec(per_node(3), Some(2)), 1);
    job.note_touched();
    job.on_not_kept(Unkept::Failed, NOW, &mut Effects::new());
    let mut effects = Effects::new();
    job.on_reconnected(node(0), NOW, &mut effects);
    job.on_not_kept(Unkept::Failed, NOW, &mut effects);
    assert_eq!(started(&effects), BTreeMap::from([(0, vec![0, 1])]));
    // An end makes room, which nobody takes.
    let mut effects = Effects::new();
    let ended = vec![end(0, Verdict::Completed)];
    job.on_report(node(0), &[begin(0)], ended, &mut effects).expect("true");
    assert_eq!(started(&effects), BTreeMap::new());
    job.on_stop(order(ChildSet::Some(vec![Ordinal(1)])), NOW, &mut effects);
    assert!(effects.iter().any(|effect| matches!(effect, JobEffect::Stop { .. })), "{effects:?}");
}

#[test]
fn a_restart_that_could_not_be_kept_waits_too_and_is_one_restart() {
    let mut spec = spec(per_node(1), None);
    spec.restart.restart = RestartType::Permanent;
    let (mut job, _) = accept(spec, 1);
    job.note_touched();
    let mut effects = Effects::new();
    job.on_report(node(0), &[begin(0)], vec![end(0, failed())], &mut effects).expect("true");
    let again = |effects: &Effects| {
        effects.iter().filter(|it| matches!(it, JobEffect::StartAgain { .. })).count()
    };
    assert_eq!(again(&effects), 1, "{effects:?}");
    job.on_not_kept(Unkept::Full, NOW, &mut effects);
    assert_eq!((again(&effects), job.child_state(Ordinal(0))), (0, Some(State::NotStarted)));
    assert_eq!((again(&kept(&mut job)), job.restarts()), (1, 1));
}
