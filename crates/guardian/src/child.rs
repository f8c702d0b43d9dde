//! One child, from its start to the moment when nothing of it is left.

use std::time::{Duration, Instant};

use sortie_model::Motion;
use sortie_model::facts::Stage;
use sortie_wire::guardian_proto::Disturbance;

use crate::memory::Mark;
use crate::script::ScriptFile;
use crate::spawn::MainStage;
use crate::tree::Tree;

/// The first pause between two kills of one tree, or two looks whether it stands still; doubles up
/// to the longest.
const KILL_PAUSE: Duration = Duration::from_millis(1);
const KILL_PAUSE_LONGEST: Duration = Duration::from_millis(64);

/// A child that was started and not forgotten.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) life: Life,
    pub(crate) tree: Tree,
    /// What was sent to the program that runs now, or ran last.
    pub(crate) sent: Sent,
    pub(crate) killing: Option<Killing>,
    /// What its tree is told to do, and whether it does.
    pub(crate) moving: Moving,
    /// Processes that were left when it was told to finish.
    pub(crate) left_behind: u32,
    /// The kills for want of memory when it started.
    pub(crate) memory: Mark,
    /// Keeps the script's file for as long as the child may read it.
    pub(crate) _script: Option<ScriptFile>,
}

/// How far a child is.
#[derive(Debug)]
pub(crate) enum Life {
    /// Its init command runs, its main program follows.
    Init(Box<MainStage>),
    /// Its main program runs.
    Main,
    /// Its last program has ended and was reported.
    Ended,
}

/// What was sent to a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    Nothing,
    Signal,
    Kill,
}

/// A tree that is killed again and again until it is empty.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Killing {
    pub(crate) again_at: Instant,
    pause: Duration,
}

impl Killing {
    pub(crate) fn begin(now: Instant) -> Self {
        Self { again_at: now + KILL_PAUSE, pause: KILL_PAUSE }
    }

    pub(crate) fn again(&mut self, now: Instant) {
        self.pause = (self.pause * 2).min(KILL_PAUSE_LONGEST);
        self.again_at = now + self.pause;
    }
}

/// What a tree is told to do. It is told again and again until it does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moving {
    pub(crate) motion: Motion,
    /// When it is told again; none once it does.
    pub(crate) again_at: Option<Instant>,
    pause: Duration,
}

impl Moving {
    /// It just runs.
    pub(crate) const RUNNING: Self =
        Self { motion: Motion::Running, again_at: None, pause: KILL_PAUSE };

    pub(crate) const fn begin(motion: Motion, now: Instant) -> Self {
        Self { motion, again_at: Some(now), pause: KILL_PAUSE }
    }

    pub(crate) fn again(&mut self, now: Instant) {
        self.again_at = Some(now + self.pause);
        self.pause = (self.pause * 2).min(KILL_PAUSE_LONGEST);
    }
}

impl Child {
    pub(crate) const fn disturbance(&self) -> Disturbance {
        match self.sent {
            Sent::Nothing => Disturbance::None,
            Sent::Signal | Sent::Kill => Disturbance::Signalled,
        }
    }

    pub(crate) const fn stage(&self) -> Stage {
        match self.life {
            Life::Init(_) => Stage::Init,
            Life::Main | Life::Ended => Stage::Main,
        }
    }
}
