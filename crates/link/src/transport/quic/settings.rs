//! The settings of sockets, endpoints and connections. What is not set here is measured to be right
//! as it is, or to make no difference.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::{
    ConnectionId, ConnectionIdGenerator, EndpointConfig, IdleTimeout, MtuDiscoveryConfig,
    TransportConfig, VarInt,
};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};
use socket2::{Domain, Protocol, Socket, Type};
use sortie_model::limits;
use sortie_wire::permit::Role;

use super::congestion::Probing;

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

/// The settings of a connection that we dial: the other side proves itself before it can open
/// streams. Towards a user it opens none.
pub(crate) fn known_peer(our_role: Role) -> Arc<TransportConfig> {
    let streams = match our_role {
        Role::Node => VarInt::from_u32(limits::STREAMS_AT_FIRST),
        Role::User => VarInt::from_u32(0),
    };
    let mut config = base();
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
        .congestion_controller_factory(Arc::new(Probing))
        .datagram_receive_buffer_size(None)
        .enable_segmentation_offload(true);
    config
}
