//! What the guardian waits for.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use sortie_model::Stream;
use sortie_model::limits;
use sortie_wire::guardian_proto::ChildNumber;

/// Something that may become ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Signals,
    /// The daemon's socket.
    Daemon,
    /// Where the next daemon knocks.
    Door,
    /// A kept child's output.
    Pipe(ChildNumber, Stream),
    /// Either pipe that a kept child's input goes through.
    Input(ChildNumber),
}

/// What is watched, with thousands of pipes.
pub(crate) struct Watcher {
    epoll: OwnedFd,
    events: Vec<Event>,
}

impl Watcher {
    pub(crate) fn new() -> Result<Self, Errno> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, events: Vec::with_capacity(limits::KEPT_READS_AT_ONCE) })
    }

    pub(crate) fn add(
        &self,
        what: impl AsFd,
        source: Source,
        interest: EventFlags,
    ) -> Result<(), Errno> {
        epoll::add(&self.epoll, what, source.data(), interest)
    }

    pub(crate) fn change(
        &self,
        what: impl AsFd,
        source: Source,
        interest: EventFlags,
    ) -> Result<(), Errno> {
        epoll::modify(&self.epoll, what, source.data(), interest)
    }

    pub(crate) fn remove(&self, what: impl AsFd) {
        // Fails only for what is not watched.
        let _ = epoll::delete(&self.epoll, what);
    }

    /// Waits until something is ready, or for that long.
    pub(crate) fn wait(
        &mut self,
        timeout: Option<&Timespec>,
    ) -> Result<Vec<(Source, EventFlags)>, Errno> {
        self.events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), timeout) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        Ok(self.events.iter().map(|event| (Source::of(event.data), event.flags)).collect())
    }
}

impl Source {
    /// The lowest two bits tell pipes from each other and from the rest; a child's number is above
    /// them, which leaves more numbers than a guardian can ever give.
    fn data(self) -> EventData {
        EventData::new_u64(match self {
            Self::Signals => 0,
            Self::Daemon => 1 << 2,
            Self::Door => 2 << 2,
            Self::Pipe(child, Stream::Error) => child.0 << 2 | 2,
            Self::Pipe(child, _) => child.0 << 2 | 1,
            Self::Input(child) => child.0 << 2 | 3,
        })
    }

    fn of(data: EventData) -> Self {
        let data = data.u64();
        match (data & 3, data >> 2) {
            (0, 0) => Self::Signals,
            (0, 1) => Self::Daemon,
            (0, _) => Self::Door,
            (1, child) => Self::Pipe(ChildNumber(child), Stream::Output),
            (2, child) => Self::Pipe(ChildNumber(child), Stream::Error),
            (_, child) => Self::Input(ChildNumber(child)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_found_again() {
        let child = ChildNumber(7);
        for source in [
            Source::Signals,
            Source::Daemon,
            Source::Door,
            Source::Pipe(child, Stream::Output),
            Source::Pipe(child, Stream::Error),
            Source::Input(child),
        ] {
            assert_eq!(Source::of(source.data()), source);
        }
    }
}
