//! Golden bytes. A line of `tests/golden/MESSAGE.txt` is `label = frame in hexadecimal digits`.
//!
//! `SORTIE_WRITE_GOLDEN=1 cargo test -p sortie-wire` appends the lines that are missing and changes
//! none. Once released, a line is never changed or deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use bytes::BytesMut;
use sortie_model::limits;
use sortie_wire::frame::take_frame;

use crate::samples::{self, Sample};
use crate::source;

fn file_of(message: &str) -> PathBuf {
    source::crate_root().join("tests/golden").join(format!("{message}.txt"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digits).collect()
}

/// The stored frames of a message, by label.
fn stored(message: &str) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(file_of(message)).unwrap_or_default();
    let lines = text.lines().map(|line| line.split_once(" = ").unwrap());
    lines.map(|(label, bytes)| (label.to_owned(), bytes.to_owned())).collect()
}

fn append_missing(message: &str, samples: &[&Sample]) {
    let known = stored(message);
    let mut text = std::fs::read_to_string(file_of(message)).unwrap_or_default();
    for sample in samples.iter().filter(|sample| !known.contains_key(sample.label)) {
        writeln!(text, "{} = {}", sample.label, hex(&sample.frame)).unwrap();
    }
    std::fs::write(file_of(message), text).unwrap();
}

#[test]
fn every_message_keeps_its_bytes() {
    let samples = samples::all();
    let mut by_message: BTreeMap<&str, Vec<&Sample>> = BTreeMap::new();
    for sample in &samples {
        by_message.entry(sample.message).or_default().push(sample);
    }
    let mut faults = Vec::new();
    for (message, samples) in by_message {
        if std::env::var_os("SORTIE_WRITE_GOLDEN").is_some() {
            append_missing(message, &samples);
        }
        let mut stored = stored(message);
        for sample in samples {
            let label = sample.label;
            match stored.remove(label) {
                None => faults.push(format!("{message}: `{label}` has no golden bytes")),
                Some(bytes) if bytes != hex(&sample.frame) => faults.push(format!(
                    "{message}: `{label}` was {bytes} and is {}",
                    hex(&sample.frame)
                )),
                Some(bytes) => {
                    let mut buffer = BytesMut::from(&unhex(&bytes)[..]);
                    let frame = take_frame(&mut buffer, limits::FRAME_BYTES).unwrap().unwrap();
                    assert!(buffer.is_empty() && frame.kind == sample.kind, "{message} {label}");
                    assert!((sample.reads_back)(&frame), "{message}: `{label}` reads differently");
                }
            }
        }
        let gone = stored.into_keys().map(|label| format!("{message}: `{label}` has no sample"));
        faults.extend(gone);
    }
    assert!(
        faults.is_empty(),
        "SORTIE_WRITE_GOLDEN=1 adds lines for new messages; bytes of a released version never \
         change:\n{}",
        faults.join("\n")
    );
}

#[test]
fn every_message_has_golden_bytes() {
    let declared: BTreeSet<_> = source::kinds().into_iter().collect();
    let sampled: BTreeSet<_> =
        samples::all().iter().map(|sample| (sample.kind, sample.message.to_owned())).collect();
    assert_eq!(sampled, declared, "add a sample to tests/wire/samples for each message");
    for file in std::fs::read_dir(source::crate_root().join("tests/golden")).unwrap() {
        let path = file.unwrap().path();
        let message = path.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(sampled.iter().any(|(_, known)| *known == message), "{message} is no message");
    }
}

#[test]
fn every_variant_of_a_message_has_a_sample() {
    let messages = ["Ask", "Answer", "Delivery", "Event", "GuardianRequest", "GuardianReport"];
    for name in messages.into_iter().chain(["Reason", "ErrorCode"]) {
        let variants: BTreeSet<_> = source::parts_of(name).into_iter().collect();
        let sampled: BTreeSet<_> = samples::variants(name).into_iter().map(str::to_owned).collect();
        assert_eq!(sampled, variants, "add a sample for each variant of {name}");
    }
}
