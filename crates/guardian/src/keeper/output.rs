//! What one kept child writes: from its pipes to its log.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use sortie_model::{Body, ChildKey, Record, Seq, Stream, Timestamp, limits};
use sortie_store::segment::{Known, OutputDirectory, OutputLog, SegmentError, Taken};
use sortie_wire::guardian_proto::{ChildNumber, Lack};

use crate::watch::{Source, Watcher};

/// What a pipe holds unless it is grown.
const UNGROWN_PIPE_BYTES: usize = 64 << 10;
/// What a record takes on the disk besides its body.
const RECORD_HEAD_BYTES: u64 = 25;
/// Records whose bytes are counted together, up to this many bytes.
const COUNTED_TOGETHER: u64 = 64 << 10;

/// The output of one child.
#[derive(Debug)]
pub(super) struct Output {
    directory: OutputDirectory,
    child: ChildKey,
    /// None when it is damaged: then nothing more can be written.
    log: Option<OutputLog>,
    pipes: [Option<Pipe>; 2],
    /// Was read and could not be written yet.
    unwritten: Option<Record>,
    /// How many bytes there are up to each of these numbers, that the daemon has not stored.
    unstored: VecDeque<(Seq, u64)>,
    unstored_bytes: u64,
    /// The number of the next record.
    next: Seq,
    /// The number after the last record that is there: less than the next one when a new life of
    /// the child begins behind what somebody else wrote.
    end: Seq,
    /// All before it were stored by the daemon.
    stored: Seq,
}

#[derive(Debug)]
struct Pipe {
    end: OwnedFd,
    watched: bool,
    grown: bool,
}

/// What a read of a pipe brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Got {
    /// So many bytes, which were written.
    Written(u64),
    /// Bytes that could not be written.
    Stuck(Lack),
    /// Nothing is there now.
    Nothing,
    /// The pipe is closed.
    End,
}

/// How long a log is read further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// As its bound allows.
    Bound(u64),
    /// Not now.
    Halted,
}

impl Output {
    /// The output of a child that is about to start, whose first record is to have that number.
    pub(super) fn open(
        directory: OutputDirectory,
        child: ChildKey,
        first: Seq,
    ) -> Result<Self, SegmentError> {
        let log = open(&directory, child, first)?;
        let next = log.next();
        if next > first {
            return Err(SegmentError::Gap { next, given: first });
        }
        Ok(Self {
            directory,
            child,
            log: Some(log),
            pipes: [None, None],
            unwritten: None,
            unstored: VecDeque::new(),
            unstored_bytes: 0,
            next,
            end: first,
            stored: first,
        })
    }

    /// Goes on counting what an earlier life of the child wrote.
    pub(super) fn inherit(&mut self, earlier: Self) {
        self.stored = earlier.stored;
        self.end = earlier.end;
        self.unstored = earlier.unstored;
        self.unstored_bytes = earlier.unstored_bytes;
    }

    /// The output of a child that does not run any more, as far as it can be read.
    pub(super) fn left(directory: OutputDirectory, child: ChildKey, first: Seq) -> Self {
        let log = open(&directory, child, Seq(0)).ok();
        let end = log.as_ref().map_or(Seq(0), OutputLog::next);
        Self {
            directory,
            child,
            log,
            pipes: [None, None],
            unwritten: None,
            unstored: VecDeque::new(),
            unstored_bytes: 0,
            next: end,
            end,
            stored: first,
        }
    }

    /// That is the oldest record that is still there.
    pub(super) const fn begin_at(&mut self, oldest: Seq) {
        self.stored = oldest;
    }

    /// The number after the last record that can be read.
    pub(super) const fn end(&self) -> Seq {
        self.end
    }

    /// The oldest record that the daemon has not stored.
    pub(super) const fn stored(&self) -> Seq {
        self.stored
    }

    /// Takes the reading ends of a child's stdout and stderr.
    pub(super) fn take_pipes(&mut self, ends: [OwnedFd; 2]) -> Result<(), Errno> {
        for (place, end) in self.pipes.iter_mut().zip(ends) {
            rustix::io::ioctl_fionbio(&end, true)?;
            *place = Some(Pipe { end, watched: false, grown: false });
        }
        Ok(())
    }

    pub(super) const fn is_closed(&self) -> bool {
        matches!(self.pipes, [None, None])
    }

    /// Whether the daemon has not stored all that was written.
    pub(super) const fn is_owed(&self) -> bool {
        self.unstored_bytes > 0
    }

    /// Whether something was read and is not written.
    pub(super) const fn is_stuck(&self) -> bool {
        self.unwritten.is_some()
    }

    /// What of it waits in memory, in bytes.
    pub(super) fn unwritten_bytes(&self) -> usize {
        self.unwritten.as_ref().map_or(0, |record| record.body.len())
    }

