//! Reports on their way to those who wait for them.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::PoisonError;

use rustix::io::Errno;
use sortie_model::Motion;
use sortie_model::facts::Interruption;
use sortie_wire::guardian_proto::{
    ChildNumber, GuardianReport, KeptChild, KeptFate, KeptInput, Remainder, StandardInput,
};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Found, Keeping, Link, Slot, Started, slot};
use crate::error::SpawnError;
use crate::process::Ended;
use crate::sys::channel::{Filled, Inbox};

/// Reads reports and hands them out.
pub(super) struct Reader<'a> {
    link: &'a Link,
    inbox: Inbox,
    /// Descriptors that the messages to come will take.
    descriptors: VecDeque<OwnedFd>,
    hello: Option<oneshot::Sender<GuardianReport>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(link: &'a Link, hello: oneshot::Sender<GuardianReport>) -> Self {
        Self { link, inbox: Inbox::default(), descriptors: VecDeque::new(), hello: Some(hello) }
    }

    pub(super) async fn run(&mut self) {
        loop {
            let Ok(mut ready) = self.link.socket.readable().await else { return };
            match self.inbox.fill(self.link.socket.get_ref()) {
                Ok(Filled::More) => {}
                Err(Errno::AGAIN) => {
                    ready.clear_ready();
                    continue;
                }
                Ok(Filled::Closed) | Err(_) => return,
            }
            loop {
                match self.inbox.take() {
                    Ok(Some(report)) => self.on_report(report),
                    Ok(None) => break,
                    // A guardian that does not speak the protocol is none.
                    Err(_) => return,
                }
            }
        }
    }

    fn on_report(&mut self, report: GuardianReport) {
        match report {
            GuardianReport::Hello { .. } | GuardianReport::Refused { .. } => {
                if let Some(hello) = self.hello.take() {
                    let _ = hello.send(report);
                }
            }
            GuardianReport::Descriptors { .. } => self.descriptors = self.inbox.descriptors(),
            GuardianReport::Spawned { child, pid, input } => {
                self.on_spawned(child, pid, all_ends(input));
            }
            GuardianReport::SpawnedKept { child, pid, input } => {
                self.on_spawned(child, pid, other_ends(input));
            }
            GuardianReport::Written { child, next } => {
                if let Some(Slot { written: Some(written), .. }) = self.link.children().get(&child)
                {
                    written.send_replace(next);
                }
            }
            GuardianReport::Kept(child) => self.on_kept(*child),
            GuardianReport::Interrupted { child, why } => self.on_interrupted(child, why),
            GuardianReport::SpawnFailed { child, step, errno } => {
                if let Some(slot) = self.link.children().remove(&child)
                    && let Some(spawned) = slot.spawned
                {
                    let _ = spawned.send(Err(SpawnError { step, errno }));
                }
                self.link.departed.notify_waiters();
            }
            GuardianReport::Exited { child, end, stage, memory, disturbance, remainder } => {
                self.on_ended(child, Ended { end, stage, memory, disturbance, remainder });
            }
            GuardianReport::Moved { child, motion } => {
                if let Some(slot) = self.link.children().get(&child) {
                    slot.moved.send_replace(motion);
                }
            }
            GuardianReport::HoldsBack { why } => {
                *self.link.held.lock().unwrap_or_else(PoisonError::into_inner) = why;
            }
            GuardianReport::Gone { child, left_behind } => {
                if let Some(slot) = self.link.children().remove(&child) {
                    let _ = slot.gone.send(left_behind);
                }
                self.link.departed.notify_waiters();
            }
        }
    }

    /// A child of an earlier daemon. What died with its guardian has no news.
    fn on_kept(&mut self, child: KeptChild) {
        let handed = matches!(child.input, KeptInput::Handed | KeptInput::HandedAt(_));
        let stdin = handed.then(|| self.descriptors.pop_front()).flatten();
        let (slot, pending) = slot(Keeping::Kept);
        if child.motion != Motion::Running {
            slot.moved.send_replace(child.motion);
        }
        if child.fate == KeptFate::Known {
            self.link.children().insert(child.number, slot);
        }
        let mut found = self.link.found.lock().unwrap_or_else(PoisonError::into_inner);
        let interruptions = Vec::new();
        found.push(Found { child, stdin, interruptions, pending, at: Instant::now() });
    }

    fn on_interrupted(&self, child: ChildNumber, why: Interruption) {
        let mut found = self.link.found.lock().unwrap_or_else(PoisonError::into_inner);
        // It was the last one that was told of.
        if let Some(last) = found.last_mut().filter(|last| last.child.number == child) {
            last.interruptions.push(why);
        }
    }

    fn on_spawned(&mut self, child: ChildNumber, pid: u32, count: usize) {
        let pipes = self.descriptors.drain(..count.min(self.descriptors.len())).collect();
        let spawned = self.link.children().get_mut(&child).and_then(|slot| slot.spawned.take());
        if let Some(spawned) = spawned {
            // Whoever has stopped waiting has asked for a kill.
            let _ = spawned.send(Ok(Started { pid, pipes }));
        }
    }

    fn on_ended(&self, child: ChildNumber, ended: Ended) {
        let mut children = self.link.children();
        match ended.remainder {
            Remainder::Alone => {
                if let Some(slot) = children.remove(&child) {
                    if let Some(sender) = slot.ended {
                        let _ = sender.send(ended);
                    }
                    let _ = slot.gone.send(0);
                }
                self.link.departed.notify_waiters();
            }
            Remainder::Others => {
                if let Some(sender) = children.get_mut(&child).and_then(|slot| slot.ended.take()) {
                    let _ = sender.send(ended);
                }
            }
        }
    }
}

/// How many descriptors come with a child that is not kept.
const fn all_ends(input: StandardInput) -> usize {
    match input {
        StandardInput::Terminal(_) => 1,
        input => 2 + other_ends(input),
    }
}

/// How many ends of its standard input come with a child.
const fn other_ends(input: StandardInput) -> usize {
    match input {
        // It is an end of all its streams.
        StandardInput::Null | StandardInput::Terminal(_) => 0,
        StandardInput::Pipe | StandardInput::Channel => 1,
    }
}
