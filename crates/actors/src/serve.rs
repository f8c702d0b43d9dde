//! Requests: one verb, one file. What a verb decides is the engine's; here it is asked and
//! answered.

pub(crate) mod above;
mod answer;
mod explain;
mod get;
mod monitor;
mod node;
mod receive;
mod remove;
mod send;
mod start;
mod stop;
mod wait;
mod watch;

use std::sync::Arc;

use sortie_model::limits;
use sortie_wire::session_proto::{Answer, Ask, Request};
use sortie_wire::{ErrorCode, RemoteError};

use crate::data::exchange::{ExchangeError, ServerEnd};
use crate::data::session::SessionShared;
use crate::node::NodeShared;

/// Serves one request to its end. `by` is the user who asks, as the certificate says.
pub(crate) async fn serve(node: Arc<NodeShared>, by: String, request: Request, end: ServerEnd) {
    // A client that is gone meanwhile has nobody left to be told.
    let _ = answer(node, by, request, end).await;
}

async fn answer(
    node: Arc<NodeShared>,
    by: String,
    request: Request,
    end: ServerEnd,
) -> Result<(), ExchangeError> {
    let Request { session, ask } = request;
    let ask = match ask {
        Ask::OpenTemporary => return start::open_temporary(node, by, end).await,
        ask if is_about_the_node(&ask) => {
            let answer = node::answer(&node, &by, ask).await;
            return end.sender.finish_with(answer).await;
        }
        ask => ask,
    };
    let session = match node.session_named(&session) {
        Ok(session) => session,
        Err(error) => return end.sender.finish_with(Answer::Refused(error)).await,
    };
    match ask {
        Ask::Start { key, spec } => return start::start(session, key, spec, end).await,
        Ask::Receive(spec) => return receive::receive(session, *spec, end).await,
        Ask::Monitor { selection } => return monitor::monitor(session, selection, end).await,
        Ask::Send(spec) => return send::send(session, spec, end).await,
        Ask::Watch { selection } => return watch::watch(session, selection, end).await,
        _ => {}
    }
    let ServerEnd { mut sender, receiver: _receiver } = end;
    let answer = tokio::select! {
        biased;
        answer = about_the_session(&session, &by, ask) => answer,
        () = sender.abandoned() => return Ok(()),
    };
    sender.finish_with(answer).await
}

const fn is_about_the_node(ask: &Ask) -> bool {
    matches!(
        ask,
        Ask::Sessions
            | Ask::Nodes { .. }
            | Ask::Ping { .. }
            | Ask::StopNode
            | Ask::SetLabels { .. }
            | Ask::ClusterInit { .. }
            | Ask::ClusterToken
            | Ask::ClusterJoin { .. }
            | Ask::Diagnose
    )
}

async fn about_the_session(session: &Arc<SessionShared>, by: &str, ask: Ask) -> Answer {
    match ask {
        Ask::Get(query) => Answer::Entries(get::get(session, &query)),
        Ask::Wait(spec) => wait::wait(session, spec).await,
        Ask::DryRun { spec } => start::plan(session, &spec).await,
        Ask::Stop { selection, how, wait } => stop::stop(session, selection, (how, by), wait).await,
        Ask::SetThrottle { selection, throttle } => {
            stop::set_throttle(session, &selection, throttle)
        }
        Ask::Remove { selection, force } => remove::remove(session, selection, by, force).await,
        Ask::Answer { child, number, answer } => {
            answer::answer(session, child, number, answer).await
        }
        Ask::Bind { first, second } => {
            session.bind(first, second).map_or_else(refuse, |()| Answer::Done)
        }
        Ask::Explain(selector) => explain::explain(session, selector).await,
        _ => refuse(RemoteError::new(ErrorCode::Usage, "no session can answer that")),
    }
}

/// Refuses a message of a connection that sends [`limits::MESSAGES_PER_LINK`] already.
pub(crate) async fn refuse_message(end: ServerEnd) {
    let text = format!("this connection sends {} messages already", limits::MESSAGES_PER_LINK);
    // A client that is gone has nobody left to be told.
    let _ = end.sender.finish_with(refuse(RemoteError::new(ErrorCode::Limit, text))).await;
}

/// A refusal; nothing was done.
fn refuse(error: RemoteError) -> Answer {
    Answer::Refused(error)
}
