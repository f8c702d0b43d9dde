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
/// The function takes its input, or a `TaskContext` and its input, and returns a `Result`. A task
/// that needs no input takes `(): ()`. What the compiler asks of its types:
///
/// * the input is owned, and has `Serialize`, `DeserializeOwned`, `Send` and `'static`;
/// * so has the output; `Live<T>` hands a value over as it is;
/// * the error is a `std::error::Error` and `'static`. `Box<dyn Error>`, `anyhow::Error` and
///   `String` are none: make an enum of what can go wrong (`thiserror` derives it), or wrap the
///   error, `.map_err(std::io::Error::other)`;
/// * the future is `Send`: nothing that is not lives across an `.await`.
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
