//! A mailbox with a ledger, a log per stream, and a file when it needs one.

use std::sync::{Arc, Mutex, MutexGuard};

use sortie_engine::mailbox::{Freed, Mailbox, PerStream, Piece, Tally};
use sortie_model::record::{OutputRule, StreamSet};
use sortie_model::{Ordinal, Record, Seq, Stream};
use sortie_store::{Damaged, Hole, MailboxFile, StreamLog};
use tokio::sync::Notify;

use super::compact::Compact;
use super::merge::{Stretch, Window};
use super::{Appended, FullBecause, JobMailboxes, Slot, Summary, lock};

/// What the lock of a mailbox protects. The ledger decides, the logs have the bytes.
#[derive(Debug)]
pub(super) struct State {
    pub(super) ledger: Mailbox,
    logs: PerStream<Option<Box<StreamLog>>>,
    /// Its own file, as long as it has bytes there.
    pub(super) file: Option<Arc<MailboxFile>>,
    /// Somebody writes what is in memory to a file; nobody else may begin to.
    pub(super) spilling: bool,
    /// Why the last write failed, until there is room again.
    pub(super) trouble: Option<FullBecause>,
    pub(super) removed: bool,
    /// What it had before its daemon ended comes back as room is made: until all is back little
    /// else is taken, to go behind that, and it does not close.
    pub(super) returning: Option<Box<Returning>>,
    memory: u64,
}

/// What is known of a mailbox that is not all back.
#[derive(Debug)]
pub(super) struct Returning {
    /// The number after the last record that comes back, or goes behind that.
    pub(super) next: Seq,
    /// Whether it is: else its files could not be opened yet, and nothing is taken.
    pub(super) is_known: bool,
    /// Why not all is back.
    pub(super) because: FullBecause,
    /// Whether its child has ended.
    pub(super) closes: bool,
    /// What goes behind all that comes back: at most a child's credit, so that its end need not
    /// wait for a disk.
    pub(super) behind: Vec<Record>,
    /// What that takes of the node's memory; no file takes it from there.
    pub(super) weight: u64,
}

/// A mailbox that is not compact any more.
#[derive(Debug)]
pub(super) struct Grown {
    pub(super) ordinal: Ordinal,
    state: Mutex<State>,
    /// Notified when room, a place for an offer, or the right to write to a file became free.
    pub(super) eased: Notify,
    /// Held by the one who puts records on offer or drops them, also while it reads a file.
    pub(super) offering: tokio::sync::Mutex<()>,
}

/// Where a place lies in its stream's log.
pub(super) const fn in_log(place: Tally) -> u64 {
    place.weight()
}

impl JobMailboxes {
    /// A child's mailbox, where it has grown.
    pub(super) fn grown(&self, ordinal: Ordinal) -> Option<Arc<Grown>> {
        let shard = self.shard(ordinal);
        match shard.slot(ordinal) {
            Some(Slot::Grown(grown)) => Some(Arc::clone(grown)),
            _ => None,
        }
    }
}

impl Grown {
    /// An empty, open mailbox.
    pub(super) fn new(ordinal: Ordinal, rule: OutputRule) -> Self {
        Self::with_ledger(ordinal, Mailbox::new(rule.quota, rule.policy))
    }

    fn with_ledger(ordinal: Ordinal, ledger: Mailbox) -> Self {
        let state = State {
            ledger,
            logs: PerStream::default(),
            file: None,
            spilling: false,
            trouble: None,
            removed: false,
            returning: None,
            memory: 0,
        };
        let (state, eased) = (Mutex::new(state), Notify::new());
        Self { ordinal, state, eased, offering: tokio::sync::Mutex::new(()) }
    }

    /// What a compact mailbox has, with room for more. Its block is in memory; an offer of it stays
    /// in flight.
    pub(super) fn of(
        compact: &Compact,
        ordinal: Ordinal,
        rule: OutputRule,
    ) -> Result<Self, Damaged> {
        let records = compact.placed_records()?;
        let ledger = Mailbox::continued(rule.quota, rule.policy, &compact.before());
        let mut grown = Self::with_ledger(ordinal, ledger);
        let state = grown.state.get_mut().map_err(|_| Damaged)?;
        state.store_numbered(records.iter().map(|(_, record)| record));
        state.ledger.skip_to(compact.next());
        if compact.with_errors() {
            state.ledger.note_errors();
        }
        if compact.is_lent() {
            let lent = compact.lent_pieces(&records);
            state.ledger.offer(&lent).map_err(|_| Damaged)?;
        }
        if compact.is_closed() {
            state.ledger.close();
        }
        Ok(grown)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Frees everything; what is in files comes out.
    pub(super) fn remove(&self, job: &JobMailboxes) -> Vec<Hole> {
        let mut state = self.lock();
        state.removed = true;
        let mut holes = Vec::new();
        for stream in Stream::ALL {
            if let Some(mut log) = state.logs.of_mut(stream).take() {
                let all = 0..log.end();
                holes.extend(log.free(all.clone(), all));
            }
        }
        if let Some(returning) = state.returning.take() {
            job.memory_is(returning.weight, 0);
        }
        state.settle_memory(job);
        let file = state.file.take();
        drop(state);
        self.eased.notify_waiters();
        holes.extend(file.map(|file| Hole::new(file, 0, 0)));
        holes
    }
}

impl State {
    pub(super) fn summary(&self) -> Summary {
        Summary {
            unread: self.ledger.unread(),
            dropped: self.ledger.dropped(),
            with_errors: self.ledger.with_errors(),
            closed: self.ledger.is_closed(),
            next: self.next(),
            full: self.full(),
            cut: self.ledger.is_cut(),
        }
    }

