//! The executing side of a session: which children it accepted, which may run now, and what a stop,
//! a forgotten job or the owner's silence means for them (`docs/semantics.md`, sections 3.1 and 4).
//!
//! An incarnation of a child is accepted once, by (job, ordinal, incarnation), however often its
//! start is sent.

mod adopt;
mod starts;
mod stop;
mod suspend;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use sortie_model::spec::{Hosting, StopSpec};
use sortie_model::{ChildIncarnation, JobInstance, Motion, Ordinal, Seq, limits};
use sortie_wire::codec::encoded_length;
use sortie_wire::host_proto::{Checkpoint, ChildMotion, ChildSet, HostSpec, Resume, StartChildren};

use crate::broken::{Rule, is_broken};
use crate::host::starts::{is_first, starts};
use crate::untold::weight;

/// A child that may run now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Its place among its siblings.
    pub ordinal: Ordinal,
    /// Its number in its session.
    pub id: u64,
    /// Which of its incarnations this is.
    pub incarnation: ChildIncarnation,
    /// The number of its next record.
    pub next: Seq,
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
    /// Tell running children to stand still, or to go on.
    Move {
        /// Their job.
        job: JobInstance,
        /// Which; all that run if none is named.
        children: ChildSet,
        /// By which order.
        number: u64,
        /// What they are to do.
        motion: Motion,
    },
    /// Children that are about to run go on from these.
    Reached {
        /// Their job.
        job: JobInstance,
        /// What they execute.
        spec: Arc<HostSpec>,
        /// Each with its child.
        checkpoints: Vec<(Ordinal, Checkpoint)>,
    },
    /// Report these as doing what they were told: they are queued, and held back or not.
    Moved {
        /// Their job.
        job: JobInstance,
        /// What they execute.
        spec: Arc<HostSpec>,
        /// What each does.
        moved: Vec<ChildMotion>,
    },
    /// Report these as stopped: they were queued and never run.
    NeverRun {
        /// Their job.
        job: JobInstance,
        /// What they would have executed.
        spec: Arc<HostSpec>,
        /// Which.
        children: Vec<Start>,
    },
    /// Kill what runs of the job and forget its reports.
    Discard(JobInstance),
}

/// How much a host takes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// For this node's own sessions, which have bounds of their own.
    Own,
    /// For another node's: so many children more, and no more jobs and specs than the bounds let.
    For(u64),
}

/// A start that no owner sends who keeps to the rules; nothing of it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadStart {
    /// Nothing was ever said of its job.
    #[error("a start names a job whose spec was never sent")]
    SpecMissing,
    /// A spec passes [`limits::SPEC_BYTES`].
    #[error("a start has a spec of more than {} bytes", limits::SPEC_BYTES)]
    SpecTooLong,
    /// All specs together pass [`limits::HOSTED_SPECS_BYTES`].
    #[error("the specs of one session have more than {} bytes", limits::HOSTED_SPECS_BYTES)]
    Specs,
    /// One job more than [`limits::HOSTED_JOBS`].
    #[error("one session has more than {} jobs here", limits::HOSTED_JOBS)]
    Jobs,
    /// A place that no child of a job has.
    #[error("a start names a child past the first {}", limits::CHILDREN_PER_JOB)]
    Ordinal,
    /// A checkpoint passes [`limits::CHECKPOINT_BYTES`].
    #[error("a start has a checkpoint of more than {} bytes", limits::CHECKPOINT_BYTES)]
    Checkpoint,
    /// All checkpoints together pass [`limits::HOSTED_CHECKPOINTS_BYTES`].
    #[error(
        "the checkpoints of one session have more than {} bytes",
        limits::HOSTED_CHECKPOINTS_BYTES
    )]
    Checkpoints,
    /// More children than there is room for.
    #[error("one node has more than {} unfinished children here", limits::HOSTED_CHILDREN)]
    Children,
}

#[derive(Debug)]
struct HostedJob {
    spec: Arc<HostSpec>,
    /// The spec is what an earlier life of the node noted: it starts nothing.
    partial: bool,
    spec_bytes: usize,
    /// The latest incarnation of each child.
    accepted: HashMap<Ordinal, ChildIncarnation>,
    /// Taken over from an earlier life of the node, and not told of in this one.
    is_adopted: bool,
    /// What the checkpoint that each began from takes, in bytes.
    learned: HashMap<Ordinal, usize>,
    queued: VecDeque<Start>,
    /// Those of the queued that do not run before they are told to go on.
    held: HashSet<Ordinal>,
    /// Named by the last stop that named children, and not come yet: their first life does not
    /// begin.
    unborn: HashSet<Ordinal>,
    running: u32,
}

/// The children that this node executes for one session.
#[derive(Debug)]
pub struct Host {
    jobs: BTreeMap<JobInstance, HostedJob>,
    /// What the jobs' specs take, in bytes.
    specs: usize,
    /// What the checkpoints that came with starts take, in bytes.
    learned: usize,
    processes: usize,
    most_processes: usize,
}

impl Host {
    /// A host that runs at most so many processes at once.
    pub fn new(most_processes: usize) -> Self {
        Self { jobs: BTreeMap::new(), specs: 0, learned: 0, processes: 0, most_processes }
    }

