//! One process child from its start to the moment when nothing of it is left.
//!
//! This is mechanism: it reports facts. What they mean is decided by the engine
//! (`docs/semantics.md`, sections 2.1 and 3.5).

use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join3;
use sortie_model::Stream;
use sortie_model::facts::{Interruption, ProcessFacts};
use sortie_model::limits;
use sortie_model::spec::TERM;
use sortie_wire::guardian_proto::{Disturbance, Remainder};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::error::SpawnError;
use crate::guardian::Guardian;
use crate::process::{Ended, Input, Output, Process, ProcessControl, ProcessSpec};
use crate::stop::{Stop, Stops};

/// What stands for durations that the clock cannot hold.
const FAR_AWAY: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Where a child's output goes and its input comes from.
pub trait ProcessIo: Sync {
    /// The child runs.
    fn started(&self, pid: u32);

    /// Takes what one read returned. Both streams may be written at once, each in order. While it
    /// is pending nothing more of that stream is read, and a child that goes on writing waits.
    fn write(&self, stream: Stream, bytes: Bytes) -> impl Future<Output = ()> + Send;

    /// Takes what a worker said on its channel, and the sockets that came with it: nothing is read
    /// on it while this is pending.
    fn report(&self, _said: (Bytes, Vec<OwnedFd>)) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// The child is signalled to end; once for each cause.
    fn interrupted(&self, _why: Interruption) {}

    /// Its last program has ended: what it said may still come, and must be taken without waiting
    /// for anything that only its end brings about.
    fn exited(&self) {}

    /// The next bytes of input, none at its end. Asked again only when these were written. Only
    /// called for children with an input; dropped when the child ends.
    fn next_input(&self) -> impl Future<Output = Option<Bytes>> + Send;

    /// The child has closed its input: no more is asked for.
    fn input_closed(&self) -> impl Future<Output = ()> + Send;
}

/// The limits of one child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunPlan {
    /// How long it may run, from its start.
    pub timeout: Option<Duration>,
    /// Between stop signal and kill, for timeouts and passed limits.
    pub grace: Duration,
    /// How long its pipes are read after its main process's end.
    pub drain: Duration,
    /// How many bytes it may write: stdout, stderr and channel together.
    pub output_limit: Option<u64>,
}

impl Default for RunPlan {
    fn default() -> Self {
        Self { timeout: None, grace: limits::GRACE, drain: limits::DRAIN, output_limit: None }
    }
}

/// Starts a process child, serves its pipes, stops it when told to, and returns when nothing of it
/// is left and all its output was written to `io`.
///
/// # Cancel safety
/// When cancelled, the whole tree is killed and output that was not written is lost.
pub async fn run(
    guardian: &Guardian,
    spec: ProcessSpec,
    plan: RunPlan,
    (io, stops): (&impl ProcessIo, &Stops),
) -> ProcessFacts {
    let (result, early_stop) = start(guardian, spec, stops).await;
    let process = match result {
        Ok(process) => process,
        Err(error) => {
            let interruptions = early_stop.map(|_| Interruption::Stop).into_iter().collect();
            return ProcessFacts { interruptions, ..ProcessFacts::of(error.into()) };
        }
    };
    io.started(process.control.pid());
    let meter = Meter::new(plan.output_limit);
    serve((process, early_stop), plan, (io, stops), &meter).await
}

/// Starts the process; a stop that comes meanwhile withdraws the start if it is not too late.
async fn start(
    guardian: &Guardian,
    spec: ProcessSpec,
    stops: &Stops,
) -> (Result<Process, SpawnError>, Option<Stop>) {
    let starting = match guardian.begin(spec).await {
        Ok(starting) => starting,
        Err(error) => return (Err(error), None),
    };
    let withdrawal = starting.withdrawal();
    let mut wait = pin!(starting.wait());
    tokio::select! {
        biased;
        result = &mut wait => (result, None),
        stop = stops.next() => {
            withdrawal.withdraw();
            (wait.await, Some(stop))
        }
    }
}

