//! Children that outlive their daemon: what they write, and what there is to tell of them.
//!
//! Their trees are held like all others'. Here is the rest: their pipes, which are read into logs,
//! and their ends, which wait until a daemon has them for good.

mod alone;
mod disk;
mod ends;
mod file;
mod input;
mod output;
mod start;

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use sortie_exec::keep::{KeepPlace, PlaceLock};
use sortie_model::facts::Interruption;
use sortie_model::{ChildKey, JobInstance, Seq, Stream, Timestamp, limits};
use sortie_store::segment::OutputDirectory;
use sortie_wire::guardian_proto::{ChildNumber, GuardianReport, Keep, Lack};

use crate::watch::Watcher;
use alone::{Due, Stood};
use disk::Room;
use file::ChildFile;
use input::Input;
use output::{Flow, Got, Output};

/// Everything that is kept.
#[derive(Debug)]
pub(crate) struct Keeper {
    place: KeepPlace,
    lock: PlaceLock,
    directory: OutputDirectory,
    /// Where the next daemon knocks.
    door: OwnedFd,
    children: HashMap<ChildNumber, Kept>,
    numbers: HashMap<ChildKey, ChildNumber>,
    /// How many children of each job there are.
    jobs: HashMap<JobInstance, u32>,
    /// Children that wrote something since that was last reported.
    news: HashSet<ChildNumber>,
    /// Children that have ended, and whose pipes or trees have not.
    ending: HashSet<ChildNumber>,
    /// Children of which something could not be written.
    stuck: HashSet<ChildNumber>,
    daemon: Daemon,
    room: Room,
    /// Nothing is read before this moment.
    halted_until: Option<Instant>,
    /// Why nothing was read when it was last halted.
    lack: Lack,
    /// Why nothing is read, as the daemon was told last.
    told: Option<Lack>,
    /// When writing what could not be written is tried again.
    retry_at: Option<Instant>,
    /// When to look whether the directory is still there; none while there is a daemon.
    look_at: Option<Instant>,
    scratch: Vec<u8>,
}

/// Whether a daemon takes what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Daemon {
    There,
    Away,
}

/// One kept child.
#[derive(Debug)]
struct Kept {
    keep: Keep,
    file: ChildFile,
    output: Output,
    input: Input,
    pid: u32,
    started: Instant,
    life: Life,
    memory: Memory,
    /// What is to be done with it while no daemon is there.
    due: Option<Due>,
    /// Why it was signalled to end while it ran, each reason once.
    interruptions: Vec<Interruption>,
    stood: Stood,
}

/// How far a kept child is.
#[derive(Debug)]
enum Life {
    /// It was admitted, or runs.
    Runs,
    /// Its last program has ended; its pipes are read on until then.
    Ending { exited: Exited, drain_until: Instant, rest: Rest },
    /// Nothing is left of it.
    Ended { exited: Exited, left_behind: u32 },
    /// A guardian that was killed held it.
    Lost,
}

/// The end of a child's last program.
#[derive(Debug, Clone)]
struct Exited {
    report: GuardianReport,
    /// How long the child ran.
    ran: Duration,
    /// When it ended.
    at: Option<Timestamp>,
}

/// What is left of a child's tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    Some,
    /// Nothing, after so many were killed.
    None {
        left_behind: u32,
    },
}

/// Whether a child is still to be remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Memory {
    Wanted,
    /// It is forgotten when nothing is left of it.
    Unwanted,
}

/// What an ending child needs now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Its pipes are closed or were read long enough: what is left of it is to be killed.
    Finish(ChildNumber),
    /// Nothing is left of it.
    Completion(ChildNumber),
}

impl Keeper {
    pub(crate) const fn door(&self) -> &OwnedFd {
        &self.door
    }

    pub(crate) fn is_kept(&self, number: ChildNumber) -> bool {
        self.children.contains_key(&number)
    }

    /// Whether somebody has to stay for some child's sake: what has ended is in files.
    pub(crate) fn is_needed(&self) -> bool {
        self.children.values().any(|kept| kept.life.is_unfinished())
    }

