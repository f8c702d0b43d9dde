//! Sessions that outlive their clients: opened, held, given free, closed; what is set in them.

use std::sync::Arc;

use sortie_engine::session_scope::ScopeRefused;
use sortie_exec::working_directory;
use sortie_model::selector::{Selection, Selector};
use sortie_model::spec::StopSpec;
use sortie_store::journal::Change;
use sortie_wire::session_proto::{Answer, Ask, ScopeChange, SessionOptions};
use sortie_wire::{ErrorCode, RemoteError};

use crate::data::durable::session_entry;
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

/// A client connects to the session, or parts from it, as its holder since that epoch if it says
/// so.
pub(super) async fn hold(
    session: Arc<SessionShared>,
    (by, epoch): (Asker, Option<u64>),
    ask: Ask,
    end: ServerEnd,
) -> Result<(), ExchangeError> {
    // A start that is under way is done first, and the next one sees who holds the session.
    let no_start = session.starting.lock().await;
    let Ask::Connect { take } = ask else {
        let parted = stay::disconnect(&session, &by, epoch);
        keep(&session).await;
        drop(no_start);
        let answer = parted.map_or_else(refuse, |()| Answer::Session(session.view(&by)));
        return end.sender.finish_with(answer).await;
    };
    let connected = Stay::connect(Arc::clone(&session), &by, take);
    // Whoever held it before is fenced in the node's next life, too.
    keep(&session).await;
    drop(no_start);
    match connected {
        Ok(stay) => {
            let mut view = stay.session().view(&by);
            // Whoever comes next may be here already.
            view.epoch = stay.epoch().unwrap_or(view.epoch);
            remain(stay, Answer::Session(view), end).await
        }
        Err(error) => end.sender.finish_with(refuse(error)).await,
    }
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

/// Closes the session. Once that began it goes on, whatever becomes of the client.
pub(super) async fn close(session: &Arc<SessionShared>, by: &str) -> Answer {
    let first = match session.hold() {
        Some(mut hold) => hold.close(),
        None => {
            let text = "`default` and temporary sessions are not closed: they end by themselves";
            return refuse(RemoteError::new(ErrorCode::Usage, text));
        }
    };
    let node = Arc::clone(&session.node);
    let (session, by) = (Arc::clone(session), by.to_owned());
    let closing = tokio::spawn(async move {
        if first {
            wind_up(&session, &by).await;
        }
        if let Some(actor) = session.actor() {
            // It ends when everything is told to, also when somebody else closes it.
            let _ = actor.get_cell().wait(None).await;
        }
    });
    match closing.await {
        Ok(()) => Answer::Done,
        Err(_) => refuse(node.shuts_down()),
    }
}

/// Stops what is unfinished, with its grace, and forgets the session, in which nobody is any more.
pub(crate) async fn wind_up(session: &Arc<SessionShared>, by: &str) {
    session.refuse_starts();
    // One that is under way is there when it is over, and is stopped with the rest.
    drop(session.starting.lock().await);
    let all = Selection::of([Selector::All]);
    stop::stop(session, all, (StopSpec::default(), by), true).await;
    session.node.end_session(session);
    // One that is back after a crash within this was not said to be closed.
    if let Some(durable) = &session.durable {
        durable.keep(vec![Change::SessionClosed(session.identity.instance)]).await;
    }
}

/// What changed of the session itself outlives the node, too.
async fn keep(session: &SessionShared) {
    if let Some(durable) = &session.durable {
        durable.keep(vec![Change::SessionChanged(Box::new(session_entry(session)))]).await;
    }
}

/// Changes what is set in the session, and says what is.
pub(super) async fn scope(session: &Arc<SessionShared>, mut change: ScopeChange) -> Answer {
    if let Some(given) = change.directory.as_mut().filter(|it| !it.as_bytes().is_empty()) {
        // It counts on every node, so it says from here on what it meant on this one.
        *given = working_directory(Some(given), None, &session.node.basics);
        if let Err(error) = start::check_directory(given).await {
            return refuse(error);
        }
    }
    // One change after the other, so that the last one is kept last.
    let _one_by_one = session.starting.lock().await;
    let changed = {
        let mut scope = session.scope();
        scope.change(change).map(|()| scope.view())
    };
    match changed {
        Ok(view) => {
            keep(session).await;
            Answer::Scope(view)
        }
        Err(error) => {
            let hint = match error {
                ScopeRefused::TooLarge => Some("nothing was set; `-u NAME` takes a variable away"),
                ScopeRefused::Name => None,
            };
            let refused = RemoteError::new(ErrorCode::Usage, error.to_string());
            refuse(match hint {
                Some(hint) => refused.hint(hint),
                None => refused,
            })
        }
    }
}
