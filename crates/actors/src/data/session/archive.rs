//! Finished jobs of a session that lie in its journal: they are found there, brought back into
//! memory when they are read, and put away again when nobody reads them. Those that finished in
//! this life of the node are put away, too.

use std::sync::{Arc, Mutex, PoisonError};

use sortie_engine::select::{self, Page, Selected};
use sortie_engine::session::{Lingering, SessionTable};
use sortie_model::selector::{Query, Selection};
use sortie_model::{EntryId, JobInstance};
use sortie_store::journal::{JobEntry, JournalError};
use sortie_wire::{ErrorCode, RemoteError};

use crate::data::archived::Archived;
use crate::data::job::JobShared;
use crate::data::session::SessionShared;
use crate::node::recover::{FromJournal, RecoverError, kept_job};

/// The jobs of a session.
pub(crate) type Jobs = SessionTable<Arc<JobShared>, Archived>;

/// Jobs that are put away, or are found to be in use, for each that is brought back or finishes.
const PUT_AWAY_AT_ONCE: usize = 8;

/// What a session knows of the jobs that it brought back, or could put away.
#[derive(Debug, Default)]
pub(super) struct Brought {
    /// Held while one is read, or removed.
    reading: tokio::sync::Mutex<()>,
    /// Those in memory.
    jobs: Mutex<Lingering>,
}

/// What a client is told where the journal cannot be read.
pub(crate) fn unreadable(error: &dyn std::fmt::Display) -> RemoteError {
    let text = format!("the journal of this node cannot be read: {error}");
    RemoteError::new(ErrorCode::Storage, text).hint("`sortie doctor` says more")
}

impl SessionShared {
    /// What a selection names. Where that is a matter of the disk, nobody waits for it.
    pub(crate) async fn select(&self, selection: &Selection) -> Selected {
        let selection = selection.clone();
        let on_disk = self.reads_commands(&selection);
        self.search(on_disk, move |jobs| select::select(&selection, jobs)).await
    }

    /// What a query finds; the same holds.
    pub(crate) async fn query(&self, query: &Query) -> Page {
        let names_children = query.children || !query.selection.selectors.is_empty();
        let times = query.before.is_some() || query.after.is_some() || query.newest.is_some();
        let on_disk = self.reads_commands(&query.selection)
            || !query.child_states.is_empty()
            || (names_children && (times || query.has_more_data.is_some()));
        let query = query.clone();
        self.search(on_disk, move |jobs| select::run(&query, jobs)).await
    }

    /// Whether commands have to be read from the disk for it.
    fn reads_commands(&self, selection: &Selection) -> bool {
        let long = |table: &Jobs| table.all_archived().any(|(_, row)| row.has_long_command());
        selection.command.is_some() && long(&self.table())
    }

    /// Looks for something in the table, or in a copy of it, off the runtime's workers.
    async fn search<T: Default + Send + 'static>(
        &self,
        on_disk: bool,
        look: impl FnOnce(&Jobs) -> T + Send + 'static,
    ) -> T {
        let copy = {
            let table = self.table();
            if !on_disk || table.all_archived().next().is_none() {
                return look(&table);
            }
            table.without_keys()
        };
        // Only a panic in it is an error; the runtime tells of that.
        tokio::task::spawn_blocking(move || look(&copy)).await.unwrap_or_default()
    }

    /// The job with that number, brought back if it is archived; none if there is none.
    ///
    /// # Errors
    /// [`ErrorCode::Storage`].
    pub(crate) async fn bring(&self, id: EntryId) -> Result<Option<Arc<JobShared>>, RemoteError> {
        if let Some(job) = self.table().job(id) {
            return Ok(Some(Arc::clone(job)));
        }
        // The same job twice would give each record twice.
        let _one_by_one = self.brought.reading.lock().await;
        let row = {
            let table = self.table();
            if let Some(job) = table.job(id) {
                return Ok(Some(Arc::clone(job)));
            }
            table.archived(id).cloned()
        };
        let (Some(row), Some(durable)) = (row, &self.durable) else { return Ok(None) };
        let entry = row.entry().map_err(|error| unreadable(&error))?;
        let Some(entry) = entry else { return Ok(None) };
        let instance = entry.instance;
        let kept = kept_job(self, durable.store(), entry).await;
        let kept = kept.map_err(|error| match error {
            RecoverError::Journal(error) => unreadable(&error),
            error => unreadable(&error),
        });
        let Some(FromJournal { job, places, .. }) = kept? else { return Ok(None) };
        let brought = self.table_mut().bring_back((id, instance), Arc::clone(&job), &places);
        if !brought {
            return Ok(None);
        }
        self.put_some_away(&job);
        Ok(Some(job))
    }

    /// The same for the job with that identity.
    ///
    /// # Errors
    /// As [`Self::bring`].
    pub(crate) async fn bring_instance(
        &self,
        instance: JobInstance,
    ) -> Result<Option<Arc<JobShared>>, RemoteError> {
        let found = self.table().find_instance(instance);
        match found {
            Some(id) => self.bring(id).await,
            None => Ok(None),
        }
    }

    /// What the journal shows of archived jobs; those that are gone are left out.
    ///
    /// # Errors
    /// [`ErrorCode::Storage`].
    pub(crate) async fn entries(
        &self,
        rows: Vec<Archived>,
    ) -> Result<Vec<(Archived, JobEntry)>, RemoteError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let read = tokio::task::spawn_blocking(move || {
            let found = rows.into_iter().map(|row| Ok(row.entry()?.map(|entry| (row, entry))));
            found.filter_map(Result::transpose).collect::<Result<Vec<_>, JournalError>>()
        });
        let over = |_| self.node.shuts_down();
        read.await.map_err(over)?.map_err(|error| unreadable(&error))
    }

    /// No job is brought back while this is held.
    pub(crate) async fn bring_none(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.brought.reading.lock().await
    }

    /// A job is in memory that has finished, and of which the journal has all. Some go that are
    /// there longest and that nobody uses, if there are too many.
    pub(crate) fn put_some_away(&self, new: &JobShared) {
        let mut lingering = self.brought.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        lingering.add(new.identity.id, new.rows().children());
        for _ in 0..PUT_AWAY_AT_ONCE {
            let Some((id, children)) = lingering.surplus() else { return };
            let mut table = self.table_mut();
            let gone = table.archive(id, Archived::of_idle);
            if gone.is_none() && table.job(id).is_some() {
                lingering.add(id, children);
            }
            drop(table);
            drop(gone);
        }
    }
}
