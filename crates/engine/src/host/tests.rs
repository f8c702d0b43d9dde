use std::time::Duration;

use sortie_model::spec::{BodySpec, EnvironmentSpec, Hosting, InputSpec, OsBytes};
use sortie_model::{NodeName, SessionInstance};
use sortie_wire::host_proto::{
    ChildAgain, ChildBatch, ChildFrom, ChildItem, StopChildren, SuspendChildren,
};
use uuid::Uuid;

use super::*;

const SESSION: SessionInstance = SessionInstance(Uuid::nil());
/// Room for whatever a test starts.
const ROOM: Room = Room::For(100);
const JOB: JobInstance = JobInstance(Uuid::nil());

fn spec() -> Box<HostSpec> {
    let node: NodeName = "owner".parse().expect("a good name");
    Box::new(HostSpec {
        body: BodySpec::Command { words: vec![OsBytes::try_from("true").expect("no NUL")] },
        template: false,
        input: InputSpec::None,
        timeout: None,
        grace: Duration::from_secs(10),
        drain: Duration::from_secs(2),
        output_limit: None,
        init: None,
        directory: None,
        environment: EnvironmentSpec::default(),
        hosting: Hosting::Temporary,
        session: 1,
        job: 1,
        owner_node: node,
        level: 0,
    })
}

fn start(first: u32, count: u32) -> StartChildren {
    let children = ChildBatch::Range { first: Ordinal(first), step: 1, count, id_base: 2 };
    StartChildren { session: SESSION, job: JOB, spec: Some(spec()), children }
}

fn ran(effects: &[HostEffect]) -> Vec<u32> {
    let children = effects.iter().filter_map(|effect| match effect {
        HostEffect::Run { children, .. } => Some(children.iter().map(|start| start.ordinal.0)),
        _ => None,
    });
    children.flatten().collect()
}

#[test]
fn the_same_start_twice_runs_a_child_once() {
    let mut host = Host::new(8);
    let mut effects = Vec::new();
    assert_eq!(host.on_start(start(0, 3), ROOM, &mut effects), Ok(()));
    assert_eq!(host.on_start(start(1, 4), ROOM, &mut effects), Ok(()));
    assert_eq!(ran(&effects), [0, 1, 2, 3, 4]);
}

#[test]
fn the_checkpoint_from_which_a_child_goes_on_is_there_before_it_runs() {
    let again = |ordinal, incarnation| ChildAgain {
        ordinal: Ordinal(ordinal),
        id: 2,
        incarnation: ChildIncarnation(incarnation),
        next: Seq(9),
        item: None,
    };
    let from = |value: Bytes| {
        let from = Some((ChildIncarnation(0), value));
        let first = ChildFrom { again: again(0, 1), from };
        ChildBatch::From(vec![first, ChildFrom { again: again(1, 1), from: None }])
    };
    let value = Bytes::from_static(b"a");
    let (mut host, mut effects) = (Host::new(8), Vec::new());
    let start = |value| StartChildren { children: from(value), ..start(0, 0) };
    assert_eq!(host.on_start(start(value.clone()), ROOM, &mut effects), Ok(()));
    let [HostEffect::Reached { checkpoints, .. }, HostEffect::Run { children, .. }] = &effects[..]
    else {
        panic!("the checkpoint, then the run: {effects:?}");
    };
    assert_eq!(checkpoints, &[(Ordinal(0), (ChildIncarnation(0), value))]);
    let lives: Vec<_> = children.iter().map(|it| (it.ordinal.0, it.incarnation.0)).collect();
    assert_eq!(lives, [(0, 1), (1, 1)]);
    let long = vec![0; limits::CHECKPOINT_BYTES + 1].into();
    assert_eq!(host.on_start(start(long), ROOM, &mut effects), Err(BadStart::Checkpoint));
}

fn stop_some(ordinals: std::ops::Range<u32>) -> StopChildren {
    let children = ChildSet::Some(ordinals.map(Ordinal).collect());
    StopChildren { session: SESSION, job: JOB, children, how: StopSpec::default() }
}

