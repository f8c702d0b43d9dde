use std::time::Duration;

use bytes::Bytes;
use sortie_model::detached::DetachSpec;
use sortie_model::record::{OutputPolicy, OutputRule, StreamSet};
use sortie_model::restart::{Backoff, Intensity, RestartSpec, RestartType, StopSequence, Strategy};
use sortie_model::selector::{Glob, Query, Selection, Selector};
use sortie_model::spec::{
    BodySpec, EnvironmentSpec, Escalation, Fan, Hosting, InputSpec, MaxFails, Placement, RunIn,
    StopSpec, Throttle,
};
use sortie_model::{
    Bound, ChildKey, EntryId, IdempotencyKey, JobSpec, Motion, Ordinal, QuestionNumber, State,
    Stream,
};
use sortie_wire::message_proto::MessageKind;
use sortie_wire::session_proto::{
    Ask, MessageSpec, ReceiveMode, ReceiveSpec, Request, ScopeChange, SessionOptions, SessionRef,
    WaitCount, WaitSpec,
};

use super::ask;
use crate::samples::host;
use crate::samples::words::{
    TIME, at_least_one, job, node_name, os, pairs, seconds, session, text, window,
};

fn selection() -> Selection {
    Selection {
        selectors: vec![
            Selector::Id(EntryId(300)),
            Selector::Range(EntryId(3), EntryId(7)),
            Selector::Instance(job().0),
            Selector::Name(Glob(text("web*"))),
            Selector::Last,
            Selector::All,
        ],
        states: State::ALL.to_vec(),
        command: Some(Glob(text("serve*"))),
    }
}

fn key() -> IdempotencyKey {
    IdempotencyKey::try_from(text("deploy-42")).unwrap()
}

fn spec() -> JobSpec {
    let body = BodySpec::Command { words: vec![os(b"wc"), os(b"-c")] };
    JobSpec {
        name: Some("nightly build".parse().unwrap()),
        placement: Placement::Nodes {
            on: "node[01-20/2],@web".parse().unwrap(),
            exclude: Some("rack=r1".parse().unwrap()),
        },
        fan: Fan::Each,
        throttle: Throttle::AtMost(at_least_one(8)),
        input: InputSpec::Stream,
        timeout: Some(seconds(60)),
        grace: seconds(10),
        drain: seconds(2),
        output_limit: Some(1 << 40),
        max_fails: MaxFails::Percent(10),
        init: Some(text("true")),
        directory: Some(os(b"/srv")),
        environment: host::environment(),
        hosting: Hosting::Temporary,
        connect_timeout: seconds(5),
        restart: RestartSpec {
            restart: RestartType::Transient,
            strategy: Strategy::RestForOne,
            intensity: Intensity::new(5, seconds(10)).unwrap(),
            backoff: Some(Backoff::new(seconds(1), seconds(32)).unwrap()),
        },
        stop_sequence: StopSequence::OneByOne,
        escalation: Escalation::FailsChild,
        ..JobSpec::new("wc -c", body)
    }
}

fn open_input() -> InputSpec {
    InputSpec::Open { prompt: Some("? ".parse().unwrap()) }
}

fn starts() -> Vec<(&'static str, Request)> {
    let start = |label, spec| ask(label, Ask::Start { key: key(), spec: Box::new(spec) });
    let script = BodySpec::Script { text: Bytes::from_static(b"hi"), arguments: vec![os(b"a")] };
    let input = Bytes::from_static(b"\x93\x01");
    let task = BodySpec::Task { name: text("sum"), input, types: None, run_in: RunIn::Thread };
    let copies = at_least_one(3);
    let of_script = JobSpec {
        fan: Fan::PerNode { copies },
        max_fails: MaxFails::Count(2),
        ..JobSpec::new("script.sh a", script)
    };
    let of_task =
        JobSpec { fan: Fan::Spread, throttle: Throttle::Unlimited, ..JobSpec::new("sum", task) };
    vec![
        start("start a command", spec()),
        start("start a script", of_script),
        start("start on a terminal", JobSpec { input: InputSpec::Terminal(window()), ..spec() }),
        start("start with open input", JobSpec { input: open_input(), ..spec() }),
        start("start a task", of_task),
        ask("dry run", Ask::DryRun { spec: Box::new(spec()) }),
    ]
}

fn reads() -> Vec<(&'static str, Request)> {
    let query = Query {
        selection: selection(),
        children: true,
        child_states: vec![State::Failed],
        has_more_data: Some(true),
        before: Some(TIME),
        after: Some(TIME),
        newest: Some(3),
        limit: 10,
        offset: 20,
    };
    let receive = |mode| ReceiveSpec {
        selection: selection(),
        mode,
        streams: StreamSet::EMPTY.with(Stream::Error),
        on: Some("a".parse().unwrap()),
        tail: Some(10),
        since: Some(TIME),
        auto_remove: true,
        events: true,
        answers: true,
    };
    let small = |mode| Ask::Receive(Box::new(ReceiveSpec::new(Selection::default(), mode)));
    let wait = |count, timeout| {
        Ask::Wait(WaitSpec { selection: Selection::default(), count, finished: true, timeout })
    };
    vec![
        ask("get", Ask::Get(Box::new(query))),
        ask("take all of it", Ask::Receive(Box::new(receive(ReceiveMode::Take)))),
        ask("keep", small(ReceiveMode::Keep)),
        ask("take until", small(ReceiveMode::TakeUntil { finished: true })),
        ask("follow", small(ReceiveMode::Follow)),
        ask("wait for all", wait(WaitCount::All, None)),
        ask("wait for any", wait(WaitCount::Any, Some(Duration::ZERO))),
        ask("wait for some", wait(WaitCount::AtLeast(3), Some(seconds(9)))),
        ask("explain", Ask::Explain(Selector::Last)),
        ask("watch", Ask::Watch { selection: selection() }),
    ]
}

