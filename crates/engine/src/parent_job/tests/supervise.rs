//! Children that start again, as their parent's table sees it.

use std::time::Duration;

use sortie_model::restart::{Backoff, Intensity, RestartSpec, RestartType, StopSequence, Strategy};

use super::*;

fn supervised(restart: RestartType, strategy: Strategy, restarts: u32) -> JobSpec {
    let intensity = Intensity::new(restarts, Duration::from_secs(5)).expect("in bounds");
    let restart = RestartSpec { restart, strategy, intensity, backoff: None };
    JobSpec { restart, ..spec(per_node(1), None) }
}

/// Children that are started again, in order.
fn again(effects: &[JobEffect]) -> Vec<u32> {
    let again = effects.iter().filter_map(|effect| match effect {
        JobEffect::StartAgain { children, .. } => Some(children),
        _ => None,
    });
    again.flatten().map(|child| child.0).collect()
}

/// Children that are stopped one by one, in order.
fn stopped(effects: &[JobEffect]) -> Vec<u32> {
    let stopped = effects.iter().filter_map(|effect| match effect {
        JobEffect::Stop { children: ChildSet::Some(some), .. } => Some(some),
        _ => None,
    });
    stopped.flatten().map(|child| child.0).collect()
}

/// The present incarnation of the child, which runs on the node of its number, began or ended.
fn report(job: &mut ParentJob, child: u32, ended: Option<Verdict>) -> Effects {
    let incarnation = job.rows[child as usize].incarnation;
    let start = ChildStart { incarnation, ..begin(child) };
    let ended = ended.map(|verdict| ChildEnd { incarnation, ..end(child, verdict) });
    let mut effects = Effects::new();
    let on = node(child as u8);
    let ended = ended.into_iter().collect();
    assert_eq!(job.on_report(on, &[start], ended, &mut effects), Ok(()));
    effects
}

#[test]
fn a_failed_permanent_child_starts_again_and_its_siblings_run_on() {
    let (mut job, _) = accept(supervised(RestartType::Permanent, Strategy::OneForOne, 9), 3);
    let effects = report(&mut job, 1, Some(failed()));
    assert_eq!((again(&effects), stopped(&effects)), (vec![1], vec![]));
    assert_eq!(job.child_state(Ordinal(1)), Some(State::NotStarted));
    assert_eq!(job.awaited_state(Ordinal(1)), Some(State::NotStarted));
    let view = job.child_view(Ordinal(1), MailboxFacts::default()).expect("a child");
    assert_eq!((view.restarts, view.reason), (1, Some(Reason::Exit { code: 1 })));
    assert_eq!((job.restarts(), job.state()), (1, State::Running));
    report(&mut job, 1, None);
    let view = job.child_view(Ordinal(1), MailboxFacts::default()).expect("a child");
    assert_eq!((view.state, view.reason, view.end_time), (State::Running, None, None));
}

#[test]
fn a_transient_child_that_ended_well_is_settled_and_its_mailbox_closed() {
    let (mut job, _) = accept(supervised(RestartType::Transient, Strategy::OneForOne, 9), 1);
    let effects = report(&mut job, 0, Some(Verdict::Completed));
    assert!(effects.contains(&JobEffect::Close(Ordinal(0))));
    assert_eq!((job.is_settled(Ordinal(0)), job.state()), (true, State::Completed));
}

#[test]
fn a_late_word_about_an_earlier_incarnation_changes_nothing() {
    let (mut job, _) = accept(supervised(RestartType::Permanent, Strategy::OneForOne, 9), 1);
    report(&mut job, 0, Some(failed()));
    report(&mut job, 0, None);
    let mut effects = Effects::new();
    let late = vec![end(0, Verdict::Completed)];
    assert_eq!(job.on_report(node(0), &[begin(0)], late, &mut effects), Ok(()));
    assert_eq!((job.child_state(Ordinal(0)), effects), (Some(State::Running), vec![]));
}

