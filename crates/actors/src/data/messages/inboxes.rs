//! The inboxes of one session's children on this node, and what they have to tell its owner.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use sortie_engine::inbox::BadMessage;
use sortie_link::Link;
use sortie_model::{ChildKey, Incarnation, NodeId, SessionInstance};
use sortie_wire::message_proto::{ChildLife, FromChild, ToChild};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::data::messages::carry;
use crate::data::messages::gate::Gate;
use crate::data::session::SessionShared;

/// Where the owner is.
#[derive(Debug, Clone)]
pub(crate) enum Way {
    /// On this node.
    Here(Weak<SessionShared>),
    /// Behind a link.
    There(Link),
    /// On a node that has not been heard yet.
    Away,
}

/// Whether the owner's node is the one that was heard before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OwnerLife {
    Same,
    /// It was killed or replaced meanwhile.
    Another,
}

/// Inboxes that are open, or whose owner has not heard everything.
#[derive(Debug)]
pub(crate) struct Inboxes {
    session: SessionInstance,
    state: Mutex<State>,
    news: Notify,
}

#[derive(Debug)]
struct State {
    way: Way,
    /// The life of the owner's node, once it was heard.
    owner: Option<Incarnation>,
    gates: BTreeMap<ChildKey, Arc<Gate>>,
    /// Those that have something to say.
    fresh: BTreeSet<ChildKey>,
    /// What carries it; there is none before the first inbox is opened.
    carrier: Option<AbortHandle>,
    hearing: Hearing,
}

/// Whether the owner listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hearing {
    /// It does, or will when it is back.
    Yes,
    /// It does not want to know.
    No,
    /// Nothing of the session is left here.
    Over,
}

