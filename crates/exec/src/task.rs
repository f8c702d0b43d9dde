//! Registered Rust functions: how one is called, what it can reach, how its end is read.

mod ask;
mod checkpoint;
mod complaint;
mod error;
mod live;

use std::any::{Any, type_name};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sortie_model::{Body, NodeName, Ordinal, Reason, Stream, limits, reason::LimitKind};

use crate::inbox::{Inbox, InboxPort, InboxTaken};
pub use crate::task::ask::{AskError, NoAnswer};
pub use crate::task::checkpoint::CheckpointError;
use crate::task::complaint::complaint;
pub use crate::task::complaint::{ShapeError, read_value};
pub use crate::task::error::TaskError;
pub use live::{Live, Staying, TaskOutput, Weight, note_of};

/// A boxed future that can move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a running function can reach of its child; the data plane implements it.
pub trait TaskPort: Send + Sync {
    /// Adds a record if there is room for it now; gives the body back if there is none.
    ///
    /// # Errors
    /// The body, when the writer has to wait.
    fn try_write(&self, stream: Stream, body: Body) -> Result<(), Body>;
    /// Adds a record, waiting for room.
    fn write(&self, stream: Stream, body: Body) -> BoxFuture<'_, ()>;
    /// Resolves once the child was told to stop.
    fn cancelled(&self) -> BoxFuture<'_, ()>;
    /// Whether the child was told to stop.
    fn is_cancelled(&self) -> bool;
    /// What else the function may use of its node, of a type that the floors above this one know;
    /// in a worker process [`WorkerNode`](crate::worker::WorkerNode). None where there is no node.
    fn reach(self: Arc<Self>) -> Option<Arc<dyn Any + Send + Sync>> {
        None
    }
    /// Whether values stay in this process until somebody reads them.
    fn staying(&self) -> Staying {
        Staying::Leaves
    }
    /// Asks, and resolves with the encoded answer. Dropped before, the question is withdrawn.
    fn ask(&self, prompt: String) -> BoxFuture<'_, Result<Bytes, NoAnswer>>;
    /// Keeps an encoded value for the next incarnation of the child, and resolves when the function
    /// may go on: at once, unless the child is suspended.
    fn checkpoint(&self, value: Bytes) -> BoxFuture<'_, ()>;
    /// What an incarnation of the child before kept last.
    fn resumed_from(&self) -> Option<Bytes>;
    /// The variables that a process in the child's place finds in its environment.
    fn environment(&self) -> BTreeMap<OsString, OsString>;
    /// The child's place among its siblings.
    fn ordinal(&self) -> Ordinal;
    /// The node it runs on.
    fn node(&self) -> &NodeName;
    /// Opens the child's inbox; none if that was done before.
    fn inbox(&self) -> Option<Box<dyn InboxPort>>;
}

/// What a function gets besides its input.
#[derive(Clone)]
pub struct TaskContext {
    port: Arc<dyn TaskPort>,
}

impl fmt::Debug for TaskContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskContext").field("ordinal", &self.ordinal()).finish_non_exhaustive()
    }
}

/// A value that cannot be emitted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmitError {
    /// It has no MessagePack form.
    #[error("the value cannot be encoded as MessagePack")]
    Encode(#[source] rmp_serde::encode::Error),
    /// It is larger than one value may be.
    #[error("a value of {length} bytes is larger than the {} allowed", limits::VALUE_BYTES)]
    TooLarge {
        /// Its encoded length in bytes.
        length: usize,
    },
}

impl EmitError {
    /// Never: the same value fails again.
    pub const fn is_retryable(&self) -> bool {
        false
    }
}

impl TaskContext {
    /// A context on a child.
    pub fn new(port: Arc<dyn TaskPort>) -> Self {
        Self { port }
    }

    /// Adds a value to the child's output. Waits while the child is past its credit, so memory does
    /// not grow when nobody reads (`docs/semantics.md`, section 1.3).
    ///
    /// # Errors
    /// [`EmitError`] when the value cannot be encoded or is larger than
    /// [`limits::VALUE_BYTES`].
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the value was not added.
    pub async fn emit<T: Serialize + ?Sized>(&self, value: &T) -> Result<(), EmitError> {
        let bytes = encode_value(value)?;
        self.write(Stream::Output, Body::Value(bytes)).await;
        Ok(())
    }