fn never_ran(effects: &[HostEffect]) -> Vec<u32> {
    let children = effects.iter().filter_map(|effect| match effect {
        HostEffect::NeverRun { children, .. } => Some(children.iter().map(|it| it.ordinal.0)),
        _ => None,
    });
    children.flatten().collect()
}

#[test]
fn what_a_stop_named_before_it_came_never_begins_and_says_so_once() {
    let (mut host, mut effects) = (Host::new(8), Vec::new());
    assert_eq!(host.on_start(start(0, 2), ROOM, &mut effects), Ok(()));
    host.on_stop(stop_some(1..4), &mut effects);
    for _ in 0..2 {
        assert_eq!(host.on_start(start(1, 4), ROOM, &mut effects), Ok(()));
    }
    assert_eq!((ran(&effects), never_ran(&effects)), (vec![0, 1, 4], vec![2, 3]));
    // A later life of it is none that the stop knew of.
    let value = Bytes::from_static(b"a");
    host.on_stop(stop_some(5..6), &mut effects);
    effects.clear();
    let later = StartChildren { job: JOB, ..from(0, 5..6, 1, &value) };
    assert_eq!(host.on_start(later, ROOM, &mut effects), Ok(()));
    assert_eq!((ran(&effects), never_ran(&effects)), (vec![5], vec![]));
}

#[test]
fn stops_of_what_has_not_come_are_remembered_up_to_a_bound() {
    let (mut host, mut effects) = (Host::new(8), Vec::new());
    assert_eq!(host.on_start(start(0, 1), ROOM, &mut effects), Ok(()));
    let most = limits::STOPPED_UNBORN as u32;
    host.on_stop(stop_some(1..most + 2), &mut effects);
    let unborn = |host: &Host| host.jobs.values().map(|job| job.unborn.len()).sum::<usize>();
    assert_eq!(unborn(&host), limits::STOPPED_UNBORN);
    // The next stop says all that counts.
    host.on_stop(stop_some(1..3), &mut effects);
    assert_eq!(unborn(&host), 2);
}

/// A start of the children from that one on in that life, each with a checkpoint of that value.
fn from(job: u128, children: std::ops::Range<u32>, life: u32, value: &Bytes) -> StartChildren {
    let some = children.map(|ordinal| {
        let (ordinal, incarnation) = (Ordinal(ordinal), ChildIncarnation(life));
        let again = ChildAgain { ordinal, id: 2, incarnation, next: Seq(9), item: None };
        ChildFrom { again, from: Some((ChildIncarnation(life - 1), value.clone())) }
    });
    let (job, children) = (JobInstance(Uuid::from_u128(job)), ChildBatch::From(some.collect()));
    StartChildren { job, children, ..start(0, 0) }
}

#[test]
fn a_child_that_was_accepted_brings_no_other_checkpoint() {
    let (mut host, mut effects) = (Host::new(8), Vec::new());
    let value = Bytes::from_static(b"a");
    assert_eq!(host.on_start(from(1, 0..1, 1, &value), ROOM, &mut effects), Ok(()));
    effects.clear();
    let again = from(1, 0..1, 1, &Bytes::from_static(b"b"));
    assert_eq!(host.on_start(again, ROOM, &mut effects), Ok(()));
    assert_eq!(effects, []);
    assert_eq!(host.on_start(from(1, 0..1, 2, &value), ROOM, &mut effects), Ok(()));
    assert!(matches!(effects[..], [HostEffect::Reached { .. }, HostEffect::Run { .. }]));
}

