//! When to dial another node, when it counts as suspect or lost, and when what runs here for it
//! must die (`docs/semantics.md`, section 4).

mod lease;

use std::time::Duration;

use sortie_model::limits;
use sortie_model::reason::ReachStep;
use sortie_model::view::NodeState;
use sortie_wire::link_proto::Heartbeat;

use crate::broken::{Rule, is_broken};
pub use crate::peer::lease::FalseEcho;
use crate::peer::lease::Lease;

/// A moment on the node's monotonic clock, from its start.
pub type Uptime = Duration;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerEffect {
    /// Dial it: at once with attempt 0, else after a wait that grows with the attempts.
    Dial {
        /// How many dials failed, or came to a connection that did not last, since one lasted.
        attempt: u32,
    },
    /// It could not be reached in time: nothing was ever sent to those who wait for it.
    Unreachable(ReachStep),
    /// It was silent so long that nothing of ours runs there any more that ends with its owner's
    /// silence.
    Lost,
    /// It was silent so long that what runs there all the same is not waited for.
    Disconnected,
    /// It said goodbye: nothing of ours runs there any more.
    Gone,
    /// It may soon say that what runs here for it is lost: so nothing of it may run any more.
    LeaseOver,
    /// It said much while this node stood still: it hears at once that it was heard, since its
    /// lease may be about to end.
    Beat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Connection {
    None,
    Dialling {
        attempt: u32,
    },
    /// With the attempts that it took, which count until it has lasted.
    Up {
        attempt: u32,
    },
}

impl Connection {
    const fn is_up(self) -> bool {
        matches!(self, Self::Up { .. })
    }
}

/// What was said of a node's silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Nothing,
    Lost,
    Disconnected,
}

/// Whether anything may run on the other node that outlives our silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// Children of a session that outlives its node: it is dialled until it answers.
    Something,
    /// Nothing.
    Nothing,
}

/// One other node, as this one sees it.
#[derive(Debug)]
pub struct Peer {
    connection: Connection,
    /// Until when somebody waits for a first connection.
    wanted_until: Option<Uptime>,
    /// Whether to dial again when the connection is gone.
    keep: bool,
    /// When the last connection came up.
    up: Option<Uptime>,
    /// When it was heard last, unless nothing of ours can run there since.
    heard: Option<Uptime>,
    said: Said,
    holds: Holds,
    lease: Lease,
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            connection: Connection::None,
            wanted_until: None,
            keep: false,
            up: None,
            heard: None,
            said: Said::Nothing,
            holds: Holds::Nothing,
            lease: Lease::default(),
        }
    }
}

impl Peer {
    /// Somebody wants a link and waits for it so long; with `keep` it is dialled again for ever.
    pub fn on_wanted(
        &mut self,
        wait: Duration,
        keep: Keep,
        now: Uptime,
        effects: &mut Vec<PeerEffect>,
    ) {
        let until = now.saturating_add(wait);
        self.wanted_until = Some(self.wanted_until.map_or(until, |known| known.max(until)));
        self.keep |= keep == Keep::Always;
        if self.connection == Connection::None {
            self.connection = Connection::Dialling { attempt: 0 };
            effects.push(PeerEffect::Dial { attempt: 0 });
        }
    }

    /// Whether something may run there that outlives silence. A node that was never heard in this
    /// life of ours has been silent from now on.
    pub fn set_holds(&mut self, holds: Holds, now: Uptime, effects: &mut Vec<PeerEffect>) {
        self.holds = holds;
        match holds {
            Holds::Something if self.heard.is_none() => {
                (self.heard, self.said) = (Some(now), Said::Lost);
                if self.connection == Connection::None {
                    self.connection = Connection::Dialling { attempt: 0 };
                    effects.push(PeerEffect::Dial { attempt: 0 });
                }
            }
            Holds::Nothing if self.said != Said::Nothing => {
                (self.heard, self.said) = (None, Said::Nothing);
            }
            _ => {}
        }
    }

    /// The time for which one waits that wanted it at `since` is over: it is told if no connection
    /// came up meanwhile, whatever the dial that is under way will come to. Others wait on.
    pub fn on_wait_over(&self, since: Uptime) -> Option<ReachStep> {
        let waits = matches!(self.connection, Connection::Dialling { .. });
        (waits && self.up.is_none_or(|up| up < since)).then_some(ReachStep::Connect)
    }

    /// A connection is up, dialled by us or by it; our hello, or our acknowledgement of its, went
    /// out at `greeted`. Heartbeats and their numbers begin anew.
    pub fn on_up(&mut self, greeted: Uptime, now: Uptime, effects: &mut Vec<PeerEffect>) {
        self.check_lease(now, effects);
        let attempt = match self.connection {
            Connection::None => 0,
            Connection::Dialling { attempt } | Connection::Up { attempt } => attempt,
        };
        self.connection = Connection::Up { attempt };
        self.wanted_until = None;
        (self.up, self.heard, self.said) = (Some(now), Some(now), Said::Nothing);
        self.lease.on_up(greeted);
    }

    /// The heartbeat that goes out now: at once when a connection is up, then every
    /// [`limits::HEARTBEAT`].
    pub fn beat(&mut self, now: Uptime) -> Heartbeat {
        self.lease.beat(now)
    }

