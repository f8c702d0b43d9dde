//! The start of a process child, which may wait for room on the disk.

use std::pin::pin;

use sortie_model::{Motion, limits};
use sortie_wire::guardian_proto::Deadline;
use tokio::sync::watch;

use crate::error::SpawnError;
use crate::guardian::Guardian;
use crate::process::{Process, ProcessSpec};
use crate::run::brake::time_out;
use crate::run::{ProcessIo, RunPlan};
use crate::stop::{Stop, Stops};

/// Starts the process. A kept one for which the disk has no room waits until there is some: it
/// would fail for what it has no part in.
pub(super) async fn start(
    guardian: &Guardian,
    spec: ProcessSpec,
    plan: &RunPlan,
    (io, stops): (&impl ProcessIo, &Stops),
) -> (Result<Process, SpawnError>, Option<Stop>) {
    let full = match try_start(guardian, spec.clone(), plan, stops).await {
        (Err(error), None) if error.is_lack_of_room() => error,
        done => return done,
    };
    let _waits = guardian.waits_for_room();
    let (mut motion, mut does) = (stops.motion(), Motion::Running);
    loop {
        if let Err(stop) = stand_still((io, stops), &mut motion, &mut does).await {
            return (Err(full), Some(stop));
        }
        // One after the other: while there is none for the first, there is none for the others.
        let _turn = tokio::select! {
            biased;
            stop = stops.next() => return (Err(full), Some(stop)),
            Ok(()) = motion.changed() => continue,
            turn = guardian.turn_for_room() => turn,
        };
        loop {
            match try_start(guardian, spec.clone(), plan, stops).await {
                (Err(error), None) if error.is_lack_of_room() => {}
                done => return done,
            }
            tokio::select! {
                biased;
                stop = stops.next() => return (Err(full), Some(stop)),
                Ok(()) = motion.changed() => break,
                () = tokio::time::sleep(limits::START_ROOM_RETRY) => {}
            }
        }
    }
}

/// Waits for as long as the child is to stand still, and says what it does, if that changes.
///
/// # Errors
/// A stop that comes before.
async fn stand_still(
    (io, stops): (&impl ProcessIo, &Stops),
    motion: &mut watch::Receiver<Motion>,
    does: &mut Motion,
) -> Result<(), Stop> {
    loop {
        let told = *motion.borrow_and_update();
        if told != *does {
            *does = told;
            io.moved(told);
        }
        if told == Motion::Running {
            return Ok(());
        }
        tokio::select! {
            biased;
            stop = stops.next() => return Err(stop),
            Ok(()) = motion.changed() => {}
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
