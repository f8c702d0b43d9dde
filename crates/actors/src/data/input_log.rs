//! A job's input between the client that sends it and the children, or the map, that read it.

mod place;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use sortie_model::{Ordinal, limits};
use sortie_store::LastingInput;
use sortie_store::input_file::InputFile;
use sortie_store::journal::InputState;
use sortie_store::lasting_input::InputSync;
use tokio::sync::Notify;

use self::place::Place;

/// Whether the client waits for the readers, or stores everything and goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// At most a window ahead of the slowest reader.
    Readers,
    /// As fast as it can be stored, up to [`limits::STORED_INPUT_BYTES`].
    Store,
}

/// How the input ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    NotYet,
    Reached,
    /// The client died before.
    Lost,
}

/// Why input cannot be stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InputError {
    #[error("the input is larger than the {} bytes that can be stored", limits::STORED_INPUT_BYTES)]
    TooLarge,
    #[error("the input cannot be stored: {0}")]
    Disk(#[from] std::io::Error),
    #[error("nobody reads the input any more")]
    Unwanted,
}

/// What a reader finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Bytes.
    Bytes(Bytes),
    /// The end.
    End,
    /// The client died before the end.
    Lost,
}

/// The input of one job.
#[derive(Debug)]
pub(crate) struct InputLog {
    state: Mutex<State>,
    changed: Notify,
    pace: Pace,
    /// How many readers there will be; the prefix that all of them have read is freed.
    readers: u64,
    /// An earlier life of the node stored it, and may have handed it out.
    is_of_before: bool,
}

#[derive(Debug)]
struct State {
    file: Place,
    end: End,
    /// Where each present reader is.
    reading: HashMap<Ordinal, u64>,
    /// Readers that ever came or never will.
    came: u64,
    /// Children whose reader is among those.
    known: HashSet<Ordinal>,
    closed: bool,
    /// How long it was when it was closed.
    length: u64,
}

impl InputLog {
    pub(crate) fn new(directory: &Path, pace: Pace, readers: u64) -> Arc<Self> {
        Self::of(Place::Fleeting(InputFile::new(directory)), pace, readers, false)
    }

    /// That of a new job which outlives its node.
    pub(crate) fn lasting(input: LastingInput, readers: u64) -> Arc<Self> {
        let place = Place::Lasting(input, InputState::Nothing);
        Self::of(place, Pace::Store, readers, false)
    }

    /// What an earlier life of the node stored.
    pub(crate) fn recovered(input: LastingInput, stored: InputState) -> Arc<Self> {
        let log = Self::of(Place::Lasting(input, stored), Pace::Store, u64::MAX, true);
        match stored {
            InputState::Whole(_) => log.finish(),
            InputState::Begun(_) | InputState::Nothing | InputState::BrokeOff => log.lose(),
        }
        log
    }

    fn of(file: Place, pace: Pace, readers: u64, is_of_before: bool) -> Arc<Self> {
        let state = State {
            file,
            end: End::NotYet,
            reading: HashMap::new(),
            came: 0,
            known: HashSet::new(),
            closed: false,
            length: 0,
        };
        let (state, changed) = (Mutex::new(state), Notify::new());
        Arc::new(Self { state, changed, pace, readers, is_of_before })
    }

    /// What an earlier life of the node did not hand over went with it.
    pub(crate) fn lost(directory: &Path) -> Arc<Self> {
        let place = Place::Fleeting(InputFile::new(directory));
        let log = Self::of(place, Pace::Store, u64::MAX, true);
        log.lose();
        log
    }

    /// What stays of a job that is over, and is not read here any more.
    pub(crate) fn retired(input: LastingInput, stored: InputState) -> Arc<Self> {
        let log = Self::of(Place::Lasting(input, stored), Pace::Store, u64::MAX, true);
        log.retire();
        log
    }

    /// Whether somebody may have read of it that an earlier life of the node had.
    pub(crate) const fn is_of_before(&self) -> bool {
        self.is_of_before
    }

    /// What of it is on the disk, as the journal is to know it.
    pub(crate) fn stored(&self) -> InputState {
        match self.state().file {
            Place::Fleeting(_) | Place::Gone => InputState::Nothing,
            Place::Lasting(_, stored) => stored,
        }
    }

    /// Whether it is stored for longer than the node lives.
    pub(crate) fn lasts(&self) -> bool {
        matches!(self.state().file, Place::Lasting(..))
    }

    /// What brings all that was written so far to the disk, if it is to last.
    pub(crate) fn sync(&self) -> Option<InputSync> {
        let state = self.state();
        match &state.file {
            Place::Lasting(input, _) if !state.closed => Some(input.sync()),
            Place::Lasting(..) | Place::Fleeting(_) | Place::Gone => None,
        }
    }

