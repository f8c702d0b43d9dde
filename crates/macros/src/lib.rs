//! The attribute `#[sortie::task]`: an async function as something that nodes register and sessions
//! start by its value, typed by its signature.
//!
//! Use it through the crate `sortie`, which re-exports it and says what it gives.

mod arguments;
mod expand;
mod signature;
mod types;

use proc_macro::TokenStream;

/// Makes an `async fn` a task: `Node::builder("a").register(name)` registers it, and
/// `session.run(name, input)` and `session.map(name, inputs)` start it, without strings and with
/// its types.
///
/// The function takes its input, or a `TaskContext` and its input, and returns a `Result`. Inputs
/// and outputs are owned, and have serde's `Serialize` and `Deserialize`; the error is a
/// `std::error::Error`. A task that needs no input takes `(): ()`.
///
/// ```text
/// #[sortie::task]
/// async fn word_count(text: String) -> Result<usize, Infallible> {
///     Ok(text.split_whitespace().count())
/// }
///
/// #[sortie::task(name = "words-of-file")]
/// async fn words(context: TaskContext, path: PathBuf) -> Result<u64, ReadError> { … }
/// ```
///
/// The name becomes a unit type and its one value, which implements `sortie::TaskFn`. A plain call
/// still works, `word_count(text).await`, as long as the function has its name to itself. Without
/// `name = "…"` the task is registered under the function's name.
///
/// The generated code names the crate as `::sortie`: a program depends on it under that name.
#[proc_macro_attribute]
pub fn task(arguments: TokenStream, item: TokenStream) -> TokenStream {
    match expand::expand(arguments.into(), item.into()) {
        Ok(tokens) => tokens.into(),
        Err(error) => error.to_compile_error().into(),
    }
}