    /// A child's program runs: its pipes are read from now on, and its own end of its input is
    /// written to.
    pub(crate) fn begin(
        &mut self,
        number: ChildNumber,
        (pid, pipes): (u32, [OwnedFd; 2]),
        input: Option<OwnedFd>,
        watcher: &Watcher,
    ) {
        let flow = self.flow();
        let Some(kept) = self.children.get_mut(&number) else { return };
        kept.pid = pid;
        kept.started = Instant::now();
        if let Some(exit) = input {
            kept.input.begin(exit);
        }
        // Making a pipe not block fails for nothing that is one.
        let _ = kept.output.take_pipes(pipes);
        let watched = kept.watch(number, watcher, flow);
        self.on_watched(watched);
    }

    /// What could not be watched is tried again.
    fn on_watched(&mut self, watched: Result<(), Errno>) {
        if watched.is_err() {
            self.retry_at.get_or_insert(Instant::now() + limits::KEPT_RETRY);
        }
    }

    /// The child's main program has another process id than its init command.
    pub(crate) fn set_pid(&mut self, number: ChildNumber, pid: u32) {
        if let Some(kept) = self.children.get_mut(&number) {
            kept.pid = pid;
        }
    }

    fn flow(&self) -> Flow {
        match (self.halted_until, self.daemon) {
            (Some(_), _) => Flow::Halted,
            (None, Daemon::There) => Flow::Bound(limits::KEPT_UNSTORED_BYTES),
            (None, Daemon::Away) => Flow::Bound(limits::KEPT_ALONE_BYTES),
        }
    }

    /// A pipe has something to read.
    pub(crate) fn on_readable(
        &mut self,
        (number, stream): (ChildNumber, Stream),
        watcher: &Watcher,
    ) {
        if self.halted_until.is_some() {
            return;
        }
        let now = Instant::now();
        if self.daemon == Daemon::Away && !self.room.is_left(now) {
            return self.halt(Lack::Room, now, watcher);
        }
        let flow = self.flow();
        let Some(kept) = self.children.get_mut(&number) else { return };
        let got = kept.output.read(stream, &mut self.scratch);
        let watched = kept.output.watch(number, watcher, flow);
        self.on_watched(watched);
        self.on_got(number, got, watcher);
    }

    fn on_got(&mut self, number: ChildNumber, got: Got, watcher: &Watcher) {
        match got {
            Got::Written(bytes) => {
                self.room.take(bytes);
                self.news.insert(number);
            }
            Got::Nothing | Got::End => {}
            Got::Stuck(lack) => {
                self.stuck.insert(number);
                let now = Instant::now();
                self.retry_at.get_or_insert(now + limits::KEPT_RETRY);
                if lack == Lack::Room || self.unwritten_bytes() > limits::KEPT_UNWRITTEN_BYTES {
                    self.halt(lack, now, watcher);
                }
            }
        }
    }

    fn unwritten_bytes(&self) -> usize {
        let stuck = self.stuck.iter().filter_map(|number| self.children.get(number));
        stuck.map(|kept| kept.output.unwritten_bytes()).sum()
    }

    /// Reads nothing for a while.
    fn halt(&mut self, lack: Lack, now: Instant, watcher: &Watcher) {
        self.lack = lack;
        let until = now + limits::KEPT_RETRY;
        let had = self.halted_until.replace(until);
        self.retry_at = Some(until);
        if had.is_none() {
            self.watch_all(watcher);
        }
    }

    fn watch_all(&mut self, watcher: &Watcher) {
        let flow = self.flow();
        let mut all = Ok(());
        for (number, kept) in &mut self.children {
            all = all.and(kept.watch(*number, watcher, flow));
        }
        self.on_watched(all);
    }

    pub(crate) fn on_stored(&mut self, child: ChildKey, next: Seq, watcher: &Watcher) {
        let flow = self.flow();
        let Some(number) = self.numbers.get(&child) else { return };
        if let Some(kept) = self.children.get_mut(number) {
            kept.output.on_stored(next);
            let watched = kept.output.watch(*number, watcher, flow);
            self.on_watched(watched);
        }
    }

