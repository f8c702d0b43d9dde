//! Where received records go: a sink turns them into bytes, two channels carry the bytes.

use std::io::{self, Write};

use sortie::answer::{Failure, Source};
use sortie_model::{Body, EntryId, Record, State, Stream};

use crate::failure;
use crate::render::clean::line_of_bytes;
use crate::render::progress::Screen;
use crate::render::value::value_of;

/// Turns records into output. Runs on a thread of its own, so it may block.
pub(crate) trait RecordSink: Send {
    /// Writes records of one child.
    fn records(&mut self, source: &Source, records: &[Record]) -> io::Result<()>;

    /// Nothing of this child follows for now.
    fn end_of(&mut self, child: EntryId) -> io::Result<()> {
        let _ = child;
        Ok(())
    }

    /// A job or a child is settled.
    fn settled(&mut self, entry: EntryId, state: State) -> io::Result<()> {
        let _ = state;
        self.end_of(entry)
    }

    /// Whether something that was given is not written yet.
    fn holds_back(&self) -> bool {
        false
    }

    /// Whether what it holds back is more than lines without an end.
    fn gathers(&self) -> bool {
        false
    }

    /// Writes what is held back, even where that cuts a line.
    fn write_held(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Nothing follows; the children that failed, in child order.
    fn finish(&mut self, failures: &[Failure]) -> io::Result<()>;

    /// Nothing follows, and not because everything came: what was begun is brought to an end.
    fn break_off(&mut self, why: &failure::Failure) -> io::Result<()> {
        let _ = why;
        Ok(())
    }
}

/// Which of our two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Channel {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// Our two outputs. What is written to one after the other appears in that order.
pub(crate) struct Channels {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    screen: Screen,
    pending: Vec<u8>,
    target: Channel,
}

/// Bytes that are gathered before they are written.
const PENDING_BYTES: usize = 256 * 1024;

impl Channels {
    /// Channels over two writers; the screen's progress line makes room for them.
    pub(crate) fn new(
        out: Box<dyn Write + Send>,
        err: Box<dyn Write + Send>,
        screen: Screen,
    ) -> Self {
        Self { out, err, screen, pending: Vec::new(), target: Channel::Out }
    }

    /// Adds bytes to a channel; they are written at the next flush at the latest.
    pub(crate) fn write(&mut self, channel: Channel, bytes: &[u8]) -> io::Result<()> {
        if channel != self.target || self.pending.len() + bytes.len() > PENDING_BYTES {
            self.flush()?;
            self.target = channel;
        }
        if bytes.len() >= PENDING_BYTES {
            return self.write_through(bytes);
        }
        self.pending.extend_from_slice(bytes);
        Ok(())
    }

    /// No progress line from here on: a single child's output speaks for itself.
    pub(crate) fn retire_progress(&self) {
        self.screen.retire();
    }

    /// Writes what was added.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut pending = std::mem::take(&mut self.pending);
        let written = self.write_through(&pending);
        pending.clear();
        self.pending = pending;
        written
    }

    fn write_through(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Self { out, err, screen, target, .. } = self;
        let writer = match target {
            Channel::Out => out,
            Channel::Err => err,
        };
        screen.aside(*target, bytes.ends_with(b"\n"), || {
            writer.write_all(bytes)?;
            writer.flush()
        })
    }
}

/// A record as bytes for people, and the channel it belongs to; none for what people do not read.
///
/// A process's bytes are exact. A value of the output stream is one line of JSON.
pub(crate) fn for_people(record: &Record) -> Option<(Channel, std::borrow::Cow<'_, [u8]>)> {
    let channel = if record.stream == Stream::Output { Channel::Out } else { Channel::Err };
    let bytes = match &record.body {
        Body::Bytes(bytes) => return Some((channel, bytes.as_ref().into())),
        Body::Value(_) | Body::Live(_) => record.body.bytes(),
    };
    let text = match value_of(&bytes) {
        Some(serde_json::Value::String(text)) if record.stream != Stream::Output => {
            line_of_bytes(text.as_bytes())
        }
        Some(value) => value.to_string(),
        None => line_of_bytes(&bytes),
    };
    let line = match record.stream {
        Stream::Output | Stream::Error | Stream::Information => format!("{text}\n"),
        Stream::Progress => return None,
        stream => format!("{stream}: {text}\n"),
    };
    Some((channel, line.into_bytes().into()))
}

