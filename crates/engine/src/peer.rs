//! When to dial another node, when it counts as suspect or lost, and when what runs here for it
//! must die (`docs/semantics.md`, section 4).

use std::time::Duration;

use sortie_model::limits;
use sortie_model::reason::ReachStep;
use sortie_model::view::NodeState;

/// A moment on the node's monotonic clock, from its start.
pub type Uptime = Duration;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerEffect {
    /// Dial it after that wait; `attempt` counts from 0 since it was heard last.
    Dial {
        /// How many dials failed since it was heard last.
        attempt: u32,
    },
    /// It could not be reached in time: nothing was ever sent to those who wait for it.
    Unreachable(ReachStep),
    /// It was silent so long that nothing of ours runs there any more.
    Lost,
    /// It was silent so long that nothing of its own may run here any more.
    LeaseOver,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Connection {
    None,
    Dialling { attempt: u32 },
    Up,
}

/// One other node, as this one sees it.
#[derive(Debug)]
pub struct Peer {
    connection: Connection,
    /// Until when somebody waits for a first connection.
    wanted_until: Option<Uptime>,
    /// Whether to dial again when the connection is gone.
    keep: bool,
    /// When it was heard last in its present life.
    heard: Option<Uptime>,
    lease_over: bool,
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            connection: Connection::None,
            wanted_until: None,
            keep: false,
            heard: None,
            lease_over: false,
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

    /// A connection is up, dialled by us or by it.
    pub const fn on_up(&mut self, now: Uptime) {
        self.connection = Connection::Up;
        self.wanted_until = None;
        self.heard = Some(now);
        self.lease_over = false;
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
        if self.connection != Connection::Up {
            return;
        }
        if goodbye {
            self.forget(effects);
            if !self.keep {
                return;
            }
        }
        self.heard.get_or_insert(now);
        self.connection = Connection::Dialling { attempt: 0 };
        effects.push(PeerEffect::Dial { attempt: 0 });
    }

    /// A timer ticked; `silence` is how long the connection's peer has said nothing, if one is up.
    pub fn on_tick(
        &mut self,
        silence: Option<Duration>,
        now: Uptime,
        effects: &mut Vec<PeerEffect>,
    ) {
        if let (Connection::Up, Some(silence)) = (self.connection, silence) {
            self.heard = Some(now.saturating_sub(silence));
        }
        let Some(silence) = self.heard.map(|heard| now.saturating_sub(heard)) else { return };
        if silence < limits::LEASE {
            self.lease_over = false;
        } else if !self.lease_over {
            self.lease_over = true;
            effects.push(PeerEffect::LeaseOver);
        }
        if silence >= limits::LOST_AFTER {
            self.forget(effects);
        }
    }

    fn forget(&mut self, effects: &mut Vec<PeerEffect>) {
        if !std::mem::replace(&mut self.lease_over, true) {
            effects.push(PeerEffect::LeaseOver);
        }
        self.heard = None;
        self.lease_over = false;
        effects.push(PeerEffect::Lost);
        self.connection = Connection::None;
        if self.keep {
            self.connection = Connection::Dialling { attempt: 1 };
            effects.push(PeerEffect::Dial { attempt: 1 });
        }
    }

    /// Whether it answers.
    pub fn state(&self, now: Uptime) -> NodeState {
        // Lost is what was given up, not what is about to be: who sees it can rely on it.
        match self.heard.map(|heard| now.saturating_sub(heard)) {
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
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Uptime {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_node_that_never_answers_is_unreachable_once_the_wait_is_over() {
        let mut peer = Peer::default();
        let mut effects = Vec::new();
        peer.on_wanted(at(5), Keep::WhileUsed, at(0), &mut effects);
        peer.on_dial_failed(ReachStep::Connect, at(1), &mut effects);
        assert_eq!(effects, [PeerEffect::Dial { attempt: 0 }, PeerEffect::Dial { attempt: 1 }]);
        effects.clear();
        peer.on_dial_failed(ReachStep::Connect, at(6), &mut effects);
        assert_eq!(effects, [PeerEffect::Unreachable(ReachStep::Connect)]);
        peer.on_wanted(at(5), Keep::WhileUsed, at(7), &mut effects);
        assert_eq!(effects.last(), Some(&PeerEffect::Dial { attempt: 0 }));
    }

    #[test]
    fn who_cannot_prove_who_he_is_is_not_dialled_again() {
        let mut peer = Peer::default();
        let mut effects = Vec::new();
        peer.on_wanted(at(5), Keep::WhileUsed, at(0), &mut effects);
        effects.clear();
        peer.on_dial_failed(ReachStep::Authenticate, at(1), &mut effects);
        assert_eq!(effects, [PeerEffect::Unreachable(ReachStep::Authenticate)]);
    }

    #[test]
    fn silence_ends_the_lease_before_the_owner_says_lost() {
        let mut peer = Peer::default();
        let mut effects = Vec::new();
        peer.on_up(at(0));
        peer.on_tick(Some(at(7)), at(7), &mut effects);
        assert_eq!((effects.as_slice(), peer.state(at(7))), (&[][..], NodeState::Suspect));
        peer.on_tick(Some(at(8)), at(8), &mut effects);
        peer.on_tick(Some(at(9)), at(9), &mut effects);
        assert_eq!(effects, [PeerEffect::LeaseOver]);
        peer.on_tick(Some(at(12)), at(12), &mut effects);
        assert_eq!(effects, [PeerEffect::LeaseOver, PeerEffect::Lost]);
    }

    #[test]
    fn a_cut_connection_keeps_counting_from_when_the_node_was_heard_last() {
        let mut peer = Peer::default();
        let mut effects = Vec::new();
        peer.on_up(at(0));
        peer.on_tick(Some(at(1)), at(10), &mut effects);
        peer.on_closed(false, at(11), &mut effects);
        assert_eq!(effects, [PeerEffect::Dial { attempt: 0 }]);
        peer.on_tick(None, at(21), &mut effects);
        assert_eq!(effects.last(), Some(&PeerEffect::Lost));
        effects.clear();
        peer.on_tick(None, at(30), &mut effects);
        assert_eq!(effects, []);
    }

    #[test]
    fn a_goodbye_ends_what_ran_there_at_once() {
        let mut peer = Peer::default();
        let mut effects = Vec::new();
        peer.on_up(at(0));
        peer.on_closed(true, at(1), &mut effects);
        assert_eq!(effects, [PeerEffect::LeaseOver, PeerEffect::Lost]);
    }
}
