//! The last checkpoints of a job's functions on this node: what the next incarnation of a child
//! goes on from. Those of a job that outlives its node are in the journal, too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use sortie_model::{ChildIncarnation, Ordinal, limits};
use sortie_store::journal::{Change, Checkpoint};
use tokio::time::Instant;

use crate::data::durable::{Durable, Kept as OnDisk};
use crate::data::job::JobShared;

/// The checkpoints of one job.
#[derive(Debug, Default)]
pub(crate) struct Checkpoints(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    by_child: BTreeMap<Ordinal, Checkpoint>,
    bytes: usize,
    /// Of which the journal has another one, or one that nobody needs.
    changed: BTreeSet<Ordinal>,
    /// When the first of those changed.
    since: Option<Instant>,
    /// The job is woken when they are due.
    waking: bool,
    /// The disk did not take them: they are not tried before.
    not_before: Option<Instant>,
}

/// What became of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// There is no room for it.
    No,
    /// It is kept.
    Yes,
    /// It is, and its job is to be woken for it.
    First,
}

impl Kept {
    /// Says whether there is room.
    fn put(&mut self, (ordinal, incarnation): (Ordinal, ChildIncarnation), value: Bytes) -> bool {
        let before = self.by_child.get(&ordinal).map_or(0, |(_, value)| weight(value));
        let bytes = self.bytes - before + weight(&value);
        let fits = bytes <= limits::CHECKPOINTS_BYTES;
        if fits {
            self.bytes = bytes;
            self.by_child.insert(ordinal, (incarnation, value));
        }
        fits
    }

    fn change(&mut self, ordinal: Ordinal) {
        self.changed.insert(ordinal);
        self.since.get_or_insert_with(Instant::now);
    }
}

impl Checkpoints {
    /// Keeps a value in the place of the child's one before. Where there is no room for it, that
    /// one stays.
    pub(crate) fn keep(&self, child: (Ordinal, ChildIncarnation), value: Bytes) -> Taken {
        let mut kept = self.kept();
        if !kept.put(child, value) {
            return Taken::No;
        }
        kept.change(child.0);
        match std::mem::replace(&mut kept.waking, true) {
            true => Taken::Yes,
            false => Taken::First,
        }
    }

    /// What the job's node knows of a child that is about to run here. What an incarnation left
    /// here that it knows is as new as that, or newer.
    pub(crate) fn learn(&self, ordinal: Ordinal, (incarnation, value): Checkpoint) {
        let mut kept = self.kept();
        if kept.by_child.get(&ordinal).is_none_or(|(here, _)| *here < incarnation) {
            kept.put((ordinal, incarnation), value);
        }
    }

    /// The last checkpoint of the child's incarnations before that one.
    pub(crate) fn before(&self, (ordinal, now): (Ordinal, ChildIncarnation)) -> Option<Checkpoint> {
        let kept = self.kept();
        kept.by_child.get(&ordinal).filter(|(incarnation, _)| *incarnation < now).cloned()
    }

    /// Whether the child came to a checkpoint.
    pub(crate) fn has(&self, ordinal: Ordinal) -> bool {
        self.kept().by_child.contains_key(&ordinal)
    }

    /// No incarnation of the child can follow.
    pub(crate) fn forget(&self, ordinal: Ordinal) {
        let mut kept = self.kept();
        if let Some((_, value)) = kept.by_child.remove(&ordinal) {
            kept.bytes -= weight(&value);
            kept.change(ordinal);
        }
    }

    /// What the journal has.
    pub(crate) fn restore(&self, all: impl IntoIterator<Item = (Ordinal, Checkpoint)>) {
        let mut kept = self.kept();
        for (ordinal, checkpoint) in all {
            kept.bytes += weight(&checkpoint.1);
            kept.by_child.insert(ordinal, checkpoint);
        }
    }

    /// Whether the journal is to be told: one of these changed, or some did a while ago.
    fn is_due(&self, at_once: impl Fn(Ordinal) -> bool, now: Instant) -> bool {
        let kept = self.kept();
        if kept.not_before.is_some_and(|moment| now < moment) {
            return false;
        }
        let long = |since| now.duration_since(since) >= limits::CHECKPOINT_PAUSE;
        kept.since.is_some_and(long) || kept.changed.iter().copied().any(at_once)
    }