#[test]
fn the_checkpoints_of_a_session_take_only_so_much() {
    let (mut host, mut effects) = (Host::new(8), Vec::new());
    let value = Bytes::from(vec![7; limits::CHECKPOINT_BYTES]);
    let per_job = 1000;
    let most = (limits::HOSTED_CHECKPOINTS_BYTES / weight(&value)) as u128 / u128::from(per_job);
    let room = Room::For(u64::MAX);
    for job in 0..most {
        let start = from(job, 0..per_job, 1, &value);
        assert_eq!(host.on_start(start, room, &mut effects), Ok(()));
        effects.clear();
    }
    let next = || from(most, 0..per_job, 1, &value);
    assert_eq!(host.on_start(next(), room, &mut effects), Err(BadStart::Checkpoints));
    assert_eq!(effects, []);
    // A next life's takes the place of the one before, and what is forgotten makes room.
    assert_eq!(host.on_start(from(0, 0..9, 2, &value), room, &mut effects), Ok(()));
    assert_eq!(host.on_start(from(0, 0..9, 2, &value), room, &mut effects), Ok(()));
    host.on_forget(JobInstance(Uuid::from_u128(0)), &mut effects);
    assert_eq!(host.on_start(next(), room, &mut effects), Ok(()));
}

#[test]
fn more_processes_than_allowed_wait_in_order() {
    let mut host = Host::new(2);
    let mut effects = Vec::new();
    assert_eq!(host.on_start(start(0, 4), ROOM, &mut effects), Ok(()));
    assert_eq!(ran(&effects), [0, 1]);
    host.on_ended(JOB, 1, &mut effects);
    assert_eq!(ran(&effects), [0, 1, 2]);
    assert_eq!(host.queued(), 1);
}

#[test]
fn a_stop_reaches_what_runs_and_what_waits() {
    let mut host = Host::new(1);
    let mut effects = Vec::new();
    assert_eq!(host.on_start(start(0, 3), ROOM, &mut effects), Ok(()));
    effects.clear();
    let how = StopSpec::default();
    let all = ChildSet::All;
    let stop = StopChildren { session: SESSION, job: JOB, children: all.clone(), how };
    host.on_stop(stop, &mut effects);
    let (job, spec) = (JOB, Arc::from(spec()));
    let queued = |ordinal: u32| Start {
        ordinal: Ordinal(ordinal),
        id: u64::from(ordinal) + 2,
        incarnation: ChildIncarnation(0),
        next: Seq(0),
        item: None,
    };
    let never = HostEffect::NeverRun { job, spec, children: vec![queued(1), queued(2)] };
    assert_eq!(effects, [never, HostEffect::Stop { job: JOB, children: all, how }]);
}

#[test]
fn a_job_without_its_spec_is_refused_and_a_forgotten_one_is_unknown() {
    let mut host = Host::new(1);
    let mut effects = Vec::new();
    let bare = StartChildren { spec: None, ..start(0, 1) };
    assert_eq!(host.on_start(bare, ROOM, &mut effects), Err(BadStart::SpecMissing));
    assert_eq!(host.on_start(start(0, 1), ROOM, &mut effects), Ok(()));
    let resume = Resume { session: SESSION, reports: 0, children: Vec::new(), jobs: vec![JOB] };
    assert_eq!(host.on_resume(&resume, &mut effects), []);
    host.on_over(&mut effects);
    assert_eq!(host.on_resume(&resume, &mut effects), [JOB]);
    assert!(host.is_empty());
}

#[test]
fn a_torn_memory_is_told_of_where_something_is_from_before_or_unknown() {
    let mut host = Host::new(1);
    // Told in the present life.
    assert!(host.remembers(false, &[]) && host.remembers(true, &[JOB]));
    assert!(!host.remembers(false, &[JOB]), "it may have been told before");
    host.on_adopted(JOB, (*spec(), true), &[(Ordinal(0), ChildIncarnation(0))]);
    assert!(!host.remembers(false, &[]) && host.remembers(true, &[]));
    assert_eq!(host.on_start(start(1, 1), ROOM, &mut Vec::new()), Ok(()));
    assert!(host.remembers(false, &[]), "it is told of in the present life");
}

#[test]
fn a_torn_memory_is_told_of_until_the_owner_has_settled_it() {
    let (mut host, mut effects) = (Host::new(2), Vec::new());
    host.on_adopted(JOB, (*spec(), true), &[(Ordinal(0), ChildIncarnation(0))]);
    let other = StartChildren { job: JobInstance(Uuid::from_u128(2)), ..start(0, 1) };
    assert_eq!(host.on_start(other, ROOM, &mut effects), Ok(()));
    assert!(!host.remembers(false, &[]));
    effects.clear();
    host.on_stop(stop_some(0..0), &mut effects);
    assert!(host.remembers(false, &[]), "what runs in this life is known");
    let nothing = [HostEffect::Stop {
        job: JOB,
        children: ChildSet::Some(Vec::new()),
        how: StopSpec::default(),
    }];
    assert_eq!(effects, nothing);
}

