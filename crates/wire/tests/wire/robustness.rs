//! Whatever bytes come, decoders answer with a value or an error.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use proptest::sample::Index;
use sortie_model::limits;
use sortie_wire::frame::{Frame, PREFIX_BYTES, take_frame};
use sortie_wire::host_proto::Report;
use sortie_wire::join_proto::JoinToken;
use sortie_wire::{DecodeError, Message, map_items};

use crate::samples::{self, Sample};

/// What can happen to a frame on its way.
#[derive(Debug, Clone)]
enum Damage {
    Flip(Index, u8),
    Cut(Index),
    Insert(Index, Vec<u8>),
    Drop(Index, usize),
    Splice(Index, Index),
    Huge(Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<Index>;
    prop_oneof![
        4 => (at(), any::<u8>()).prop_map(|(at, mask)| Damage::Flip(at, mask)),
        1 => at().prop_map(Damage::Cut),
        1 => (at(), prop::collection::vec(any::<u8>(), 1..9))
            .prop_map(|(at, new)| Damage::Insert(at, new)),
        1 => (at(), 1..9_usize).prop_map(|(at, count)| Damage::Drop(at, count)),
        1 => (at(), at()).prop_map(|(at, other)| Damage::Splice(at, other)),
        2 => at().prop_map(Damage::Huge),
    ]
}

impl Damage {
    fn apply(&self, body: &mut Vec<u8>, samples: &[Sample]) {
        match self {
            Self::Flip(at, mask) if !body.is_empty() => {
                let at = at.index(body.len());
                body[at] ^= mask;
            }
            Self::Cut(at) => body.truncate(at.index(body.len() + 1)),
            Self::Insert(at, new) => {
                let at = at.index(body.len() + 1);
                body.splice(at..at, new.iter().copied());
            }
            Self::Drop(at, count) => {
                let at = at.index(body.len() + 1);
                let end = (at + count).min(body.len());
                body.drain(at..end);
            }
            Self::Splice(at, other) => {
                body.truncate(at.index(body.len() + 1));
                body.extend(&samples[other.index(samples.len())].frame[PREFIX_BYTES..]);
            }
            // The codec's mark of an eight-byte number: a length that no frame can have.
            Self::Huge(at) => {
                let at = at.index(body.len() + 1);
                body.splice(at..at, [253, 255, 255, 255, 255, 255, 255, 255, 127]);
            }
            Self::Flip(..) => {}
        }
    }
}

/// Reads a body as every message there is.
fn open_as_everything(body: &[u8], samples: &[Sample]) {
    let body = Bytes::copy_from_slice(body);
    let mut done = std::collections::HashSet::new();
    for sample in samples.iter().filter(|sample| done.insert(sample.kind)) {
        // The result does not matter: a panic or a value that cannot be written again would.
        let _ = (sample.open)(&Frame { kind: sample.kind, body: body.clone() });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12_000))]

    #[test]
    fn a_damaged_frame_is_read_or_refused(
        sample in any::<Index>(),
        damages in prop::collection::vec(damage(), 1..5),
    ) {
        thread_local! {
            static SAMPLES: Vec<Sample> = samples::all();
        }
        SAMPLES.with(|samples| {
            let sample = &samples[sample.index(samples.len())];
            let mut body = sample.frame[PREFIX_BYTES..].to_vec();
            damages.iter().for_each(|damage| damage.apply(&mut body, samples));
            let frame = Frame { kind: sample.kind, body: body.into() };
            let _ = (sample.open)(&frame);
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn random_bytes_are_read_or_refused_as_every_message(
        body in prop::collection::vec(any::<u8>(), 0..200)
    ) {
        thread_local! {
            static SAMPLES: Vec<Sample> = samples::all();
        }
        SAMPLES.with(|samples| open_as_everything(&body, samples));
    }

    #[test]
    fn a_stream_of_random_bytes_gives_frames_an_error_or_waits(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
        limit in 0..1_000_usize,
    ) {
        let mut buffer = BytesMut::new();
        for piece in pieces {
            buffer.extend_from_slice(&piece);
            loop {
                match take_frame(&mut buffer, limit) {
                    Ok(Some(frame)) => prop_assert!(frame.body.len() <= limit),
                    Ok(None) => break,
                    Err(error) => {
                        let too_long = matches!(error, DecodeError::TooLong { .. });
                        prop_assert!(too_long, "{}", error);
                        return Ok(());
                    }
                }
            }
            prop_assert!(buffer.capacity() <= 4 * (limit + PREFIX_BYTES + 40));
        }
    }

    #[test]
    fn records_are_never_taken_from_behind_the_payload(
        lengths in prop::collection::vec(any::<u32>().prop_map(|it| it >> (it % 32)), 0..6),
        payload in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let mut run = samples::record_run();
        let head = run.records[0];
        run.records = lengths.iter().map(|length| {
            sortie_wire::host_proto::RecordHead { length: *length, ..head }
        }).collect();
        let wanted: u64 = lengths.iter().map(|length| u64::from(*length)).sum();
        let mut rest = Bytes::from(payload.clone());
        let read = run.unpack(&mut rest, Report::KIND);
        prop_assert_eq!(read.is_ok(), wanted <= payload.len() as u64);
    }

    #[test]
    fn items_of_a_map_are_read_or_refused(piece in prop::collection::vec(any::<u8>(), 0..60)) {
        let mut piece = Bytes::from(piece);
        while let Ok(Some(_)) = map_items::take(&mut piece) {}
    }

    #[test]
    fn a_join_token_is_read_or_refused(text in "[a-z2-7A-Z]{80}|.{0,90}") {
        let _ = text.parse::<JoinToken>();
    }
}

#[test]
fn every_golden_frame_is_refused_under_another_number() {
    for sample in samples::all() {
        let body = Bytes::copy_from_slice(&sample.frame[PREFIX_BYTES..]);
        let kind = sample.kind + 1_000;
        let refused = (sample.open)(&Frame { kind, body });
        assert_eq!(refused, Err(DecodeError::Unexpected { kind }));
    }
}

#[test]
fn every_prefix_of_a_golden_frame_waits_for_more_or_is_refused() {
    for sample in samples::all() {
        for end in 0..sample.frame.len() {
            let mut buffer = BytesMut::from(&sample.frame[..end]);
            assert_eq!(take_frame(&mut buffer, limits::FRAME_BYTES), Ok(None));
            if let Some(body) = sample.frame.get(PREFIX_BYTES..end) {
                let body = Bytes::copy_from_slice(body);
                assert!(!(sample.reads_back)(&Frame { kind: sample.kind, body }));
            }
        }
    }
}

#[test]
fn a_length_that_lies_is_refused() {
    // What the codec writes for the longest length there is, and for just below a frame's bound.
    let (huge, large) = ([253, 255, 255, 255, 255, 255, 255, 255, 127], [252, 255, 255, 255, 0]);
    for sample in samples::all() {
        let body = &sample.frame[PREFIX_BYTES..];
        // The second makes the decoder allocate a whole frame, so a short message has to do.
        let lies: &[&[u8]] = if sample.message == "Hello" { &[&huge, &large] } else { &[&huge] };
        for (at, lie) in (0..=body.len()).flat_map(|at| lies.iter().map(move |lie| (at, lie))) {
            let lying = [&body[..at], lie].concat();
            let frame = Frame { kind: sample.kind, body: lying.into() };
            assert!(!(sample.reads_back)(&frame), "{} at {at}", sample.message);
            let _ = (sample.open)(&frame);
        }
    }
}
