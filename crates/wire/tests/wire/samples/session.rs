mod answers;
mod asks;
mod views;

use sortie_model::{ChildIncarnation, Deadlock, EntryId, Ordinal, Reason, State};
use sortie_wire::session_proto::{
    Acknowledged, Answer, Ask, Delivery, EndNotice, Event, Failure, Happening, InputData, Request,
    Source,
};
use sortie_wire::{ErrorCode, RemoteError};

use super::words::{TIME, text};
use super::{Sample, head, plain};

pub(super) fn samples() -> Vec<Sample> {
    let requests = asks::requests().into_iter().map(|(label, request)| plain(label, request));
    let answers = answers::answers().into_iter().map(|(label, answer)| plain(label, answer));
    let happenings =
        events().into_iter().map(|(label, event)| plain(label, Happening { time: TIME, event }));
    requests.chain(answers).chain(deliveries()).chain(happenings).chain(inputs()).collect()
}

fn inputs() -> Vec<Sample> {
    vec![
        plain("one", Acknowledged { number: 70_000 }),
        head("a piece", InputData { last: false }, b"\x03\0\0\0one"),
        head("the end", InputData { last: true }, b""),
    ]
}

fn delivery_values() -> Vec<(&'static str, Delivery)> {
    let source = Source {
        child: EntryId(42),
        job: EntryId(41),
        ordinal: Ordinal(2),
        location: text("node01"),
        place: Some(1),
    };
    let asking = source.clone();
    let runs = vec![super::host::run()];
    let failure = |reason| Failure {
        child: EntryId(42),
        location: text("node01"),
        reason,
        exit_code: Some(3),
    };
    let failures: Vec<_> = views::reasons().into_iter().map(failure).collect();
    let entries = answers::entries();
    let asks = Some((EntryId(42), views::question()));
    let deadlock = Deadlock { blocked: EntryId(41), asks };
    vec![
        ("records", Delivery::Records { number: 5, source, runs }),
        ("settled", Delivery::Settled { id: EntryId(41), state: State::Disconnected }),
        ("end", Delivery::End { failures, entries, deadlock: Some(deadlock) }),
        ("refused", Delivery::Refused(RemoteError::new(ErrorCode::Gone, "it was taken"))),
        ("asked", Delivery::Asked { source: asking, question: views::question() }),
    ]
}

fn deliveries() -> Vec<Sample> {
    let payload = |delivery: &Delivery| match delivery {
        Delivery::Records { .. } => b"abc\x93\x01".as_slice(),
        _ => b"",
    };
    let values = delivery_values().into_iter();
    values
        .map(|(label, delivery)| {
            let payload = payload(&delivery);
            head(label, delivery, payload)
        })
        .collect()
}

fn changed(state: State, reason: Option<Reason>) -> Event {
    let (id, job, ordinal) = (EntryId(42), EntryId(41), Some(Ordinal(2)));
    let question = (state == State::Blocked).then(views::question);
    let incarnation = ChildIncarnation(1);
    Event::Changed { id, job, ordinal, incarnation, state, reason, question }
}

fn events() -> Vec<(&'static str, Event)> {
    let (id, job) = (EntryId(42), EntryId(41));
    let (ordinal, incarnation, state) =
        (Some(Ordinal(2)), ChildIncarnation(1), Some(State::Failed));
    let reason = Some(Reason::Exit { code: 3 });
    vec![
        ("accepted", Event::Accepted { job }),
        ("failed", changed(State::Failed, reason.clone())),
        ("running", changed(State::Running, None)),
        ("removed", Event::Removed { job }),
        ("missed", Event::Missed { count: 300 }),
        ("ended", Event::Ended(EndNotice { id, job, ordinal, incarnation, state, reason })),
    ]
}