/// How a child is called in front of its lines: its node, and its place when it shares the node.
pub(crate) fn label(source: &Source) -> String {
    let node = line_of_bytes(source.location.as_bytes());
    match source.place {
        Some(place) => format!("{node}[{place}]"),
        None => node,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Arc, Mutex};

    use bytes::Bytes;
    use sortie_model::{Ordinal, Seq, Timestamp};

    use super::*;

    /// Both channels in one place, in the order in which they were written.
    #[derive(Clone, Default)]
    pub(crate) struct Seen(Arc<Mutex<Vec<Written>>>);

    type Written = (Channel, Vec<u8>);

    struct End(Channel, Seen);

    impl Write for End {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut seen = self.1.0.lock().expect("no writer panics");
            seen.push((self.0, bytes.to_vec()));
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Seen {
        pub(crate) fn channels(&self) -> Channels {
            let end = |channel| Box::new(End(channel, self.clone()));
            Channels::new(end(Channel::Out), end(Channel::Err), Screen::silent())
        }

        pub(crate) fn bytes(&self, channel: Channel) -> Vec<u8> {
            let seen = self.0.lock().expect("no writer panics");
            let mine = seen.iter().filter(|(to, _)| *to == channel);
            mine.flat_map(|(_, bytes)| bytes.clone()).collect()
        }

        pub(crate) fn text(&self, channel: Channel) -> String {
            String::from_utf8(self.bytes(channel)).expect("tests write UTF-8")
        }

        pub(crate) fn order(&self) -> Vec<Channel> {
            let seen = self.0.lock().expect("no writer panics");
            seen.iter().map(|(channel, _)| *channel).collect()
        }
    }

    pub(crate) fn source(child: u64, location: &str) -> Source {
        Source {
            child: EntryId(child),
            job: EntryId(1),
            ordinal: Ordinal(child as u32 - 2),
            location: location.to_owned(),
            place: None,
        }
    }

    pub(crate) fn bytes(stream: Stream, bytes: &[u8]) -> Record {
        let body = Body::Bytes(Bytes::copy_from_slice(bytes));
        Record { seq: Seq(0), stream, time: Timestamp(0), body }
    }

    pub(crate) fn value(stream: Stream, value: &impl serde::Serialize) -> Record {
        let packed = rmp_serde::to_vec_named(value).expect("test values have an encoding");
        Record { seq: Seq(0), stream, time: Timestamp(0), body: Body::Value(packed.into()) }
    }

    #[test]
    fn two_channels_keep_the_order_between_them() {
        let seen = Seen::default();
        let mut channels = seen.channels();
        for channel in [Channel::Out, Channel::Out, Channel::Err, Channel::Out] {
            channels.write(channel, b"x").expect("memory");
        }
        channels.flush().expect("memory");
        assert_eq!(seen.order(), [Channel::Out, Channel::Err, Channel::Out]);
        assert_eq!(seen.text(Channel::Out), "xxx");
    }

    #[test]
    fn values_are_lines_and_notes_say_what_they_are() {
        let shown = |record: &Record| {
            for_people(record)
                .map(|(channel, bytes)| (channel, String::from_utf8_lossy(&bytes).into_owned()))
        };
        let output = value(Stream::Output, &("a", 1));
        assert_eq!(shown(&output), Some((Channel::Out, "[\"a\",1]\n".to_owned())));
        let warning = value(Stream::Warning, &"low\u{1b}[2J disk");
        assert_eq!(shown(&warning), Some((Channel::Err, "warning: low[2J disk\n".to_owned())));
        assert_eq!(shown(&value(Stream::Progress, &1)), None);
    }
}
