//! The executing side of a session: which children it accepted, which may run now, and what a stop,
//! a forgotten job or the owner's silence means for them (`docs/semantics.md`, sections 3.1 and 4).
//!
//! A child is accepted once, by (job, ordinal), however often its start is sent.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use sortie_model::spec::{BodySpec, StopSpec};
use sortie_model::{JobInstance, Ordinal};
use sortie_wire::host_proto::{
    ChildBatch, ChildSet, HostSpec, Resume, StartChildren, StopChildren,
};

/// A child that may run now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Its place among its siblings.
    pub ordinal: Ordinal,
    /// Its number in its session.
    pub id: u64,
    /// The number and bytes of its item of input, if it has one.
    pub item: Option<(u64, Bytes)>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostEffect {
    /// Run these children.
    Run {
        /// Their job.
        job: JobInstance,
        /// What they execute.
        spec: Arc<HostSpec>,
        /// Which.
        children: Vec<Start>,
    },
    /// Tell running children to stop.
    Stop {
        /// Their job.
        job: JobInstance,
        /// Which; all that run if none is named.
        children: ChildSet,
        /// How.
        how: StopSpec,
    },
    /// Report these as stopped: they were queued and never run.
    NeverRun {
        /// Their job.
        job: JobInstance,
        /// What they would have executed.
        spec: Arc<HostSpec>,
        /// Which.
        children: Vec<Ordinal>,
    },
    /// Kill what runs of the job and forget its reports.
    Discard(JobInstance),
}

/// A start names a job whose spec never came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a start names a job whose spec was never sent")]
pub struct SpecMissing;

#[derive(Debug)]
struct HostedJob {
    spec: Arc<HostSpec>,
    accepted: HashSet<Ordinal>,
    queued: VecDeque<Start>,
    running: u32,
}

/// The children that this node executes for one session.
#[derive(Debug)]
pub struct Host {
    jobs: HashMap<JobInstance, HostedJob>,
    processes: usize,
    most_processes: usize,
}

impl Host {
    /// A host that runs at most so many processes at once.
    pub fn new(most_processes: usize) -> Self {
        Self { jobs: HashMap::new(), processes: 0, most_processes }
    }

    /// The owner wants children started.
    ///
    /// # Errors
    /// [`SpecMissing`] when the job is not known and the message does not say what it is.
    pub fn on_start(
        &mut self,
        start: StartChildren,
        effects: &mut Vec<HostEffect>,
    ) -> Result<(), SpecMissing> {
        let StartChildren { job: instance, spec, children, .. } = start;
        let job = match (self.jobs.entry(instance), spec) {
            (std::collections::hash_map::Entry::Occupied(known), _) => known.into_mut(),
            (std::collections::hash_map::Entry::Vacant(free), Some(spec)) => {
                free.insert(HostedJob {
                    spec: Arc::new(*spec),
                    accepted: HashSet::new(),
                    queued: VecDeque::new(),
                    running: 0,
                })
            }
            (std::collections::hash_map::Entry::Vacant(_), None) => return Err(SpecMissing),
        };
        let HostedJob { accepted, queued, .. } = job;
        queued.extend(starts(children).filter(|start| accepted.insert(start.ordinal)));
        self.run_queued(instance, effects);
        Ok(())
    }

    /// The owner wants children stopped. A queued one never runs.
    pub fn on_stop(&mut self, stop: StopChildren, effects: &mut Vec<HostEffect>) {
        let StopChildren { job: instance, children, how, .. } = stop;
        let Some(job) = self.jobs.get_mut(&instance) else { return };
        let named: HashSet<Ordinal> = match &children {
            ChildSet::All => HashSet::new(),
            ChildSet::Some(some) => some.iter().copied().collect(),
        };
        let wanted = |ordinal: &Ordinal| children == ChildSet::All || named.contains(ordinal);
        let (never, stay): (Vec<Start>, Vec<Start>) =
            job.queued.drain(..).partition(|start| wanted(&start.ordinal));
        job.queued = stay.into();
        if !never.is_empty() {
            let children = never.into_iter().map(|start| start.ordinal).collect();
            let spec = Arc::clone(&job.spec);
            effects.push(HostEffect::NeverRun { job: instance, spec, children });
        }
        effects.push(HostEffect::Stop { job: instance, children, how });
    }

