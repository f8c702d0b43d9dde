//! A child's standard input, as the daemon writes to it.

use std::io;
use std::os::fd::OwnedFd;

use bytes::{Buf, Bytes};
use rustix::io::Errno;
use sortie_wire::terminal_items::{TerminalItem, TerminalItems};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::guardian::InputGate;
use crate::sys::terminal::resize;
use crate::sys::watch::watch;

/// The writing end of a child's stdin. Dropping it ends the child's input; at a terminal nothing is
/// typed any more.
#[derive(Debug)]
pub struct Input {
    pipe: AsyncFd<OwnedFd>,
    /// What is given for a terminal are items: keys and sizes.
    items: Option<TerminalItems>,
    /// Where it outlives its daemon.
    gate: Option<InputGate>,
}

/// A child has closed its standard input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the process has closed its standard input")]
pub struct InputClosed;

impl Input {
    pub(crate) fn new(pipe: OwnedFd) -> io::Result<Self> {
        Self::of(pipe, None)
    }

    pub(crate) fn terminal(ours: OwnedFd) -> io::Result<Self> {
        Self::of(ours, Some(TerminalItems::default()))
    }

    fn of(pipe: OwnedFd, items: Option<TerminalItems>) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&pipe, true)?;
        let pipe = watch(pipe, Interest::WRITABLE)?;
        Ok(Self { pipe, items, gate: None })
    }

    /// Nothing is written to it any more once that gate is closed.
    pub(crate) fn behind(self, gate: Option<InputGate>) -> Self {
        Self { gate, ..self }
    }

    /// Writes everything. For a terminal these are items ([`sortie_wire::terminal_items`]), which
    /// may be cut anywhere: its keys are typed, its sizes become the window's.
    ///
    /// # Errors
    /// [`InputClosed`] when the child reads no more, or what a terminal gets is no item.
    ///
    /// # Cancel safety
    /// Not cancel safe: how much was written is then unknown.
    pub async fn write(&mut self, mut bytes: Bytes) -> Result<(), InputClosed> {
        let Some(mut items) = self.items.take() else { return self.write_raw(bytes).await };
        while let Some(item) = items.take(&mut bytes).map_err(|_| InputClosed)? {
            match item {
                TerminalItem::Keys(keys) => self.write_raw(keys).await?,
                // A terminal that nobody has open has no window.
                TerminalItem::Size(size) => drop(resize(self.pipe.get_ref(), size)),
            }
        }
        self.items = Some(items);
        Ok(())
    }

    async fn write_raw(&mut self, mut bytes: Bytes) -> Result<(), InputClosed> {
        while !bytes.is_empty() {
            let mut ready = self.pipe.writable().await.map_err(|_| InputClosed)?;
            // The daemon ignores SIGPIPE, as every Rust program does unless told otherwise.
            let write = || rustix::io::write(ready.get_inner(), &bytes);
            let written = match &self.gate {
                None => write(),
                Some(gate) => match gate.pass(write) {
                    Some(written) => written,
                    // The next daemon goes on here.
                    None => return std::future::pending().await,
                },
            };
            match written {
                Ok(written) => bytes.advance(written),
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(Errno::INTR) => {}
                Err(_) => return Err(InputClosed),
            }
        }
        Ok(())
    }
}
