use bytes::Bytes;
use sortie_model::spec::TaskTypes;
use sortie_model::{Ordinal, QuestionNumber, Stream};
use sortie_wire::message_proto::{AnswerKind, MessageKind};
use sortie_wire::worker_proto::{
    WorkerAnswer, WorkerAsked, WorkerCheckpoint, WorkerEnd, WorkerExchange, WorkerInbox,
    WorkerMessage, WorkerOrder, WorkerRecord, WorkerReply, WorkerWithdrew,
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
        resumed: Some(Bytes::from_static(b"\x09")),
    };
    let record = head("a warning", WorkerRecord { stream: Stream::Warning }, b"\xa4slow");
    let ends = ends().into_iter().map(|(label, message)| plain(label, message));
    let number = QuestionNumber(300);
    let answer = Bytes::from_static(b"\xa3yes");
    let asks = [
        plain("a question", WorkerAsked { number, prompt: text("sure?") }),
        plain("yes", WorkerAnswer { number, answer }),
        plain("not asked any more", WorkerWithdrew { number }),
        plain("a request of its own", WorkerExchange),
        head("a checkpoint", WorkerCheckpoint, b"\x09"),
    ];
    let given = WorkerMessage::Message { number: 300, kind: MessageKind::Call };
    let reply = WorkerReply { number: 300, how: AnswerKind::Value };
    let inbox = [
        head("a call", given, b"\x07"),
        head("no more", WorkerMessage::NoMore, b""),
        plain("open", WorkerInbox::Open),
        plain("want", WorkerInbox::Want),
        plain("close", WorkerInbox::Close),
        head("an answer", reply, b"\x08"),
        head("no answer", WorkerReply { number: 1, how: AnswerKind::Unanswered }, b""),
    ];
    [plain("an order", order), record].into_iter().chain(ends).chain(inbox).chain(asks).collect()
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
