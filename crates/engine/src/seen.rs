//! What a reader has seen of each child, so that nothing is seen twice when it comes again behind a
//! reconnection (`docs/semantics.md`, sections 3.3 and 4.3).

use std::collections::{BTreeMap, BTreeSet};

use sortie_model::{Body, EntryId, Record, Seq, Stream, Timestamp, limits};

/// Records that were seen, by child and sequence number, and entries that were said to have
/// settled. What follows what was seen lengthens its stretch, so there are about as many stretches
/// as children, however much they write.
///
/// A number whose record is younger than all that was seen of its child is another record's: the
/// node was killed before it had noted the first, and the child's next life took the number again.
/// But for the word that a life of the child begins: that is one of the node's own, which its next
/// daemon says again with another time, and a life begins once.
#[derive(Debug, Default)]
pub struct Seen {
    /// By child and first number: the number after the last.
    spans: BTreeMap<(EntryId, Seq), Seq>,
    /// By child: when the youngest record that was seen of it was made.
    youngest: BTreeMap<EntryId, Timestamp>,
    /// By child: where the last life that was seen to begin did, and which it was.
    lives: BTreeMap<EntryId, (Seq, u32)>,
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
    pub fn is_new(&mut self, child: EntryId, record: &Record) -> bool {
        if self.has(child, record) {
            return false;
        }
        let (seq, time) = (record.seq, record.time);
        if let Some(life) = life_begun(record) {
            self.lives.insert(child, (seq, life));
        }
        if self.stretch(child, seq).is_some_and(|(_, end)| end > seq) {
            self.forget_from(child, seq);
        }
        let youngest = self.youngest.entry(child).or_insert(time);
        *youngest = time.max(*youngest);
        let before = self.stretch(child, seq).filter(|(_, end)| *end == seq);
        let first = before.map_or(seq, |(first, _)| first);
        let end = seq.after(1);
        let end = self.spans.remove(&(child, end)).unwrap_or(end);
        self.spans.insert((child, first), end);
        true
    }

    /// Whether the record was seen.
    pub fn has(&self, child: EntryId, record: &Record) -> bool {
        let is_known = self.stretch(child, record.seq).is_some_and(|(_, end)| end > record.seq);
        let is_old = || self.youngest.get(&child).is_some_and(|seen| *seen >= record.time);
        is_known && (is_old() || self.has_life(child, record))
    }

    /// Whether the record says that a life begins which was seen to begin there.
    fn has_life(&self, child: EntryId, record: &Record) -> bool {
        let begun = life_begun(record).map(|life| (record.seq, life));
        begun.is_some() && self.lives.get(&child).copied() == begun
    }

    /// The last stretch of a child that begins with that number or before.
    fn stretch(&self, child: EntryId, seq: Seq) -> Option<(Seq, Seq)> {
        let ((owner, first), end) = self.spans.range(..=(child, seq)).next_back()?;
        (*owner == child).then_some((*first, *end))
    }

    /// These numbers are other records' by now.
    fn forget_from(&mut self, child: EntryId, seq: Seq) {
        let mut later = self.spans.split_off(&(child, seq));
        let mut others = later.split_off(&(EntryId(child.0.saturating_add(1)), Seq(0)));
        self.spans.append(&mut others);
        if let Some((first, _)) = self.stretch(child, seq) {
            self.spans.insert((child, first), seq);
        }
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

    /// Whether it was said to have settled.
    pub fn has_settled(&self, entry: EntryId) -> bool {
        self.settled.contains(&entry)
    }

    /// Whether more may be remembered.
    pub fn memory(&self) -> Memory {
        let most = limits::READER_SPANS;
        let full = self.spans.len() > most || self.settled.len() > most;
        if full { Memory::Full } else { Memory::Complete }
    }
}

/// Which life of its child begins with the record: the node says `restart N` then.
fn life_begun(record: &Record) -> Option<u32> {
    let Body::Value(value) = &record.body else { return None };
    // A short text in MessagePack: its length, then itself.
    let (length, text) = value.split_first()?;
    let is_text = record.stream == Stream::Information && *length == SHORT_TEXT | text.len() as u8;
    let life = text.strip_prefix(b"restart ").filter(|_| is_text)?;
    str::from_utf8(life).ok()?.parse().ok()
}

/// What the first byte of a text of less than 32 bytes has beside the length.
const SHORT_TEXT: u8 = 0xa0;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bytes::Bytes;
    use proptest::prelude::*;
    use sortie_model::{Body, Stream};

