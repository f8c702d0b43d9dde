//! Our own terminal while a child has one at the other end: it passes everything on, and is as it
//! was afterwards, however that ends.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use sortie::WindowSize;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;

/// Our terminal passes keys on as they are typed, and output as it comes. Dropping it gives the
/// terminal the modes that it had.
pub(crate) struct RawMode {
    terminal: File,
    before: Termios,
    /// What would end us by itself, and leave the terminal as it is.
    quit: Signal,
}

impl RawMode {
    /// Takes the terminal on our standard input. Waits while we are in the background. Must be
    /// called within a runtime.
    pub(crate) fn begin() -> Result<Self, Failure> {
        let failed =
            |error: io::Error| Failure::internal(format_args!("cannot use our terminal: {error}"));
        let terminal = io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
        let before = tcgetattr(&terminal).map_err(|error| failed(error.into()))?;
        let quit = signal(SignalKind::quit()).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Now, &raw).map_err(|error| failed(error.into()))?;
        Ok(Self { terminal: terminal.into(), before, quit })
    }

    /// Resolves when we are told to quit. Cancel safe.
    pub(crate) async fn told_to_quit(&mut self) {
        self.quit.recv().await;
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that is gone has no modes.
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

/// Whether somebody can type on our standard input.
pub(crate) fn is_ours() -> bool {
    io::stdin().is_terminal()
}

/// Whether somebody sits at our terminal, who can be asked.
pub(crate) fn somebody_at_terminal() -> bool {
    is_ours() && io::stderr().is_terminal()
}

/// The size of our terminal's window; the usual one where it has none.
pub(crate) fn size() -> WindowSize {
    match tcgetwinsize(io::stdin()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => WindowSize {
            rows: size.ws_row,
            columns: size.ws_col,
            width: size.ws_xpixel,
            height: size.ws_ypixel,
        },
        _ => WindowSize::default(),
    }
}
