//! Jobs of a session that are finished and lie elsewhere: the table has a short row of each, which
//! says what selections ask, and the job itself is brought back when it is needed.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};

use sortie_model::{EntryId, JobInstance, Ordinal, limits};

use crate::select::JobFacts;
use crate::session::{Place, SessionTable};

/// Where children of a job are among the numbers of its session: the first one's number, its
/// place in the job, and how many follow.
pub type Run = (EntryId, Ordinal, u64);

/// Finished jobs that could be archived and are in memory, the longest there first.
#[derive(Debug, Default)]
pub struct Lingering {
    jobs: VecDeque<(EntryId, u32)>,
    children: u64,
}

impl Lingering {
    /// One more is in memory, with so many children.
    pub fn add(&mut self, id: EntryId, children: u32) {
        self.jobs.push_back((id, children));
        self.children += u64::from(children);
    }

    /// The longest there, while they are more than [`limits::JOBS_BROUGHT`], or have more children
    /// than [`limits::CHILDREN_BROUGHT`]: it is to be archived, or added again. One that is alone
    /// stays.
    pub fn surplus(&mut self) -> Option<(EntryId, u32)> {
        let (jobs, children) = (self.jobs.len(), self.children);
        if jobs <= 1 || (jobs <= limits::JOBS_BROUGHT && children <= limits::CHILDREN_BROUGHT) {
            return None;
        }
        let (id, children) = self.jobs.pop_front()?;
        self.children -= u64::from(children);
        Some((id, children))
    }
}

impl<J, A> SessionTable<J, A> {
    /// Puts archived jobs in, in place of all that are archived. Numbers of their children that
    /// do not follow their own are put in by [`Self::put_apart`].
    pub fn put_archived(&mut self, archived: BTreeMap<EntryId, A>) {
        self.archived = archived;
    }

    /// Puts in the numbers of a job's children that do not follow its own.
    pub fn put_apart(&mut self, id: EntryId, children: &[Run]) {
        self.put_children(id, children);
    }

    /// The row of a job that is archived.
    pub fn archived(&self, id: EntryId) -> Option<&A> {
        self.archived.get(&id)
    }

    /// Every archived job, by ascending number.
    pub fn all_archived(&self) -> impl Iterator<Item = (EntryId, &A)> {
        self.archived.iter().map(|(id, row)| (*id, row))
    }

    /// Takes an archived job's row out; its numbers are never used again.
    pub fn remove_archived(&mut self, id: EntryId) -> Option<A> {
        let row = self.archived.remove(&id)?;
        self.children.retain(|_, run| run.job != id);
        Some(row)
    }

    /// Puts an archived job back, with the numbers of its children. False if it is not archived
    /// any more: then nothing is changed.
    pub fn bring_back(
        &mut self,
        (id, instance): (EntryId, JobInstance),
        job: J,
        children: &[Run],
    ) -> bool {
        let was_archived = self.archived.remove(&id).is_some();
        if was_archived {
            self.put_back(id, instance, job, children);
        }
        was_archived
    }

    /// Archives a job, if `row` gives one for it, and gives back what was kept of it. Its key is
    /// for the caller to remember.
    pub fn archive(&mut self, id: EntryId, row: impl FnOnce(&J) -> Option<A>) -> Option<J>
    where
        J: JobFacts,
    {
        let job = self.jobs.get(&id)?;
        let row = row(job)?;
        self.instances.remove(&job.instance());
        if let Some(key) = self.keys_of.remove(&id) {
            self.keys.remove(&key);
        }
        // Children whose numbers follow its own are known by its row.
        let (first, all) = (id.0.saturating_add(1), u64::from(job.children()));
        if self.children.get(&first).is_some_and(|run| run.job == id && run.count == all) {
            self.children.remove(&first);
        }
        self.archived.insert(id, row);
        self.jobs.remove(&id)
    }

    /// The same jobs, without what is known of keys: to be searched at leisure.
    pub fn without_keys(&self) -> Self
    where
        J: Clone,
        A: Clone,
    {
        Self {
            next: self.next,
            jobs: self.jobs.clone(),
            archived: self.archived.clone(),
            instances: self.instances.clone(),
            children: self.children.clone(),
            ..Self::default()
        }
    }
}