    /// The owner wants children started.
    ///
    /// # Errors
    /// [`BadStart`]; the peer that sent it does not keep to the rules.
    pub fn on_start(
        &mut self,
        start: StartChildren,
        room: Room,
        effects: &mut Vec<HostEffect>,
    ) -> Result<(), BadStart> {
        let StartChildren { job: instance, spec, children, .. } = start;
        let (children, checkpoints) = self.split_checkpoints(instance, children, room)?;
        self.check_children(instance, &children, room)?;
        if !self.jobs.contains_key(&instance) {
            let job = self.new_job(*spec.ok_or(BadStart::SpecMissing)?, room)?;
            self.specs = self.specs.saturating_add(job.spec_bytes);
            self.jobs.insert(instance, job);
        } else if self.jobs.get(&instance).is_some_and(|job| job.partial) {
            let HostedJob { spec, spec_bytes, .. } =
                self.new_job(*spec.ok_or(BadStart::SpecMissing)?, room)?;
            if let Some(job) = self.jobs.get_mut(&instance) {
                self.specs = self.specs.saturating_sub(job.spec_bytes).saturating_add(spec_bytes);
                (job.spec, job.spec_bytes, job.partial) = (spec, spec_bytes, false);
            }
        }
        if let Some(HostedJob { accepted, learned, queued, unborn, spec, is_adopted, .. }) =
            self.jobs.get_mut(&instance)
        {
            *is_adopted = false;
            if !checkpoints.is_empty() {
                for (ordinal, (_, value)) in &checkpoints {
                    let bytes = weight(value);
                    let before = learned.insert(*ordinal, bytes).unwrap_or(0);
                    self.learned = self.learned + bytes - before;
                }
                let spec = Arc::clone(spec);
                effects.push(HostEffect::Reached { job: instance, spec, checkpoints });
            }
            let fresh = starts(children).filter(|start| {
                let latest = accepted.get(&start.ordinal);
                let is_new = latest.is_none_or(|latest| *latest < start.incarnation);
                let fresh = is_new || is_broken(Rule::P1);
                if fresh {
                    accepted.insert(start.ordinal, start.incarnation);
                }
                fresh
            });
            let (never, run): (Vec<Start>, Vec<Start>) =
                fresh.partition(|start| is_first(start) && unborn.remove(&start.ordinal));
            queued.extend(run);
            if !never.is_empty() {
                let spec = Arc::clone(spec);
                effects.push(HostEffect::NeverRun { job: instance, spec, children: never });
            }
        }
        self.run_queued(instance, effects);
        Ok(())
    }

    fn new_job(&self, spec: HostSpec, room: Room) -> Result<HostedJob, BadStart> {
        let most = limits::SPEC_BYTES + limits::HOST_SPEC_OVERHEAD_BYTES;
        let spec_bytes = encoded_length(&spec).unwrap_or(usize::MAX);
        if room != Room::Own {
            if spec_bytes > most {
                return Err(BadStart::SpecTooLong);
            }
            if self.jobs.len() >= limits::HOSTED_JOBS {
                return Err(BadStart::Jobs);
            }
            if self.specs.saturating_add(spec_bytes) > limits::HOSTED_SPECS_BYTES {
                return Err(BadStart::Specs);
            }
        }
        let (accepted, learned) = (HashMap::new(), HashMap::new());
        let (queued, held, unborn) = (VecDeque::new(), HashSet::new(), HashSet::new());
        let (spec, partial, running) = (Arc::new(spec), false, 0);
        let is_adopted = false;
        Ok(HostedJob {
            spec,
            partial,
            spec_bytes,
            accepted,
            is_adopted,
            learned,
            queued,
            held,
            unborn,
            running,
        })
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
            self.specs = self.specs.saturating_sub(hosted.spec_bytes);
            self.learned -= hosted.learned.values().sum::<usize>();
            if is_process(&hosted.spec) {
                self.processes = self.processes.saturating_sub(hosted.running as usize);
            }
            effects.push(HostEffect::Discard(job));
            self.run_waiting(effects);
        }
    }

    /// The owner was silent for longer than the lease: what does not outlive that is killed without
    /// grace and forgotten.
    pub fn on_lease_over(&mut self, effects: &mut Vec<HostEffect>) {
        let over = self.jobs.iter().filter(|(_, job)| job.spec.hosting == Hosting::Temporary);
        let over: Vec<JobInstance> = over.map(|(job, _)| *job).collect();
        for job in over {
            self.on_forget(job, effects);
        }
    }

    /// The session is over: everything is killed without grace and forgotten.
    pub fn on_over(&mut self, effects: &mut Vec<HostEffect>) {
        let jobs = std::mem::take(&mut self.jobs);
        effects.extend(jobs.into_keys().map(HostEffect::Discard));
        (self.specs, self.learned, self.processes) = (0, 0, 0);
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
        self.hold_again(effects);
        resume.jobs.iter().filter(|job| !self.jobs.contains_key(job)).copied().collect()
    }

    /// How each job is hosted.
    pub fn hostings(&self) -> impl Iterator<Item = Hosting> {
        self.jobs.values().map(|job| job.spec.hosting)
    }

    /// Whether nothing is left to run or to remember.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Children that wait to run.
    pub fn queued(&self) -> u64 {
        self.jobs.values().map(|job| job.queued.len() as u64).sum()
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
        let children = job.take_queued(most);
        let count = children.len();
        if count == 0 {
            return;
        }
        job.running += count as u32;
        if is_process(&job.spec) {
            self.processes += count;
        }
        let spec = Arc::clone(&job.spec);
        effects.push(HostEffect::Run { job: instance, spec, children });
    }
}

const fn is_process(spec: &HostSpec) -> bool {
    spec.body.is_process()
}

#[cfg(test)]
mod tests;
