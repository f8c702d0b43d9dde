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
    assert!(last_order(&effects) > 1, "it heeds newer orders only");
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
