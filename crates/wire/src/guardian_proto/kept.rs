//! Children that outlive their daemon.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sortie_model::{ChildIncarnation, ChildKey, Motion, Seq, Timestamp};

use super::ChildNumber;

/// A child that outlives its daemon: the guardian writes its output to files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keep {
    /// Which child it is, for the next daemon.
    pub child: ChildKey,
    /// Which of its lives.
    pub incarnation: ChildIncarnation,
    /// The number of its first record.
    pub first: Seq,
    /// How long its pipes are read after its main process's end.
    pub drain: Duration,
    /// Whatever the next daemon needs to know of it, at most
    /// [`KEPT_NOTE_BYTES`](sortie_model::limits::KEPT_NOTE_BYTES).
    pub note: Bytes,
}

/// A child of an earlier daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptChild {
    /// Its number from now on.
    pub number: ChildNumber,
    /// What the earlier daemon said of it.
    pub keep: Keep,
    /// The oldest of its records that can still be read.
    pub oldest: Seq,
    /// Its process id; 0 when it is not known any more.
    pub pid: u32,
    /// How long it ran until now, or until its end; not while it stood still.
    pub running: Duration,
    /// What became of its input.
    pub input: KeptInput,
    /// Whether its end is or will be known.
    pub fate: KeptFate,
    /// When it ended, if it has.
    pub ended: Option<Timestamp>,
    /// In how long it is killed unless a daemon says otherwise: it was asked to end.
    pub kill_in: Option<Duration>,
    /// Whether it stands still.
    pub motion: Motion,
}

/// What is to be done with a kept child by then if no daemon is there that would do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadline {
    /// In how long.
    pub left: Duration,
    /// What.
    pub act: DeadlineAct,
}

/// What a deadline brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeadlineAct {
    /// Its whole tree is killed: it was asked to end before.
    Kill,
    /// It is asked to end, and killed after a grace.
    Ask {
        /// The number of the signal that asks.
        signal: i32,
        /// How long until the kill.
        grace: Duration,
    },
}

/// What became of a kept child's input when its daemon died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeptInput {
    /// It has all of it, or never had any.
    Whole,
    /// The rest of it died with the daemon. The child waits for it, in vain: there is no descriptor
    /// for its pipe.
    Lost,
    /// What the daemon had not written died with it, and nobody knows how much that was. The other
    /// end of the child's stdin comes along, as a descriptor: the next daemon may write on.
    Handed,
    /// The same, and the daemon had written so many bytes: the next one may write on behind them.
    HandedAt(u64),
}

/// Whether a kept child's end can be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeptFate {
    /// It was reported, or will be.
    Known,
    /// The guardian that held it died, and so did the child. No report follows.
    Lost,
}

/// Why a guardian does not serve a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// It serves another one.
    Busy {
        /// That one's process id.
        daemon: u32,
    },
    /// Another guardian has the directory of what is kept.
    Locked,
    /// The directory cannot be used.
    Directory {
        /// The operating system's error number.
        errno: i32,
    },
}