fn changes() -> Vec<(&'static str, Request)> {
    let how = StopSpec { signal: 2, grace: Some(seconds(3)) };
    let throttle = Throttle::AtMost(at_least_one(1));
    vec![
        ask("stop", Ask::Stop { selection: selection(), how, wait: true }),
        ask("remove", Ask::Remove { selection: selection(), force: true }),
        ask("set throttle", Ask::SetThrottle { selection: selection(), throttle }),
        suspend("suspend", Motion::Suspended),
        suspend("resume", Motion::Running),
        answer("answer", Some(QuestionNumber(300))),
        answer("answer whatever is asked", None),
    ]
}

fn suspend(label: &'static str, motion: Motion) -> (&'static str, Request) {
    ask(label, Ask::Suspend { selection: selection(), motion, wait: true })
}

fn answer(label: &'static str, number: Option<QuestionNumber>) -> (&'static str, Request) {
    let answer = Bytes::from_static(b"\xa3yes");
    ask(label, Ask::Answer { child: Selector::Id(EntryId(42)), number, answer })
}

fn about_nodes() -> Vec<(&'static str, Request)> {
    let labels = pairs(&[("rack", "r1"), ("gpu", "")]);
    vec![
        ask("sessions", Ask::Sessions),
        ask("nodes", Ask::Nodes { expression: Some("*&!a".parse().unwrap()) }),
        ask("all nodes", Ask::Nodes { expression: None }),
        ask("ping", Ask::Ping { node: Some(node_name("b")) }),
        ask("stop node", Ask::StopNode),
        ask("leave node", Ask::LeaveNode),
        ask("set labels", Ask::SetLabels { node: node_name("b"), labels }),
        ask("cluster init", Ask::ClusterInit { advertise: Some(text("10.0.0.1:4433")) }),
        ask("cluster token", Ask::ClusterToken),
        ask(
            "cluster join",
            Ask::ClusterJoin { address: text("10.0.0.1:4433"), token: text("abc") },
        ),
        ask("diagnose", Ask::Diagnose),
        ask("monitor", Ask::Monitor { selection: selection() }),
        ask("bind", Ask::Bind { first: Bound::Job(job()), second: Bound::Child(child()) }),
        ask("open below", Ask::OpenBelow),
        ask("detach", Ask::Detach(Box::new(detached()))),
    ]
}

fn detached() -> DetachSpec {
    DetachSpec {
        body: BodySpec::Command { words: vec![os(b"serve"), os(b"-p")] },
        directory: Some(os(b"/srv")),
        environment: EnvironmentSpec {
            inherited: Some(vec![(os(b"PATH"), os(b"/bin"))]),
            inherited_directory: Some(os(b"/home/ann")),
            set: vec![(os(b"A"), os(b"1"))],
        },
    }
}

fn child() -> ChildKey {
    ChildKey { job: job(), ordinal: Ordinal(300) }
}

pub(super) fn requests() -> Vec<(&'static str, Request)> {
    let by = |label, session| (label, Request { session, ask: Ask::OpenTemporary });
    let opens = vec![
        by("open temporary", SessionRef::Default),
        by("of a session", SessionRef::Instance(session())),
        by("of a named session", SessionRef::Named(text("build"))),
        by("of the session above", SessionRef::Above),
        by("of a held session", SessionRef::Held { instance: session(), epoch: 3 }),
    ];
    let message = Bytes::from_static(b"\x93\x01\x02\x03");
    let send = |kind| Ask::Send(MessageSpec { child: child(), kind, message: message.clone() });
    let sends = vec![
        ask("send", send(MessageKind::Send)),
        ask("call", send(MessageKind::Call)),
        ask("write", send(MessageKind::Write)),
        ask("close input", send(MessageKind::CloseInput)),
    ];
    let all = [opens, starts(), reads(), changes(), about_nodes(), sends, about_sessions()];
    all.into_iter().flatten().collect()
}

fn about_sessions() -> Vec<(&'static str, Request)> {
    let name = Some("work".parse().unwrap());
    let output = OutputRule { policy: OutputPolicy::Fail, quota: 1 << 16 };
    let options = SessionOptions { name, idle_timeout: Some(Duration::from_secs(90)), output };
    let change = ScopeChange {
        directory: Some(os(b"/srv")),
        set: vec![(os(b"A"), os(b"1"))],
        unset: vec![os(b"B")],
    };
    vec![
        ask("open session", Ask::OpenSession(options)),
        ask("open any session", Ask::OpenSession(SessionOptions::default())),
        ask("connect", Ask::Connect { take: true }),
        ask("disconnect", Ask::Disconnect),
        ask("close session", Ask::CloseSession),
        ask("scope", Ask::Scope(change)),
    ]
}