#[test]
fn one_for_all_stops_the_siblings_last_first_and_starts_all_in_order() {
    let (mut job, _) = accept(supervised(RestartType::Permanent, Strategy::OneForAll, 9), 3);
    (0..3).for_each(|child| drop(report(&mut job, child, None)));
    let effects = report(&mut job, 1, Some(failed()));
    assert_eq!((again(&effects), stopped(&effects)), (vec![], vec![2]));
    let effects = report(&mut job, 2, Some(Verdict::Stopped));
    assert_eq!((again(&effects), stopped(&effects)), (vec![], vec![0]));
    let effects = report(&mut job, 0, Some(Verdict::Stopped));
    assert_eq!((again(&effects), stopped(&effects)), (vec![0, 1, 2], vec![]));
    assert_eq!((job.restarts(), job.state()), (3, State::Running));
}

#[test]
fn one_restart_too_many_fails_the_child_and_stops_the_rest() {
    let (mut job, _) = accept(supervised(RestartType::Permanent, Strategy::OneForOne, 1), 2);
    (0..2).for_each(|child| drop(report(&mut job, child, None)));
    report(&mut job, 0, Some(failed()));
    let effects = report(&mut job, 0, Some(failed()));
    assert_eq!((again(&effects), stopped(&effects)), (vec![], vec![1]));
    report(&mut job, 1, Some(Verdict::Stopped));
    assert_eq!(job.state(), State::Failed);
    let (period, last) = (Duration::from_secs(5), "exited with status 1".to_owned());
    let reason = Reason::RestartLimit { restarts: 1, period, last };
    assert_eq!(job.child_failure(Ordinal(0)).map(|(reason, _)| reason), Some(reason));
    assert_eq!(job.child_state(Ordinal(1)), Some(State::Stopped));
}

#[test]
fn a_map_that_gave_up_takes_no_more_items() {
    let spec =
        JobSpec { fan: Fan::Spread, ..supervised(RestartType::Permanent, Strategy::OneForOne, 0) };
    let (mut job, mut effects) = accept(spec, 1);
    job.on_items(items(1), EntryId(2), NOW, &mut effects);
    let effects = report(&mut job, 0, Some(failed()));
    assert!(effects.contains(&JobEffect::Unwanted), "{effects:?}");
    let mut effects = Effects::new();
    job.on_items(items(1), EntryId(3), NOW, &mut effects);
    assert_eq!((effects, job.state()), (vec![], State::Failed));
}

#[test]
fn a_lost_node_is_a_failure_and_its_child_is_sent_there_again() {
    let (mut job, _) = accept(supervised(RestartType::Permanent, Strategy::OneForOne, 9), 2);
    (0..2).for_each(|child| drop(report(&mut job, child, None)));
    let mut effects = Effects::new();
    job.on_lost((node(1), NOW), |_| false, NOW, &mut effects);
    assert_eq!((again(&effects), job.state()), (vec![], State::Running));
    assert!(effects.contains(&JobEffect::Reach(NodeIndex(1))), "{effects:?}");
    assert!(!effects.contains(&JobEffect::Close(Ordinal(1))));
    job.on_unreachable(node(1), ReachStep::Connect, NOW, &mut effects);
    assert_eq!(job.restarts(), 2, "it is asked for once more");
    let mut effects = Effects::new();
    job.on_reconnected(node(1), NOW, &mut effects);
    assert_eq!(again(&effects), [1], "it is sent when the node is heard");
}

#[test]
fn what_is_stopped_before_its_node_is_heard_again_was_never_sent() {
    let (mut job, _) = accept(supervised(RestartType::Permanent, Strategy::OneForAll, 9), 2);
    (0..2).for_each(|child| drop(report(&mut job, child, None)));
    let mut all = Effects::new();
    job.on_lost((node(1), NOW), |_| false, NOW, &mut all);
    all.extend(report(&mut job, 0, Some(Verdict::Stopped)));
    all.extend(report(&mut job, 0, Some(failed())));
    assert_eq!(job.rows[1].incarnation, ChildIncarnation(2));
    assert_eq!(again(&all), [0, 0], "of the other child nothing has left");
}

