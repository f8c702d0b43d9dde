//! The guardian's one loop: requests in, ends in, starts, kills, reports out.

mod orders;

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use sortie_exec::sys::channel::{Filled, Inbox};
use sortie_exec::sys::control_group::Population;
use sortie_exec::sys::processes;
use sortie_exec::sys::signals::{self, SignalReader};
use sortie_exec::sys::spawn::SpawnFailure;
use sortie_model::limits;
use sortie_wire::guardian_proto::{
    ChildNumber, ContainmentChoice, GUARDIAN_VERSION, GuardianReport, GuardianRequest, Program,
    SpawnRequest,
};

use crate::child::{Child, Life, Sent};
use crate::memory::MemoryWatch;
use crate::protocol::{Flushed, Outbox};
use crate::spawn::{Starter, fork};
use crate::tree::{Forest, Main, Mains};

use orders::Orders;

/// The pause between two kills of everything, at the end.
const END_PAUSE: Duration = Duration::from_millis(2);

/// Serves a daemon until it is gone, then kills everything below us.
pub(crate) fn run(socket: OwnedFd, daemon: u32) -> io::Result<()> {
    let signals = signals::take_over()?;
    processes::become_guardian()?;
    // A working directory would keep its file system busy; children have their own.
    rustix::process::chdir(c"/")?;
    let Some((choice, inbox)) = first_request(&socket)? else { return Ok(()) };
    let mut starter = Starter::new()?;
    let forest = Forest::new(choice, &mut starter.spawner);
    let mut guardian = Guardian {
        socket,
        signals,
        daemon,
        inbox,
        outbox: Outbox::default(),
        forest,
        starter,
        children: HashMap::new(),
        mains: Mains::new(),
        killing: HashSet::new(),
        queue: VecDeque::new(),
        queued_bytes: 0,
        orders: Orders::default(),
        memory: MemoryWatch::new(Instant::now()),
    };
    guardian.outbox.push(&GuardianReport::Hello {
        version: GUARDIAN_VERSION,
        pid: std::process::id(),
        containment: guardian.forest.containment(),
    });
    while guardian.turn()? == Daemon::Alive {}
    guardian.end();
    Ok(())
}

