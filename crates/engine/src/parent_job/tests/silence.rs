//! Children on a node that has been silent for long, and that outlive its silence.

use sortie_model::facts::WaitsFor;
use sortie_wire::host_proto::{ChildAsk, OpenQuestion};

use super::*;

/// It never came to a node that has lived all the time.
const KNOWN: Unknown = Unknown { expired: false, later: false, remembers: false };

/// A job with so many children, all of which have begun.
fn running(children: u32) -> ParentJob {
    let (mut job, _) = accept(spec(per_node(children), None), 1);
    let begun: Vec<ChildStart> = (0..children).map(begin).collect();
    assert_eq!(job.on_report(node(0), &begun, vec![], &mut Effects::new()), Ok(()));
    job
}

fn states(job: &ParentJob) -> Vec<Option<State>> {
    (0..job.children()).map(|ordinal| job.child_state(Ordinal(ordinal))).collect()
}

#[test]
fn what_began_there_is_disconnected_until_the_node_is_back() {
    let mut job = running(2);
    let mut effects = Effects::new();
    job.on_disconnected(node(0), NOW, &mut effects);
    assert_eq!(states(&job), [Some(State::Disconnected); 2]);
    assert_eq!(effects.last(), Some(&JobEffect::ParentChanged(State::Disconnected)));
    job.on_reconnected(node(0), NOW, &mut effects);
    assert_eq!(states(&job), [Some(State::Running); 2]);
    assert_eq!(effects.last(), Some(&JobEffect::ParentChanged(State::Running)));
}

#[test]
fn what_was_not_heard_to_begin_is_disconnected_and_what_waits_for_its_turn_waits() {
    let (mut job, _) = accept(spec(per_node(2), Some(1)), 1);
    job.on_disconnected(node(0), NOW, &mut Effects::new());
    assert_eq!(states(&job), [Some(State::Disconnected), Some(State::NotStarted)]);
    let kept = job.kept(Ordinal(0)).map(|kept| (kept.state, kept.waits_for));
    assert_eq!(kept, Some((State::NotStarted, WaitsFor::Node)));
    let mut effects = Effects::new();
    job.on_reconnected(node(0), NOW, &mut effects);
    assert_eq!(started(&effects), BTreeMap::from([(0, vec![0])]), "said again");
    assert_eq!(states(&job), [Some(State::NotStarted); 2]);
    assert_eq!(job.on_report(node(0), &[begin(0)], vec![], &mut Effects::new()), Ok(()));
    assert_eq!(job.child_state(Ordinal(0)), Some(State::Running));
}

#[test]
fn a_stop_of_a_disconnected_child_is_said_when_its_node_is_back() {
    let mut job = running(1);
    job.on_disconnected(node(0), NOW, &mut Effects::new());
    job.on_stop(order(ChildSet::All), NOW, &mut Effects::new());
    assert_eq!(job.state(), State::Stopping);
    let mut effects = Effects::new();
    job.on_reconnected(node(0), NOW, &mut effects);
    let children = ChildSet::Some(vec![Ordinal(0)]);
    let stop = JobEffect::Stop { node: NodeIndex(0), children, how: StopSpec::default() };
    assert_eq!((effects.as_slice(), job.state()), (&[stop][..], State::Stopping));
}

#[test]
fn a_child_that_was_blocked_is_blocked_again() {
    let mut job = running(1);
    let number = QuestionNumber(1);
    let open = OpenQuestion { prompt: "yes?".into(), time: NOW };
    let ask = ChildAsk {
        ordinal: Ordinal(0),
        incarnation: ChildIncarnation(0),
        number,
        open: Some(open),
        taken: QuestionNumber::NONE,
    };
    assert_eq!(job.on_asked(node(0), vec![ask], NOW, &mut Effects::new()), Ok(()));
    job.on_disconnected(node(0), NOW, &mut Effects::new());
    assert_eq!(job.state(), State::Disconnected);
    job.on_reconnected(node(0), NOW, &mut Effects::new());
    assert_eq!(job.state(), State::Blocked);
}

#[test]
fn a_suspended_child_stays_suspended_and_one_told_to_suspend_meanwhile_shows_it_later() {
    let mut job = running(2);
    job.on_move(ChildSet::Some(vec![Ordinal(0)]), Motion::Suspended, NOW, &mut Effects::new());
    let moved = [moves(0, 1, Motion::Suspended)];
    assert_eq!(job.on_moved(node(0), &moved, NOW, &mut Effects::new()), Ok(()));
    job.on_disconnected(node(0), NOW, &mut Effects::new());
    assert_eq!(states(&job), [Some(State::Suspended), Some(State::Disconnected)]);
    job.on_move(ChildSet::Some(vec![Ordinal(1)]), Motion::Suspended, NOW, &mut Effects::new());
    assert_eq!(job.child_state(Ordinal(1)), Some(State::Disconnected));
    let mut effects = Effects::new();
    job.on_reconnected(node(0), NOW, &mut effects);
    assert_eq!(job.child_state(Ordinal(1)), Some(State::Suspending));
    assert!(effects.iter().any(|effect| matches!(effect, JobEffect::Move { .. })), "said again");
}