    /// How many of its records are not unread any more.
    pub(super) fn taken(&self) -> u64 {
        let all: u64 = Stream::ALL.iter().map(|stream| self.ledger.end(*stream).records).sum();
        all.saturating_sub(self.ledger.unread().records)
    }

    /// Why its producer has to pause. At the quota only one policy asks for that.
    pub(super) fn full(&self) -> Option<FullBecause> {
        let at_quota = self.ledger.blocks() && self.ledger.room() == 0;
        let returns = self.returning.as_ref().map(|it| it.because);
        self.trouble.or(returns).or(at_quota.then_some(FullBecause::Quota))
    }

    /// How it stands after an append.
    pub(super) fn appended(&self) -> Appended {
        let room = match self.full() {
            Some(_) => 0,
            None if self.ledger.blocks() => self.ledger.room(),
            None => u64::MAX,
        };
        Appended { next: self.next(), room }
    }

    /// Whether it ended and has nothing left to tell that a compact mailbox could not.
    pub(super) fn is_over(&self) -> bool {
        self.ledger.is_closed()
            && !self.ledger.has_unread()
            && !self.spilling
            && self.ledger.dropped() == Tally::ZERO
    }

    /// Bytes of records in memory.
    pub(super) const fn memory(&self) -> u64 {
        self.memory
    }

    fn log(&mut self, stream: Stream) -> &mut StreamLog {
        let from = in_log(self.ledger.end(stream));
        self.logs.of_mut(stream).get_or_insert_with(|| Box::new(StreamLog::starting_at(from)))
    }

    /// The logs that have anything, each with its stream.
    pub(super) fn logs(&mut self) -> impl Iterator<Item = (Stream, &mut StreamLog)> {
        self.logs.iter_mut().filter_map(|(stream, log)| Some((stream, log.as_deref_mut()?)))
    }

    /// Appends new records, in memory, and returns what they come to.
    pub(super) fn store<'a>(&mut self, records: impl Iterator<Item = &'a Record>) -> Tally {
        let mut tallies = PerStream::<Tally>::default();
        let mut seq = self.ledger.next();
        for record in records {
            let tally = tallies.of_mut(record.stream);
            *tally = tally.with_record(record.body.len() as u64);
            self.log(record.stream).append(seq, record.time, &record.body);
            seq = seq.after(1);
        }
        self.ledger.append(&tallies);
        tallies.iter().fold(Tally::ZERO, |sum, (_, tally)| sum.plus(*tally))
    }

    /// The same with the numbers that they have: those between were taken before.
    pub(super) fn store_numbered<'a>(&mut self, records: impl Iterator<Item = &'a Record>) {
        for record in records {
            self.ledger.skip_to(record.seq);
            self.store(std::iter::once(record));
        }
    }

    /// Tells the job and the pool how much is in memory now.
    pub(super) fn settle_memory(&mut self, job: &JobMailboxes) {
        let now = self.logs().map(|(_, log)| log.memory()).sum();
        job.memory_is(self.memory, now);
        self.memory = now;
    }

    /// Frees what nobody needs any more.
    pub(super) fn free(&mut self, freed: &[Freed]) -> Vec<Hole> {
        let mut holes = Vec::new();
        for Freed { stream, piece, gap } in freed {
            if let Some(log) = self.logs.of_mut(*stream) {
                let range = |piece: &Piece| in_log(piece.from)..in_log(piece.to);
                holes.extend(log.free(range(piece), range(gap)));
            }
        }
        if !self.ledger.has_unread() && !self.spilling {
            holes.extend(self.file.take().map(|file| Hole::new(file, 0, 0)));
        }
        holes
    }

    /// The beginning of each stretch, about `bytes` of it, to be merged.
    pub(super) fn windows(&mut self, stretches: Vec<Stretch>, bytes: usize) -> Vec<Window> {
        let mut windows = Vec::with_capacity(stretches.len());
        for stretch in stretches {
            let range = in_log(stretch.piece.from)..in_log(stretch.piece.to);
            let segments = match self.logs.of_mut(stretch.stream) {
                Some(log) => log.read(range, bytes),
                None => Vec::new(),
            };
            windows.push(Window { stretch, segments });
        }
        windows
    }

    /// What an offer of these streams may take.
    pub(super) fn available(&self, streams: StreamSet) -> Vec<Stretch> {
        let pieces = self.ledger.available(streams);
        let pieces = pieces.iter().filter(|(_, piece)| !piece.is_empty());
        let stretch = |(stream, piece): (Stream, &Piece)| Stretch {
            stream,
            piece: *piece,
            goes_on: self.ledger.has_available_after_first(stream),
        };
        pieces.map(stretch).collect()
    }

    /// The number of the next record, of a mailbox that is not all back the one behind that.
    pub(super) fn next(&self) -> Seq {
        let known = self.ledger.next();
        self.returning.as_ref().map_or(known, |returning| known.max(returning.next))
    }

    /// The next record has at least this number; those before were taken.
    pub(super) fn skip_to(&mut self, next: Seq) {
        match &mut self.returning {
            Some(returning) => returning.next = returning.next.max(next),
            None => self.ledger.skip_to(next),
        }
    }

    /// The child has ended.
    pub(super) fn close(&mut self) {
        match &mut self.returning {
            Some(returning) => returning.closes = true,
            None => self.ledger.close(),
        }
    }
}
