//! The way from a client to the node that serves it.

pub(crate) mod again;

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use sortie_actors::data::exchange::{ClientEnd, ClientReceiver, ToClient};
use sortie_actors::{NodeHandle, WayAbove};
use sortie_exec::sys::ended::ended;
use sortie_exec::worker::WorkerNode;
use sortie_link::{
    CloseCode, ControlReceiver, Endpoint, Expect, Link, LocalFacts, Peer, PeerFacts,
};
use sortie_model::{Incarnation, NodeId, Timestamp, limits};
use sortie_wire::link_proto::Heartbeat;
use sortie_wire::session_proto::{Answer, Ask, Request, SessionRef};
use sortie_wire::version::DETACH;
use sortie_wire::{ErrorCode, RemoteError};
use tokio::task::AbortHandle;

use crate::client::UserIdentity;
use crate::error::{ConnectError, RequestError};
use crate::home::HomePaths;

/// What a node said last before its process ended is read within this time: that it shuts down, for
/// one.
const LAST_WORD: Duration = Duration::from_millis(20);

/// The way to a node. Every request is an exchange of its own, so a slow answer delays no other.
#[derive(Debug, Clone)]
pub(crate) enum Route {
    /// To a node in this process; nothing is encoded.
    Local(NodeHandle),
    /// To a node in another process.
    Link(Arc<Remote>),
    /// From a background function to the node that it runs on.
    Worker(Arc<WorkerNode>),
    /// From a running function to the session that its child belongs to.
    Above(WayAbove),
    /// To no node: what is tested with it ends before anything is sent, or with the loss.
    #[cfg(test)]
    Nowhere,
}

impl Route {
    /// Sends a request; its answers come from the end that is returned.
    pub(crate) async fn open(
        &self,
        session: SessionRef,
        ask: Ask,
    ) -> Result<ClientEnd, RequestError> {
        let request = Request { session, ask };
        match self {
            Self::Local(node) => Ok(node.open(request)),
            Self::Link(remote) => {
                let link = remote.link().await?;
                check_version(&request.ask, link.facts())?;
                let (sender, receiver) = link.open_bi().await.map_err(|_| RequestError::Lost)?;
                let end = ClientEnd::away(sender, receiver, &request).await?;
                Ok(remote.placing(&link, end))
            }
            Self::Worker(node) => {
                let (sender, receiver) = node.open().await.map_err(no_exchange)?;
                Ok(ClientEnd::away(sender, receiver, &request).await?)
            }
            Self::Above(way) => Ok(way.open(request).await?),
            #[cfg(test)]
            Self::Nowhere => Err(RequestError::Lost),
        }
    }

    /// Sends a request and waits for its one answer.
    pub(crate) async fn ask(&self, session: SessionRef, ask: Ask) -> Result<Answer, RequestError> {
        let mut end = self.open(session, ask).await?;
        answer(&mut end.receiver).await
    }
}

/// A node does not answer what its version does not know: to who asked it would look like a loss.
fn check_version(ask: &Ask, node: &PeerFacts) -> Result<(), RemoteError> {
    if !matches!(ask, Ask::Detach(_)) || node.version >= DETACH {
        return Ok(());
    }
    let text = format!("the node's program, {}, is too old to detach processes", node.program);
    Err(RemoteError::new(ErrorCode::Version, text).hint("bring the older program up to date"))
}

fn no_exchange(error: std::io::Error) -> RequestError {
    let text = format!("this process cannot open a socket for a request to its node: {error}");
    RemoteError::new(ErrorCode::Limit, text).into()
}

/// The next message, which must be an answer. A refusal is an error.
pub(crate) async fn answer(receiver: &mut ClientReceiver) -> Result<Answer, RequestError> {
    match receiver.next().await?.ok_or(RequestError::Lost)? {
        ToClient::Answer(Answer::Refused(error)) => Err(error.into()),
        ToClient::Answer(answer) => Ok(answer),
        _ => Err(RequestError::Unexpected),
    }
}

/// A node in another process, and how to reach it again.
#[derive(Debug)]
pub(crate) struct Remote {
    endpoint: Endpoint,
    address: String,
    expect: Expect,
    timeout: Duration,
    whose: Whose,
    connected: Mutex<Connected>,
    /// Held while a connection that broke is dialled, so that it is made once.
    redial: tokio::sync::Mutex<()>,
    /// How requests go on that it broke; none where they end.
    again: OnceLock<again::Again>,
}

/// Where a node is, for the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Whose {
    /// In that home of this machine: what is there is here.
    Home(HomePaths),
    /// Somewhere.
    Elsewhere,
}

/// A link, with the future that keeps it alive; dropping it ends both.
#[derive(Debug)]
struct Connected {
    link: Link,
    keeper: AbortHandle,
}

