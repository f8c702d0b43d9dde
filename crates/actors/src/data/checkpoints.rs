//! The last checkpoints of a job's functions on this node: what the next incarnation of a child
//! goes on from.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use sortie_model::{ChildIncarnation, Ordinal, limits};

/// The checkpoints of one job.
#[derive(Debug, Default)]
pub(crate) struct Checkpoints(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    by_child: BTreeMap<Ordinal, (ChildIncarnation, Bytes)>,
    bytes: usize,
}

impl Checkpoints {
    /// Keeps a value in the place of the child's one before. Where there is no room for it, that
    /// one stays.
    pub(crate) fn keep(&self, child: (Ordinal, ChildIncarnation), value: Bytes) {
        let mut kept = self.kept();
        let (ordinal, incarnation) = child;
        let before = kept.by_child.get(&ordinal).map_or(0, |(_, value)| weight(value));
        let bytes = kept.bytes - before + weight(&value);
        if bytes <= limits::CHECKPOINTS_BYTES {
            kept.bytes = bytes;
            kept.by_child.insert(ordinal, (incarnation, value));
        }
    }

    /// The last value of the child's incarnations before that one.
    pub(crate) fn before(&self, (ordinal, now): (Ordinal, ChildIncarnation)) -> Option<Bytes> {
        let kept = self.kept();
        let (incarnation, value) = kept.by_child.get(&ordinal)?;
        (*incarnation < now).then(|| value.clone())
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
}
