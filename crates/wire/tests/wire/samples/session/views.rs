use sortie_model::reason::{LimitKind, ReachStep, SpawnStep, WorkerFault};
use sortie_model::view::{EntryView, Kind, Progress, Tally};
use sortie_model::{
    ChildInstance, ChildView, EntryId, JobView, Ordinal, Question, QuestionNumber, Reason,
    SessionId, State,
};

use crate::samples::words::{TIME, job as job_instance, node_name, seconds, text};

pub(super) fn job() -> JobView {
    JobView {
        id: EntryId(41),
        instance: job_instance(),
        name: text("nightly build"),
        kind: Kind::Remote,
        state: State::Running,
        has_more_data: true,
        location: text("a,b,…"),
        command: text("wc -c 'a b'"),
        created: TIME,
        begin_time: Some(TIME),
        end_time: None,
        with_errors: true,
        tally: Tally { by_state: [1, 2, 3, 4, 5, 6, 7, 8, 9, 300], open: true },
        children: vec![EntryId(42), EntryId(70_000)],
        session: SessionId(3),
        stopped_by: Some(text("ada")),
        stop_pending: vec![node_name("b")],
        notes: vec![text("b is left out")],
        restarts: 300,
        paused: 2,
    }
}

pub(super) fn child(state: State, reason: Option<Reason>) -> ChildView {
    ChildView {
        id: EntryId(42),
        instance: ChildInstance(job_instance().0),
        parent: EntryId(41),
        ordinal: Ordinal(2),
        state,
        reason,
        has_more_data: true,
        location: text("node01"),
        command: text("wc -c x"),
        begin_time: Some(TIME),
        end_time: Some(TIME),
        exit_code: Some(-1),
        signal: Some(15),
        with_errors: false,
        progress: Some(Progress { done: 3, total: 300 }),
        queue_position: Some(7),
        unread_bytes: 70_000,
        notes: vec![text("2 processes were left")],
        restarts: 3,
        question: (state == State::Blocked).then(question),
        dropped_records: 300,
        dropped_bytes: 70_000,
        paused: (state == State::Running).then(|| text("its mailbox is at its quota")),
    }
}

pub(super) fn question() -> Question {
    Question { number: QuestionNumber(300), prompt: text("sure?"), time: TIME }
}

/// A job of each kind, and a child in each state.
pub(super) fn entries() -> Vec<EntryView> {
    let kinds = [Kind::Background, Kind::Remote, Kind::Thread];
    let jobs = kinds.into_iter().map(|kind| EntryView::Job(JobView { kind, ..job() }));
    let children = State::ALL.into_iter().map(|state| EntryView::Child(child(state, None)));
    jobs.chain(children).collect()
}

pub(super) fn reasons() -> Vec<Reason> {
    let spawn = |step| Reason::Spawn { step, errno: 2 };
    let unreachable = |step| Reason::Unreachable { step };
    let limit = |which| Reason::Limit { which };
    vec![
        Reason::Exit { code: 3 },
        Reason::Signal { number: 9, name: text("KILL"), core_dumped: true },
        spawn(SpawnStep::Chdir),
        spawn(SpawnStep::Exec),
        spawn(SpawnStep::Fork),
        spawn(SpawnStep::Guardian),
        Reason::Error { kind: text("io::Error"), message: text("open: denied") },
        Reason::Panic { message: text("overflow") },
        Reason::Timeout { limit: seconds(60) },
        Reason::Oom,
        Reason::Denied { rule: text("no-root") },
        unreachable(ReachStep::Resolve),
        unreachable(ReachStep::Connect),
        unreachable(ReachStep::Authenticate),
        unreachable(ReachStep::Authorise),
        Reason::NodeLost { since: TIME },
        Reason::SessionExpired,
        Reason::RestartLimit { restarts: 5, period: seconds(10), last: text("ended well") },
        Reason::StartUncertain,
        limit(LimitKind::Output),
        limit(LimitKind::Mailbox),
        limit(LimitKind::Children),
        limit(LimitKind::Value),
        Reason::InputLost,
        Reason::UnknownTask { name: text("sum") },
        Reason::TaskTypes { name: text("sum") },
        Reason::NoBackground { name: text("sum") },
        Reason::NoResult { fault: WorkerFault::Exited },
        Reason::NoResult { fault: WorkerFault::Garbage },
        Reason::Escalated { job: EntryId(3), cause: text("child 4 exited with status 3") },
        Reason::GuardianLost,
    ]
}

/// The variant's name, from its debug form.
pub(super) fn reason_name(reason: &Reason) -> &'static str {
    let shown = format!("{reason:?}");
    shown.split(' ').next().unwrap_or_default().to_owned().leak()
}