impl Connected {
    fn keep((link, control): (Link, ControlReceiver), whose: &Whose) -> Self {
        let process = match whose {
            Whose::Home(paths) => paths.last_holder(),
            Whose::Elsewhere => None,
        };
        let keeper = tokio::spawn(keep(link.clone(), control, process)).abort_handle();
        Self { link, keeper }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Remote {
    pub(crate) async fn connect(
        address: &str,
        identity: &UserIdentity,
        (node, whose): (Option<NodeId>, Whose),
        timeout: Duration,
    ) -> Result<Self, ConnectError> {
        let now = Timestamp::of(SystemTime::now()).0;
        let facts = LocalFacts {
            incarnation: Incarnation(u64::try_from(now).unwrap_or(0)),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            address: None,
        };
        let endpoint = Endpoint::client((*identity.identity).clone(), facts);
        let expect = node.map_or(Expect::AnyNode, Expect::Node);
        let connected = Connected::keep(endpoint.dial(address, expect, timeout).await?, &whose);
        Ok(Self {
            endpoint,
            address: address.to_owned(),
            expect,
            timeout,
            whose,
            connected: Mutex::new(connected),
            redial: tokio::sync::Mutex::new(()),
            again: OnceLock::new(),
        })
    }

    /// The link; a new one when the last broke.
    async fn link(&self) -> Result<Link, ConnectError> {
        if let Some(link) = self.link_if_up() {
            return Ok(link);
        }
        let _redial = self.redial.lock().await;
        if let Some(link) = self.link_if_up() {
            return Ok(link);
        }
        let dialled = self.dial().await?;
        let (before, link) = (self.connected().link.clone(), dialled.0.clone());
        self.connect_as(Connected::keep(dialled, &self.whose));
        self.is_up(&before);
        Ok(link)
    }

    /// Dials once, at home where the node is by now. One that ends meanwhile is not waited for.
    async fn dial(&self) -> Result<(Link, ControlReceiver), ConnectError> {
        let (address, process) = match &self.whose {
            Whose::Home(paths) => {
                (paths.announced()?.ok_or(ConnectError::NotRunning)?, paths.last_holder())
            }
            Whose::Elsewhere => (self.address.clone(), None),
        };
        tokio::select! {
            biased;
            dialled = self.endpoint.dial(&address, self.expect, self.timeout) => Ok(dialled?),
            () = end_of(process) => Err(ConnectError::NotRunning),
        }
    }

    fn connect_as(&self, connected: Connected) {
        *self.connected() = connected;
    }

    fn connected(&self) -> MutexGuard<'_, Connected> {
        // Nobody panics while holding the lock; a poisoned one would hold a whole value all the
        // same.
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client's end of an exchange, which says where children are as the client reads it.
    fn placing(&self, link: &Link, end: ClientEnd) -> ClientEnd {
        match (&self.whose, link.peer()) {
            (Whose::Elsewhere, Peer::Node { name, .. }) => end.elsewhere(name.clone()),
            _ => end,
        }
    }

    fn link_if_up(&self) -> Option<Link> {
        let connected = self.connected();
        (!connected.link.is_closed()).then(|| connected.link.clone())
    }

    pub(crate) async fn close(&self) {
        self.endpoint.close("the client is done").await;
    }
}

/// Resolves when that process has ended; never where none is known.
async fn end_of(process: Option<u32>) {
    let ended = async { ended(process.ok_or(std::io::ErrorKind::NotFound)?).await };
    if ended.await.is_err() {
        std::future::pending().await
    }
}

/// Shows the node that this program is alive, and takes what it says on the control stream. Of a
/// node on this machine the end is known at once.
async fn keep(link: Link, mut control: ControlReceiver, process: Option<u32>) {
    let mut ended = pin!(end_of(process));
    let mut beat = tokio::time::interval(limits::HEARTBEAT);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut number, mut heard) = (0, 0);
    loop {
        tokio::select! {
            // Only heartbeats come here.
            frame = control.next() => match frame.map(|frame| frame.open::<Heartbeat>()) {
                Some(Ok(beat)) => heard = beat.number.max(heard),
                Some(Err(error)) => link.close(CloseCode::GARBAGE, &error.to_string()),
                None => return,
            },
            // What it said before its end has arrived by now, and is to be read.
            () = &mut ended => {
                let _ = tokio::time::timeout(LAST_WORD, link.closed()).await;
                return link.close(CloseCode::SILENT, "its process has ended");
            }
            _ = beat.tick() => {
                if link.silence() > limits::LOST_AFTER {
                    // It was killed or is frozen. The transport would notice only much later.
                    return link.close(CloseCode::SILENT, "silent for too long");
                }
                number += 1;
                if link.send(&Heartbeat { number, heard }).is_err() {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
