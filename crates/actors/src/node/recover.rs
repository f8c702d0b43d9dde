//! The start of a node with a home: its sessions and their jobs are as they were
//! (`docs/semantics.md`, section 4.2).

use std::sync::Arc;
use std::time::Duration;

use ractor::Actor;
use sortie_engine::history::{Ended, Held, Retention, surplus};
use sortie_engine::hold::Hold;
use sortie_engine::parent_job::{JobIdentity, KeptChild, KeptJob, ParentJob};
use sortie_engine::placement;
use sortie_model::{EntryId, Ordinal, limits};
use sortie_store::Store;
use sortie_store::journal::{Change, JobEntry, JournalError, Order, SessionEntry, Told};
use sortie_wire::RemoteError;
use sortie_wire::session_proto::ScopeChange;

use crate::data::durable::{Durable, kept_child, output};
use crate::data::job::JobShared;
use crate::data::session::{SessionIdentity, SessionShared};
use crate::node::NodeShared;
use crate::parent_job::{ParentJobActor, ParentJobArguments, ParentJobMessage};
use crate::serve::{remove, wait};

/// Rows of the journal that are read at once.
const PAGE: usize = 4_096;
/// How often the node looks what of its history is too old or too much.
const HOUSEKEEPING: Duration = Duration::from_secs(60);

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
}

impl NodeShared {
    /// Opens the sessions that are kept, with their jobs. Nothing of them moves before this
    /// returns.
    ///
    /// # Errors
    /// [`RecoverError`]; what is kept stays as it is.
    pub(super) async fn recover(self: &Arc<Self>, store: &Arc<Store>) -> Result<(), RecoverError> {
        for entry in store.journal().sessions()? {
            let session = self.reopen(store, &entry).await?;
            let mut after = None;
            loop {
                let jobs = store.journal().jobs(entry.instance, after, PAGE)?;
                let Some(last) = jobs.last() else { break };
                after = Some(last.id);
                for job in jobs {
                    recover_job(&session, store, job).await?;
                }
            }
            session.look_after_idle();
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

    /// Forgets what is too old or too much, while the node lives.
    pub(super) async fn keep_house(self: Arc<Self>, store: Arc<Store>) {
        let mut over = self.over.subscribe();
        loop {
            tokio::select! {
                _ = over.wait_for(|over| *over) => return,
                () = tokio::time::sleep(HOUSEKEEPING) => {}
            }
            if let Err(error) = self.forget_old(&store).await {
                tracing::warn!(%error, "old jobs cannot be forgotten");
            }
        }
    }

    async fn forget_old(&self, store: &Store) -> Result<(), JournalError> {
        let journal = store.journal();
        loop {
            let totals = journal.history()?;
            let oldest = journal.finished(Order::OldestFirst, PAGE)?;
            let ended: Vec<Ended> =
                oldest.iter().map(|job| Ended { end: job.end, bytes: job.bytes }).collect();
            let held = Held { jobs: totals.jobs, bytes: totals.bytes };
            let gone = surplus(held, &ended, &Retention::default(), self.world.now());
            if gone == 0 {
                return self.forget_keys(store).await;
            }
            for job in oldest.iter().take(gone) {
                if let Some(session) = self.session(job.session) {
                    remove::drop_job(&session, job.job).await;
                }
            }
        }
    }

    /// Keys of jobs that were removed long ago.
    async fn forget_keys(&self, store: &Store) -> Result<(), JournalError> {
        let too_old = self.world.now().earlier_by(limits::KEY_KEPT);
        for session in self.sessions.all() {
            let Some(durable) = &session.durable else { continue };
            let (instance, mut after) = (session.identity.instance, None);
            loop {
                let keys = store.journal().keys(instance, after.as_ref(), PAGE)?;
                let Some((last, _)) = keys.last() else { break };
                after = Some(last.clone());
                let old = keys
                    .into_iter()
                    .filter(|(_, entry)| entry.removed.is_some_and(|removed| removed < too_old));
                let keys: Vec<_> = old.map(|(key, _)| key).collect();
                if !keys.is_empty() {
                    durable.keep(vec![Change::KeysForgotten { session: instance, keys }]).await;
                }
            }
        }
        Ok(())
    }
}

/// Takes a job up again: one that is not finished goes on.
async fn recover_job(
    session: &Arc<SessionShared>,
    store: &Arc<Store>,
    entry: JobEntry,
) -> Result<(), RecoverError> {
    let Some(plan) = store.journal().plan(session.identity.instance, entry.id)? else {
        // It was removed meanwhile.
        return Ok(());
    };
    let (spec, nodes) = (plan.spec, plan.nodes);
    let count = nodes.len() as u32;
    let mut children: Vec<(Ordinal, KeptChild)> = Vec::new();
    let mut places = vec![(EntryId(entry.id.0 + 1), Ordinal(0), plan.known_children)];
    let mut from = Ordinal(0);
    loop {
        let runs = store.journal().children(entry.instance, from, PAGE)?;
        let Some(last) = runs.last() else { break };
        from = Ordinal(last.first.0.saturating_add(last.count));
        for run in runs {
            places.push((run.facts.id, run.first, u64::from(run.count)));
            for after in 0..run.count {
                let ordinal = Ordinal(run.first.0 + after);
                let told = placement::node_of(&spec.fan, ordinal, count);
                children.push((ordinal, kept_child(run.facts.clone(), after, told)));
            }
        }
    }
    if plan.known_children > 0 {
        places.truncate(1);
    }
    let facts = entry.facts;
    let kept = KeptJob {
        identity: JobIdentity {
            id: entry.id,
            instance: entry.instance,
            session: session.identity.id,
            created: entry.created,
        },
        spec,
        nodes,
        stopped_by: match facts.told {
            Told::Stop { by } => Some(by),
            Told::Nothing | Told::Suspend { .. } => None,
        },
        throttle: facts.throttle,
        begin: facts.begin,
        end: facts.end,
        restarts: facts.restarts,
    };
    let mut rows = ParentJob::recover(kept, children);
    rows.note_touched();
    let finished = rows.state().is_finished();
    let mailboxes = output::mailboxes(&session.node.pool, store, entry.instance);
    let job = JobShared::new(rows, mailboxes, None, session);
    if facts.with_errors {
        job.note_streams([sortie_model::Stream::Error]);
    }
    output::restore(&job, store).await?;
    session.table_mut().put_back(entry.id, entry.instance, Arc::clone(&job), &places);
    if finished {
        return Ok(());
    }
    let arguments = ParentJobArguments {
        job: Arc::clone(&job),
        session: Arc::clone(session),
        feed: None,
        kept: None,
    };
    let over = || RecoverError::Session(wait::ended(session));
    let supervisor = session.actor().ok_or_else(over)?.get_cell();
    let spawned = ParentJobActor::spawn_linked(None, ParentJobActor, arguments, supervisor).await;
    let (actor, _) = spawned.map_err(|_| over())?;
    job.set_actor(actor);
    job.tell(ParentJobMessage::Recovered);
    Ok(())
}
