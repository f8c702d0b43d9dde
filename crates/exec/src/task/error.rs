//! Why a function fails: any error type.

use std::error::Error;

/// What a function's `Err` may hold: every type that is a [`std::error::Error`], and nothing else.
/// The message and those of its sources become the reason of the child.
///
/// `Box<dyn Error>`, `anyhow::Error` and `String` are no such types. Make an enum of what can go
/// wrong, or wrap them where they come up:
///
/// ```
/// async fn read(path: String) -> Result<usize, std::io::Error> {
///     let number: usize = path.parse().map_err(std::io::Error::other)?;
///     Err(std::io::Error::other(format!("{number} is no path")))
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of a task",
    label = "this is no `std::error::Error`",
    note = "`Box<dyn Error>`, `anyhow::Error` and `String` do not implement `std::error::Error`",
    note = "make an enum of what can go wrong (`thiserror` helps), or wrap the error: \
            `.map_err(std::io::Error::other)`"
)]
pub trait TaskError: 'static {
    /// Itself.
    #[doc(hidden)]
    fn as_error(&self) -> &(dyn Error + 'static);
}

#[diagnostic::do_not_recommend]
impl<E: Error + 'static> TaskError for E {
    fn as_error(&self) -> &(dyn Error + 'static) {
        self
    }
}