    /// Children of a job ended by themselves or because of a stop.
    pub fn on_ended(&mut self, job: JobInstance, count: u32, effects: &mut Vec<HostEffect>) {
        let Some(hosted) = self.jobs.get_mut(&job) else { return };
        let ended = count.min(hosted.running);
        hosted.running -= ended;
        if is_process(&hosted.spec) {
            self.processes = self.processes.saturating_sub(ended as usize);
        }
        self.run_waiting(effects);
    }

    /// The owner wants the job forgotten.
    pub fn on_forget(&mut self, job: JobInstance, effects: &mut Vec<HostEffect>) {
        if let Some(hosted) = self.jobs.remove(&job) {
            if is_process(&hosted.spec) {
                self.processes = self.processes.saturating_sub(hosted.running as usize);
            }
            effects.push(HostEffect::Discard(job));
            self.run_waiting(effects);
        }
    }

    /// The session is over, or its owner was silent for longer than the lease: everything is killed
    /// without grace and forgotten.
    pub fn on_over(&mut self, effects: &mut Vec<HostEffect>) {
        effects.extend(self.jobs.drain().map(|(job, _)| HostEffect::Discard(job)));
        self.processes = 0;
    }

    /// The owner is back: which of its jobs are not known here. Those that it does not name are
    /// over, as if it had them forgotten.
    pub fn on_resume(
        &mut self,
        resume: &Resume,
        effects: &mut Vec<HostEffect>,
    ) -> Vec<JobInstance> {
        let named: HashSet<JobInstance> = resume.jobs.iter().copied().collect();
        let over: Vec<JobInstance> =
            self.jobs.keys().filter(|job| !named.contains(job)).copied().collect();
        for job in over {
            self.on_forget(job, effects);
        }
        resume.jobs.iter().filter(|job| !self.jobs.contains_key(job)).copied().collect()
    }

    /// Whether nothing is left to run or to remember.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Children that run or wait to run.
    pub fn unfinished(&self) -> u64 {
        self.jobs.values().map(|job| u64::from(job.running) + job.queued.len() as u64).sum()
    }

    fn run_waiting(&mut self, effects: &mut Vec<HostEffect>) {
        let waiting = self.jobs.iter().filter(|(_, hosted)| !hosted.queued.is_empty());
        let waiting: Vec<JobInstance> = waiting.map(|(job, _)| *job).collect();
        for job in waiting {
            self.run_queued(job, effects);
        }
    }

    fn run_queued(&mut self, instance: JobInstance, effects: &mut Vec<HostEffect>) {
        let Some(job) = self.jobs.get_mut(&instance) else { return };
        let most = if is_process(&job.spec) {
            self.most_processes.saturating_sub(self.processes)
        } else {
            usize::MAX
        };
        let count = job.queued.len().min(most);
        if count == 0 {
            return;
        }
        let children: Vec<Start> = job.queued.drain(..count).collect();
        job.running += count as u32;
        if is_process(&job.spec) {
            self.processes += count;
        }
        let spec = Arc::clone(&job.spec);
        effects.push(HostEffect::Run { job: instance, spec, children });
    }
}

const fn is_process(spec: &HostSpec) -> bool {
    !matches!(spec.body, BodySpec::Task { .. })
}

