//! Where links come from: an endpoint listens, dials, and answers joins.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use sortie_model::limits;
use sortie_wire::close::CloseCode;
use sortie_wire::permit::Role;
use tokio::sync::mpsc;

use crate::control::ControlReceiver;
use crate::error::{BindError, DialError, Expect, TlsError};
use crate::handshake::{LocalFacts, Room};
use crate::identity::Identity;
use crate::join::JoinExchange;
use crate::link::Link;
use crate::listen::QuicNet;
use crate::memory::MemoryNet;

/// What came to a node that listens.
#[derive(Debug)]
pub enum Arrival {
    /// A link that is up: its certificate was verified and its hello acknowledged.
    Link(Link, ControlReceiver),
    /// A node that wants to join; it has proven nothing yet.
    Join(JoinExchange),
}

/// What comes to a node that listens, at most [`limits::ARRIVALS`] waiting. Dropping it turns
/// everything away.
pub struct Arrivals(mpsc::Receiver<Arrival>);

impl Arrivals {
    /// The next arrival, or none when the endpoint is gone.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<Arrival> {
        self.0.recv().await
    }
}

/// A node's or client's access to the network. Cheap to clone.
///
/// When the last clone is dropped nothing is accepted any more; links that are up stay.
#[derive(Clone)]
pub struct Endpoint(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) us: ArcSwap<Us>,
    net: Net,
    places: Arc<AtomicUsize>,
    closing: AtomicBool,
    arrivals: Option<mpsc::Sender<Arrival>>,
}

/// What the next handshake uses.
#[derive(Clone)]
pub(crate) struct Us {
    pub(crate) identity: Identity,
    pub(crate) facts: LocalFacts,
}

enum Net {
    Quic(QuicNet),
    Memory(MemoryNet),
}

/// A place among the links that came to a node; freed when the link is gone.
pub(crate) struct LinkPlace(Arc<AtomicUsize>);

impl Drop for LinkPlace {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Inner {
    pub(crate) fn room(&self) -> Room {
        if self.closing.load(Ordering::Acquire) {
            return Room::Closing;
        }
        let place = LinkPlace(Arc::clone(&self.places));
        if self.places.fetch_add(1, Ordering::AcqRel) < limits::LINKS_PER_NODE {
            Room::Place(place)
        } else {
            Room::Full
        }
    }

    pub(crate) const fn arrivals(&self) -> Option<&mpsc::Sender<Arrival>> {
        self.arrivals.as_ref()
    }

    fn new(us: Us, net: Net, arrivals: Option<mpsc::Sender<Arrival>>) -> Arc<Self> {
        Arc::new(Self {
            us: ArcSwap::from_pointee(us),
            net,
            places: Arc::new(AtomicUsize::new(0)),
            closing: AtomicBool::new(false),
            arrivals,
        })
    }
}

impl Endpoint {
    /// Listens at `listen` (port 0: any free port) with a node's identity. Must be called within a
    /// tokio runtime.
    ///
    /// # Errors
    /// [`BindError`] when the address cannot be had or the identity is not a node's.
    pub fn bind(
        listen: SocketAddr,
        identity: Identity,
        facts: LocalFacts,
    ) -> Result<(Self, Arrivals), BindError> {
        Self::bind_on(QuicNet::default(), listen, Us { identity, facts })
    }

    pub(crate) fn bind_on(
        net: QuicNet,
        listen: SocketAddr,
        us: Us,
    ) -> Result<(Self, Arrivals), BindError> {
        if us.identity.peer().role() != Role::Node {
            return Err(BindError::NotANode);
        }
        let (send, receive) = mpsc::channel(limits::ARRIVALS);
        let endpoint = Self(Inner::new(us, Net::Quic(net), Some(send)));
        endpoint.listen_also(listen)?;
        Ok((endpoint, Arrivals(receive)))
    }

    /// Listens nowhere: for clients, which only dial. Nothing happens before the first dial.
    pub fn client(identity: Identity, facts: LocalFacts) -> Self {
        Self(Inner::new(Us { identity, facts }, Net::Quic(QuicNet::default()), None))
    }

    /// Listens at one more address; links and arrivals of the others are untouched.
    ///
    /// # Errors
    /// [`BindError`] when the address cannot be had, or this endpoint is a client's.
    pub fn listen_also(&self, listen: SocketAddr) -> Result<SocketAddr, BindError> {
        match &self.0.net {
            Net::Quic(net) if self.0.arrivals.is_some() => net.listen(listen, &self.0),
            _ => Err(BindError::NotANode),
        }
    }

    /// Where it listens: the address that was bound first. Unspecified for clients and in memory.
    pub fn local_addr(&self) -> SocketAddr {
        match &self.0.net {
            Net::Quic(net) => net.first_address(),
            Net::Memory(_) => None,
        }
        .unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)))
    }

    /// New handshakes use that identity and its CA; links that are up stay as they are.
    ///
    /// # Errors
    /// [`TlsError`] when the identity cannot be used; the old one then stays.
    pub fn replace_identity(&self, identity: Identity) -> Result<(), TlsError> {
        if let Net::Quic(net) = &self.0.net {
            net.replace_identity(&identity)?;
        }
        let replaced = |us: &Arc<Us>| Us { identity: identity.clone(), facts: us.facts.clone() };
        self.0.us.rcu(replaced);
        Ok(())
    }

    /// New handshakes say that of this side.
    pub fn replace_facts(&self, facts: LocalFacts) {
        let replaced = |us: &Arc<Us>| Us { identity: us.identity.clone(), facts: facts.clone() };
        self.0.us.rcu(replaced);
    }

    /// Dials `host:port`. The link is up when this returns: the peer proved itself to be what is
    /// expected, accepted our certificate, and acknowledged the hello.
    ///
    /// # Errors
    /// [`DialError`]; its [`step`](DialError::step) says how far the dial came.
    ///
    /// # Cancel safety
    /// Dropping the future gives the dial up.
    pub async fn dial(
        &self,
        address: &str,
        expect: Expect,
        timeout: Duration,
    ) -> Result<(Link, ControlReceiver), DialError> {
        if self.0.closing.load(Ordering::Acquire) {
            return Err(DialError::Closing { address: address.to_owned() });
        }
        let us = self.0.us.load_full();
        match &self.0.net {
            Net::Quic(net) => crate::dial::dial(net, &us, (address, expect), timeout).await,
            Net::Memory(net) => net.dial(&us, (address, expect), timeout).await,
        }
    }

    /// Closes every link with that text, since this program shuts down, and waits until the other
    /// sides can know, at most [`limits::CLOSE_TIME`]. What was sent and not yet delivered is lost.
    pub async fn close(&self, text: &str) {
        self.close_as(CloseCode::SHUTDOWN, text).await;
    }

    /// The same for that reason.
    pub async fn close_as(&self, code: CloseCode, text: &str) {
        self.0.closing.store(true, Ordering::Release);
        match &self.0.net {
            Net::Quic(net) => net.close(code, text).await,
            Net::Memory(net) => net.close(code, text),
        }
    }

    pub(crate) fn in_memory(us: Us, net: MemoryNet) -> (Self, Arrivals) {
        let (send, receive) = mpsc::channel(limits::ARRIVALS);
        let endpoint = Self(Inner::new(us, Net::Memory(net), Some(send)));
        (endpoint, Arrivals(receive))
    }

    pub(crate) const fn inner(&self) -> &Arc<Inner> {
        &self.0
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({}, {})", self.0.us.load().identity.peer(), self.local_addr())
    }
}
