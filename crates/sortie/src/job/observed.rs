//! What others are told of a job.

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
}
