//! The thread on which a blocking client's futures run.

use std::error::Error;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::error::{ConnectError, RequestError, StartError};
use crate::job::ResultError;

/// Why a blocking call gave nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError<E: Error + 'static> {
    /// What was asked for failed.
    #[error(transparent)]
    Failed(E),
    /// The call was made from within an async runtime, whose thread it would block.
    #[error("a blocking call from within an async runtime: use the async types there")]
    InsideRuntime,
    /// The client's thread does not start.
    #[error("the client's thread does not start")]
    Thread(#[source] io::Error),
    /// The client's thread has ended, or what it did for this call panicked.
    #[error("the client's thread gave no answer")]
    Gone,
}

impl<E: Error + 'static> CallError<E> {
    /// What failed, if the call was made.
    pub const fn failed(&self) -> Option<&E> {
        match self {
            Self::Failed(error) => Some(error),
            Self::InsideRuntime | Self::Thread(_) | Self::Gone => None,
        }
    }

    fn is_retryable_if(&self, failed: impl FnOnce(&E) -> bool) -> bool {
        match self {
            Self::Failed(error) => failed(error),
            Self::Thread(_) => true,
            Self::InsideRuntime | Self::Gone => false,
        }
    }
}

macro_rules! retryable {
    ($($error:ty),+) => {$(
        impl CallError<$error> {
            /// Whether the same call may succeed later or elsewhere.
            pub fn is_retryable(&self) -> bool {
                self.is_retryable_if(|error| error.is_retryable())
            }
        }
    )+};
}

retryable!(ConnectError, RequestError, StartError, ResultError);

/// A thread with a runtime; it ends with the last clone.
#[derive(Debug, Clone)]
pub(super) struct Background {
    thread: Arc<Running>,
}

#[derive(Debug)]
struct Running {
    runtime: Handle,
    /// Dropped to end the thread.
    _alive: oneshot::Sender<()>,
}

impl Background {
    /// Starts the thread.
    pub(super) fn start<E: Error + 'static>() -> Result<Self, CallError<E>> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(CallError::Thread)?;
        let handle = runtime.handle().clone();
        let (alive, ended) = oneshot::channel::<()>();
        let spawned = thread::Builder::new().name("sortie-blocking".to_owned()).spawn(move || {
            // It resolves when the sender is dropped; nothing is ever sent.
            let _ = runtime.block_on(ended);
        });
        spawned.map_err(CallError::Thread)?;
        Ok(Self { thread: Arc::new(Running { runtime: handle, _alive: alive }) })
    }

    /// Runs a future on the thread and waits for what it gives.
    pub(super) fn wait<F, T, E>(&self, future: F) -> Result<T, CallError<E>>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Error + Send + 'static,
    {
        if Handle::try_current().is_ok() {
            return Err(CallError::InsideRuntime);
        }
        let (sender, receiver) = mpsc::sync_channel(1);
        self.thread.runtime.spawn(async move {
            // The caller waits for it.
            let _ = sender.send(future.await);
        });
        receiver.recv().map_err(|_| CallError::Gone)?.map_err(CallError::Failed)
    }

    /// Drops or changes what belongs to the runtime, which may leave a future to it.
    pub(super) fn within<R>(&self, act: impl FnOnce() -> R) -> R {
        let _entered = self.thread.runtime.enter();
        act()
    }
}
