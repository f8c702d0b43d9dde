//! Being told to end: Ctrl-C, a terminal that is gone, a polite kill.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;

/// Listens for the signals that tell us to end. From the first listener on they no longer end us by
/// themselves.
pub(crate) struct Interrupts {
    signals: [Signal; 3],
}

impl Interrupts {
    /// Begins to listen. Must be called within a runtime.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                Failure::internal(format_args!("cannot listen for signals: {error}"))
            })
        };
        let hang_up = listen(SignalKind::hangup())?;
        Ok(Self {
            signals: [listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?, hang_up],
        })
    }

    /// Resolves at the next one. Cancel safe.
    pub(crate) async fn next(&mut self) {
        let [interrupt, terminate, hang_up] = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
    }
}
