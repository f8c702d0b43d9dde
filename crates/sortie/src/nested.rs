//! Jobs that a running function starts.

use std::future::Future;
use std::sync::Arc;

use sortie_actors::TaskNode;
use sortie_exec::task::TaskContext;
use sortie_wire::session_proto::SessionRef;
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
    /// # Errors
    /// [`RequestError::Refused`]: with [`ErrorCode::Limit`] when the child is
    /// [`limits::TREE_LEVELS`](crate::limits::TREE_LEVELS) levels of jobs deep, or its node has
    /// [`limits::SESSIONS_PER_NODE`](crate::limits::SESSIONS_PER_NODE) sessions; with
    /// [`ErrorCode::NoSession`] once the child was told to stop, and in a background function,
    /// which cannot reach its node.
    ///
    /// # Cancel safety
    /// Cancel safe: the next call goes on with what was opened.
    fn session(&self) -> impl Future<Output = Result<Session, RequestError>> + Send;

    /// The session that the child itself belongs to, on whichever node it lives: the way to its
    /// other children, on theirs. Only messages, calls ([`Session::child`]) and monitors
    /// ([`Child::monitor`](crate::Child::monitor), [`Session::monitor`]) go this way; all else is
    /// refused with [`ErrorCode::Denied`]. Asks nothing.
    ///
    /// A request goes by way of the session's node. While there is no connection to that node it is
    /// [`ErrorCode::Unreachable`] at once, and did not arrive; one that is under way when the
    /// connection breaks is [`RequestError::Lost`], and may have arrived, once at most. After the
    /// child's end it is [`ErrorCode::NoSession`]. Like a user's connection, one to another node
    /// carries at most [`limits::MESSAGES_PER_LINK`](crate::limits::MESSAGES_PER_LINK) messages at
    /// once, of all children there, and refuses more with [`ErrorCode::Limit`].
    ///
    /// ```
    /// use sortie::{JobInstance, Node, Ordinal, RequestError, TaskContext, TaskSession};
    ///
    /// #[sortie::task]
    /// async fn first_word(context: TaskContext, _: u64) -> Result<String, RequestError> {
    ///     let mut inbox = context.inbox::<String>().map_err(|_| RequestError::Lost)?;
    ///     Ok(inbox.next().await.map_or_else(String::new, |message| message.value))
    /// }
    ///
    /// #[sortie::task]
    /// async fn greet(context: TaskContext, to: JobInstance) -> Result<(), sortie::SendError> {
    ///     context.session_above()?.child(to, Ordinal(0)).send("hello").await
    /// }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let node = Node::builder("a").register(first_word).register(greet).start().await?;
    /// let job = node.session().run(first_word, 1).start().await?;
    /// node.session().run(greet, job.instance()).start().await?.await?;
    /// assert_eq!(job.await?, ["hello"]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`RequestError::Refused`] with [`ErrorCode::NoSession`] in a background function, which
    /// cannot reach its node.
    fn session_above(&self) -> Result<Session, RequestError>;
}

/// The node that the function runs on.
fn node_of(context: &TaskContext, what: &str) -> Result<Arc<TaskNode>, RemoteError> {
    let node = context.reach().and_then(|reach| reach.downcast::<TaskNode>().ok());
    node.ok_or_else(|| {
        let text = format!("a background function {what}: it runs outside its node");
        RemoteError::new(ErrorCode::NoSession, text).hint("run it inside the node")
    })
}

impl TaskSession for TaskContext {
    async fn session(&self) -> Result<Session, RequestError> {
        let (node, session) = node_of(self, "starts no jobs")?.session().await?;
        Ok(Session::new(Route::Local(node), SessionRef::Instance(session)))
    }

    fn session_above(&self) -> Result<Session, RequestError> {
        let (way, session) = node_of(self, "asks no session")?.above();
        Ok(Session::new(Route::Above(way), SessionRef::Instance(session)))
    }
}
