//! What a job that outlives its node has in the node's journal of what it decided.

use std::collections::BTreeSet;
use std::sync::Arc;

use sortie_engine::parent_job::{Effects, JobEffect, Unkept};
use sortie_model::{ChildKey, NodeId, Ordinal, State, limits};
use sortie_store::journal::Change;

use super::{ParentJobArguments, ParentJobMessage};
use crate::data::durable::output::output_of;
use crate::data::durable::{Durable, Kept, in_requests, rows_of};

/// The children whose life has ended by that.
fn lives_that_ended(effects: &Effects) -> impl Iterator<Item = Ordinal> {
    effects.iter().filter_map(|effect| match effect {
        JobEffect::Changed(ordinal, _, state, _) if state.is_finished() => Some(*ordinal),
        _ => None,
    })
}

impl ParentJobArguments {
    /// Keeps what was decided, then carries it out, and what may begin now that all is kept. Says
    /// whether the decision is. `about` is the node of whose children it was heard.
    pub(super) async fn keep_and_perform(
        &mut self,
        mut decided: Effects,
        mut about: Option<NodeId>,
    ) -> Kept {
        let mut first = None;
        loop {
            let kept = self.keep(&decided).await;
            if kept == Kept::Never && self.session.node.is_ending() {
                // What is not noted any more is the next node's to decide, and not to be begun.
                return first.unwrap_or(kept);
            }
            if let Some(node) = about.take() {
                self.session.attachment(node).heard(self.job.identity.instance);
            }
            let mut next = Effects::new();
            {
                let (mut rows, now) = (self.job.rows_mut(), self.session.node.world.now());
                match kept {
                    Kept::Yes => rows.on_kept(now, &mut next),
                    Kept::NotYet => rows.on_not_kept(Unkept::Full, now, &mut decided),
                    Kept::Never => rows.on_not_kept(Unkept::Failed, now, &mut decided),
                }
            }
            self.perform(decided);
            let first = *first.get_or_insert(kept);
            if next.is_empty() {
                return first;
            }
            decided = next;
        }
    }

    /// Keeps what was decided, before it is carried out.
    async fn keep(&mut self, effects: &Effects) -> Kept {
        let Some(durable) = self.job.durable.clone() else { return Kept::Yes };
        let was_unsaid = std::mem::take(&mut self.unsaid);
        let (ended, touched) = self.what_changed(effects, &was_unsaid);
        self.keep_reached(&durable).await;
        let (session, job) = (durable.instance(), self.job.identity.instance);
        // What they said is on the disk when their ends are.
        let (mut changes, there) = output_of(&self.job, &ended, &(&self.late | &was_unsaid)).await;
        // What keeps it ends with its node: then the end alone is better than none.
        let (late, again) = match self.session.is_over() {
            true => Default::default(),
            false => self.job.unsaid(&ended, &there),
        };
        if !again.is_empty() {
            return self.not_yet(touched, ended);
        }
        changes.extend(self.job.cut_of(touched.difference(&ended)));
        self.late = &late & &touched;
        let (runs, mut facts) = {
            let rows = self.job.rows();
            let said = touched.difference(&self.late).copied().collect();
            (rows_of(&rows, &said), self.job.facts_to_keep(&rows))
        };
        let next_id = Some(self.session.table().next_id());
        let changed = |runs| Change::ChildrenChanged { session, job, runs, next_id };
        changes.extend(in_requests(&runs).map(changed));
        // Whether anything is unread of a finished job is said last by who reads it last.
        let finished = facts.finished().is_some();
        let owner = Arc::clone(&self.job);
        let _one_by_one = if finished { Some(owner.committing.lock().await) } else { None };
        if finished {
            facts = self.job.facts_to_keep(&self.job.rows());
        }
        let unread = finished && facts.unread;
        if finished && !self.late.is_empty() {
            self.kept = None;
        } else if self.kept.as_ref() != Some(&facts) {
            self.kept = Some(facts.clone());
            let facts = Box::new(facts);
            changes.push(Change::JobChanged { session, job: self.job.identity.id, facts });
        }
        self.word = durable.keep(changes).await;
        match self.word {
            Kept::Yes => {
                self.unkept.clone_from(&self.late);
                if self.late.is_empty() {
                    self.job.say_unread(unread);
                } else {
                    self.keep_again();
                }
                for ordinal in there {
                    self.session.node.guardians.forget(ChildKey { job, ordinal });
                }
            }
            Kept::NotYet => return self.not_yet(touched, ended),
            Kept::Never => self.kept = None,
        }
        self.word
    }

    /// The children of which a life has ended, and all of which something is to be kept.
    fn what_changed(
        &mut self,
        effects: &Effects,
        was_unsaid: &BTreeSet<Ordinal>,
    ) -> (BTreeSet<Ordinal>, BTreeSet<Ordinal>) {
        let mut rows = self.job.rows_mut();
        let mut touched = rows.take_touched();
        touched.append(&mut self.unkept);
        let ended = touched.iter().copied().filter(|child| rows.has_ended(*child));
        // Of one that starts again at once, a life has ended all the same; and one of which a life
        // has may start again before what it said is on the disk.
        let ended = ended.chain(lives_that_ended(effects)).chain(was_unsaid.iter().copied());
        let ended: BTreeSet<Ordinal> = ended.chain(self.late.iter().copied()).collect();
        let settled = ended.iter().filter(|child| rows.is_settled(**child));
        settled.for_each(|child| self.job.checkpoints.forget(*child));
        (ended, touched)
    }

    /// Nothing of it is on the disk.
    fn not_yet(&mut self, touched: BTreeSet<Ordinal>, ended: BTreeSet<Ordinal>) -> Kept {
        (self.unkept, self.unsaid, self.kept) = (touched, ended, None);
        self.word = Kept::NotYet;
        self.keep_again();
        Kept::NotYet
    }

    /// Has what was not kept tried again in a while, once, however often it was not.
    fn keep_again(&mut self) {
        if !std::mem::replace(&mut self.keeps_again, true) {
            let retry = || ParentJobMessage::KeepAgain;
            self.job.tell_after(limits::JOURNAL_RESERVE_RETRY, retry);
        }
    }

    /// Keeps the checkpoints that are due: at once those of children that stand still, and all when
    /// the job is over.
    async fn keep_reached(&self, durable: &Durable) {
        let at_once = |child| {
            let rows = self.job.rows();
            rows.state().is_finished() || rows.child_state(child) == Some(State::Suspended)
        };
        if let Some(wait) = self.job.keep_checkpoints(durable, at_once).await {
            self.job.wake_after(wait);
        }
    }
}
