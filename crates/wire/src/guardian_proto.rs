//! What a daemon and its guardian say to each other (kinds 400 to 499).
//!
//! Both ends are the same program, joined by a Unix stream socket. Requests and reports are frames,
//! as many in one write as are ready; neither side waits for an answer before it sends the next.
//! Descriptors travel as ancillary data: [`GuardianReport::Descriptors`] is the first frame of a
//! write that carries some, and the frames behind it take them in order.
//!
//! A child that is [kept](Keep) outlives its daemon: the guardian writes its output to files and
//! waits for the next daemon, which gets a [`GuardianReport::Kept`] for each.

mod kept;
mod nul_list;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sortie_model::Motion;
use sortie_model::facts::{Interruption, MemoryEnd, ProcessEnd, Stage};
use sortie_model::reason::SpawnStep;
use sortie_model::spec::{OsBytes, WindowSize};
use sortie_model::{ChildKey, Seq};

use crate::frame::{Kind, Message};
use crate::link_proto::kinds;

pub use kept::{Deadline, DeadlineAct, Keep, KeptChild, KeptFate, KeptInput, Refusal};
pub use nul_list::{NulList, Unended};

/// The version of this protocol. Both ends are one program, so it differs only when the program was
/// replaced while a daemon, or the children that it kept, ran on. Both say the oldest and the
/// newest version that they speak, in the first fields of their first message, which stay there.
pub const GUARDIAN_VERSION: u16 = 6;

/// The oldest version of a guardian that a daemon goes on with. Version 3 does not know
/// [`GuardianRequest::Interrupt`], and never says [`GuardianReport::Interrupted`] or
/// [`GuardianReport::HoldsBack`]. Neither it nor version 4 says [`KeptInput::Handed`], and only
/// version 6 says [`KeptInput::HandedAt`].
pub const GUARDIAN_VERSION_OLDEST: u16 = 3;

/// A daemon's number for a child, unique within the life of a guardian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChildNumber(pub u64);

/// What a process child executes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Program {
    /// A program, looked up in the child's own `PATH`, and its arguments; without a shell.
    Command(NulList),
    /// A script: run by the interpreter of its `#!` line, else by `sh`.
    Script {
        /// Its text.
        text: Bytes,
        /// Its arguments.
        arguments: NulList,
    },
}

/// Where a child's standard input comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StandardInput {
    /// At its end from the start.
    Null,
    /// A pipe, whose writing end the guardian passes to the daemon.
    Pipe,
    /// One end of a socket, whose other end the guardian passes to the daemon: the channel of a
    /// worker process.
    Channel,
    /// A pseudo terminal of that size, which is the child's output and error output too, and
    /// controls it. The guardian passes its other side to the daemon, and nothing else.
    Terminal(WindowSize),
}

/// A child to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpawnRequest {
    /// Its number.
    pub child: ChildNumber,
    /// What it executes.
    pub program: Program,
    /// Its whole environment.
    pub environment: NulList,
    /// Its working directory; `/` if none.
    pub directory: Option<OsBytes>,
    /// Its standard input.
    pub input: StandardInput,
    /// A command for `sh -c` that runs first, with the same output and no input.
    pub init: Option<OsBytes>,
    /// How it outlives the daemon, if it does.
    pub keep: Option<Keep>,
}

/// How a guardian keeps hold of the processes below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainmentChoice {
    /// A control group where one can be made, else parentage.
    Best,
    /// Parentage, also where a control group could be made.
    Parentage,
}

/// How a guardian keeps hold of the processes below it, as it turned out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Containment {
    /// A control group (version 2) per child: nothing escapes.
    ControlGroup {
        /// The directory of the guardian's own group, in which its children's lie.
        directory: OsBytes,
    },
    /// Process group, parentage below a subreaper, and a mark in the environment: a process that
    /// left its session and cleared its environment is killed with the guardian, not with its
    /// child.
    Parentage,
}

impl std::fmt::Display for Containment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ControlGroup { .. } => "a control group per child: nothing escapes",
            Self::Parentage => {
                "process group and parentage: what leaves its session and clears its environment \
                 may outlive its child until the node ends"
            }
        })
    }
}

