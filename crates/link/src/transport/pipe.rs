//! A bounded pipe of byte chunks between two futures of one process. What is put into it may say
//! when it arrives; nothing overtakes what was put in before.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use sortie_model::limits;
use sortie_wire::close::StreamCode;
use tokio::time::Instant;

/// How the sender ended the pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Finished,
    Reset(StreamCode),
}

/// When something arrives; at once if none.
pub(super) type Due = Option<Instant>;

#[derive(Default)]
struct State {
    chunks: VecDeque<(Due, Bytes)>,
    held: usize,
    /// When the last of what was put in arrives.
    last: Due,
    end: Option<(Due, End)>,
    stopped: Option<(Due, StreamCode)>,
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

/// What came of a look at the pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step<T> {
    Done(T),
    /// Something is on its way and arrives then: look again.
    Later(Instant),
}

type Looked<T> = Poll<Result<Step<T>, PipeFault>>;

/// The moment at which it arrives, if that is not now or before.
fn ahead(due: Due) -> Option<Instant> {
    due.filter(|at| *at > Instant::now())
}

impl Pipe {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock, so a poisoned state is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves as much of the chunks as there is room for: ready when all are empty. Each part that
    /// is moved arrives when `due` says.
    pub(super) fn poll_write(
        &self,
        context: &mut Context<'_>,
        chunks: &mut [Bytes],
        mut due: impl FnMut() -> Due,
    ) -> Looked<()> {
        let mut state = self.lock();
        if let Some((stopped, code)) = state.stopped {
            if ahead(stopped).is_none() {
                return Poll::Ready(Err(PipeFault::Stopped(code)));
            }
            // Nobody reads it, and the writer does not know yet.
            chunks.iter_mut().for_each(|chunk| *chunk = Bytes::new());
            return Poll::Ready(Ok(Step::Done(())));
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
            let due = state.behind_the_last(due());
            state.chunks.push_back((due, part));
            moved = true;
        }
        if moved && let Some(reader) = state.reader.take() {
            reader.wake();
        }
        if chunks.iter().all(Bytes::is_empty) {
            return Poll::Ready(Ok(Step::Done(())));
        }
        state.writer = Some(context.waker().clone());
        Poll::Pending
    }

    /// Takes chunks: how many, or none at the clean end.
    pub(super) fn poll_read(
        &self,
        context: &mut Context<'_>,
        chunks: &mut [Bytes],
    ) -> Looked<Option<usize>> {
        let mut state = self.lock();
        if let Some((due, End::Reset(code))) = state.end {
            let later = ahead(due).map(Step::Later);
            return Poll::Ready(later.ok_or(PipeFault::Reset(code)));
        }
        if state.stopped.is_some() {
            return Poll::Ready(Err(PipeFault::Ended));
        }
        let (mut count, mut later) = (0, None);
        for slot in chunks {
            later = state.chunks.front().and_then(|(due, _)| ahead(*due));
            if later.is_some() {
                break;
            }
            let Some((_, chunk)) = state.chunks.pop_front() else { break };
            state.held -= chunk.len();
            *slot = chunk;
            count += 1;
        }
        let read = match (count, later, state.end) {
            (0, Some(at), _) => Step::Later(at),
            (0, None, Some((due, _))) => ahead(due).map_or(Step::Done(None), Step::Later),
            (0, None, None) => {
                state.reader = Some(context.waker().clone());
                return Poll::Pending;
            }
            _ => Step::Done(Some(count)),
        };
        if matches!(read, Step::Done(_))
            && let Some(writer) = state.writer.take()
        {
            writer.wake();
        }
        Poll::Ready(Ok(read))
    }

    /// Ready when all was read, or the reader stopped.
    pub(super) fn poll_delivered(&self, context: &mut Context<'_>) -> Looked<()> {
        let mut state = self.lock();
        if let Some((due, code)) = state.stopped {
            let later = ahead(due).map(Step::Later);
            return Poll::Ready(later.ok_or(PipeFault::Stopped(code)));
        }
        if state.held == 0 && state.end.is_some() {
            return Poll::Ready(Ok(Step::Done(())));
        }
        state.writer = Some(context.waker().clone());
        Poll::Pending
    }

    pub(super) fn finish(&self, due: Due) -> Result<(), PipeFault> {
        self.end(due, End::Finished)
    }

    /// Drops what was not read.
    pub(super) fn reset(&self, due: Due, code: StreamCode) {
        // An error says that the stream has ended before, which is as good.
        let _ = self.end(due, End::Reset(code));
    }

    fn end(&self, due: Due, end: End) -> Result<(), PipeFault> {
        let mut state = self.lock();
        if state.end.is_some() {
            return Err(PipeFault::Ended);
        }
        let due = state.behind_the_last(due);
        state.end = Some((due, end));
        if end != End::Finished {
            state.chunks.clear();
            state.held = 0;
        }
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
        Ok(())
    }

    /// The reader gives up; the writer hears of it at `due`.
    pub(super) fn stop(&self, due: Due, code: StreamCode) {
        let mut state = self.lock();
        state.stopped.get_or_insert((due, code));
        state.chunks.clear();
        state.held = 0;
        if let Some(writer) = state.writer.take() {
            writer.wake();
        }
    }
}

impl State {
    fn behind_the_last(&mut self, due: Due) -> Due {
        self.last = self.last.max(due);
        self.last
    }
}