#[test]
fn what_ended_while_its_node_was_away_ends_once_it_is_heard() {
    let mut job = running(2);
    job.on_disconnected(node(0), NOW, &mut Effects::new());
    let ended = vec![end(0, Verdict::Completed)];
    assert_eq!(job.on_report(node(0), &[], ended, &mut Effects::new()), Ok(()));
    assert_eq!(states(&job), [Some(State::Completed), Some(State::Disconnected)]);
    job.on_unknown((node(0), KNOWN, NOW), |_| false, NOW, &mut Effects::new());
    let reason = job.child_failure(Ordinal(1)).map(|(reason, _)| reason);
    assert_eq!((reason, job.state()), (Some(Reason::NodeLost { since: NOW }), State::Failed));
}

fn stop_of(ordinals: &[u32]) -> JobEffect {
    let children = ChildSet::Some(ordinals.iter().copied().map(Ordinal).collect());
    JobEffect::Stop { node: NodeIndex(0), children, how: StopSpec::default() }
}

#[test]
fn what_was_stopped_and_never_came_to_its_node_is_stopped_and_not_said_again() {
    let (mut job, _) = accept(spec(per_node(3), None), 1);
    assert_eq!(job.on_report(node(0), &[begin(2)], vec![], &mut Effects::new()), Ok(()));
    job.on_disconnected(node(0), NOW, &mut Effects::new());
    job.on_stop(order(ChildSet::Some(vec![Ordinal(0)])), NOW, &mut Effects::new());
    let mut effects = Effects::new();
    job.on_unknown((node(0), KNOWN, NOW), |_| false, NOW, &mut effects);
    job.on_reconnected(node(0), NOW, &mut effects);
    assert_eq!(started(&effects), BTreeMap::from([(0, vec![1])]));
    assert!(!effects.iter().any(|effect| matches!(effect, JobEffect::Stop { .. })));
    let expected = [State::Stopped, State::NotStarted, State::Failed];
    assert_eq!(states(&job), expected.map(Some));
}

#[test]
fn a_node_that_may_have_what_was_stopped_hears_the_stop_before_the_start() {
    let (mut job, _) = accept(spec(per_node(3), None), 1);
    assert_eq!(job.on_report(node(0), &[begin(2)], vec![], &mut Effects::new()), Ok(()));
    let stopped = ChildSet::Some(vec![Ordinal(0), Ordinal(2)]);
    job.on_stop(order(stopped), NOW, &mut Effects::new());
    let mut effects = Effects::new();
    job.on_reconnected(node(0), NOW, &mut effects);
    assert_eq!(started(&effects), BTreeMap::from([(0, vec![0, 1])]));
    let [before, JobEffect::Start { .. }, behind] = &effects[..] else {
        panic!("a stop, the starts, a stop: {effects:?}");
    };
    assert_eq!((before, behind), (&stop_of(&[0]), &stop_of(&[0, 2])));
    let ended = vec![end(0, Verdict::Stopped)];
    assert_eq!(job.on_report(node(0), &[], ended, &mut effects), Ok(()));
    assert_eq!(job.child_state(Ordinal(0)), Some(State::Stopped));
}

#[test]
fn a_stop_of_what_never_left_this_node_ends_it_at_once() {
    let (mut job, _) = accept(spec(per_node(3), None), 1);
    job.on_told([0, 1].map(Ordinal).into_iter(), false);
    // The other one went over an earlier connection, whatever becomes of its repetition.
    job.on_told([1, 2].map(Ordinal).into_iter(), true);
    job.on_told([1, 2].map(Ordinal).into_iter(), false);
    let mut effects = Effects::new();
    let all = ChildSet::Some([0, 1, 2].map(Ordinal).to_vec());
    job.on_stop(order(all), NOW, &mut effects);
    let expected = [State::Stopped, State::NotStarted, State::NotStarted];
    assert_eq!(states(&job), expected.map(Some));
    effects.clear();
    job.on_reconnected(node(0), NOW, &mut effects);
    assert_eq!(started(&effects), BTreeMap::from([(0, vec![1, 2])]));
}

/// What becomes of a child that was told to its node, and of one that had begun there, when the
/// node says that of their job: the first one's reason, if it ended, and the second one's.
fn fate(said: Unknown, body: BodySpec) -> (Option<Reason>, Option<Reason>) {
    let spec = JobSpec { body, ..spec(per_node(2), None) };
    let (mut job, _) = accept(spec, 1);
    assert_eq!(job.on_report(node(0), &[begin(1)], vec![], &mut Effects::new()), Ok(()));
    job.on_unknown((node(0), said, NOW), |_| false, NOW, &mut Effects::new());
    let reason = |ordinal| job.child_failure(Ordinal(ordinal)).map(|(reason, _)| reason);
    (reason(0), reason(1))
}

