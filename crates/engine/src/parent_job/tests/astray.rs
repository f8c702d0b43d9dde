//! Children that stand still by an order of which their job's next life knows nothing.

use super::recover::{Kept, back, begun, last_order, states, still};
use super::*;

/// The orders to stand still or to go on, by their motions.
fn motions(effects: &Effects) -> Vec<Motion> {
    let orders = effects.iter().filter_map(|effect| match effect {
        JobEffect::Move { order, .. } => Some(order.motion),
        _ => None,
    });
    orders.collect()
}

/// One child on a node that did not confirm it; its job was told to suspend, then to go on if
/// `resumed`; and the job's next life elsewhere, once that node is back.
fn unconfirmed(resumed: bool) -> (ParentJob, Effects) {
    let (mut job, mut kept) = begun(spec(per_node(1), None));
    let mut effects = Effects::new();
    job.on_move(ChildSet::All, Motion::Suspended, NOW, &mut effects);
    if resumed {
        job.on_move(ChildSet::All, Motion::Running, NOW, &mut effects);
    }
    kept.take(&mut job);
    let mut job = back(&job, &kept);
    job.on_recovered(node(9), |_, _| Found::Gone, NOW, &mut effects);
    let mut effects = Effects::new();
    job.on_reconnected(node(0), NOW, &mut effects);
    (job, effects)
}

#[test]
fn a_child_that_was_not_confirmed_stands_still_where_its_job_was_told_to() {
    let (mut job, mut effects) = unconfirmed(false);
    assert_eq!(motions(&effects), [Motion::Suspended]);
    let number = last_order(&effects);
    job.on_report(node(0), &[begin(0)], vec![], &mut effects).expect("true");
    job.on_moved(node(0), &[still(0, number)], NOW, &mut effects).expect("true");
    assert_eq!(states(&job), [State::Suspended]);
}

#[test]
fn a_child_that_its_node_holds_back_goes_on_where_nobody_knows_of_an_order() {
    let (mut job, mut effects) = unconfirmed(true);
    assert_eq!(motions(&effects), []);
    job.on_report(node(0), &[begin(0)], vec![], &mut effects).expect("true");
    let mut effects = Effects::new();
    job.on_moved(node(0), &[still(0, 1)], NOW, &mut effects).expect("true");
    assert_eq!(motions(&effects), [Motion::Running]);
    let number = last_order(&effects);
    assert!(number > 1, "it heeds newer orders only");
    assert_eq!(states(&job), [State::Suspended], "as it is");
    // That may not have come there.
    let mut effects = Effects::new();
    job.on_reconnected(node(0), NOW, &mut effects);
    assert_eq!((motions(&effects), last_order(&effects)), (vec![Motion::Running], number));
    let goes_on = ChildMotion { motion: Motion::Running, ..still(0, number) };
    job.on_moved(node(0), &[goes_on], NOW, &mut effects).expect("true");
    assert_eq!(states(&job), [State::Running]);
}

#[test]
fn a_child_that_its_node_holds_back_stands_still_where_its_job_was_told_to() {
    let (mut job, _) = unconfirmed(true);
    let mut effects = Effects::new();
    job.on_move(ChildSet::All, Motion::Suspended, NOW, &mut effects);
    // It never heard that one.
    let mut job = {
        let mut kept = Kept::default();
        kept.0.extend(job.kept(Ordinal(0)).map(|row| (Ordinal(0), row)));
        back(&job, &kept)
    };
    job.on_report(node(0), &[begin(0)], vec![], &mut effects).expect("true");
    let mut effects = Effects::new();
    job.on_moved(node(0), &[still(0, 1)], NOW, &mut effects).expect("true");
    assert_eq!(motions(&effects), [Motion::Suspended]);
    assert_eq!(states(&job), [State::Suspended]);
}

#[test]
fn a_resume_that_was_not_heeded_yet_is_not_forgotten() {
    let (mut job, mut kept) = begun(spec(per_node(1), None));
    let mut effects = Effects::new();
    job.on_report(node(0), &[begin(0)], vec![], &mut effects).expect("true");
    job.on_move(ChildSet::All, Motion::Suspended, NOW, &mut effects);
    let number = last_order(&effects);
    job.on_moved(node(0), &[still(0, number)], NOW, &mut effects).expect("true");
    kept.take(&mut job);
    job.on_move(ChildSet::All, Motion::Running, NOW, &mut effects);
    assert_eq!(states(&job), [State::Suspended], "told, not done yet");
    kept.take(&mut job);
    let mut job = back(&job, &kept);
    assert_eq!(states(&job), [State::Running]);
    let mut effects = Effects::new();
    job.on_recovered(node(9), |_, _| Found::Gone, NOW, &mut effects);
    job.on_reconnected(node(0), NOW, &mut effects);
    job.on_moved(node(0), &[still(0, number)], NOW, &mut effects).expect("true");
    assert_eq!(motions(&effects), [Motion::Running]);
}

#[test]
fn orders_are_newer_than_what_a_node_has_but_no_lie_uses_their_numbers_up() {
    let latest = NOW.0.unsigned_abs() + limits::ORDERS_AHEAD_MICROS;
    for (reported, wanted) in [(latest - 5, latest - 4), (latest + 5, latest + 1)] {
        let (mut job, _) = unconfirmed(true);
        let mut effects = Effects::new();
        job.on_report(node(0), &[begin(0)], vec![], &mut effects).expect("true");
        job.on_moved(node(0), &[still(0, reported)], NOW, &mut effects).expect("true");
        assert_eq!(last_order(&effects), wanted);
        job.on_moved(node(0), &[still(0, u64::MAX)], NOW, &mut effects).expect("true");
        assert!(last_order(&effects) < latest + 9);
    }
}