impl<J, A: JobFacts> SessionTable<J, A> {
    /// What has that number.
    pub fn place(&self, id: EntryId) -> Option<Place> {
        if self.jobs.contains_key(&id) || self.archived.contains_key(&id) {
            return Some(Place::Job(id));
        }
        if let Some((start, run)) = self.children.range(..=id.0).next_back() {
            let offset = id.0 - start;
            let ordinal = u32::try_from(u64::from(run.first.0) + offset).ok()?;
            if offset < run.count {
                return Some(Place::Child(run.job, Ordinal(ordinal)));
            }
        }
        // Between a job's number and those of children that follow it there is no other.
        let (job, row) = self.archived.range(..=id).next_back()?;
        let ordinal = Ordinal(u32::try_from(id.0 - job.0).ok()?.checked_sub(1)?);
        (row.child_id(ordinal) == Some(id)).then_some(Place::Child(*job, ordinal))
    }
}

impl<J: JobFacts, A: JobFacts> SessionTable<J, A> {
    /// What there is to know of a job, archived or not.
    pub fn facts(&self, id: EntryId) -> Option<&dyn JobFacts> {
        match self.jobs.get(&id) {
            Some(job) => Some(job),
            None => self.archived.get(&id).map(|row| row as &dyn JobFacts),
        }
    }

    /// Every job, archived or not, by ascending number.
    pub fn all(&self) -> impl Iterator<Item = (EntryId, &dyn JobFacts)> {
        let mut jobs = self.jobs.iter().peekable();
        let mut archived = self.archived.iter().peekable();
        std::iter::from_fn(move || {
            let job_first = match (jobs.peek(), archived.peek()) {
                (Some((job, _)), Some((row, _))) => job < row,
                (job, _) => job.is_some(),
            };
            if job_first {
                jobs.next().map(|(id, job)| (*id, job as &dyn JobFacts))
            } else {
                archived.next().map(|(id, row)| (*id, row as &dyn JobFacts))
            }
        })
    }

    /// The number of the newest job.
    pub fn newest(&self) -> Option<EntryId> {
        let last = self.jobs.last_key_value().map(|(id, _)| *id);
        last.max(self.archived.last_key_value().map(|(id, _)| *id))
    }

    /// The job with that identity, archived or not. Identities ascend with numbers, unless a clock
    /// was set back: an archived one is looked for by halving first, and among all after that.
    pub fn find_instance(&self, instance: JobInstance) -> Option<EntryId> {
        if let Some(id) = self.instances.get(&instance) {
            return Some(*id);
        }
        let (mut low, mut high) = (0, self.archived.last_key_value().map_or(0, |(id, _)| id.0));
        while low <= high {
            let middle = low + (high - low) / 2;
            let (id, row) = self.archived.range(EntryId(middle)..).next()?;
            match row.instance().cmp(&instance) {
                Ordering::Equal => return Some(*id),
                Ordering::Less => low = id.0.saturating_add(1),
                Ordering::Greater if middle == 0 => break,
                Ordering::Greater => high = middle - 1,
            }
        }
        let mut rows = self.archived.iter();
        rows.find_map(|(id, row)| (row.instance() == instance).then_some(*id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds jobs with so many children each, and takes the surplus after each; those that stay.
    fn check(jobs: usize, children: u32, stay: usize) {
        let mut lingering = Lingering::default();
        for id in 0..jobs {
            lingering.add(EntryId(id as u64), children);
            while let Some((gone, of)) = lingering.surplus() {
                assert_eq!((gone, of), (EntryId((id - lingering.jobs.len()) as u64), children));
            }
        }
        assert_eq!(lingering.jobs.len(), stay);
        assert_eq!(lingering.children, stay as u64 * u64::from(children));
    }

    #[test]
    fn finished_jobs_stay_in_memory_up_to_a_bound_of_jobs_and_one_of_children() {
        check(10, 1, 10);
        check(3 * limits::JOBS_BROUGHT, 1, limits::JOBS_BROUGHT);
        check(3 * limits::JOBS_BROUGHT, 0, limits::JOBS_BROUGHT);
        check(10, limits::CHILDREN_BROUGHT as u32 / 4, 4);
        check(10, limits::CHILDREN_PER_JOB, 1);
    }
}
