//! Sessions that outlive their clients: opened, held, given free, closed; what is set in them.

use std::sync::Arc;

use sortie_model::selector::{Selection, Selector};
use sortie_model::spec::StopSpec;
use sortie_wire::session_proto::{Answer, Ask, ScopeChange, SessionOptions};
use sortie_wire::{ErrorCode, RemoteError};

use crate::data::exchange::{ExchangeError, ServerEnd, ToClient};
use crate::data::session::SessionShared;
use crate::data::stay::{self, Asker, Stay};
use crate::node::NodeShared;
use crate::serve::{refuse, start, stop};

/// Opens a session, which the client then holds.
pub(super) async fn open(node: &Arc<NodeShared>, options: SessionOptions, by: &Asker) -> Answer {
    match node.open_held(options, by).await {
        Ok(session) => Answer::Session(session.view(by)),
        Err(error) => refuse(error),
    }
}

/// A client connects to the session, or parts from it.
pub(super) async fn hold(
    session: Arc<SessionShared>,
    by: Asker,
    ask: Ask,
    end: ServerEnd,
) -> Result<(), ExchangeError> {
    let take = match ask {
        Ask::Connect { take } => Some(take),
        _ => None,
    };
    let changed = {
        // A start that is under way is done first, and the next one sees who holds the session.
        let _no_start = session.starting.lock().await;
        change_hold(&session, &by, take)
    };
    if let Err(error) = changed {
        return end.sender.finish_with(refuse(error)).await;
    }
    // Whoever is in it may not be allowed to any more; and its time may run from now on.
    session.parted();
    session.look_after_idle();
    let view = Answer::Session(session.view(&by));
    if take.is_none() {
        return end.sender.finish_with(view).await;
    }
    match Stay::enter(session, &by, None) {
        Ok(stay) => remain(stay, view, end).await,
        Err(error) => end.sender.finish_with(refuse(error)).await,
    }
}

fn change_hold(
    session: &Arc<SessionShared>,
    by: &Asker,
    take: Option<bool>,
) -> Result<(), RemoteError> {
    let now = session.node.uptime();
    let Some(mut hold) = session.hold_for(by)? else {
        let name = &session.identity.name;
        let text = format!("nobody holds the session `{name}`: it needs no connecting");
        return Err(RemoteError::new(ErrorCode::Usage, text));
    };
    let changed = match take {
        Some(take) => hold.connect(by.key, take, now),
        None => hold.disconnect(by.key, now),
    };
    drop(hold);
    changed.map_err(|refused| stay::refusal(session, refused))
}

/// The client is there until it goes, or until another one takes the session over.
async fn remain(stay: Stay, view: Answer, end: ServerEnd) -> Result<(), ExchangeError> {
    let ServerEnd { mut sender, mut receiver } = end;
    sender.send(ToClient::Answer(view)).await?;
    tokio::select! {
        biased;
        // Whatever the client does with its end, it has nothing more to say.
        _ = receiver.next() => Ok(()),
        () = sender.abandoned() => Ok(()),
        error = stay.ended() => sender.finish_with(refuse(error)).await,
    }
}

/// Stops what is unfinished, with its grace, and forgets the session. Once it began it goes on,
/// whatever becomes of the client.
pub(super) async fn close(session: &Arc<SessionShared>, by: &str) -> Answer {
    if session.hold().is_none() {
        let text = "`default` and temporary sessions are not closed: they end by themselves";
        return refuse(RemoteError::new(ErrorCode::Usage, text));
    }
    let (session, by) = (Arc::clone(session), by.to_owned());
    let closing = tokio::spawn(async move {
        session.refuse_starts();
        let all = Selection::of([Selector::All]);
        stop::stop(&session, all, (StopSpec::default(), &by), true).await;
        session.node.end_session(&session);
    });
    match closing.await {
        Ok(()) => Answer::Done,
        Err(_) => refuse(RemoteError::new(ErrorCode::ShuttingDown, "the node shuts down")),
    }
}

/// Changes what is set in the session, and says what is.
pub(super) async fn scope(session: &Arc<SessionShared>, change: ScopeChange) -> Answer {
    if let Some(directory) = &change.directory
        && let Err(error) = start::check_directory(directory).await
    {
        return refuse(error);
    }
    let mut scope = session.scope();
    match scope.change(change) {
        Ok(()) => Answer::Scope(scope.view()),
        Err(error) => refuse(RemoteError::new(ErrorCode::Limit, error.to_string())),
    }
}
