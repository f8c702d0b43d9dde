//! The start of a node with a home: its sessions and their jobs are as they were
//! (`docs/semantics.md`, section 4.2).

mod boot;
mod input;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use ractor::Actor;
use sortie_engine::aggregate;
use sortie_engine::hold::Hold;
use sortie_engine::host::Start;
use sortie_engine::parent_job::{Executor, JobIdentity, KeptChild, KeptJob, Owner, ParentJob};
use sortie_engine::placement;
use sortie_exec::Adopted;
use sortie_model::spec::Fan;
use sortie_model::{ChildKey, EntryId, Motion, Ordinal, State, limits};
use sortie_store::Store;
use sortie_store::journal::{
    JobEntry, JobPlan, JournalBounds, JournalError, OpenError, SessionEntry, Told,
};
use sortie_store::lasting_input::InputError;
use sortie_store::segment::SegmentError;
use sortie_wire::RemoteError;
use sortie_wire::session_proto::ScopeChange;
use tokio::time::Instant;

use sortie_engine::session::Run;

use crate::child_job::Survivor;
use crate::data::archived::Archived;
use crate::data::durable::{Durable, PAGE, kept_child, output};
use crate::data::job::JobShared;
use crate::data::map_feed::{self, MapFeed};
use crate::data::session::{SessionIdentity, SessionShared};
use crate::host::{Adoption, HostMessage};
use crate::node::{NodeError, NodeShared};
use crate::parent_job::{Finding, ParentJobActor, ParentJobArguments, ParentJobMessage};
use crate::serve::wait;

/// The pause between two looks at a journal that is in use.
const IN_USE_PAUSE: Duration = Duration::from_millis(20);

/// What a node's journal has cannot be taken up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// The journal says.
    #[error("what this node keeps of its sessions cannot be read")]
    Journal(#[from] JournalError),
    /// A session cannot be opened.
    #[error("a session cannot be opened again: {0}")]
    Session(RemoteError),
    /// The system does not give an input, which may be as it was.
    #[error(
        "the stored input of a job cannot be read now: start the node again, or move the file \
         away to go on without it"
    )]
    Input(#[from] InputError),
    /// The system does not show a job's output, which may be as it was.
    #[error(
        "the stored output of a job cannot be read now: start the node again, or move the folder \
         away to go on without it"
    )]
    Output(#[from] SegmentError),
}

/// Opens what outlives the node, if anything does; a large journal is read off the runtime's
/// workers. Waits [`limits::CLOSE_TIME`] at most for an earlier node that has it.
///
/// # Errors
/// [`NodeError`].
pub(super) async fn open_store(
    directory: Option<PathBuf>,
) -> Result<Option<Arc<Store>>, NodeError> {
    let Some(directory) = directory else { return Ok(None) };
    let until = Instant::now() + limits::CLOSE_TIME;
    loop {
        let directory = directory.clone();
        let opening =
            tokio::task::spawn_blocking(move || Store::open(&directory, JournalBounds::default()));
        match opening.await.map_err(|_| NodeError::Actors)? {
            // An earlier node of this home is about to end.
            Err(OpenError::InUse { .. }) if Instant::now() < until => {
                tokio::time::sleep(IN_USE_PAUSE).await;
            }
            opened => return Ok(Some(Arc::new(opened?))),
        }
    }
}

impl NodeShared {
    /// Opens what outlived the node, and sees to it from here on.
    ///
    /// # Errors
    /// [`RecoverError`].
    pub(super) async fn take_up(self: &Arc<Self>) -> Result<(), RecoverError> {
        let Some(store) = self.store.clone() else { return Ok(()) };
        self.recover(&store).await?;
        tokio::spawn(Arc::clone(self).keep_house(store));
        Ok(())
    }

