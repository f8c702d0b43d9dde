//! One process child from its start to the moment when nothing of it is left.
//!
//! This is mechanism: it reports facts. What they mean is decided by the engine
//! (`docs/semantics.md`, sections 2.1 and 3.5).

mod brake;
mod pumps;
mod start;

use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join3;
use sortie_model::facts::{Interruption, ProcessEnd, ProcessFacts};
use sortie_model::spec::TERM;
use sortie_model::{Motion, Record, Stream, limits};
use sortie_wire::guardian_proto::{Disturbance, Remainder};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::guardian::{Adopted, Guardian};
use crate::process::{
    Ended, Ending, Input, Output, Process, ProcessControl, ProcessOutput, ProcessSpec,
};
use crate::run::brake::{Brake, Entrusting, Moves, after, heed_moves};
use crate::stop::{Stop, Stops};
use pumps::{Meter, Source, feed, pump, pump_kept};
use start::start;

/// Where a child's output goes and its input comes from.
pub trait ProcessIo: Sync {
    /// The child runs.
    fn started(&self, pid: u32);

    /// Takes what one read returned. Both streams may be written at once, each in order. While it
    /// is pending nothing more of that stream is read, and a child that goes on writing waits.
    fn write(&self, stream: Stream, bytes: Bytes) -> impl Future<Output = ()> + Send;

    /// Takes a record that a kept child wrote, with its number and its time; each once, in order.
    /// While it is pending nothing more is read.
    fn keep(&self, record: Record) -> impl Future<Output = ()> + Send {
        self.write(record.stream, record.body.bytes())
    }

    /// Takes what a worker said on its channel, and the sockets that came with it: nothing is read
    /// on it while this is pending.
    fn report(&self, _said: (Bytes, Vec<OwnedFd>)) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// The child is signalled to end; once for each cause.
    fn interrupted(&self, _why: Interruption) {}

