//! What a reader has seen of each child, so that nothing is seen twice when it comes again behind a
//! reconnection (`docs/semantics.md`, sections 3.3 and 4.3).

use std::collections::{BTreeMap, BTreeSet};

use sortie_model::{EntryId, Seq, limits};

/// Records that were seen, by child and sequence number, and entries that were said to have
/// settled. What follows what was seen lengthens its stretch, so there are about as many stretches
/// as children, however much they write.
#[derive(Debug, Default)]
pub struct Seen {
    /// By child and first number: the number after the last.
    spans: BTreeMap<(EntryId, Seq), Seq>,
    settled: BTreeSet<EntryId>,
}

/// Whether everything that was seen is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// It is.
    Complete,
    /// There is more than [`limits::READER_SPANS`].
    Full,
}

impl Seen {
    /// A record of a child comes; says whether it comes for the first time.
    pub fn is_new(&mut self, child: EntryId, seq: Seq) -> bool {
        let before = self.spans.range(..=(child, seq)).next_back();
        let before = before.filter(|((owner, _), _)| *owner == child);
        let (first, end) = match before {
            Some((_, end)) if *end > seq => return false,
            Some(((_, first), end)) if *end == seq => (*first, seq.after(1)),
            _ => (seq, seq.after(1)),
        };
        let end = self.spans.remove(&(child, end)).unwrap_or(end);
        self.spans.insert((child, first), end);
        true
    }

    /// Whether the record was seen.
    pub fn has(&self, child: EntryId, seq: Seq) -> bool {
        let before = self.spans.range(..=(child, seq)).next_back();
        before.is_some_and(|((owner, _), end)| *owner == child && *end > seq)
    }

    /// The first record of a child that was seen: what comes before it was left out on purpose.
    pub fn first(&self, child: EntryId) -> Option<Seq> {
        let mut own = self.spans.range((child, Seq(0))..);
        own.next().filter(|((owner, _), _)| *owner == child).map(|((_, first), _)| *first)
    }

    /// An entry is said to have settled; says whether for the first time.
    pub fn is_settled_now(&mut self, entry: EntryId) -> bool {
        self.settled.insert(entry)
    }

    /// Whether more may be remembered.
    pub fn memory(&self) -> Memory {
        let most = limits::READER_SPANS;
        let full = self.spans.len() > most || self.settled.len() > most;
        if full { Memory::Full } else { Memory::Complete }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_follows_lengthens_and_what_was_missing_joins() {
        let mut seen = Seen::default();
        let child = EntryId(2);
        for seq in [0, 1, 2, 5, 6, 4, 3] {
            assert!(seen.is_new(child, Seq(seq)), "{seq}");
        }
        assert_eq!(seen.spans.len(), 1);
        assert!((0..7).all(|seq| !seen.is_new(child, Seq(seq))));
        assert!(seen.is_new(EntryId(3), Seq(3)), "another child's numbers are its own");
        assert_eq!((seen.first(child), seen.first(EntryId(4))), (Some(Seq(0)), None));
    }

    #[test]
    fn a_reader_that_cannot_remember_all_says_so() {
        let mut seen = Seen::default();
        let most = limits::READER_SPANS as u64;
        (0..most).for_each(|seq| assert!(seen.is_new(EntryId(1), Seq(2 * seq))));
        assert_eq!(seen.memory(), Memory::Complete);
        seen.is_new(EntryId(1), Seq(2 * most));
        assert_eq!(seen.memory(), Memory::Full);
    }

    #[test]
    fn an_entry_settles_once() {
        let mut seen = Seen::default();
        assert!(seen.is_settled_now(EntryId(1)) && !seen.is_settled_now(EntryId(1)));
    }

    proptest! {
        #[test]
        fn any_order_agrees_with_a_set(
            records in prop::collection::vec((0_u64..3, 0_u64..24), 0..99),
        ) {
            let (mut seen, mut set) = (Seen::default(), BTreeSet::new());
            for (child, seq) in records {
                prop_assert_eq!(seen.has(EntryId(child), Seq(seq)), set.contains(&(child, seq)));
                prop_assert_eq!(seen.is_new(EntryId(child), Seq(seq)), set.insert((child, seq)));
                let first = set.range((child, 0)..(child + 1, 0)).next().map(|(_, seq)| Seq(*seq));
                prop_assert_eq!(seen.first(EntryId(child)), first);
            }
            let follows = |(child, seq): &&(u64, u64)| {
                *seq == 0 || !set.contains(&(*child, seq - 1))
            };
            prop_assert_eq!(seen.spans.len(), set.iter().filter(follows).count());
        }
    }
}