    /// Opens the sessions that are kept, with their jobs; of finished ones no more than what is
    /// searched by. Nothing of them moves before this returns.
    ///
    /// # Errors
    /// [`RecoverError`]; what is kept stays as it is.
    async fn recover(self: &Arc<Self>, store: &Arc<Store>) -> Result<(), RecoverError> {
        let mut unfinished = Vec::new();
        for entry in store.journal().sessions()? {
            let session = self.reopen(store, &entry).await?;
            let Some(durable) = &session.durable else { continue };
            let (mut after, mut archived) = (None, Vec::new());
            loop {
                let jobs = store.journal().jobs(entry.instance, after, PAGE)?;
                let Some(last) = jobs.last() else { break };
                after = Some(last.id);
                for job in jobs {
                    if let Some(row) = Archived::of(durable, &job)? {
                        session.table_mut().put_apart(job.id, row.apart());
                        archived.push((job.id, row));
                        continue;
                    }
                    let job = recover_job(&session, store, job).await?;
                    unfinished.extend(job.map(|job| (Arc::clone(&session), job)));
                }
            }
            session.table_mut().put_archived(archived.into_iter().collect());
            session.look_after_idle();
        }
        // Only now that nothing can fail: what a start that failed has in hand would be killed.
        let same_boot = boot::same_boot(store.directory(), unfinished.is_empty());
        let mut left = Left::of(self.guardians.take_left(), same_boot);
        // Before anybody asks, and before a job here reaches for its node: an owner must not hear
        // that what was left is not here.
        let owners = self.adopt_hosted(&mut left).await;
        let (mut taken_up, mut elsewhere) = (Vec::new(), Vec::new());
        for (session, job) in unfinished {
            for node in job.rows().told_nodes(self.me.id) {
                session.attachment(node).was_told(job.identity.instance);
                elsewhere.push((node, Arc::clone(&session), Arc::clone(&job)));
            }
            let finding = adopt(&session, &job, &mut left);
            job.tell(ParentJobMessage::Recovered(finding));
            tell_of_quotas(&job);
            taken_up.push(job);
        }
        for owner in owners {
            // It dials the owner, who may not know of it any more.
            let _ = self.peer(owner).await;
        }
        // What they are asked for names all jobs, and what is heard comes behind the word above.
        for (node, session, job) in elsewhere {
            let wait = job.rows().spec().connect_timeout;
            self.want_link(node, (session, job.identity.instance), wait);
        }
        let directory = store.directory().to_owned();
        tokio::spawn(async move {
            // Until it is kept what became of them, another start must not trust what it finds.
            let kept = join_all(taken_up.iter().map(|job| job.kept())).await;
            if !same_boot && kept.into_iter().all(|kept| kept) {
                boot::note(&directory);
            }
        });
        // What belongs to no job any more is killed as it is dropped.
        for child in left.children.into_keys() {
            self.guardians.forget(child);
        }
        Ok(())
    }

    async fn reopen(
        self: &Arc<Self>,
        store: &Arc<Store>,
        entry: &SessionEntry,
    ) -> Result<Arc<SessionShared>, RecoverError> {
        let identity = SessionIdentity {
            id: entry.id,
            instance: entry.instance,
            name: entry.name.clone(),
            owner: entry.owner.clone(),
            temporary: false,
            created: entry.created,
            output: entry.output,
            above: None,
        };
        let hold = entry.idle_timeout.map(|idle| Hold::recovered(entry.epoch, idle, self.uptime()));
        let durable = Some(Durable::new(store, entry.instance));
        let opened = self.put_up(identity, hold, durable).await;
        let session = opened.map_err(RecoverError::Session)?;
        session.table_mut().go_on_from(entry.next_id);
        let set = entry.environment.iter().cloned();
        let change = ScopeChange {
            directory: entry.directory.clone(),
            set: set.filter_map(|(name, value)| Some((name, value?))).collect(),
            unset: Vec::new(),
        };
        // It kept its bounds when it was set.
        let _ = session.scope().change(change);
        Ok(session)
    }
}

/// Children that a guardian has from before, and that nobody has asked for yet.
pub(super) struct Left {
    /// A guardian notes a child before it starts it, so whom it does not tell of never began;
    /// unless the machine failed, and the note with it.
    pub(super) knows_all: bool,
    pub(super) children: BTreeMap<ChildKey, Adopted>,
}

