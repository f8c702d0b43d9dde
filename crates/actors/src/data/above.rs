//! The way of a running child to the session that it belongs to, on whichever node that lives.

use std::fmt;
use std::sync::{Arc, Weak};

use sortie_link::Link;
use sortie_model::SessionInstance;
use sortie_wire::session_proto::Request;
use sortie_wire::{ErrorCode, RemoteError};

use crate::data::exchange::{self, ClientEnd, ExchangeError};
use crate::data::messages::inboxes::Way;
use crate::data::nested::TaskNode;
use crate::data::port::ChildPort;
use crate::serve;

/// Asks the session that a child belongs to, for the child's function. Dropping it does nothing; it
/// keeps nothing of the child alive.
#[derive(Clone)]
pub struct WayAbove {
    child: Weak<ChildPort>,
}

impl fmt::Debug for WayAbove {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WayAbove").finish_non_exhaustive()
    }
}

/// Why the session above a child was not asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AboveError {
    /// It may not be asked that, or not now. Nothing was done.
    #[error(transparent)]
    Refused(#[from] RemoteError),
    /// The connection broke on the way.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
}

impl TaskNode {
    /// The way to the session that the child belongs to, and which session that is.
    pub fn above(&self) -> (WayAbove, SessionInstance) {
        WayAbove::of(self.port())
    }
}

impl WayAbove {
    /// The way of a child, and the session that it leads to.
    pub(crate) fn of(child: &Arc<ChildPort>) -> (Self, SessionInstance) {
        (Self { child: Arc::downgrade(child) }, child.job().inboxes.session())
    }

    /// Sends a request, by memory to a session of this node, else over the link that its owner
    /// asked for its children on. Answers come from the end that is returned.
    ///
    /// # Errors
    /// [`AboveError::Refused`]: with [`ErrorCode::Denied`] for what no child may ask, with
    /// [`ErrorCode::NoSession`] once the child or its session has ended, with
    /// [`ErrorCode::Unreachable`] while there is no connection to the session's node.
    /// [`AboveError::Exchange`] when it breaks now.
    ///
    /// # Cancel safety
    /// A dropped call may have sent the request; nobody hears the answer.
    pub async fn open(&self, request: Request) -> Result<ClientEnd, AboveError> {
        serve::above::permit(&request.ask)?;
        let ended = || RemoteError::new(ErrorCode::NoSession, "the child has ended");
        let (node, way) = {
            let child = self.child.upgrade().ok_or_else(ended)?;
            if child.nest().has_ended() {
                return Err(ended().into());
            }
            (Arc::clone(&child.job().host_node), child.job().inboxes.way())
        };
        match way {
            Way::Here(_) => {
                let (client, server) = exchange::local();
                let (runtime, own) = (node.runtime.clone(), node.me.id);
                runtime.spawn(serve::above::serve(node, own, request, server));
                Ok(client)
            }
            Way::There(link) => over_link(&link, &request).await,
            Way::Away => Err(away().into()),
        }
    }
}

fn away() -> RemoteError {
    let text = "there is no connection to the node of the child's session";
    RemoteError::new(ErrorCode::Unreachable, text)
}

async fn over_link(link: &Link, request: &Request) -> Result<ClientEnd, AboveError> {
    let (sender, receiver) = link.open_bi().await.map_err(|_| away())?;
    Ok(ClientEnd::away(sender, receiver, request).await?)
}
