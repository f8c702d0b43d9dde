//! A session: one id counter over jobs and children, the job table, and the idempotency keys
//! (`docs/semantics.md`, sections 1.1, 1.2 and 3.1).

mod archived;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::convert::Infallible;
use std::time::Duration;

use sortie_model::{EntryId, IdempotencyKey, JobInstance, JobSpec, Ordinal, limits};
use sortie_wire::codec::encoded_length;

pub use archived::{Lingering, Run};

/// A moment on the node's monotonic clock, from its start.
pub type Uptime = Duration;

/// What a start becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartDecision {
    /// A new job with that number; its known children follow without a gap.
    New(EntryId),
    /// The key's job, started before.
    Same(EntryId),
}

/// Why a start is refused; nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartRefused {
    /// The key belongs to another spec.
    #[error("the key `{}` was used for another job ({job})", key.as_str())]
    KeyReused {
        /// The key.
        key: IdempotencyKey,
        /// The job it belongs to.
        job: EntryId,
    },
    /// Every remembered key belongs to a job that is still there.
    #[error("the session remembers {} keys already", limits::KEYS_PER_SESSION)]
    Keys,
    /// The session has as many jobs as it may.
    #[error("the session has {} jobs already; remove finished ones", limits::JOBS_PER_SESSION)]
    Jobs,
}

/// A submission says more than [`limits::SPEC_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "arguments, environment and script, or what is shown of them, pass {} bytes",
    limits::SPEC_BYTES
)]
pub struct SpecTooLong;

/// Whether a submission keeps its bound.
///
/// # Errors
/// [`SpecTooLong`]; no job may be made of it.
pub fn check_spec(spec: &JobSpec) -> Result<(), SpecTooLong> {
    let shown = spec.command.len();
    let length = encoded_length(spec).map_err(|_| SpecTooLong)?;
    let fits = shown <= limits::SPEC_BYTES && length.saturating_sub(shown) <= limits::SPEC_BYTES;
    fits.then_some(()).ok_or(SpecTooLong)
}

/// Where an entry of the session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// A job.
    Job(EntryId),
    /// A child of a job.
    Child(EntryId, Ordinal),
}

#[derive(Debug)]
struct KeyEntry {
    spec: JobSpec,
    job: EntryId,
}

/// Children whose numbers follow each other.
#[derive(Debug, Clone, Copy)]
struct ChildRun {
    job: EntryId,
    first: Ordinal,
    count: u64,
}

/// The table of a session. `J` is what the caller keeps per job, `A` what it keeps per archived
/// job: a finished one that lies elsewhere, and can be brought back.
#[derive(Debug)]
pub struct SessionTable<J, A = Infallible> {
    next: u64,
    jobs: BTreeMap<EntryId, J>,
    archived: BTreeMap<EntryId, A>,
    instances: HashMap<JobInstance, EntryId>,
    children: BTreeMap<u64, ChildRun>,
    keys: HashMap<IdempotencyKey, KeyEntry>,
    removed: VecDeque<(IdempotencyKey, Uptime)>,
    keys_of: HashMap<EntryId, IdempotencyKey>,
}

impl<J, A> Default for SessionTable<J, A> {
    fn default() -> Self {
        Self {
            next: 1,
            jobs: BTreeMap::new(),
            archived: BTreeMap::new(),
            instances: HashMap::new(),
            children: BTreeMap::new(),
            keys: HashMap::new(),
            removed: VecDeque::new(),
            keys_of: HashMap::new(),
        }
    }
}

impl<J, A> SessionTable<J, A> {
    /// Decides what a start with this key becomes, and reserves the numbers of the job and of the
    /// children that are known. Check and insert are one step.
    ///
    /// # Errors
    /// [`StartRefused`]; nothing was reserved.
    pub fn on_start(
        &mut self,
        key: IdempotencyKey,
        spec: &JobSpec,
        known_children: u64,
        now: Uptime,
    ) -> Result<StartDecision, StartRefused> {
        if let Some(job) = self.same(&key, spec, now)? {
            return Ok(StartDecision::Same(job));
        }
        if self.jobs.len() >= limits::JOBS_PER_SESSION {
            return Err(StartRefused::Jobs);
        }
        if self.keys.len() >= limits::KEYS_PER_SESSION {
            let (oldest, _) = self.removed.pop_front().ok_or(StartRefused::Keys)?;
            self.keys.remove(&oldest);
        }
        let job = EntryId(self.next);
        self.next += 1;
        self.keys_of.insert(job, key.clone());
        self.keys.insert(key, KeyEntry { spec: spec.asked(), job });
        self.reserve_children(job, Ordinal(0), known_children);
        Ok(StartDecision::New(job))
    }