#[test]
fn a_job_that_the_owner_does_not_name_any_more_is_over() {
    let mut host = Host::new(1);
    let mut effects = Vec::new();
    assert_eq!(host.on_start(start(0, 1), ROOM, &mut effects), Ok(()));
    let other = JobInstance(Uuid::from_u128(2));
    assert_eq!(
        host.on_start(StartChildren { job: other, ..start(0, 1) }, ROOM, &mut effects),
        Ok(())
    );
    effects.clear();
    let resume = Resume { session: SESSION, reports: 0, children: Vec::new(), jobs: vec![other] };
    assert_eq!(host.on_resume(&resume, &mut effects), []);
    let spec = Arc::from(spec());
    let children = vec![Start {
        ordinal: Ordinal(0),
        id: 2,
        incarnation: ChildIncarnation(0),
        next: Seq(0),
        item: None,
    }];
    let next = HostEffect::Run { job: other, spec, children };
    assert_eq!(effects, [HostEffect::Discard(JOB), next], "its place is free");
}

#[test]
fn a_range_is_as_long_as_there_is_room_and_repetitions_take_none() {
    let mut host = Host::new(1);
    let mut effects = Vec::new();
    let too_many = start(0, limits::CHILDREN_PER_JOB);
    assert_eq!(host.on_start(too_many, Room::For(9), &mut effects), Err(BadStart::Children));
    assert!(host.is_empty() && effects.is_empty());
    assert_eq!(host.on_start(start(0, 9), Room::For(9), &mut effects), Ok(()));
    assert_eq!(host.on_start(start(0, 9), Room::For(0), &mut effects), Ok(()));
    assert_eq!(host.on_start(start(0, 10), Room::For(0), &mut effects), Err(BadStart::Children));
    assert_eq!((host.queued(), ran(&effects)), (8, vec![0]));
}

#[test]
fn a_place_that_no_child_can_have_is_refused() {
    let mut host = Host::new(1);
    let mut effects = Vec::new();
    let most = limits::CHILDREN_PER_JOB;
    let wide = ChildBatch::Range { first: Ordinal(1), step: u32::MAX, count: u32::MAX, id_base: 2 };
    let wide = StartChildren { children: wide, ..start(0, 1) };
    let item = ChildItem { ordinal: Ordinal(most), id: 2, number: 1, item: Bytes::new() };
    let item = StartChildren { children: ChildBatch::Items(vec![item]), ..start(0, 1) };
    for start in [wide, item, start(1, most), start(most, 1)] {
        assert_eq!(host.on_start(start, Room::For(u64::MAX), &mut effects), Err(BadStart::Ordinal));
    }
    assert_eq!(host.on_start(start(most - 1, 1), Room::For(u64::MAX), &mut effects), Ok(()));
}

#[test]
fn a_spec_is_as_long_as_a_submission_may_be() {
    let mut host = Host::new(1);
    let mut effects = Vec::new();
    let text = Bytes::from(vec![b'x'; limits::SPEC_BYTES + limits::HOST_SPEC_OVERHEAD_BYTES]);
    let script = |bytes: usize| {
        let body = BodySpec::Script { text: text.slice(..bytes), arguments: Vec::new() };
        StartChildren { spec: Some(Box::new(HostSpec { body, ..*spec() })), ..start(0, 1) }
    };
    let most = limits::SPEC_BYTES;
    let long = script(most + limits::HOST_SPEC_OVERHEAD_BYTES);
    assert_eq!(host.on_start(long, ROOM, &mut effects), Err(BadStart::SpecTooLong));
    assert_eq!(host.on_start(script(most), ROOM, &mut effects), Ok(()));
    let others = (0u128..).map(|job| {
        let job = JobInstance(Uuid::from_u128(job + 1));
        host.on_start(StartChildren { job, ..script(most) }, ROOM, &mut effects)
    });
    let fit = others.take_while(Result::is_ok).count();
    assert_eq!(
        fit,
        limits::HOSTED_SPECS_BYTES / most - 2,
        "each takes a little more than its text"
    );
}

