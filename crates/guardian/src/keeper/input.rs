//! What a kept child is given to read, on its way from its daemon to its standard input.
//!
//! A daemon that writes to a child's own pipe takes the knowledge of how far it was with it. So it
//! writes to a pipe of ours, and what arrives there is moved on: at its death all that it wrote is
//! in our hands or with the child, and the next daemon hears how much that is.

use std::os::fd::OwnedFd;

use rustix::event::epoll::EventFlags;
use rustix::io::{Errno, ioctl_fionread};
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
use sortie_model::limits;
use sortie_wire::guardian_proto::{ChildNumber, KeptInput};

use super::Keeper;
use crate::watch::{Source, Watcher};

/// How often an input is moved on before others have their turn.
const MOVES_AT_ONCE: u32 = 16;

/// The input of one child.
#[derive(Debug)]
pub(super) enum Input {
    /// It had none, or was told its end, or reads no more.
    Over,
    /// There may be more.
    Open(Passage),
}

/// The way to a child's standard input.
#[derive(Debug)]
pub(super) struct Passage {
    /// What the daemon writes to. Held besides it, so that its death is not taken for the end, and
    /// for the next one.
    entrance: OwnedFd,
    /// Where that is read.
    arrived: OwnedFd,
    /// The child's own pipe, once it runs.
    exit: Option<OwnedFd>,
    /// How many bytes went there.
    moved: u64,
    /// What is waited for.
    wait: Wait,
    /// What the watcher waits for.
    watched: Option<Wait>,
    /// Nothing more comes behind what has arrived.
    ends: bool,
}

/// What keeps bytes from being moved on. That the child reads no more is always heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// Nothing has arrived.
    Bytes,
    /// The child has not read what it has.
    Room,
}

impl Keeper {
    /// A child's input is at its end.
    pub(crate) fn end_input(&mut self, number: ChildNumber, watcher: &Watcher) {
        let Some(kept) = self.children.get_mut(&number) else { return };
        kept.input.end();
        let watched = kept.input.watch(number, watcher);
        self.on_watched(watched);
    }

    /// A child can be given more of its input, or reads no more.
    pub(crate) fn on_input_ready(
        &mut self,
        (number, flags): (ChildNumber, EventFlags),
        watcher: &Watcher,
    ) {
        let Some(kept) = self.children.get_mut(&number) else { return };
        kept.input.on_ready(flags);
        let watched = kept.input.watch(number, watcher);
        self.on_watched(watched);
    }
}

impl Input {
    /// That of a child that is about to start, and the end for its daemon.
    pub(super) fn open() -> Result<(Self, OwnedFd), Errno> {
        let (arrived, entrance) = pipe_with(PipeFlags::CLOEXEC)?;
        let given = rustix::io::fcntl_dupfd_cloexec(&entrance, 3)?;
        let (exit, wait, watched) = (None, Wait::Bytes, None);
        let passage = Passage { entrance, arrived, exit, moved: 0, wait, watched, ends: false };
        Ok((Self::Open(passage), given))
    }

    /// The child runs, and that is its pipe.
    pub(super) fn begin(&mut self, exit: OwnedFd) {
        if let Self::Open(passage) = self {
            passage.exit = Some(exit);
        }
    }

    /// Nothing more comes: what has arrived is still moved on.
    fn end(&mut self) {
        if let Self::Open(passage) = self {
            passage.ends = true;
        }
        self.go_on();
    }

    /// Something has arrived, or there is room, or the child reads no more.
    fn on_ready(&mut self, flags: EventFlags) {
        // Of a pipe that is read only the end that is written to is ever called broken.
        if flags.contains(EventFlags::ERR) {
            *self = Self::Over;
        }
        self.go_on();
    }

    /// Moves on what has arrived, as far as it goes now.
    fn go_on(&mut self) {
        if let Self::Open(passage) = self
            && passage.go_on() == Progress::Over
        {
            *self = Self::Over;
        }
    }

    /// Watches for what there is to wait for.
    ///
    /// # Errors
    /// When the system watches no more for us: to be tried again.
    pub(super) fn watch(&mut self, number: ChildNumber, watcher: &Watcher) -> Result<(), Errno> {
        let Self::Open(passage) = self else { return Ok(()) };
        passage.watch(number, watcher)
    }