pub(super) fn variants(name: &str) -> Vec<&'static str> {
    match name {
        "Ask" => asks::requests().iter().map(|(_, request)| ask_name(&request.ask)).collect(),
        "Answer" => answers::answers().iter().map(|(_, answer)| answer_name(answer)).collect(),
        "Delivery" => delivery_values().iter().map(|(_, it)| delivery_name(it)).collect(),
        "Event" => events().iter().map(|(_, event)| event_name(event)).collect(),
        "Reason" => views::reasons().iter().map(views::reason_name).collect(),
        "ErrorCode" => answers::codes().into_iter().map(answers::code_name).collect(),
        _ => panic!("no samples are known for {name}"),
    }
}

fn ask_name(ask: &Ask) -> &'static str {
    match ask {
        Ask::OpenTemporary => "OpenTemporary",
        Ask::Start { .. } => "Start",
        Ask::DryRun { .. } => "DryRun",
        Ask::Get(_) => "Get",
        Ask::Receive(_) => "Receive",
        Ask::Wait(_) => "Wait",
        Ask::Stop { .. } => "Stop",
        Ask::Remove { .. } => "Remove",
        Ask::Explain(_) => "Explain",
        Ask::Watch { .. } => "Watch",
        Ask::SetThrottle { .. } => "SetThrottle",
        Ask::Sessions => "Sessions",
        Ask::Nodes { .. } => "Nodes",
        Ask::Ping { .. } => "Ping",
        Ask::StopNode => "StopNode",
        Ask::LeaveNode => "LeaveNode",
        Ask::SetLabels { .. } => "SetLabels",
        Ask::ClusterInit { .. } => "ClusterInit",
        Ask::ClusterToken => "ClusterToken",
        Ask::ClusterJoin { .. } => "ClusterJoin",
        Ask::Diagnose => "Diagnose",
        Ask::Monitor { .. } => "Monitor",
        Ask::Answer { .. } => "Answer",
        Ask::Send(_) => "Send",
        Ask::Bind { .. } => "Bind",
        Ask::OpenSession(_) => "OpenSession",
        Ask::Connect { .. } => "Connect",
        Ask::Disconnect => "Disconnect",
        Ask::CloseSession => "CloseSession",
        Ask::Scope(_) => "Scope",
        Ask::OpenBelow => "OpenBelow",
        Ask::Suspend { .. } => "Suspend",
        Ask::Detach(_) => "Detach",
    }
}

fn answer_name(answer: &Answer) -> &'static str {
    match answer {
        Answer::Refused(_) => "Refused",
        Answer::Done => "Done",
        Answer::Session(_) => "Session",
        Answer::Started(_) => "Started",
        Answer::InputStored => "InputStored",
        Answer::Plan(_) => "Plan",
        Answer::Entries(_) => "Entries",
        Answer::Waited { .. } => "Waited",
        Answer::Explanation(_) => "Explanation",
        Answer::Sessions(_) => "Sessions",
        Answer::Nodes(_) => "Nodes",
        Answer::Pong { .. } => "Pong",
        Answer::Token(_) => "Token",
        Answer::Diagnosis(_) => "Diagnosis",
        Answer::Accepted => "Accepted",
        Answer::Reply(_) => "Reply",
        Answer::Undelivered(_) => "Undelivered",
        Answer::Scope(_) => "Scope",
        Answer::Detached(_) => "Detached",
        Answer::NotDetached { .. } => "NotDetached",
    }
}

fn delivery_name(delivery: &Delivery) -> &'static str {
    match delivery {
        Delivery::Records { .. } => "Records",
        Delivery::Settled { .. } => "Settled",
        Delivery::End { .. } => "End",
        Delivery::Refused(_) => "Refused",
        Delivery::Asked { .. } => "Asked",
    }
}

fn event_name(event: &Event) -> &'static str {
    match event {
        Event::Accepted { .. } => "Accepted",
        Event::Changed { .. } => "Changed",
        Event::Removed { .. } => "Removed",
        Event::Missed { .. } => "Missed",
        Event::Ended(_) => "Ended",
    }
}

pub(super) fn job_view() -> sortie_model::JobView {
    views::job()
}

/// A request about the session that a label's other words name.
fn ask(label: &'static str, ask: Ask) -> (&'static str, Request) {
    (label, Request { session: sortie_wire::session_proto::SessionRef::Default, ask })
}
