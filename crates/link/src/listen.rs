//! The QUIC sockets of an endpoint, and what comes in through them: bounded before anybody has
//! proven who they are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use quinn::crypto::rustls::HandshakeData;
use quinn::{Incoming, ServerConfig, TokioRuntime, VarInt};
use rustls::pki_types::CertificateDer;
use sortie_model::limits;
use sortie_wire::close::CloseCode;
use sortie_wire::version::ALPN_JOIN;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use crate::endpoint::{Arrival, Inner};
use crate::error::{BindError, TlsError};
use crate::handshake::{GreetFault, answer};
use crate::identity::Identity;
use crate::transport::Connection;
use crate::transport::quic::{QuicConnection, settings};
use crate::trust::{CertificateFault, Peer};
use crate::{join, tls};

/// All sockets of one endpoint.
#[derive(Default)]
pub(crate) struct QuicNet {
    sockets: Mutex<Sockets>,
    /// Its end ends the accepting tasks.
    alive: watch::Sender<()>,
    bounds: HandshakeBounds,
}

/// How many handshakes one socket has under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HandshakeBounds {
    /// More are refused.
    pub(crate) most: usize,
    /// Above it a peer must first show that it receives at its address.
    pub(crate) retry_above: usize,
    /// How long one may take, hello and acknowledgement included.
    pub(crate) time: Duration,
}

impl Default for HandshakeBounds {
    fn default() -> Self {
        Self {
            most: limits::INCOMING_HANDSHAKES,
            retry_above: limits::RETRY_ABOVE_HANDSHAKES,
            time: limits::HANDSHAKE_TIME,
        }
    }
}

#[derive(Clone, Default)]
struct Sockets {
    listening: Vec<quinn::Endpoint>,
    dialling: Vec<quinn::Endpoint>,
    /// What a client dialled: a client that ends tells them, and does not wait for more.
    dialled: Vec<QuicConnection>,
}

impl QuicNet {
    #[cfg(test)]
    pub(crate) fn bounded(bounds: HandshakeBounds) -> Self {
        Self { bounds, ..Self::default() }
    }

    /// Keeps the connection of an endpoint that does not listen, so that closing can be seen to be
    /// sent. Those that are closed are forgotten.
    pub(crate) fn remember(&self, connection: &QuicConnection) {
        let mut sockets = self.lock();
        if sockets.listening.is_empty() {
            sockets.dialled.retain(|known| !known.is_over());
            sockets.dialled.push(connection.clone());
        }
    }

    pub(crate) fn listen(
        &self,
        address: SocketAddr,
        inner: &Arc<Inner>,
    ) -> Result<SocketAddr, BindError> {
        let us = inner.us.load_full();
        let config = server_config(&us.identity)?;
        let failed = |source| BindError::Socket { address, source };
        let socket = settings::socket(address).map_err(failed)?;
        let port = socket.local_addr().map_err(failed)?.port();
        let key = us.identity.private_key();
        let settings = settings::listening_config(key.secret_der(), port);
        let runtime = Arc::new(TokioRuntime);
        let endpoint =
            quinn::Endpoint::new(settings, Some(config), socket, runtime).map_err(failed)?;
        let bound = endpoint.local_addr().map_err(failed)?;
        self.lock().listening.push(endpoint.clone());
        let door = Door {
            inner: Arc::downgrade(inner),
            bounds: self.bounds,
            under_way: Arc::new(AtomicUsize::new(0)),
        };
        tokio::spawn(accept(endpoint, door, self.alive.subscribe()));
        Ok(bound)
    }

    pub(crate) fn first_address(&self) -> Option<SocketAddr> {
        self.lock().listening.first().and_then(|endpoint| endpoint.local_addr().ok())
    }

    pub(crate) fn replace_identity(&self, identity: &Identity) -> Result<(), TlsError> {
        let config = server_config(identity)?;
        for endpoint in &self.lock().listening {
            endpoint.set_server_config(Some(config.clone()));
        }
        Ok(())
    }

