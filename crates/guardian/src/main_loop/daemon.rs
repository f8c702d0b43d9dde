//! The daemon's end of the loop: requests, the next daemon's first one, its going away.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::event::epoll::EventFlags;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use sortie_exec::sys::channel::{Filled, Inbox, send};
use sortie_model::limits;
use sortie_model::spec::OsBytes;
use sortie_wire::frame::write_message;
use sortie_wire::guardian_proto::{
    ChildNumber, ContainmentChoice, GUARDIAN_VERSION, GuardianReport, GuardianRequest, Refusal,
};

use super::{Guardian, Progress};
use crate::keeper::{Daemon, Remains};
use crate::protocol::{Flushed, Outbox};
use crate::watch::{Source, Watcher};

/// A daemon, or somebody who has not said yet that it is one.
pub(super) struct Peer {
    socket: OwnedFd,
    inbox: Inbox,
    pid: u32,
    stage: Stage,
    interest: EventFlags,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Its first request has to come until then.
    Arriving {
        until: Instant,
    },
    Served,
}

/// A daemon's first request.
#[derive(Debug)]
pub(super) struct Begin {
    min: u16,
    max: u16,
    pub(super) containment: ContainmentChoice,
    pub(super) descriptors: Option<u64>,
    pub(super) keep: Option<OsBytes>,
}

impl Begin {
    fn of(request: GuardianRequest) -> Option<Self> {
        match request {
            GuardianRequest::Start { min, max, containment, descriptors, keep } => {
                Some(Self { min, max, containment, descriptors, keep })
            }
            _ => None,
        }
    }

    fn is_understood(&self) -> bool {
        (self.min..=self.max).contains(&GUARDIAN_VERSION)
    }
}

impl Peer {
    pub(super) fn new(socket: OwnedFd, pid: u32) -> Self {
        let stage = Stage::Arriving { until: Instant::now() + limits::GUARDIAN_HELLO };
        Self { socket, inbox: Inbox::default(), pid, stage, interest: EventFlags::IN }
    }

    pub(super) const fn pid(&self) -> u32 {
        self.pid
    }