    /// What there is to tell the next daemon of it, with the end for that. Where no descriptor is
    /// left to be had the rest is lost.
    pub(super) fn handed(&self) -> (KeptInput, Option<OwnedFd>) {
        match self {
            Self::Open(passage) if !passage.ends => passage.handed(),
            Self::Open(_) | Self::Over => (KeptInput::Whole, None),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    GoesOn,
    /// The child has all of it, or reads no more.
    Over,
}

impl Passage {
    fn go_on(&mut self) -> Progress {
        let Some(exit) = &self.exit else { return Progress::GoesOn };
        for _ in 0..MOVES_AT_ONCE {
            let (most, flags) = (limits::PIPE_BYTES, SpliceFlags::NONBLOCK);
            match splice(&self.arrived, None, exit, None, most, flags) {
                Ok(moved @ 1..) => self.moved += moved as u64,
                Err(Errno::INTR) => {}
                Err(Errno::PIPE) => return Progress::Over,
                // There is nothing, or no room; or no memory, and that is no end of an input.
                Ok(0) | Err(_) => break,
            }
        }
        self.wait = if self.waiting() > 0 { Wait::Room } else { Wait::Bytes };
        if self.ends && self.wait == Wait::Bytes { Progress::Over } else { Progress::GoesOn }
    }

    /// How many bytes have arrived and were not moved on.
    fn waiting(&self) -> u64 {
        ioctl_fionread(&self.arrived).unwrap_or(0)
    }

    fn watch(&mut self, number: ChildNumber, watcher: &Watcher) -> Result<(), Errno> {
        let Some(exit) = &self.exit else { return Ok(()) };
        if self.watched == Some(self.wait) {
            return Ok(());
        }
        let (arrived, room) = match self.wait {
            Wait::Bytes => (EventFlags::IN, EventFlags::empty()),
            Wait::Room => (EventFlags::empty(), EventFlags::OUT),
        };
        let source = Source::Input(number);
        if self.watched.is_none() {
            watcher.add(&self.arrived, source, arrived)?;
            if let Err(error) = watcher.add(exit, source, room) {
                watcher.remove(&self.arrived);
                return Err(error);
            }
        } else {
            watcher.change(&self.arrived, source, arrived)?;
            watcher.change(exit, source, room)?;
        }
        self.watched = Some(self.wait);
        Ok(())
    }

    fn handed(&self) -> (KeptInput, Option<OwnedFd>) {
        match self.entrance.try_clone() {
            Ok(end) => (KeptInput::HandedAt(self.moved + self.waiting()), Some(end)),
            Err(_) => (KeptInput::Lost, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A passage, its daemon's end, and the child's.
    fn passage() -> (Input, OwnedFd, OwnedFd) {
        let (mut input, given) = Input::open().expect("descriptors");
        let (read, exit) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
        input.begin(exit);
        (input, given, read)
    }

    fn write(end: &OwnedFd, bytes: &[u8]) -> Result<usize, Errno> {
        rustix::io::ioctl_fionbio(end, true)?;
        rustix::io::write(end, bytes)
    }

    fn read(end: &OwnedFd) -> Vec<u8> {
        let mut bytes = vec![0; 1 << 20];
        let length = rustix::io::read(end, &mut bytes).expect("open");
        bytes.truncate(length);
        bytes
    }

    fn written(input: &Input) -> u64 {
        match input.handed() {
            (KeptInput::HandedAt(bytes), Some(_)) => bytes,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_next_daemon_hears_how_much_was_written_wherever_it_is() {
        let (mut input, given, child) = passage();
        assert_eq!(written(&input), 0);
        // More than the child's pipe holds.
        let (mut sent, mut took) = (0, 0);
        for _ in 0..2 {
            sent += write(&given, &vec![7; 1 << 20]).expect("room");
            input.go_on();
            assert_eq!(written(&input), sent as u64);
        }
        write(&given, b"no room").expect_err("two pipes are full");
        drop(given);
        // The rest comes while no daemon is there.
        while took < sent {
            took += read(&child).len();
            input.go_on();
            assert_eq!(written(&input), sent as u64);
        }
        let (KeptInput::HandedAt(_), Some(next)) = input.handed() else { panic!("{input:?}") };
        assert_eq!(write(&next, b"more"), Ok(4));
        input.go_on();
        assert_eq!((read(&child), written(&input)), (b"more".to_vec(), sent as u64 + 4));
    }

    #[test]
    fn what_has_arrived_comes_before_the_end() {
        let (mut input, given, child) = passage();
        let mut sent = 0;
        while let Ok(more) = write(&given, &[7; 4096]) {
            sent += more;
            input.go_on();
        }
        input.end();
        assert_eq!(input.handed().0, KeptInput::Whole);
        let mut took = 0;
        loop {
            let bytes = read(&child);
            took += bytes.len();
            input.go_on();
            if bytes.is_empty() {
                break;
            }
        }
        assert_eq!(took, sent);
    }

    #[test]
    fn a_child_that_reads_no_more_lets_its_daemon_know() {
        let mut watcher = Watcher::new().expect("a descriptor");
        for sent in [b"".as_slice(), b"nobody"] {
            let (mut input, given, child) = passage();
            input.watch(ChildNumber(1), &watcher).expect("watched");
            drop(child);
            assert_eq!(write(&given, sent), Ok(sent.len()));
            let ready = watcher.wait(None).expect("an event");
            assert!(ready.iter().all(|(source, _)| *source == Source::Input(ChildNumber(1))));
            ready.into_iter().for_each(|(_, flags)| input.on_ready(flags));
            assert_eq!(input.handed().0, KeptInput::Whole);
            assert_eq!(write(&given, b"nobody"), Err(Errno::PIPE));
        }
    }
}
