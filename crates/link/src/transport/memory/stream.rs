//! The ends of a stream within one process.

use std::sync::Arc;
use std::task::Context;

use bytes::Bytes;
use sortie_wire::close::StreamCode;
use tokio::sync::OwnedSemaphorePermit;

use crate::transport::StreamFault;
use crate::transport::memory::MemoryConnection;
use crate::transport::pipe::{Pipe, PipeFault};

pub(super) type Place = Arc<OwnedSemaphorePermit>;

/// The other end's half of a stream that it cannot see yet.
pub(super) enum Announcement {
    Uni(MemoryReceive),
    Bi(Box<(MemorySend, MemoryReceive)>),
}

/// The sending end of a stream.
pub(crate) struct MemorySend {
    pub(super) connection: MemoryConnection,
    pub(super) pipe: Pipe,
    pub(super) announce: Option<Announcement>,
    pub(super) _place: Place,
}

impl MemorySend {
    pub(crate) async fn write(&mut self, chunks: &mut [Bytes]) -> Result<(), StreamFault> {
        if let Some(reason) = self.connection.close_reason() {
            return Err(StreamFault::Closed(reason));
        }
        self.announce();
        let pipe = self.pipe.clone();
        let connection = &self.connection;
        let write =
            |context: &mut Context<'_>| pipe.poll_write(context, chunks, || connection.due());
        // What waits for the end of a cut waits in the window.
        connection.carried(None, write).await
    }

    pub(crate) fn finish(&mut self) -> Result<(), StreamFault> {
        self.announce();
        self.pipe.finish(self.connection.due()).map_err(StreamFault::from)
    }

    pub(crate) fn reset(&mut self, code: StreamCode) {
        // What is closed carries nothing any more, no reset either.
        if self.connection.close_reason().is_none() {
            self.announce();
            self.pipe.reset(self.connection.due(), code);
        }
    }

    pub(crate) async fn delivered(&mut self) -> Result<(), StreamFault> {
        let pipe = self.pipe.clone();
        let back = Some(&*self.connection.back);
        self.connection.carried(back, |context| pipe.poll_delivered(context)).await
    }

    fn announce(&mut self) {
        let there = &self.connection.other;
        // As many may wait as may be open, so that a place is there unless the end is gone.
        match self.announce.take() {
            Some(Announcement::Uni(stream)) => drop(there.uni.announce.try_send(stream)),
            Some(Announcement::Bi(pair)) => drop(there.bi.announce.try_send(*pair)),
            None => {}
        }
    }
}

impl Drop for MemorySend {
    /// As quinn does: an end that nobody spoke is a finish.
    fn drop(&mut self) {
        if self.connection.close_reason().is_none() {
            let _ = self.pipe.finish(self.connection.due());
        }
    }
}

/// The receiving end of a stream.
pub(crate) struct MemoryReceive {
    pub(super) connection: MemoryConnection,
    pub(super) pipe: Pipe,
    pub(super) _place: Place,
}

impl MemoryReceive {
    pub(crate) async fn read(
        &mut self,
        chunks: &mut [Bytes],
    ) -> Result<Option<usize>, StreamFault> {
        let pipe = self.pipe.clone();
        let back = Some(&*self.connection.back);
        self.connection.carried(back, |context| pipe.poll_read(context, chunks)).await
    }

    pub(crate) fn stop(&mut self, code: StreamCode) {
        // What is closed carries nothing any more, no stop either.
        if self.connection.close_reason().is_none() {
            self.pipe.stop(self.connection.due(), code);
        }
    }
}

impl Drop for MemoryReceive {
    fn drop(&mut self) {
        self.stop(StreamCode(0));
    }
}

impl From<PipeFault> for StreamFault {
    fn from(fault: PipeFault) -> Self {
        match fault {
            PipeFault::Reset(code) => Self::Reset(code),
            PipeFault::Stopped(code) => Self::Stopped(code),
            PipeFault::Ended => Self::Ended,
        }
    }
}
