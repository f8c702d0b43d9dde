//! What carries a link: QUIC, or memory within one process for tests. Both give ordered byte
//! streams with backpressure, and the rest of the crate does not know which one it has.

pub(crate) mod memory;
mod pipe;
pub(crate) mod quic;
pub(crate) mod way;

use std::time::Duration;

use bytes::Bytes;
use sortie_wire::close::{CloseCode, StreamCode};
use sortie_wire::permit::Role;

use crate::error::CloseReason;

/// Why a stream of bytes cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StreamFault {
    /// The connection is gone.
    Closed(CloseReason),
    /// The sender reset the stream.
    Reset(StreamCode),
    /// The receiver stopped the stream.
    Stopped(StreamCode),
    /// This side ended the stream before.
    Ended,
}

/// Counters of one connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// The current estimate of the round trip; zero in memory.
    pub round_trip: Duration,
    /// Bytes of UDP payload that were sent.
    pub sent_bytes: u64,
    /// Bytes of UDP payload that were received.
    pub received_bytes: u64,
    /// Packets that were found lost.
    pub lost_packets: u64,
    /// The largest UDP payload that the path is known to carry.
    pub datagram_bytes: u16,
}

/// One connection between two processes, or two ends within one.
#[derive(Clone)]
pub(crate) enum Connection {
    Quic(quic::QuicConnection),
    Memory(memory::MemoryConnection),
}

impl Connection {
    pub(crate) async fn open_uni(&self) -> Result<RawSend, CloseReason> {
        match self {
            Self::Quic(connection) => connection.open_uni().await.map(RawSend::Quic),
            Self::Memory(connection) => connection.open_uni().await.map(RawSend::Memory),
        }
    }

    pub(crate) async fn accept_uni(&self) -> Result<RawReceive, CloseReason> {
        match self {
            Self::Quic(connection) => connection.accept_uni().await.map(RawReceive::Quic),
            Self::Memory(connection) => connection.accept_uni().await.map(RawReceive::Memory),
        }
    }

    pub(crate) async fn open_bi(&self) -> Result<(RawSend, RawReceive), CloseReason> {
        match self {
            Self::Quic(connection) => connection.open_bi().await.map(quic_pair),
            Self::Memory(connection) => connection.open_bi().await.map(memory_pair),
        }
    }

    pub(crate) async fn accept_bi(&self) -> Result<(RawSend, RawReceive), CloseReason> {
        match self {
            Self::Quic(connection) => connection.accept_bi().await.map(quic_pair),
            Self::Memory(connection) => connection.accept_bi().await.map(memory_pair),
        }
    }

    /// Closes the connection; the first close counts.
    pub(crate) fn close(&self, code: CloseCode, text: &str) {
        match self {
            Self::Quic(connection) => connection.close(code, text),
            Self::Memory(connection) => connection.close(code, text),
        }
    }

    pub(crate) async fn closed(&self) -> CloseReason {
        match self {
            Self::Quic(connection) => connection.closed().await,
            Self::Memory(connection) => connection.closed().await,
        }
    }

    pub(crate) fn close_reason(&self) -> Option<CloseReason> {
        match self {
            Self::Quic(connection) => connection.close_reason(),
            Self::Memory(connection) => connection.close_reason(),
        }
    }

    /// The other side may now open as many streams and send as much as a known peer of that role.
    pub(crate) fn admit(&self, role: Role) {
        match self {
            Self::Quic(connection) => connection.admit(role),
            Self::Memory(_) => {}
        }
    }

    /// The other side's address as seen from here, for people.
    pub(crate) fn remote(&self) -> String {
        match self {
            Self::Quic(connection) => connection.remote(),
            Self::Memory(connection) => connection.remote().to_owned(),
        }
    }

    pub(crate) fn stats(&self) -> LinkStats {
        match self {
            Self::Quic(connection) => connection.stats(),
            Self::Memory(_) => LinkStats::default(),
        }
    }
}

fn quic_pair(pair: (quic::QuicSend, quic::QuicReceive)) -> (RawSend, RawReceive) {
    (RawSend::Quic(pair.0), RawReceive::Quic(pair.1))
}

fn memory_pair(pair: (memory::MemorySend, memory::MemoryReceive)) -> (RawSend, RawReceive) {
    (RawSend::Memory(pair.0), RawReceive::Memory(pair.1))
}

/// The sending end of a stream of bytes. Dropping it says nothing: its owner finishes or resets.
pub(crate) enum RawSend {
    Quic(quic::QuicSend),
    Memory(memory::MemorySend),
}

impl RawSend {
    /// Writes all of `chunks`, which are empty afterwards. Not cancel safe.
    pub(crate) async fn write(&mut self, chunks: &mut [Bytes]) -> Result<(), StreamFault> {
        match self {
            Self::Quic(stream) => stream.write(chunks).await,
            Self::Memory(stream) => stream.write(chunks).await,
        }
    }

    pub(crate) fn finish(&mut self) -> Result<(), StreamFault> {
        match self {
            Self::Quic(stream) => stream.finish(),
            Self::Memory(stream) => stream.finish(),
        }
    }

    pub(crate) fn reset(&mut self, code: StreamCode) {
        match self {
            Self::Quic(stream) => stream.reset(code),
            Self::Memory(stream) => stream.reset(code),
        }
    }

    pub(crate) fn prioritise(&self, priority: i32) {
        match self {
            Self::Quic(stream) => stream.prioritise(priority),
            Self::Memory(_) => {}
        }
    }

    /// Waits until the other side has everything (in QUIC: its stack has), or stopped the stream.
    pub(crate) async fn delivered(&mut self) -> Result<(), StreamFault> {
        match self {
            Self::Quic(stream) => stream.delivered().await,
            Self::Memory(stream) => stream.delivered().await,
        }
    }
}

/// The receiving end of a stream of bytes.
pub(crate) enum RawReceive {
    Quic(quic::QuicReceive),
    Memory(memory::MemoryReceive),
}

impl RawReceive {
    /// Reads at least one chunk into the empty places of `chunks`: how many, or none at the clean
    /// end of the stream. Cancel safe.
    pub(crate) async fn read(
        &mut self,
        chunks: &mut [Bytes],
    ) -> Result<Option<usize>, StreamFault> {
        match self {
            Self::Quic(stream) => stream.read(chunks).await,
            Self::Memory(stream) => stream.read(chunks).await,
        }
    }

    pub(crate) fn stop(&mut self, code: StreamCode) {
        match self {
            Self::Quic(stream) => stream.stop(code),
            Self::Memory(stream) => stream.stop(code),
        }
    }
}
