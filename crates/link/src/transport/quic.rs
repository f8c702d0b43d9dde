//! A connection and its streams over quinn.

mod congestion;
pub(crate) mod settings;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use quinn::{ConnectionError, Dir, ReadError, StoppedError, VarInt, WriteError};
use sortie_model::limits;
use sortie_wire::close::{CloseCode, StreamCode};
use sortie_wire::permit::Role;

use crate::error::{CloseReason, Side};
use crate::transport::{LinkStats, StreamFault};

/// A connection.
#[derive(Clone)]
pub(crate) struct QuicConnection {
    quinn: quinn::Connection,
    /// Datagrams that had been sent when this side closed it; none before.
    sent_at_close: Arc<OnceLock<u64>>,
    openings: Arc<[Openings; 2]>,
}

/// How many streams of one kind the other side has open, and may have.
struct Openings {
    open: AtomicU32,
    allowed: AtomicU32,
}

impl Openings {
    const fn new() -> Self {
        Self { open: AtomicU32::new(0), allowed: AtomicU32::new(limits::STREAMS_AT_FIRST) }
    }

    /// Counts one more, and says how many are allowed from now on if that changes.
    fn take(&self) -> Option<u32> {
        let open = self.open.fetch_add(1, Ordering::AcqRel) + 1;
        let allowed = self.allowed.load(Ordering::Acquire);
        if open < allowed / 2 || allowed >= limits::STREAMS_PER_LINK {
            return None;
        }
        let more = (allowed * 2).min(limits::STREAMS_PER_LINK);
        let raised =
            self.allowed.compare_exchange(allowed, more, Ordering::AcqRel, Ordering::Acquire);
        raised.is_ok().then_some(more)
    }
}

/// One stream that the other side opened; counted until both directions are dropped here.
struct Opening {
    connection: QuicConnection,
    kind: Dir,
}

impl Opening {
    /// quinn frees a stream that is stopped after its end had arrived without telling the other
    /// side that it may open another; setting the bound makes it say so.
    fn stopped(&self) {
        let allowed = of_kind(&self.connection.openings, self.kind).allowed.load(Ordering::Acquire);
        self.connection.allow(self.kind, allowed);
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        of_kind(&self.connection.openings, self.kind).open.fetch_sub(1, Ordering::AcqRel);
    }
}

const fn of_kind(openings: &[Openings; 2], kind: Dir) -> &Openings {
    let [bi, uni] = openings;
    match kind {
        Dir::Bi => bi,
        Dir::Uni => uni,
    }
}

impl QuicConnection {
    pub(crate) fn new(quinn: quinn::Connection) -> Self {
        let openings = Arc::new([const { Openings::new() }; 2]);
        Self { quinn, sent_at_close: Arc::default(), openings }
    }

    /// Counts a stream that the other side opened. Taking streams is what lets it open more.
    fn opened(&self, kind: Dir) -> Arc<Opening> {
        if let Some(more) = of_kind(&self.openings, kind).take() {
            self.allow(kind, more);
        }
        Arc::new(Opening { connection: self.clone(), kind })
    }

    fn allow(&self, kind: Dir, streams: u32) {
        match kind {
            Dir::Bi => self.quinn.set_max_concurrent_bi_streams(VarInt::from_u32(streams)),
            Dir::Uni => self.quinn.set_max_concurrent_uni_streams(VarInt::from_u32(streams)),
        }
    }

    /// Whether a connection that was closed here has handed its closing packet to the socket: after
    /// a close nothing else is sent. quinn itself does not say.
    pub(crate) fn close_was_sent(&self) -> bool {
        match (self.sent_at_close.get(), self.quinn.close_reason()) {
            (Some(before), Some(ConnectionError::LocallyClosed)) => {
                self.quinn.stats().udp_tx.datagrams > *before
            }
            _ => true,
        }
    }