    /// Adds a value to the child's output as it is: who reads it as [`Live`] in this process gets a
    /// handle on this very value, and nothing is encoded. Where the child's job does not live in
    /// this process it is encoded at once, as by [`TaskContext::emit`].
    ///
    /// Waits as [`TaskContext::emit`] does; the value counts with its [`Weight`] and
    /// [`limits::LIVE_VALUE_BYTES`].
    ///
    /// # Errors
    /// [`EmitError`] when it weighs more than [`limits::VALUE_BYTES`], or when it has to be encoded
    /// and cannot be.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the value was not added.
    pub async fn emit_live<T>(&self, value: Live<T>) -> Result<(), EmitError>
    where
        T: Serialize + Weight + Send + Sync + 'static,
    {
        if let Some(body) = value.into_body(self.port.staying())? {
            self.write(Stream::Output, body).await;
        }
        Ok(())
    }

    /// Adds a text to the child's error stream. The child still completes if it returns `Ok`.
    ///
    /// Waits as [`TaskContext::emit`] does. A text of more than [`limits::VALUE_BYTES`] is left
    /// out; so it is for the other streams.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the text was not added.
    pub async fn error(&self, text: &str) {
        self.text(Stream::Error, text).await;
    }

    /// Adds a text to the warning stream, as [`TaskContext::error`] does to its own.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the text was not added.
    pub async fn warn(&self, text: &str) {
        self.text(Stream::Warning, text).await;
    }

    /// Adds a text to the verbose stream, as [`TaskContext::error`] does to its own.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the text was not added.
    pub async fn verbose(&self, text: &str) {
        self.text(Stream::Verbose, text).await;
    }

    /// Adds a text to the debug stream, as [`TaskContext::error`] does to its own.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the text was not added.
    pub async fn debug(&self, text: &str) {
        self.text(Stream::Debug, text).await;
    }

    /// Adds a text to the information stream, as [`TaskContext::error`] does to its own.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the text was not added.
    pub async fn information(&self, text: &str) {
        self.text(Stream::Information, text).await;
    }

    /// Says how far the work is, in units of the function's own; a `total` of 0 means unknown.
    /// Waits as [`TaskContext::emit`] does.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, it was not said.
    pub async fn progress(&self, done: u64, total: u64) {
        if let Ok(bytes) = encode_value(&(done, total)) {
            self.write(Stream::Progress, Body::Value(bytes)).await;
        }
    }

    /// Resolves once the child was told to stop; the function then has its grace to return.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn cancelled(&self) {
        self.port.cancelled().await;
    }

    /// Whether the child was told to stop.
    pub fn is_cancelled(&self) -> bool {
        self.port.is_cancelled()
    }

    /// The variables that a process in this child's place finds: the clean environment of its node
    /// or what the job inherits, what the job sets (`JobBuilder::env`), and `SORTIE_SESSION`,
    /// `SORTIE_JOB`, `SORTIE_CHILD` and `SORTIE_NODE` (`docs/semantics.md`, section 1.1). Made anew
    /// by each call. In a background function they are those of its own process.
    pub fn env(&self) -> BTreeMap<OsString, OsString> {
        self.port.environment()
    }

    /// See [`TaskPort::reach`].
    #[doc(hidden)]
    pub fn reach(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        Arc::clone(&self.port).reach()
    }

    /// The child's place among its siblings, from 0.
    pub fn ordinal(&self) -> Ordinal {
        self.port.ordinal()
    }

    /// The node that the function runs on.
    pub fn node(&self) -> &NodeName {
        self.port.node()
    }

    /// Opens the child's inbox: messages that others send to it while it runs. Senders wait until
    /// it is open (`docs/semantics.md`, section 3.7).
    ///
    /// # Errors
    /// [`InboxTaken`] the second time.
    pub fn inbox<M: DeserializeOwned>(&self) -> Result<Inbox<M>, InboxTaken> {
        let port = self.port.inbox().ok_or(InboxTaken)?;
        Ok(Inbox::new(port, self.clone()))
    }

    async fn text(&self, stream: Stream, text: &str) {
        if let Ok(bytes) = encode_value(text) {
            self.write(stream, Body::Value(bytes)).await;
        }
    }

    async fn write(&self, stream: Stream, body: Body) {
        if let Err(body) = self.port.try_write(stream, body) {
            self.port.write(stream, body).await;
        }
    }
}

