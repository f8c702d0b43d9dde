//! Jobs that a running function starts.

use std::future::Future;

use sortie_actors::TaskNode;
use sortie_exec::task::TaskContext;
use sortie_exec::worker::WorkerNode;
use sortie_wire::session_proto::{Answer, Ask, SessionRef};
use sortie_wire::{ErrorCode, RemoteError};

use crate::error::RequestError;
use crate::route::Route;
use crate::session::Session;

/// Jobs below a child: what a [`TaskContext`] gives beside its own methods
/// (`docs/semantics.md`, section 5.1).
///
/// ```
/// use std::convert::Infallible;
///
/// use sortie::{Node, RequestError, ResultError, StartError, TaskContext, TaskSession};
///
/// #[derive(Debug, thiserror::Error)]
/// enum Failed {
///     #[error(transparent)]
///     Session(#[from] RequestError),
///     #[error(transparent)]
///     Start(#[from] StartError),
///     #[error(transparent)]
///     Result(#[from] ResultError),
/// }
///
/// #[sortie::task]
/// async fn double(n: u64) -> Result<u64, Infallible> {
///     Ok(2 * n)
/// }
///
/// #[sortie::task]
/// async fn sum_of_doubles(context: TaskContext, numbers: Vec<u64>) -> Result<u64, Failed> {
///     let session = context.session().await?;
///     let doubled = session.map(double, numbers).start().await?.await?;
///     Ok(doubled.into_iter().sum())
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let node = Node::builder("a").register(double).register(sum_of_doubles).start().await?;
/// let sums = node.session().run(sum_of_doubles, vec![1, 2, 3]).start().await?.await?;
/// assert_eq!(sums, [12]);
/// # Ok(())
/// # }
/// ```
pub trait TaskSession {
    /// The child's own session, on the node that it runs on; opened on first use, the same one
    /// afterwards. Its jobs go to any node, like every job, and hang below the child: they are
    /// stopped as the child is, at once and in the same manner, and what of them is unfinished when
    /// the child ends is stopped with its grace, on every machine. The child counts as ended when
    /// they have. Their results are dropped then.
    ///
    /// Dropping a handle stops nothing. A handle that outlives the child gets
    /// [`ErrorCode::NoSession`].
    ///
    /// In a background function it is the same session on the same node, and each request goes
    /// there from the function's own process: at most
    /// [`limits::EXCHANGES_PER_WORKER`](crate::limits::EXCHANGES_PER_WORKER) at once, the next ones
    /// wait.
    ///
    /// # Errors
    /// [`RequestError::Refused`]: with [`ErrorCode::Limit`] when the child is
    /// [`limits::TREE_LEVELS`](crate::limits::TREE_LEVELS) levels of jobs deep, or its node has
    /// [`limits::SESSIONS_PER_NODE`](crate::limits::SESSIONS_PER_NODE) sessions; with
    /// [`ErrorCode::NoSession`] once the child was told to stop. In a background function also as
    /// any request, such as [`RequestError::Lost`] when its node is gone.
    ///
    /// # Cancel safety
    /// Cancel safe: the next call goes on with what was opened.
    fn session(&self) -> impl Future<Output = Result<Session, RequestError>> + Send;
}

impl TaskSession for TaskContext {
    async fn session(&self) -> Result<Session, RequestError> {
        let outside = || RemoteError::new(ErrorCode::NoSession, "the function runs on no node");
        let reach = match self.reach().ok_or_else(outside)?.downcast::<TaskNode>() {
            Ok(node) => {
                let (node, session) = node.session().await?;
                return Ok(Session::new(Route::Local(node), SessionRef::Instance(session)));
            }
            Err(reach) => reach,
        };
        // In the background the node is in another process.
        let route = Route::Worker(reach.downcast::<WorkerNode>().map_err(|_| outside())?);
        match route.ask(SessionRef::Default, Ask::OpenBelow).await? {
            Answer::Session(view) => Ok(Session::new(route, SessionRef::Instance(view.instance))),
            _ => Err(RequestError::Unexpected),
        }
    }
}
