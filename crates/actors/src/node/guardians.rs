//! The guardian of a node, and the next one where it died (`docs/semantics.md`, section 4.2).

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use sortie_exec::{Adopted, Guardian, Lack, LaunchError, LaunchOptions};
use sortie_model::{ChildKey, Seq, limits};
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::time::Instant;

use crate::data::mailboxes::FullBecause;

/// Whether the next guardian may be launched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Launching {
    Allowed,
    Over,
}

/// What becomes of what a guardian keeps, when its node ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parting {
    /// It ends, too.
    End,
    /// It is left to the next node.
    Leave,
}

/// The guardian that a node has at present. One that dies took its children along, and the next is
/// launched at once.
#[derive(Debug)]
pub(crate) struct Guardians {
    /// None where the node hosts no processes.
    options: Option<LaunchOptions>,
    current: RwLock<Option<Guardian>>,
    /// The one that the node began with, until it was asked what it has from before: it may have
    /// died by then, and the next one does not tell that again.
    first: Mutex<Option<Guardian>>,
    /// Held while one is launched.
    launching: AsyncMutex<Launching>,
    /// How many there were: those who wait for the next one look at it.
    lives: watch::Sender<u64>,
    /// Children that a dead one was to forget, for the next one to hear.
    owed: Mutex<Vec<ChildKey>>,
}

impl Guardians {
    /// The guardian, if the node is to have one: that of its former life where it still lives.
    ///
    /// # Errors
    /// [`LaunchError`].
    pub(super) async fn launch(options: Option<LaunchOptions>) -> Result<Arc<Self>, LaunchError> {
        let first = match &options {
            Some(options) => Some(Guardian::launch(options.clone()).await?),
            None => None,
        };
        let guardians = Arc::new(Self {
            options,
            current: RwLock::new(first.clone()),
            first: Mutex::new(first),
            launching: AsyncMutex::new(Launching::Allowed),
            lives: watch::Sender::new(1),
            owed: Mutex::default(),
        });
        tokio::spawn(Arc::clone(&guardians).look_after());
        Ok(guardians)
    }

    /// The present one, which may have died; none where the node hosts no processes.
    pub(crate) fn current(&self) -> Option<Guardian> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was left from before the node began, each child once; none where the node hosts no
    /// processes. Of those whose guardian died since, that is the end.
    pub(super) fn take_left(&self) -> Option<Vec<Adopted>> {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        first.map(|first| first.take_adopted())
    }

    /// The present one, or the next where that has died. None where the node hosts no processes,
    /// or none came within [`limits::GUARDIAN_HELLO`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn alive(&self) -> Option<Guardian> {
        let mut lives = self.lives.subscribe();
        let until = Instant::now() + limits::GUARDIAN_HELLO;
        loop {
            let guardian = self.current()?;
            if guardian.is_alive() {
                return Some(guardian);
            }
            let next = tokio::time::timeout_at(until, lives.changed());
            next.await.ok()?.ok()?;
        }
    }

    /// Why nothing is read at present of what kept children write, if that is so.
    pub(crate) fn holds_back(&self) -> Option<FullBecause> {
        let guardian = self.current().filter(Guardian::is_alive)?;
        Some(match guardian.holds_back()? {
            Lack::Room => FullBecause::DiskFull,
            Lack::Other => FullBecause::DiskFailed,
        })
    }

    /// Whether starts of what it keeps wait for room on the disk.
    pub(crate) fn lacks_room(&self) -> bool {
        self.current().is_some_and(|guardian| guardian.lacks_room())
    }

    /// The owner of a kept child's output has everything before `next`.
    pub(crate) fn stored(&self, child: ChildKey, next: Seq) {
        if let Some(guardian) = self.current() {
            guardian.stored(child, next);
        }
    }

    /// A kept child's end is known for good.
    pub(crate) fn forget(&self, child: ChildKey) {
        // First this lock: under it the next guardian is told what is owed, and then is the current
        // one.
        let mut owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(guardian) = self.current() else { return };
        if guardian.is_alive() {
            guardian.forget(child);
        } else if owed.len() < limits::CHILDREN_OWED_TO_GUARDIAN {
            owed.push(child);
        }
    }

    /// Parts from the guardian, for good: no other one follows.
    pub(super) async fn part(&self, how: Parting) {
        *self.launching.lock().await = Launching::Over;
        match (self.current(), how) {
            (Some(guardian), Parting::End) => guardian.end().await,
            (Some(guardian), Parting::Leave) => guardian.leave().await,
            (None, _) => {}
        }
    }

    /// Launches the next one whenever one dies.
    async fn look_after(self: Arc<Self>) {
        while let Some(guardian) = self.current() {
            let since = Instant::now();
            guardian.lost().await;
            drop(guardian);
            // One that dies again and again is not launched faster than that.
            tokio::time::sleep_until(self.earliest(since)).await;
            while !self.replace().await {
                tokio::time::sleep(limits::GUARDIAN_LAUNCH_PAUSE).await;
            }
        }
    }

    /// When the next one may be launched after one that lived since then.
    fn earliest(&self, since: Instant) -> Instant {
        match *self.lives.borrow() {
            // The first one's death is no habit.
            1 => since,
            _ => since + limits::GUARDIAN_LAUNCH_PAUSE,
        }
    }

    /// Launches the next one; says whether there is nothing to try again.
    async fn replace(&self) -> bool {
        let launching = self.launching.lock().await;
        let (Launching::Allowed, Some(options)) = (*launching, self.options.clone()) else {
            *self.current.write().unwrap_or_else(PoisonError::into_inner) = None;
            return true;
        };
        tracing::error!("the guardian died, and its processes with it; the next one is launched");
        match Guardian::launch(options).await {
            Ok(guardian) => {
                // What the dead one had ends as lost where it was begun.
                drop(guardian.take_adopted());
                let mut owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
                owed.drain(..).for_each(|child| guardian.forget(child));
                let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
                *current = Some(guardian);
                self.lives.send_modify(|lives| *lives += 1);
                true
            }
            Err(error) => {
                tracing::error!(%error, "no guardian can be launched; it is tried again");
                false
            }
        }
    }
}