#[test]
fn a_queued_child_that_was_stopped_for_a_sibling_starts_again_once() {
    let mut spec = supervised(RestartType::Permanent, Strategy::OneForAll, 9);
    spec.throttle = Throttle::AtMost(NonZeroU32::MIN);
    let (mut job, _) = accept(spec, 2);
    for _ in 0..3 {
        let effects = report(&mut job, 0, Some(failed()));
        assert_eq!(again(&effects), [0], "the other one waits for the slot");
    }
    let mut effects = Effects::new();
    job.on_stop(order(ChildSet::Some(vec![Ordinal(1)])), NOW, &mut effects);
    let effects = report(&mut job, 0, Some(failed()));
    assert_eq!(again(&effects), [0]);
    assert_eq!(job.child_state(Ordinal(1)), Some(State::Stopped));
}

#[test]
fn a_child_that_ends_well_once_too_often_has_one_end_which_is_the_limit() {
    let ends = [(Verdict::Completed, "ended well"), (failed(), "exited with status 1")];
    for (verdict, last) in ends {
        let (mut job, _) = accept(supervised(RestartType::Permanent, Strategy::OneForOne, 0), 1);
        let effects = report(&mut job, 0, Some(verdict));
        let ends = effects.iter().filter_map(|effect| match effect {
            JobEffect::Changed(_, _, state, reason) if state.is_finished() => Some((state, reason)),
            _ => None,
        });
        let (period, last) = (Duration::from_secs(5), last.to_owned());
        let limit = Some(Box::new(Reason::RestartLimit { restarts: 0, period, last }));
        assert_eq!(ends.collect::<Vec<_>>(), [(&State::Failed, &limit)]);
    }
}

#[test]
fn the_end_of_a_life_is_told_with_its_reason_also_when_the_next_follows_at_once() {
    let (mut job, _) = accept(supervised(RestartType::Permanent, Strategy::OneForOne, 9), 1);
    let effects = report(&mut job, 0, Some(failed()));
    let reason = Some(Box::new(Reason::Exit { code: 1 }));
    let end = JobEffect::Changed(Ordinal(0), ChildIncarnation(0), State::Failed, reason);
    assert!(effects.contains(&end), "{effects:?}");
}

#[test]
fn a_wait_between_two_incarnations_shows_as_not_started() {
    let mut spec = supervised(RestartType::Permanent, Strategy::OneForOne, 9);
    let second = Duration::from_secs(1);
    spec.restart.backoff = Some(Backoff::new(second, second).expect("in bounds"));
    let (mut job, _) = accept(spec, 1);
    job.at(Duration::from_secs(7));
    let effects = report(&mut job, 0, Some(failed()));
    assert_eq!(again(&effects), []);
    assert!(effects.contains(&JobEffect::Wake(Duration::from_secs(8))));
    assert_eq!(job.child_state(Ordinal(0)), Some(State::NotStarted));
    let mut effects = Effects::new();
    job.at(Duration::from_secs(8));
    job.on_wake(NOW, &mut effects);
    assert_eq!(again(&effects), [0]);
}

#[test]
fn a_child_stopped_while_it_waits_for_its_next_incarnation_is_stopped() {
    let mut spec = supervised(RestartType::Permanent, Strategy::OneForOne, 9);
    let second = Duration::from_secs(1);
    spec.restart.backoff = Some(Backoff::new(second, second).expect("in bounds"));
    let (mut job, _) = accept(spec, 1);
    report(&mut job, 0, Some(failed()));
    let mut effects = Effects::new();
    job.on_stop(order(ChildSet::All), NOW, &mut effects);
    assert_eq!((job.state(), job.is_settled(Ordinal(0))), (State::Stopped, true));
    assert!(effects.contains(&JobEffect::Close(Ordinal(0))));
}

