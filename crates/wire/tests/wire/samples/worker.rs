use bytes::Bytes;
use sortie_model::spec::TaskTypes;
use sortie_model::{Ordinal, Stream};
use sortie_wire::message_proto::{AnswerKind, MessageKind};
use sortie_wire::worker_proto::{
    WorkerAnswer, WorkerEnd, WorkerInbox, WorkerMessage, WorkerOrder, WorkerRecord,
};

use super::words::text;
use super::{Sample, head, plain};

fn ends() -> Vec<(&'static str, WorkerEnd)> {
    let value = Some(Bytes::from_static(b"\x07"));
    vec![
        ("returned", WorkerEnd::Returned { value }),
        ("returned nothing", WorkerEnd::Returned { value: None }),
        ("failed", WorkerEnd::Failed { kind: text("MyError"), message: text("no disk: full") }),
        ("too large", WorkerEnd::TooLarge),
        ("panicked", WorkerEnd::Panicked { message: text("boom") }),
    ]
}

pub(super) fn samples() -> Vec<Sample> {
    let order = WorkerOrder {
        name: text("sum"),
        types: Some(TaskTypes(0x0123_4567_89ab_cdef)),
        input: Bytes::from_static(b"\x93\x01\x02\x03"),
        ordinal: Ordinal(300),
        node: "web3".parse().unwrap(),
    };
    let record = head("a warning", WorkerRecord { stream: Stream::Warning }, b"\xa4slow");
    let ends = ends().into_iter().map(|(label, message)| plain(label, message));
    let given = WorkerMessage::Message { number: 300, kind: MessageKind::Call };
    let answer = WorkerAnswer { number: 300, how: AnswerKind::Value };
    let inbox = [
        head("a call", given, b"\x07"),
        head("no more", WorkerMessage::NoMore, b""),
        plain("open", WorkerInbox::Open),
        plain("want", WorkerInbox::Want),
        plain("close", WorkerInbox::Close),
        head("an answer", answer, b"\x08"),
        head("no answer", WorkerAnswer { number: 1, how: AnswerKind::Unanswered }, b""),
    ];
    [plain("an order", order), record].into_iter().chain(ends).chain(inbox).collect()
}

pub(super) fn variants() -> Vec<&'static str> {
    ends().iter().map(|(_, end)| end_name(end)).collect()
}

fn end_name(end: &WorkerEnd) -> &'static str {
    match end {
        WorkerEnd::Returned { .. } => "Returned",
        WorkerEnd::Failed { .. } => "Failed",
        WorkerEnd::TooLarge => "TooLarge",
        WorkerEnd::Panicked { .. } => "Panicked",
    }
}