impl Inboxes {
    pub(crate) fn new(session: SessionInstance, way: Way) -> Arc<Self> {
        let (gates, fresh, hearing) = (BTreeMap::new(), BTreeSet::new(), Hearing::Yes);
        let owner = match &way {
            Way::There(link) => Some(link.facts().incarnation),
            Way::Here(_) | Way::Away => None,
        };
        let state = Mutex::new(State { way, owner, gates, fresh, carrier: None, hearing });
        Arc::new(Self { session, state, news: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn lock_all(&self) -> impl Sized + '_ {
        self.state()
    }

    pub(crate) const fn session(&self) -> SessionInstance {
        self.session
    }

    /// Where the owner is now, or was last.
    pub(crate) fn way(&self) -> Way {
        self.state().way.clone()
    }

    /// A child opens its inbox.
    pub(crate) fn open(self: &Arc<Self>, life: ChildLife) -> Arc<Gate> {
        let gate = Gate::new(life, Arc::clone(self));
        let mut state = self.state();
        if state.hearing == Hearing::Over {
            // A function that was not reached yet: nobody would end what carried for it.
            return gate;
        }
        state.gates.insert(life.key(), Arc::clone(&gate));
        state.fresh.insert(life.key());
        if state.carrier.is_none() {
            state.carrier = Some(carry::from_inboxes(self, &state.way));
        }
        drop(state);
        self.news.notify_one();
        gate
    }

    pub(super) fn remove(&self, life: ChildLife) {
        let mut state = self.state();
        if state.gates.get(&life.key()).is_some_and(|gate| gate.life() == life) {
            state.gates.remove(&life.key());
            state.fresh.remove(&life.key());
        }
    }

    /// The owner is back on a new connection: what it may not have heard is said again.
    pub(crate) fn attach(self: &Arc<Self>, link: &Link) {
        let mut state = self.state();
        state.way = Way::There(link.clone());
        state.hearing = Hearing::Yes;
        let life = link.facts().incarnation;
        let owner = match state.owner.replace(life) {
            Some(before) if before != life => OwnerLife::Another,
            _ => OwnerLife::Same,
        };
        if let Some(carrier) = state.carrier.take() {
            carrier.abort();
            let State { gates, fresh, .. } = &mut *state;
            gates.values().for_each(|gate| gate.tell_again(owner));
            fresh.extend(gates.keys());
            state.carrier = Some(carry::from_inboxes(self, &state.way));
        }
        drop(state);
        self.news.notify_one();
    }

    /// The owner does not want to hear of its children.
    pub(super) fn nobody_hears(&self) {
        self.state().stop_hearing(Hearing::No);
    }

    pub(super) fn is_heard(&self) -> bool {
        self.state().hearing == Hearing::Yes
    }

    /// Nothing of the session is left here.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.stop_hearing(Hearing::Over);
        if let Some(carrier) = state.carrier.take() {
            carrier.abort();
        }
        // Each of them holds this.
        let gates = std::mem::take(&mut state.gates);
        drop(state);
        drop(gates);
    }

    pub(super) fn has_news(&self, life: ChildLife) {
        let mut state = self.state();
        if state.gates.contains_key(&life.key()) {
            state.fresh.insert(life.key());
            drop(state);
            self.news.notify_one();
        }
    }

    /// What the next inbox has to say, once there is something. Cancel safe.
    pub(super) async fn next_words(&self) -> Vec<(FromChild, Bytes)> {
        loop {
            let gate = {
                let mut state = self.state();
                let key = state.fresh.pop_first();
                key.and_then(|key| state.gates.get(&key).cloned())
            };
            match gate {
                Some(gate) => {
                    let words = gate.words();
                    if !words.is_empty() {
                        return words;
                    }
                }
                None if self.state().fresh.is_empty() => self.news.notified().await,
                None => {}
            }
        }
    }

    /// The owner says something to a child. One that has ended does not hear it.
    ///
    /// # Errors
    /// [`BadMessage`]; the owner does not keep to the rules.
    pub(super) fn hear(&self, to: ToChild, message: Bytes) -> Result<(), BadMessage> {
        let gate = self.state().gates.get(&to.child.key()).cloned();
        match gate.filter(|gate| gate.life() == to.child) {
            Some(gate) => gate.on_posted(to.what, message),
            None => Ok(()),
        }
    }
}

impl State {
    fn stop_hearing(&mut self, hearing: Hearing) {
        if self.hearing != Hearing::Over {
            self.hearing = hearing;
        }
        self.gates.values().for_each(|gate| gate.nobody_hears());
    }
}

/// The inboxes of every session that this node executes children for.
#[derive(Debug, Default)]
pub(crate) struct NodeInboxes {
    sessions: Mutex<BTreeMap<(NodeId, SessionInstance), Weak<Inboxes>>>,
}

impl NodeInboxes {
    /// A session's host is there.
    pub(crate) fn add(&self, owner: NodeId, inboxes: &Arc<Inboxes>) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.insert((owner, inboxes.session), Arc::downgrade(inboxes));
    }

    /// It is gone.
    pub(crate) fn remove(&self, owner: NodeId, inboxes: &Arc<Inboxes>) {
        let key = (owner, inboxes.session);
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        // The session may have a new host here.
        if sessions.get(&key).is_some_and(|one| one.as_ptr() == Arc::as_ptr(inboxes)) {
            sessions.remove(&key);
        }
    }

    pub(super) fn of(&self, owner: NodeId, session: SessionInstance) -> Option<Arc<Inboxes>> {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.get(&(owner, session)).and_then(Weak::upgrade)
    }
}

#[cfg(test)]
mod tests {
    use sortie_model::{ChildIncarnation, JobInstance, Ordinal};
    use uuid::Uuid;

    use super::*;
    use crate::data::attachment::tests::link;

    #[tokio::test]
    async fn an_inbox_that_opens_after_its_session_is_over_leaves_nothing_behind() {
        let (link, _ends) = link().await;
        let inboxes = Inboxes::new(SessionInstance(Uuid::from_u128(1)), Way::There(link));
        inboxes.close();
        let (job, incarnation) = (JobInstance(Uuid::from_u128(7)), ChildIncarnation(0));
        let gate = inboxes.open(ChildLife { job, ordinal: Ordinal(0), incarnation });
        assert!(!inboxes.is_heard());
        drop(gate);
        assert_eq!(Arc::strong_count(&inboxes), 1);
    }
}
