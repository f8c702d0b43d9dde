//! The owner's side of input: it flows from a job's log to a child on another node as far as the
//! child has read and `sortie_engine::credit` lets it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering as Atomic};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sortie_engine::credit::input_allowance;
use sortie_link::{Link, StreamError};
use sortie_model::{ChildKey, JobInstance, SessionInstance, limits};
use sortie_wire::close::StreamCode;
use sortie_wire::host_proto::{InputPiece, InputPosition, InputProgress, InputRest, InputStream};
use tokio::sync::Notify;

use crate::data::input_log::{InputLog, InputReader, Piece};

/// Input of all sessions on its way to one node.
#[derive(Debug, Default)]
pub(crate) struct InputTraffic {
    /// Bytes that were sent and not read there.
    unread: AtomicU64,
}

impl InputTraffic {
    #[cfg(test)]
    pub(super) fn unread(&self) -> u64 {
        self.unread.load(Atomic::Acquire)
    }
}

/// A node says that a child has read what it was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a child cannot have read so far")]
pub(crate) struct FalsePosition;

/// Inputs of one session's children on one other node.
#[derive(Debug)]
pub(crate) struct InputFeeds {
    session: SessionInstance,
    traffic: Arc<InputTraffic>,
    /// None for a child that reads no more, unless a later life of its node says otherwise: the one
    /// before may have died when the child did not know the end of its input.
    feeds: Mutex<BTreeMap<ChildKey, Option<Arc<Feed>>>>,
}

impl InputFeeds {
    pub(crate) fn new(session: SessionInstance, traffic: Arc<InputTraffic>) -> Arc<Self> {
        Arc::new(Self { session, traffic, feeds: Mutex::default() })
    }

    fn feeds(&self) -> MutexGuard<'_, BTreeMap<ChildKey, Option<Arc<Feed>>>> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A child says over that connection how far it has read; `log` is its input, if it has one.
    ///
    /// # Errors
    /// [`FalsePosition`].
    pub(crate) fn on_read(
        self: &Arc<Self>,
        link: &Link,
        position: InputPosition,
        log: impl FnOnce() -> Option<Arc<InputLog>>,
    ) -> Result<(), FalsePosition> {
        let key = ChildKey { job: position.job, ordinal: position.ordinal };
        let InputProgress::UpTo(read) = position.read else {
            if let Some(feed) = self.feeds().get_mut(&key).and_then(Option::take) {
                feed.end();
            }
            return Ok(());
        };
        let is_fed = matches!(self.feeds().get(&key), Some(Some(_)));
        // Without the lock: what the log is found by has locks of its own.
        let log = if is_fed { None } else { log() };
        let mut feeds = self.feeds();
        let feed = match (feeds.get(&key), log) {
            (Some(Some(known)), _) => Arc::clone(known),
            (Some(None) | None, None) => return Ok(()),
            (before @ (Some(None) | None), Some(log)) => {
                let feed = Feed::new(log.reader(key.ordinal), Arc::clone(&self.traffic));
                if before.is_some() || log.is_of_before() {
                    // An earlier life of this node sent it what it has.
                    feed.state().ever_sent = u64::MAX;
                }
                let feed = Arc::new(feed);
                feeds.insert(key, Some(Arc::clone(&feed)));
                feed
            }
        };
        // Under the lock, so that nobody takes the feed for one of an older connection.
        let flow = feed.on_read(link.id(), read)?;
        drop(feeds);
        if flow == Flow::Begins {
            tokio::spawn(Arc::clone(self).feed(key, feed, link.clone()));
        }
        Ok(())
    }

    /// The node has named every child that reads, over a new connection: those that an older one
    /// fed and that were not named read no more.
    pub(crate) fn on_all_named(&self, link: &Link) {
        for kept in self.feeds().values_mut() {
            if let Some(feed) = kept.take_if(|feed| feed.state().link != Some(link.id())) {
                feed.end();
            }
        }
    }

    pub(crate) fn forget(&self, job: JobInstance) {
        self.feeds().retain(|key, feed| {
            let keep = key.job != job;
            if let (Some(feed), false) = (feed, keep) {
                feed.end();
            }
            keep
        });
    }

    pub(crate) fn clear(&self) {
        let feeds = std::mem::take(&mut *self.feeds());
        feeds.into_values().flatten().for_each(|feed| feed.end());
    }

    async fn feed(self: Arc<Self>, key: ChildKey, feed: Arc<Feed>, link: Link) {
        let head = InputStream { session: self.session, job: key.job, ordinal: key.ordinal };
        let sent = feed.send(&link, head).await;
        // A stream that ends with its connection is followed by another one; one that was stopped
        // says that the child reads no more.
        if let (Err(StreamError::Stopped(_)), false) = (sent, link.is_closed()) {
            self.feeds().entry(key).and_modify(|kept| *kept = None);
        }
    }
}

