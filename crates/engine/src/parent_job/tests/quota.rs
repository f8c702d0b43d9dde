//! Output over its quota.

use sortie_model::restart::{RestartSpec, RestartType};

use super::*;
use crate::parent_job::quota::cut;

/// A job of two children that run, on one node each.
fn running() -> ParentJob {
    running_with(spec(per_node(1), None))
}

fn running_with(spec: JobSpec) -> ParentJob {
    let (mut job, _) = accept(spec, 2);
    for number in 0..2 {
        job.on_report(
            node(number),
            &[ChildStart {
                ordinal: Ordinal(u32::from(number)),
                incarnation: ChildIncarnation(0),
                time: NOW,
            }],
            Vec::new(),
            &mut Effects::new(),
        )
        .expect("they run there");
    }
    job
}

fn over(job: &mut ParentJob, ordinal: u32) -> Effects {
    let mut effects = Effects::new();
    job.on_over_quota(Ordinal(ordinal), NOW, &mut effects);
    effects
}

fn report_end(job: &mut ParentJob, ordinal: u32, verdict: Verdict) {
    let at = node(u8::try_from(ordinal).expect("few"));
    job.on_report(at, &[], vec![end(ordinal, verdict)], &mut Effects::new())
        .expect("it runs there");
}

fn reason(job: &ParentJob, ordinal: u32) -> Option<Reason> {
    job.child_view(Ordinal(ordinal), MailboxFacts::default()).and_then(|view| view.reason)
}

fn over_quota() -> Verdict {
    Verdict::Failed(Reason::Limit { which: sortie_model::reason::LimitKind::Mailbox })
}

#[test]
fn a_child_over_its_quota_is_stopped_and_the_others_go_on() {
    let mut job = running();
    let effects = over(&mut job, 0);
    let stops = effects.iter().filter(|effect| matches!(effect, JobEffect::Stop { .. })).count();
    assert_eq!(stops, 1);
    report_end(&mut job, 0, over_quota());
    assert_eq!(reason(&job, 0).map(Verdict::Failed), Some(over_quota()));
    report_end(&mut job, 1, Verdict::Completed);
    assert_eq!((reason(&job, 1), job.state()), (None, State::Failed));
}

#[test]
fn what_is_cut_has_failed_however_it_ended_unless_that_says_more() {
    let ended = |verdict| {
        let mut outcome = ChildOutcome::of(verdict);
        cut(&mut outcome);
        outcome.verdict
    };
    assert_eq!(ended(Verdict::Completed), over_quota());
    assert_eq!(ended(Verdict::Stopped), over_quota());
    assert_eq!(ended(Verdict::Failed(Reason::Oom)), Verdict::Failed(Reason::Oom));
}

#[test]
fn one_that_has_ended_or_is_not_there_is_left_alone() {
    let mut job = running();
    report_end(&mut job, 0, Verdict::Completed);
    assert!(over(&mut job, 0).is_empty() && over(&mut job, 9).is_empty());
    assert_eq!(reason(&job, 0), None);
}

#[test]
fn a_child_that_failed_of_its_quota_does_not_start_again() {
    for (verdict, is_settled) in [(over_quota(), true), (Verdict::Completed, false)] {
        let restart = RestartSpec { restart: RestartType::Permanent, ..RestartSpec::default() };
        let mut job = running_with(JobSpec { restart, ..spec(per_node(1), None) });
        // Nobody heard of the quota before the end.
        report_end(&mut job, 0, verdict);
        assert_eq!(job.is_settled(Ordinal(0)), is_settled);
    }
}