impl Left {
    /// What a guardian told, if there is one.
    fn of(told: Option<Vec<Adopted>>, same_boot: bool) -> Self {
        let knows_all = same_boot && told.is_some();
        let told = told.into_iter().flatten();
        Self { knows_all, children: told.map(|adopted| (adopted.child, adopted)).collect() }
    }
}

/// Has the job's children that the guardian kept go on, and says which they are.
fn adopt(session: &Arc<SessionShared>, job: &JobShared, left: &mut Left) -> Finding {
    let instance = job.identity.instance;
    let (first, last) = (Ordinal(0), Ordinal(u32::MAX));
    let of_job =
        ChildKey { job: instance, ordinal: first }..=ChildKey { job: instance, ordinal: last };
    let of_job = left.children.range(of_job).filter(|(_, child)| child.note.is_empty());
    let keys: Vec<ChildKey> = of_job.map(|(key, _)| *key).collect();
    let rows = job.rows();
    let knows_all = left.knows_all && rows.outlives_its_node();
    let mut finding = Finding { knows_all, ..Finding::default() };
    let mut children = Vec::new();
    for key in keys {
        let Some(adopted) = left.children.remove(&key) else { continue };
        let (ordinal, incarnation) = (key.ordinal, adopted.incarnation);
        let kept = rows
            .kept(ordinal)
            .filter(|kept| kept.incarnation == incarnation && !rows.has_ended(ordinal));
        let Some(kept) = kept else {
            // Its end is known: the node ended before the guardian heard so.
            session.node.guardians.forget(key);
            continue;
        };
        finding.alive.insert((ordinal, incarnation));
        let next = adopted.first;
        let start = Start { ordinal, id: kept.id.0, incarnation, next, item: None };
        let how = rows.any_stop().map(|(how, _)| *how).unwrap_or_default();
        let stop = kept.told_to_stop.then_some(how);
        let motion = match kept.state {
            State::Suspending | State::Suspended => Motion::Suspended,
            _ => Motion::Running,
        };
        children.push(Survivor { start, begin: kept.begin, stop, motion, adopted });
    }
    if !children.is_empty() {
        let node = &session.node.me.name();
        let spec =
            rows.host_spec(Executor::OwnNode, Owner { node, level: 0, hosting: job.hosting() });
        let adoption = Adoption { job: instance, spec, partial: false, children };
        session.tell_host(HostMessage::Adopt(Box::new(adoption)));
    }
    finding
}

/// Children whose mailboxes take nothing more are stopped, also where that was not kept.
fn tell_of_quotas(job: &JobShared) {
    let children = if job.mailboxes.may_cut() { job.rows().children() } else { 0 };
    for ordinal in (0..children).map(Ordinal) {
        let goes_on = !job.rows().has_ended(ordinal);
        if goes_on && job.mailboxes.summary(ordinal).cut {
            job.tell(ParentJobMessage::OverQuota(ordinal));
        }
    }
}

type Children = Vec<(Ordinal, KeptChild)>;

/// The children of a job, as they were.
fn kept_children(
    store: &Store,
    entry: &JobEntry,
    plan: &JobPlan,
) -> Result<(Children, Vec<Run>), JournalError> {
    let (mut children, mut places, mut from) = (Vec::new(), Vec::new(), Ordinal(0));
    loop {
        let runs = store.journal().children(entry.instance, from, PAGE)?;
        let Some(last) = runs.last() else { break };
        from = Ordinal(last.first.0.saturating_add(last.count));
        for run in runs {
            places.push((run.facts.id, run.first, u64::from(run.count)));
            for after in 0..run.count {
                let ordinal = Ordinal(run.first.0 + after);
                let nodes = plan.nodes.len() as u32;
                let told = placement::node_of(&plan.spec.fan, ordinal, nodes);
                children.push((ordinal, kept_child(run.facts.clone(), after, told)));
            }
        }
    }
    if entry.known_children > 0 {
        places = vec![(EntryId(entry.id.0 + 1), Ordinal(0), entry.known_children)];
    }
    Ok((children, places))
}

