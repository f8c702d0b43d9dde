//! A child's files, as they are read when its mailbox comes back.

use sortie_model::limits::{BATCH_RECORDS, KIB};
use sortie_model::{ChildKey, Record, Seq};
use sortie_store::journal::Cursor;
use sortie_store::segment::{Batch, OutputLog, OutputReader, ReadBounds, SegmentError};
use sortie_store::{RecoverError, Store};

use super::RestoreError;

/// What is read of a child's files at once.
const READ: ReadBounds = ReadBounds { records: BATCH_RECORDS, bytes: 256 * KIB };

/// A child's files. They block while the disk works.
pub(super) struct Files {
    /// What goes on behind them, unless they cannot be opened.
    pub(super) log: Option<OutputLog>,
    reader: OutputReader,
    /// What says that something is missing.
    pub(super) damage: Option<SegmentError>,
    /// What cannot be read now, and may be later.
    pub(super) passing: Option<SegmentError>,
    /// Why they are not closed, where they are to be.
    pub(super) unsealed: Option<SegmentError>,
    pub(super) over: bool,
}

impl Files {
    /// Opens them to go on behind them, unless they are damaged, and to read them.
    pub(super) fn open(
        store: &Store,
        (child, from): (ChildKey, Seq),
        cursor: &Cursor,
    ) -> Result<Self, RestoreError> {
        let reader = store.read(child, from);
        let (log, error) = match store.follow(child, cursor) {
            Ok(log) => (Some(log), None),
            Err(RecoverError::Output(error)) => (None, Some(error)),
            Err(RecoverError::Journal(_)) | Err(_) => return Err(RestoreError::Removed),
        };
        let over = log.as_ref().is_some_and(OutputLog::is_empty);
        let (damage, passing, unsealed) = (None, None, None);
        let mut files = Self { log, reader, damage, passing, unsealed, over };
        if let Some(error) = error {
            files.went_wrong(error);
        }
        Ok(files)
    }

    fn went_wrong(&mut self, error: SegmentError) {
        let kind = if error.is_retryable() { &mut self.passing } else { &mut self.damage };
        kind.get_or_insert(error);
    }

    /// The next records that can be read.
    pub(super) fn read(&mut self) -> Vec<Record> {
        match self.reader.read(READ) {
            Ok(Batch::Records(records)) => return records,
            Ok(Batch::Waiting) => {}
            Err(error) => self.went_wrong(error),
        }
        let went_wrong = self.damage.is_some() || self.passing.is_some();
        // Behind what is damaged there may be files that are not.
        self.over = !(went_wrong && self.reader.pass_damage().is_ok_and(|is_more| is_more));
        Vec::new()
    }

    /// The number of the next record, where they were opened.
    pub(super) fn next(&self) -> Seq {
        self.log.as_ref().map_or(Seq(0), OutputLog::next)
    }

    /// The number after the last record that was read, or that they tell of.
    pub(super) fn told(&self) -> Seq {
        self.log.as_ref().map_or(self.reader.position(), OutputLog::next)
    }

    pub(super) fn are_empty(&self) -> bool {
        self.log.as_ref().is_some_and(OutputLog::is_empty)
    }

    /// Closes them: their child has ended.
    pub(super) fn seal(&mut self) {
        self.unsealed = self.log.as_mut().and_then(|log| log.seal().err());
    }
}
