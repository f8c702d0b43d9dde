//! Items of a map on their way from the job's input to its parent, at the parent's pace.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use sortie_model::{Ordinal, limits};
use tokio::sync::Semaphore;

use crate::data::input_log::{InputReader, Piece};
use crate::data::job::JobShared;
use crate::data::session::SessionShared;
use crate::parent_job::ParentJobMessage;

/// Lets so many items through; the other end is [`run`].
#[derive(Debug, Clone)]
pub(crate) struct MapFeed(Arc<Semaphore>);

impl MapFeed {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// The parent has room for so many more items.
    pub(crate) fn want(&self, count: u32) {
        self.0.add_permits(count as usize);
    }

    /// The parent wants none any more.
    pub(crate) fn close(&self) {
        self.0.close();
    }
}

/// Reads items from the job's input while the parent wants them, behind those of the children that
/// it has.
pub(crate) async fn run(
    feed: MapFeed,
    mut reader: InputReader,
    session: Arc<SessionShared>,
    job: Arc<JobShared>,
) {
    let (mut items, mut told) = (Items::default(), u64::from(job.rows().children()));
    loop {
        // One permit at the least, then all that are there: a message carries many items.
        let Ok(permit) = feed.0.acquire().await else { return };
        permit.forget();
        let more = feed.0.forget_permits(limits::MAP_READ_AHEAD - 1);
        let batch = match items.take(1 + more) {
            batch if batch.is_empty() => {
                feed.0.add_permits(1 + more);
                match reader.next().await {
                    Piece::Bytes(bytes) => items.push(&bytes),
                    Piece::End => return job.tell(ParentJobMessage::InputEnd),
                    Piece::Lost => return job.tell(ParentJobMessage::InputLost),
                }
                continue;
            }
            batch => batch,
        };
        feed.0.add_permits(1 + more - batch.len());
        let children = batch.len() as u64 * job.rows().children_per_item();
        let first = Ordinal(told as u32);
        let first_id = session.table_mut().reserve_children(job.identity.id, first, children);
        told += children;
        job.tell(ParentJobMessage::Items { items: batch, first_id });
    }
}

/// Items as `sortie_wire::map_items` packs them, cut wherever the input was read.
#[derive(Debug, Default)]
pub(crate) struct Items {
    buffer: BytesMut,
}

impl Items {
    /// The bytes of what was not taken.
    pub(crate) fn left(&self) -> u64 {
        self.buffer.len() as u64
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    pub(crate) fn take(&mut self, most: usize) -> Vec<Bytes> {
        let mut items = Vec::new();
        while items.len() < most {
            let Some(length) = self.buffer.first_chunk::<4>() else { break };
            let length = u32::from_le_bytes(*length) as usize;
            if self.buffer.len() < 4 + length {
                break;
            }
            self.buffer.advance(4);
            let item = self.buffer.split_to(length).freeze();
            if !item.is_empty() {
                items.push(item);
            }
        }
        items
    }
}
