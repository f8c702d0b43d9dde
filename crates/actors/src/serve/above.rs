//! What a running child asks of the session that it belongs to.

use std::sync::Arc;

use sortie_model::{NodeId, limits};
use sortie_wire::permit::child_may_ask;
use sortie_wire::session_proto::{Ask, Request, SessionRef};
use sortie_wire::{ErrorCode, RemoteError};

use crate::data::exchange::ServerEnd;
use crate::data::session::SessionShared;
use crate::data::stay::Stay;
use crate::node::NodeShared;
use crate::serve::{monitor, refuse, send};

/// Serves one request of a child that runs on that node, which may be this one.
pub(crate) async fn serve(node: Arc<NodeShared>, from: NodeId, request: Request, end: ServerEnd) {
    let Request { session, ask } = request;
    let session = permit(&ask).and_then(|()| session_of(&node, from, &session));
    // A child that is gone meanwhile has nobody left to be told.
    let _ = match (session, ask) {
        (Ok(session), Ask::Send(spec)) => send::send(&Stay::unseen(session), spec, end).await,
        (Ok(session), Ask::Monitor { selection }) => {
            monitor::monitor(&Stay::unseen(session), selection, end).await
        }
        (Ok(_), _) => end.sender.finish_with(refuse(denied())).await,
        (Err(error), _) => end.sender.finish_with(refuse(error)).await,
    };
}

/// Whether a child may ask that.
///
/// # Errors
/// [`ErrorCode::Denied`].
pub(crate) fn permit(ask: &Ask) -> Result<(), RemoteError> {
    if child_may_ask(ask) { Ok(()) } else { Err(denied()) }
}

fn denied() -> RemoteError {
    let text = "a function sends messages to and monitors what its child's session has, no more";
    let hint = "it starts and steers jobs in a session of its own: `TaskContext::session`";
    RemoteError::new(ErrorCode::Denied, text).hint(hint)
}

/// The session, if children of it may run on that node. Another node is not told whether it exists.
fn session_of(
    node: &NodeShared,
    from: NodeId,
    session: &SessionRef,
) -> Result<Arc<SessionShared>, RemoteError> {
    let found = match session {
        SessionRef::Instance(instance) => node.session(*instance),
        _ => None,
    };
    let found = found.filter(|session| from == node.me.id || session.may_run_on(from));
    let text = "no child of that session runs on the node that asks";
    found.ok_or_else(|| RemoteError::new(ErrorCode::NoSession, text))
}

/// Refuses a request of a node whose children ask as much at once as they may.
pub(crate) async fn refuse_surplus(end: ServerEnd) {
    let text = format!(
        "children of that node send {} messages or monitor {} times already",
        limits::MESSAGES_PER_LINK,
        limits::REQUESTS_PER_LINK
    );
    let _ = end.sender.finish_with(refuse(RemoteError::new(ErrorCode::Limit, text))).await;
}
