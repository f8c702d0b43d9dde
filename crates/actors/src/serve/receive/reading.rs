//! How a receive reads: it takes what it delivers, or it keeps it and remembers how far it came.

use std::collections::HashMap;

use sortie_model::record::StreamSet;
use sortie_model::{Body, Ordinal, Record, Seq, Timestamp};
use sortie_wire::session_proto::{ReceiveMode, ReceiveSpec};

use super::target::Target;
use crate::data::mailboxes::{LiveValues, Most, Position, ReadError};
use crate::data::window::{Child, Window, Withdrawn};

/// Why a child is not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotRead {
    #[error(transparent)]
    Mailbox(#[from] ReadError),
    #[error(transparent)]
    Withdrawn(#[from] Withdrawn),
}

/// What is read of each child, and how.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    streams: StreamSet,
    since: Option<Timestamp>,
    how: How<'a>,
    values: LiveValues,
}

#[derive(Debug)]
enum How<'a> {
    Take(&'a Window),
    Keep(Places),
}

/// How far a receive came that takes nothing.
#[derive(Debug, Default)]
struct Places {
    at: HashMap<Child, Place>,
    /// Children that have ended and were read to their end: a bit each, since there may be many.
    over: HashMap<(usize, u32), u64>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Place {
    from: Position,
    /// Bytes of the next record that belong to lines before the tail.
    skip: usize,
}

/// Records of one child.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// What to acknowledge; 0 when nothing is taken.
    pub(super) number: u64,
    pub(super) records: Vec<Record>,
    /// The last number that was read, also if its record was left out.
    pub(super) last: Option<Seq>,
    /// Whether there is more.
    pub(super) more: bool,
}

impl<'a> Reading<'a> {
    /// `values` is what the reader is given of live ones.
    pub(super) fn new(spec: &ReceiveSpec, window: &'a Window, values: LiveValues) -> Self {
        let how = match spec.mode {
            ReceiveMode::Take | ReceiveMode::TakeUntil { .. } => How::Take(window),
            ReceiveMode::Keep | ReceiveMode::Follow => How::Keep(Places::default()),
        };
        Self { streams: spec.streams, since: spec.since, how, values }
    }

    /// Whether it takes, and another reader has something of a child of which it has taken nothing
    /// itself.
    pub(super) fn passes_by(&self, target: &Target, child: Ordinal) -> bool {
        matches!(self.how, How::Take(_)) && target.job.mailboxes.on_offer(child, self.streams) > 0
    }

    /// Reads the next records of a child. What is taken is held by the window, which may have to
    /// wait for its reader first.
    ///
    /// # Cancel safety
    /// Dropping it takes nothing.
    pub(super) async fn read(&mut self, target: &Target, child: Child) -> Result<Batch, NotRead> {
        let mailboxes = &target.job.mailboxes;
        let most = Most { values: self.values, ..Most::default() };
        let places = match &mut self.how {
            How::Keep(places) => places,
            How::Take(window) => {
                window.room(child).await?;
                let offered = mailboxes.offer(child.1, self.streams, most).await?;
                let Some(mut offer) = offered else { return Ok(Batch::default()) };
                let more = offer.more;
                let records = std::mem::take(&mut offer.records);
                let last = records.last().map(|record| record.seq);
                let number = window.hold(child, (mailboxes, &records), offer)?;
                return Ok(Batch { number, records, last, more });
            }
        };
        if places.is_over(child) {
            return Ok(Batch::default());
        }
        // Before the read: nothing comes after the end.
        let closed = mailboxes.summary(child.1).closed;
        let place = places.at.get(&child).copied().unwrap_or_default();
        let kept = mailboxes.keep(child.1, place.from, self.streams, most).await?;
        let (mut records, more) = (kept.records, kept.more);
        let last = records.last().map(|record| record.seq);
        if closed && !more {
            places.at.remove(&child);
            places.set_over(child);
        } else if last.is_some() {
            places.at.insert(child, Place { from: kept.next, skip: 0 });
        }
        if let Some(first) = records.first_mut() {
            skip(first, place.skip);
        }
        if let Some(since) = self.since {
            records.retain(|record| record.time >= since);
        }
        Ok(Batch { number: 0, records, last, more })
    }

    /// Lets a child begin at the last `count` lines of what it has now.
    pub(super) async fn start_at_tail(
        &mut self,
        target: &Target,
        child: Child,
        count: u64,
    ) -> Result<(), ReadError> {
        let How::Keep(places) = &mut self.how else { return Ok(()) };
        let start = target.job.mailboxes.tail(child.1, self.streams, count).await?;
        places.at.insert(child, Place { from: start.from, skip: start.skip_bytes });
        Ok(())
    }

    /// Nothing more of that child will be read.
    pub(super) fn leave(&mut self, child: Child) {
        if let How::Keep(places) = &mut self.how {
            places.at.remove(&child);
        }
    }
}

impl Places {
    fn is_over(&self, (place, ordinal): Child) -> bool {
        let word = self.over.get(&(place, ordinal.0 / u64::BITS));
        word.is_some_and(|word| word & (1 << (ordinal.0 % u64::BITS)) != 0)
    }

    fn set_over(&mut self, (place, ordinal): Child) {
        *self.over.entry((place, ordinal.0 / u64::BITS)).or_default() |=
            1 << (ordinal.0 % u64::BITS);
    }
}

fn skip(record: &mut Record, bytes: usize) {
    if let Body::Bytes(body) = &mut record.body {
        *body = body.slice(bytes.min(body.len())..);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use sortie_model::Stream;

    use super::*;

    #[test]
    fn only_the_bytes_of_earlier_lines_are_left_out() {
        let check = |body: &'static str, bytes: usize, left: &str| {
            let body = Body::Bytes(Bytes::from_static(body.as_bytes()));
            let time = Timestamp(0);
            let mut record = Record { seq: Seq(0), stream: Stream::Output, time, body };
            skip(&mut record, bytes);
            assert_eq!(record.body.bytes(), left.as_bytes());
        };
        check("a\nb\n", 2, "b\n");
        check("a\nb\n", 0, "a\nb\n");
        check("a", 9, "");
    }
}
