//! What others are told of a job, and who ends with it.

use sortie_wire::session_proto::{Answer, Ask};

use crate::error::RequestError;
use crate::job::Job;
use crate::monitor::Monitor;
use crate::watch::Happenings;

impl<T> Job<T> {
    /// What happens to the job and its children from now on.
    ///
    /// # Errors
    /// [`RequestError`] when the node cannot be asked.
    ///
    /// # Cancel safety
    /// Cancel safe: it changes nothing.
    pub async fn events(&self) -> Result<Happenings, RequestError> {
        self.session.watch(self.selection()).await
    }

    /// Monitors the job: one notice for the end of each life of each of its children, then one for
    /// its own; at once for what has ended.
    ///
    /// # Errors
    /// [`RequestError`] when the node cannot be asked, or the job was removed.
    ///
    /// # Cancel safety
    /// Cancel safe: it changes nothing.
    pub async fn monitor(&self) -> Result<Monitor, RequestError> {
        self.session.monitor(self.selection()).await
    }

    /// Binds this job and another one of its session, as links do in Erlang: when one of them fails
    /// or is stopped, the other is stopped, with its own grace. A good end stops nobody. One that
    /// has ended badly already stops the other at once (`docs/semantics.md`, section 5.3).
    ///
    /// # Errors
    /// [`RequestError::Refused`] with [`ErrorCode::NotFound`](crate::ErrorCode::NotFound) when one
    /// of them was removed or is of another session, with
    /// [`ErrorCode::Usage`](crate::ErrorCode::Usage) for a job and itself, with
    /// [`ErrorCode::Limit`](crate::ErrorCode::Limit) beyond
    /// [`limits::BONDS_PER_SESSION`](crate::limits::BONDS_PER_SESSION).
    ///
    /// # Cancel safety
    /// A dropped call may have bound them; it can be repeated.
    pub async fn bind_to<U>(&self, other: &Job<U>) -> Result<(), RequestError> {
        let (first, second) = (self.instance, other.instance);
        match self.session.ask(Ask::Bind { first, second }).await? {
            Answer::Done => Ok(()),
            _ => Err(RequestError::Unexpected),
        }
    }
}
