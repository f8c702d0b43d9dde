//! A registered function as a child.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use sortie_engine::function_end::FunctionResult;
use sortie_engine::host::Start;
use sortie_exec::task::{BoxFuture, Task, TaskContext, TaskResult, panicked};
use sortie_model::spec::{BodySpec, StopSpec};
use sortie_model::{Body, Reason, Stream};
use sortie_wire::host_proto::{ChildOutcome, HostSpec, Verdict};

use crate::child_job::{Ending, Left, Slot};
use crate::data::port::{ChildPort, JobPort};

/// Spawns the function's future.
pub(super) fn run(port: &Arc<JobPort>, task: &Arc<dyn Task>, child: Start, left: Left) -> Slot {
    let port = ChildPort::new(Arc::clone(port), &child);
    port.limit_output(port.job().spec.output_limit);
    let ending = Ending::new(Arc::clone(&port), left);
    let (task, this) = (Arc::clone(task), Arc::clone(&port));
    let functions = port.job().host_node.functions.clone();
    let future = functions.spawn(async move {
        // Whoever aborts this future drops it, too.
        let mut ending = ending;
        this.mark_restart().await;
        this.began();
        ending.end_with(call(&this, task.as_ref(), &child).await);
        this.settle().await;
    });
    Slot { port, future: future.abort_handle(), stop: None, abort_at: None }
}

/// A child that cannot run here.
pub(super) fn fail(port: &Arc<JobPort>, child: &Start, reason: Reason, left: Left) -> Slot {
    let port = ChildPort::new(Arc::clone(port), child);
    let ending = Ending::new(Arc::clone(&port), left);
    let this = Arc::clone(&port);
    let future = tokio::spawn(async move {
        let _ending = ending;
        this.ended(ChildOutcome::of(Verdict::Failed(reason)));
    });
    Slot { port, future: future.abort_handle(), stop: None, abort_at: None }
}

/// What a function's child is given: its map's item, or what was submitted.
pub(super) fn input_of<'a>(spec: &'a HostSpec, child: &'a Start) -> Result<&'a Bytes, Reason> {
    match (&spec.body, &child.item) {
        (BodySpec::Task { .. }, Some((_, item))) => Ok(item),
        // It ran before, with an item that its node did not outlive.
        (BodySpec::Task { .. }, None) if spec.template => Err(Reason::InputLost),
        (BodySpec::Task { input, .. }, None) => Ok(input),
        _ => Err(Reason::UnknownTask { name: String::new() }),
    }
}

async fn call(port: &Arc<ChildPort>, task: &dyn Task, child: &Start) -> ChildOutcome {
    let spec = Arc::clone(&port.job().spec);
    let input = match input_of(&spec, child) {
        Ok(input) => input,
        Err(reason) => return ChildOutcome::of(Verdict::Failed(reason)),
    };
    let context = TaskContext::new(Arc::clone(port) as Arc<_>);
    // The call itself may panic before there is a future.
    let started = std::panic::catch_unwind(AssertUnwindSafe(|| task.call(context, input)));
    let result = match started {
        Ok(future) => caught(future, port, &spec).await,
        Err(panic) => Err(FunctionResult::Panicked(panicked(panic.as_ref()))),
    };
    // What is below does not wait until the result is stored and the inbox settled. A job of its
    // own that failed before counts, also where the function saw that first.
    port.end_below();
    let escalated = port.nest().failure().is_some();
    let result = match result {
        Ok(value) => {
            if let Some(body) = value.filter(|_| !escalated) {
                // The result itself may be what passes the limit.
                tokio::select! {
                    biased;
                    () = port.over_limit() => {}
                    () = port.record(Stream::Output, body) => {}
                }
            }
            FunctionResult::Returned
        }
        Err(result) => result,
    };
    let cut_bytes = port.cut_output();
    let over = FunctionResult::OverLimit;
    let result = if cut_bytes > 0 && result == FunctionResult::Returned { over } else { result };
    ChildOutcome { cut_bytes, ..port.outcome_of(result) }
}

/// What the function returned, or how else it ended.
async fn caught(
    future: BoxFuture<'static, TaskResult>,
    port: &ChildPort,
    spec: &HostSpec,
) -> Result<Option<Body>, FunctionResult> {
    let mut caught = AssertUnwindSafe(future).catch_unwind();
    let limit = async {
        match spec.timeout {
            None => std::future::pending().await,
            Some(limit) => {
                port.ran_for(limit).await;
                limit
            }
        }
    };
    let cut = tokio::select! {
        biased;
        reason = port.escalated() => FunctionResult::Escalated(reason),
        ended = &mut caught => return result_of(ended),
        limit = limit => FunctionResult::TimedOut(limit),
        () = port.over_limit() => FunctionResult::OverLimit,
    };
    // Its token fires, and it has its grace to return; the verdict stands.
    port.tell_stop(StopSpec::default());
    let _ = tokio::time::timeout(spec.grace, caught).await;
    Err(cut)
}

fn result_of(ended: std::thread::Result<TaskResult>) -> Result<Option<Body>, FunctionResult> {
    match ended {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(reason)) => Err(FunctionResult::Failed(reason)),
        Err(panic) => Err(FunctionResult::Panicked(panicked(panic.as_ref()))),
    }
}

#[cfg(test)]
mod tests;