/// A job as the journal has it.
pub(crate) struct FromJournal {
    /// With what its children said.
    pub(crate) job: Arc<JobShared>,
    /// Where its children are.
    pub(crate) places: Vec<Run>,
    /// Where its input is read on, if it is an open map.
    reads_from: u64,
}

/// A job as the journal has it; none if it was removed.
///
/// # Errors
/// [`RecoverError::Journal`], [`RecoverError::Input`], [`RecoverError::Output`].
pub(crate) async fn kept_job(
    session: &SessionShared,
    store: &Arc<Store>,
    entry: JobEntry,
) -> Result<Option<FromJournal>, RecoverError> {
    let Some(plan) = store.journal().plan(session.identity.instance, entry.id)? else {
        // It was removed meanwhile.
        return Ok(None);
    };
    let (children, places) = kept_children(store, &entry, &plan)?;
    let per_item = if matches!(plan.spec.fan, Fan::Each) { plan.nodes.len().max(1) } else { 1 };
    let items = children.last().map_or(0, |(last, _)| last.0 as usize / per_item + 1);
    let input = input::left(session, store, (&entry, &plan.spec), items).await?;
    let (spec, nodes, facts) = (plan.spec, plan.nodes, entry.facts);
    let kept = KeptJob {
        identity: JobIdentity {
            id: entry.id,
            instance: entry.instance,
            session: session.identity.id,
            created: entry.created,
        },
        spec,
        nodes,
        told: match facts.told {
            Told::Nothing => aggregate::Told::Nothing,
            Told::Stop => aggregate::Told::Stop,
            Told::Suspend => aggregate::Told::Suspend,
        },
        stop: facts.stop,
        throttle: facts.throttle,
        begin: facts.begin,
        end: facts.end,
        restarts: facts.restarts,
        items: input.items,
    };
    let mut rows = ParentJob::recover(kept, children);
    rows.note_touched();
    let mailboxes =
        output::mailboxes(&session.node, store, (entry.instance, session.identity.output));
    let job = JobShared::new(rows, mailboxes, input.log, session);
    if facts.with_errors {
        job.note_streams([sortie_model::Stream::Error]);
    }
    job.say_unread(facts.unread && facts.state.is_finished());
    output::restore(&job, store).await?;
    Ok(Some(FromJournal { job, places, reads_from: input.from }))
}

/// Takes a job up again; gives it if it is not finished, and then it waits for the word what was
/// found of it.
async fn recover_job(
    session: &Arc<SessionShared>,
    store: &Arc<Store>,
    entry: JobEntry,
) -> Result<Option<Arc<JobShared>>, RecoverError> {
    let Some(found) = kept_job(session, store, entry).await? else { return Ok(None) };
    let FromJournal { job, places, reads_from } = found;
    let JobIdentity { id, instance, .. } = job.identity;
    session.table_mut().put_back(id, instance, Arc::clone(&job), &places);
    if job.rows().state().is_finished() {
        return Ok(None);
    }
    let mut arguments = ParentJobArguments::new(&job, session);
    if let (true, Some(log)) = (job.rows().is_open(), &job.input) {
        let (feed, reader) = (MapFeed::new(), log.reader(Ordinal(0)));
        reader.advance_to(reads_from);
        arguments.feed = Some(feed.clone());
        tokio::spawn(map_feed::run(feed, reader, Arc::clone(session), Arc::clone(&job)));
    }
    let over = || RecoverError::Session(wait::ended(session));
    let supervisor = session.actor().ok_or_else(over)?.get_cell();
    let spawned = ParentJobActor::spawn_linked(None, ParentJobActor, arguments, supervisor).await;
    let (actor, _) = spawned.map_err(|_| over())?;
    job.set_actor(actor);
    Ok(Some(job))
}