    /// When it must have said who it is.
    pub(super) const fn deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::Arriving { until } => Some(until),
            Stage::Served => None,
        }
    }

    /// Waits for the first request; none when the daemon goes away instead.
    pub(super) fn wait_for_start(&mut self) -> io::Result<Option<Begin>> {
        loop {
            if let Some(request) = self.inbox.take().map_err(io::Error::other)? {
                return match Begin::of(request) {
                    Some(begin) => Ok(Some(begin)),
                    None => Err(io::ErrorKind::InvalidData.into()),
                };
            }
            match self.inbox.fill(&self.socket) {
                Ok(Filled::More) => {}
                Ok(Filled::Closed) => return Ok(None),
                Err(Errno::AGAIN) => {
                    poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], None)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub(super) fn watch(&self, watcher: &Watcher) -> Result<(), Errno> {
        watcher.add(&self.socket, Source::Daemon, self.interest)
    }

    /// Tells it that it is not served.
    pub(super) fn refuse(&self, why: Refusal) {
        refuse(&self.socket, why);
    }
}

/// Tells somebody, who may or may not listen, that it is not served.
fn refuse(socket: impl AsFd, why: Refusal) {
    let mut bytes = Vec::new();
    if write_message(&GuardianReport::Refused { why }, &mut bytes).is_ok() {
        let _ = send(socket, &bytes, &[]);
    }
}

/// Writes what the socket takes, and says what it is watched for then. Only behind the write is it
/// known whether requests may come: nothing else would say that there is room again.
fn write_to(socket: &OwnedFd, outbox: &mut Outbox, queue_has_room: bool) -> EventFlags {
    let mut interest = EventFlags::empty();
    interest.set(EventFlags::OUT, outbox.flush(socket) == Flushed::Partly);
    interest.set(EventFlags::IN, queue_has_room && !outbox.is_full());
    interest
}

impl Guardian {
    /// Begins to serve a daemon, which hears of what is kept first.
    pub(super) fn greet(&mut self, mut peer: Peer, begin: &Begin) {
        let served = begin.is_understood();
        if served && let Some(keeper) = &mut self.keeper {
            for (report, descriptors) in keeper.story() {
                self.outbox.push_with(&report, descriptors);
            }
            keeper.set_daemon(Daemon::There, &self.watcher);
        }
        self.outbox.push(&GuardianReport::Hello {
            min: GUARDIAN_VERSION,
            max: GUARDIAN_VERSION,
            pid: std::process::id(),
            containment: self.forest.containment(),
            next: ChildNumber(self.next_number),
        });
        peer.stage = Stage::Served;
        self.peer = Some(peer);
        if !served {
            self.flush();
            self.on_daemon_gone();
        }
    }

    /// Writes what the socket takes, and watches it for what it may do next.
    pub(super) fn flush(&mut self) {
        let queue_has_room = self.queued_bytes < limits::GUARDIAN_QUEUE_BYTES;
        let Some(peer) = &mut self.peer else { return };
        let interest = write_to(&peer.socket, &mut self.outbox, queue_has_room);
        if interest != peer.interest {
            // Fails only for what is not watched.
            let _ = self.watcher.change(&peer.socket, Source::Daemon, interest);
            peer.interest = interest;
        }
    }

    pub(super) fn on_daemon_ready(&mut self, flags: EventFlags) -> Progress {
        if flags.intersects(EventFlags::HUP | EventFlags::ERR) {
            return self.hear_out();
        }
        if flags.contains(EventFlags::IN) {
            return self.read_requests();
        }
        Progress::GoesOn
    }

    /// Does what a daemon that is gone has asked for before.
    fn hear_out(&mut self) -> Progress {
        let mut last = self.read_requests();
        while last == Progress::GoesOn && self.peer.is_some() {
            last = self.read_requests();
        }
        last
    }

    /// The process that we serve is dead: what it asked for before is done, also when its socket
    /// has not become ready yet.
    pub(super) fn on_daemon_dead(&mut self) -> Progress {
        if self.has_hung_up() {
            return self.hear_out();
        }
        // Somebody else holds its end.
        self.on_daemon_gone();
        Progress::GoesOn
    }

    /// Whether the daemon has closed its socket, also when what it wrote before was not read.
    fn has_hung_up(&self) -> bool {
        self.peer.as_ref().is_some_and(|peer| {
            let mut polled = [PollFd::new(&peer.socket, PollFlags::empty())];
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            let ready = poll(&mut polled, Some(&now)).is_ok_and(|ready| ready > 0);
            ready && polled.iter().any(|polled| polled.revents().contains(PollFlags::HUP))
        })
    }

    fn read_requests(&mut self) -> Progress {
        let Some(peer) = &mut self.peer else { return Progress::GoesOn };
        match peer.inbox.fill(&peer.socket) {
            Ok(Filled::More) => {}
            // Of a socket that is closed there is always something to read: its end.
            Err(Errno::AGAIN) => return Progress::GoesOn,
            Ok(Filled::Closed) | Err(_) => {
                self.on_daemon_gone();
                return Progress::GoesOn;
            }
        }
        loop {
            let Some(peer) = &mut self.peer else { return Progress::GoesOn };
            let stage = peer.stage;
            match (peer.inbox.take(), stage) {
                (Ok(Some(request)), Stage::Served) => {
                    if self.on_request(request) == Progress::Over(Remains::Nothing) {
                        return Progress::Over(Remains::Nothing);
                    }
                }
                (Ok(Some(request)), Stage::Arriving { .. }) => match Begin::of(request) {
                    Some(begin) => {
                        if let Some(peer) = self.peer.take() {
                            self.greet(peer, &begin);
                        }
                    }
                    None => self.on_daemon_gone(),
                },
                (Ok(None), _) => return Progress::GoesOn,
                // A daemon that does not speak the protocol is treated as one that is gone.
                (Err(_), _) => self.on_daemon_gone(),
            }
        }
    }

    /// Kills what is not kept. What is kept runs on.
    pub(super) fn on_daemon_gone(&mut self) {
        let Some(peer) = self.peer.take() else { return };
        self.watcher.remove(&peer.socket);
        self.outbox = Outbox::default();
        self.queue.clear();
        self.queued_bytes = 0;
        if let Some(keeper) = &mut self.keeper {
            keeper.set_daemon(Daemon::Away, &self.watcher);
        }
        let others: Vec<_> =
            self.children.keys().filter(|number| !self.is_kept(**number)).copied().collect();
        self.orders.kills.extend(others);
        self.let_others_go();
    }

    /// Whether somebody is there who may be told things.
    pub(super) fn serves(&self) -> bool {
        self.peer.as_ref().is_some_and(|peer| peer.stage == Stage::Served)
    }

    /// Lets the next daemon in, unless there is one.
    pub(super) fn answer_door(&mut self) -> Progress {
        if self.has_hung_up() && self.hear_out() != Progress::GoesOn {
            return Progress::Over(Remains::Nothing);
        }
        self.let_in();
        Progress::GoesOn
    }

    fn let_in(&mut self) {
        let Some(keeper) = &self.keeper else { return };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = match rustix::net::accept_with(keeper.door(), flags) {
            Ok(socket) => socket,
            Err(Errno::MFILE | Errno::NFILE) => return self.starter.turn_away(keeper.door()),
            Err(_) => return,
        };
        let Ok(found) = rustix::net::sockopt::socket_peercred(&socket) else { return };
        if found.uid != rustix::process::geteuid() {
            return;
        }
        if let Some(peer) = &self.peer {
            return refuse(&socket, Refusal::Busy { daemon: peer.pid() });
        }
        let peer = Peer::new(socket, found.pid.as_raw_nonzero().get().cast_unsigned());
        if peer.watch(&self.watcher).is_ok() {
            self.peer = Some(peer);
        }
    }

    /// Lets go of somebody who says nothing.
    pub(super) fn dismiss_silent(&mut self) {
        let deadline = self.peer.as_ref().and_then(Peer::deadline);
        if deadline.is_some_and(|until| until <= Instant::now()) {
            self.on_daemon_gone();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_daemon_that_reads_again_is_heard_again() {
        let (ours, mut daemon) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        daemon.set_nonblocking(true).unwrap();
        let (ours, mut outbox) = (OwnedFd::from(ours), Outbox::default());
        assert_eq!(write_to(&ours, &mut outbox, true), EventFlags::IN);
        assert_eq!(write_to(&ours, &mut outbox, false), EventFlags::empty());
        while !outbox.is_full() {
            outbox.push(&GuardianReport::Refused { why: Refusal::Busy { daemon: 1 } });
            outbox.flush(&ours);
        }
        assert_eq!(write_to(&ours, &mut outbox, true), EventFlags::OUT);
        let mut read = vec![0; 1 << 16];
        while daemon.read(&mut read).is_ok() {}
        assert_eq!(write_to(&ours, &mut outbox, true), EventFlags::IN);
    }
}
