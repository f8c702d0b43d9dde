//! What is known of each child, and what is to be done for it.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::Range;

use sortie_engine::mailbox::{OfferId, PerStream, Piece, TakenCursor, Tally};
use sortie_model::limits::OUTPUT_STORED_WITHIN;
use sortie_model::{Ordinal, Record, Seq, Stream};
use sortie_store::journal::{Apart, Cursor, Dropped};
use sortie_store::segment::{Neighbours, OutputLog, Taken};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::super::{FullBecause, Position};

/// A stretch of a stream: its places, and the numbers from its first record to its last.
type Stretch = (Stream, Range<u64>, Range<Seq>);

/// Where a child's records go.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum Place {
    /// Nothing of it is in a file.
    #[default]
    Undecided,
    /// What is unread goes, or went, into the journal.
    Inline,
    /// Into files. All before the position is on the disk.
    Files(Position),
}

/// What is known of a child.
#[derive(Debug, Default)]
pub(super) struct Child {
    taken: TakenCursor,
    offers: Vec<(OfferId, Vec<Stretch>)>,
    pub(super) stored: Seq,
    /// What the output policy took.
    pub(super) lost_to_policy: Dropped,
    /// What the journal has.
    pub(super) committed: Cursor,
    /// What the listener was told.
    pub(super) told: Seq,
    /// What had been taken at the start of the node, until the mailbox is past it.
    pub(super) before: Option<Box<Cursor>>,
    /// What of that was taken apart, until all before it is taken, too.
    apart_before: Vec<Apart>,
    pub(super) place: Place,
    /// The number and the bytes at which its files were sealed; they may have grown since.
    pub(super) sealed: Option<(Seq, u64)>,
    pub(super) trouble: Option<FullBecause>,
    /// It is waited for until all is stored.
    pub(super) ending: bool,
    /// It is in one of the queues.
    pub(super) due: bool,
    /// The disk refused: not before this.
    pub(super) retry_at: Option<Instant>,
    /// Records of it cannot be read any more, or are values of this process, so they will never be
    /// stored.
    pub(super) lost: bool,
    /// Its files cannot be opened: others begin behind them.
    pub(super) damaged: bool,
    /// Records are on the disk and cannot be read, so nothing counts as taken.
    pub(super) frozen: bool,
    /// Not all of it is back in the mailbox that its files had at the node's start.
    pub(super) returning: bool,
}

/// The children of a job.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) children: HashMap<Ordinal, Child>,
    moved: BTreeSet<Ordinal>,
    due: VecDeque<Ordinal>,
    /// What was refused, and when it is tried again.
    later: VecDeque<(Instant, Ordinal)>,
    /// Files that are open between two rounds.
    pub(super) logs: HashMap<Ordinal, (OutputLog, OwnedSemaphorePermit)>,
    pub(super) running: bool,
    pub(super) urgent: bool,
    pub(super) removed: bool,
    round_at: Option<Instant>,
    /// Which children had files at the node's start, near the one that was looked for last.
    pub(super) neighbours: Option<Neighbours>,
}

/// What the one who works has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    Round,
    Wait(Instant),
    Remove,
    Nothing,
}

fn stretches(pieces: &PerStream<Piece>, records: &[Record]) -> Vec<Stretch> {
    let pieces = pieces.iter().filter(|(_, piece)| !piece.is_empty());
    let stretch = |(stream, piece): (Stream, &Piece)| {
        let first = records.iter().find(|record| record.stream == stream)?;
        let last = records.iter().rfind(|record| record.stream == stream)?;
        Some((stream, piece.from.records..piece.to.records, first.seq..last.seq.after(1)))
    };
    pieces.filter_map(stretch).collect()
}

pub(super) fn as_taken(taken: &PerStream<Seq>) -> Taken {
    let mut all = Taken::default();
    all.0.iter_mut().zip(taken.iter()).for_each(|(to, (_, seq))| *to = *seq);
    all
}

fn per_stream(taken: &Taken) -> PerStream<Seq> {
    let mut all = PerStream::default();
    all.iter_mut().for_each(|(stream, seq)| *seq = taken.of(stream));
    all
}

impl Child {
    /// As it was when its node ended.
    pub(super) fn restored(cursor: Cursor) -> Self {
        Self {
            taken: TakenCursor::starting_after(&per_stream(&cursor.taken)),
            stored: cursor.stored,
            lost_to_policy: cursor.dropped,
            told: cursor.stored,
            apart_before: cursor.apart.clone(),
            before: Some(Box::new(cursor.clone())),
            committed: cursor,
            ..Self::default()
        }
    }

    /// There is more of it than there was: an end that was kept was that of an earlier life.
    pub(super) fn goes_on(&mut self) {
        if matches!(self.place, Place::Inline) {
            self.place = Place::Undecided;
        }
        if self.sealed.is_some() {
            self.ending = false;
        }
    }

    pub(super) fn cursor(&self) -> Cursor {
        let (stored, dropped) = (self.stored, self.lost_to_policy);
        let taken = as_taken(&self.taken.taken());
        let mut cursor = Cursor { stored, taken, dropped, apart: self.apart_before.clone() };
        cursor.put_apart(self.taken.apart().map(|(stream, numbers)| Apart {
            stream,
            from: numbers.start,
            to: numbers.end,
        }));
        cursor
    }

    /// The mailbox has no unread record below that number. Says whether the cursor moved.
    pub(super) fn all_taken(&mut self, next: Seq) -> bool {
        if self.frozen || self.returning {
            return false;
        }
        let within = self.apart_before.extract_if(.., |apart| apart.to <= next);
        within.map(|apart| self.taken.raise(apart.stream, apart.to)).count() > 0
    }