    /// Whether it is closed and nothing of it is left to be sent.
    pub(crate) fn is_over(&self) -> bool {
        self.quinn.close_reason().is_some() && self.close_was_sent()
    }

    pub(crate) async fn open_uni(&self) -> Result<QuicSend, CloseReason> {
        let stream = self.quinn.open_uni().await.map_err(close_reason)?;
        Ok(QuicSend { stream, _opening: None })
    }

    pub(crate) async fn accept_uni(&self) -> Result<QuicReceive, CloseReason> {
        let stream = self.quinn.accept_uni().await.map_err(close_reason)?;
        Ok(QuicReceive { stream, opening: Some(self.opened(Dir::Uni)) })
    }

    pub(crate) async fn open_bi(&self) -> Result<(QuicSend, QuicReceive), CloseReason> {
        let (send, receive) = self.quinn.open_bi().await.map_err(close_reason)?;
        let send = QuicSend { stream: send, _opening: None };
        Ok((send, QuicReceive { stream: receive, opening: None }))
    }

    pub(crate) async fn accept_bi(&self) -> Result<(QuicSend, QuicReceive), CloseReason> {
        let (send, receive) = self.quinn.accept_bi().await.map_err(close_reason)?;
        let opening = self.opened(Dir::Bi);
        let send = QuicSend { stream: send, _opening: Some(Arc::clone(&opening)) };
        Ok((send, QuicReceive { stream: receive, opening: Some(opening) }))
    }

    pub(crate) fn close(&self, code: CloseCode, text: &str) {
        let text = text.as_bytes();
        let text = text.get(..limits::CLOSE_TEXT_BYTES).unwrap_or(text);
        if self.quinn.close_reason().is_none() {
            self.sent_at_close.get_or_init(|| self.quinn.stats().udp_tx.datagrams);
        }
        self.quinn.close(VarInt::from_u32(code.0), text);
    }

    pub(crate) async fn closed(&self) -> CloseReason {
        close_reason(self.quinn.closed().await)
    }

    pub(crate) fn close_reason(&self) -> Option<CloseReason> {
        self.quinn.close_reason().map(close_reason)
    }

    pub(crate) fn admit(&self, role: Role) {
        self.allow(Dir::Bi, limits::STREAMS_AT_FIRST);
        if role == Role::Node {
            self.allow(Dir::Uni, limits::STREAMS_AT_FIRST);
        }
        self.quinn.set_receive_window(VarInt::from_u32(limits::CONNECTION_WINDOW_BYTES));
    }

    pub(crate) fn remote(&self) -> String {
        self.quinn.remote_address().to_string()
    }

    pub(crate) fn stats(&self) -> LinkStats {
        let stats = self.quinn.stats();
        LinkStats {
            round_trip: stats.path.rtt,
            sent_bytes: stats.udp_tx.bytes,
            received_bytes: stats.udp_rx.bytes,
            lost_packets: stats.path.lost_packets,
            datagram_bytes: stats.path.current_mtu,
        }
    }
}

/// The sending end of a stream. quinn *finishes* a stream that is dropped, which would look like
/// success; `FrameSender` and the control writer therefore end it in words.
pub(crate) struct QuicSend {
    stream: quinn::SendStream,
    _opening: Option<Arc<Opening>>,
}

impl QuicSend {
    pub(crate) async fn write(&mut self, chunks: &mut [Bytes]) -> Result<(), StreamFault> {
        self.stream.write_all_chunks(chunks).await.map_err(write_fault)
    }

    pub(crate) fn finish(&mut self) -> Result<(), StreamFault> {
        self.stream.finish().map_err(|_| StreamFault::Ended)
    }

    pub(crate) fn reset(&mut self, code: StreamCode) {
        // An error says that the stream has ended before, which is as good.
        let _ = self.stream.reset(VarInt::from_u32(code.0));
    }

    pub(crate) fn prioritise(&self, priority: i32) {
        let _ = self.stream.set_priority(priority);
    }