    /// The key's job, if it was started before.
    ///
    /// # Errors
    /// [`StartRefused::KeyReused`].
    pub fn same(
        &mut self,
        key: &IdempotencyKey,
        spec: &JobSpec,
        now: Uptime,
    ) -> Result<Option<EntryId>, StartRefused> {
        self.forget_old_keys(now);
        match self.keys.get(key) {
            None => Ok(None),
            Some(entry) if entry.spec == spec.asked() => Ok(Some(entry.job)),
            Some(entry) => Err(StartRefused::KeyReused { key: key.clone(), job: entry.job }),
        }
    }

    /// The start came to nothing after all: its key is free again. Its numbers are not.
    pub fn withdraw(&mut self, id: EntryId) {
        self.children.retain(|_, run| run.job != id);
        if let Some(key) = self.keys_of.remove(&id) {
            self.keys.remove(&key);
        }
    }

    /// The number that the next job or child gets.
    pub const fn next_id(&self) -> EntryId {
        EntryId(self.next)
    }

    /// No number before this one is given.
    pub const fn go_on_from(&mut self, next: EntryId) {
        if next.0 > self.next {
            self.next = next.0;
        }
    }

    /// Puts a job of a former life back, with the numbers of its children: the first one's, its
    /// place, and how many follow. Its key is not known here.
    pub fn put_back(
        &mut self,
        id: EntryId,
        instance: JobInstance,
        job: J,
        children: &[(EntryId, Ordinal, u64)],
    ) {
        self.put_children(id, children);
        self.go_on_from(EntryId(id.0.saturating_add(1)));
        self.insert(id, instance, job);
    }

    fn put_children(&mut self, job: EntryId, children: &[(EntryId, Ordinal, u64)]) {
        for (first_id, first, count) in children.iter().copied().filter(|(.., count)| *count > 0) {
            self.children.insert(first_id.0, ChildRun { job, first, count });
            self.go_on_from(EntryId(first_id.0.saturating_add(count)));
        }
    }

    /// Puts the job that a start became into the table.
    pub fn insert(&mut self, id: EntryId, instance: JobInstance, job: J) {
        self.instances.insert(instance, id);
        self.jobs.insert(id, job);
    }

    /// Reserves numbers for children of an open input as they are read; answers the first.
    pub fn reserve_children(&mut self, job: EntryId, first: Ordinal, count: u64) -> EntryId {
        let id = EntryId(self.next);
        if count == 0 {
            return id;
        }
        self.next = self.next.saturating_add(count);
        // Runs of one job that follow each other are one run: a million children of one input, read
        // while nothing else starts, are one entry.
        if let Some((start, run)) = self.children.range_mut(..id.0).next_back()
            && run.job == job
            && start.saturating_add(run.count) == id.0
            && u64::from(run.first.0) + run.count == u64::from(first.0)
        {
            run.count += count;
        } else {
            self.children.insert(id.0, ChildRun { job, first, count });
        }
        id
    }

    /// Removes a job; its numbers are never used again, its key is remembered for a while.
    pub fn remove(&mut self, id: EntryId, instance: JobInstance, now: Uptime) -> Option<J> {
        let job = self.jobs.remove(&id)?;
        self.instances.remove(&instance);
        self.children.retain(|_, run| run.job != id);
        if let Some(key) = self.keys_of.remove(&id) {
            self.removed.push_back((key, now));
        }
        Some(job)
    }

    /// The job with that number, unless it is archived.
    pub fn job(&self, id: EntryId) -> Option<&J> {
        self.jobs.get(&id)
    }

    /// The job with that identity, unless it is archived.
    pub fn instance(&self, instance: JobInstance) -> Option<(EntryId, &J)> {
        let id = *self.instances.get(&instance)?;
        Some((id, self.jobs.get(&id)?))
    }

    /// Every job that is not archived, by ascending number.
    pub fn jobs(&self) -> impl DoubleEndedIterator<Item = (EntryId, &J)> {
        self.jobs.iter().map(|(id, job)| (*id, job))
    }

    /// How many jobs there are, archived ones included.
    pub fn len(&self) -> usize {
        self.jobs.len() + self.archived.len()
    }

