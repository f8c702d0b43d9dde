//! One authenticated connection to a peer, with its control stream.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sortie_model::Incarnation;
use sortie_wire::close::CloseCode;
use sortie_wire::permit::{Lane, Role, allowed};
use sortie_wire::{Kind, Message};
use tokio::time::Instant;

use crate::control::{ControlQueue, ControlReceiver};
use crate::endpoint::LinkPlace;
use crate::error::{CloseReason, SendError, Side};
use crate::frames::FrameReader;
use crate::streams::{FrameReceiver, FrameSender};
use crate::transport::{Connection, LinkStats, RawSend};
use crate::trust::Peer;

/// What the peer says of itself in its hello; nothing of it gives a right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerFacts {
    /// Its life; a later one is greater.
    pub incarnation: Incarnation,
    /// Its program's version, for people.
    pub program: String,
    /// The protocol version that both speak.
    pub version: u16,
    /// Its wall clock minus ours, in microseconds, wrong by up to a round trip.
    pub clock_skew: i64,
    /// Where it can be dialled, `host:port`, if it is a node that says so.
    pub address: Option<String>,
    /// Its address as seen from here.
    pub seen_at: String,
    /// Who dialled.
    pub dialled: Side,
}

/// A link that is up. Cheap to clone; all clones are the same link.
///
/// The link is closed when the last clone, its [`ControlReceiver`] and its streams are dropped.
#[derive(Clone)]
pub struct Link(Arc<Shared>);

struct Shared {
    id: u64,
    our_role: Role,
    peer: Peer,
    facts: PeerFacts,
    connection: Connection,
    control: Arc<ControlQueue>,
    greeted: Instant,
    began: Instant,
    /// When the last control frame came, in milliseconds after `began`.
    heard: AtomicU64,
    closed_here: OnceLock<(CloseCode, String)>,
    _place: Option<LinkPlace>,
}

/// What a handshake ended with.
pub(crate) struct Greeted {
    pub(crate) our_role: Role,
    pub(crate) peer: Peer,
    pub(crate) facts: PeerFacts,
    pub(crate) connection: Connection,
    pub(crate) send: RawSend,
    pub(crate) receive: FrameReader,
    pub(crate) place: Option<LinkPlace>,
    /// A moment before this side's hello or acknowledgement was sent.
    pub(crate) greeted: Instant,
}

impl Link {
    /// Starts the link's one task, which writes the control stream.
    pub(crate) fn up(greeted: Greeted) -> (Self, ControlReceiver) {
        static LINKS: AtomicU64 = AtomicU64::new(1);
        let Greeted { our_role, peer, facts, connection, send, receive, place, greeted } = greeted;
        let control = Arc::new(ControlQueue::new(send));
        tokio::spawn(crate::control::write(Arc::clone(&control), connection.clone()));
        let link = Self(Arc::new(Shared {
            id: LINKS.fetch_add(1, Ordering::Relaxed),
            our_role,
            peer,
            facts,
            connection,
            control,
            greeted,
            began: Instant::now(),
            heard: AtomicU64::new(0),
            closed_here: OnceLock::new(),
            _place: place,
        }));
        (link.clone(), ControlReceiver::new(receive, link))
    }

    /// A number that no other link of this process has.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// The other side, from its certificate.
    pub fn peer(&self) -> &Peer {
        &self.0.peer
    }

    /// What the other side said of itself in its hello.
    pub fn facts(&self) -> &PeerFacts {
        &self.0.facts
    }

    /// Sends a control message, ahead of every other stream of the link. Messages that follow one
    /// another closely are queued and written together.
    ///
    /// # Errors
    /// [`SendError`]. When [`limits::CONTROL_QUEUE_FRAMES`](sortie_model::limits) wait, the peer
    /// does not read and the link is closed.
    pub fn send<M: Message>(&self, message: &M) -> Result<(), SendError> {
        if let Some(reason) = self.close_reason() {
            return Err(SendError::Closed(reason));
        }
        self.0.control.push(message).inspect_err(|error| {
            if *error == SendError::TooSlow {
                self.close(CloseCode::TOO_SLOW, "");
            }
        })
    }

