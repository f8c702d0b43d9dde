//! Output of several children, line by line: no line is torn or mixed with another child's.
//!
//! A line is held back until its end, at most [`LINE_BYTES`] of it. What passes the bound is
//! written in pieces; if another child writes before such a line has ended, the line is ended for
//! it.

use std::collections::HashMap;
use std::io;

use sortie::answer::{Failure, Source};
use sortie_model::{EntryId, Record};

use crate::render::sink::{Channel, Channels, RecordSink, for_people, label};

/// Bytes of one unfinished line that are held back.
const LINE_BYTES: usize = 64 * 1024;
/// Bytes of all unfinished lines that are held back.
const HELD_BYTES: usize = 16 * 1024 * 1024;

/// Whether lines say whose they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prefix {
    /// `node: ` in front of each.
    Node,
    /// Nothing.
    None,
}

/// Writes whole lines, in order of arrival.
pub(crate) struct LineSink {
    channels: Channels,
    prefix: Prefix,
    held: HashMap<(EntryId, Channel), Held>,
    held_bytes: usize,
    open: [Option<EntryId>; 2],
}

/// The beginning of a line.
struct Held {
    mark: Vec<u8>,
    bytes: Vec<u8>,
}

/// Whose bytes come next, and where they go.
struct Writer<'a> {
    child: EntryId,
    channel: Channel,
    mark: &'a [u8],
}

impl LineSink {
    pub(crate) fn new(channels: Channels, prefix: Prefix) -> Self {
        Self { channels, prefix, held: HashMap::new(), held_bytes: 0, open: [None, None] }
    }

    fn feed(&mut self, writer: &Writer<'_>, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if piece.ends_with(b"\n") {
                self.write_piece(writer, piece)?;
                self.set_open(writer.channel, None);
            } else {
                self.hold(writer, piece)?;
            }
        }
        Ok(())
    }

    /// Writes what is held of the line, then the piece; begins the line if it has not begun.
    fn write_piece(&mut self, writer: &Writer<'_>, piece: &[u8]) -> io::Result<()> {
        if self.open_on(writer.channel) != Some(writer.child) {
            self.end_open_line(writer.channel)?;
            self.channels.write(writer.channel, writer.mark)?;
        }
        if let Some(held) = self.take_held(writer.child, writer.channel) {
            self.channels.write(writer.channel, &held.bytes)?;
        }
        self.channels.write(writer.channel, piece)
    }

    fn hold(&mut self, writer: &Writer<'_>, piece: &[u8]) -> io::Result<()> {
        let key = (writer.child, writer.channel);
        let held = self.held.get(&key).map_or(0, |held| held.bytes.len());
        let continues = self.open_on(writer.channel) == Some(writer.child);
        let full = held + piece.len() > LINE_BYTES || self.held_bytes + piece.len() > HELD_BYTES;
        if continues || full {
            self.write_piece(writer, piece)?;
            self.set_open(writer.channel, Some(writer.child));
            return Ok(());
        }
        self.held_bytes += piece.len();
        let new = || Held { mark: writer.mark.to_vec(), bytes: Vec::new() };
        self.held.entry(key).or_insert_with(new).bytes.extend_from_slice(piece);
        Ok(())
    }

    fn take_held(&mut self, child: EntryId, channel: Channel) -> Option<Held> {
        let held = self.held.remove(&(child, channel))?;
        self.held_bytes -= held.bytes.len();
        Some(held)
    }

    /// Ends the line that a child left open.
    fn end_open_line(&mut self, channel: Channel) -> io::Result<()> {
        if self.open_on(channel).is_some() {
            self.channels.write(channel, b"\n")?;
            self.set_open(channel, None);
        }
        Ok(())
    }

    /// Writes the unfinished line of a child, and ends it if asked to.
    fn write_unfinished(&mut self, child: EntryId, channel: Channel) -> io::Result<()> {
        let Some(held) = self.held.get_mut(&(child, channel)) else { return Ok(()) };
        let mark = std::mem::take(&mut held.mark);
        self.write_piece(&Writer { child, channel, mark: &mark }, b"")?;
        self.set_open(channel, Some(child));
        Ok(())
    }

    fn end_lines_of(&mut self, child: EntryId) -> io::Result<()> {
        for channel in [Channel::Out, Channel::Err] {
            self.write_unfinished(child, channel)?;
            if self.open_on(channel) == Some(child) {
                self.end_open_line(channel)?;
            }
        }
        Ok(())
    }

    fn in_child_order(&self) -> Vec<(EntryId, Channel)> {
        let mut keys: Vec<_> = self.held.keys().copied().collect();
        keys.sort_unstable();
        keys
    }

    const fn open_on(&self, channel: Channel) -> Option<EntryId> {
        let [out, err] = self.open;
        match channel {
            Channel::Out => out,
            Channel::Err => err,
        }
    }

    const fn set_open(&mut self, channel: Channel, child: Option<EntryId>) {
        let [out, err] = &mut self.open;
        match channel {
            Channel::Out => *out = child,
            Channel::Err => *err = child,
        }
    }
}

impl RecordSink for LineSink {
    fn records(&mut self, source: &Source, records: &[Record]) -> io::Result<()> {
        let mark = match self.prefix {
            Prefix::Node => format!("{}: ", label(source)).into_bytes(),
            Prefix::None => Vec::new(),
        };
        for (channel, bytes) in records.iter().filter_map(for_people) {
            self.feed(&Writer { child: source.child, channel, mark: &mark }, &bytes)?;
        }
        self.channels.flush()
    }

    fn end_of(&mut self, child: EntryId) -> io::Result<()> {
        self.end_lines_of(child)?;
        self.channels.flush()
    }

    fn holds_back(&self) -> bool {
        !self.held.is_empty()
    }

    fn write_held(&mut self) -> io::Result<()> {
        for (child, channel) in self.in_child_order() {
            self.write_unfinished(child, channel)?;
        }
        self.channels.flush()
    }

    fn finish(&mut self, _: &[Failure]) -> io::Result<()> {
        for (child, _) in self.in_child_order() {
            self.end_lines_of(child)?;
        }
        self.end_open_line(Channel::Out)?;
        self.end_open_line(Channel::Err)?;
        self.channels.flush()
    }
}

#[cfg(test)]
mod tests;
