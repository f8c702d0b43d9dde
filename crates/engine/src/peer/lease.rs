//! Until when this node may run what another one wants (`docs/semantics.md`, section 4).
//!
//! The owner says lost so long after it heard this node last. So what runs here may run only so
//! long, less a margin, after this node *said* something that the owner is known to have heard:
//! whatever is cut or delayed on the way, the owner heard it no earlier than that.

use std::collections::VecDeque;

use sortie_model::limits;
use sortie_wire::link_proto::Heartbeat;

use crate::peer::Uptime;

/// A peer says that it heard a heartbeat which was never sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the peer answers heartbeat {heard}, and the last one was {last}")]
pub struct FalseEcho {
    heard: u64,
    last: u64,
}

/// What was said and heard on the present connection, and what that proves.
#[derive(Debug, Default)]
pub(super) struct Lease {
    /// When the newest word of ours was sent that the owner is known to have heard. None while
    /// nothing may run here.
    since: Option<Uptime>,
    /// Words of ours that are not known to be heard, and when they were sent.
    unheard: VecDeque<(u64, Uptime)>,
    /// The number of our last heartbeat.
    last: u64,
    /// The highest number that was heard.
    heard: u64,
    /// The highest number that was answered.
    answered: u64,
}

impl Lease {
    /// A connection is up; our hello, or our acknowledgement of its, went out at `greeted`.
    ///
    /// What runs here since before goes on under its old lease: an acknowledgement may be lost, and
    /// the connection be up on this side only. What will be started comes over the connection, from
    /// an owner that heard us, and maybe nothing that was said on another one after that.
    pub(super) fn on_up(&mut self, greeted: Uptime) {
        self.since = Some(self.since.map_or(greeted, |since| since.min(greeted)));
        self.unheard = VecDeque::from([(0, greeted)]);
        (self.last, self.heard, self.answered) = (0, 0, 0);
    }

    /// The next heartbeat, which goes out now.
    pub(super) fn beat(&mut self, now: Uptime) -> Heartbeat {
        self.last += 1;
        self.answered = self.heard;
        if self.unheard.len() >= limits::HEARTBEATS_UNHEARD {
            self.unheard.pop_front();
        }
        self.unheard.push_back((self.last, now));
        Heartbeat { number: self.last, heard: self.heard }
    }

    /// A heartbeat came over the present connection.
    pub(super) fn on_beat(&mut self, beat: Heartbeat) -> Result<(), FalseEcho> {
        if beat.heard > self.last {
            return Err(FalseEcho { heard: beat.heard, last: self.last });
        }
        self.heard = self.heard.max(beat.number);
        while let Some((number, sent)) = self.unheard.front().copied()
            && number <= beat.heard
        {
            self.unheard.pop_front();
            // Without a lease nothing runs that a proof could prolong.
            self.since = self.since.map(|since| since.max(sent));
        }
        Ok(())
    }

    /// Whether so many were heard and not answered that the peer should not wait for the next beat.
    pub(super) const fn owes_answer(&self) -> bool {
        self.heard.saturating_sub(self.answered) >= limits::HEARTBEATS_UNANSWERED
    }

    /// When it ends, if nothing more is proved; none while nothing may run here.
    pub(super) fn until(&self) -> Option<Uptime> {
        self.since.map(|since| since.saturating_add(limits::LEASE))
    }

    /// Ends it; says whether it was running.
    pub(super) const fn end(&mut self) -> bool {
        self.since.take().is_some()
    }
}
