//! The guardian's one loop: requests in, ends in, starts, kills, reports out.

mod daemon;
mod orders;
mod suspend;
mod tending;

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use sortie_exec::sys::control_group::Population;
use sortie_exec::sys::processes;
use sortie_exec::sys::signals::{self, SignalReader};
use sortie_exec::sys::spawn::SpawnFailure;
use sortie_model::limits;
use sortie_model::reason::SpawnStep;
use sortie_wire::guardian_proto::{
    ChildNumber, Deadline, GuardianReport, GuardianRequest, Program, SpawnRequest, StandardInput,
};

use crate::child::{Child, Life, Moving, Sent};
use crate::keeper::{Keeper, Remains};
use crate::memory::MemoryWatch;
use crate::protocol::Outbox;
use crate::spawn::{Started, Starter, fork};
use crate::tree::{Forest, Main, Mains};
use crate::watch::{Source, Watcher};

use daemon::{Begin, Peer};
use orders::Orders;

/// The pause between two kills of everything, at the end.
const END_PAUSE: Duration = Duration::from_millis(2);

/// Serves a daemon until it is gone, and then what it kept and the next one; then kills everything
/// below us.
pub(crate) fn run(socket: OwnedFd, daemon: u32) -> io::Result<()> {
    let signals = signals::take_over()?;
    processes::become_guardian()?;
    // A working directory would keep its file system busy; children have their own.
    rustix::process::chdir(c"/")?;
    let mut peer = Peer::new(socket, daemon);
    let Some(begin) = peer.wait_for_start()? else { return Ok(()) };
    let Some(mut guardian) = Guardian::new((peer, signals), begin)? else { return Ok(()) };
    let remains = loop {
        if let Progress::Over(remains) = guardian.turn()? {
            break remains;
        }
    };
    guardian.end(remains);
    Ok(())
}

/// Whether there is still somebody to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    GoesOn,
    Over(Remains),
}

struct Guardian {
    watcher: Watcher,
    /// The daemon; none while kept children wait for the next one.
    peer: Option<Peer>,
    signals: SignalReader,
    /// The process that made us.
    maker: u32,
    outbox: Outbox,
    forest: Forest,
    starter: Starter,
    children: HashMap<ChildNumber, Child>,
    mains: Mains,
    /// Children that were killed and are not gone.
    killing: HashSet<ChildNumber>,
    /// Children that do not do yet what they were told.
    moving: HashSet<ChildNumber>,
    /// Children that wait for their start.
    queue: VecDeque<Waiting>,
    queued_bytes: usize,
    orders: Orders,
    memory: MemoryWatch,
    /// Children that outlive their daemon, if there may be some.
    keeper: Option<Keeper>,
    /// The lowest number that no child has had.
    next_number: u64,
}