/// The MessagePack form of a value, with field names.
///
/// # Errors
/// [`EmitError`] when it has none or is too large.
pub fn encode_value<T: Serialize + ?Sized>(value: &T) -> Result<Bytes, EmitError> {
    let bytes = rmp_serde::to_vec_named(value).map_err(EmitError::Encode)?;
    if bytes.len() > limits::VALUE_BYTES {
        return Err(EmitError::TooLarge { length: bytes.len() });
    }
    Ok(bytes.into())
}

/// How a function's future ends: its last value, unless that is `()`, or why it failed.
pub type TaskResult = Result<Option<Body>, Reason>;

/// A function under a name, with its types erased.
pub trait Task: Send + Sync {
    /// Calls it with an encoded input.
    fn call(&self, context: TaskContext, input: &[u8]) -> BoxFuture<'static, TaskResult>;
}

/// MessagePack's nil: the encoding of `()`, which is no result worth a record.
const NIL: &[u8] = &[0xc0];

struct TypedTask<F, I> {
    function: F,
    types: std::marker::PhantomData<fn(I)>,
}

impl<F, Fut, I, O, E> Task for TypedTask<F, I>
where
    F: Fn(TaskContext, I) -> Fut + Send + Sync,
    Fut: Future<Output = Result<O, E>> + Send + 'static,
    I: DeserializeOwned,
    O: TaskOutput,
    E: TaskError,
{
    fn call(&self, context: TaskContext, input: &[u8]) -> BoxFuture<'static, TaskResult> {
        let input = match rmp_serde::from_slice::<I>(input) {
            Ok(input) => input,
            Err(error) => {
                let message = cut(complaint::<I>(&error));
                let reason = Reason::Error { kind: "input".to_owned(), message };
                return Box::pin(std::future::ready(Err(reason)));
            }
        };
        let staying = context.port.staying();
        let running = (self.function)(context, input);
        Box::pin(async move {
            let output =
                running.await.map_err(|error| failure(error.as_error(), type_name::<E>()))?;
            match output.into_body(staying) {
                Ok(body) => Ok(body),
                Err(EmitError::TooLarge { .. }) => Err(Reason::Limit { which: LimitKind::Value }),
                Err(error) => Err(failure(&error, "output")),
            }
        })
    }
}

/// A typed function as a [`Task`].
pub fn typed<F, Fut, I, O, E>(function: F) -> Arc<dyn Task>
where
    F: Fn(TaskContext, I) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<O, E>> + Send + 'static,
    I: DeserializeOwned + 'static,
    O: TaskOutput,
    E: TaskError,
{
    Arc::new(TypedTask { function, types: std::marker::PhantomData })
}

/// An error and its sources as a reason.
fn failure(error: &dyn std::error::Error, kind: &str) -> Reason {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        if message.len() > limits::ERROR_TEXT_BYTES {
            break;
        }
        message.push_str(": ");
        message.push_str(&cause.to_string());
        source = cause.source();
    }
    Reason::Error { kind: kind.to_owned(), message: cut(message) }
}

/// A panic's payload as a reason.
pub fn panicked(payload: &(dyn Any + Send)) -> Reason {
    let message = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned());
    Reason::Panic { message: cut(message) }
}

/// A text that is no longer than an error's may be.
pub(crate) fn cut(mut text: String) -> String {
    if text.len() > limits::ERROR_TEXT_BYTES {
        let end = (0..=limits::ERROR_TEXT_BYTES).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
    }
    text
}
