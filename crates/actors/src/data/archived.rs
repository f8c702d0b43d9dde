//! A finished job that lies in the journal only: what its session has of it in memory, about 100
//! bytes and its command, and how it is shown.

use std::borrow::Cow;
use std::sync::Arc;

use sortie_engine::mailbox::Tally;
use sortie_engine::parent_job::BROKE_OFF;
use sortie_engine::select::JobFacts;
use sortie_engine::session::Run;
use sortie_model::{
    ChildKey, EntryId, JobInstance, JobView, Ordinal, SessionId, State, Timestamp, limits,
};
use sortie_store::journal::{ChildFacts, Dropped, InputState, JobEntry, JournalError, Told};

use crate::data::durable::{Durable, PAGE};
use crate::data::job::{JobShared, dropped};
use crate::data::mailboxes::has_left;

/// The row of an archived job.
#[derive(Debug, Clone)]
pub(crate) struct Archived {
    durable: Arc<Durable>,
    id: EntryId,
    instance: JobInstance,
    end: Timestamp,
    /// Its given name.
    name: Option<Box<str>>,
    /// What was submitted, if it is short.
    command: Option<Box<str>>,
    /// Where its children are, if their numbers do not follow its own.
    apart: Option<Box<[Run]>>,
    children: u32,
    state: State,
    unread: bool,
    any_failed: bool,
}

impl Archived {
    /// The row of a job as the journal has it; none if it is not finished.
    ///
    /// # Errors
    /// [`JournalError`].
    pub(crate) fn of(
        durable: &Arc<Durable>,
        entry: &JobEntry,
    ) -> Result<Option<Self>, JournalError> {
        let Some(end) = entry.facts.finished() else { return Ok(None) };
        let children = entry.facts.tally.total();
        let mut apart = None;
        if entry.known_children == 0 && children > 0 {
            apart = Some(runs(durable, entry.instance)?.into_boxed_slice());
        }
        let default = format!("Job{}", entry.id);
        Ok(Some(Self {
            durable: Arc::clone(durable),
            id: entry.id,
            instance: entry.instance,
            end,
            name: Some(entry.name.as_str()).filter(|name| *name != default).map(Box::from),
            command: short(&entry.command),
            apart,
            children: u32::try_from(children).unwrap_or(limits::CHILDREN_PER_JOB),
            state: entry.facts.state,
            unread: entry.facts.unread,
            any_failed: entry.facts.tally.of(State::Failed) > 0,
        }))
    }

    /// The row of a job that is in memory; none if it is in use, or the journal does not have all
    /// of it.
    pub(crate) fn of_idle(job: &Arc<JobShared>) -> Option<Self> {
        let durable = job.durable.clone()?;
        if Arc::strong_count(job) > 1 || !job.mailboxes.is_at_rest() {
            return None;
        }
        let rows = job.rows();
        let end = rows.end_time().filter(|_| rows.state().is_finished())?;
        let (id, children) = (job.identity.id, rows.children());
        let follows = |ordinal: Ordinal| rows.child_id(ordinal).map(|child| child.0 - id.0 - 1);
        let apart = (0..children).map(Ordinal).any(|it| follows(it) != Some(u64::from(it.0)));
        Some(Self {
            durable,
            id,
            instance: job.identity.instance,
            end,
            name: JobFacts::name(job).map(Box::from),
            command: short(&JobFacts::command(job)),
            apart: apart.then(|| {
                let children = (0..children).map(Ordinal);
                gathered(children.filter_map(|it| Some((rows.child_id(it)?, it, 1)))).into()
            }),
            children,
            state: rows.state(),
            unread: job.mailboxes.unread().records > 0,
            any_failed: rows.counts().of(State::Failed) > 0,
        })
    }

    /// Where children are whose numbers do not follow the job's own.
    pub(crate) fn apart(&self) -> &[Run] {
        self.apart.as_deref().unwrap_or_default()
    }

    /// Whether its command has to be read from the disk.
    pub(crate) const fn has_long_command(&self) -> bool {
        self.command.is_none()
    }

    /// Whether a child failed.
    pub(crate) const fn any_failed(&self) -> bool {
        self.any_failed
    }

    /// What the journal shows of it; none if it is not there any more.
    ///
    /// # Errors
    /// [`JournalError`].
    pub(crate) fn entry(&self) -> Result<Option<JobEntry>, JournalError> {
        let found = self.durable.store().journal().job(self.durable.instance(), self.id)?;
        Ok(found.map(|(_, entry)| entry))
    }

