//! Requests: one verb, one file. What a verb decides is the engine's; here it is asked and
//! answered.

pub(crate) mod above;
mod answer;
pub(crate) mod detach;
mod explain;
mod get;
mod monitor;
mod node;
mod receive;
pub(crate) mod remove;
mod send;
pub(crate) mod session;
mod start;
mod stop;
mod suspend;
pub(crate) mod wait;
mod watch;

use std::sync::Arc;

use sortie_model::limits;
use sortie_wire::session_proto::{Answer, Ask, Request, SessionRef};
use sortie_wire::{ErrorCode, RemoteError};

use crate::data::exchange::{ExchangeError, ServerEnd};
use crate::data::session::SessionShared;
use crate::data::stay::{Asker, Stay};
use crate::node::NodeShared;

/// Serves one request to its end.
pub(crate) async fn serve(node: Arc<NodeShared>, by: Asker, request: Request, end: ServerEnd) {
    // A client that is gone meanwhile has nobody left to be told.
    let _ = answer(node, by, request, end).await;
}

async fn answer(
    node: Arc<NodeShared>,
    by: Asker,
    request: Request,
    end: ServerEnd,
) -> Result<(), ExchangeError> {
    let Request { session, ask } = request;
    let ask = match ask {
        Ask::OpenTemporary => return start::open_temporary(node, by, end).await,
        Ask::OpenSession(options) => {
            let answer = session::open(&node, options, &by).await;
            return end.sender.finish_with(answer).await;
        }
        ask if is_about_the_node(&ask) => {
            let answer = node::answer(&node, &by, ask).await;
            return end.sender.finish_with(answer).await;
        }
        ask => ask,
    };
    let entered = node.session_named(&session).and_then(|found| match ask {
        Ask::Connect { .. } | Ask::Disconnect => Ok(Entering::Holding(found)),
        _ => Stay::enter(found, &by, epoch_of(&session)).map(Entering::Staying),
    });
    let stay = match entered {
        Ok(Entering::Staying(stay)) => stay,
        Ok(Entering::Holding(found)) => {
            return session::hold(found, (by, epoch_of(&session)), ask, end).await;
        }
        Err(error) => return end.sender.finish_with(Answer::Refused(error)).await,
    };
    match ask {
        Ask::Start { key, spec } => return start::start(&stay, key, spec, end).await,
        Ask::Receive(spec) => return receive::receive(&stay, *spec, end).await,
        Ask::Monitor { selection } => return monitor::monitor(&stay, selection, end).await,
        Ask::Send(spec) => return send::send(&stay, spec, end).await,
        Ask::Watch { selection } => return watch::watch(&stay, selection, end).await,
        _ => {}
    }
    let ServerEnd { mut sender, receiver: _receiver } = end;
    let answer = tokio::select! {
        biased;
        answer = about_the_session(stay.session(), &by, ask) => answer,
        error = stay.parted(), if stay.is_held() => refuse(error),
        () = sender.abandoned() => return Ok(()),
    };
    sender.finish_with(answer).await
}

/// How a client comes into a session.
enum Entering {
    /// With a request.
    Staying(Stay),
    /// To hold it, or to give it free.
    Holding(Arc<SessionShared>),
}

/// Since when the client says that it holds the session.
const fn epoch_of(session: &SessionRef) -> Option<u64> {
    match session {
        SessionRef::Held { epoch, .. } => Some(*epoch),
        _ => None,
    }
}

const fn is_about_the_node(ask: &Ask) -> bool {
    matches!(
        ask,
        Ask::Sessions
            | Ask::Nodes { .. }
            | Ask::Ping { .. }
            | Ask::StopNode
            | Ask::LeaveNode
            | Ask::SetLabels { .. }
            | Ask::ClusterInit { .. }
            | Ask::ClusterToken
            | Ask::ClusterJoin { .. }
            | Ask::Diagnose
            | Ask::Detach(_)
    )
}

async fn about_the_session(session: &Arc<SessionShared>, by: &Asker, ask: Ask) -> Answer {
    let user = by.name.as_str();
    match ask {
        Ask::CloseSession => session::close(session, user).await,
        Ask::Scope(change) => session::scope(session, change).await,
        Ask::Get(query) => get::get(session, &query).await.map_or_else(refuse, Answer::Entries),
        Ask::Wait(spec) => wait::wait(session, spec).await,
        Ask::DryRun { spec } => start::plan(session, &spec).await,
        Ask::Stop { selection, how, wait } => {
            stop::stop(session, selection, (how, user), wait).await
        }
        Ask::Suspend { selection, motion, wait } => {
            suspend::suspend(session, &selection, motion, wait).await
        }
        Ask::SetThrottle { selection, throttle } => {
            stop::set_throttle(session, &selection, throttle).await
        }
        Ask::Remove { selection, force } => remove::remove(session, selection, user, force).await,
        Ask::Answer { child, number, answer } => {
            answer::answer(session, child, number, answer).await
        }
        Ask::Bind { first, second } => {
            session.bind(first, second).await.map_or_else(refuse, |()| Answer::Done)
        }
        Ask::Explain(selector) => explain::explain(session, selector).await,
        _ => refuse(RemoteError::new(ErrorCode::Usage, "no session can answer that")),
    }
}

/// Refuses what a connection does as often at once as it may: a message, or to be in a session.
pub(crate) async fn refuse_surplus(ask: &Ask, end: ServerEnd) {
    let text = if matches!(ask, Ask::Send(_)) {
        format!("this connection sends {} messages already", limits::MESSAGES_PER_LINK)
    } else {
        let most = limits::PRESENCES_PER_LINK;
        format!("this connection is in {most} sessions already: drop handles, or make another one")
    };
    // A client that is gone has nobody left to be told.
    let _ = end.sender.finish_with(refuse(RemoteError::new(ErrorCode::Limit, text))).await;
}

/// A refusal; nothing was done.
fn refuse(error: RemoteError) -> Answer {
    Answer::Refused(error)
}
