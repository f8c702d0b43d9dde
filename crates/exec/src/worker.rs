//! Worker processes: a background function in a process of its own, as the node sees it.
//!
//! The guardian executes the program again with [`WORKER_ARGUMENT`] and a socket as its standard
//! input. `process` is the other end.

mod channel;
mod inbox;
mod process;
pub mod socket;

use bytes::{Bytes, BytesMut};
use sortie_model::spec::OsBytes;
use sortie_model::{QuestionNumber, Stream, limits};
use sortie_wire::DecodeError;
use sortie_wire::frame::{Frame, open_head, take_frame, write_head, write_message};
use sortie_wire::guardian_proto::{NulList, Program};
use sortie_wire::message_proto::CallAnswer;
use sortie_wire::worker_proto::{
    WORKER_FRAME_BYTES, WorkerAnswer, WorkerAsked, WorkerCheckpoint, WorkerEnd, WorkerExchange,
    WorkerInbox, WorkerMessage, WorkerOrder, WorkerRecord, WorkerReply, WorkerWithdrew,
};
use sortie_wire::{Message, TooLarge};

pub use process::{WorkerNode, run_if_asked};

use crate::task::cut;

/// The one argument of a worker process.
pub const WORKER_ARGUMENT: &str = "--sortie-worker";

/// The program that the guardian runs, whatever became of its file since.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// What a worker process executes.
pub fn program() -> Program {
    let words = [OWN_PROGRAM, WORKER_ARGUMENT].map(OsBytes::try_from);
    Program::Command(NulList::of_words(words.iter().flatten()))
}

/// An order as the worker reads it.
///
/// # Errors
/// [`TooLarge`] when it would be longer than a frame.
pub fn order_frame(order: &WorkerOrder) -> Result<Bytes, TooLarge> {
    let mut frame = Vec::new();
    write_message(order, &mut frame)?;
    Ok(frame.into())
}

/// An answer as the worker reads it.
///
/// # Errors
/// [`TooLarge`] when it would be longer than a frame.
pub fn answer_frame(number: QuestionNumber, answer: Bytes) -> Result<Bytes, TooLarge> {
    let mut frame = Vec::new();
    write_message(&WorkerAnswer { number, answer }, &mut frame)?;
    Ok(frame.into())
}

/// What the function's inbox gives, as the worker reads it.
///
/// # Errors
/// [`TooLarge`] when it would be longer than a frame.
pub fn message_frame(what: &WorkerMessage, message: &Bytes) -> Result<Bytes, TooLarge> {
    let mut frame = Vec::new();
    write_head(what, message.len(), &mut frame)?;
    frame.extend_from_slice(message);
    Ok(frame.into())
}

/// What a worker said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerReport {
    /// A record of its function.
    Record {
        /// The stream that it belongs to.
        stream: Stream,
        /// Its value.
        value: Bytes,
    },
    /// Something about its function's inbox.
    Inbox(WorkerInbox),
    /// Its function answers a call.
    Reply(u64, CallAnswer),
    /// Its function has ended.
    Ended(WorkerEnd),
    /// Its function asks.
    Asked(WorkerAsked),
    /// Its function asks no more.
    Withdrew(QuestionNumber),
    /// It begins an exchange, whose socket came with this.
    Exchange,
    /// Its function has come so far.
    Checkpoint(Bytes),
}

