//! What others are told of a job or a child, and who ends with it.

use sortie_model::selector::{Selection, Selector};
use sortie_model::{Bound, ChildKey};
use sortie_wire::session_proto::{Answer, Ask};

use crate::child::Child;
use crate::error::RequestError;
use crate::job::Job;
use crate::monitor::Monitor;
use crate::session::Session;
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

    /// Binds this job and another job, or a child, of its session, as links do in Erlang: when one
    /// of them fails or is stopped, the other is stopped, with its own grace. A good end stops
    /// nobody. One that has ended badly already stops the other at once. The end of a child that
    /// starts again is the one after which nothing follows (`docs/semantics.md`, section 5.3).
    ///
    /// ```
    /// # use sortie::{Node, Ordinal, TaskContext};
    /// #[sortie::task]
    /// async fn waits(context: TaskContext, _: u64) -> Result<(), std::convert::Infallible> {
    ///     context.cancelled().await;
    ///     Ok(())
    /// }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let node = Node::builder("a").register(waits).start().await?;
    /// let job = node.session().run(waits, 1).start().await?;
    /// let other = node.session().run(waits, 2).start().await?;
    /// job.bind_to(&other).await?;
    /// job.child(Ordinal(0)).bind_to(&other).await?;
    /// job.stop().await?;
    /// assert_eq!(other.wait().await?.state, sortie::State::Stopped);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`RequestError::Refused`] with [`ErrorCode::NotFound`](crate::ErrorCode::NotFound) when one
    /// of them was removed, is of another session or was not read from a map's input yet, with
    /// [`ErrorCode::Usage`](crate::ErrorCode::Usage) for one and itself, with
    /// [`ErrorCode::Limit`](crate::ErrorCode::Limit) beyond
    /// [`limits::BONDS_PER_SESSION`](crate::limits::BONDS_PER_SESSION).
    ///
    /// # Cancel safety
    /// A dropped call may have bound them; it can be repeated.
    pub async fn bind_to(&self, other: impl Into<Bound>) -> Result<(), RequestError> {
        bind(&self.session, self.into(), other.into()).await
    }
}

impl Child {
    /// Monitors the child: one notice for the end of each of its lives; at once for one that has
    /// ended.
    ///
    /// # Errors
    /// [`RequestError`] when the node cannot be asked, or there is no such child.
    ///
    /// # Cancel safety
    /// Cancel safe: it changes nothing.
    pub async fn monitor(&self) -> Result<Monitor, RequestError> {
        let instance = self.job().child(self.ordinal());
        self.session().monitor(Selection::of([Selector::Instance(instance.0)])).await
    }

    /// Binds this child and a job, or another child, of its session: see [`Job::bind_to`].
    ///
    /// # Errors
    /// As for [`Job::bind_to`].
    ///
    /// # Cancel safety
    /// As for [`Job::bind_to`].
    pub async fn bind_to(&self, other: impl Into<Bound>) -> Result<(), RequestError> {
        bind(self.session(), self.into(), other.into()).await
    }
}

impl<T> From<&Job<T>> for Bound {
    fn from(job: &Job<T>) -> Self {
        Self::Job(job.instance)
    }
}

impl From<&Child> for Bound {
    fn from(child: &Child) -> Self {
        Self::Child(ChildKey { job: child.job(), ordinal: child.ordinal() })
    }
}

async fn bind(session: &Session, first: Bound, second: Bound) -> Result<(), RequestError> {
    match session.ask(Ask::Bind { first, second }).await? {
        Answer::Done => Ok(()),
        _ => Err(RequestError::Unexpected),
    }
}
