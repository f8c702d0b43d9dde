//! A registered function as a child.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use sortie_engine::function_end::{FunctionResult, function_outcome};
use sortie_engine::host::Start;
use sortie_exec::task::{BoxFuture, Task, TaskContext, TaskResult, panicked};
use sortie_model::spec::BodySpec;
use sortie_model::{Body, Reason, Stream};
use sortie_wire::host_proto::{ChildOutcome, HostSpec, Verdict};

use crate::child_job::{Ending, Left, Slot};
use crate::data::port::{ChildPort, JobPort};

/// Spawns the function's future.
pub(super) fn run(port: &Arc<JobPort>, task: &Arc<dyn Task>, child: Start, left: Left) -> Slot {
    let port = ChildPort::new(Arc::clone(port), &child);
    let ending = Ending::new(Arc::clone(&port), left);
    let (task, this) = (Arc::clone(task), Arc::clone(&port));
    let future = tokio::spawn(async move {
        let _ending = ending;
        this.mark_restart().await;
        this.began();
        let outcome = call(&this, task.as_ref(), &child).await;
        this.settle().await;
        this.ended(outcome);
    });
    Slot { port, future: future.abort_handle(), stop: None }
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
    Slot { port, future: future.abort_handle(), stop: None }
}

async fn call(port: &Arc<ChildPort>, task: &dyn Task, child: &Start) -> ChildOutcome {
    let spec = Arc::clone(&port.job().spec);
    let BodySpec::Task { input, .. } = &spec.body else {
        return ChildOutcome::of(Verdict::Failed(Reason::UnknownTask { name: String::new() }));
    };
    let input = child.item.as_ref().map_or(input, |(_, item)| item);
    let context = TaskContext::new(Arc::clone(port) as Arc<_>);
    // The call itself may panic before there is a future.
    let started = std::panic::catch_unwind(AssertUnwindSafe(|| task.call(context, input)));
    let result = match started {
        Ok(future) => caught(future, port, &spec).await,
        Err(panic) => FunctionResult::Panicked(panicked(panic.as_ref())),
    };
    if let FunctionResult::Returned(Some(value)) = &result {
        port.record(Stream::Output, Body::Value(value.clone())).await;
    }
    function_outcome(result, port.stop_delivered())
}

async fn caught(
    future: BoxFuture<'static, TaskResult>,
    port: &ChildPort,
    spec: &HostSpec,
) -> FunctionResult {
    let mut caught = AssertUnwindSafe(future).catch_unwind();
    let ended = match spec.timeout {
        None => caught.await,
        Some(limit) => match tokio::time::timeout(limit, &mut caught).await {
            Ok(ended) => ended,
            Err(_) => {
                // Its token fires, and it has its grace to return; the verdict stands.
                port.tell_stop();
                let _ = tokio::time::timeout(spec.grace, caught).await;
                return FunctionResult::TimedOut(limit);
            }
        },
    };
    match ended {
        Ok(Ok(value)) => FunctionResult::Returned(value),
        Ok(Err(reason)) => FunctionResult::Failed(reason),
        Err(panic) => FunctionResult::Panicked(panicked(panic.as_ref())),
    }
}