    /// Watches the pipes, or does not, as the flow says.
    ///
    /// # Errors
    /// When the system watches no more for us: to be tried again.
    pub(super) fn watch(
        &mut self,
        number: ChildNumber,
        watcher: &Watcher,
        flow: Flow,
    ) -> Result<(), Errno> {
        let wanted = match flow {
            Flow::Bound(bytes) => !self.is_stuck() && self.unstored_bytes < bytes,
            Flow::Halted => false,
        };
        for (stream, pipe) in STREAMS.into_iter().zip(&mut self.pipes) {
            let Some(pipe) = pipe else { continue };
            if wanted && !pipe.watched {
                let source = Source::Pipe(number, stream);
                watcher.add(&pipe.end, source, EventFlags::IN)?;
                pipe.watched = true;
            } else if !wanted && pipe.watched {
                watcher.remove(&pipe.end);
                pipe.watched = false;
            }
        }
        Ok(())
    }

    /// Reads a pipe once and appends what came, as one record.
    pub(super) fn read(&mut self, stream: Stream, scratch: &mut [u8]) -> Got {
        if self.is_stuck() {
            return Got::Nothing;
        }
        let [output, error] = &mut self.pipes;
        let place = if stream == Stream::Error { error } else { output };
        let Some(pipe) = place else { return Got::Nothing };
        let length = match rustix::io::read(&pipe.end, &mut *scratch) {
            Ok(0) => {
                *place = None;
                return Got::End;
            }
            Ok(length) => length,
            Err(Errno::AGAIN | Errno::INTR) => return Got::Nothing,
            Err(_) => {
                *place = None;
                return Got::End;
            }
        };
        if length >= UNGROWN_PIPE_BYTES && !pipe.grown {
            pipe.grown = true;
            // Refused when the user's pipes hold too much already; then it stays small.
            let _ = rustix::pipe::fcntl_setpipe_size(&pipe.end, limits::PIPE_BYTES);
        }
        let bytes = Bytes::copy_from_slice(scratch.get(..length).unwrap_or_default());
        let time = Timestamp::of(SystemTime::now());
        let record = Record { seq: self.next, stream, time, body: Body::Bytes(bytes) };
        self.append(record)
    }

    /// Tries again to write what could not be written.
    pub(super) fn retry(&mut self) -> Got {
        let Some(record) = self.unwritten.take() else { return Got::Nothing };
        if self.log.is_none() {
            self.log = open(&self.directory, self.child, record.seq).ok();
        }
        self.append(record)
    }

    fn append(&mut self, record: Record) -> Got {
        let Some(log) = &mut self.log else {
            self.unwritten = Some(record);
            return Got::Stuck(Lack::Other);
        };
        // A log that was opened again may have it: its write was whole and then failed.
        let result = if log.next() > record.seq {
            Ok(())
        } else {
            log.append(std::slice::from_ref(&record))
        };
        match result {
            Ok(()) => {
                self.next = record.seq.after(1);
                self.end = self.next;
                let bytes = record.body.len() as u64 + RECORD_HEAD_BYTES;
                self.count(bytes);
                Got::Written(bytes)
            }
            Err(error) => {
                self.unwritten = Some(record);
                if matches!(error, SegmentError::Failed) {
                    self.log = None;
                }
                Got::Stuck(if error.is_lack_of_space() { Lack::Room } else { Lack::Other })
            }
        }
    }

    fn count(&mut self, bytes: u64) {
        self.unstored_bytes += bytes;
        match self.unstored.back_mut() {
            Some((next, counted)) if *counted < COUNTED_TOGETHER => {
                *next = self.next;
                *counted += bytes;
            }
            _ => self.unstored.push_back((self.next, bytes)),
        }
    }

    /// The daemon has all before that number.
    pub(super) fn on_stored(&mut self, next: Seq) {
        self.stored = self.stored.max(next.min(self.next));
        while let Some((end, bytes)) = self.unstored.front()
            && *end <= next
        {
            self.unstored_bytes = self.unstored_bytes.saturating_sub(*bytes);
            self.unstored.pop_front();
        }
        if let Some(log) = &mut self.log {
            // What cannot be removed now is tried again with the next.
            let _ = log.free(&Taken::all_below(next));
        }
    }

    /// Nothing more is to be read: the child has ended, and so has what it left.
    pub(super) fn close(&mut self, watcher: &Watcher) {
        for pipe in self.pipes.iter_mut().filter_map(Option::take) {
            if pipe.watched {
                watcher.remove(&pipe.end);
            }
        }
        if let Some(log) = &mut self.log {
            // On a full disk it stays open, which costs a descriptor.
            let _ = log.seal();
            let _ = log.free(&Taken::all_below(self.stored));
        }
    }

    /// Removes all of it.
    pub(super) fn remove(mut self) {
        self.stored = Seq(u64::MAX);
        if let Some(log) = &mut self.log {
            if log.seal().is_err() {
                // The whole file system may be full: what cannot be closed goes with the job.
                return;
            }
            let _ = log.free(&Taken::all_below(self.stored));
        }
    }
}

pub(super) const STREAMS: [Stream; 2] = [Stream::Output, Stream::Error];

/// The directory as the guardian writes to it.
pub(super) fn directory(root: &std::path::Path) -> OutputDirectory {
    OutputDirectory::new(Arc::new(super::disk::UnsyncedDisk), root)
}

fn open(
    directory: &OutputDirectory,
    child: ChildKey,
    first: Seq,
) -> Result<OutputLog, SegmentError> {
    let known = Known { stored: Seq(0), taken: first };
    let log = OutputLog::open(directory.clone(), child, known)?;
    Ok(log.with_segments_of(limits::KEPT_SEGMENT_BYTES))
}
