//! The function that simulated children run: it does what its plan says and writes that down.

use std::time::Duration;

use sortie_exec::task::{TaskContext, encode_value};
use tokio::time::Instant;

use crate::cluster::Life;
use crate::simulation::client::Odd;
use crate::simulation::ledger::{Child, End, Ledger};

/// The name of the function that simulated children run.
pub(super) const TASK: &str = "work";

/// How a body ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Completes,
    Fails,
    Panics,
    /// Waits until it is told to stop, then completes.
    Waits,
    /// Does not care what it is told, and is aborted in the end.
    Ignores,
    /// Fails so many times in so many, by child and life; otherwise it waits.
    Falters,
}

impl Ending {
    pub(super) const ALL: [Self; 6] =
        [Self::Completes, Self::Fails, Self::Panics, Self::Waits, Self::Ignores, Self::Falters];

    /// What a child does in one of its lives.
    const fn of_life(self, (_, ordinal): Child, life: u32) -> Self {
        match self {
            Self::Falters => match (ordinal.0 * 5 + life * 3) % 4 {
                0 => Self::Fails,
                1 => Self::Waits,
                2 => Self::Completes,
                _ => Self::Ignores,
            },
            other => other,
        }
    }
}

/// What each child of a job does: emits numbered values with a pause after each, then ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) tag: u64,
    pub(super) values: u32,
    pub(super) pause: Duration,
    pub(super) ending: Ending,
}

/// A plan in the form that travels: tag, values, pause in milliseconds, place of the ending.
pub(super) type Travelling = (u64, u32, u32, u8);

impl Plan {
    /// What travels, encoded.
    pub(super) fn bytes(self) -> Result<Vec<u8>, Odd> {
        let encoded = encode_value(&self.travelling()).map_err(|error| Odd(error.to_string()))?;
        Ok(encoded.to_vec())
    }

    fn travelling(self) -> Travelling {
        let place = Ending::ALL.iter().position(|ending| *ending == self.ending);
        let pause = u32::try_from(self.pause.as_millis()).unwrap_or(u32::MAX);
        (self.tag, self.values, pause, place.and_then(|at| u8::try_from(at).ok()).unwrap_or(0))
    }
}

/// The value that a child emits as its `number`th in a life, both from 0, in its encoded form.
pub(super) fn value((tag, ordinal): Child, life: u32, number: u64) -> bytes::Bytes {
    encode_value(&(tag, ordinal.0, life, number)).unwrap_or_default()
}

/// It failed as it was told to.
#[derive(Debug, thiserror::Error)]
#[error("as planned")]
pub(super) struct Planned;

/// Notes that nothing of a body exists any more, however it ended.
struct Presence(Ledger, (Life, Child, u32));

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.note(self.1, |lived| lived.gone = Some(Instant::now()));
    }
}

pub(super) async fn run(
    (ledger, life): (Ledger, Life),
    context: TaskContext,
    plan: Travelling,
) -> Result<(), Planned> {
    let (tag, values, pause, ending) = plan;
    let child = (tag, context.ordinal());
    let before = ledger.begins((life, child));
    let ending = Ending::ALL.get(usize::from(ending)).copied().unwrap_or(Ending::Completes);
    let (ending, this) = (ending.of_life(child, before), (life, child, before));
    let _presence = Presence(ledger.clone(), this);
    let ended = |end| ledger.note(this, |lived| lived.end = Some(end));
    for number in 0..u64::from(values) {
        if context.emit(&(tag, context.ordinal().0, before, number)).await.is_err() {
            return Err(Planned);
        }
        ledger.note(this, |lived| lived.emitted += 1);
        let pause = tokio::time::sleep(Duration::from_millis(u64::from(pause)));
        tokio::select! {
            biased;
            () = context.cancelled(), if ending != Ending::Ignores => {
                ended(End::Succeeded);
                return Ok(());
            }
            () = pause => {}
        }
    }
    match ending {
        Ending::Completes => {}
        Ending::Fails => {
            ended(End::Failed);
            return Err(Planned);
        }
        Ending::Panics => {
            ended(End::Panicked);
            std::panic::panic_any(PLANNED_PANIC);
        }
        Ending::Waits | Ending::Falters => context.cancelled().await,
        Ending::Ignores => std::future::pending().await,
    }
    ended(End::Succeeded);
    Ok(())
}

/// What a planned panic says: programs keep it off their standard error.
const PLANNED_PANIC: &str = "a planned panic";

/// Whether a panic's payload is one that a simulated child was told to panic with.
pub fn is_planned_panic(payload: &(dyn std::any::Any + Send)) -> bool {
    payload.downcast_ref::<&str>() == Some(&PLANNED_PANIC)
}
