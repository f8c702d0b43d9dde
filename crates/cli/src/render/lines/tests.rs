//! The promises of the line sink, one by one and at random.

use proptest::prelude::*;
use sortie_model::Stream;

use super::*;
use crate::render::sink::tests::{Seen, bytes, source};

fn written(prefix: Prefix, pieces: &[(u64, &[u8])]) -> Vec<u8> {
    let seen = Seen::default();
    let mut sink = LineSink::new(seen.channels(), prefix);
    for (child, piece) in pieces {
        let node = format!("n{child}");
        sink.records(&source(*child, &node), &[bytes(Stream::Output, piece)]).expect("memory");
    }
    sink.finish(&[]).expect("memory");
    assert_eq!(sink.held_bytes, 0);
    seen.bytes(Channel::Out)
}

#[track_caller]
fn check(pieces: &[(u64, &[u8])], expected: &str) {
    assert_eq!(String::from_utf8_lossy(&written(Prefix::Node, pieces)), expected);
}

#[test]
fn each_line_says_whose_it_is() {
    check(&[(2, b"one\ntwo\n"), (3, b"three\n")], "n2: one\nn2: two\nn3: three\n");
}

#[test]
fn a_line_that_comes_in_pieces_is_written_once_it_is_whole() {
    check(&[(2, b"on"), (3, b"three\n"), (2, b"e\n")], "n3: three\nn2: one\n");
}

#[test]
fn a_last_line_without_newline_is_completed() {
    check(&[(3, b"b"), (2, b"a")], "n2: a\nn3: b\n");
    check(&[(2, b"\n\n")], "n2: \nn2: \n");
    check(&[(2, b"")], "");
}

#[test]
fn a_child_that_shares_its_node_shows_its_place() {
    let seen = Seen::default();
    let mut sink = LineSink::new(seen.channels(), Prefix::Node);
    let mut twin = source(2, "a");
    twin.place = Some(1);
    sink.records(&twin, &[bytes(Stream::Output, b"x\n")]).expect("memory");
    assert_eq!(seen.text(Channel::Out), "a[1]: x\n");
}

#[test]
fn a_settled_child_gets_its_last_line_at_once() {
    let seen = Seen::default();
    let mut sink = LineSink::new(seen.channels(), Prefix::None);
    sink.records(&source(2, "a"), &[bytes(Stream::Output, b"end")]).expect("memory");
    assert!(sink.holds_back());
    sink.end_of(EntryId(2)).expect("memory");
    assert_eq!(seen.text(Channel::Out), "end\n");
    assert!(!sink.holds_back());
}

#[test]
fn a_line_without_end_is_written_in_pieces_and_ended_when_another_child_writes() {
    let long = vec![b'x'; LINE_BYTES + 1];
    let mut expected = b"n2: ".to_vec();
    expected.extend_from_slice(&long);
    expected.extend_from_slice(b"yy\nn3: short\nn2: z\n");
    let pieces: [(u64, &[u8]); 5] = [(2, &long), (2, b"y"), (2, b"y"), (3, b"short\n"), (2, b"z")];
    assert_eq!(written(Prefix::Node, &pieces), expected);
}

#[test]
fn what_is_written_early_goes_on_in_the_same_line() {
    let seen = Seen::default();
    let mut sink = LineSink::new(seen.channels(), Prefix::Node);
    sink.records(&source(2, "a"), &[bytes(Stream::Output, b"be")]).expect("memory");
    sink.write_held().expect("memory");
    assert!(!sink.holds_back());
    assert_eq!(seen.text(Channel::Out), "a: be");
    sink.records(&source(2, "a"), &[bytes(Stream::Output, b"gin\nnext\n")]).expect("memory");
    assert_eq!(seen.text(Channel::Out), "a: begin\na: next\n");
}

#[test]
fn stdout_and_stderr_are_lines_of_their_own() {
    let seen = Seen::default();
    let mut sink = LineSink::new(seen.channels(), Prefix::Node);
    let records =
        [bytes(Stream::Output, b"o"), bytes(Stream::Error, b"e\n"), bytes(Stream::Output, b"ut\n")];
    sink.records(&source(2, "a"), &records).expect("memory");
    assert_eq!(seen.text(Channel::Out), "a: out\n");
    assert_eq!(seen.text(Channel::Err), "a: e\n");
}

fn pieces() -> impl Strategy<Value = Vec<(u64, Vec<u8>)>> {
    let byte = prop_oneof![2 => Just(b'\n'), 5 => b'a'..=b'c'];
    let piece = prop::collection::vec(byte, 0..12);
    prop::collection::vec((2_u64..5, piece), 0..40)
}

proptest! {
    #[test]
    fn each_childs_bytes_come_out_as_they_went_in(pieces in pieces(), early in any::<u64>()) {
        let seen = Seen::default();
        let mut sink = LineSink::new(seen.channels(), Prefix::Node);
        let mut given = std::collections::BTreeMap::<u64, Vec<u8>>::new();
        for (index, (child, piece)) in pieces.iter().enumerate() {
            let node = format!("n{child}");
            sink.records(&source(*child, &node), &[bytes(Stream::Output, piece)])?;
            given.entry(*child).or_default().extend_from_slice(piece);
            if early == index as u64 {
                sink.end_of(EntryId(*child))?;
                let text = given.entry(*child).or_default();
                if !text.is_empty() && !text.ends_with(b"\n") {
                    text.push(b'\n');
                }
            }
        }
        sink.finish(&[])?;
        let mut got = std::collections::BTreeMap::<u64, Vec<u8>>::new();
        for line in seen.bytes(Channel::Out).split_inclusive(|byte| *byte == b'\n') {
            prop_assert!(line.ends_with(b"\n"), "every line is completed");
            let child = u64::from(line[1] - b'0');
            prop_assert_eq!(&line[2..4], b": ");
            got.entry(child).or_default().extend_from_slice(&line[4..]);
        }
        for (child, mut text) in given {
            if !text.is_empty() && !text.ends_with(b"\n") {
                text.push(b'\n');
            }
            prop_assert_eq!(got.remove(&child).unwrap_or_default(), text);
        }
        prop_assert!(got.is_empty());
    }
}