    /// It stands still as it was told to, or goes on; said after each word to it that it heeded,
    /// also where it did so already.
    fn moved(&self, _motion: Motion) {}

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
/// What a kept child wrote goes to [`ProcessIo::keep`]. It stays in the guardian's files until
/// [`Guardian::stored`] and [`Guardian::forget`] say that it is not needed any more.
///
/// # Cancel safety
/// When cancelled, the whole tree is killed and output that was not written is lost.
pub async fn run(
    guardian: &Guardian,
    spec: ProcessSpec,
    plan: RunPlan,
    (io, stops): (&impl ProcessIo, &Stops),
) -> ProcessFacts {
    let (result, early_stop) = start(guardian, spec, &plan, (io, stops)).await;
    let process = match result {
        Ok(process) => process,
        Err(error) => {
            let interruptions = early_stop.map(|_| Interruption::Stop).into_iter().collect();
            return ProcessFacts { interruptions, ..ProcessFacts::of(error.into()) };
        }
    };
    io.started(process.control.pid());
    let meter = Meter::new(plan.output_limit);
    let before = early_stop.map_or(Before::Nothing, Before::Stopped);
    serve((process, before), plan, (io, stops), &meter).await
}

/// As [`run`], for a child that a former daemon began and that runs, or has ended already. Its
/// timeout counts from its own start, its limit of output from here on. One whose input was lost is
/// killed. Of one that is lost itself, what it wrote is handed over, and nothing else happens.
///
/// # Cancel safety
/// When cancelled, the whole tree is killed; what was not handed over stays in the guardian's
/// files.
pub async fn resume(
    guardian: &Guardian,
    mut adopted: Adopted,
    plan: RunPlan,
    (io, stops): (&impl ProcessIo, &Stops),
) -> ProcessFacts {
    let (is_lost, has_lost_input) = (adopted.lost, adopted.input.is_lost());
    let (kill_in, has_ended) = (adopted.kill_in, adopted.ended.is_some());
    let known = std::mem::take(&mut adopted.interruptions);
    let since = if has_ended { Duration::ZERO } else { adopted.found.elapsed() };
    let ran = adopted.running.saturating_add(since);
    let timeout = plan.timeout.map(|timeout| timeout.saturating_sub(ran));
    let is_asked = has_ended || kill_in.is_some();
    let Some(process) = adopted.into_process(guardian) else {
        return ProcessFacts::of(ProcessEnd::Lost);
    };
    let meter = Meter::new(plan.output_limit);
    if is_lost {
        if let ProcessOutput::Kept(output) = process.output {
            pump_kept(output, io, &meter).await;
        }
        return ProcessFacts { cut_bytes: meter.cut(), ..ProcessFacts::of(ProcessEnd::Lost) };
    }
    io.started(process.control.pid());
    if has_lost_input {
        process.control.kill();
    }
    // A stop that was told before counts, unless the end came of something else.
    let early = tokio::select! {
        biased;
        stop = stops.next() => Some(stop),
        () = std::future::ready(()) => None,
    };
    let before = match early {
        Some(stop) if !has_ended || known.is_empty() => {
            let grace = kill_in.map_or(stop.grace, |left| stop.grace.min(left));
            Before::Stopped(Stop { grace, ..stop })
        }
        _ if !known.is_empty() => {
            // A stop is told again by who told it, with its grace.
            let grace = (!known.contains(&Interruption::Stop)).then_some(plan.grace);
            Before::Interrupted(known, kill_in.or(grace))
        }
        // An older guardian does not say why it was signalled. It did itself what was due.
        _ if is_asked && timeout == Some(Duration::ZERO) => {
            Before::Interrupted(vec![Interruption::Timeout], kill_in)
        }
        _ if kill_in.is_some() && plan.output_limit.is_some() => {
            Before::Interrupted(vec![Interruption::OutputLimit], kill_in)
        }
        _ => Before::Ran,
    };
    serve((process, before), RunPlan { timeout, ..plan }, (io, stops), &meter).await
}

/// What was done to a child before it is served.
#[derive(Debug)]
enum Before {
    /// Nothing: it just started.
    Nothing,
    /// It just started, or runs, and is told to stop.
    Stopped(Stop),
    /// It ran, and whoever served it is gone.
    Ran,
    /// It was asked to end for these reasons, and is killed then.
    Interrupted(Vec<Interruption>, Option<Duration>),
}

async fn serve(
    (process, before): (Process, Before),
    plan: RunPlan,
    (io, stops): (&impl ProcessIo, &Stops),
    meter: &Meter,
) -> ProcessFacts {
    let Process { control, mut ending, output, stdin, channel } = process;
    let is_kept = matches!(output, ProcessOutput::Kept(_));
    let last_call = [Notify::new(), Notify::new(), Notify::new()];
    let mut pumps = pin!(move_all(output, channel, (io, meter), &last_call));
    let mut pipes = Pipes::Open;
    let entrusting = match (is_kept, &before) {
        (false, _) => Entrusting::Nothing,
        (true, Before::Nothing) => Entrusting::Kept { grace: plan.grace, told: Some(None) },
        (true, _) => Entrusting::Kept { grace: plan.grace, told: None },
    };
    let wanted = *stops.motion().borrow();
    let mut brake = Brake::new(&control, plan.timeout, wanted, entrusting);
    match before {
        Before::Stopped(stop) => brake.interrupt(Interruption::Stop, stop.signal, stop.grace),
        Before::Interrupted(why, kill_in) => brake.was_interrupted(why, kill_in),
        Before::Nothing | Before::Ran => {}
    }
    let moving = (&mut pumps, &mut pipes);
    let ended = attend((&mut ending, &mut brake), moving, (io, stops, stdin), (plan, meter)).await;
    io.exited();
    let (does, is_to_end) = (brake.does, !brake.interruptions.is_empty());
    let interruptions = match ended.disturbance {
        Disturbance::Signalled => brake.interruptions,
        Disturbance::None => Vec::new(),
    };
    let behind_it = async {
        let left_behind = if is_kept {
            wait_until_gone(control, (&mut pumps, &mut pipes), stops).await
        } else {
            let mut drain_until = after(plan.drain);
            while pipes == Pipes::Open {
                tokio::select! {
                    _ = &mut pumps => pipes = Pipes::Closed,
                    stop = stops.next() => drain_until = drain_until.min(after(stop.grace)),
                    () = sleep_until(drain_until) => break,
                }
            }
            Some(finish(control, ended, &mut pumps, &mut pipes).await)
        };
        if pipes == Pipes::Open {
            // Nobody of the tree can write any more: what is in the pipes now is the rest.
            last_call.iter().for_each(Notify::notify_one);
            pumps.await;
        }
        left_behind
    };
    let left_behind = tokio::select! {
        biased;
        left_behind = behind_it => left_behind,
        never = heed_moves(stops, io, does), if !is_to_end => match never {},
    };
    let is_whole = left_behind.is_some() && !meter.broken.has_fired();
    ProcessFacts {
        // What was written and cannot be read is as lost as its process would be.
        end: if is_whole { ended.end } else { ProcessEnd::Lost },
        stage: ended.stage,
        memory: ended.memory,
        interruptions,
        left_behind: left_behind.unwrap_or(0),
        cut_bytes: meter.cut(),
    }
}

/// Moves everything that the child says.
async fn move_all(
    output: ProcessOutput,
    channel: Option<Output>,
    (io, meter): (&impl ProcessIo, &Meter),
    [stdout_call, stderr_call, channel_call]: &[Notify; 3],
) {
    match output {
        ProcessOutput::Kept(output) => pump_kept(output, io, meter).await,
        ProcessOutput::Terminal(output) => {
            let all = (Source::Stream(Stream::Output), io);
            pump(Some(output), all, meter, stdout_call).await;
        }
        ProcessOutput::Pipes { stdout, stderr } => {
            join3(
                pump(Some(stdout), (Source::Stream(Stream::Output), io), meter, stdout_call),
                pump(Some(stderr), (Source::Stream(Stream::Error), io), meter, stderr_call),
                pump(channel, (Source::Channel, io), meter, channel_call),
            )
            .await;
        }
    }
}

/// Serves the child until its last program ends.
async fn attend<'a, T>(
    (ending, brake): (&mut Ending, &mut Brake<'a>),
    (pumps, pipes): (&mut (impl Future<Output = T> + Unpin), &mut Pipes),
    (io, stops, stdin): (&impl ProcessIo, &Stops, Option<Input>),
    (plan, meter): (RunPlan, &Meter),
) -> Ended {
    let (mut told, mut moves) = (0, Moves::of(brake.control, stops));
    let mut fed = if stdin.is_some() { Feed::Going } else { Feed::Over };
    let mut feed = pin!(feed(stdin, io));
    loop {
        brake.interruptions.iter().skip(told).for_each(|why| io.interrupted(*why));
        told = brake.interruptions.len();
        tokio::select! {
            ended = ending.wait() => return ended,
            _ = &mut *pumps, if *pipes == Pipes::Open => {
                *pipes = Pipes::Closed;
                if meter.broken.has_fired() {
                    brake.control.kill();
                }
            }
            () = &mut feed, if fed == Feed::Going => {
                fed = Feed::Over;
                brake.control.close_input();
            }
            stop = stops.next() => {
                brake.interrupt(Interruption::Stop, stop.signal, stop.grace);
            }
            news = moves.next() => brake.on_move(news).into_iter().for_each(|it| io.moved(it)),
            () = meter.passed.notified() => {
                brake.interrupt(Interruption::OutputLimit, TERM, plan.grace);
            }
            () = brake.due() => brake.on_due(plan.grace),
        }
    }
}

/// Waits until nothing is left of a kept child; its guardian drains its pipes and kills the rest.
/// None when that died before.
async fn wait_until_gone<T>(
    mut control: ProcessControl,
    (pumps, pipes): (&mut (impl Future<Output = T> + Unpin), &mut Pipes),
    stops: &Stops,
) -> Option<u32> {
    let mut cut_at = None;
    loop {
        let due = async {
            match cut_at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            left_behind = control.gone() => return left_behind,
            _ = &mut *pumps, if *pipes == Pipes::Open => *pipes = Pipes::Closed,
            stop = stops.next() => {
                let at = after(stop.grace);
                cut_at = Some(cut_at.map_or(at, |earlier: Instant| earlier.min(at)));
            }
            () = due => {
                cut_at = None;
                control.cut_drain();
            }
        }
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
