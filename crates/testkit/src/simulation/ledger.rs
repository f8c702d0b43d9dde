//! What really happened: every simulated body writes down its starts, values and end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sortie_exec::registry::Registry;
use sortie_exec::task::{TaskContext, encode_value, typed};
use sortie_model::Ordinal;
use tokio::time::Instant;

use crate::cluster::Life;

/// The name of the function that simulated children run.
pub(super) const TASK: &str = "work";

/// A child, across all lives and nodes: its job's tag and its ordinal.
pub(super) type Child = (u64, Ordinal);

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
}

impl Ending {
    pub(super) const ALL: [Self; 5] =
        [Self::Completes, Self::Fails, Self::Panics, Self::Waits, Self::Ignores];
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
    pub(super) fn travelling(self) -> Travelling {
        let place = Ending::ALL.iter().position(|ending| *ending == self.ending);
        let pause = u32::try_from(self.pause.as_millis()).unwrap_or(u32::MAX);
        (self.tag, self.values, pause, place.and_then(|at| u8::try_from(at).ok()).unwrap_or(0))
    }
}

/// How a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Succeeded,
    Failed,
    Panicked,
}

/// What is known of one child.
#[derive(Debug, Clone, Default)]
pub(super) struct Fate {
    /// The lives in which its body began, each time it did.
    pub(super) starts: Vec<Life>,
    /// Values that were emitted.
    pub(super) emitted: u64,
    /// When and how it ended by itself.
    pub(super) end: Option<(Instant, End)>,
    /// Since when nothing of it exists any more.
    pub(super) gone: Option<Instant>,
}

/// What all bodies of a run wrote down. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Ledger(Arc<Mutex<Book>>);

#[derive(Debug, Default)]
struct Book {
    fates: BTreeMap<Child, Fate>,
    /// Bodies that exist.
    present: BTreeSet<Child>,
    /// A child that began more than once.
    twice: Option<Child>,
    /// Lives that are over: nobody can hear what their bodies still do.
    dead: BTreeMap<Life, Instant>,
}

impl Ledger {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a life can run.
    pub(super) fn registry(&self, life: Life) -> Registry {
        let (mut registry, ledger) = (Registry::default(), self.clone());
        let body = move |context: TaskContext, plan: Travelling| {
            let ledger = ledger.clone();
            async move { run((ledger, life), context, plan).await }
        };
        // A registry that is empty has the name free.
        let _ = registry.add(TASK, typed(body));
        registry
    }

    pub(super) fn life_ends(&self, life: Life) {
        self.book().dead.insert(life, Instant::now());
    }

    /// When that life ended, if it did.
    pub(super) fn death(&self, life: Life) -> Option<Instant> {
        self.book().dead.get(&life).copied()
    }

    pub(super) fn fate(&self, child: Child) -> Fate {
        self.book().fates.get(&child).cloned().unwrap_or_default()
    }

    /// Children whose bodies exist now, in lives that go on.
    pub(super) fn present(&self) -> Vec<Child> {
        let book = self.book();
        let lives = |child: &&Child| {
            let life = book.fates.get(child).and_then(|fate| fate.starts.last());
            life.is_some_and(|life| !book.dead.contains_key(life))
        };
        book.present.iter().filter(lives).copied().collect()
    }

    /// A child that began more than once, if there is one.
    pub(super) fn began_twice(&self) -> Option<Child> {
        self.book().twice
    }

    /// How many children began.
    pub(super) fn starts(&self) -> u64 {
        self.book().fates.len() as u64
    }

    /// Changes what is known of a child, unless its life is over.
    fn note(&self, (life, child): (Life, Child), change: impl FnOnce(&mut Fate)) {
        let mut book = self.book();
        if !book.dead.contains_key(&life) {
            let book = &mut *book;
            let fate = book.fates.entry(child).or_default();
            change(fate);
            if fate.starts.len() > 1 {
                book.twice = Some(child);
            }
            match fate.gone {
                None => book.present.insert(child),
                Some(_) => book.present.remove(&child),
            };
        }
    }
}

/// The value that a child emits as its `number`th, from 0, in its encoded form.
pub(super) fn value(child: Child, number: u64) -> bytes::Bytes {
    let (tag, ordinal) = child;
    encode_value(&(tag, ordinal.0, number)).unwrap_or_default()
}

/// It failed as it was told to.
#[derive(Debug, thiserror::Error)]
#[error("as planned")]
struct Planned;

/// Notes that nothing of a body exists any more, however it ended.
struct Presence(Ledger, Life, Child);

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.note((self.1, self.2), |fate| fate.gone = Some(Instant::now()));
    }
}

async fn run(
    (ledger, life): (Ledger, Life),
    context: TaskContext,
    plan: Travelling,
) -> Result<(), Planned> {
    let (tag, values, pause, ending) = plan;
    let child = (tag, context.ordinal());
    let ending = Ending::ALL.get(usize::from(ending)).copied().unwrap_or(Ending::Completes);
    ledger.note((life, child), |fate| fate.starts.push(life));
    let _presence = Presence(ledger.clone(), life, child);
    let ended = |end| {
        ledger.note((life, child), |fate| fate.end = Some((Instant::now(), end)));
    };
    for number in 0..u64::from(values) {
        if context.emit(&(tag, context.ordinal().0, number)).await.is_err() {
            return Err(Planned);
        }
        ledger.note((life, child), |fate| fate.emitted += 1);
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
        Ending::Waits => context.cancelled().await,
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
