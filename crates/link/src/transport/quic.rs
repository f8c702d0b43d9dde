//! A connection and its streams over quinn.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::{
    ConnectionError, ConnectionId, ConnectionIdGenerator, EndpointConfig, IdleTimeout,
    MtuDiscoveryConfig, ReadError, StoppedError, TransportConfig, VarInt, WriteError,
};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};
use socket2::{Domain, Protocol, Socket, Type};
use sortie_model::limits;
use sortie_wire::close::{CloseCode, StreamCode};
use sortie_wire::permit::Role;

use crate::error::{CloseReason, Side};
use crate::transport::{LinkStats, StreamFault};

/// A socket with large buffers, as far as the system gives them: without them bursts are lost.
pub(crate) fn socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    // Less is slower but works, so a refusal is no error. The forced sizes need a privilege.
    if rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, limits::SOCKET_BUFFER_BYTES)
        .is_err()
    {
        let _ = socket.set_recv_buffer_size(limits::SOCKET_BUFFER_BYTES);
    }
    let _ = socket.set_send_buffer_size(limits::SOCKET_BUFFER_BYTES);
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// The settings of an endpoint that only dials.
pub(crate) fn endpoint_config() -> EndpointConfig {
    sized(EndpointConfig::default())
}

/// The settings of an endpoint that listens. With the same secret and port after a restart it can
/// tell the peers of its earlier life at once that their connections are gone: it neither has to
/// remember them, nor must the peers wait for the idle time.
pub(crate) fn listening_config(secret: &[u8], port: u16) -> EndpointConfig {
    // Two sockets never share the key: each could be made to end the other's connections.
    let seed = Sha256::new()
        .chain_update(b"sortie stateless reset")
        .chain_update(secret)
        .chain_update(port.to_be_bytes())
        .finalize();
    let mut config = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &seed)));
    config.cid_generator(|| Box::new(RandomIds(SystemRandom::new())));
    sized(config)
}

fn sized(mut config: EndpointConfig) -> EndpointConfig {
    // The bound is within what QUIC allows, so that this cannot fail.
    let _ = config.max_udp_payload_size(limits::DATAGRAM_BYTES);
    config
}

/// Connection ids without inner structure: quinn's own say which process made them, and an earlier
/// life's would be dropped unanswered.
struct RandomIds(SystemRandom);

impl RandomIds {
    const BYTES: usize = 8;
}

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; Self::BYTES];
        // Linux gives randomness once it is up. Equal ids are noticed and asked for again.
        let _ = self.0.fill(&mut id);
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        Self::BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// The settings of a connection whose other side is known: the side that dialled proved itself.
pub(crate) fn known_peer() -> Arc<TransportConfig> {
    let mut config = base();
    let streams = VarInt::from_u32(limits::STREAMS_PER_LINK);
    config
        .max_concurrent_bidi_streams(streams)
        .max_concurrent_uni_streams(streams)
        .receive_window(VarInt::from_u32(limits::CONNECTION_WINDOW_BYTES));
    Arc::new(config)
}

/// The settings of a connection from somebody: one stream, for the hello, and a small window.
pub(crate) fn stranger() -> Arc<TransportConfig> {
    let mut config = base();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .receive_window(VarInt::from_u32(limits::STRANGER_WINDOW_BYTES));
    Arc::new(config)
}

fn base() -> TransportConfig {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(limits::DATAGRAM_BYTES);
    let mut config = TransportConfig::default();
    config
        .stream_receive_window(VarInt::from_u32(limits::STREAM_WINDOW_BYTES))
        .send_window(u64::from(limits::CONNECTION_WINDOW_BYTES))
        .max_idle_timeout(IdleTimeout::try_from(limits::LINK_IDLE).ok())
        .keep_alive_interval(Some(limits::LINK_KEEP_ALIVE))
        .mtu_discovery_config(Some(mtu))
        .datagram_receive_buffer_size(None)
        .enable_segmentation_offload(true);
    config
}

/// A connection.
#[derive(Clone)]
pub(crate) struct QuicConnection(pub(crate) quinn::Connection);

impl QuicConnection {
    pub(crate) async fn open_uni(&self) -> Result<QuicSend, CloseReason> {
        self.0.open_uni().await.map(QuicSend).map_err(close_reason)
    }