/// Daemon to guardian.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum GuardianRequest {
    /// The first request. Answer: [`GuardianReport::Hello`].
    Start {
        /// The oldest version that the daemon speaks.
        min: u16,
        /// The newest version that it speaks.
        max: u16,
        /// How to contain children.
        containment: ContainmentChoice,
        /// How many descriptors a child may open, unless it asks for more; none leaves the limit
        /// as it is.
        descriptors: Option<u64>,
        /// The directory of what is kept. A guardian that runs already has it.
        keep: Option<OsBytes>,
    },
    /// Start a child. Answer: [`GuardianReport::Spawned`], [`GuardianReport::SpawnedKept`] or
    /// [`GuardianReport::SpawnFailed`].
    Spawn(Box<SpawnRequest>),
    /// Send a signal to every process of a child's tree. No answer; unknown children are ignored.
    Signal {
        /// The child.
        child: ChildNumber,
        /// The signal's number.
        number: i32,
    },
    /// Kill a child's whole tree, over and over until it is empty. A child that still waits for
    /// its start gets [`GuardianReport::SpawnFailed`] instead.
    Kill {
        /// The child.
        child: ChildNumber,
    },
    /// The child's output was read for as long as it may last: kill what is left of its tree.
    /// Answer: [`GuardianReport::Gone`], unless the child was reported as ended and alone.
    Finish {
        /// The child.
        child: ChildNumber,
    },
    /// Do not start a child that still waits for its start: it gets
    /// [`GuardianReport::SpawnFailed`]. Nothing happens to one that runs.
    Withdraw {
        /// The child.
        child: ChildNumber,
    },
    /// The daemon has everything that a kept child wrote before that number: it is freed. No
    /// answer; unknown children are ignored.
    Stored {
        /// The child.
        child: ChildKey,
        /// The number after the last record that it has.
        next: Seq,
    },
    /// A kept child's end is known for good: the guardian forgets it, and removes what it wrote,
    /// once nothing is left of it. No answer; unknown children are ignored.
    Forget {
        /// The child.
        child: ChildKey,
    },
    /// A kept child's input is at its end, behind what the daemon has written. Until then the
    /// guardian holds its pipe open, so that the death of the daemon is not taken for that.
    CloseInput {
        /// The child.
        child: ChildNumber,
    },
    /// Kill everything, kept children included, remove what is kept, and end.
    End,
    /// Make every process of a child's tree stand still, or let them go on. Answer:
    /// [`GuardianReport::Moved`], unless the child ends or another such request comes first.
    Move {
        /// The child.
        child: ChildNumber,
        /// What its processes are to do.
        motion: Motion,
    },
    /// What is to be done with a kept child while no daemon is there; the last word counts. No
    /// answer; others are ignored.
    Deadline {
        /// The child.
        child: ChildNumber,
        /// What, if anything.
        deadline: Option<Deadline>,
    },
    /// As [`GuardianRequest::Signal`], to end the child. Of a kept child whose last program has not
    /// ended by then, the next daemon hears why it was signalled.
    Interrupt {
        /// The child.
        child: ChildNumber,
        /// The signal's number.
        number: i32,
        /// Why.
        why: Interruption,
    },
}

/// Whether a signal was sent before an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Disturbance {
    /// Nothing was sent.
    None,
    /// A signal or a kill was sent while the program ran.
    Signalled,
}

/// What is left of a child's tree when its main process has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Remainder {
    /// Nothing. The guardian forgets the child with this report.
    Alone,
    /// Something. [`GuardianReport::Gone`] follows a [`GuardianRequest::Finish`] or a kill.
    Others,
}

/// Guardian to daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum GuardianReport {
    /// The answer to [`GuardianRequest::Start`], after what there is to tell of kept children.
    Hello {
        /// The oldest version that the guardian speaks.
        min: u16,
        /// The newest version that it speaks.
        max: u16,
        /// Its process id.
        pid: u32,
        /// How it contains children.
        containment: Containment,
        /// The lowest number that a new child may have.
        next: ChildNumber,
    },
    /// The first frame of a write that carries descriptors.
    Descriptors {
        /// How many.
        count: u32,
    },
    /// A child runs. Takes the reading ends of its stdout and stderr, then the other end of its
    /// stdin if that has one; only the other side of its terminal if it has one.
    Spawned {
        /// The child.
        child: ChildNumber,
        /// Its process id; that of its init command if it has one.
        pid: u32,
        /// What its standard input is, and so whether it has another end.
        input: StandardInput,
    },
    /// A child could not be started. The guardian forgets it.
    SpawnFailed {
        /// The child.
        child: ChildNumber,
        /// What was tried.
        step: SpawnStep,
        /// The operating system's error number.
        errno: i32,
    },
    /// A child's last program ended. Of one that is kept, [`GuardianReport::Gone`] follows in any
    /// case.
    Exited {
        /// The child.
        child: ChildNumber,
        /// How.
        end: ProcessEnd,
        /// Which program.
        stage: Stage,
        /// Whether it was killed for want of memory.
        memory: MemoryEnd,
        /// Whether a signal was sent before.
        disturbance: Disturbance,
        /// What is left of its tree.
        remainder: Remainder,
    },
    /// Nothing is left of a child's tree. The guardian forgets it, unless it is kept: then all that
    /// it wrote was reported before.
    Gone {
        /// The child.
        child: ChildNumber,
        /// How many processes were left when it was told to finish.
        left_behind: u32,
    },
    /// A kept child runs. Takes the other end of its stdin if that has one.
    SpawnedKept {
        /// The child.
        child: ChildNumber,
        /// Its process id; that of its init command if it has one.
        pid: u32,
        /// What its standard input is, and so whether it has another end.
        input: StandardInput,
    },
    /// All records of a kept child before that number can be read.
    Written {
        /// The child.
        child: ChildNumber,
        /// The number after the last one.
        next: Seq,
    },
    /// A child of an earlier daemon. Takes the other end of its stdin if that is
    /// [handed](KeptInput::HandedAt) over. Reports about it follow as about any other: how far it
    /// has written, its end if that is known.
    Kept(Box<KeptChild>),
    /// The guardian does not serve this daemon. Nothing follows.
    Refused {
        /// Why not.
        why: Refusal,
    },
    /// Every process of a child's tree stands still, or all of them go on.
    Moved {
        /// The child.
        child: ChildNumber,
        /// What they do.
        motion: Motion,
    },
    /// A child of an earlier daemon was signalled before its end for that reason; the first such
    /// report is about the first reason. Follows [`GuardianReport::Kept`].
    Interrupted {
        /// The child.
        child: ChildNumber,
        /// Why.
        why: Interruption,
    },
    /// What kept children write is not read now, or is read again. Until the first such report it
    /// is read.
    HoldsBack {
        /// Why it is not.
        why: Option<Lack>,
    },
}

/// What keeps a guardian from writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lack {
    /// The disk is full.
    Room,
    /// Something else is wrong with it.
    Other,
}

kinds! { GuardianRequest = 400, GuardianReport = 401 }

#[cfg(test)]
mod tests;
