//! Which children have unread records, and who got new ones in which order.

use std::collections::{HashMap, VecDeque};

use sortie_model::Ordinal;

/// Entries of the arrival queue beyond twice the children before stale ones are removed.
const STALE_ARRIVALS: usize = 1_024;

/// A set of ordinals as bits, with a bit for every 64 of them above.
#[derive(Debug, Default)]
struct Bits {
    words: Vec<u64>,
    summary: Vec<u64>,
}

fn set_bit(words: &mut Vec<u64>, at: usize) -> bool {
    let (word, bit) = (at / 64, 1 << (at % 64));
    if words.len() <= word {
        words.resize(word + 1, 0);
    }
    let Some(word) = words.get_mut(word) else { return false };
    let new = *word & bit == 0;
    *word |= bit;
    new
}

/// Clears a bit and returns whether its word has none left.
fn clear_bit(words: &mut [u64], at: usize) -> bool {
    let Some(word) = words.get_mut(at / 64) else { return false };
    *word &= !(1 << (at % 64));
    *word == 0
}

/// The first bit at or after `at` in the word of `at`.
fn in_word(words: &[u64], at: usize) -> Option<usize> {
    let rest = words.get(at / 64)? & (u64::MAX << (at % 64));
    (rest != 0).then(|| at / 64 * 64 + rest.trailing_zeros() as usize)
}

impl Bits {
    fn insert(&mut self, at: usize) {
        if set_bit(&mut self.words, at) {
            set_bit(&mut self.summary, at / 64);
        }
    }

    fn remove(&mut self, at: usize) {
        if clear_bit(&mut self.words, at) {
            clear_bit(&mut self.summary, at / 64);
        }
    }

    fn next(&self, from: usize) -> Option<usize> {
        if let Some(found) = in_word(&self.words, from) {
            return Some(found);
        }
        let mut word = from / 64 + 1;
        loop {
            if let Some(word) = in_word(&self.summary, word) {
                return in_word(&self.words, word * 64);
            }
            word = (word / 64 + 1) * 64;
            if word / 64 >= self.summary.len() {
                return None;
            }
        }
    }
}

/// One reader's place in the arrival queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ReaderId(u64);

/// Which children have unread records, and the queue of arrivals for the readers that wait.
///
/// The queue has a child again only when a reader may have passed it, and never more than twice as
/// many entries as there are children, and some.
#[derive(Debug, Default)]
pub(super) struct Index {
    unread: Bits,
    arrivals: VecDeque<(u64, u32)>,
    next_arrival: u64,
    /// For each child the number after its last entry in the queue; 0 if it has none.
    last: Vec<u64>,
    readers: HashMap<ReaderId, u64>,
    next_reader: u64,
    /// The place of the reader that is farthest.
    farthest: u64,
}

impl Index {
    pub(super) fn next_unread(&self, from: Ordinal) -> Option<Ordinal> {
        let found = self.unread.next(from.0 as usize)?;
        u32::try_from(found).ok().map(Ordinal)
    }

    pub(super) fn emptied(&mut self, ordinal: Ordinal) {
        self.unread.remove(ordinal.0 as usize);
    }

    /// The child has records that waiting readers did not see.
    pub(super) fn arrived(&mut self, ordinal: Ordinal) {
        self.unread.insert(ordinal.0 as usize);
        if self.readers.is_empty() {
            return;
        }
        let place = ordinal.0 as usize;
        if self.last.len() <= place {
            self.last.resize(place + 1, 0);
        }
        let Some(last) = self.last.get_mut(place) else { return };
        if *last > self.farthest {
            return;
        }
        self.arrivals.push_back((self.next_arrival, ordinal.0));
        self.next_arrival += 1;
        *last = self.next_arrival;
        if self.arrivals.len() > 2 * self.last.len() + STALE_ARRIVALS {
            let last = &self.last;
            self.arrivals.retain(|(arrival, ordinal)| {
                last.get(*ordinal as usize).is_some_and(|last| *last == arrival + 1)
            });
        }
    }

    pub(super) fn add_reader(&mut self) -> ReaderId {
        let id = ReaderId(self.next_reader);
        self.next_reader += 1;
        self.readers.insert(id, self.next_arrival);
        self.farthest = self.next_arrival;
        id
    }

    pub(super) fn has_readers(&self) -> bool {
        !self.readers.is_empty()
    }

    pub(super) fn remove_reader(&mut self, id: ReaderId) {
        self.readers.remove(&id);
        self.farthest = self.readers.values().copied().max().unwrap_or(0);
        self.forget_seen();
        if self.readers.is_empty() {
            self.last = Vec::new();
            self.next_arrival = 0;
        }
    }

    /// The next child that got new records since this reader asked last.
    pub(super) fn next_arrival(&mut self, id: ReaderId) -> Option<Ordinal> {
        let place = self.readers.get_mut(&id)?;
        let at = self.arrivals.partition_point(|(arrival, _)| *arrival < *place);
        let (arrival, ordinal) = *self.arrivals.get(at)?;
        *place = arrival + 1;
        self.farthest = self.farthest.max(*place);
        if at == 0 {
            self.forget_seen();
        }
        Some(Ordinal(ordinal))
    }

    fn forget_seen(&mut self) {
        let seen = self.readers.values().copied().min().unwrap_or(u64::MAX);
        while self.arrivals.front().is_some_and(|(arrival, _)| *arrival < seen) {
            self.arrivals.pop_front();
        }
        if self.arrivals.is_empty() {
            self.arrivals.shrink_to(STALE_ARRIVALS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unread_children_are_found_without_looking_at_the_others() {
        let mut index = Index::default();
        for ordinal in [0, 63, 64, 4_095, 4_096, 300_000] {
            index.arrived(Ordinal(ordinal));
        }
        index.emptied(Ordinal(64));
        let mut found = Vec::new();
        let mut from = 0;
        while let Some(ordinal) = index.next_unread(Ordinal(from)) {
            found.push(ordinal.0);
            from = ordinal.0 + 1;
        }
        assert_eq!(found, [0, 63, 4_095, 4_096, 300_000]);
        assert_eq!(Index::default().next_unread(Ordinal(0)), None);
    }

    #[test]
    fn every_reader_sees_every_arrival_after_it_came() {
        let mut index = Index::default();
        let first = index.add_reader();
        index.arrived(Ordinal(5));
        let second = index.add_reader();
        index.arrived(Ordinal(5));
        index.arrived(Ordinal(3));
        assert_eq!(index.next_arrival(first), Some(Ordinal(5)));
        index.arrived(Ordinal(5));
        let rest = |index: &mut Index, reader| {
            std::iter::from_fn(|| index.next_arrival(reader)).map(|o| o.0).collect::<Vec<_>>()
        };
        assert_eq!(rest(&mut index, first), [5, 3]);
        assert_eq!(rest(&mut index, second), [5, 3]);
        index.arrived(Ordinal(5));
        assert_eq!((rest(&mut index, second), rest(&mut index, first)), (vec![5], vec![5]));
        index.remove_reader(first);
        index.remove_reader(second);
        assert!(index.arrivals.is_empty() && index.last.is_empty());
    }

    #[test]
    fn a_reader_that_stands_still_does_not_grow_the_queue() {
        let mut index = Index::default();
        let (_still, quick) = (index.add_reader(), index.add_reader());
        for round in 0..10_000_u32 {
            index.arrived(Ordinal(round % 7));
            while index.next_arrival(quick).is_some() {}
        }
        assert!(index.arrivals.len() <= 2 * 7 + STALE_ARRIVALS + 1);
    }
}