#[test]
fn what_may_have_run_is_not_said_again() {
    let command = || BodySpec::Command { words: Vec::new() };
    let task = || BodySpec::Task {
        name: "task".into(),
        input: Bytes::new(),
        types: Default::default(),
        run_in: Default::default(),
    };
    let lost = Some(Reason::NodeLost { since: NOW });
    let (again, uncertain) = ((None, lost.clone()), (Some(Reason::StartUncertain), lost));
    assert_eq!(fate(KNOWN, task()), again);
    assert_eq!(fate(Unknown { expired: true, ..KNOWN }, command()), uncertain);
    let later = Unknown { later: true, ..KNOWN };
    assert_eq!(fate(later, command()), uncertain);
    let remembers = Unknown { remembers: true, ..later };
    assert_eq!(fate(remembers, command()), again);
    assert_eq!(fate(remembers, task()), uncertain);
}

#[test]
fn what_a_torn_memory_may_have_lost_is_not_sent_again() {
    let task = BodySpec::Task {
        name: "task".into(),
        input: Bytes::new(),
        types: Default::default(),
        run_in: Default::default(),
    };
    let command = BodySpec::Command { words: Vec::new() };
    let uncertain = Some(Reason::StartUncertain);
    // Whom the function's node knows, it was told of in its present life.
    let cases = [
        (Memory::Whole, command.clone(), None),
        (Memory::Torn, command, uncertain),
        (Memory::Torn, task, None),
    ];
    for (memory, body, expected) in cases {
        let spec = JobSpec { body, ..spec(per_node(2), None) };
        let (mut job, _) = accept(spec, 1);
        assert_eq!(job.on_report(node(0), &[begin(1)], vec![], &mut Effects::new()), Ok(()));
        let mut effects = Effects::new();
        job.on_adopted((node(0), memory), NOW, &mut effects);
        job.on_reconnected(node(0), NOW, &mut effects);
        let has = |what: fn(&JobEffect) -> bool| effects.iter().any(what);
        let said = has(|effect| matches!(effect, JobEffect::Start { .. }));
        let stopped = has(|effect| matches!(effect, JobEffect::Stop { .. }));
        assert_eq!((said, stopped), (expected.is_none(), expected.is_some()), "{memory:?}");
        let reason = |ordinal| job.child_failure(Ordinal(ordinal)).map(|(reason, _)| reason);
        assert_eq!((reason(0), reason(1)), (expected, None), "what began is heard of");
    }
}

#[test]
fn a_torn_memory_ends_what_was_sent_and_starts_what_was_not() {
    let (mut job, _) = accept(spec(per_node(4), None), 1);
    assert_eq!(job.on_report(node(0), &[begin(0)], vec![], &mut Effects::new()), Ok(()));
    job.on_told([1, 2].map(Ordinal).into_iter(), true);
    job.on_told([3].map(Ordinal).into_iter(), false);
    job.on_stop(order(ChildSet::Some(vec![Ordinal(2)])), NOW, &mut Effects::new());
    let mut effects = Effects::new();
    job.on_adopted((node(0), Memory::Torn), NOW, &mut effects);
    let now = StopSpec::NOW;
    let stop = |ordinals: &[u32]| match stop_of(ordinals) {
        JobEffect::Stop { node, children, .. } => JobEffect::Stop { node, children, how: now },
        other => other,
    };
    assert_eq!(effects.first(), Some(&stop(&[1, 2])), "they may run there");
    job.on_reconnected(node(0), NOW, &mut effects);
    assert_eq!(started(&effects), BTreeMap::from([(0, vec![3])]));
    let expected = [State::Running, State::Failed, State::Stopped, State::NotStarted];
    assert_eq!(states(&job), expected.map(Some));
    let why = job.child_failure(Ordinal(1)).map(|(reason, _)| reason);
    assert_eq!(why, Some(Reason::StartUncertain));
}

#[test]
fn a_node_hears_that_what_it_has_forgotten_is_settled() {
    let mut job = running(1);
    let mut effects = Effects::new();
    job.on_adopted((node(0), Memory::Torn), NOW, &mut effects);
    let [JobEffect::Stop { children, .. }] = &effects[..] else {
        panic!("a stop of nothing: {effects:?}");
    };
    assert_eq!((children, job.state()), (&ChildSet::Some(Vec::new()), State::Running));
}

#[test]
fn a_node_that_is_too_old_for_a_job_ends_only_its_own_children_of_it() {
    let (mut job, _) = accept(spec(per_node(1), None), 2);
    let mut effects = Effects::new();
    job.on_report(node(0), &[begin(0)], vec![], &mut effects).expect("true");
    job.on_too_old(node(1), NOW, &mut effects);
    assert_eq!(job.child_state(Ordinal(0)), Some(State::Running));
    let why = job.child_failure(Ordinal(1)).map(|(reason, _)| reason.to_string());
    let said = "not permitted by rule open-stdin: its node speaks an older version";
    assert_eq!(why.as_deref(), Some(said));
    job.on_too_old(node(0), NOW, &mut effects);
    assert_eq!(job.child_state(Ordinal(0)), Some(State::Running), "what runs there is known");
}
