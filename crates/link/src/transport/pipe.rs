//! A bounded pipe of byte chunks between two futures of one process.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use sortie_model::limits;
use sortie_wire::close::StreamCode;

/// How the sender ended the pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Finished,
    Reset(StreamCode),
}

#[derive(Default)]
struct State {
    chunks: VecDeque<Bytes>,
    held: usize,
    end: Option<End>,
    stopped: Option<StreamCode>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// One direction of a stream: it holds [`limits::STREAM_WINDOW_BYTES`], as a QUIC stream does.
#[derive(Clone, Default)]
pub(super) struct Pipe(Arc<Mutex<State>>);

/// What a read or write meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PipeFault {
    Reset(StreamCode),
    Stopped(StreamCode),
    Ended,
}

impl Pipe {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock, so a poisoned state is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves as much of the chunks as there is room for: ready when all are empty.
    pub(super) fn poll_write(
        &self,
        context: &mut Context<'_>,
        chunks: &mut [Bytes],
    ) -> Poll<Result<(), PipeFault>> {
        let mut state = self.lock();
        if let Some(code) = state.stopped {
            return Poll::Ready(Err(PipeFault::Stopped(code)));
        }
        if state.end.is_some() {
            return Poll::Ready(Err(PipeFault::Ended));
        }
        let mut moved = false;
        for chunk in chunks.iter_mut().filter(|chunk| !chunk.is_empty()) {
            let room = (limits::STREAM_WINDOW_BYTES as usize).saturating_sub(state.held);
            if room == 0 {
                break;
            }
            let part = chunk.split_to(room.min(chunk.len()));
            state.held += part.len();
            state.chunks.push_back(part);
            moved = true;
        }
        if moved && let Some(reader) = state.reader.take() {
            reader.wake();
        }
        if chunks.iter().all(Bytes::is_empty) {
            return Poll::Ready(Ok(()));
        }
        state.writer = Some(context.waker().clone());
        Poll::Pending
    }

    /// Takes chunks: how many, or none at the clean end.
    pub(super) fn poll_read(
        &self,
        context: &mut Context<'_>,
        chunks: &mut [Bytes],
    ) -> Poll<Result<Option<usize>, PipeFault>> {
        let mut state = self.lock();
        if let Some(End::Reset(code)) = state.end {
            return Poll::Ready(Err(PipeFault::Reset(code)));
        }
        if state.stopped.is_some() {
            return Poll::Ready(Err(PipeFault::Ended));
        }
        let mut count = 0;
        for slot in chunks {
            let Some(chunk) = state.chunks.pop_front() else { break };
            state.held -= chunk.len();
            *slot = chunk;
            count += 1;
        }
        if count > 0 {
            if let Some(writer) = state.writer.take() {
                writer.wake();
            }
            return Poll::Ready(Ok(Some(count)));
        }
        if state.end == Some(End::Finished) {
            if let Some(writer) = state.writer.take() {
                writer.wake();
            }
            return Poll::Ready(Ok(None));
        }
        state.reader = Some(context.waker().clone());
        Poll::Pending
    }

    /// Ready when all was read, or the reader stopped.
    pub(super) fn poll_delivered(&self, context: &mut Context<'_>) -> Poll<Result<(), PipeFault>> {
        let mut state = self.lock();
        if let Some(code) = state.stopped {
            return Poll::Ready(Err(PipeFault::Stopped(code)));
        }
        if state.held == 0 && state.end.is_some() {
            return Poll::Ready(Ok(()));
        }
        state.writer = Some(context.waker().clone());
        Poll::Pending
    }

    pub(super) fn finish(&self) -> Result<(), PipeFault> {
        self.end(End::Finished)
    }

    /// Drops what was not read.
    pub(super) fn reset(&self, code: StreamCode) {
        // An error says that the stream has ended before, which is as good.
        let _ = self.end(End::Reset(code));
    }

    fn end(&self, end: End) -> Result<(), PipeFault> {
        let mut state = self.lock();
        if state.end.is_some() {
            return Err(PipeFault::Ended);
        }
        state.end = Some(end);
        if end != End::Finished {
            state.chunks.clear();
            state.held = 0;
        }
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
        Ok(())
    }

    pub(super) fn stop(&self, code: StreamCode) {
        let mut state = self.lock();
        state.stopped.get_or_insert(code);
        state.chunks.clear();
        state.held = 0;
        if let Some(writer) = state.writer.take() {
            writer.wake();
        }
    }
}