    use super::*;

    fn made_at(time: i64, seq: u64) -> Record {
        let body = Body::Bytes(Bytes::new());
        Record { seq: Seq(seq), stream: Stream::Output, time: Timestamp(time), body }
    }

    fn record(seq: u64) -> Record {
        made_at(5, seq)
    }

    #[test]
    fn a_number_that_was_taken_again_is_another_record() {
        let (mut seen, child) = (Seen::default(), EntryId(2));
        (0..4).for_each(|seq| assert!(seen.is_new(child, &made_at(seq, seq as u64))));
        assert!(seen.is_new(EntryId(3), &record(2)));
        assert!(!seen.is_new(child, &made_at(2, 2)), "the same again");
        // Its next life goes on behind what its node remembered.
        assert!(!seen.has(child, &made_at(9, 2)));
        for seq in 2..6 {
            assert!(seen.is_new(child, &made_at(9, seq)), "{seq}");
            assert!(!seen.is_new(child, &made_at(9, seq)), "{seq}");
        }
        assert!(seen.has(child, &made_at(1, 1)) && seen.has(EntryId(3), &record(2)));
        assert_eq!(seen.spans.len(), 2);
    }

    #[test]
    fn a_life_begins_once_however_often_it_is_said() {
        let (mut seen, child) = (Seen::default(), EntryId(2));
        let begins = |time, seq, text: &str| {
            let length = SHORT_TEXT | text.len() as u8;
            let body = Body::Value([&[length], text.as_bytes()].concat().into());
            Record { stream: Stream::Information, body, ..made_at(time, seq) }
        };
        assert!(seen.is_new(child, &made_at(1, 0)));
        assert!(seen.is_new(child, &begins(2, 1, "restart 1")));
        // The daemon was killed, and its next one says it with the life's first record.
        assert!(!seen.is_new(child, &begins(3, 1, "restart 1")));
        assert!(seen.is_new(child, &made_at(3, 2)));
        // What took the number of another one is another one.
        assert!(seen.is_new(child, &begins(4, 1, "restart 2")));
        assert!(seen.is_new(child, &begins(5, 2, "restart 2")), "at another place");
        assert!(!seen.is_new(child, &begins(6, 2, "restart 2")));
        assert!(seen.is_new(child, &begins(7, 2, "restarted 2")));
    }

    #[test]
    fn what_follows_lengthens_and_what_was_missing_joins() {
        let mut seen = Seen::default();
        let child = EntryId(2);
        for seq in [0, 1, 2, 5, 6, 4, 3] {
            assert!(seen.is_new(child, &record(seq)), "{seq}");
        }
        assert_eq!(seen.spans.len(), 1);
        assert!((0..7).all(|seq| !seen.is_new(child, &record(seq))));
        assert!(seen.is_new(EntryId(3), &record(3)), "another child's numbers are its own");
        assert_eq!((seen.first(child), seen.first(EntryId(4))), (Some(Seq(0)), None));
    }

    #[test]
    fn a_reader_that_cannot_remember_all_says_so() {
        let mut seen = Seen::default();
        let most = limits::READER_SPANS as u64;
        (0..most).for_each(|seq| assert!(seen.is_new(EntryId(1), &record(2 * seq))));
        assert_eq!(seen.memory(), Memory::Complete);
        seen.is_new(EntryId(1), &record(2 * most));
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
                let (own, this) = (EntryId(child), record(seq));
                prop_assert_eq!(seen.has(own, &this), set.contains(&(child, seq)));
                prop_assert_eq!(seen.is_new(own, &this), set.insert((child, seq)));
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
