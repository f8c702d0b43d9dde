//! Numbered lines: a process that writes them, and who takes them in again.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use sha2::{Digest, Sha256};

use crate::ledger::Record;
use crate::violation::Violation;

/// The first word of this program when it is the process that writes.
pub(crate) const WORD: &str = "lines";
/// Bytes of a line, its end included.
pub(crate) const LINE_BYTES: u64 = 128;

/// A line, which has [`LINE_BYTES`].
fn line(number: u64) -> String {
    format!("{number:0width$}\n", width = usize::try_from(LINE_BYTES - 1).unwrap_or_default())
}

/// Writes the lines up to that number.
pub(crate) fn run(words: &[String]) -> ExitCode {
    let count = words.first().and_then(|word| word.parse::<u64>().ok()).unwrap_or_default();
    let mut output = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let write = |number: u64| output.write_all(line(number).as_bytes());
    let written = (0..count).try_for_each(write);
    if written.and_then(|()| output.flush()).is_ok() { ExitCode::SUCCESS } else { 97.into() }
}

/// What came of the lines.
pub(crate) struct Intake {
    next: u64,
    /// What came before records that a reader that is gone has in hand still.
    ahead: BTreeMap<u64, String>,
    may_be_ahead: bool,
    bytes: u64,
    again: u64,
    sum: Sha256,
}

impl Intake {
    pub(crate) fn new() -> Self {
        let (ahead, may_be_ahead, sum) = (BTreeMap::new(), false, Sha256::new());
        Self { next: 0, ahead, may_be_ahead, bytes: 0, again: 0, sum }
    }

    /// Another receive begins. After a disturbance the node may not have noticed yet that the
    /// reader before is gone: then what that one has in hand comes later.
    pub(crate) const fn begin(&mut self, after_disturbance: bool) {
        self.may_be_ahead = after_disturbance;
    }

    /// Takes a record in. One that came before counts once.
    ///
    /// # Errors
    /// When records before it are missing that nobody can have in hand.
    pub(crate) fn take(&mut self, record: &Record) -> Result<(), Violation> {
        let (seq, text) = (record.seq, record.text.as_deref().unwrap_or_default());
        if seq < self.next || self.ahead.contains_key(&seq) {
            self.again += 1;
            return Ok(());
        }
        if seq > self.next && !self.may_be_ahead {
            return Err(Violation::Order { next: self.next, came: seq });
        }
        self.ahead.insert(seq, text.to_owned());
        while let Some(text) = self.ahead.remove(&self.next) {
            self.next += 1;
            self.bytes += text.len() as u64;
            self.sum.update(text.as_bytes());
        }
        Ok(())
    }

    /// How many bytes came.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many records came again.
    pub(crate) const fn again(&self) -> u64 {
        self.again
    }

    /// Checks that these are the lines up to that number. Returns their sum.
    ///
    /// # Errors
    /// When they are not.
    pub(crate) fn check(self, lines: u64) -> Result<String, Violation> {
        let mut sum = Sha256::new();
        (0..lines).for_each(|number| sum.update(line(number).as_bytes()));
        let [found, wanted] = [self.sum, sum].map(|sum| hexadecimal(&sum.finalize()));
        if found == wanted {
            return Ok(found);
        }
        Err(Violation::Sum { bytes: self.bytes, found, wanted })
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(seq: u64, text: String) -> Record {
        let (stream, time) = ("output".to_owned(), "now".to_owned());
        Record { child: 2, seq, stream, time, text: Some(text), value: None }
    }

    #[test]
    fn lines_that_came_again_count_once_and_the_sum_is_theirs() {
        let mut intake = Intake::new();
        for number in [0, 1, 0, 1, 2] {
            intake.take(&record(number, line(number))).expect("in order");
        }
        assert_eq!((intake.bytes(), intake.again()), (3 * LINE_BYTES, 2));
        intake.check(3).expect("three lines");
    }

    #[test]
    fn what_is_missing_or_changed_is_found() {
        let mut intake = Intake::new();
        intake.begin(false);
        intake.take(&record(0, line(0))).expect("the first");
        assert!(matches!(intake.take(&record(2, line(2))), Err(Violation::Order { next: 1, .. })));
        intake.take(&record(1, line(7))).expect("in order");
        assert!(matches!(intake.check(2), Err(Violation::Sum { .. })));
    }

    #[test]
    fn what_a_reader_that_is_gone_has_in_hand_comes_later() {
        let mut intake = Intake::new();
        intake.begin(true);
        for number in [1, 2, 0, 3] {
            intake.take(&record(number, line(number))).expect("a reader has it in hand");
        }
        intake.check(4).expect("four lines");
    }
}
