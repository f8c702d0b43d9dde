//! How a session looks to a client.

use sortie_model::SessionView;
use sortie_model::view::{Availability, SessionState};

use crate::data::session::SessionShared;
use crate::data::stay::Asker;

impl SessionShared {
    /// As it looks to a client.
    pub(crate) fn view(&self, by: &Asker) -> SessionView {
        let (mut state, mut availability) = (SessionState::Opened, Availability::Available);
        let (mut epoch, mut idle_timeout, mut expires) = (0, None, None);
        if let Some(hold) = self.hold() {
            (state, availability) = hold.seen_by(by.key);
            (epoch, idle_timeout) = (hold.epoch(), Some(hold.idle_timeout()));
            let left = hold.expires_at().map(|at| at.saturating_sub(self.node.uptime()));
            expires = left.map(|left| self.node.world.now().later_by(left));
        }
        // One lock at a time: a writer that comes between two would wait for the first, and the
        // second for it.
        let jobs = self.table().len() as u64;
        let unfinished = self.unfinished();
        SessionView {
            id: self.identity.id,
            instance: self.identity.instance,
            name: self.identity.name.clone(),
            node: self.node.me.name(),
            owner: self.identity.owner.clone(),
            temporary: self.identity.temporary,
            jobs,
            unfinished,
            created: self.identity.created,
            below: self.identity.above.as_ref().map(|above| above.place.clone()),
            state,
            availability,
            epoch,
            idle_timeout,
            expires,
            output: self.identity.output,
        }
    }
}
