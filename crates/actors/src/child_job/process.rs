//! A process as a child.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use sortie_engine::child_job::outcome;
use sortie_engine::function_end::lost_its_input;
use sortie_engine::host::Start;
use sortie_engine::map_input::{MapItem, Template};
use sortie_exec::{
    AdoptedInput, Guardian, JobEnvironment, JobPlace, ProcessIo, ProcessSpec, RunPlan, Stopper,
    stop_channel, working_directory,
};
use sortie_model::facts::ProcessFacts;
use sortie_model::reason::SpawnStep;
use sortie_model::spec::{BodySpec, InputSpec, OsBytes, StopSpec};
use sortie_model::{Body, Motion, Reason, Record, Stream};
use sortie_wire::guardian_proto::{NulList, StandardInput};
use sortie_wire::host_proto::{ChildOutcome, HostSpec, Verdict};
use tokio::sync::Mutex;

use crate::child_job::open_input::OpenInput;
use crate::child_job::{Ending, Left, Slot, Survivor};
use crate::data::input::ChildInput;
use crate::data::port::{ChildPort, JobPort, Target};
use crate::node::guardians::Guardians;

/// Spawns what drives the process.
pub(super) fn run(
    port: &Arc<JobPort>,
    guardians: &Arc<Guardians>,
    child: Start,
    left: Left,
) -> Slot {
    let port = ChildPort::new(Arc::clone(port), &child);
    let ending = Ending::new(Arc::clone(&port), left);
    let (stopper, stops) = stop_channel(port.job().spec.grace);
    let (guardians, this, own) = (Arc::clone(guardians), Arc::clone(&port), stopper.clone());
    let future = tokio::spawn(async move {
        let _ending = ending;
        this.mark_restart().await;
        let Some(guardian) = guardians.alive().await else {
            return this.ended(ChildOutcome::of(Verdict::Failed(Reason::GuardianLost)));
        };
        let spec = match process_spec(this.job(), child) {
            Ok(spec) => ProcessSpec { keep: this.keep(), ..spec },
            Err(reason) => return this.ended(ChildOutcome::of(Verdict::Failed(reason))),
        };
        let io = Io::new(Arc::clone(&this), own);
        let plan = plan(&this.job().spec);
        let facts = io.serve(sortie_exec::run(&guardian, spec, plan, (&io, &stops))).await;
        let outcome = outcome(&facts, this.job().spec.timeout);
        this.settle().await;
        let lost = io.input_lost.load(Ordering::Acquire);
        this.ended(if lost { lost_its_input(outcome) } else { outcome });
    });
    Slot { port, future: future.abort_handle(), stop: Some(stopper), abort_at: None }
}

/// Takes a process over that an earlier life of this node began.
pub(super) fn resume(
    port: &Arc<JobPort>,
    guardian: &Guardian,
    child: Survivor,
    left: Left,
) -> Slot {
    let Survivor { start, begin, stop, motion, mut adopted } = child;
    let port = ChildPort::new(Arc::clone(port), &start);
    // By now: whoever sends it asks soon who reads.
    let input = adopted.input.written().and_then(|written| ChildInput::go_on(&port, written));
    if input.is_none() && !port.job().spec.input.is_open() {
        adopted.input.lose_rest();
    }
    port.was_before(begin, adopted.ended, adopted.running);
    let ending = Ending::new(Arc::clone(&port), left);
    let (stopper, stops) = stop_channel(port.job().spec.grace);
    // Before anything is heard of it: an end that is known already was that of the stop. And before
    // this returns: what its owner says from then on is newer.
    if let Some(how) = stop {
        stopper.stop(how);
    }
    stopper.move_to(motion);
    let (guardian, this, own) = (guardian.clone(), Arc::clone(&port), stopper.clone());
    let future = tokio::spawn(async move {
        let _ending = ending;
        let was_lost = adopted.input.is_lost();
        let io = Io::with(Arc::clone(&this), own, input);
        if let Some(open) = &io.open
            && !matches!(adopted.input, AdoptedInput::Open { .. })
        {
            // Closed in an earlier life of this node.
            open.close();
        }
        let plan = plan(&this.job().spec);
        let facts = io.serve(sortie_exec::resume(&guardian, adopted, plan, (&io, &stops))).await;
        let outcome = outcome(&facts, this.job().spec.timeout);
        this.settle().await;
        let lost = was_lost || io.input_lost.load(Ordering::Acquire);
        this.ended(if lost { lost_its_input(outcome) } else { outcome });
    });
    Slot { port, future: future.abort_handle(), stop: Some(stopper), abort_at: None }
}