impl Guardian {
    /// None when what is kept belongs to another guardian; the daemon was told.
    fn new((peer, signals): (Peer, SignalReader), begin: Begin) -> io::Result<Option<Self>> {
        let mut starter = Starter::new()?;
        processes::raise_descriptor_limit();
        if let Some(count) = begin.descriptors {
            starter.spawner.limit_descriptors(count);
        }
        let forest = Forest::new(begin.containment, &mut starter.spawner);
        let keeper = match &begin.keep {
            None => None,
            Some(directory) => match Keeper::open(directory.as_bytes(), &forest.containment()) {
                Ok(keeper) => Some(keeper),
                Err(why) => {
                    forest.remove();
                    peer.refuse(why);
                    return Ok(None);
                }
            },
        };
        let watcher = Watcher::new()?;
        watcher.add(&signals, Source::Signals, EventFlags::IN)?;
        peer.watch(&watcher)?;
        if let Some(keeper) = &keeper {
            watcher.add(keeper.door(), Source::Door, EventFlags::IN)?;
            starter.hold_spare();
        }
        let mut guardian = Self {
            watcher,
            maker: peer.pid(),
            peer: None,
            signals,
            outbox: Outbox::default(),
            forest,
            starter,
            children: HashMap::new(),
            mains: Mains::new(),
            killing: HashSet::new(),
            moving: HashSet::new(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            orders: Orders::default(),
            memory: MemoryWatch::new(Instant::now()),
            next_number: keeper.as_ref().map_or(1, Keeper::next_number),
            keeper,
        };
        guardian.greet(peer, &begin);
        Ok(Some(guardian))
    }

    /// Waits until there is something to do, and does it.
    fn turn(&mut self) -> io::Result<Progress> {
        self.flush();
        let timeout = self.next_turn();
        let ready = self.watcher.wait(timeout.as_ref())?;
        let is_ready = |source| ready.iter().find(|(one, _)| *one == source).map(|found| found.1);
        // Ends come before requests: a program that has ended was not stopped by what comes now.
        if is_ready(Source::Signals).is_some() {
            let arrived = self.signals.read();
            if arrived.child {
                self.collect();
            }
            if arrived.terminate
                && self.is_made_by_nobody()
                && self.on_daemon_dead() == Progress::Over(Remains::Nothing)
            {
                return Ok(Progress::Over(Remains::Nothing));
            }
        }
        if let Some(flags) = is_ready(Source::Daemon)
            && self.on_daemon_ready(flags) == Progress::Over(Remains::Nothing)
        {
            return Ok(Progress::Over(Remains::Nothing));
        }
        if is_ready(Source::Door).is_some()
            && self.answer_door() == Progress::Over(Remains::Nothing)
        {
            return Ok(Progress::Over(Remains::Nothing));
        }
        for (source, flags) in ready {
            let Some(keeper) = &mut self.keeper else { break };
            match source {
                Source::Pipe(number, stream) => {
                    keeper.on_readable((number, stream), &self.watcher);
                }
                Source::Input(number) => keeper.on_input_ready((number, flags), &self.watcher),
                Source::Signals | Source::Daemon | Source::Door => {}
            }
        }
        self.obey();
        self.start_some();
        self.kill_again();
        self.move_again();
        self.tend();
        let is_kept = |keeper: &mut Keeper| keeper.is_needed() && keeper.can_be_found();
        let is_needed = self.peer.is_some() || self.keeper.as_mut().is_some_and(is_kept);
        Ok(if is_needed { Progress::GoesOn } else { Progress::Over(Remains::Facts) })
    }

    /// Whether the process that made us is dead, and the daemon that we serve is that one.
    fn is_made_by_nobody(&self) -> bool {
        let serves_maker = self.peer.as_ref().is_some_and(|peer| peer.pid() == self.maker);
        serves_maker && processes::parent() != Some(self.maker)
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
        let killing = killing.map(|killing| killing.again_at);
        // What cannot be reported now waits for the daemon.
        let moving = self.moving.iter().filter(|_| !self.outbox.is_full());
        let moving = moving.filter_map(|child| self.children.get(child)?.moving.again_at);
        let keeping = self.keeper.as_ref().and_then(Keeper::next_turn);
        let arriving = self.peer.as_ref().and_then(Peer::deadline);
        let next = killing.chain(moving).chain(keeping).chain(arriving).min()?;
        let wait = next.saturating_duration_since(Instant::now());
        Timespec::try_from(wait).ok()
    }

    fn on_request(&mut self, request: GuardianRequest) -> Progress {
        match request {
            GuardianRequest::Start { .. } => {}
            GuardianRequest::Spawn(request) => {
                self.queued_bytes += weight(&request);
                self.next_number = self.next_number.max(request.child.0.saturating_add(1));
                self.queue.push_back(Waiting { request: *request, deadline: None });
            }
            GuardianRequest::Signal { child, number } => {
                self.orders.signals.push((child, number, None));
            }
            GuardianRequest::Interrupt { child, number, why } => {
                self.orders.signals.push((child, number, Some(why)));
            }
            GuardianRequest::Kill { child } => {
                self.end_drain(child);
                self.orders.kills.push(child);
            }
            GuardianRequest::Finish { child } if self.is_kept(child) => self.end_drain(child),
            GuardianRequest::Finish { child } => self.orders.finishes.push(child),
            GuardianRequest::Withdraw { child } => self.orders.withdrawals.push(child),
            GuardianRequest::Stored { child, next } => {
                if let Some(keeper) = &mut self.keeper {
                    keeper.on_stored(child, next, &self.watcher);
                }
            }
            GuardianRequest::Forget { child } => {
                if let Some(keeper) = &mut self.keeper {
                    keeper.forget(child);
                }
            }
            GuardianRequest::CloseInput { child } => {
                if let Some(keeper) = &mut self.keeper {
                    keeper.end_input(child, &self.watcher);
                }
            }
            GuardianRequest::Move { child, motion } => self.orders.moves.push((child, motion)),
            GuardianRequest::Deadline { child, deadline } => self.set_deadline(child, deadline),
            GuardianRequest::End => return Progress::Over(Remains::Nothing),
        }
        Progress::GoesOn
    }

    fn start_some(&mut self) {
        for _ in 0..limits::GUARDIAN_STARTS_AT_ONCE {
            if self.outbox.is_full() {
                return;
            }
            let Some(Waiting { request, deadline }) = self.queue.pop_front() else { return };
            self.queued_bytes = self.queued_bytes.saturating_sub(weight(&request));
            let number = request.child;
            if let Err(failure) = self.start(request) {
                if let Some(keeper) = &mut self.keeper
                    && keeper.is_kept(number)
                {
                    keeper.withdraw(number);
                }
                self.report_failure(number, failure);
            } else if deadline.is_some() {
                self.set_deadline(number, deadline);
            }
        }
    }

    fn start(&mut self, mut request: SpawnRequest) -> Result<(), SpawnFailure> {
        let (number, input) = (request.child, request.input);
        let mut given = None;
        if let Some(keep) = request.keep.take() {
            let none = SpawnFailure { step: SpawnStep::Guardian, errno: Errno::OPNOTSUPP };
            let can_be = matches!(input, StandardInput::Null | StandardInput::Pipe);
            let keeper = self.keeper.as_mut().filter(|_| can_be).ok_or(none)?;
            given = keeper.admit(number, keep, input)?;
        }
        let mut tree = self
            .forest
            .plant(number)
            .map_err(|error| fork(Errno::from_io_error(&error).unwrap_or(Errno::NOMEM)))?;
        let memory = self.memory.mark(Instant::now());
        let Started { pid, pipes, next, script } =
            match self.starter.start(request, &self.forest, &tree) {
                Ok(started) => started,
                Err(failure) => {
                    self.forest.retire(tree);
                    return Err(failure);
                }
            };
        tree.set_main(Main::Ours(pid));
        self.mains.insert(pid, number);
        let life = next.map_or(Life::Main, Life::Init);
        let (sent, killing, moving, left_behind) = (Sent::Nothing, None, Moving::RUNNING, 0);
        let child =
            Child { life, tree, sent, killing, moving, left_behind, memory, _script: script };
        self.children.insert(number, child);
        let pid = pid.as_raw_nonzero().get().cast_unsigned();
        if self.is_kept(number) {
            self.begin_keeping((number, pid), pipes, (input, given));
        } else {
            self.outbox.push_with(&GuardianReport::Spawned { child: number, pid, input }, pipes);
        }
        Ok(())
    }

    fn report_failure(&mut self, child: ChildNumber, failure: SpawnFailure) {
        let SpawnFailure { step, errno } = failure;
        let errno = errno.raw_os_error();
        self.outbox.push(&GuardianReport::SpawnFailed { child, step, errno });
    }

    /// Kills everything below us and waits until it is gone, but not for ever: a process that
    /// hangs in the kernel dies when the kernel lets it.
    fn end(mut self, remains: Remains) {
        let until = Instant::now() + limits::GUARDIAN_END;
        self.queue.clear();
        while self.forest.kill_everything() == Population::Populated && Instant::now() < until {
            while processes::collect().is_some() {}
            let pause = Timespec::try_from(END_PAUSE).ok();
            let _ = poll(&mut [PollFd::new(&self.signals, PollFlags::IN)], pause.as_ref());
            self.signals.read();
        }
        self.forest.remove();
        if let Some(keeper) = self.keeper {
            keeper.leave(remains);
        }
    }
}

/// A child that waits for its start.
struct Waiting {
    request: SpawnRequest,
    /// What is due, counted from its start.
    deadline: Option<Deadline>,
}

/// What a waiting child costs, in bytes.
fn weight(request: &SpawnRequest) -> usize {
    let program = match &request.program {
        Program::Command(words) => words.as_bytes().len(),
        Program::Script { text, arguments } => text.len() + arguments.as_bytes().len(),
    };
    let note = request.keep.as_ref().map_or(0, |keep| keep.note.len());
    program + note + request.environment.as_bytes().len() + size_of::<SpawnRequest>()
}