    pub(crate) async fn accept_uni(&self) -> Result<QuicReceive, CloseReason> {
        self.0.accept_uni().await.map(QuicReceive).map_err(close_reason)
    }

    pub(crate) async fn open_bi(&self) -> Result<(QuicSend, QuicReceive), CloseReason> {
        let (send, receive) = self.0.open_bi().await.map_err(close_reason)?;
        Ok((QuicSend(send), QuicReceive(receive)))
    }

    pub(crate) async fn accept_bi(&self) -> Result<(QuicSend, QuicReceive), CloseReason> {
        let (send, receive) = self.0.accept_bi().await.map_err(close_reason)?;
        Ok((QuicSend(send), QuicReceive(receive)))
    }

    pub(crate) fn close(&self, code: CloseCode, text: &str) {
        let text = text.as_bytes();
        let text = text.get(..limits::CLOSE_TEXT_BYTES).unwrap_or(text);
        self.0.close(VarInt::from_u32(code.0), text);
    }

    pub(crate) async fn closed(&self) -> CloseReason {
        close_reason(self.0.closed().await)
    }

    pub(crate) fn close_reason(&self) -> Option<CloseReason> {
        self.0.close_reason().map(close_reason)
    }

    pub(crate) fn admit(&self, role: Role) {
        let streams = VarInt::from_u32(limits::STREAMS_PER_LINK);
        self.0.set_max_concurrent_bi_streams(streams);
        if role == Role::Node {
            self.0.set_max_concurrent_uni_streams(streams);
        }
        self.0.set_receive_window(VarInt::from_u32(limits::CONNECTION_WINDOW_BYTES));
    }

    pub(crate) fn remote(&self) -> String {
        self.0.remote_address().to_string()
    }

    pub(crate) fn stats(&self) -> LinkStats {
        let stats = self.0.stats();
        LinkStats {
            round_trip: stats.path.rtt,
            sent_bytes: stats.udp_tx.bytes,
            received_bytes: stats.udp_rx.bytes,
            lost_packets: stats.path.lost_packets,
            datagram_bytes: stats.path.current_mtu,
        }
    }
}

/// Whether a connection that was closed here has handed its closing packet to the socket.
pub(crate) fn close_was_sent(connection: &quinn::Connection) -> bool {
    match connection.close_reason() {
        Some(ConnectionError::LocallyClosed) => connection.stats().frame_tx.connection_close > 0,
        Some(_) => true,
        None => false,
    }
}

/// The sending end of a stream. quinn *finishes* a stream that is dropped, which would look like
/// success; `FrameSender` and the control writer therefore end it in words.
pub(crate) struct QuicSend(quinn::SendStream);

impl QuicSend {
    pub(crate) async fn write(&mut self, chunks: &mut [Bytes]) -> Result<(), StreamFault> {
        self.0.write_all_chunks(chunks).await.map_err(write_fault)
    }

    pub(crate) fn finish(&mut self) -> Result<(), StreamFault> {
        self.0.finish().map_err(|_| StreamFault::Ended)
    }

    pub(crate) fn reset(&mut self, code: StreamCode) {
        // An error says that the stream has ended before, which is as good.
        let _ = self.0.reset(VarInt::from_u32(code.0));
    }

    pub(crate) fn prioritise(&self, priority: i32) {
        let _ = self.0.set_priority(priority);
    }

    pub(crate) async fn delivered(&mut self) -> Result<(), StreamFault> {
        match self.0.stopped().await {
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
pub(crate) struct QuicReceive(quinn::RecvStream);

impl QuicReceive {
    pub(crate) async fn read(
        &mut self,
        chunks: &mut [Bytes],
    ) -> Result<Option<usize>, StreamFault> {
        self.0.read_chunks(chunks).await.map_err(|error| match error {
            ReadError::Reset(code) => StreamFault::Reset(stream_code(code)),
            ReadError::ConnectionLost(error) => StreamFault::Closed(close_reason(error)),
            ReadError::ClosedStream
            | ReadError::IllegalOrderedRead
            | ReadError::ZeroRttRejected => StreamFault::Ended,
        })
    }

    pub(crate) fn stop(&mut self, code: StreamCode) {
        // An error says that the stream has ended before, which is as good.
        let _ = self.0.stop(VarInt::from_u32(code.0));
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