    /// Bytes of control messages that wait to be written.
    pub fn waiting_bytes(&self) -> usize {
        self.0.control.waiting_bytes()
    }

    /// Opens a stream towards the peer, which sees it once something was sent. Waits while
    /// [`STREAMS_PER_LINK`](sortie_model::limits::STREAMS_PER_LINK) are open. A stream of higher
    /// `priority` goes first; the control stream goes before all.
    ///
    /// # Errors
    /// The reason when the link is down.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn open_uni(&self, priority: i32) -> Result<FrameSender, CloseReason> {
        let raw = self.0.connection.open_uni().await.map_err(|r| self.in_our_words(r))?;
        raw.prioritise(priority);
        Ok(FrameSender::new(raw, self.clone()))
    }

    /// The next stream that the peer opened towards us.
    ///
    /// # Errors
    /// The reason when the link is down.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn accept_uni(&self) -> Result<FrameReceiver, CloseReason> {
        let raw = self.0.connection.accept_uni().await.map_err(|r| self.in_our_words(r))?;
        Ok(FrameReceiver::new(raw, Lane::Uni, self.clone()))
    }

    /// Opens a stream in both directions. As [`open_uni`](Self::open_uni).
    ///
    /// # Errors
    /// The reason when the link is down.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn open_bi(&self) -> Result<(FrameSender, FrameReceiver), CloseReason> {
        let (send, receive) =
            self.0.connection.open_bi().await.map_err(|r| self.in_our_words(r))?;
        Ok((
            FrameSender::new(send, self.clone()),
            FrameReceiver::new(receive, Lane::Bi, self.clone()),
        ))
    }

    /// The next stream that the peer opened in both directions.
    ///
    /// # Errors
    /// The reason when the link is down.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn accept_bi(&self) -> Result<(FrameSender, FrameReceiver), CloseReason> {
        let (send, receive) =
            self.0.connection.accept_bi().await.map_err(|r| self.in_our_words(r))?;
        Ok((
            FrameSender::new(send, self.clone()),
            FrameReceiver::new(receive, Lane::Bi, self.clone()),
        ))
    }

    /// How long ago the last control frame was taken by [`ControlReceiver::next`], or the link came
    /// up. Traffic on other streams and in the transport itself does not count: a peer whose
    /// program hangs is silent although its transport answers.
    pub fn silence(&self) -> Duration {
        let heard = Duration::from_millis(self.0.heard.load(Ordering::Relaxed));
        self.0.began.elapsed().saturating_sub(heard)
    }

    /// How long ago this side greeted the other. What the other says on this link it says later
    /// than that, however long its words and our own look at them took.
    pub fn age(&self) -> Duration {
        self.0.greeted.elapsed()
    }

    /// Closes the link at once: what is on its way is lost. The first close counts.
    pub fn close(&self, code: CloseCode, text: &str) {
        if self.close_reason().is_none() {
            let _ = self.0.closed_here.set((code, text.to_owned()));
        }
        self.0.connection.close(code, text);
    }

    /// Waits until the link is down.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn closed(&self) -> CloseReason {
        self.in_our_words(self.0.connection.closed().await)
    }

    /// Whether the link is down.
    pub fn is_closed(&self) -> bool {
        self.0.connection.close_reason().is_some()
    }

    /// Why the link is down, if it is.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.0.connection.close_reason().map(|reason| self.in_our_words(reason))
    }

    /// Counters of the transport.
    pub fn stats(&self) -> LinkStats {
        self.0.connection.stats()
    }

    pub(crate) fn heard(&self) {
        let heard = u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.heard.store(heard, Ordering::Relaxed);
    }

    pub(crate) fn permits(&self, lane: Lane, kind: Kind) -> bool {
        allowed(self.0.peer.role(), self.0.our_role, lane, kind)
    }

    pub(crate) fn closed_here(&self) -> Option<&(CloseCode, String)> {
        self.0.closed_here.get()
    }

    #[cfg(test)]
    pub(crate) fn control_queue(&self) -> &ControlQueue {
        &self.0.control
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.control.close();
        self.connection.close(CloseCode::DONE, "");
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({} to {})", self.0.id, self.0.peer)
    }
}