#[test]
fn a_session_has_only_so_many_jobs_here() {
    let mut host = Host::new(1);
    let mut effects = Vec::new();
    let mut next = |job: usize| {
        let job = JobInstance(Uuid::from_u128(job as u128));
        host.on_start(StartChildren { job, ..start(0, 1) }, ROOM, &mut effects)
    };
    assert!((0..limits::HOSTED_JOBS).all(|job| next(job).is_ok()));
    assert_eq!(next(limits::HOSTED_JOBS), Err(BadStart::Jobs));
    assert_eq!(next(0), Ok(()), "a known job is no new one");
}

#[test]
fn this_nodes_own_sessions_have_no_bounds_here() {
    let mut host = Host::new(1);
    let mut effects = Vec::new();
    let mut next = |job: usize| {
        let job = JobInstance(Uuid::from_u128(job as u128));
        host.on_start(StartChildren { job, ..start(0, 1) }, Room::Own, &mut effects)
    };
    assert!((0..=limits::HOSTED_JOBS).all(|job| next(job).is_ok()));
    let many = limits::HOSTED_CHILDREN as u32 / 100;
    assert_eq!(host.on_start(start(0, many), Room::Own, &mut effects), Ok(()));
}

#[test]
fn what_is_queued_and_suspended_runs_only_after_the_resume() {
    let mut host = Host::new(1);
    let mut effects = Vec::new();
    assert_eq!(host.on_start(start(0, 3), ROOM, &mut effects), Ok(()));
    let order = |number, motion| SuspendChildren {
        session: SESSION,
        job: JOB,
        children: ChildSet::All,
        number,
        motion,
    };
    effects.clear();
    host.on_suspend(order(1, Motion::Suspended), &mut effects);
    assert_eq!(moved(&effects), [(1, 1, Motion::Suspended), (2, 1, Motion::Suspended)]);
    assert!(ran(&effects).is_empty());
    effects.clear();
    host.on_ended(JOB, 1, &mut effects);
    assert_eq!((ran(&effects), host.queued()), (vec![], 2));
    host.on_suspend(order(2, Motion::Running), &mut effects);
    assert_eq!(moved(&effects), [(1, 2, Motion::Running), (2, 2, Motion::Running)]);
    assert_eq!((ran(&effects), host.queued()), (vec![1], 1));
}

/// What the effects report of queued children: ordinal, number, motion.
fn moved(effects: &[HostEffect]) -> Vec<(u32, u64, Motion)> {
    let moved = effects.iter().filter_map(|effect| match effect {
        HostEffect::Moved { moved, .. } => Some(moved),
        _ => None,
    });
    moved.flatten().map(|it| (it.ordinal.0, it.number, it.motion)).collect()
}

#[test]
fn the_end_of_a_lease_ends_what_does_not_outlive_it() {
    let mut host = Host::new(8);
    let mut effects = Vec::new();
    let kept = JobInstance(Uuid::from_u128(9));
    let spec = Some(Box::new(HostSpec { hosting: Hosting::Persistent, ..*spec() }));
    let persistent = StartChildren { job: kept, spec, ..start(0, 1) };
    assert_eq!(host.on_start(start(0, 1), ROOM, &mut effects), Ok(()));
    assert_eq!(host.on_start(persistent, ROOM, &mut effects), Ok(()));
    effects.clear();
    host.on_lease_over(&mut effects);
    assert_eq!(effects, [HostEffect::Discard(JOB)]);
    assert!(!host.is_empty());
    let resume =
        Resume { session: SESSION, reports: 0, children: Vec::new(), jobs: vec![JOB, kept] };
    assert_eq!(host.on_resume(&resume, &mut effects), [JOB]);
}