    /// Some of what changed and was not taken yet, as much as one change of the journal may have.
    fn take_changed(&self) -> Vec<(Ordinal, Option<Checkpoint>)> {
        let mut kept = self.kept();
        let (mut some, mut bytes) = (Vec::new(), 0);
        while let Some(ordinal) = kept.changed.first().copied() {
            let checkpoint = kept.by_child.get(&ordinal).cloned();
            bytes += checkpoint.as_ref().map_or(0, |(_, value)| weight(value));
            let full = bytes > limits::JOURNAL_GROUP_BYTES / 4;
            if !some.is_empty() && (full || some.len() >= limits::JOURNAL_CHANGES) {
                return some;
            }
            kept.changed.remove(&ordinal);
            some.push((ordinal, checkpoint));
        }
        (kept.since, kept.waking, kept.not_before) = (None, false, None);
        some
    }

    /// The disk did not take these. Says when they are tried again.
    fn put_back(&self, ordinals: impl IntoIterator<Item = Ordinal>) -> Duration {
        let mut kept = self.kept();
        ordinals.into_iter().for_each(|ordinal| kept.change(ordinal));
        kept.not_before = Some(Instant::now() + limits::JOURNAL_RESERVE_RETRY);
        kept.waking = true;
        limits::JOURNAL_RESERVE_RETRY
    }