async fn serve(
    (process, early_stop): (Process, Option<Stop>),
    plan: RunPlan,
    (io, stops): (&impl ProcessIo, &Stops),
    meter: &Meter,
) -> ProcessFacts {
    let Process { control, mut ending, stdout, stderr, stdin, channel } = process;
    let last_call = [Notify::new(), Notify::new(), Notify::new()];
    let [stdout_call, stderr_call, channel_call] = &last_call;
    let mut pumps = pin!(join3(
        pump(Some(stdout), (Source::Stream(Stream::Output), io), meter, stdout_call),
        pump(Some(stderr), (Source::Stream(Stream::Error), io), meter, stderr_call),
        pump(channel, (Source::Channel, io), meter, channel_call),
    ));
    let mut pipes = Pipes::Open;
    let mut brake = Brake::new(&control, plan.timeout);
    let mut told = 0;
    if let Some(stop) = early_stop {
        brake.interrupt(Interruption::Stop, stop.signal, stop.grace);
    }
    let ended = {
        let mut feed = pin!(feed(stdin, io));
        let mut fed = Feed::Going;
        loop {
            brake.interruptions.iter().skip(told).for_each(|why| io.interrupted(*why));
            told = brake.interruptions.len();
            tokio::select! {
                ended = ending.wait() => break ended,
                _ = &mut pumps, if pipes == Pipes::Open => pipes = Pipes::Closed,
                () = &mut feed, if fed == Feed::Going => fed = Feed::Over,
                stop = stops.next() => {
                    brake.interrupt(Interruption::Stop, stop.signal, stop.grace);
                }
                () = meter.passed.notified() => {
                    brake.interrupt(Interruption::OutputLimit, TERM, plan.grace);
                }
                () = brake.due() => brake.on_due(plan.grace),
            }
        }
    };
    io.exited();
    let interruptions = match ended.disturbance {
        Disturbance::Signalled => brake.interruptions,
        Disturbance::None => Vec::new(),
    };
    let mut drain_until = after(plan.drain);
    while pipes == Pipes::Open {
        tokio::select! {
            _ = &mut pumps => pipes = Pipes::Closed,
            stop = stops.next() => drain_until = drain_until.min(after(stop.grace)),
            () = sleep_until(drain_until) => break,
        }
    }
    let left_behind = finish(control, ended, &mut pumps, &mut pipes).await;
    if pipes == Pipes::Open {
        // Nobody of the tree can write any more: what is in the pipes now is the rest.
        last_call.iter().for_each(Notify::notify_one);
        pumps.await;
    }
    ProcessFacts {
        end: ended.end,
        stage: ended.stage,
        memory: ended.memory,
        interruptions,
        left_behind,
        cut_bytes: meter.cut.load(Ordering::Relaxed),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pipes {
    Open,
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Feed {
    Going,
    Over,
}

/// Kills what is left of the tree, reading its pipes meanwhile.
async fn finish<T>(
    control: ProcessControl,
    ended: Ended,
    pumps: &mut (impl Future<Output = T> + Unpin),
    pipes: &mut Pipes,
) -> u32 {
    if ended.remainder == Remainder::Alone && *pipes == Pipes::Closed {
        return control.finish(ended).await;
    }
    let mut gone = pin!(control.finish(ended));
    loop {
        tokio::select! {
            left_behind = &mut gone => return left_behind,
            _ = &mut *pumps, if *pipes == Pipes::Open => *pipes = Pipes::Closed,
        }
    }
}

/// Which of a child's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// Its stdout or stderr.
    Stream(Stream),
    /// A worker's channel.
    Channel,
}

/// Moves one pipe's bytes until it closes, or until it is empty after the last call.
async fn pump(
    output: Option<Output>,
    (source, io): (Source, &impl ProcessIo),
    meter: &Meter,
    last_call: &Notify,
) {
    let Some(mut output) = output else { return };
    loop {
        tokio::select! {
            biased;
            bytes = output.read() => match bytes {
                Some(bytes) => {
                    let said = (bytes, output.take_arrived());
                    deliver(said, (source, io), meter).await;
                }
                None => return,
            },
            () = last_call.notified() => break,
        }
    }
    while let Some(bytes) = output.read_now() {
        let said = (bytes, output.take_arrived());
        deliver(said, (source, io), meter).await;
    }
}

async fn deliver(
    (bytes, arrived): (Bytes, Vec<OwnedFd>),
    (source, io): (Source, &impl ProcessIo),
    meter: &Meter,
) {
    let bytes = meter.admit(bytes);
    match source {
        _ if bytes.is_empty() => {}
        Source::Stream(stream) => io.write(stream, bytes).await,
        Source::Channel => io.report((bytes, arrived)).await,
    }
}

/// Writes the child's input until it ends or the child closes it.
async fn feed(stdin: Option<Input>, io: &impl ProcessIo) {
    let Some(mut stdin) = stdin else { return };
    while let Some(bytes) = io.next_input().await {
        if stdin.write(bytes).await.is_err() {
            return io.input_closed().await;
        }
    }
}

/// Counts output against its limit.
struct Meter {
    left: AtomicU64,
    cut: AtomicU64,
    passed: Notify,
}

impl Meter {
    fn new(limit: Option<u64>) -> Self {
        Self {
            left: AtomicU64::new(limit.unwrap_or(u64::MAX)),
            cut: AtomicU64::new(0),
            passed: Notify::new(),
        }
    }

    /// As much of the bytes as the limit lets through. All outputs are counted by one future, so
    /// the parts need not change together.
    fn admit(&self, mut bytes: Bytes) -> Bytes {
        let length = bytes.len() as u64;
        let left = self.left.load(Ordering::Relaxed);
        if length <= left {
            if left != u64::MAX {
                self.left.store(left - length, Ordering::Relaxed);
            }
            return bytes;
        }
        self.left.store(0, Ordering::Relaxed);
        if self.cut.fetch_add(length - left, Ordering::Relaxed) == 0 {
            self.passed.notify_one();
        }
        bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        bytes
    }
}

/// The moment after a duration, or a very late one if the clock does not go that far.
fn after(duration: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(duration).unwrap_or(now + FAR_AWAY)
}

/// What has been done to end a child, and what comes next.
struct Brake<'a> {
    control: &'a ProcessControl,
    interruptions: Vec<Interruption>,
    timeout_at: Option<Instant>,
    kill_at: Option<Instant>,
}

impl<'a> Brake<'a> {
    fn new(control: &'a ProcessControl, timeout: Option<Duration>) -> Self {
        Self { control, interruptions: Vec::new(), timeout_at: timeout.map(after), kill_at: None }
    }

    /// Signals the tree and kills it after the grace. A later interruption can only bring the kill
    /// forward.
    fn interrupt(&mut self, why: Interruption, signal: i32, grace: Duration) {
        if !self.interruptions.contains(&why) {
            self.interruptions.push(why);
        }
        if grace.is_zero() {
            self.kill_at = None;
            self.control.kill();
            return;
        }
        self.control.signal(signal);
        let kill_at = after(grace);
        self.kill_at = Some(self.kill_at.map_or(kill_at, |earlier| earlier.min(kill_at)));
    }

    /// Resolves when something is to be done.
    async fn due(&self) {
        match [self.timeout_at, self.kill_at].into_iter().flatten().min() {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    fn on_due(&mut self, grace: Duration) {
        let now = Instant::now();
        if self.kill_at.is_some_and(|at| at <= now) {
            self.kill_at = None;
            self.control.kill();
        }
        if self.timeout_at.is_some_and(|at| at <= now) {
            self.timeout_at = None;
            self.interrupt(Interruption::Timeout, TERM, grace);
        }
    }
}
