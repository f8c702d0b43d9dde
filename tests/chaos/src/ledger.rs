//! What readers took of one child, and whether it is all and came once.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use crate::home::Ran;
use crate::violation::Violation;

/// A record as `receive -o ndjson` prints it; of its fields those that are checked.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Record {
    pub(crate) child: u64,
    pub(crate) seq: u64,
    pub(crate) stream: String,
    pub(crate) time: String,
    /// What a process wrote; none of a record that is a value.
    pub(crate) text: Option<String>,
    pub(crate) value: Option<Value>,
}

/// The records that a reader printed. What one that was killed wrote of its last line is none.
///
/// # Errors
/// When a line is no record.
pub(crate) fn records(ran: &Ran) -> Result<Vec<Record>, Violation> {
    let lines = ran.out.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let record = |line: &str| {
        serde_json::from_str(line).map_err(|_| {
            let (command, said) = (ran.command.clone(), line.to_owned());
            Violation::Answer { command, said }
        })
    };
    lines.map(record).collect()
}

/// How the reader ended that printed a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Well: what it printed is confirmed and never comes again.
    Confirmed,
    /// It or its node was killed: what it printed may come again, under the same number.
    CutOff,
}

/// Characters of a record that a violation shows.
const SHOWN: usize = 40;

/// Whose records these are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whose {
    pub(crate) item: u64,
    pub(crate) job: u64,
}

/// The records of one child.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    records: BTreeMap<u64, (Record, Reader)>,
    again: u64,
}

impl Ledger {
    /// Notes what one reader printed.
    ///
    /// # Errors
    /// When a confirmed record came again, or one that came again says something else.
    pub(crate) fn note(
        &mut self,
        whose: Whose,
        read: Vec<Record>,
        reader: Reader,
    ) -> Result<(), Violation> {
        let Whose { item, job } = whose;
        for record in read {
            let seq = record.seq;
            if let Some((before, noted)) = self.records.get(&seq) {
                if *noted == Reader::Confirmed {
                    return Err(Violation::Doubled { item, job, seq });
                }
                if *before != record {
                    return Err(Violation::Changed { item, job, seq });
                }
                self.again += 1;
            }
            self.records.insert(seq, (record, reader));
        }
        Ok(())
    }

    /// Checks that every number is there: but what the node itself said between two lives of the
    /// process, one record each, may have gone with the node, where it was not said twice.
    ///
    /// # Errors
    /// The first number that is missing.
    pub(crate) fn whole(&self, whose: Whose, lives: u64) -> Result<(), Violation> {
        let Whose { item, job } = whose;
        let count = self.records.len() as u64;
        let said = self.records.values().filter(|(record, _)| record.stream == "information");
        let said: BTreeSet<_> =
            said.filter_map(|(record, _)| record.value.as_ref()?.as_str()).collect();
        let mut may_miss = lives.saturating_sub(1 + said.len() as u64);
        let mut next = 0;
        for seq in self.records.keys().copied() {
            let missing = seq - next;
            if missing > may_miss.min(1) {
                let beside = [next.checked_sub(1), Some(seq)].map(|seq| self.shown(seq));
                return Err(Violation::Gap { item, job, seq: next, count, beside });
            }
            may_miss -= missing;
            next = seq + 1;
        }
        Ok(())
    }

    /// The stream of a record, and how what it says begins.
    fn shown(&self, seq: Option<u64>) -> String {
        let Some((record, _)) = seq.and_then(|seq| self.records.get(&seq)) else {
            return "nothing".to_owned();
        };
        let value = record.value.as_ref().map(Value::to_string);
        let said = record.text.as_deref().or(value.as_deref()).unwrap_or_default();
        format!("{} {:?}", record.stream, said.chars().take(SHOWN).collect::<String>())
    }

    /// The bytes of a stream, in order.
    pub(crate) fn bytes(&self, stream: &str) -> String {
        let of_it = self.records.values().filter(|(record, _)| record.stream == stream);
        of_it.filter_map(|(record, _)| record.text.as_deref()).collect()
    }

    /// How many records came, and how many of them came again.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.records.len() as u64, self.again)
    }
}

/// Where two texts differ first, if they do.
pub(crate) fn difference(found: &str, wanted: &str) -> Option<usize> {
    let differs = found.bytes().zip(wanted.bytes()).position(|(found, wanted)| found != wanted);
    let shorter = found.len().min(wanted.len());
    differs.or_else(|| (found.len() != wanted.len()).then_some(shorter))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOSE: Whose = Whose { item: 1, job: 1 };

    fn record(seq: u64, text: &str) -> Record {
        let (stream, time) = ("output".to_owned(), "now".to_owned());
        Record { child: 2, seq, stream, time, text: Some(text.to_owned()), value: None }
    }

    #[test]
    fn what_a_killed_reader_printed_may_come_again_and_counts_once() {
        let mut ledger = Ledger::default();
        let read = vec![record(0, "a\n"), record(1, "b\n")];
        ledger.note(WHOSE, read.clone(), Reader::CutOff).expect("first");
        ledger.note(WHOSE, read, Reader::Confirmed).expect("again");
        ledger.whole(WHOSE, 1).expect("both");
        assert_eq!(ledger.bytes("output"), "a\nb\n");
        assert_eq!(ledger.counts(), (2, 2));
    }

    #[test]
    fn a_confirmed_record_comes_once_and_no_record_changes() {
        let mut ledger = Ledger::default();
        ledger.note(WHOSE, vec![record(0, "a\n")], Reader::Confirmed).expect("first");
        let again = ledger.note(WHOSE, vec![record(0, "a\n")], Reader::CutOff);
        assert!(matches!(again, Err(Violation::Doubled { seq: 0, .. })), "{again:?}");
        ledger.note(WHOSE, vec![record(1, "b\n")], Reader::CutOff).expect("first");
        let other = ledger.note(WHOSE, vec![record(1, "c\n")], Reader::CutOff);
        assert!(matches!(other, Err(Violation::Changed { seq: 1, .. })), "{other:?}");
    }

    #[test]
    fn a_record_that_never_came_is_named() {
        let mut ledger = Ledger::default();
        ledger.note(WHOSE, vec![record(0, "a\n"), record(2, "c\n")], Reader::CutOff).expect("two");
        let whole = ledger.whole(WHOSE, 1);
        assert!(matches!(whole, Err(Violation::Gap { seq: 1, .. })), "{whole:?}");
        ledger.whole(WHOSE, 2).expect("a node may have said it of a second life");
    }

    #[test]
    fn a_difference_is_where_the_first_byte_differs_or_is_missing() {
        assert_eq!(difference("abc", "abc"), None);
        assert_eq!(difference("abc", "abd"), Some(2));
        assert_eq!(difference("ab", "abc"), Some(2));
    }
}
