//! What the library says while it works, on stderr: for those who look for a fault.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// What is said when `SORTIE_LOG` asks for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unasked {
    /// Nothing: a command says itself what matters.
    Nothing,
    /// Warnings and errors: a node has a log.
    Warnings,
}

/// Says on stderr what `SORTIE_LOG` asks for, as in `SORTIE_LOG=info,sortie_link=debug`.
pub(crate) fn log_to_stderr(unasked: Unasked) {
    let filter = match (std::env::var("SORTIE_LOG"), unasked) {
        (Ok(asked), _) => EnvFilter::new(asked),
        (Err(_), Unasked::Warnings) => EnvFilter::new("warn"),
        (Err(_), Unasked::Nothing) => return,
    };
    let stderr = std::io::stderr;
    let colours = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(stderr).init();
}
