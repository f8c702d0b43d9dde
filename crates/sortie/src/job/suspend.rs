//! A job that stands still, and goes on.

use sortie_model::JobView;
use sortie_wire::ErrorCode;
use sortie_wire::session_proto::Entries;

use crate::answer::SuspendReturns;
use crate::error::RequestError;
use crate::job::Job;

impl<T> Job<T> {
    /// Suspends the job on every node, and waits until it is, but no longer than
    /// [`limits::SUSPEND_WAIT`](crate::limits::SUSPEND_WAIT): the view says whether it is
    /// [`Suspended`](crate::State::Suspended) or still
    /// [`Suspending`](crate::State::Suspending), as with a function that has not come to its next
    /// [`checkpoint`](crate::TaskContext::checkpoint). A job that is finished stays as it is
    /// (`docs/semantics.md`, section 3.5).
    ///
    /// ```
    /// # use sortie::{Node, State, TaskContext};
    /// #[sortie::task]
    /// async fn counts(context: TaskContext, last: u64) -> Result<u64, std::convert::Infallible> {
    ///     let mut sum = 0;
    ///     for number in 1..=last {
    ///         // Here it stands still while its job is suspended.
    ///         let _ = context.checkpoint(&number).await;
    ///         sum += number;
    /// #       tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    ///     }
    ///     Ok(sum)
    /// }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let node = Node::builder("a").register(counts).start().await?;
    /// let job = node.session().run(counts, 1_000).start().await?;
    /// assert_eq!(job.suspend().await?.state, State::Suspended);
    /// assert_eq!(job.resume().await?.state, State::Running);
    /// assert_eq!(job.await?, [500_500]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`RequestError`], as for [`Job::view`].
    ///
    /// # Cancel safety
    /// A dropped call takes no suspension back.
    pub async fn suspend(&self) -> Result<JobView, RequestError> {
        let returns = SuspendReturns::WhenDone;
        self.as_it_is(self.session.suspend(self.selection(), returns).await?)
    }

    /// Lets the suspended job go on where it was. A job that was not suspended goes on as it did.
    ///
    /// # Errors
    /// [`RequestError`], as for [`Job::view`].
    ///
    /// # Cancel safety
    /// A dropped call may have been carried out; it can be repeated.
    pub async fn resume(&self) -> Result<JobView, RequestError> {
        let returns = SuspendReturns::WhenDone;
        self.as_it_is(self.session.resume(self.selection(), returns).await?)
    }

    /// The job in an answer that may say that there was nothing to do.
    fn as_it_is(&self, mut answer: Entries) -> Result<JobView, RequestError> {
        let nothing = [ErrorCode::NotRunning, ErrorCode::NotSuspended];
        answer.troubles.retain(|trouble| !nothing.contains(&trouble.error.code));
        self.own_view(answer)
    }
}
