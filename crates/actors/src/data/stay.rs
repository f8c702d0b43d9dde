//! A client in a session: from its request on to its answer. What may be done meanwhile is
//! `sortie_engine::hold`'s.

use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use sortie_engine::hold::{ClientKey, Hold, HoldRefused};
use sortie_wire::{ErrorCode, RemoteError};

use crate::data::session::SessionShared;
use crate::data::window::Window;
use crate::serve::{self, wait};
use crate::session::SessionMessage;

/// Who asks, as the certificate says.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    /// The user.
    pub(crate) name: String,
    /// The client: the hash of its key.
    pub(crate) key: ClientKey,
}

/// A client's request in a session. Dropping it ends the stay.
#[derive(Debug)]
pub(crate) struct Stay {
    session: Arc<SessionShared>,
    /// None where nobody needs to hold the session.
    epoch: Option<u64>,
}

impl Stay {
    /// A client asks something in the session, as its holder since that epoch, if it says so.
    ///
    /// # Errors
    /// [`ErrorCode::Denied`] when it is another user's, [`ErrorCode::SessionBusy`],
    /// [`ErrorCode::SessionTaken`].
    pub(crate) fn enter(
        session: Arc<SessionShared>,
        by: &Asker,
        epoch: Option<u64>,
    ) -> Result<Self, RemoteError> {
        let epoch = match session.hold_for(by)? {
            None => None,
            Some(mut hold) => {
                let entered = hold.enter(by.key, epoch);
                Some(entered.map_err(|refused| refusal(&session, refused))?)
            }
        };
        Ok(Self { session, epoch })
    }

    /// Something of the session asks: it holds nothing, and its time runs all the same.
    pub(crate) const fn unseen(session: Arc<SessionShared>) -> Self {
        Self { session, epoch: None }
    }

    /// Whether the client holds the session, and can part from it.
    pub(crate) const fn is_held(&self) -> bool {
        self.epoch.is_some()
    }

    /// A client connects to the session, and takes it over if it says so.
    ///
    /// # Errors
    /// As for [`Self::enter`]; [`ErrorCode::Usage`] where nobody needs to hold the session.
    pub(crate) fn connect(
        session: Arc<SessionShared>,
        by: &Asker,
        take: bool,
    ) -> Result<Self, RemoteError> {
        let connected = held(&session, by)?.connect(by.key, take, session.node.uptime());
        let epoch = Some(connected.map_err(|refused| refusal(&session, refused))?);
        session.parted();
        Ok(Self { session, epoch })
    }

    /// Which epoch the client holds the session since; none where it does not.
    pub(crate) const fn epoch(&self) -> Option<u64> {
        self.epoch
    }

    pub(crate) const fn session(&self) -> &Arc<SessionShared> {
        &self.session
    }

    /// Whether the client may go on in the session.
    ///
    /// # Errors
    /// [`ErrorCode::SessionTaken`] once it has parted from it.
    pub(crate) fn check(&self) -> Result<(), RemoteError> {
        let parted = self
            .epoch
            .is_some_and(|epoch| self.session.hold().is_some_and(|hold| hold.epoch() != epoch));
        if parted { Err(refusal(&self.session, HoldRefused::Fenced)) } else { Ok(()) }
    }

    /// What a receive of the client holds; it is withdrawn when the client parts from the session.
    ///
    /// # Errors
    /// As for [`Self::check`].
    pub(crate) fn open_window(&self) -> Result<Window, RemoteError> {
        let window = Window::default();
        if let Some(epoch) = self.epoch {
            self.session.windows.add(epoch, &window);
            // After that: who parts the client either finds the window or is seen here.
            self.check()?;
        }
        Ok(window)
    }

    /// Resolves with the reason when the client may not go on.
    pub(crate) async fn parted(&self) -> RemoteError {
        self.until(|stay| stay.check().err()).await
    }

    /// The same, also when the session is over.
    pub(crate) async fn ended(&self) -> RemoteError {
        let ended = |stay: &Self| stay.session.is_over().then(|| wait::ended(&stay.session));
        self.until(|stay| stay.check().err().or_else(|| ended(stay))).await
    }

    async fn until(&self, reason: impl Fn(&Self) -> Option<RemoteError>) -> RemoteError {
        let mut changes = self.session.changes();
        loop {
            // Marked as seen before the look: what happens after that wakes us.
            changes.mark();
            if let Some(error) = reason(self) {
                return error;
            }
            changes.changed().await;
        }
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        if let (Some(epoch), Some(mut hold)) = (self.epoch, self.session.hold()) {
            hold.leave(epoch, self.session.node.uptime());
            drop(hold);
            self.session.look_after_idle();
        }
    }
}

/// A client gives the session free.
///
/// # Errors
/// As for [`Stay::connect`].
pub(crate) fn disconnect(
    session: &Arc<SessionShared>,
    by: &Asker,
    epoch: Option<u64>,
) -> Result<(), RemoteError> {
    let parted = held(session, by)?.disconnect(by.key, epoch, session.node.uptime());
    parted.map_err(|refused| refusal(session, refused))?;
    session.parted();
    session.look_after_idle();
    Ok(())
}

fn held<'s>(session: &'s SessionShared, by: &Asker) -> Result<MutexGuard<'s, Hold>, RemoteError> {
    session.hold_for(by)?.ok_or_else(|| {
        let name = &session.identity.name;
        let text = format!("nobody holds the session `{name}`: it needs no connecting");
        RemoteError::new(ErrorCode::Usage, text)
    })
}

/// What a client is told that may not use the session.
pub(crate) fn refusal(session: &SessionShared, refused: HoldRefused) -> RemoteError {
    let (id, name) = (session.identity.id, &session.identity.name);
    let (code, text) = match refused {
        HoldRefused::Over => {
            let text = format!("the session `{name}` ({id}) is being closed");
            return RemoteError::new(ErrorCode::NoSession, text);
        }
        HoldRefused::Busy => {
            let text = format!("another client holds the session `{name}` ({id})");
            (ErrorCode::SessionBusy, text)
        }
        HoldRefused::Fenced => {
            let why = "was disconnected, or another client took it over";
            (ErrorCode::SessionTaken, format!("the session `{name}` ({id}) {why}"))
        }
    };
    RemoteError::new(code, text).hint(format!("`sortie session connect {name} --take` takes it"))
}

impl SessionShared {
    /// The session may be idle by now, or in a while: has its actor look then. One look at a time.
    pub(crate) fn look_after_idle(self: &Arc<Self>) {
        let Some(at) = self.hold().and_then(|hold| hold.expires_at()) else { return };
        let Some(actor) = self.actor() else { return };
        let mut look = self.idle_look();
        if self.is_over() || look.as_ref().is_some_and(|look| !look.is_finished()) {
            return;
        }
        let wait = at.saturating_sub(self.node.uptime()).max(Duration::from_millis(1));
        *look = Some(actor.send_after(wait, || SessionMessage::Idle).abort_handle());
    }

    /// The look that was asked for is due.
    pub(crate) fn on_idle_look(self: &Arc<Self>) {
        let expired = self.hold().is_some_and(|mut hold| hold.expire(self.node.uptime()));
        if expired {
            let session = Arc::clone(self);
            tokio::spawn(async move { serve::session::wind_up(&session, "its idle time").await });
        } else {
            // The message of the last one was sent, whether its task has ended or not.
            *self.idle_look() = None;
            self.look_after_idle();
        }
    }
}
