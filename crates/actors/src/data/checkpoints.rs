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

impl Kept {
    fn change(&mut self, ordinal: Ordinal) {
        self.changed.insert(ordinal);
        self.since.get_or_insert_with(Instant::now);
    }
}

impl Checkpoints {
    /// Keeps a value in the place of the child's one before. Where there is no room for it, that
    /// one stays. Says whether the job is to be woken for it.
    pub(crate) fn keep(&self, child: (Ordinal, ChildIncarnation), value: Bytes) -> bool {
        let mut kept = self.kept();
        let (ordinal, incarnation) = child;
        let before = kept.by_child.get(&ordinal).map_or(0, |(_, value)| weight(value));
        let bytes = kept.bytes - before + weight(&value);
        if bytes > limits::CHECKPOINTS_BYTES {
            return false;
        }
        kept.bytes = bytes;
        kept.by_child.insert(ordinal, (incarnation, value));
        kept.change(ordinal);
        !std::mem::replace(&mut kept.waking, true)
    }

    /// The last value of the child's incarnations before that one.
    pub(crate) fn before(&self, (ordinal, now): (Ordinal, ChildIncarnation)) -> Option<Bytes> {
        let kept = self.kept();
        let (incarnation, value) = kept.by_child.get(&ordinal)?;
        (*incarnation < now).then(|| value.clone())
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
    /// A child came to its first checkpoint since the journal had all: it has it in a while.
    pub(crate) fn checkpoint_reached(&self) {
        if self.durable.is_some() {
            self.wake_after(limits::CHECKPOINT_PAUSE);
        }
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
        kept.keep(of(0), Bytes::from_static(b"a"));
        kept.keep(of(0), Bytes::from_static(b"b"));
        assert_eq!(kept.before(of(0)), None);
        assert_eq!(kept.before(of(1)), Some(Bytes::from_static(b"b")));
        assert_eq!(kept.before(of(2)), Some(Bytes::from_static(b"b")));
        kept.keep(of(2), Bytes::from_static(b"c"));
        assert_eq!(kept.before(of(2)), None);
        assert_eq!(kept.before(of(3)), Some(Bytes::from_static(b"c")));
    }

    #[test]
    fn where_there_is_no_room_the_value_before_stays() {
        let kept = Checkpoints::default();
        let value = |byte: u8| Bytes::from(vec![byte; limits::CHECKPOINT_BYTES]);
        let children = (limits::CHECKPOINTS_BYTES / limits::CHECKPOINT_BYTES) as u32;
        for child in 0..children + 2 {
            kept.keep((Ordinal(child), ChildIncarnation(0)), value(1));
        }
        kept.keep((CHILD, ChildIncarnation(0)), value(2));
        let before = |child| kept.before((Ordinal(child), ChildIncarnation(1)));
        assert_eq!(before(0), Some(value(2)));
        assert_eq!(before(children + 1), None);
        assert!(kept.kept().bytes <= limits::CHECKPOINTS_BYTES);
    }

    #[test]
    fn the_journal_is_told_of_what_changed_once_and_again_if_it_did_not_take_it() {
        let kept = Checkpoints::default();
        let of = |child| (Ordinal(child), ChildIncarnation(0));
        assert!(kept.keep(of(0), Bytes::from_static(b"a")));
        assert!(!kept.keep(of(1), Bytes::from_static(b"b")));
        assert!(!kept.keep(of(0), Bytes::from_static(b"c")));
        let last = |value| Some((ChildIncarnation(0), Bytes::from_static(value)));
        assert_eq!(kept.take_changed(), [(Ordinal(0), last(b"c")), (Ordinal(1), last(b"b"))]);
        assert_eq!(kept.take_changed(), []);
        kept.put_back([Ordinal(1)]);
        kept.forget(Ordinal(0));
        kept.forget(Ordinal(7));
        assert_eq!(kept.take_changed(), [(Ordinal(0), None), (Ordinal(1), last(b"b"))]);
        kept.forget(Ordinal(1));
        assert!(
            kept.keep(of(1), Bytes::from_static(b"d")),
            "nobody is woken for what is forgotten"
        );
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