/// The input of one child.
#[derive(Debug)]
struct Feed {
    /// At what the child has read: what lies behind is still needed.
    reader: InputReader,
    traffic: Arc<InputTraffic>,
    state: Mutex<FeedState>,
    moved: Notify,
}

#[derive(Debug, Default)]
struct FeedState {
    /// The connection that carries it.
    link: Option<u64>,
    /// What the child has read.
    read: u64,
    /// Where the connection goes on.
    sent: u64,
    /// What any connection has carried.
    ever_sent: u64,
}

impl FeedState {
    const fn unread(&self) -> u64 {
        self.sent.saturating_sub(self.read)
    }
}

/// What follows from a child's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// It needs a stream.
    Begins,
    /// It has one.
    GoesOn,
}

impl Feed {
    fn new(reader: InputReader, traffic: Arc<InputTraffic>) -> Self {
        Self { reader, traffic, state: Mutex::default(), moved: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, FeedState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn on_read(&self, link: u64, read: u64) -> Result<Flow, FalsePosition> {
        let mut state = self.state();
        if read > state.ever_sent {
            return Err(FalsePosition);
        }
        // An answer to a resume may be read behind a newer word.
        let read = read.max(state.read);
        let before = state.unread();
        let flow = if state.link == Some(link) { Flow::GoesOn } else { Flow::Begins };
        state.read = read;
        state.sent = match flow {
            // A child may still read what an earlier connection carried.
            Flow::GoesOn => state.sent.max(read),
            // What the earlier one carried beyond that may not have come.
            Flow::Begins => read,
        };
        state.link = Some(link);
        self.traffic.unread.fetch_sub(before - state.unread(), Atomic::AcqRel);
        drop(state);
        self.reader.advance_to(read);
        self.moved.notify_waiters();
        Ok(flow)
    }

    /// Nobody reads it any more: what sends it ends.
    fn end(&self) {
        self.state().link = None;
        self.moved.notify_waiters();
    }

    /// Waits until that is true of the feed.
    async fn until<T>(&self, mut what: impl FnMut(&FeedState) -> Option<T>) -> T {
        loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            if let Some(is) = what(&self.state()) {
                return is;
            }
            moved.await;
        }
    }

    /// How many bytes may be sent, once there are some.
    async fn allowance(&self) -> u64 {
        self.until(|state| {
            let all = self.traffic.unread.load(Atomic::Acquire);
            Some(input_allowance(state.unread(), all)).filter(|bytes| *bytes > 0)
        })
        .await
    }

    /// Waits until another connection carries the input, or none.
    async fn leaves(&self, link: u64) {
        self.until(|state| (state.link != Some(link)).then_some(())).await;
    }

    /// Notes that what lies before `end` goes over that connection, if it still carries the input.
    fn note_sent(&self, link: u64, end: u64) {
        let mut state = self.state();
        if state.link == Some(link) {
            let before = state.unread();
            state.sent = state.sent.max(end);
            state.ever_sent = state.ever_sent.max(end);
            self.traffic.unread.fetch_add(state.unread() - before, Atomic::AcqRel);
        }
    }

    async fn send(&self, link: &Link, head: InputStream) -> Result<(), StreamError> {
        let mut stream = link.open_uni(0).await.map_err(StreamError::Closed)?;
        stream.send(&head).await?;
        loop {
            let next = async {
                let most = usize::try_from(self.allowance().await).unwrap_or(usize::MAX);
                let from = self.state().sent;
                self.reader.peek(from, most.min(limits::RECORD_BYTES)).await
            };
            let (offset, piece) = tokio::select! {
                biased;
                () = self.leaves(link.id()) => return Ok(()),
                () = stream.stopped() => return Err(StreamError::Stopped(StreamCode::DROPPED)),
                found = next => found,
            };
            let (bytes, rest) = match piece {
                Piece::Bytes(bytes) => (vec![bytes], InputRest::More),
                Piece::End => (Vec::new(), InputRest::Nothing),
                Piece::Lost => (Vec::new(), InputRest::Lost),
            };
            let length: u64 = bytes.iter().map(|bytes| bytes.len() as u64).sum();
            self.note_sent(link.id(), offset + length);
            stream.send_with_payload(&InputPiece { offset, rest }, bytes).await?;
            if rest != InputRest::More {
                return stream.finish()?.delivered().await;
            }
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.traffic.unread.fetch_sub(self.state().unread(), Atomic::AcqRel);
    }
}
