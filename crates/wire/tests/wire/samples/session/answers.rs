use std::time::Duration;

use bytes::Bytes;
use sortie_model::detached::Detached;
use sortie_model::reason::SpawnStep;
use sortie_model::record::{OutputPolicy, OutputRule};
use sortie_model::view::{Availability, ChildPlace, NodeState, NodeView, SessionState};
use sortie_model::{
    ChildIncarnation, EntryId, Incarnation, SessionId, SessionView, State, Timestamp,
};
use sortie_wire::message_proto::{Arrived, Undelivered};
use sortie_wire::session_proto::{
    Answer, Check, ChildExplanation, Diagnosis, Entries, Explanation, JoinOffer, Plan,
    SessionScope, Trouble,
};
use sortie_wire::{ErrorCode, RemoteError};

use super::views;
use crate::samples::words::{TIME, error, node_id, node_name, os, pairs, seconds, session, text};

pub(super) fn entries() -> Entries {
    let trouble = |code| Trouble { about: text("7"), error: error(code) };
    Entries {
        entries: views::entries(),
        total: 70_000,
        troubles: codes().into_iter().map(trouble).collect(),
    }
}

pub(super) fn codes() -> Vec<ErrorCode> {
    vec![
        ErrorCode::Internal,
        ErrorCode::Usage,
        ErrorCode::NotFound,
        ErrorCode::UnknownNode,
        ErrorCode::NoNodes,
        ErrorCode::Denied,
        ErrorCode::NoSession,
        ErrorCode::KeyReused,
        ErrorCode::Limit,
        ErrorCode::Deadlock,
        ErrorCode::NotFinished,
        ErrorCode::IsChild,
        ErrorCode::BadDirectory,
        ErrorCode::UnknownTask,
        ErrorCode::NoGuardian,
        ErrorCode::TokenWrong,
        ErrorCode::TokenUsed,
        ErrorCode::TokenExpired,
        ErrorCode::NameTaken,
        ErrorCode::NotAlone,
        ErrorCode::NoAuthority,
        ErrorCode::Version,
        ErrorCode::ShuttingDown,
        ErrorCode::Unreachable,
        ErrorCode::Gone,
        ErrorCode::Storage,
        ErrorCode::TaskTypes,
        ErrorCode::NoBackground,
        ErrorCode::NotAsking,
        ErrorCode::SessionBusy,
        ErrorCode::SessionTaken,
        ErrorCode::NotRunning,
        ErrorCode::NotSuspended,
    ]
}

/// The variant's name, from its debug form.
pub(super) fn code_name(code: ErrorCode) -> &'static str {
    format!("{code:?}").leak()
}

fn explanation() -> Explanation {
    let child = ChildExplanation {
        child: views::child(State::Failed, Some(views::reasons().remove(0))),
        last_errors: vec![b"cannot open \xff".to_vec(), Vec::new()],
    };
    let history = State::ALL.into_iter().zip(0..).map(|(state, at)| (state, Timestamp(at)));
    Explanation {
        job: views::job(),
        children: vec![child],
        history: history.collect(),
        because: vec![text("one child failed")],
        next: vec![text("sortie receive 41")],
    }
}

fn sessions() -> Vec<SessionView> {
    let view = SessionView {
        id: SessionId(3),
        instance: session(),
        name: text("default"),
        node: node_name("a"),
        owner: text("ada"),
        temporary: false,
        jobs: 5,
        unfinished: 2,
        created: TIME,
        below: None,
        state: SessionState::Disconnected,
        availability: Availability::Busy,
        epoch: 3,
        idle_timeout: Some(Duration::from_secs(7200)),
        expires: Some(TIME),
        output: OutputRule { policy: OutputPolicy::DropOldest, quota: 1 << 20 },
    };
    let below = ChildPlace {
        node: node_name("b"),
        session: SessionId(2),
        job: EntryId(41),
        child: EntryId(42),
        incarnation: ChildIncarnation(1),
    };
    vec![SessionView { below: Some(below), ..view.clone() }, view]
}

fn nodes() -> Vec<NodeView> {
    let node = |state, incarnation, version: Option<&str>| NodeView {
        name: node_name("b"),
        id: node_id(2),
        incarnation,
        address: text("10.0.0.2:4433"),
        state,
        labels: pairs(&[("rack", "r1")]),
        version: version.map(text),
        running: 300,
        is_self: false,
    };
    let life = Some(Incarnation(1_700_000_000_000_001));
    vec![
        node(NodeState::Alive, life, Some("0.1.0")),
        node(NodeState::Suspect, life, Some("0.1.0")),
        node(NodeState::Lost, None, None),
    ]
}

fn diagnosis() -> Diagnosis {
    let check = Check { name: text("clock"), ok: false, finding: text("3 s ahead of b") };
    Diagnosis {
        node: node_name("a"),
        version: text("0.1.0"),
        clock: TIME,
        containment: text("control group"),
        checks: vec![check],
    }
}

pub(super) fn answers() -> Vec<(&'static str, Answer)> {
    let refused = RemoteError::new(ErrorCode::Denied, "only the owner may");
    let plan = Plan {
        nodes: vec![node_name("a"), node_name("b")],
        unreachable: vec![node_name("b")],
        children: Some(300),
    };
    let pong = |round_trip| Answer::Pong { node: node_name("b"), round_trip };
    let undelivered = Answer::Undelivered;
    let variables = vec![(os(b"A"), os(b"1"))];
    let scope = SessionScope { directory: Some(os(b"/srv")), variables };
    let offer = JoinOffer { address: text("10.0.0.1:4433"), token: text("abc") };
    let detached = Detached { node: node_name("b"), pid: 70_000, log: os(b"/srv/1.log") };
    vec![
        ("refused", Answer::Refused(refused)),
        ("done", Answer::Done),
        ("session", Answer::Session(sessions().remove(0))),
        ("started", Answer::Started(Box::new(views::job()))),
        ("input stored", Answer::InputStored),
        ("plan", Answer::Plan(plan)),
        ("entries", Answer::Entries(entries())),
        ("waited", Answer::Waited { entries: Entries::default(), timed_out: true }),
        ("explanation", Answer::Explanation(Box::new(explanation()))),
        ("sessions", Answer::Sessions(sessions())),
        ("scope", Answer::Scope(scope)),
        ("detached", Answer::Detached(detached)),
        ("not detached", Answer::NotDetached { step: SpawnStep::Exec, errno: 2 }),
        ("nodes", Answer::Nodes(nodes())),
        ("pong", pong(Some(seconds(0)))),
        ("pong of itself", pong(None)),
        ("token", Answer::Token(offer)),
        ("diagnosis", Answer::Diagnosis(Box::new(diagnosis()))),
        ("accepted", Answer::Accepted),
        ("reply", Answer::Reply(Bytes::from_static(b"\x07"))),
        ("undelivered", undelivered(Undelivered::Ended { arrived: Arrived::No })),
        (
            "undelivered to a lost node",
            undelivered(Undelivered::NodeLost { arrived: Arrived::Maybe }),
        ),
        ("unanswered", undelivered(Undelivered::Unanswered)),
        ("unreadable", undelivered(Undelivered::Unreadable)),
        ("unanswered by its end", undelivered(Undelivered::Ended { arrived: Arrived::Yes })),
    ]
}