    /// A heartbeat came over the connection that is up.
    ///
    /// # Errors
    /// [`FalseEcho`] when it answers what was never said.
    pub fn on_beat(
        &mut self,
        beat: Heartbeat,
        now: Uptime,
        effects: &mut Vec<PeerEffect>,
    ) -> Result<(), FalseEcho> {
        // What is over stays over, also when nobody has noticed yet.
        self.check_lease(now, effects);
        if self.connection.is_up() {
            self.lease.on_beat(beat)?;
            self.heard = self.heard.max(Some(now));
            if self.lease.owes_answer() {
                effects.push(PeerEffect::Beat);
            }
        }
        Ok(())
    }

    /// A dial failed.
    pub fn on_dial_failed(&mut self, step: ReachStep, now: Uptime, effects: &mut Vec<PeerEffect>) {
        let Connection::Dialling { attempt } = self.connection else { return };
        // Who cannot prove who he is will not do so a moment later.
        let hopeless = matches!(step, ReachStep::Authenticate | ReachStep::Authorise);
        if self.wanted_until.is_some_and(|until| hopeless || now >= until) {
            self.wanted_until = None;
            effects.push(PeerEffect::Unreachable(step));
        }
        if self.wanted_until.is_some() || self.keep || self.heard.is_some() {
            self.connection = Connection::Dialling { attempt: attempt.saturating_add(1) };
            effects.push(PeerEffect::Dial { attempt: attempt.saturating_add(1) });
        } else {
            self.connection = Connection::None;
        }
    }

    /// The connection is gone. `goodbye` says that the node itself ended it because it shuts down:
    /// then what ran there has ended.
    pub fn on_closed(&mut self, goodbye: bool, now: Uptime, effects: &mut Vec<PeerEffect>) {
        let Connection::Up { attempt } = self.connection else { return };
        if goodbye {
            // Who is kept is dialled again by that.
            self.end_lease(effects);
            effects.push(PeerEffect::Gone);
            return self.give_up(effects);
        }
        self.heard.get_or_insert(now);
        // One that comes up only to be closed again, since one side refuses what the other says, is
        // not dialled as fast as it closes, and more slowly each time.
        let lasted = self.up.is_some_and(|up| now.saturating_sub(up) >= limits::SUSPECT_AFTER);
        let attempt = if lasted { 0 } else { attempt.saturating_add(1) };
        self.connection = Connection::Dialling { attempt };
        effects.push(PeerEffect::Dial { attempt });
    }

    /// A timer ticked; `silence` is how long the connection's peer has said nothing, if one is up.
    pub fn on_tick(
        &mut self,
        silence: Option<Duration>,
        now: Uptime,
        effects: &mut Vec<PeerEffect>,
    ) {
        if let (true, Some(silence)) = (self.connection.is_up(), silence) {
            self.heard = self.heard.max(Some(now.saturating_sub(silence)));
        }
        self.check_lease(now, effects);
        let Some(silence) = self.heard.map(|heard| now.saturating_sub(heard)) else { return };
        if self.said == Said::Nothing && silence >= limits::LOST_AFTER {
            self.end_lease(effects);
            effects.push(PeerEffect::Lost);
            if self.holds == Holds::Nothing {
                return self.give_up(effects);
            }
            // It runs on there, and says so when it is reached.
            self.said = Said::Lost;
            self.connection = Connection::Dialling { attempt: 1 };
            effects.push(PeerEffect::Dial { attempt: 1 });
        }
        if self.said == Said::Lost && silence >= limits::DISCONNECT_AFTER {
            self.said = Said::Disconnected;
            effects.push(PeerEffect::Disconnected);
        }
    }

    /// Until when what it wants may run and start here; none while nothing may.
    pub fn lease_until(&self) -> Option<Uptime> {
        self.lease.until()
    }

    fn check_lease(&mut self, now: Uptime, effects: &mut Vec<PeerEffect>) {
        if self.lease.until().is_some_and(|until| now >= until) {
            self.end_lease(effects);
        }
    }

    fn end_lease(&mut self, effects: &mut Vec<PeerEffect>) {
        if self.lease.end() && !is_broken(Rule::P9) {
            effects.push(PeerEffect::LeaseOver);
        }
    }

    /// Nothing of ours can run there.
    fn give_up(&mut self, effects: &mut Vec<PeerEffect>) {
        (self.heard, self.said) = (None, Said::Nothing);
        self.connection = Connection::None;
        if self.keep {
            self.connection = Connection::Dialling { attempt: 1 };
            effects.push(PeerEffect::Dial { attempt: 1 });
        }
    }

    /// Whether something of ours may run there.
    pub const fn is_known(&self) -> bool {
        self.heard.is_some()
    }

    /// Whether it answers.
    pub fn state(&self, now: Uptime) -> NodeState {
        // Lost is what was given up, not what is about to be: who sees it can rely on it.
        let heard = self.heard.filter(|_| self.said == Said::Nothing);
        match heard.map(|heard| now.saturating_sub(heard)) {
            Some(silence) if silence < limits::SUSPECT_AFTER => NodeState::Alive,
            Some(_) => NodeState::Suspect,
            None => NodeState::Lost,
        }
    }
}

/// Whether a node is dialled again after its connection is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// While something of ours may run there.
    WhileUsed,
    /// Always.
    Always,
}

#[cfg(test)]
mod tests;