#[test]
fn a_stop_of_the_job_goes_in_reverse_order_where_the_strategy_asks_for_it() {
    let spec = JobSpec { stop_sequence: StopSequence::OneByOne, ..spec(per_node(1), None) };
    let (mut job, _) = accept(spec, 2);
    (0..2).for_each(|child| drop(report(&mut job, child, None)));
    let mut effects = Effects::new();
    job.on_stop(order(ChildSet::All), NOW, &mut effects);
    assert_eq!((stopped(&effects), job.state()), (vec![1], State::Stopping));
    let effects = report(&mut job, 1, Some(Verdict::Stopped));
    assert_eq!(stopped(&effects), [0]);
    report(&mut job, 0, Some(Verdict::Stopped));
    assert_eq!(job.state(), State::Stopped);
}

#[test]
fn a_stopped_child_never_starts_again() {
    let (mut job, _) = accept(supervised(RestartType::Permanent, Strategy::OneForOne, 9), 2);
    (0..2).for_each(|child| drop(report(&mut job, child, None)));
    let mut effects = Effects::new();
    job.on_stop(order(ChildSet::Some(vec![Ordinal(0)])), NOW, &mut effects);
    let effects = report(&mut job, 0, Some(failed()));
    assert_eq!((again(&effects), job.is_settled(Ordinal(0))), (vec![], true));
    assert_eq!(job.state(), State::Running);
}

#[test]
fn a_stop_ends_a_child_at_once_that_waits_for_a_lost_node() {
    let (mut job, _) = accept(supervised(RestartType::Permanent, Strategy::OneForOne, 9), 2);
    (0..2).for_each(|child| drop(report(&mut job, child, None)));
    let mut effects = Effects::new();
    job.on_lost((node(1), NOW), |_| false, NOW, &mut effects);
    job.on_stop(order(ChildSet::Some(vec![Ordinal(1)])), NOW, &mut effects);
    assert_eq!(job.child_state(Ordinal(1)), Some(State::Stopped));
    assert_eq!((job.is_settled(Ordinal(1)), job.stop()), (true, None));
    assert_eq!(job.child_state(Ordinal(0)), Some(State::Running));
}

#[test]
fn a_child_that_starts_again_has_not_failed() {
    let second = Duration::from_secs(1);
    for backoff in [None, Backoff::new(second, second).ok()] {
        let mut spec = supervised(RestartType::Transient, Strategy::OneForOne, 1);
        spec.restart.backoff = backoff;
        let (mut job, _) = accept(JobSpec { max_fails: MaxFails::Count(0), ..spec }, 3);
        job.at(second);
        report(&mut job, 0, None);
        let effects = report(&mut job, 1, Some(failed()));
        assert_eq!((stopped(&effects), job.told_to_stop()), (vec![], false), "{backoff:?}");
        assert_eq!(job.final_end(Ordinal(1)), None, "{backoff:?}");
        job.at(2 * second);
        job.on_wake(NOW, &mut Effects::new());
        report(&mut job, 1, Some(failed()));
        assert_eq!(job.final_end(Ordinal(1)), Some(State::Failed), "{backoff:?}");
        assert!(job.told_to_stop(), "{backoff:?}");
    }
}

#[test]
fn what_waits_for_a_slot_while_others_are_stopped_one_by_one_never_starts() {
    let spec = supervised(RestartType::Permanent, Strategy::OneForOne, 9);
    let throttle = Throttle::AtMost(NonZeroU32::new(2).expect("at least one"));
    let (mut job, _) =
        accept(JobSpec { stop_sequence: StopSequence::OneByOne, throttle, ..spec }, 3);
    report(&mut job, 1, None);
    // Its next incarnation waits behind child 2, which takes its slot.
    report(&mut job, 0, Some(failed()));
    report(&mut job, 2, None);
    let mut effects = Effects::new();
    job.on_stop(order(ChildSet::All), NOW, &mut effects);
    assert_eq!(stopped(&effects), [2]);
    let effects = report(&mut job, 2, Some(Verdict::Stopped));
    assert_eq!((again(&effects), stopped(&effects)), (vec![], vec![1]));
    report(&mut job, 1, Some(Verdict::Stopped));
    assert_eq!((job.child_state(Ordinal(0)), job.state()), (Some(State::Stopped), State::Stopped));
}
