//! One or more values of every message, with nothing left at its default.

mod guardian;
mod host;
mod join;
mod link;
mod message;
mod session;
mod words;
mod worker;

use std::fmt::Debug;

use sortie_model::JobView;
use sortie_wire::frame::{Frame, Message, open_head, write_head, write_message};
use sortie_wire::host_proto::{RecordRun, Report, StopChildren};
use sortie_wire::{DecodeError, Kind};

/// A message in a frame.
pub(crate) struct Sample {
    /// The type's name.
    pub(crate) message: &'static str,
    /// Its number.
    pub(crate) kind: Kind,
    /// What is special about this value.
    pub(crate) label: &'static str,
    /// The whole frame.
    pub(crate) frame: Vec<u8>,
    /// Whether a frame holds the same value.
    pub(crate) reads_back: Box<dyn Fn(&Frame) -> bool>,
    /// Reads any frame as this message, with and without a payload; what it reads must survive
    /// being written and read again.
    pub(crate) open: fn(&Frame) -> Result<(), DecodeError>,
}

pub(crate) fn all() -> Vec<Sample> {
    let own = [guardian::samples(), worker::samples(), message::samples()];
    [link::samples(), host::samples(), session::samples(), join::samples()]
        .into_iter()
        .chain(own)
        .flatten()
        .collect()
}

/// The variants of an enum that the samples show, with repetitions.
pub(crate) fn variants(name: &str) -> Vec<&'static str> {
    match name {
        "GuardianRequest" | "GuardianReport" => guardian::variants(name),
        "WorkerEnd" => worker::variants(),
        _ => session::variants(name),
    }
}

/// Two records of one child.
pub(crate) fn record_run() -> RecordRun {
    host::run()
}

/// One child that began, two records, three children that ended.
pub(crate) fn report() -> Report {
    host::report()
}

/// A stop of some children.
pub(crate) fn stop() -> StopChildren {
    host::stop()
}

/// A job.
pub(crate) fn job_view() -> JobView {
    session::job_view()
}

fn message_name<M>() -> &'static str {
    let path = std::any::type_name::<M>();
    path.rsplit("::").next().unwrap()
}

/// A message that is its frame's whole body.
fn plain<M: Message + PartialEq + Debug + 'static>(label: &'static str, message: M) -> Sample {
    let mut frame = Vec::new();
    write_message(&message, &mut frame).unwrap();
    Sample {
        message: message_name::<M>(),
        kind: M::KIND,
        label,
        frame,
        reads_back: Box::new(move |frame| frame.open::<M>().as_ref() == Ok(&message)),
        open: open_any::<M>,
    }
}

/// A message that is the head of a frame with a payload.
fn head<M: Message + PartialEq + Debug + 'static>(
    label: &'static str,
    message: M,
    payload: &'static [u8],
) -> Sample {
    let mut frame = Vec::new();
    write_head(&message, payload.len(), &mut frame).unwrap();
    frame.extend_from_slice(payload);
    Sample {
        message: message_name::<M>(),
        kind: M::KIND,
        label,
        frame,
        reads_back: Box::new(move |frame| {
            open_head::<M>(frame.clone())
                .is_ok_and(|(read, rest)| read == message && rest == payload)
        }),
        open: open_any::<M>,
    }
}

fn open_any<M: Message + PartialEq + Debug>(frame: &Frame) -> Result<(), DecodeError> {
    let again = |message: &M| {
        let mut bytes = Vec::new();
        write_message(message, &mut bytes).unwrap();
        let body = bytes.split_off(sortie_wire::frame::PREFIX_BYTES).into();
        let frame = Frame { kind: M::KIND, body };
        assert_eq!(frame.open::<M>().as_ref(), Ok(message));
    };
    let with_payload = open_head::<M>(frame.clone()).map(|(message, _)| again(&message));
    frame.open::<M>().map(|message| again(&message)).or(with_payload)
}