    /// The job as its session shows it. `ids` says whether its children's numbers are wanted.
    pub(crate) fn view(&self, entry: JobEntry, session: SessionId, ids: bool) -> JobView {
        let facts = entry.facts;
        let broke_off = (facts.input == InputState::BrokeOff).then(|| BROKE_OFF.to_owned());
        let Dropped { records, bytes, .. } = facts.dropped;
        let shown = if ids { self.children.min(limits::CHILD_IDS_SHOWN as u32) } else { 0 };
        JobView {
            id: self.id,
            instance: self.instance,
            name: entry.name,
            kind: entry.kind,
            state: self.state,
            has_more_data: self.unread,
            location: facts.location,
            command: entry.command,
            created: entry.created,
            begin_time: facts.begin,
            end_time: Some(self.end),
            with_errors: facts.with_errors && self.state == State::Completed,
            tally: facts.tally,
            children: (0..shown).filter_map(|child| self.child_id(Ordinal(child))).collect(),
            session,
            stopped_by: facts.stop.filter(|_| facts.told == Told::Stop).map(|(_, by)| by),
            stop_pending: Vec::new(),
            notes: broke_off.into_iter().chain(dropped(Tally { records, bytes })).collect(),
            restarts: facts.restarts,
            paused: 0,
        }
    }

    /// A child as the journal has it. What cannot be read says so when its job is asked for.
    fn child(&self, child: Ordinal) -> Option<ChildFacts> {
        let journal = self.durable.store().journal();
        let mut runs = journal.children(self.instance, child, 1).ok()?;
        runs.pop().filter(|run| run.first == child).map(|run| run.facts)
    }
}

/// A command, if it stays in memory.
fn short(command: &str) -> Option<Box<str>> {
    (command.len() <= limits::ARCHIVED_COMMAND_BYTES).then(|| command.into())
}

/// Where the children of a job are that were read from an input.
fn runs(durable: &Durable, job: JobInstance) -> Result<Vec<Run>, JournalError> {
    let (mut all, mut from) = (Vec::new(), Ordinal(0));
    loop {
        let page = durable.store().journal().children(job, from, PAGE)?;
        let Some(last) = page.last() else { return Ok(gathered(all)) };
        from = Ordinal(last.first.0.saturating_add(last.count));
        all.extend(page.iter().map(|run| (run.facts.id, run.first, u64::from(run.count))));
    }
}

/// Runs that follow each other are one.
fn gathered(runs: impl IntoIterator<Item = Run>) -> Vec<Run> {
    let mut all: Vec<Run> = Vec::new();
    for (id, first, count) in runs {
        match all.last_mut() {
            Some((start, place, length))
                if start.0 + *length == id.0 && u64::from(place.0) + *length == first.0.into() =>
            {
                *length += count;
            }
            _ => all.push((id, first, count)),
        }
    }
    all
}

impl JobFacts for Archived {
    fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    fn command(&self) -> Cow<'_, str> {
        if let Some(command) = &self.command {
            return Cow::Borrowed(command);
        }
        let entry = self.entry().ok().flatten();
        Cow::Owned(entry.map(|entry| entry.command).unwrap_or_default())
    }

    fn instance(&self) -> JobInstance {
        self.instance
    }

    fn state(&self) -> State {
        self.state
    }

    fn end_time(&self) -> Option<Timestamp> {
        Some(self.end)
    }

    fn has_more_data(&self) -> bool {
        self.unread
    }

    fn children(&self) -> u32 {
        self.children
    }

    fn child_id(&self, child: Ordinal) -> Option<EntryId> {
        let Some(apart) = &self.apart else {
            let id = self.id.0.saturating_add(1).saturating_add(u64::from(child.0));
            return (child.0 < self.children).then_some(EntryId(id));
        };
        let behind = apart.partition_point(|(_, first, _)| *first <= child);
        let (id, first, count) = apart.get(behind.checked_sub(1)?)?;
        let offset = u64::from(child.0 - first.0);
        (offset < *count).then(|| EntryId(id.0.saturating_add(offset)))
    }

    fn child_state(&self, child: Ordinal) -> Option<State> {
        self.child(child).map(|facts| facts.state)
    }

    fn child_end_time(&self, child: Ordinal) -> Option<Timestamp> {
        self.child(child)?.end
    }

    fn child_has_more_data(&self, child: Ordinal) -> bool {
        let key = ChildKey { job: self.instance, ordinal: child };
        self.unread && has_left(self.durable.store(), key).unwrap_or(true)
    }
}