/// Waits for the first request; none when the daemon goes away instead.
fn first_request(socket: &OwnedFd) -> io::Result<Option<(ContainmentChoice, Inbox)>> {
    let mut inbox = Inbox::default();
    loop {
        match inbox.take().map_err(io::Error::other)? {
            Some(GuardianRequest::Start { containment, descriptors, .. }) => {
                if let Some(count) = descriptors {
                    processes::limit_descriptors(count);
                }
                return Ok(Some((containment, inbox)));
            }
            Some(_) => return Err(io::ErrorKind::InvalidData.into()),
            None => {}
        }
        match inbox.fill(socket) {
            Ok(Filled::More) => {}
            Ok(Filled::Closed) => return Ok(None),
            Err(Errno::AGAIN) => {
                poll(&mut [PollFd::new(socket, PollFlags::IN)], None)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether there is still somebody to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Daemon {
    Alive,
    Gone,
}

struct Guardian {
    socket: OwnedFd,
    signals: SignalReader,
    /// The daemon's process id.
    daemon: u32,
    inbox: Inbox,
    outbox: Outbox,
    forest: Forest,
    starter: Starter,
    children: HashMap<ChildNumber, Child>,
    mains: Mains,
    /// Children that were killed and are not gone.
    killing: HashSet<ChildNumber>,
    /// Children that wait for their start.
    queue: VecDeque<SpawnRequest>,
    queued_bytes: usize,
    orders: Orders,
    memory: MemoryWatch,
}

impl Guardian {
    /// Waits until there is something to do, and does it.
    fn turn(&mut self) -> io::Result<Daemon> {
        let flushed = self.outbox.flush(&self.socket);
        let mut interest = PollFlags::empty();
        if self.may_read() {
            interest |= PollFlags::IN;
        }
        if flushed == Flushed::Partly {
            interest |= PollFlags::OUT;
        }
        let mut polled =
            [PollFd::new(&self.socket, interest), PollFd::new(&self.signals, PollFlags::IN)];
        let timeout = self.next_turn();
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [socket, signal] = polled.map(|polled| polled.revents());
        // Ends come before requests: a program that has ended was not stopped by what comes now.
        if signal.contains(PollFlags::IN) {
            let arrived = self.signals.read();
            if arrived.terminate && processes::parent() != Some(self.daemon) {
                return Ok(Daemon::Gone);
            }
            if arrived.child {
                self.collect();
            }
        }
        if socket.contains(PollFlags::IN) {
            if self.read_requests()? == Daemon::Gone {
                return Ok(Daemon::Gone);
            }
        } else if socket.intersects(PollFlags::HUP | PollFlags::ERR) {
            return Ok(Daemon::Gone);
        }
        self.obey();
        self.start_some();
        self.kill_again();
        Ok(Daemon::Alive)
    }

    fn may_read(&self) -> bool {
        self.queued_bytes < limits::GUARDIAN_QUEUE_BYTES && !self.outbox.is_full()
    }

    fn may_start(&self) -> bool {
        !self.queue.is_empty() && !self.outbox.is_full()
    }

    /// How long to wait for something to happen.
    fn next_turn(&self) -> Option<Timespec> {
        if self.may_start() {
            return Some(Timespec { tv_sec: 0, tv_nsec: 0 });
        }
        let killing = self.killing.iter().filter_map(|child| self.children.get(child)?.killing);
        let next = killing.map(|killing| killing.again_at).min()?;
        let wait = next.saturating_duration_since(Instant::now());
        Timespec::try_from(wait).ok()
    }

    fn read_requests(&mut self) -> io::Result<Daemon> {
        match self.inbox.fill(&self.socket) {
            Ok(Filled::More) => {}
            Err(Errno::AGAIN) => return Ok(Daemon::Alive),
            Ok(Filled::Closed) | Err(_) => return Ok(Daemon::Gone),
        }
        // A daemon that does not speak the protocol is treated as one that is gone.
        loop {
            match self.inbox.take() {
                Ok(Some(request)) => self.on_request(request),
                Ok(None) => return Ok(Daemon::Alive),
                Err(_) => return Ok(Daemon::Gone),
            }
        }
    }

    fn on_request(&mut self, request: GuardianRequest) {
        match request {
            GuardianRequest::Start { .. } => {}
            GuardianRequest::Spawn(request) => {
                self.queued_bytes += weight(&request);
                self.queue.push_back(*request);
            }
            GuardianRequest::Signal { child, number } => self.orders.signals.push((child, number)),
            GuardianRequest::Kill { child } => self.orders.kills.push(child),
            GuardianRequest::Finish { child } => self.orders.finishes.push(child),
            GuardianRequest::Withdraw { child } => self.orders.withdrawals.push(child),
        }
    }

    fn start_some(&mut self) {
        for _ in 0..limits::GUARDIAN_STARTS_AT_ONCE {
            if self.outbox.is_full() {
                return;
            }
            let Some(request) = self.queue.pop_front() else { return };
            self.queued_bytes = self.queued_bytes.saturating_sub(weight(&request));
            self.start(request);
        }
    }

    fn start(&mut self, request: SpawnRequest) {
        let (number, input) = (request.child, request.input);
        let mut tree = match self.forest.plant(number) {
            Ok(tree) => tree,
            Err(error) => {
                let errno = Errno::from_io_error(&error).unwrap_or(Errno::NOMEM);
                return self.report_failure(number, fork(errno));
            }
        };
        let memory = self.memory.mark(Instant::now());
        match self.starter.start(request, &self.forest, &tree) {
            Ok(started) => {
                let pid = started.pid;
                tree.set_main(Main::Ours(pid));
                self.mains.insert(pid, number);
                let life = started.next.map_or(Life::Main, Life::Init);
                self.children.insert(
                    number,
                    Child {
                        life,
                        tree,
                        sent: Sent::Nothing,
                        killing: None,
                        left_behind: 0,
                        memory,
                        _script: started.script,
                    },
                );
                let pid = pid.as_raw_nonzero().get().cast_unsigned();
                let report = GuardianReport::Spawned { child: number, pid, input };
                self.outbox.push_with(&report, started.pipes);
            }
            Err(failure) => {
                self.forest.retire(tree);
                self.report_failure(number, failure);
            }
        }
    }

    fn report_failure(&mut self, child: ChildNumber, failure: SpawnFailure) {
        let SpawnFailure { step, errno } = failure;
        let errno = errno.raw_os_error();
        self.outbox.push(&GuardianReport::SpawnFailed { child, step, errno });
    }

    /// Kills everything below us and waits until it is gone, but not for ever: a process that
    /// hangs in the kernel dies when the kernel lets it.
    fn end(mut self) {
        let until = Instant::now() + limits::GUARDIAN_END;
        self.queue.clear();
        while self.forest.kill_everything() == Population::Populated && Instant::now() < until {
            while processes::collect().is_some() {}
            let pause = Timespec::try_from(END_PAUSE).ok();
            let _ = poll(&mut [PollFd::new(&self.signals, PollFlags::IN)], pause.as_ref());
            self.signals.read();
        }
        self.forest.remove();
    }
}

/// What a waiting child costs, in bytes.
fn weight(request: &SpawnRequest) -> usize {
    let program = match &request.program {
        Program::Command(words) => words.as_bytes().len(),
        Program::Script { text, arguments } => text.len() + arguments.as_bytes().len(),
    };
    program + request.environment.as_bytes().len() + size_of::<SpawnRequest>()
}