pub(super) fn plan(spec: &HostSpec) -> RunPlan {
    RunPlan {
        timeout: spec.timeout,
        grace: spec.grace,
        drain: spec.drain,
        output_limit: spec.output_limit,
    }
}

fn process_spec(port: &JobPort, child: Start) -> Result<ProcessSpec, Reason> {
    let spec = &port.spec;
    let body = match (&spec.body, child.item) {
        (BodySpec::Command { words }, Some((number, bytes))) if spec.template => {
            let item = MapItem { number, bytes };
            let words = Template::new(words).fill(&item, &port.node);
            BodySpec::Command { words: words.map_err(|error| refused(&error))? }
        }
        // It ran before, with an item that its node did not outlive.
        (BodySpec::Command { .. }, None) if spec.template => return Err(Reason::InputLost),
        (body, _) => body.clone(),
    };
    let init = spec.init.as_deref().map(TryFrom::try_from).transpose();
    let (environment, directory) = surroundings(port, child.id);
    Ok(ProcessSpec {
        program: sortie_exec::process::program(&body)
            .ok_or(Reason::Spawn { step: SpawnStep::Exec, errno: 0 })?,
        environment,
        directory: Some(directory),
        input: match spec.input {
            InputSpec::None => StandardInput::Null,
            InputSpec::Stream | InputSpec::Open { .. } => StandardInput::Pipe,
            InputSpec::Terminal(size) => StandardInput::Terminal(size),
        },
        init: init.map_err(|error| refused(&error))?,
        keep: None,
    })
}

/// The environment and the working directory of the child with that number.
pub(crate) fn surroundings(port: &JobPort, child: u64) -> (NulList, OsBytes) {
    let spec = &port.spec;
    // A number would mean a session of this node.
    let session = match &port.target {
        Target::Here(_) => spec.session.to_string(),
        Target::There(outbox) => outbox.session().to_string(),
    };
    let place = JobPlace { session: &session, job: spec.job, node: &port.node };
    let environment = JobEnvironment::new(&spec.environment, &port.basics, place);
    let inherited = spec.environment.inherited_directory.as_ref();
    let directory = working_directory(spec.directory.as_ref(), inherited, &port.basics);
    (environment.of_child(child), directory)
}

fn refused(error: &dyn std::error::Error) -> Reason {
    Reason::Error { kind: "command".to_owned(), message: error.to_string() }
}

/// A process's pipes at its child's port.
struct Io {
    port: Arc<ChildPort>,
    stopper: Stopper,
    input: Mutex<Option<ChildInput>>,
    input_lost: AtomicBool,
    open: Option<OpenInput>,
}

impl Io {
    fn new(port: Arc<ChildPort>, stopper: Stopper) -> Self {
        let input = ChildInput::open(&port);
        Self::with(port, stopper, input)
    }

    fn with(port: Arc<ChildPort>, stopper: Stopper, input: Option<ChildInput>) -> Self {
        let (input, input_lost) = (Mutex::new(input), AtomicBool::new(false));
        let open = OpenInput::of(&port);
        Self { port, stopper, input, input_lost, open }
    }

    /// Waits for the end of the process, and answers what comes for an input that is closed.
    async fn serve(&self, run: impl Future<Output = ProcessFacts>) -> ProcessFacts {
        let Some(open) = &self.open else { return run.await };
        tokio::select! {
            biased;
            facts = run => facts,
            never = open.refuse_rest() => match never {},
        }
    }
}

impl ProcessIo for Io {
    fn started(&self, _: u32) {
        self.port.began();
        if let Some(open) = &self.open {
            open.begin();
        }
    }

    async fn write(&self, stream: Stream, bytes: Bytes) {
        self.port.record(stream, Body::Bytes(bytes.clone())).await;
        if let Some(open) = &self.open {
            open.on_output(stream, &bytes).await;
        }
    }

    async fn keep(&self, record: Record) {
        let (stream, bytes) = (record.stream, record.body.bytes());
        self.port.store_kept(record).await;
        if let Some(open) = &self.open {
            open.on_output(stream, &bytes).await;
        }
    }

    fn moved(&self, motion: Motion) {
        self.port.does(motion);
    }

    async fn next_input(&self) -> Option<Bytes> {
        if let Some(open) = &self.open {
            return open.next().await;
        }
        let mut input = self.input.lock().await;
        match input.as_mut()?.next().await {
            Ok(bytes) => bytes,
            Err(_) => {
                self.input_lost.store(true, Ordering::Release);
                self.stopper.stop(StopSpec::NOW);
                // It is killed, and does not see an end where there is none.
                std::future::pending().await
            }
        }
    }

    async fn input_closed(&self) {
        if let Some(open) = &self.open {
            open.close();
        }
        // The owner goes on without it.
        *self.input.lock().await = None;
    }
}
