//! Reading that takes nothing.

use std::sync::Arc;

use sortie_engine::mailbox::{PerStream, Piece, Tally};
use sortie_model::record::StreamSet;
use sortie_model::{Ordinal, Record};
use sortie_store::Segment;

use super::compact::{Block, Compact};
use super::grown::{Grown, State};
use super::merge::{Stretch, Window, load_and_merge};
use super::{JobMailboxes, Most, ReadError, Slot};

/// A place in a mailbox: one in each of its streams. It stays valid whatever is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    pub(super) places: PerStream<Tally>,
}

impl Position {
    /// Before the first record.
    pub fn start() -> Self {
        Self::default()
    }
}

/// Records that were read and stay.
#[derive(Debug)]
pub struct Kept {
    /// The records, in the order of their numbers.
    pub records: Vec<Record>,
    /// Where to go on.
    pub next: Position,
    /// Whether there was more of these streams.
    pub more: bool,
}

/// Where a child's records are.
pub(super) enum Place {
    Nowhere,
    Compact(Vec<(Tally, Record)>),
    OnDisk(Block),
    Grown(Arc<Grown>),
}

impl JobMailboxes {
    /// Reads what is unread from `from` on, on offer or not, and changes nothing.
    ///
    /// # Errors
    /// [`ReadError`].
    ///
    /// # Cancel safety
    /// Dropping it has no effect.
    pub async fn keep(
        &self,
        ordinal: Ordinal,
        from: Position,
        streams: StreamSet,
        most: Most,
    ) -> Result<Kept, ReadError> {
        loop {
            match self.place(ordinal)? {
                Place::Nowhere => return Ok(Kept { records: Vec::new(), next: from, more: false }),
                Place::Compact(records) => return Ok(kept_compact(records, from, streams, most)),
                Place::OnDisk(block) => self.load_compact(ordinal, block).await?,
                Place::Grown(grown) => return keep_grown(&grown, from, streams, most).await,
            }
        }
    }

    pub(super) fn place(&self, ordinal: Ordinal) -> Result<Place, ReadError> {
        let shard = self.shard(ordinal);
        if shard.removed {
            return Err(ReadError::Removed);
        }
        Ok(match shard.slot(ordinal) {
            None | Some(Slot::Untouched) => Place::Nowhere,
            Some(Slot::Grown(grown)) => Place::Grown(Arc::clone(grown)),
            Some(Slot::Compact(compact)) if compact.is_on_disk() => {
                Place::OnDisk(Compact::block(compact).clone())
            }
            Some(Slot::Compact(compact)) => Place::Compact(compact.placed_records()?),
        })
    }
}

fn kept_compact(
    records: Vec<(Tally, Record)>,
    from: Position,
    streams: StreamSet,
    most: Most,
) -> Kept {
    let mut kept = Kept { records: Vec::new(), next: from, more: false };
    let mut bytes = 0_usize;
    for (place, record) in records {
        let next = kept.next.places.of_mut(record.stream);
        if !streams.contains(record.stream) || place.records < next.records {
            continue;
        }
        bytes = bytes.saturating_add(record.body.len());
        let full = kept.records.len() >= most.records.max(1) || bytes > most.bytes;
        if full && !kept.records.is_empty() {
            kept.more = true;
            break;
        }
        *next = place.with_record(record.body.len() as u64);
        kept.records.push(record);
    }
    kept
}

async fn keep_grown(
    grown: &Grown,
    from: Position,
    streams: StreamSet,
    most: Most,
) -> Result<Kept, ReadError> {
    let mut least = 0;
    loop {
        let (windows, stretches) = {
            let mut state = grown.lock();
            if state.removed {
                return Err(ReadError::Removed);
            }
            let stretches = state.unread(from, streams);
            if stretches.is_empty() {
                return Ok(Kept { records: Vec::new(), next: from, more: false });
            }
            let bytes = most.window(&stretches).max(least);
            (state.windows(stretches.clone(), bytes), stretches)
        };
        let from_disk = reads_disk(&windows);
        let merged = load_and_merge(windows, most).await;
        let state = grown.lock();
        // What was freed while it was read is not what it was.
        if from_disk && !state.removed && !stretches.iter().all(|stretch| state.still_has(stretch))
        {
            continue;
        }
        let merged = merged?;
        if let Some(needs) = merged.needs {
            least = needs;
            continue;
        }
        let mut next = from;
        for (stream, piece) in merged.taken.iter().filter(|(_, piece)| !piece.is_empty()) {
            *next.places.of_mut(stream) = piece.to;
        }
        let more = !state.unread(next, streams).is_empty();
        return Ok(Kept { records: merged.records, next, more });
    }
}

pub(super) fn reads_disk(windows: &[Window]) -> bool {
    let mut segments = windows.iter().flat_map(|window| &window.segments);
    segments.any(Segment::is_on_disk)
}

impl State {
    /// What is unread in each of the streams from a position on.
    pub(super) fn unread(&self, from: Position, streams: StreamSet) -> Vec<Stretch> {
        let mut stretches = Vec::new();
        for stream in streams.iter() {
            let piece = self.ledger.unread_from(stream, *from.places.of(stream));
            if !piece.is_empty() {
                let goes_on = !self.ledger.unread_from(stream, piece.to).is_empty();
                stretches.push(Stretch { stream, piece, goes_on });
            }
        }
        stretches
    }

    /// Whether nothing of the stretch was freed.
    pub(super) fn still_has(&self, stretch: &Stretch) -> bool {
        let Piece { from, to } = self.ledger.unread_from(stretch.stream, stretch.piece.from);
        from == stretch.piece.from && to >= stretch.piece.to
    }
}
