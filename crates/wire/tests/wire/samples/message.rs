use sortie_model::{ChildIncarnation, Ordinal};
use sortie_wire::message_proto::{
    AnswerKind, ChildLife, FromChild, InboxWord, MessageFlow, MessageKind, MessageStream, Posted,
    ToChild,
};

use super::words::{job, session};
use super::{Sample, head, plain};

pub(super) fn samples() -> Vec<Sample> {
    let stream = |flow| MessageStream { session: session(), flow };
    let child = ChildLife { job: job(), ordinal: Ordinal(300), incarnation: ChildIncarnation(2) };
    let to = |label, what, bytes| head(label, ToChild { child, what }, bytes);
    let from = |label, what, bytes| head(label, FromChild { child, what }, bytes);
    let message = |kind| Posted::Message { number: 70_000, kind };
    let answer = |how| InboxWord::Answer { number: 70_000, how };
    vec![
        plain("to children", stream(MessageFlow::ToChildren)),
        plain("from children", stream(MessageFlow::FromChildren)),
        to("a message", message(MessageKind::Send), b"\x93\x01\x02\x03"),
        to("a call", message(MessageKind::Call), b"\xc0"),
        to("answered", Posted::Answered { number: 70_000 }, b""),
        to("closed", Posted::Closed, b""),
        from("open", InboxWord::Open { accepted: 300, taken: 299 }, b""),
        from("closed", InboxWord::Closed { accepted: 300 }, b""),
        from("an answer", answer(AnswerKind::Value), b"\x07"),
        from("no answer", answer(AnswerKind::Unanswered), b""),
        from("unreadable", answer(AnswerKind::Unreadable), b""),
    ]
}
