//! What a peer's silence, its goodbye, or its not asking means for what runs there or here.

use std::collections::BTreeSet;
use std::sync::Arc;

use sortie_engine::peer::Holds;
use sortie_link::CloseCode;
use sortie_model::reason::ReachStep;
use sortie_model::view::NodeState;
use sortie_model::{JobInstance, limits};

use crate::data::attachment::Attachment;
use crate::data::session::SessionShared;
use crate::parent_job::ParentJobMessage;
use crate::peer::PeerState;

impl PeerState {
    /// Whether something of ours may run there that outlives our silence, or something of theirs
    /// here.
    pub(super) fn holds(&self) -> Holds {
        if self.node.hosts_for(self.id) {
            return Holds::Something;
        }
        let mut held = self.attachments().map(|attachment| attachment.holds());
        held.find(|held| *held == Holds::Something).unwrap_or(Holds::Nothing)
    }

    /// How our sessions stand with it, those included that are over.
    pub(super) fn attachments(&self) -> impl Iterator<Item = Arc<Attachment>> {
        let ours = self.sessions.values().map(|session| session.attachment(self.id));
        ours.chain(self.over.iter().cloned())
    }

    /// Of sessions that are over nothing stays but the word that their node has yet to hear.
    pub(super) fn part_with_ended(&mut self) {
        let (id, over) = (self.id, &mut self.over);
        over.retain(|attachment| attachment.owes());
        self.sessions.retain(|_, session| {
            let attachment = session.attachment(id);
            // Who is marked as over may still be about to say so.
            let stays = attachment.holds() == Holds::Something && !attachment.has_ended();
            if !session.is_over() || stays {
                return true;
            }
            if attachment.owes() {
                over.push_back(attachment);
            }
            false
        });
        // What is not said any more, the node ends as what nobody asks for.
        let surplus = over.len().saturating_sub(limits::ENDED_SESSIONS_OWED);
        over.drain(..surplus);
    }

    /// What runs on at a node that is lost answers nobody.
    pub(super) fn end_letters(&self) {
        if self.peer.state(self.node.uptime()) != NodeState::Lost {
            return;
        }
        for session in self.sessions.values() {
            session.posts.silent(|child| {
                let job = session.job(child.job);
                job.is_some_and(|job| job.rows().runs_on(child.ordinal, self.id))
            });
        }
    }

    /// An owner that still wants its children asks for them when it is connected.
    pub(super) fn end_unasked(&mut self) {
        let Some(link) = self.link.as_ref().filter(|link| !link.is_closed()) else { return };
        let Some(since) = self.up_since else { return };
        let up = self.node.uptime().saturating_sub(since);
        if up >= limits::LEASE && !self.unasked_ended {
            self.node.end_temporary_not_on(self.id, link.id());
            self.unasked_ended = true;
        }
        if up >= limits::DISCONNECT_AFTER {
            self.node.end_hosts_not_on(self.id, link.id());
            self.up_since = None;
        }
    }

    /// The node was silent so long that what ends with our silence is gone.
    pub(super) fn lost(&mut self) {
        if let Some(link) = self.link.take() {
            link.close(CloseCode::SILENT, "silent for too long");
        }
        let id = self.id;
        for session in self.sessions.values() {
            let told = session.attachment(id).lost();
            self.tell_lost(session, &told);
        }
        self.sessions.retain(|_, session| session.attachment(id).holds() == Holds::Something);
        self.over.retain(|attachment| attachment.owes());
    }

    /// The node ended, and said so.
    pub(super) fn gone(&mut self) {
        self.over.clear();
        for session in std::mem::take(&mut self.sessions).into_values() {
            let told = session.attachment(self.id).gone();
            self.tell_lost(&session, &told);
        }
    }

    fn tell_lost(&self, session: &SessionShared, told: &BTreeSet<JobInstance>) {
        let (since, id) = (self.last_heard, self.id);
        let attachment = session.attachment(id);
        session.tell_jobs(id, |job| {
            let word = if told.contains(&job) {
                ParentJobMessage::Lost(id, since)
            } else if attachment.has_told(job) {
                return None; // It runs on.
            } else {
                // What never left this node cannot have run there.
                ParentJobMessage::Unreachable(id, ReachStep::Connect)
            };
            attachment.must_hear(job);
            Some(word)
        });
    }

    /// The node was silent so long that what runs on there is not waited for.
    pub(super) fn disconnected(&self) {
        let id = self.id;
        for session in self.sessions.values() {
            let attachment = session.attachment(id);
            session.tell_jobs(id, |job| {
                attachment.has_told(job).then_some(ParentJobMessage::Disconnected(id))
            });
        }
    }
}
