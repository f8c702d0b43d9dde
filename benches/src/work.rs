//! Using a cluster as a program would, with a look at whether the results are right.

use sortie::{Job, ReceiveItem, ReceiveMode, State};

use crate::measure;
use crate::program::Outcome;

/// What a job's output came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Records.
    pub records: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
}

/// Receives a job's output until it is finished, and throws it away.
///
/// # Errors
/// When the receive ends early, or a child has failed.
pub async fn drain(job: &Job) -> Outcome<Drained> {
    let mut receiver = job.receiver(ReceiveMode::TakeUntil { finished: true }).await?;
    let mut drained = Drained { records: 0, bytes: 0 };
    while let Some(item) = receiver.next().await? {
        match item {
            ReceiveItem::Records { number, records, .. } => {
                drained.records += records.len() as u64;
                drained.bytes += records.iter().map(|record| record.body.len() as u64).sum::<u64>();
                receiver.acknowledge(number);
            }
            ReceiveItem::End(end) => {
                if let Some(failure) = end.failures.first() {
                    return Err(format!("a child failed: {failure:?}").into());
                }
            }
            _ => {}
        }
    }
    Ok(drained)
}

/// The sum of the values that a job's functions give, and how many there are.
///
/// # Errors
/// When the receive ends early, or a child has failed.
pub async fn sum(job: &Job) -> Outcome<(u64, u64)> {
    let mut values = job.values::<u64>();
    let (mut count, mut sum) = (0, 0);
    while let Some(value) = values.next().await {
        count += 1;
        sum += value?;
    }
    Ok((count, sum))
}

/// Waits until so many children of a job are in that state.
///
/// # Errors
/// When they are not within 30 seconds.
pub async fn reached(job: &Job, state: State, count: u64) -> Outcome<()> {
    measure::until(&format!("{count} children to be {state}"), async || {
        Ok((job.view().await?.tally.of(state) >= count).then_some(()))
    })
    .await
}

/// Says what is wrong when two figures that must be equal are not.
///
/// # Errors
/// That sentence.
pub fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Outcome<()> {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}: {found:?} instead of {expected:?}").into())
}
