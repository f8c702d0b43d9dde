//! The start of a process child, which may wait for room on the disk.

use std::pin::pin;

use sortie_model::limits;
use sortie_wire::guardian_proto::Deadline;

use crate::error::SpawnError;
use crate::guardian::Guardian;
use crate::process::{Process, ProcessSpec};
use crate::run::RunPlan;
use crate::run::brake::time_out;
use crate::stop::{Stop, Stops};

/// Starts the process. A kept one for which the disk has no room waits until there is some: it
/// would fail for what it has no part in.
pub(super) async fn start(
    guardian: &Guardian,
    spec: ProcessSpec,
    plan: &RunPlan,
    stops: &Stops,
) -> (Result<Process, SpawnError>, Option<Stop>) {
    let mut waits = None;
    loop {
        let (result, stop) = try_start(guardian, spec.clone(), plan, stops).await;
        let full = result.as_ref().err().filter(|error| error.is_lack_of_room()).copied();
        let Some(full) = full.filter(|_| stop.is_none()) else { return (result, stop) };
        waits.get_or_insert_with(|| guardian.waits_for_room());
        tokio::select! {
            biased;
            stop = stops.next() => return (Err(full), Some(stop)),
            () = tokio::time::sleep(limits::START_ROOM_RETRY) => {}
        }
    }
}

/// Starts the process; a stop that comes meanwhile withdraws the start if it is not too late.
async fn try_start(
    guardian: &Guardian,
    spec: ProcessSpec,
    plan: &RunPlan,
    stops: &Stops,
) -> (Result<Process, SpawnError>, Option<Stop>) {
    let due = plan.timeout.map(|left| Deadline { left, act: time_out(plan.grace) });
    let starting = match guardian.begin(spec, due).await {
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