    /// The socket from which that address can be reached: the one that listens, so that peers see
    /// one address, unless it is bound where the target is not.
    pub(crate) fn towards(&self, target: SocketAddr) -> std::io::Result<quinn::Endpoint> {
        let mut sockets = self.lock();
        let all = sockets.listening.iter().chain(&sockets.dialling);
        let reaches = |endpoint: &&quinn::Endpoint| {
            endpoint.local_addr().is_ok_and(|local| can_reach(local, target))
        };
        if let Some(endpoint) = all.into_iter().find(reaches) {
            return Ok(endpoint.clone());
        }
        let any = match target {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let socket = settings::socket(SocketAddr::new(any, 0))?;
        let runtime = Arc::new(TokioRuntime);
        let endpoint = quinn::Endpoint::new(settings::endpoint_config(), None, socket, runtime)?;
        sockets.dialling.push(endpoint.clone());
        Ok(endpoint)
    }

    /// A node waits until its connections are gone on both sides. A client, which is short-lived,
    /// waits only until its socket took the packets that say so.
    pub(crate) async fn close(&self, code: CloseCode, text: &str) {
        let Sockets { listening, dialling, dialled } = self.lock().clone();
        dialled.iter().for_each(|connection| connection.close(code, text));
        for endpoint in listening.iter().chain(&dialling) {
            endpoint.set_server_config(None);
            endpoint.close(VarInt::from_u32(code.0), text.as_bytes());
        }
        let told = async {
            if listening.is_empty() {
                while !dialled.iter().all(QuicConnection::close_was_sent) {
                    tokio::task::yield_now().await;
                }
            } else {
                for endpoint in listening.iter().chain(&dialling) {
                    endpoint.wait_idle().await;
                }
            }
        };
        let _ = timeout(limits::CLOSE_TIME, told).await;
    }

    fn lock(&self) -> MutexGuard<'_, Sockets> {
        // Nothing panics while it holds the lock, so a poisoned state is whole.
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn can_reach(local: SocketAddr, target: SocketAddr) -> bool {
    let (from, to) = (local.ip(), target.ip());
    local.is_ipv4() == target.is_ipv4()
        && (from.is_unspecified() || from.is_loopback() == to.is_loopback())
}

fn server_config(identity: &Identity) -> Result<ServerConfig, TlsError> {
    let mut config = ServerConfig::with_crypto(tls::server(identity)?);
    config
        .transport_config(settings::stranger())
        .max_incoming(limits::INCOMING_HANDSHAKES)
        .incoming_buffer_size(limits::INCOMING_BUFFER_BYTES)
        .incoming_buffer_size_total(limits::INCOMING_BUFFER_TOTAL_BYTES);
    Ok(config)
}

/// One handshake under way.
pub(crate) struct UnderWay(Arc<AtomicUsize>);

impl UnderWay {
    fn begin(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(count))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What one socket lets in.
struct Door {
    inner: Weak<Inner>,
    bounds: HandshakeBounds,
    under_way: Arc<AtomicUsize>,
}

async fn accept(endpoint: quinn::Endpoint, door: Door, mut alive: watch::Receiver<()>) {
    loop {
        let incoming = tokio::select! {
            incoming = endpoint.accept() => incoming,
            _ = alive.changed() => None,
        };
        let Some(incoming) = incoming else { break };
        let count = door.under_way.load(Ordering::Acquire);
        if count >= door.bounds.most {
            incoming.refuse();
        } else if count >= door.bounds.retry_above && !incoming.remote_address_validated() {
            // An address that was validated cannot be asked again, so this does not fail.
            let _ = incoming.retry();
        } else {
            let under_way = UnderWay::begin(&door.under_way);
            let until = Instant::now() + door.bounds.time;
            tokio::spawn(admit(incoming, until, door.inner.clone(), under_way));
        }
    }
    endpoint.set_server_config(None);
}

/// Takes one connection through its handshake. Nobody is waited for beyond `until`.
async fn admit(incoming: Incoming, until: Instant, inner: Weak<Inner>, under_way: UnderWay) {
    let from = incoming.remote_address();
    let handshake = async {
        let connection = incoming.accept()?.await?;
        Ok::<_, quinn::ConnectionError>(connection)
    };
    let connection = match timeout_at(until, handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return tracing::debug!(%from, %error, "a handshake failed"),
        Err(_) => return tracing::debug!(%from, "a handshake took too long"),
    };
    let closer = connection.clone();
    let greeted = async {
        if alpn(&connection).as_deref() == Some(ALPN_JOIN) {
            join::receive(connection, inner, under_way).await;
        } else {
            greet(connection, inner).await;
        }
    };
    if timeout_at(until, greeted).await.is_err() {
        tracing::debug!(%from, "a hello took too long");
        closer.close(VarInt::from_u32(CloseCode::NO_HELLO.0), b"");
    }
}

async fn greet(connection: quinn::Connection, inner: Weak<Inner>) {
    let from = connection.remote_address();
    let Some(peer) = peer_of(&connection) else {
        tracing::debug!(%from, "a peer showed no certificate");
        connection.close(VarInt::from_u32(CloseCode::NO_CERTIFICATE.0), b"");
        return;
    };
    let peer = match peer {
        Ok(peer) => peer,
        Err(error) => {
            tracing::warn!(%from, %error, "a peer showed a certificate that says nothing");
            connection.close(VarInt::from_u32(CloseCode::NO_CERTIFICATE.0), b"");
            return;
        }
    };
    let Some(inner) = inner.upgrade() else { return };
    let Some(arrivals) = inner.arrivals() else { return };
    // A place among the arrivals comes first: what is acknowledged is also looked at.
    let Ok(permit) = arrivals.reserve().await else { return };
    let us = inner.us.load_full();
    let connection = Connection::Quic(QuicConnection::new(connection));
    let local = (us.identity.peer(), &us.facts);
    match answer(connection, peer, local, || inner.room()).await {
        Ok((link, control)) => permit.send(Arrival::Link(link, control)),
        Err(GreetFault::WeRefused(code)) => {
            tracing::info!(%from, code = code.as_str(), "a link was refused");
        }
        Err(fault) => tracing::debug!(%from, ?fault, "a hello failed"),
    }
}

fn alpn(connection: &quinn::Connection) -> Option<Vec<u8>> {
    connection.handshake_data()?.downcast::<HandshakeData>().ok()?.protocol
}

/// Who the verified certificate of the other side says it is; none without certificate.
pub(crate) fn peer_of(connection: &quinn::Connection) -> Option<Result<Peer, CertificateFault>> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    chain.first().map(Peer::of_certificate)
}
