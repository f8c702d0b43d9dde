//! The last lines of a child's error stream, of what nobody has taken.

use sortie_model::limits::{EXPLAIN_LINE_BYTES, EXPLAIN_LINES, KIB};
use sortie_model::record::StreamSet;
use sortie_model::{Body, Ordinal, Stream};

use crate::data::mailboxes::{JobMailboxes, Most};

/// How much is read at once ...
const READ_BYTES: usize = 256 * KIB;
/// ... and how often: lines may be long, an explanation is not worth gigabytes of reading.
const READS: usize = 64;
/// How much is kept of what was read.
const KEPT_BYTES: usize = EXPLAIN_LINES * EXPLAIN_LINE_BYTES;

/// At most [`EXPLAIN_LINES`] lines of at most [`EXPLAIN_LINE_BYTES`] each. None where nothing can
/// be read.
pub(super) async fn of(mailboxes: &JobMailboxes, ordinal: Ordinal) -> Vec<Vec<u8>> {
    let errors = StreamSet::EMPTY.with(Stream::Error);
    let Ok(start) = mailboxes.tail(ordinal, errors, EXPLAIN_LINES as u64).await else {
        return Vec::new();
    };
    let (mut from, mut skip) = (start.from, start.skip_bytes);
    let mut text = Vec::new();
    let most = Most { records: usize::MAX, bytes: READ_BYTES, ..Most::default() };
    for _ in 0..READS {
        let Ok(kept) = mailboxes.keep(ordinal, from, errors, most).await else { break };
        for record in &kept.records {
            add(&mut text, &record.body, std::mem::take(&mut skip));
        }
        from = kept.next;
        if !kept.more {
            break;
        }
    }
    last_lines(&text)
}

fn add(text: &mut Vec<u8>, body: &Body, skip: usize) {
    match body {
        Body::Bytes(bytes) => text.extend_from_slice(bytes.get(skip..).unwrap_or_default()),
        Body::Value(_) | Body::Live(_) => {
            let value = body.bytes();
            if text.last().is_some_and(|last| *last != b'\n') {
                text.push(b'\n');
            }
            // A value is one line, whatever is in it.
            let shown = string_of(&value).unwrap_or(&value);
            text.extend(shown.iter().map(|byte| if *byte == b'\n' { b' ' } else { *byte }));
            text.push(b'\n');
        }
    }
    let surplus = text.len().saturating_sub(KEPT_BYTES);
    text.drain(..surplus);
}

/// The text, if the MessagePack value is one.
fn string_of(value: &[u8]) -> Option<&[u8]> {
    let (first, rest) = value.split_first()?;
    let prefix = match first {
        0xa0..=0xbf => 0,
        0xd9 => 1,
        0xda => 2,
        0xdb => 4,
        _ => return None,
    };
    rest.get(prefix..)
}

fn last_lines(text: &[u8]) -> Vec<Vec<u8>> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    if text.is_empty() {
        return Vec::new();
    }
    let mut lines: Vec<Vec<u8>> = text
        .rsplit(|byte| *byte == b'\n')
        .take(EXPLAIN_LINES)
        .map(|line| line.get(..EXPLAIN_LINE_BYTES).unwrap_or(line).to_vec())
        .collect();
    lines.reverse();
    lines
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use sortie_model::{Record, Seq, Timestamp};

    use super::*;
    use crate::data::mailboxes::MailboxPool;

    async fn check(bodies: &[Body], expected: &[&str]) {
        let directory = tempfile::tempdir().unwrap();
        let pool = MailboxPool::new(directory.path().join("mailboxes"));
        let mailboxes = JobMailboxes::new(pool);
        for (seq, body) in (0..).zip(bodies) {
            let (stream, time, body) = (Stream::Error, Timestamp(0), body.clone());
            let record = Record { seq: Seq(seq), stream, time, body };
            mailboxes.append(Ordinal(0), Seq(seq), vec![record]).await.unwrap();
        }
        let lines = of(&mailboxes, Ordinal(0)).await;
        let lines: Vec<_> = lines.iter().map(|line| String::from_utf8_lossy(line)).collect();
        assert_eq!(lines, expected);
    }

    fn bytes(text: &str) -> Body {
        Body::Bytes(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[tokio::test]
    async fn the_last_lines_are_shown_however_they_were_written() {
        check(&[], &[]).await;
        check(&[bytes("one\ntw"), bytes("o\nthree")], &["one", "two", "three"]).await;
        let many: String = (0..100).map(|line| format!("line {line}\n")).collect();
        let last: Vec<String> = (80..100).map(|line| format!("line {line}")).collect();
        let last: Vec<&str> = last.iter().map(String::as_str).collect();
        check(&[bytes(&many)], &last).await;
    }

    #[tokio::test]
    async fn a_text_value_is_a_line() {
        let value = Body::Value(Bytes::from_static(b"\xa3a\nb"));
        check(&[bytes("x"), value], &["x", "a b"]).await;
    }

    #[tokio::test]
    async fn a_long_line_is_cut() {
        let long = "y".repeat(10 * EXPLAIN_LINE_BYTES);
        let cut = "y".repeat(EXPLAIN_LINE_BYTES);
        check(&[bytes("first\n"), bytes(&long)], &["first", &cut]).await;
    }
}
