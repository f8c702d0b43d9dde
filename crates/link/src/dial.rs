//! From `host:port` to a link: resolve, connect, authenticate, be authorised.

use std::future::pending;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quinn::ClientConfig;
use quinn::crypto::rustls::QuicClientConfig;
use sortie_wire::close::CloseCode;
use sortie_wire::permit::Role;
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep, timeout_at};

use crate::control::ControlReceiver;
use crate::endpoint::Us;
use crate::error::{DialError, Expect, TrustFault};
use crate::handshake::{GreetFault, greet};
use crate::link::Link;
use crate::listen::{QuicNet, peer_of};
use crate::tls::{self, Verdict};
use crate::transport::Connection;
use crate::transport::quic::{QuicConnection, close_reason, settings};
use crate::trust::{ANY_NODE, Peer, node_host};

/// How long a handshake may take before its host is asked whether anything listens there.
const PROBE_AFTER: Duration = Duration::from_millis(20);

/// Dials each address of the host in turn until one gives a link.
pub(crate) async fn dial(
    net: &QuicNet,
    us: &Us,
    (address, expect): (&str, Expect),
    wait: Duration,
) -> Result<(Link, ControlReceiver), DialError> {
    let began = Instant::now();
    let no_answer = || DialError::NoAnswer { address: address.to_owned(), waited: wait };
    let verdict = Verdict::default();
    let config = tls::client(&us.identity, &verdict)
        .map_err(|source| DialError::Identity { address: address.to_owned(), source })?;
    let (server, role) = (server_name(expect), us.identity.peer().role());
    let attempt = Attempt { net, address, config, verdict, server, role };
    let (connection, peer) = attempt.connect(began, wait).await?;
    let connection = QuicConnection::new(connection);
    net.remember(&connection);
    let connection = Connection::Quic(connection);
    let greeting = greet(connection.clone(), role, peer, &us.facts);
    tokio::pin!(greeting);
    let unless_up = CloseUnlessUp::new(&connection);
    match timeout_at(began + wait, greeting).await {
        Ok(Ok(up)) => {
            unless_up.up();
            Ok(up)
        }
        Ok(Err(fault)) => Err(dial_error(address, fault, &attempt.verdict)),
        Err(_) => Err(no_answer()),
    }
}

/// Closes a connection on which no link came up, also when the dial was given up. It is made after
/// the greeting, and so dropped before it: streams that end on a connection that is still open
/// would look like a fault of this side.
pub(crate) struct CloseUnlessUp(Option<Connection>);

impl CloseUnlessUp {
    pub(crate) fn new(connection: &Connection) -> Self {
        Self(Some(connection.clone()))
    }

    pub(crate) fn up(mut self) {
        self.0 = None;
    }
}

impl Drop for CloseUnlessUp {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            connection.close(CloseCode::DONE, "");
        }
    }
}

/// The name for which the other side's certificate must be valid.
fn server_name(expect: Expect) -> String {
    match expect {
        Expect::Node(id) => node_host(id),
        Expect::AnyNode => ANY_NODE.to_owned(),
    }
}

/// The public error of a greeting that failed.
pub(crate) fn dial_error(address: &str, fault: GreetFault, verdict: &Verdict) -> DialError {
    let address = address.to_owned();
    match fault {
        GreetFault::Broken(reason) => match tls::trust_fault(&reason, verdict) {
            Some(fault) => DialError::Trust { address, fault },
            None => DialError::Broken { address, reason },
        },
        GreetFault::Refused(error) => DialError::Refused { address, error },
        GreetFault::Impostor => DialError::Trust { address, fault: TrustFault::Impostor },
        GreetFault::Protocol | GreetFault::WeRefused(_) => {
            DialError::Trust { address, fault: TrustFault::OtherProtocol }
        }
    }
}

/// One dial with its settings.
pub(crate) struct Attempt<'a> {
    pub(crate) net: &'a QuicNet,
    pub(crate) address: &'a str,
    pub(crate) config: Arc<QuicClientConfig>,
    pub(crate) verdict: Verdict,
    pub(crate) server: String,
    pub(crate) role: Role,
}

impl Attempt<'_> {
    /// A connection to a node that proved itself; whether it accepts us is not known yet.
    pub(crate) async fn connect(
        &self,
        began: Instant,
        wait: Duration,
    ) -> Result<(quinn::Connection, Peer), DialError> {
        let targets = match timeout_at(began + wait, resolve(self.address)).await {
            Ok(targets) => targets?,
            Err(_) => {
                let source = io::Error::from(io::ErrorKind::TimedOut);
                return Err(DialError::Resolve { address: self.address.to_owned(), source });
            }
        };
        let mut last = None;
        for (place, target) in targets.iter().enumerate() {
            // Each address has an equal part of the time that is left.
            let left = (began + wait).saturating_duration_since(Instant::now());
            let parts = u32::try_from(targets.len() - place).unwrap_or(u32::MAX);
            match self.connect_to(*target, Instant::now() + left / parts).await {
                Ok(found) => return Ok(found),
                Err(None) => {
                    last = Some(DialError::NoAnswer {
                        address: self.address.to_owned(),
                        waited: wait,
                    });
                }
                Err(Some(error)) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| DialError::Resolve {
            address: self.address.to_owned(),
            source: io::Error::from(io::ErrorKind::NotFound),
        }))
    }

    /// None as error: no answer in time.
    async fn connect_to(
        &self,
        target: SocketAddr,
        until: Instant,
    ) -> Result<(quinn::Connection, Peer), Option<DialError>> {
        let address = || self.address.to_owned();
        let unreachable = |source| DialError::Socket { address: address(), source };
        let endpoint = self.net.towards(target).map_err(unreachable)?;
        let mut config = ClientConfig::new(Arc::clone(&self.config) as _);
        config.transport_config(settings::known_peer(self.role));
        let connecting = endpoint
            .connect_with(config, target, &self.server)
            .map_err(|error| unreachable(io::Error::other(error)))?;
        let connected = tokio::select! {
            connected = timeout_at(until, connecting) => connected.map_err(|_| None)?,
            () = nothing_listens(target) => {
                return Err(Some(DialError::NothingListens { address: address() }));
            }
        };
        let connection = connected.map_err(|error| {
            dial_error(self.address, GreetFault::Broken(close_reason(error)), &self.verdict)
        })?;
        let fault = match peer_of(&connection) {
            Some(Ok(peer @ Peer::Node { .. })) => return Ok((connection, peer)),
            Some(Err(fault)) => TrustFault::Certificate(fault),
            _ => TrustFault::OtherProtocol,
        };
        Err(Some(DialError::Trust { address: address(), fault }))
    }
}

async fn resolve(address: &str) -> Result<Vec<SocketAddr>, DialError> {
    if let Ok(target) = address.parse() {
        return Ok(vec![target]);
    }
    let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    if port.is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
        return Err(DialError::Address { address: address.to_owned() });
    }
    let found = tokio::net::lookup_host(address).await;
    let found =
        found.map_err(|source| DialError::Resolve { address: address.to_owned(), source })?;
    Ok(found.collect())
}

/// Ends when the target's host says that nothing listens there, and else never. QUIC itself cannot
/// hear that on a socket with many peers, and would wait in vain; a connected socket does.
async fn nothing_listens(target: SocketAddr) {
    sleep(PROBE_AFTER).await;
    let refused = async {
        let any: SocketAddr = match target {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(target).await?;
        // No QUIC packet begins with a zero: a node drops it unread.
        socket.send(&[0]).await?;
        socket.recv(&mut [0]).await
    };
    match refused.await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        _ => pending().await,
    }
}