    pub(crate) async fn delivered(&mut self) -> Result<(), StreamFault> {
        match self.stream.stopped().await {
            Ok(None) => Ok(()),
            Ok(Some(code)) => Err(StreamFault::Stopped(stream_code(code))),
            Err(StoppedError::ConnectionLost(error)) => {
                Err(StreamFault::Closed(close_reason(error)))
            }
            Err(StoppedError::ZeroRttRejected) => Err(StreamFault::Ended),
        }
    }
}

/// The receiving end of a stream.
pub(crate) struct QuicReceive {
    stream: quinn::RecvStream,
    opening: Option<Arc<Opening>>,
}

impl QuicReceive {
    pub(crate) async fn read(
        &mut self,
        chunks: &mut [Bytes],
    ) -> Result<Option<usize>, StreamFault> {
        self.stream.read_chunks(chunks).await.map_err(|error| match error {
            ReadError::Reset(code) => StreamFault::Reset(stream_code(code)),
            ReadError::ConnectionLost(error) => StreamFault::Closed(close_reason(error)),
            ReadError::ClosedStream
            | ReadError::IllegalOrderedRead
            | ReadError::ZeroRttRejected => StreamFault::Ended,
        })
    }

    pub(crate) fn stop(&mut self, code: StreamCode) {
        // An error says that the stream has ended before, which is as good.
        let _ = self.stream.stop(VarInt::from_u32(code.0));
        if let Some(opening) = &self.opening {
            opening.stopped();
        }
    }
}

fn write_fault(error: WriteError) -> StreamFault {
    match error {
        WriteError::Stopped(code) => StreamFault::Stopped(stream_code(code)),
        WriteError::ConnectionLost(error) => StreamFault::Closed(close_reason(error)),
        WriteError::ClosedStream | WriteError::ZeroRttRejected => StreamFault::Ended,
    }
}

/// Codes of our protocol fit 32 bits; what does not is none of ours.
fn short(code: VarInt) -> u32 {
    u32::try_from(code.into_inner()).unwrap_or(u32::MAX)
}

fn stream_code(code: VarInt) -> StreamCode {
    StreamCode(short(code))
}

/// What a TLS alert adds to, in the numbers of QUIC's transport errors.
const ALERTS: std::ops::RangeInclusive<u64> = 0x100..=0x1ff;
const CONNECTION_REFUSED: u64 = 2;

pub(crate) fn close_reason(error: ConnectionError) -> CloseReason {
    let by_code = |by, code: u64, text: String| match code {
        CONNECTION_REFUSED if by == Side::There => CloseReason::Busy,
        code if ALERTS.contains(&code) => CloseReason::Tls { by, alert: (code & 0xff) as u8, text },
        _ => CloseReason::Fault { text },
    };
    match error {
        ConnectionError::ApplicationClosed(close) => CloseReason::There {
            code: CloseCode(short(close.error_code)),
            text: shown(&close.reason),
        },
        ConnectionError::ConnectionClosed(close) => {
            by_code(Side::There, u64::from(close.error_code), shown(&close.reason))
        }
        ConnectionError::TransportError(error) => {
            by_code(Side::Here, u64::from(error.code), shown(error.reason.as_bytes()))
        }
        ConnectionError::TimedOut => CloseReason::Silent,
        ConnectionError::Reset => CloseReason::Restarted,
        ConnectionError::LocallyClosed => {
            CloseReason::Here { code: CloseCode::DONE, text: String::new() }
        }
        other => CloseReason::Fault { text: other.to_string() },
    }
}

/// A text from elsewhere, fit for a terminal.
pub(crate) fn shown(text: &[u8]) -> String {
    let text = text.get(..limits::CLOSE_TEXT_BYTES).unwrap_or(text);
    String::from_utf8_lossy(text).chars().filter(|letter| !letter.is_control()).collect()
}
