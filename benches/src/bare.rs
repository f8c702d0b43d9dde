//! Bare quinn with the transport settings of a link, and bare tokio: the limits.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, MtuDiscoveryConfig, RecvStream, SendStream,
    ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{CipherSuite, RootCertStore};
use sortie::limits;

use crate::program::Outcome;

mod stream;

pub use stream::{Order, RECORDS_PER_WRITE, order};

/// One key pair that both sides show and trust: the checks of mutual TLS, without a CA.
#[derive(Debug)]
pub struct Pass {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Clone for Pass {
    fn clone(&self) -> Self {
        Self { certificate: self.certificate.clone(), key: self.key.clone_key() }
    }
}

impl Pass {
    /// A new one.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn generate() -> Outcome<Self> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())?;
        Ok(Self { certificate: made.cert.der().clone(), key })
    }

    /// Leaves it in a directory for a peer.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn save(&self, directory: &Path) -> io::Result<()> {
        std::fs::write(directory.join("certificate"), &self.certificate)?;
        std::fs::write(directory.join("key"), self.key.secret_der())
    }

    /// The one in a directory.
    ///
    /// # Errors
    /// When there is none.
    pub fn load(directory: &Path) -> Outcome<Self> {
        let key = PrivateKeyDer::try_from(std::fs::read(directory.join("key"))?)?;
        Ok(Self { certificate: std::fs::read(directory.join("certificate"))?.into(), key })
    }

    fn roots(&self) -> Outcome<Arc<RootCertStore>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        Ok(Arc::new(roots))
    }
}

/// The cryptography of a link: AES-128-GCM first.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    let first = CipherSuite::TLS13_AES_128_GCM_SHA256;
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != first);
    Arc::new(provider)
}

/// The transport settings of a link.
fn transport() -> Arc<TransportConfig> {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(limits::DATAGRAM_BYTES);
    let mut config = TransportConfig::default();
    config
        .stream_receive_window(VarInt::from_u32(limits::STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(limits::CONNECTION_WINDOW_BYTES))
        .send_window(u64::from(limits::CONNECTION_WINDOW_BYTES))
        .max_concurrent_bidi_streams(VarInt::from_u32(limits::STREAMS_PER_LINK))
        .mtu_discovery_config(Some(mtu))
        .datagram_receive_buffer_size(None);
    Arc::new(config)
}

/// An endpoint on loopback with the socket of a link.
fn endpoint(server: Option<ServerConfig>) -> Outcome<Endpoint> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    // Less is slower but works, as for a link.
    let size = limits::SOCKET_BUFFER_BYTES;
    if rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, size).is_err() {
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, size);
    }
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(&socket, size);
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(limits::DATAGRAM_BYTES)?;
    Ok(Endpoint::new(config, server, socket, Arc::new(TokioRuntime))?)
}

/// A side that listens, with mutual TLS.
///
/// # Errors
/// When it cannot.
pub fn listen(pass: &Pass) -> Outcome<Endpoint> {
    let verifier =
        WebPkiClientVerifier::builder_with_provider(pass.roots()?, provider()).build()?;
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![pass.certificate.clone()], pass.key.clone_key())?;
    tls.send_tls13_tickets = 0;
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    config.transport_config(transport());
    endpoint(Some(config))
}

/// A side that dials, with mutual TLS and no resumption.
///
/// # Errors
/// When it cannot.
pub fn dialler(pass: &Pass) -> Outcome<Endpoint> {
    let mut tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(pass.roots()?)
        .with_client_auth_cert(vec![pass.certificate.clone()], pass.key.clone_key())?;
    tls.resumption = rustls::client::Resumption::disabled();
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(transport());
    let mut endpoint = endpoint(None)?;
    endpoint.set_default_client_config(config);
    Ok(endpoint)
}

/// Connects to a port of this machine.
///
/// # Errors
/// When nobody answers there.
pub async fn dial(endpoint: &Endpoint, port: u16) -> Outcome<Connection> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    Ok(endpoint.connect(address, "localhost")?.await?)
}

/// Sends 64 bytes there and back so many times and gives the round trips in microseconds.
///
/// # Errors
/// When the connection is lost.
pub async fn ping_pong(connection: Connection, times: usize) -> Outcome<Vec<f64>> {
    let (mut send, mut receive) = order(&connection, Order::Echo).await?;
    let mut taken = Vec::with_capacity(times);
    let mut message = [7; stream::ECHO_BYTES];
    for _ in 0..times {
        let begin = std::time::Instant::now();
        send.write_all(&message).await?;
        receive.read_exact(&mut message).await?;
        taken.push(begin.elapsed().as_secs_f64() * 1e6);
    }
    send.finish()?;
    Ok(taken)
}

/// Reads a stream to its end and gives how many bytes came.
///
/// # Errors
/// When the connection is lost.
pub async fn count_bytes((_send, mut receive): (SendStream, RecvStream)) -> Outcome<u64> {
    let mut bytes = 0;
    while let Some(chunk) = receive.read_chunk(usize::MAX, true).await? {
        bytes += chunk.bytes.len() as u64;
    }
    Ok(bytes)
}

/// Does what streams ask, on every connection, until the endpoint is dropped.
pub async fn serve(endpoint: Endpoint) {
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(async move {
            let Ok(connection) = incoming.await else { return };
            while let Ok(streams) = connection.accept_bi().await {
                tokio::spawn(stream::carry_out(streams));
            }
        });
    }
}
