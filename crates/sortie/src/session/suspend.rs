//! Making jobs stand still, and letting them go on.

use sortie_model::Motion;
use sortie_model::selector::Selection;
use sortie_wire::session_proto::{Ask, Entries};

use crate::answer::SuspendReturns;
use crate::error::RequestError;
use crate::session::Session;

impl Session {
    /// Suspends entries, those of a job on every node (`docs/semantics.md`, section 3.5): the
    /// processes of a child are frozen, a function in a thread stands still at its next
    /// [`checkpoint`](crate::TaskContext::checkpoint), and what has not started does not start.
    ///
    /// # Errors
    /// [`RequestError`]. A selector that names nothing is a trouble in the answer; so is what does
    /// not run ([`ErrorCode::NotRunning`](crate::ErrorCode::NotRunning)), and it is left as it is.
    ///
    /// # Cancel safety
    /// A dropped call takes no suspension back; it can be repeated.
    pub async fn suspend(
        &self,
        selection: Selection,
        returns: SuspendReturns,
    ) -> Result<Entries, RequestError> {
        self.order(selection, Motion::Suspended, returns).await
    }

    /// Lets suspended entries go on where they were (`docs/semantics.md`, section 3.5).
    ///
    /// # Errors
    /// [`RequestError`]. A selector that names nothing is a trouble in the answer; so is what was
    /// not told to suspend ([`ErrorCode::NotSuspended`](crate::ErrorCode::NotSuspended)).
    ///
    /// # Cancel safety
    /// A dropped call may have been carried out; it can be repeated.
    pub async fn resume(
        &self,
        selection: Selection,
        returns: SuspendReturns,
    ) -> Result<Entries, RequestError> {
        self.order(selection, Motion::Running, returns).await
    }

    async fn order(
        &self,
        selection: Selection,
        motion: Motion,
        returns: SuspendReturns,
    ) -> Result<Entries, RequestError> {
        let wait = returns == SuspendReturns::WhenDone;
        self.entries(Ask::Suspend { selection, motion, wait }).await
    }
}
