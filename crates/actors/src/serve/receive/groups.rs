//! A receive in parts: jobs in memory are read together, archived ones a few at a time, so that
//! one that is about a million of them needs memory for a few.

use std::collections::HashSet;
use std::sync::Arc;

use sortie_engine::receive::Part;
use sortie_engine::select::JobFacts;
use sortie_engine::session::Place;
use sortie_engine::wait::Until;
use sortie_model::{EntryId, limits};
use sortie_wire::session_proto::{ReceiveMode, ReceiveSpec};

use super::outlet::Outlet;
use super::reading::Reading;
use super::room::Room;
use super::target::{Failures, Target};
use super::{Broken, Receive, ends, now, others, takes, until};
use crate::data::archived::Archived;
use crate::data::durable::committing::Committing;
use crate::data::job::JobShared;
use crate::data::session::SessionShared;
use crate::data::stay::Stay;
use crate::data::window::Window;
use crate::serve::wait::Watched;

/// A job of a receive, and its part; none for one that is archived.
type Member = (EntryId, Part, Option<Arc<JobShared>>);

/// The jobs of a receive in the order in which they are read: several groups, the last of which is
/// the only one that may have something to wait for.
pub(super) fn groups(
    session: &SessionShared,
    parts: &[(EntryId, Part)],
    spec: &ReceiveSpec,
) -> Vec<Vec<Member>> {
    let waits = !matches!(spec.mode, ReceiveMode::Take | ReceiveMode::Keep);
    let (mut groups, mut last) = (Vec::new(), Vec::new());
    let (mut group, mut archived) = (Vec::new(), 0);
    let table = session.table();
    for (id, part) in parts {
        let job = table.job(*id).cloned();
        if job.is_some() && waits {
            last.push((*id, part.clone(), job));
            continue;
        }
        let row = table.archived(*id);
        let says = |row: &Archived| spec.events || row.has_more_data() || row.any_failed();
        if job.is_none() && !row.is_some_and(says) {
            continue;
        }
        archived += usize::from(job.is_none());
        group.push((*id, part.clone(), job));
        if archived >= limits::JOBS_RECEIVED_AT_ONCE {
            groups.push(std::mem::take(&mut group));
            archived = 0;
        }
    }
    if waits && !group.is_empty() {
        groups.push(std::mem::take(&mut group));
    }
    group.append(&mut last);
    groups.push(group);
    groups
}

/// What is the same for all groups of a receive.
pub(super) struct Groups<'a> {
    pub(super) stay: &'a Stay,
    pub(super) spec: &'a ReceiveSpec,
    pub(super) on: Option<Arc<HashSet<String>>>,
    pub(super) held: (&'a Window, &'a Committing),
    pub(super) failures: Failures,
    /// What other readers had in hand where a receive that takes passed it.
    pub(super) in_hand: Vec<(Place, u64)>,
    /// Of what not all came, since it is not back from a full disk.
    pub(super) not_back: Vec<Place>,
}

impl Groups<'_> {
    /// Delivers what a group has. Answers the entry that is blocked, if that is why it ends.
    pub(super) async fn deliver(
        &mut self,
        group: Vec<Member>,
        outlet: &mut Outlet,
    ) -> Result<Option<Place>, Broken> {
        let (targets, brought) = self.targets(group).await?;
        let (stay, spec, session) = (self.stay, self.spec, self.stay.session());
        let (window, committing) = self.held;
        committing.add(&brought);
        let ends = ends(&targets);
        let watched = Watched::new(&ends, &session.table());
        let reading = Reading::new(spec, window, outlet.live_values());
        let room = Room::new(spec);
        let mut receive = Receive { stay, targets, reading, room, window, outlet: &mut *outlet };
        let blocked = match spec.mode {
            ReceiveMode::Take | ReceiveMode::Keep => {
                now::deliver(&mut receive, spec.tail).await?;
                None
            }
            ReceiveMode::TakeUntil { finished } => {
                let until = Until::of(finished);
                until::deliver(&mut receive, watched, (until, spec)).await?
            }
            ReceiveMode::Follow => {
                until::deliver(&mut receive, watched, (Until::Settled, spec)).await?
            }
        };
        self.failures.add(&receive.targets);
        self.not_back.extend(receive.places_not_back());
        if takes(spec) {
            self.in_hand.extend(others::in_hand(&receive.targets, spec.streams, window));
        }
        if !brought.is_empty() && takes(spec) {
            // They go from memory only when the journal knows what was taken.
            outlet.flush().await?;
            window.emptied().await?;
            committing.finish_some(&brought).await.of_confirmation()?;
        }
        Ok(blocked.and_then(|place| ends.get(place).copied()))
    }

    /// The jobs that are read, and those of them that were archived.
    async fn targets(
        &self,
        group: Vec<Member>,
    ) -> Result<(Vec<Target>, Vec<Arc<JobShared>>), Broken> {
        let (mut targets, mut brought) = (Vec::new(), Vec::new());
        for (id, part, job) in group {
            let job = match job {
                Some(job) => job,
                None => {
                    let Some(job) = self.stay.session().bring(id).await? else { continue };
                    brought.push(Arc::clone(&job));
                    job
                }
            };
            targets.push(Target { job, part, on: self.on.clone() });
        }
        Ok((targets, brought))
    }
}