    /// Whether the disk did not take some when it was tried last.
    fn is_refused(&self) -> bool {
        self.kept().not_before.is_some()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl JobShared {
    /// A child came to a checkpoint: the journal has it in a while, if the job outlives its node.
    pub(crate) fn keep_checkpoint(&self, child: (Ordinal, ChildIncarnation), value: Bytes) {
        if self.checkpoints.keep(child, value) == Taken::First && self.durable.is_some() {
            self.wake_after(limits::CHECKPOINT_PAUSE);
        }
    }

    /// Whether the child came to a checkpoint that the journal has, or is about to have.
    pub(crate) fn keeps_checkpoint(&self, child: Ordinal) -> bool {
        self.durable.is_some() && self.checkpoints.has(child)
    }

    /// Has what is due of the checkpoints in the journal, at once that of these children; and what
    /// they said before on the disk. Says when it is to be called again, if the disk does not take
    /// it.
    pub(crate) async fn keep_checkpoints(
        &self,
        durable: &Durable,
        at_once: impl Fn(Ordinal) -> bool,
    ) -> Option<Duration> {
        if !self.checkpoints.is_due(at_once, Instant::now()) {
            return None;
        }
        let job = self.identity.instance;
        loop {
            let checkpoints = self.checkpoints.take_changed();
            if checkpoints.is_empty() {
                return None;
            }
            let live = checkpoints.iter().filter(|(_, checkpoint)| checkpoint.is_some());
            let children: BTreeSet<Ordinal> = live.map(|(ordinal, _)| *ordinal).collect();
            let ordinals: Vec<Ordinal> = checkpoints.iter().map(|(ordinal, _)| *ordinal).collect();
            // Who waited once in vain only looks.
            let refused = self.checkpoints.is_refused();
            let wait = if refused { limits::OUTPUT_LOOK } else { limits::OUTPUT_WAIT };
            let said = self.keep_output(durable, &children);
            let kept = match tokio::time::timeout(wait, said).await {
                Ok(OnDisk::Yes) => {
                    durable.keep(vec![Change::CheckpointsReached { job, checkpoints }]).await
                }
                Ok(kept) => kept,
                Err(_) => OnDisk::NotYet,
            };
            match kept {
                OnDisk::Yes => {}
                OnDisk::Never => return None,
                OnDisk::NotYet => return Some(self.checkpoints.put_back(ordinals)),
            }
        }
    }
}

/// What a value takes, in bytes: an empty one is not free.
const fn weight(value: &Bytes) -> usize {
    value.len() + limits::RECORD_OVERHEAD_BYTES as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHILD: Ordinal = Ordinal(0);

    #[test]
    fn the_next_incarnation_finds_the_last_value_of_those_before() {
        let kept = Checkpoints::default();
        let of = |number| (CHILD, ChildIncarnation(number));
        assert_eq!(kept.before(of(1)), None);
        let last = |life, value| Some((ChildIncarnation(life), Bytes::from_static(value)));
        kept.keep(of(0), Bytes::from_static(b"a"));
        kept.keep(of(0), Bytes::from_static(b"b"));
        assert_eq!(kept.before(of(0)), None);
        assert_eq!(kept.before(of(1)), last(0, b"b"));
        assert_eq!(kept.before(of(2)), last(0, b"b"));
        kept.keep(of(2), Bytes::from_static(b"c"));
        assert_eq!(kept.before(of(2)), None);
        assert_eq!(kept.before(of(3)), last(2, b"c"));
    }

    #[test]
    fn what_the_jobs_node_knows_counts_unless_the_same_life_was_here() {
        let kept = Checkpoints::default();
        let before = |life| kept.before((CHILD, ChildIncarnation(life)));
        let value = |life, value| (ChildIncarnation(life), Bytes::from_static(value));
        kept.learn(CHILD, value(1, b"a"));
        assert_eq!(before(2), Some(value(1, b"a")));
        kept.keep((CHILD, ChildIncarnation(2)), Bytes::from_static(b"b"));
        kept.learn(CHILD, value(2, b"older"));
        kept.learn(CHILD, value(0, b"much older"));
        assert_eq!(before(3), Some(value(2, b"b")));
        kept.learn(CHILD, value(3, b"c"));
        assert_eq!(before(4), Some(value(3, b"c")));
    }

    #[test]
    fn where_there_is_no_room_the_value_before_stays() {
        let kept = Checkpoints::default();
        let value = |byte: u8| Bytes::from(vec![byte; limits::CHECKPOINT_BYTES]);
        let children = (limits::CHECKPOINTS_BYTES / limits::CHECKPOINT_BYTES) as u32;
        for child in 0..children + 2 {
            let taken = kept.keep((Ordinal(child), ChildIncarnation(0)), value(1));
            assert_eq!(taken == Taken::No, child > children - 2, "{child}");
        }
        kept.keep((CHILD, ChildIncarnation(0)), value(2));
        kept.learn(Ordinal(children + 1), (ChildIncarnation(0), value(3)));
        let before =
            |child| kept.before((Ordinal(child), ChildIncarnation(1))).map(|(_, value)| value);
        assert_eq!(before(0), Some(value(2)));
        assert_eq!(before(children + 1), None);
        assert!(kept.kept().bytes <= limits::CHECKPOINTS_BYTES);
    }

    #[test]
    fn the_journal_is_told_of_what_changed_once_and_again_if_it_did_not_take_it() {
        let kept = Checkpoints::default();
        let of = |child| (Ordinal(child), ChildIncarnation(0));
        assert_eq!(kept.keep(of(0), Bytes::from_static(b"a")), Taken::First);
        assert_eq!(kept.keep(of(1), Bytes::from_static(b"b")), Taken::Yes);
        assert_eq!(kept.keep(of(0), Bytes::from_static(b"c")), Taken::Yes);
        let last = |value| Some((ChildIncarnation(0), Bytes::from_static(value)));
        assert_eq!(kept.take_changed(), [(Ordinal(0), last(b"c")), (Ordinal(1), last(b"b"))]);
        assert_eq!(kept.take_changed(), []);
        kept.put_back([Ordinal(1)]);
        kept.forget(Ordinal(0));
        kept.forget(Ordinal(7));
        assert_eq!(kept.take_changed(), [(Ordinal(0), None), (Ordinal(1), last(b"b"))]);
        kept.forget(Ordinal(1));
        let taken = kept.keep(of(1), Bytes::from_static(b"d"));
        assert_eq!(taken, Taken::First, "nobody is woken for what is forgotten");
        let next = Checkpoints::default();
        next.restore([(Ordinal(1), (ChildIncarnation(0), Bytes::from_static(b"d")))]);
        assert_eq!(next.take_changed(), []);
        assert!(next.has(Ordinal(1)) && !next.has(Ordinal(0)));
    }

    #[test]
    fn one_change_of_the_journal_has_no_more_than_it_may() {
        let kept = Checkpoints::default();
        let value = Bytes::from(vec![1; limits::CHECKPOINT_BYTES]);
        for child in 0..100 {
            kept.keep((Ordinal(child), ChildIncarnation(0)), value.clone());
        }
        let (mut all, mut parts) = (0, 0);
        loop {
            let some = kept.take_changed();
            let bytes: usize = some.iter().flat_map(|(_, it)| it).map(|(_, it)| it.len()).sum();
            assert!(bytes <= limits::JOURNAL_GROUP_BYTES / 4);
            all += some.len();
            parts += 1;
            if some.is_empty() {
                break;
            }
        }
        assert!(all == 100 && parts > 2, "{all} in {parts}");
    }

    #[test]
    fn what_stands_still_is_due_at_once_and_the_rest_after_a_while() {
        let (kept, now) = (Checkpoints::default(), Instant::now());
        assert!(!kept.is_due(|_| true, now));
        kept.keep((CHILD, ChildIncarnation(0)), Bytes::new());
        assert!(!kept.is_due(|_| false, now) && kept.is_due(|child| child == CHILD, now));
        assert!(kept.is_due(|_| false, Instant::now() + limits::CHECKPOINT_PAUSE));
        let all = kept.take_changed();
        let again = kept.put_back(all.into_iter().map(|(child, _)| child));
        assert!(kept.is_refused() && !kept.is_due(|_| true, now));
        assert!(kept.is_due(|_| true, Instant::now() + again));
    }
}