    /// A child's end is known for good.
    pub(crate) fn forget(&mut self, child: ChildKey) {
        let Some(number) = self.numbers.get(&child).copied() else { return };
        let Some(kept) = self.children.get_mut(&number) else { return };
        if kept.life.is_unfinished() {
            kept.memory = Memory::Unwanted;
        } else {
            self.drop_child(number);
        }
    }

    fn drop_child(&mut self, number: ChildNumber) {
        let Some(kept) = self.children.remove(&number) else { return };
        for set in [&mut self.news, &mut self.ending, &mut self.stuck] {
            set.remove(&number);
        }
        self.numbers.remove(&kept.keep.child);
        kept.file.remove();
        kept.output.remove();
        let job = kept.keep.child.job;
        if let Some(count) = self.jobs.get_mut(&job) {
            *count -= 1;
            if *count == 0 {
                self.jobs.remove(&job);
                // What stays is removed when the next guardian begins here.
                let _ = self.directory.remove_job(job, usize::MAX);
            }
        }
    }

    /// When there is something to do without anybody's asking.
    pub(crate) fn next_turn(&self) -> Option<Instant> {
        let ending = self.ending.iter().filter_map(|number| self.children.get(number)?.due());
        ending.chain(self.retry_at).chain(self.look_at).chain(self.next_due()).min()
    }

    /// Tries again what did not go before.
    pub(crate) fn retry(&mut self, watcher: &Watcher) {
        let now = Instant::now();
        if self.retry_at.is_none_or(|at| at > now) {
            return;
        }
        self.retry_at = None;
        let halted = self.halted_until.take().is_some();
        for number in std::mem::take(&mut self.stuck) {
            if let Some(kept) = self.children.get_mut(&number) {
                let got = kept.output.retry();
                self.on_got(number, got, watcher);
                if self.halted_until.is_some() {
                    break;
                }
            }
        }
        // Those that were not reached wait for the next time.
        let stuck = self.children.iter().filter(|(_, kept)| kept.output.is_stuck());
        self.stuck = stuck.map(|(number, _)| *number).collect();
        if self.halted_until.is_none() && self.daemon == Daemon::Away && !self.room.is_left(now) {
            self.halt(Lack::Room, now, watcher);
        }
        if halted || self.halted_until.is_none() {
            self.watch_all(watcher);
        }
    }

    /// How far those have written that wrote something since this was last asked, and why nothing
    /// is read, or that it is again, if that is new.
    pub(crate) fn take_news(&mut self) -> Vec<GuardianReport> {
        let news = std::mem::take(&mut self.news);
        let why = self.halted_until.map(|_| self.lack);
        let held = (self.told != why).then_some(GuardianReport::HoldsBack { why });
        self.told = why;
        let told = news.into_iter().filter_map(|number| {
            let next = self.children.get(&number)?.output.end();
            Some(GuardianReport::Written { child: number, next })
        });
        told.chain(held).collect()
    }

    /// All there is to tell a new daemon, each with the descriptors that it takes.
    pub(crate) fn story(&self) -> Vec<(GuardianReport, Vec<OwnedFd>)> {
        self.children.iter().flat_map(|(number, kept)| kept.handed(*number)).collect()
    }

    /// Gives the directory up. Unless there is something that a later daemon may ask for, nothing
    /// stays.
    pub(crate) fn leave(self, remains: Remains) {
        if !self.lock.is_there() {
            // A directory that has its name now is somebody else's.
            return;
        }
        if remains == Remains::Nothing || self.children.is_empty() {
            self.place.clear(self.lock);
        } else {
            self.place.forget_guardian();
        }
    }
}

/// What a guardian leaves in its directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remains {
    Nothing,
    Facts,
}

impl Kept {
    fn watch(&mut self, number: ChildNumber, watcher: &Watcher, flow: Flow) -> Result<(), Errno> {
        let input = self.input.watch(number, watcher);
        self.output.watch(number, watcher, flow).and(input)
    }
}

impl Life {
    const fn is_unfinished(&self) -> bool {
        matches!(self, Self::Runs | Self::Ending { .. })
    }
}

/// What the system says of an error, or that the disk is at fault.
fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