/// The children of a batch, one by one. A range is as long as its owner says, so a host bounds it.
fn starts(batch: ChildBatch) -> Box<dyn Iterator<Item = Start>> {
    match batch {
        ChildBatch::Range { first, step, count, id_base } => {
            let count = count.min(sortie_model::limits::CHILDREN_PER_JOB);
            Box::new((0..count).map(move |index| {
                let ordinal = first.0.saturating_add(index.saturating_mul(step.max(1)));
                let id = id_base.saturating_add(u64::from(ordinal));
                Start { ordinal: Ordinal(ordinal), id, item: None }
            }))
        }
        ChildBatch::Items(items) => Box::new(items.into_iter().map(|item| Start {
            ordinal: item.ordinal,
            id: item.id,
            item: Some((item.number, item.item)),
        })),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sortie_model::spec::{EnvironmentSpec, Hosting, OsBytes};
    use sortie_model::{NodeName, SessionInstance};
    use uuid::Uuid;

    use super::*;

    const SESSION: SessionInstance = SessionInstance(Uuid::nil());
    const JOB: JobInstance = JobInstance(Uuid::nil());

    fn spec() -> Box<HostSpec> {
        let node: NodeName = "owner".parse().expect("a good name");
        Box::new(HostSpec {
            body: BodySpec::Command { words: vec![OsBytes::try_from("true").expect("no NUL")] },
            template: false,
            input: false,
            timeout: None,
            grace: Duration::from_secs(10),
            drain: Duration::from_secs(2),
            output_limit: None,
            init: None,
            directory: None,
            environment: EnvironmentSpec::default(),
            hosting: Hosting::Temporary,
            session: 1,
            job: 1,
            owner_node: node,
        })
    }

    fn start(first: u32, count: u32) -> StartChildren {
        let children = ChildBatch::Range { first: Ordinal(first), step: 1, count, id_base: 2 };
        StartChildren { session: SESSION, job: JOB, spec: Some(spec()), children }
    }

    fn ran(effects: &[HostEffect]) -> Vec<u32> {
        let children = effects.iter().filter_map(|effect| match effect {
            HostEffect::Run { children, .. } => Some(children.iter().map(|start| start.ordinal.0)),
            _ => None,
        });
        children.flatten().collect()
    }

    #[test]
    fn the_same_start_twice_runs_a_child_once() {
        let mut host = Host::new(8);
        let mut effects = Vec::new();
        assert_eq!(host.on_start(start(0, 3), &mut effects), Ok(()));
        assert_eq!(host.on_start(start(1, 4), &mut effects), Ok(()));
        assert_eq!(ran(&effects), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn more_processes_than_allowed_wait_in_order() {
        let mut host = Host::new(2);
        let mut effects = Vec::new();
        assert_eq!(host.on_start(start(0, 4), &mut effects), Ok(()));
        assert_eq!(ran(&effects), [0, 1]);
        host.on_ended(JOB, 1, &mut effects);
        assert_eq!(ran(&effects), [0, 1, 2]);
        assert_eq!(host.unfinished(), 3);
    }

    #[test]
    fn a_stop_reaches_what_runs_and_what_waits() {
        let mut host = Host::new(1);
        let mut effects = Vec::new();
        assert_eq!(host.on_start(start(0, 3), &mut effects), Ok(()));
        effects.clear();
        let how = StopSpec::default();
        let all = ChildSet::All;
        let stop = StopChildren { session: SESSION, job: JOB, children: all.clone(), how };
        host.on_stop(stop, &mut effects);
        let (job, spec) = (JOB, Arc::from(spec()));
        let never = HostEffect::NeverRun { job, spec, children: vec![Ordinal(1), Ordinal(2)] };
        assert_eq!(effects, [never, HostEffect::Stop { job: JOB, children: all, how }]);
    }

    #[test]
    fn a_job_without_its_spec_is_refused_and_a_forgotten_one_is_unknown() {
        let mut host = Host::new(1);
        let mut effects = Vec::new();
        let bare = StartChildren { spec: None, ..start(0, 1) };
        assert_eq!(host.on_start(bare, &mut effects), Err(SpecMissing));
        assert_eq!(host.on_start(start(0, 1), &mut effects), Ok(()));
        let resume = Resume { session: SESSION, reports: 0, children: Vec::new(), jobs: vec![JOB] };
        assert_eq!(host.on_resume(&resume, &mut effects), []);
        host.on_over(&mut effects);
        assert_eq!(host.on_resume(&resume, &mut effects), [JOB]);
        assert!(host.is_empty());
    }

    #[test]
    fn a_job_that_the_owner_does_not_name_any_more_is_over() {
        let mut host = Host::new(1);
        let mut effects = Vec::new();
        assert_eq!(host.on_start(start(0, 1), &mut effects), Ok(()));
        let other = JobInstance(Uuid::from_u128(2));
        assert_eq!(
            host.on_start(StartChildren { job: other, ..start(0, 1) }, &mut effects),
            Ok(())
        );
        effects.clear();
        let resume =
            Resume { session: SESSION, reports: 0, children: Vec::new(), jobs: vec![other] };
        assert_eq!(host.on_resume(&resume, &mut effects), []);
        let spec = Arc::from(spec());
        let children = vec![Start { ordinal: Ordinal(0), id: 2, item: None }];
        let next = HostEffect::Run { job: other, spec, children };
        assert_eq!(effects, [HostEffect::Discard(JOB), next], "its place is free");
    }
}
