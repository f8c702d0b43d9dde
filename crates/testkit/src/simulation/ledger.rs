//! What really happened: every simulated body writes down its starts, values and end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sortie_exec::registry::Registry;
use sortie_exec::task::{TaskContext, typed};
use sortie_model::Ordinal;
use sortie_model::restart::Strategy;
use tokio::time::Instant;

use crate::cluster::Life;
use crate::simulation::body::{self, TASK, Travelling};
use crate::simulation::{Broken, Promise};

/// A child, across all lives and nodes: its job's tag and its ordinal.
pub(super) type Child = (u64, Ordinal);

/// How a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Succeeded,
    Failed,
    Panicked,
}

/// One run of a child's body.
#[derive(Debug, Clone)]
pub(super) struct Lived {
    /// On which node, in which of its lives.
    pub(super) on: Life,
    pub(super) began: Instant,
    /// Among everything that the ledger notes, which is the order in which it happened.
    place: u64,
    /// Values that were emitted.
    pub(super) emitted: u64,
    /// How it ended by itself.
    pub(super) end: Option<End>,
    /// Since when nothing of it exists any more.
    pub(super) gone: Option<Instant>,
    gone_place: u64,
}

/// What is known of one child.
#[derive(Debug, Clone, Default)]
pub(super) struct Fate(pub(super) Vec<Lived>);

impl Fate {
    pub(super) fn last(&self) -> Option<&Lived> {
        self.0.last()
    }

    /// How often it began before that moment.
    pub(super) fn before(&self, moment: Instant) -> u64 {
        self.0.iter().filter(|lived| lived.began < moment).count() as u64
    }

    /// The node and its life on which it began last.
    pub(super) fn on(&self) -> Option<Life> {
        self.last().map(|lived| lived.on)
    }
}

/// What all bodies of a run wrote down. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Ledger(Arc<Mutex<Book>>);

#[derive(Debug, Default)]
struct Book {
    fates: BTreeMap<Child, Fate>,
    /// Bodies that exist.
    present: BTreeSet<Child>,
    /// Jobs whose children may start again, and how.
    supervised: BTreeMap<u64, Strategy>,
    /// What a body saw at its start that must not be.
    broken: Option<(Promise, String)>,
    /// Lives that are over: nobody can hear what their bodies still do.
    dead: BTreeMap<Life, Instant>,
    noted: u64,
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
            async move { body::run((ledger, life), context, plan).await }
        };
        // A registry that is empty has the name free.
        let _ = registry.add(TASK, typed(body));
        registry
    }

    /// The children of that job may start again.
    pub(super) fn supervise(&self, tag: u64, strategy: Strategy) {
        self.book().supervised.insert(tag, strategy);
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

    /// How often that child began.
    pub(super) fn begun(&self, child: Child) -> u32 {
        self.book().fates.get(&child).map_or(0, |fate| fate.0.len() as u32)
    }

    /// Children whose bodies exist now, in lives that go on.
    pub(super) fn present(&self) -> Vec<Child> {
        let book = self.book();
        book.present.iter().filter(|child| book.present_life(child).is_some()).copied().collect()
    }

    /// What must not be and was.
    pub(super) fn broken(&self) -> Option<Broken> {
        let found = self.book().broken.clone();
        found.map(|(promise, text)| Broken(promise, text))
    }

    /// How often children began.
    pub(super) fn starts(&self) -> u64 {
        self.book().fates.values().map(|fate| fate.0.len() as u64).sum()
    }

    /// A body begins. Says how many of its child began before it.
    pub(super) fn begins(&self, (life, child): (Life, Child)) -> u32 {
        let mut book = self.book();
        if book.dead.contains_key(&life) {
            return u32::MAX;
        }
        book.must_not_begin(life, child);
        book.noted += 1;
        let (began, place) = (Instant::now(), book.noted);
        let fate = book.fates.entry(child).or_default();
        let before = fate.0.len() as u32;
        let (emitted, end, gone, gone_place) = (0, None, None, 0);
        fate.0.push(Lived { on: life, began, place, emitted, end, gone, gone_place });
        book.present.insert(child);
        before
    }

    /// Changes what is known of one body, unless its node's life is over.
    pub(super) fn note(
        &self,
        (life, child, number): (Life, Child, u32),
        change: impl FnOnce(&mut Lived),
    ) {
        let mut book = self.book();
        if book.dead.contains_key(&life) {
            return;
        }
        book.noted += 1;
        let place = book.noted;
        let Some(fate) = book.fates.get_mut(&child) else { return };
        let Some(lived) = fate.0.get_mut(number as usize) else { return };
        change(lived);
        if lived.gone.is_some() && lived.gone_place == 0 {
            lived.gone_place = place;
            if fate.0.iter().all(|lived| lived.gone.is_some()) {
                book.present.remove(&child);
            }
        }
    }
}

impl Book {
    /// The body of the child that exists now, in a life that goes on.
    fn present_life(&self, child: &Child) -> Option<&Lived> {
        let lives = |lived: &&Lived| lived.gone.is_none() && !self.dead.contains_key(&lived.on);
        self.fates.get(child)?.0.iter().find(lives)
    }

    /// Looks whether this child may begin there now, whatever anybody believes.
    fn must_not_begin(&mut self, life: Life, child: Child) {
        let (tag, ordinal) = child;
        let Some(before) = self.fates.get(&child).and_then(Fate::last) else { return };
        let Some(strategy) = self.supervised.get(&tag).copied() else {
            self.break_with(Promise::P1, format!("child {ordinal:?} of tag {tag} began twice"));
            return;
        };
        if let Some(other) = self.present_life(&child) {
            // The node that still runs it knows that it does; another one is told of its loss.
            let promise = if other.on == life { Promise::P1 } else { Promise::P9 };
            let text = format!(
                "child {ordinal:?} of tag {tag} begins on {life:?} and runs on {:?}",
                other.on
            );
            self.break_with(promise, text);
            return;
        }
        let first = match strategy {
            Strategy::OneForOne => return,
            Strategy::OneForAll => Ordinal(0),
            Strategy::RestForOne => ordinal,
        };
        let since = before.gone_place;
        let siblings = self.fates.range((tag, first)..=(tag, Ordinal(u32::MAX)));
        let old = siblings.filter_map(|(sibling, _)| Some((sibling, self.present_life(sibling)?)));
        let mut old = old.filter(|(_, lived)| lived.place < since);
        if let Some(((_, sibling), lived)) = old.next() {
            let text = format!(
                "child {ordinal:?} of tag {tag} starts again while its sibling {sibling:?} runs \
                 on from before, on {:?}",
                lived.on
            );
            self.break_with(Promise::P15, text);
        }
    }

    fn break_with(&mut self, promise: Promise, text: String) {
        self.broken.get_or_insert((promise, text));
    }
}