    /// So much is on the disk.
    pub(crate) fn set_stored(&self, now: InputState) {
        if let Place::Lasting(_, stored) = &mut self.state().file {
            *stored = now;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds bytes, waiting while the slowest reader is a window behind.
    pub(crate) async fn write(&self, bytes: Bytes) -> Result<(), InputError> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let mut state = self.state();
                if state.closed || state.nobody_comes(self.readers) {
                    return Err(InputError::Unwanted);
                }
                if state.file.kept() + bytes.len() as u64 > limits::STORED_INPUT_BYTES {
                    return Err(InputError::TooLarge);
                }
                if self.pace == Pace::Store || state.ahead() < limits::INPUT_WINDOW_BYTES as u64 {
                    state.file.append(bytes)?;
                    break;
                }
            }
            changed.await;
        }
        self.changed.notify_waiters();
        Ok(())
    }

    /// The input is complete.
    pub(crate) fn finish(&self) {
        self.end(End::Reached);
    }

    /// The client died before the end.
    pub(crate) fn lose(&self) {
        self.end(End::Lost);
    }

    /// Whether all of it came, once that is known. What nobody wants any more counts as whole,
    /// unless a part was lost before.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn is_whole(&self) -> bool {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let state = self.state();
                let unwanted = state.closed || state.nobody_comes(self.readers);
                if unwanted || state.end != End::NotYet {
                    return state.end != End::Lost;
                }
            }
            changed.await;
        }
    }

    fn end(&self, end: End) {
        let mut state = self.state();
        if !state.closed && state.end == End::NotYet {
            state.end = end;
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Nobody wants the input any more: what is stored is freed, a writer learns it.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        if !state.closed {
            state.length = state.file.len();
        }
        let gone = std::mem::replace(&mut state.file, Place::Gone);
        state.closed = true;
        drop(state);
        self.changed.notify_waiters();
        gone.remove();
    }

    /// The same, but what is stored stays until the log is [closed](Self::close).
    pub(crate) fn retire(&self) {
        let mut state = self.state();
        state.length = state.file.len();
        if let Place::Lasting(input, _) = &mut state.file {
            input.release();
        }
        state.closed = true;
        drop(state);
        self.changed.notify_waiters();
    }

    #[cfg(test)]
    pub(crate) fn kept(&self) -> u64 {
        self.state().file.kept()
    }

    #[cfg(test)]
    pub(crate) fn readers_now(&self) -> usize {
        self.state().reading.len()
    }

    /// A new reader, at the beginning: a child's, or a map's with the first ordinal.
    pub(crate) fn reader(self: &Arc<Self>, child: Ordinal) -> InputReader {
        let mut state = self.state();
        if state.known.insert(child) {
            state.came += 1;
        }
        state.reading.insert(child, 0);
        drop(state);
        self.changed.notify_waiters();
        InputReader { log: Arc::clone(self), name: child }
    }

    /// The child has ended: if it has not read by now it never will, and nothing is kept for it.
    pub(crate) fn child_ended(&self, child: Ordinal) {
        let mut state = self.state();
        if !state.known.insert(child) {
            return;
        }
        state.came += 1;
        if !state.reading.is_empty() {
            state.free(self.readers);
        }
        drop(state);
        self.changed.notify_waiters();
    }
}

impl State {
    /// How far the writer is ahead of the slowest present reader.
    fn ahead(&self) -> u64 {
        self.file.len() - self.reading.values().min().copied().unwrap_or(0)
    }

    fn nobody_comes(&self, readers: u64) -> bool {
        self.reading.is_empty() && self.came >= readers
    }
}

/// One reader; dropping it lets the others and the writer go on without it.
#[derive(Debug)]
pub(crate) struct InputReader {
    log: Arc<InputLog>,
    name: Ordinal,
}

impl InputReader {
    /// The next bytes, once there are some.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is consumed before it is returned.
    pub(crate) async fn next(&mut self) -> Piece {
        let (offset, piece) = self.peek(0, limits::RECORD_BYTES).await;
        if let Piece::Bytes(bytes) = &piece {
            self.advance_to(offset + bytes.len() as u64);
        }
        piece
    }

    /// At most `most` bytes from `offset` on, or from where the reader is if that is later, once
    /// there are some; and from where they are. They stay.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn peek(&self, offset: u64, most: usize) -> (u64, Piece) {
        loop {
            let changed = self.log.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(found) = self.look(offset, most) {
                return found;
            }
            changed.await;
        }
    }

    fn look(&self, offset: u64, most: usize) -> Option<(u64, Piece)> {
        let state = self.log.state();
        let offset = offset.max(state.reading.get(&self.name).copied().unwrap_or(0));
        if state.closed {
            // Who has not read all of it by then does not take that for the end.
            let has_all = state.end == End::Reached && offset >= state.length;
            return Some((offset, if has_all { Piece::End } else { Piece::Lost }));
        }
        // A disk that cannot be read back is an input that was lost.
        let Ok(bytes) = state.file.read(offset, most) else {
            return Some((offset, Piece::Lost));
        };
        if !bytes.is_empty() {
            return Some((offset, Piece::Bytes(bytes)));
        }
        match state.end {
            End::NotYet => None,
            End::Reached => Some((offset, Piece::End)),
            End::Lost => Some((offset, Piece::Lost)),
        }
    }

    /// What lies before `offset` is not read again.
    pub(crate) fn advance_to(&self, offset: u64) {
        let mut state = self.log.state();
        state.reading.insert(self.name, offset);
        state.free(self.log.readers);
        drop(state);
        self.log.changed.notify_waiters();
    }
}

impl State {
    fn free(&mut self, readers: u64) {
        if self.came >= readers {
            let read = self.reading.values().min().copied().unwrap_or(0);
            self.file.free_below(read);
        }
    }
}

impl Drop for InputReader {
    fn drop(&mut self) {
        let mut state = self.log.state();
        state.reading.remove(&self.name);
        if !state.reading.is_empty() {
            state.free(self.log.readers);
        }
        drop(state);
        self.log.changed.notify_waiters();
    }
}