/// Makes reports of a worker's bytes. Holds at most one frame, and what one read brought.
#[derive(Debug, Default)]
pub struct WorkerReports {
    buffer: BytesMut,
    listening: Listening,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Listening {
    #[default]
    Yes,
    /// It has ended, or lied: what else it says means nothing.
    NoMore,
}

impl WorkerReports {
    /// Adds what was read.
    pub fn add(&mut self, bytes: &[u8]) {
        if self.listening == Listening::Yes {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next report, none while it is not there as a whole.
    ///
    /// # Errors
    /// [`DecodeError`] once, when the worker says what makes no sense; then there are none.
    pub fn take(&mut self) -> Result<Option<WorkerReport>, DecodeError> {
        if self.listening == Listening::NoMore {
            return Ok(None);
        }
        let report = take_frame(&mut self.buffer, WORKER_FRAME_BYTES)
            .and_then(|frame| frame.map(open).transpose());
        if matches!(report, Err(_) | Ok(Some(WorkerReport::Ended(_)))) {
            self.listening = Listening::NoMore;
            self.buffer = BytesMut::new();
        }
        report
    }
}

fn open(frame: Frame) -> Result<WorkerReport, DecodeError> {
    if frame.kind == WorkerEnd::KIND {
        return frame.open().map(|end| WorkerReport::Ended(bounded(end)));
    }
    if frame.kind == WorkerAsked::KIND {
        let asked: WorkerAsked = frame.open()?;
        let (length, limit) = (asked.prompt.len(), limits::PROMPT_BYTES);
        let short = length <= limit;
        return short.then_some(WorkerReport::Asked(asked)).ok_or(too_long(length, limit));
    }
    if frame.kind == WorkerWithdrew::KIND {
        return frame.open().map(|WorkerWithdrew { number }| WorkerReport::Withdrew(number));
    }
    if frame.kind == WorkerExchange::KIND {
        return frame.open().map(|WorkerExchange| WorkerReport::Exchange);
    }
    if frame.kind == WorkerCheckpoint::KIND {
        let (WorkerCheckpoint, value) = open_head(frame)?;
        let (length, limit) = (value.len(), limits::CHECKPOINT_BYTES);
        let value = Bytes::copy_from_slice(&value);
        let short = length <= limit;
        return short.then_some(WorkerReport::Checkpoint(value)).ok_or(too_long(length, limit));
    }
    if frame.kind == WorkerInbox::KIND {
        return frame.open().map(WorkerReport::Inbox);
    }
    if frame.kind == WorkerReply::KIND {
        let (WorkerReply { number, how }, value) = open_head(frame)?;
        let (length, limit) = (value.len(), limits::MESSAGE_BYTES);
        if length > limit {
            return Err(too_long(length, limit));
        }
        return Ok(WorkerReport::Reply(number, (how, Bytes::copy_from_slice(&value))));
    }
    let (WorkerRecord { stream }, payload) = open_head(frame)?;
    check_value(&payload)?;
    // A copy: a small value must not keep all that was read with it.
    Ok(WorkerReport::Record { stream, value: Bytes::copy_from_slice(&payload) })
}

fn check_value(value: &Bytes) -> Result<(), DecodeError> {
    let (length, limit) = (value.len(), limits::VALUE_BYTES);
    if length > limit { Err(too_long(length, limit)) } else { Ok(()) }
}

const fn too_long(length: usize, limit: usize) -> DecodeError {
    DecodeError::TooLong { length, limit }
}

/// The same end with texts as short as they would be from a function inside the node.
fn bounded(end: WorkerEnd) -> WorkerEnd {
    match end {
        WorkerEnd::Returned { value: Some(value) } if check_value(&value).is_err() => {
            WorkerEnd::TooLarge
        }
        WorkerEnd::Returned { value } => {
            WorkerEnd::Returned { value: value.map(|value| Bytes::copy_from_slice(&value)) }
        }
        WorkerEnd::Failed { kind, message } => {
            WorkerEnd::Failed { kind: cut(kind), message: cut(message) }
        }
        WorkerEnd::TooLarge => WorkerEnd::TooLarge,
        WorkerEnd::Panicked { message } => WorkerEnd::Panicked { message: cut(message) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message<M: Message>(message: &M) -> Vec<u8> {
        let mut frame = Vec::new();
        write_message(message, &mut frame).expect("small");
        frame
    }

    #[test]
    fn questions_come_between_records_and_a_long_one_makes_no_sense() {
        let number = QuestionNumber(1);
        let asked = WorkerAsked { number, prompt: "sure?".to_owned() };
        let bytes = [
            record(Stream::Output, b"\x01"),
            message(&asked),
            message(&WorkerWithdrew { number }),
            record(Stream::Output, b"\x02"),
        ];
        let mut reports = WorkerReports::default();
        reports.add(&bytes.concat());
        let of = |value| WorkerReport::Record {
            stream: Stream::Output,
            value: Bytes::from_static(value),
        };
        let expected =
            [of(b"\x01"), WorkerReport::Asked(asked), WorkerReport::Withdrew(number), of(b"\x02")];
        for report in expected {
            assert_eq!(reports.take(), Ok(Some(report)));
        }
        let prompt = "x".repeat(limits::PROMPT_BYTES + 1);
        reports.add(&message(&WorkerAsked { number: QuestionNumber(2), prompt }));
        assert!(reports.take().is_err());
    }

    fn record(stream: Stream, value: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        write_head(&WorkerRecord { stream }, value.len(), &mut frame).expect("small");
        frame.extend_from_slice(value);
        frame
    }

    fn end(end: &WorkerEnd) -> Vec<u8> {
        message(end)
    }

    #[test]
    fn reports_come_in_order_however_their_bytes_are_cut() {
        let returned = WorkerEnd::Returned { value: None };
        let bytes = [record(Stream::Output, b"\x01"), end(&returned), b"rest".to_vec()].concat();
        let mut reports = WorkerReports::default();
        let mut found = Vec::new();
        for byte in bytes {
            reports.add(&[byte]);
            found.extend(reports.take().expect("sense"));
        }
        let value = Bytes::from_static(b"\x01");
        let first = WorkerReport::Record { stream: Stream::Output, value };
        assert_eq!(found, [first, WorkerReport::Ended(returned)]);
    }

    #[test]
    fn what_makes_no_sense_is_an_error_once_and_nothing_after_it() {
        let long = [&u32::MAX.to_le_bytes()[..], &501_u16.to_le_bytes()].concat();
        let other = [&0_u32.to_le_bytes()[..], &500_u16.to_le_bytes()].concat();
        let large = record(Stream::Output, &vec![0; limits::VALUE_BYTES + 1]);
        for lie in [long, other, large] {
            let mut reports = WorkerReports::default();
            reports.add(&lie);
            assert!(reports.take().is_err());
            reports.add(&record(Stream::Output, b"\x01"));
            assert_eq!(reports.take(), Ok(None));
        }
    }

    #[test]
    fn a_text_of_a_worker_is_cut() {
        let message = "x".repeat(limits::ERROR_TEXT_BYTES + 1);
        let mut reports = WorkerReports::default();
        reports.add(&end(&WorkerEnd::Panicked { message }));
        let Ok(Some(WorkerReport::Ended(WorkerEnd::Panicked { message }))) = reports.take() else {
            panic!("an end")
        };
        assert_eq!(message.len(), limits::ERROR_TEXT_BYTES);
    }
}