    pub(super) fn offered(&mut self, id: OfferId, pieces: &PerStream<Piece>, records: &[Record]) {
        self.offers.push((id, stretches(pieces, records)));
    }

    /// Says whether the cursor is another one.
    pub(super) fn acknowledged(&mut self, id: OfferId) -> bool {
        let stretches = self.withdrawn(id);
        self.take(stretches)
    }

    pub(super) fn withdrawn(&mut self, id: OfferId) -> Vec<Stretch> {
        let place = self.offers.iter().position(|(other, _)| *other == id);
        place.map(|place| self.offers.swap_remove(place).1).unwrap_or_default()
    }

    /// The oldest records went.
    pub(super) fn dropped(&mut self, pieces: &PerStream<Piece>, records: &[Record]) {
        let sum = pieces.iter().fold(Tally::ZERO, |sum, (_, piece)| sum.plus(piece.tally()));
        self.skipped(Dropped { records: sum.records, bytes: sum.bytes, cut: false });
        self.take(stretches(pieces, records));
    }

    /// So much more was dropped.
    pub(super) fn skipped(&mut self, more: Dropped) {
        let Dropped { records, bytes, cut } = self.lost_to_policy;
        self.lost_to_policy = Dropped {
            records: records.saturating_add(more.records),
            bytes: bytes.saturating_add(more.bytes),
            cut: cut || more.cut,
        };
    }

    fn take(&mut self, stretches: Vec<Stretch>) -> bool {
        let mut moved = false;
        for (stream, places, numbers) in stretches.into_iter().filter(|_| !self.frozen) {
            moved |= self.taken.take(stream, places, numbers);
        }
        moved
    }

    /// Whether it is as one of which nothing is known.
    pub(super) fn is_plain(&self) -> bool {
        self.cursor() == Cursor::default() && self.is_settled()
    }

    /// Whether the journal knows all there is to know and nothing is on the disk, so that a child
    /// with an empty mailbox need not be remembered.
    pub(super) fn is_settled(&self) -> bool {
        self.committed == self.cursor()
            && self.offers.is_empty()
            && !self.due
            && !self.returning
            && !matches!(self.place, Place::Files(_))
    }
}

impl Table {
    pub(super) fn child(&mut self, ordinal: Ordinal) -> &mut Child {
        self.children.entry(ordinal).or_default()
    }

    /// The child's cursor is another than it was.
    pub(super) fn moved(&mut self, ordinal: Ordinal) {
        if !self.removed {
            self.moved.insert(ordinal);
        }
    }

    /// Whether cursors moved, or will never again.
    pub(super) fn has_news(&self) -> bool {
        self.removed || !self.moved.is_empty()
    }

    pub(super) fn take_moved(&mut self, most: usize) -> Vec<(Ordinal, Cursor)> {
        let mut cursors = Vec::new();
        while cursors.len() < most
            && let Some(ordinal) = self.moved.pop_first()
        {
            cursors.extend(self.children.get(&ordinal).map(|child| (ordinal, child.cursor())));
        }
        cursors
    }

    /// Says whether there was nothing to do for it.
    pub(super) fn make_due(&mut self, ordinal: Ordinal) -> bool {
        if self.removed {
            return false;
        }
        let child = self.child(ordinal);
        if std::mem::replace(&mut child.due, true) {
            return false;
        }
        self.due.push_back(ordinal);
        // Who works looks at the queue before it waits.
        self.due.len() == 1 || !self.running
    }

    /// The next round begins a little later, unless it is urgent.
    pub(super) fn pause(&mut self) {
        self.round_at = Some(Instant::now() + OUTPUT_STORED_WITHIN);
    }

    /// What is to be done now. With [`Work::Nothing`] nobody is at work any more.
    pub(super) fn work(&mut self) -> Work {
        if self.removed {
            return Work::Remove;
        }
        let now = Instant::now();
        let ripe = self.later.partition_point(|(at, _)| *at <= now);
        self.due.extend(self.later.drain(..ripe).map(|(_, ordinal)| ordinal));
        if !self.due.is_empty() {
            return match self.round_at {
                Some(at) if at > now && !self.urgent => Work::Wait(at),
                _ => Work::Round,
            };
        }
        self.urgent = false;
        match self.later.front() {
            Some((at, _)) => Work::Wait(*at),
            None => {
                self.running = false;
                Work::Nothing
            }
        }
    }

    /// Whether nothing is to be done, and the journal was told all that moved.
    pub(super) fn is_at_rest(&self) -> bool {
        let nothing_due = self.due.is_empty() && self.later.is_empty() && self.moved.is_empty();
        !self.removed && !self.running && nothing_due
    }

    /// Takes children off the queue.
    pub(super) fn begin_round(&mut self, most: usize) -> Vec<Ordinal> {
        self.urgent = false;
        let (now, mut round) = (Instant::now(), Vec::new());
        while round.len() < most
            && let Some(ordinal) = self.due.pop_front()
        {
            let child = self.child(ordinal);
            match child.retry_at.filter(|at| *at > now) {
                Some(at) => self.later.push_back((at, ordinal)),
                None => {
                    (child.due, child.retry_at) = (false, None);
                    round.push(ordinal);
                }
            }
        }
        round
    }

    /// The disk refused: the child is tried again at that time.
    pub(super) fn refused(&mut self, ordinal: Ordinal, at: Instant) {
        let child = self.child(ordinal);
        child.retry_at = Some(at);
        if !std::mem::replace(&mut child.due, true) {
            self.later.push_back((at, ordinal));
        }
    }

    /// Forgets everything but that it is gone. Says whether it was there.
    pub(super) fn begin_removal(&mut self) -> bool {
        let running = self.running;
        let was_removed =
            std::mem::replace(self, Self { running, removed: true, ..Self::default() });
        !was_removed.removed
    }
}
