//! What a node has yet to hear: that something is over which outlives silence. A connection may
//! seem up and be dead, so a word that went over it counts only once a heartbeat behind it is
//! answered: the control stream keeps its order.

use sortie_link::Link;
use sortie_model::spec::Hosting;
use sortie_wire::host_proto::{EndSession, ForgetJob};

use crate::data::attachment::Attachment;

/// How far a word is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owed {
    /// The next connection carries it, or the present one when its resume is answered.
    Unsaid,
    /// It went over the connection with that number; and the number of the first heartbeat behind
    /// it, once that is out.
    Said(u64, Option<u64>),
}

impl Owed {
    /// A word that is said now over that connection, if there is one.
    pub(super) fn word(link: Option<u64>) -> Self {
        link.map_or(Self::Unsaid, |link| Self::Said(link, None))
    }
}

impl Attachment {
    /// The job is over: the node may forget it, and so do we.
    pub(crate) fn forget(&self, forget: &ForgetJob) {
        self.flush();
        self.inputs.forget(forget.job);
        let mut state = self.state();
        let told = state.told.remove(&forget.job);
        let outlives = told == Some(Hosting::Persistent);
        state.unheard.remove(&forget.job);
        state.waiting.remove(&forget.job);
        state.specified.remove(&forget.job);
        state.positions.retain(|key, _| key.job != forget.job);
        state.fresh.retain(|key, _| key.job != forget.job);
        let said = match &state.link {
            Some(link) if state.ready => {
                let _ = link.send(forget);
                Some(link.id())
            }
            Some(_) => {
                state.over.push(forget.job);
                None
            }
            // The next resume does not name it, which says the same.
            None => None,
        };
        if outlives {
            state.owes = Some(Owed::word(said));
        }
    }

    /// The session is over: its node is told, and nothing is acknowledged any more.
    pub(crate) fn end(&self) {
        self.inputs.clear();
        let mut state = self.state();
        let before = std::mem::take(&mut *state);
        if let Some(link) = &before.link {
            let _ = link.send(&EndSession { session: self.session });
        }
        state.ended = true;
        if before.holds() || before.owes.is_some() {
            state.owes = Some(Owed::word(before.link.as_ref().map(Link::id)));
        }
        drop(state);
        self.stored.notify_one();
    }

    /// Whether the node has yet to hear that something is over which outlives silence.
    pub(crate) fn owes(&self) -> bool {
        self.state().owes.is_some()
    }

    /// A heartbeat of that number is about to go over that connection, behind all that was said.
    pub(crate) fn on_beat_sent(&self, link: u64, number: u64) {
        if let Some(Owed::Said(over, behind @ None)) = &mut self.state().owes
            && *over == link
        {
            *behind = Some(number);
        }
    }

    /// The node has heard our heartbeats up to that one over that connection, and what was said
    /// before.
    pub(crate) fn on_beat_heard(&self, link: u64, number: u64) {
        let mut state = self.state();
        if let Some(Owed::Said(over, Some(behind))) = state.owes
            && over == link
            && behind <= number
        {
            state.owes = None;
        }
    }

    /// Whether the session is over, and its node was told so as far as it can be reached.
    pub(crate) fn has_ended(&self) -> bool {
        self.state().ended
    }
}