    /// Whether there is no job.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn forget_old_keys(&mut self, now: Uptime) {
        while let Some((key, since)) = self.removed.front()
            && now.saturating_sub(*since) >= limits::KEY_KEPT
        {
            self.keys.remove(key);
            self.removed.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use sortie_model::spec::{BodySpec, OsBytes, RunIn};
    use uuid::Uuid;

    use super::*;

    fn key(text: &str) -> IdempotencyKey {
        IdempotencyKey::try_from(text.to_owned()).expect("a good key")
    }

    fn spec(name: &str) -> JobSpec {
        JobSpec::new(
            name,
            BodySpec::Task {
                name: name.to_owned(),
                input: Bytes::new(),
                types: None,
                run_in: RunIn::Thread,
            },
        )
    }

    fn started(table: &mut SessionTable<()>, text: &str, children: u64, now: u64) -> EntryId {
        let decision = table.on_start(key(text), &spec(text), children, Duration::from_secs(now));
        let Ok(StartDecision::New(id)) = decision else { panic!("{decision:?}") };
        table.insert(id, JobInstance(Uuid::from_u128(u128::from(id.0))), ());
        id
    }

    #[test]
    fn a_submission_says_at_most_so_much() {
        let of = |input: usize, shown: usize| {
            let input = Bytes::from(vec![0; input]);
            let name = "f".to_owned();
            check_spec(&JobSpec::new(
                "x".repeat(shown),
                BodySpec::Task { name, input, types: None, run_in: RunIn::Thread },
            ))
        };
        assert_eq!(of(limits::SPEC_BYTES - limits::KIB, limits::SPEC_BYTES), Ok(()));
        assert_eq!(of(limits::SPEC_BYTES, 1), Err(SpecTooLong));
        assert_eq!(of(1, limits::SPEC_BYTES + 1), Err(SpecTooLong));
        assert_eq!(of(limits::FRAME_BYTES, 1), Err(SpecTooLong));
    }

    #[test]
    fn one_counter_numbers_jobs_and_children() {
        let mut table = SessionTable::default();
        assert_eq!(started(&mut table, "a", 1, 0), EntryId(1));
        assert_eq!(started(&mut table, "b", 2, 0), EntryId(3));
        assert_eq!(table.place(EntryId(2)), Some(Place::Child(EntryId(1), Ordinal(0))));
        assert_eq!(table.place(EntryId(5)), Some(Place::Child(EntryId(3), Ordinal(1))));
        assert_eq!(table.place(EntryId(6)), None);
    }

    #[test]
    fn children_of_an_open_input_get_their_numbers_as_they_are_read() {
        let mut table = SessionTable::default();
        let map = started(&mut table, "map", 0, 0);
        assert_eq!(table.reserve_children(map, Ordinal(0), 2), EntryId(2));
        let other = started(&mut table, "other", 1, 0);
        assert_eq!(other, EntryId(4));
        assert_eq!(table.reserve_children(map, Ordinal(2), 2), EntryId(6));
        assert_eq!(table.place(EntryId(7)), Some(Place::Child(map, Ordinal(3))));
    }

    #[test]
    fn the_same_key_is_the_same_job_or_an_error() {
        let mut table = SessionTable::default();
        let id = started(&mut table, "a", 1, 0);
        let now = Duration::ZERO;
        assert_eq!(table.on_start(key("a"), &spec("a"), 1, now), Ok(StartDecision::Same(id)));
        let variable = |text: &str| OsBytes::try_from(text).expect("no NUL");
        let from = |spec: &JobSpec, level: &str| {
            let mut spec = spec.clone();
            spec.environment.inherited = Some(vec![(variable("SHLVL"), variable(level))]);
            spec
        };
        let first = table.on_start(key("e"), &from(&spec("e"), "1"), 1, now);
        let Ok(StartDecision::New(other)) = first else { panic!("{first:?}") };
        let again = table.on_start(key("e"), &from(&spec("e"), "2"), 1, now);
        assert_eq!(again, Ok(StartDecision::Same(other)), "from another shell");
        let refused = table.on_start(key("a"), &spec("b"), 1, now);
        assert_eq!(refused, Err(StartRefused::KeyReused { key: key("a"), job: id }));
        assert_eq!(table.same(&key("a"), &spec("a"), now), Ok(Some(id)));
        assert_eq!(table.same(&key("b"), &spec("b"), now), Ok(None));
        let new = table.on_start(key("b"), &spec("b"), 1, now);
        assert_eq!(new, Ok(StartDecision::New(EntryId(5))), "a look reserves nothing");
    }

    #[test]
    fn a_removed_jobs_key_is_remembered_for_a_day_and_its_number_for_ever() {
        let mut table = SessionTable::default();
        let id = started(&mut table, "a", 1, 0);
        let instance = JobInstance(Uuid::from_u128(u128::from(id.0)));
        let removed = table.remove(id, instance, Duration::from_secs(10));
        assert_eq!((removed, table.place(EntryId(2))), (Some(()), None));
        let soon = table.on_start(key("a"), &spec("a"), 1, Duration::from_secs(20));
        assert_eq!(soon, Ok(StartDecision::Same(id)));
        let later = Duration::from_secs(11) + limits::KEY_KEPT;
        let decision = table.on_start(key("a"), &spec("a"), 1, later);
        assert_eq!(decision, Ok(StartDecision::New(EntryId(3))));
    }
}
