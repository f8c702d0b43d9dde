//! Functions as values: what `#[sortie::task]` makes of one.
//!
//! Each misuse of the attribute is one error of the compiler.
//!
//! ```compile_fail
//! #[sortie::task]
//! fn not_async(n: u64) -> Result<u64, std::convert::Infallible> { Ok(n) }
//! ```
//!
//! ```compile_fail
//! #[sortie::task]
//! async fn no_input() -> Result<u64, std::convert::Infallible> { Ok(1) }
//! ```
//!
//! ```compile_fail
//! #[sortie::task]
//! async fn no_result(n: u64) -> u64 { n }
//! ```
//!
//! ```compile_fail
//! #[sortie::task]
//! async fn generic<T>(n: T) -> Result<u64, std::convert::Infallible> { Ok(1) }
//! ```
//!
//! ```compile_fail
//! #[sortie::task(named = "other")]
//! async fn misnamed(n: u64) -> Result<u64, std::convert::Infallible> { Ok(n) }
//! ```
//!
//! ```compile_fail
//! struct Local;
//! #[sortie::task]
//! async fn no_encoding(local: Local) -> Result<u64, std::convert::Infallible> { Ok(1) }
//! ```
//!
//! ```compile_fail
//! #[sortie::task]
//! async fn no_error(n: u64) -> Result<u64, Box<dyn std::error::Error>> { Ok(n) }
//! ```

use std::future::Future;
use std::pin::Pin;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sortie_exec::task::{TaskContext, TaskError, TaskOutput};
use sortie_model::spec::TaskTypes;

/// What a call of a task gives: its future, on the heap.
pub type TaskFuture<R> = Pin<Box<dyn Future<Output = R> + Send>>;

/// A function that nodes register ([`NodeBuilder::register`](crate::NodeBuilder::register)) and
/// sessions start ([`Session::run`](crate::Session::run), [`Session::map`](crate::Session::map)) by
/// its value. It is made by the attribute [`task`](crate::task), and by nothing else: what it
/// consists of may change.
///
/// ```
/// use std::convert::Infallible;
///
/// use sortie::TaskFn;
///
/// #[sortie::task(name = "words")]
/// async fn word_count(text: String) -> Result<usize, Infallible> {
///     Ok(text.split_whitespace().count())
/// }
///
/// fn name_of<F: TaskFn>(_: F) -> &'static str {
///     F::NAME
/// }
///
/// # #[tokio::main]
/// # async fn main() {
/// assert_eq!(name_of(word_count), "words");
/// assert_eq!(word_count("a plain call".to_owned()).await, Ok(3));
/// # }
/// ```
pub trait TaskFn: Copy + Send + Sync + 'static {
    /// What it takes. It travels as MessagePack with field names.
    type Input: Serialize + DeserializeOwned + Send + 'static;
    /// What it returns, and what it emits: each value is one result. A task that returns `()` has
    /// no result of its own; one that returns [`Live`](crate::Live) hands its value over as it is.
    type Output: TaskOutput + DeserializeOwned + Send + 'static;
    /// Why it fails; the message and those of its sources become its child's reason.
    type Error: TaskError;

    /// The name under which nodes register it.
    const NAME: &'static str;
    /// How its types are written. A job says them, and a node whose function of that name has
    /// others refuses it.
    const TYPES: TaskTypes;

    /// Calls the function.
    #[doc(hidden)]
    fn call(
        self,
        context: TaskContext,
        input: Self::Input,
    ) -> TaskFuture<Result<Self::Output, Self::Error>>;
}

/// What a task's function returns: a `Result`, under whatever name. Implemented for nothing else.
pub trait TaskReturn {
    /// The value of `Ok`.
    type Output;
    /// The value of `Err`.
    type Error;
}

impl<O, E> TaskReturn for Result<O, E> {
    type Output = O;
    type Error = E;
}
