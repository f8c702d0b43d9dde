//! Sessions that outlive their clients (`docs/semantics.md`, section 4.1).

use sortie_model::SessionView;
use sortie_wire::session_proto::{
    Answer, Ask, ScopeChange, SessionOptions, SessionRef, SessionScope,
};

use crate::answer::Busy;
use crate::error::RequestError;
use crate::route::Route;
use crate::session::Session;

impl Session {
    pub(crate) async fn open_held(
        route: Route,
        options: SessionOptions,
    ) -> Result<Self, RequestError> {
        match route.ask(SessionRef::Default, Ask::OpenSession(options)).await? {
            Answer::Session(view) => {
                Self::connect(route, SessionRef::Instance(view.instance), Busy::Refuse).await
            }
            _ => Err(RequestError::Unexpected),
        }
    }

    pub(crate) async fn connect(
        route: Route,
        which: SessionRef,
        busy: Busy,
    ) -> Result<Self, RequestError> {
        let exchange = route.open(which, Ask::Connect { take: busy == Busy::Take }).await?;
        let held = |view: &SessionView| {
            let (instance, epoch) = (view.instance, view.epoch);
            SessionRef::Held { instance, epoch }
        };
        Self::present(route, exchange, held).await
    }

    /// Gives the session free: any client of the same user may connect to it from now on. Its jobs
    /// run on, its results wait, and its idle time runs. This client's open requests in it, also
    /// those of other handles, end with
    /// [`ErrorCode::SessionTaken`](crate::ErrorCode::SessionTaken), and this handle's later ones
    /// are refused so: [`Client::connect_session`](crate::Client::connect_session) gives a new one.
    /// Disconnecting twice is no error.
    ///
    /// # Errors
    /// [`RequestError::Refused`] with [`ErrorCode::SessionBusy`](crate::ErrorCode::SessionBusy)
    /// when another client holds it, with [`ErrorCode::Denied`](crate::ErrorCode::Denied) when it
    /// is another user's, with [`ErrorCode::Usage`](crate::ErrorCode::Usage) for a session that
    /// nobody needs to hold.
    ///
    /// # Cancel safety
    /// A dropped call may have been carried out; it can be repeated.
    pub async fn disconnect(&self) -> Result<SessionView, RequestError> {
        match self.ask(Ask::Disconnect).await? {
            Answer::Session(view) => Ok(view),
            _ => Err(RequestError::Unexpected),
        }
    }

    /// Closes the session: unfinished jobs are stopped, with their grace, and everything of it is
    /// dropped. Returns when that is done, at the latest
    /// [`limits::STOP_MARGIN`](crate::limits::STOP_MARGIN) after the longest grace.
    ///
    /// # Errors
    /// [`RequestError`]; [`ErrorCode::Usage`](crate::ErrorCode::Usage) for `default`, temporary
    /// sessions and those of children, which end by themselves.
    ///
    /// # Cancel safety
    /// A dropped call is carried out once the node has it.
    pub async fn close(&self) -> Result<(), RequestError> {
        match self.ask(Ask::CloseSession).await? {
            Answer::Done => Ok(()),
            _ => Err(RequestError::Unexpected),
        }
    }

    /// What is set in the session and lasts between its commands: a working directory and
    /// variables. Processes get them below what their submission says itself, on every node, and
    /// functions find the variables in [`TaskContext::env`](crate::TaskContext::env).
    ///
    /// # Errors
    /// [`RequestError`].
    ///
    /// # Cancel safety
    /// Cancel safe: it changes nothing.
    pub async fn scope(&self) -> Result<SessionScope, RequestError> {
        self.change_scope(ScopeChange::default()).await
    }

    /// Changes that, and says what is set then; it lasts until it is set otherwise. Jobs that were
    /// started already keep what they have. A relative directory is taken from the home of the
    /// user of the session's node, once and for all nodes.
    ///
    /// # Errors
    /// [`RequestError::Refused`]: with [`ErrorCode::BadDirectory`](crate::ErrorCode::BadDirectory)
    /// when the directory is not there on the session's node; with
    /// [`ErrorCode::Usage`](crate::ErrorCode::Usage) when the session would keep more than
    /// [`limits::SESSION_SCOPE_BYTES`](crate::limits::SESSION_SCOPE_BYTES). Nothing changed then.
    ///
    /// # Cancel safety
    /// A dropped call may have been carried out; it can be repeated.
    pub async fn change_scope(&self, change: ScopeChange) -> Result<SessionScope, RequestError> {
        match self.ask(Ask::Scope(change)).await? {
            Answer::Scope(scope) => Ok(scope),
            _ => Err(RequestError::Unexpected),
        }
    }
}
