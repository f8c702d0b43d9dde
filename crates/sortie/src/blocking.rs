//! The library for programs without async: the same jobs, with calls that block.
//!
//! A [`Client`] has a thread of its own, on which everything happens; its sessions, jobs and
//! iterators share it, and it ends with the last of them. The inputs of a map are fed from it: they
//! count as lost if it ends before they do. What is built before a start is the same
//! as elsewhere: [`JobBuilder`], [`Command`], tasks.
//!
//! ```no_run
//! use std::path::Path;
//! use std::time::Duration;
//!
//! use sortie::blocking::Client;
//! use sortie::{Command, HomePaths};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let home = HomePaths::within(Path::new("/var/lib/sortie"));
//!     let session = Client::connect_home(&home, Duration::from_secs(5))?.session();
//!     let job = session.start(session.job(Command::new("make").arg("all")).on("build*")?)?;
//!     println!("{:?}", job.wait()?.state);
//!     Ok(())
//! }
//! ```
//!
//! A call from within an async runtime would block the thread that others need, so it is an error,
//! [`CallError::InsideRuntime`]: use the types of the same names without `blocking` there. Nothing
//! here panics for it.

mod job;
mod runtime;

use std::time::Duration;

use sortie_model::NodeId;
use sortie_model::selector::Selector;

use crate::blocking::runtime::Background;
use crate::error::{ConnectError, RequestError, StartError};
use crate::home::HomePaths;
use crate::job::JobBuilder;
use crate::task::TaskFn;
use crate::{Command, UserIdentity};

pub use job::{Job, Results};
pub use runtime::CallError;

/// A connection to a node; see [`crate::Client`]. Cheap to clone; clones share the connection and
/// the thread.
#[derive(Debug, Clone)]
pub struct Client {
    background: Background,
    client: crate::Client,
}

impl Client {
    /// Connects to the node that runs with a home, as the home's owner, within `timeout`.
    ///
    /// # Errors
    /// [`CallError`]; [`ConnectError`] as for [`crate::Client::connect_home`].
    pub fn connect_home(
        paths: &HomePaths,
        timeout: Duration,
    ) -> Result<Self, CallError<ConnectError>> {
        let (background, paths) = (Background::start()?, paths.clone());
        let connect = async move { crate::Client::connect_home(&paths, timeout).await };
        let client = background.wait(connect)?;
        Ok(Self { background, client })
    }

    /// Connects to the node at `host:port` as that user, within `timeout`. With `node` it must be
    /// that one.
    ///
    /// # Errors
    /// [`CallError`]; [`ConnectError`] as for [`crate::Client::connect`].
    pub fn connect(
        address: &str,
        identity: &UserIdentity,
        node: Option<NodeId>,
        timeout: Duration,
    ) -> Result<Self, CallError<ConnectError>> {
        let (background, identity) = (Background::start()?, identity.clone());
        let address = address.to_owned();
        let connect =
            async move { crate::Client::connect(&address, &identity, node, timeout).await };
        let client = background.wait(connect)?;
        Ok(Self { background, client })
    }

    /// A blocking client beside one that is connected already, or of a node in this process
    /// ([`Node::client`](crate::Node::client)), whose runtime must go on elsewhere.
    ///
    /// # Errors
    /// [`CallError::Thread`].
    pub fn of(client: crate::Client) -> Result<Self, CallError<ConnectError>> {
        Ok(Self { background: Background::start()?, client })
    }

    /// The user's session `default`, which ends with its node.
    pub fn session(&self) -> Session {
        self.with(self.client.session())
    }

    /// The one session with that name, number or identity; see [`crate::Client::session_named`].
    pub fn session_named(&self, name: &str) -> Session {
        self.with(self.client.session_named(name))
    }

    /// Opens a temporary session: it ends, and its jobs are stopped, with its last handle, those on
    /// its jobs included.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn temporary(&self) -> Result<Session, CallError<RequestError>> {
        let client = self.client.clone();
        let session = self.background.wait(async move { client.temporary().await })?;
        Ok(self.with(session))
    }

    fn with(&self, session: crate::Session) -> Session {
        Session { background: self.background.clone(), session }
    }
}

/// A session; see [`crate::Session`]. Cheap to clone; dropping one stops nothing, but for the last
/// handle of a temporary session.
#[derive(Debug, Clone)]
pub struct Session {
    background: Background,
    session: crate::Session,
}

impl Session {
    /// A job that runs a command; nothing happens until it is started.
    pub fn job(&self, command: Command) -> JobBuilder {
        self.session.job(command)
    }

    /// A job that calls a task once; see [`crate::Session::run`].
    pub fn run<F: TaskFn>(&self, task: F, input: F::Input) -> JobBuilder<F::Output> {
        self.session.run(task, input)
    }

    /// A job that calls a task once for each input; see [`crate::Session::map`]. The inputs are
    /// pulled on the client's thread, also after the start: one that takes long to come keeps its
    /// other calls waiting.
    pub fn map<F, I>(&self, task: F, inputs: I) -> JobBuilder<F::Output>
    where
        F: TaskFn,
        I: IntoIterator<Item = F::Input, IntoIter: Send + 'static>,
    {
        self.session.map(task, inputs)
    }

    /// Starts a job; returns when its node has accepted it, before the work ends.
    ///
    /// # Errors
    /// [`CallError`]; [`StartError`] as for [`JobBuilder::start`].
    pub fn start<T: 'static>(&self, job: JobBuilder<T>) -> Result<Job<T>, CallError<StartError>> {
        let job = self.background.wait(async move { job.start().await })?;
        Ok(Job::new(self.background.clone(), job))
    }

    /// A handle on one job that exists: that of the selector's first match.
    ///
    /// # Errors
    /// [`CallError`]; [`RequestError`] as for [`crate::Session::find`].
    pub fn find(&self, selector: Selector) -> Result<Job, CallError<RequestError>> {
        let session = self.session.clone();
        let job = self.background.wait(async move { session.find(selector).await })?;
        Ok(Job::new(self.background.clone(), job))
    }
}
