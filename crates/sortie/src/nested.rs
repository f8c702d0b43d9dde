//! Jobs that a running function starts.

use std::future::Future;
use std::sync::Arc;

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
    /// [`RequestError::Refused`] with [`ErrorCode::NoSession`] where the function runs on no node.
    fn session_above(&self) -> Result<Session, RequestError>;
}

/// How the function reaches the node that it runs on.
enum Reach {
    /// In its process.
    Here(Arc<TaskNode>),
    /// From a worker of it.
    There(Arc<WorkerNode>),
}

fn reach(context: &TaskContext) -> Result<Reach, RemoteError> {
    let nowhere = || RemoteError::new(ErrorCode::NoSession, "the function runs on no node");
    match context.reach().ok_or_else(nowhere)?.downcast::<TaskNode>() {
        Ok(node) => Ok(Reach::Here(node)),
        Err(reach) => Ok(Reach::There(reach.downcast::<WorkerNode>().map_err(|_| nowhere())?)),
    }
}

impl TaskSession for TaskContext {
    async fn session(&self) -> Result<Session, RequestError> {
        let route = match reach(self)? {
            Reach::Here(node) => {
                let (node, session) = node.session().await?;
                return Ok(Session::new(Route::Local(node), SessionRef::Instance(session)));
            }
            Reach::There(node) => Route::Worker(node),
        };
        match route.ask(SessionRef::Default, Ask::OpenBelow).await? {
            Answer::Session(view) => Ok(Session::new(route, SessionRef::Instance(view.instance))),
            _ => Err(RequestError::Unexpected),
        }
    }

    fn session_above(&self) -> Result<Session, RequestError> {
        Ok(match reach(self)? {
            Reach::Here(node) => {
                let (way, session) = node.above();
                Session::new(Route::Above(way), SessionRef::Instance(session))
            }
            Reach::There(node) => Session::new(Route::Worker(node), SessionRef::Above),
        })
    }
}
