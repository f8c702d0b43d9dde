//! The one writer of a child's output.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use sortie_model::{ChildKey, Record, Seq, limits};

use crate::disk::{Access, DiskFile};
use crate::segment::directory::OutputDirectory;
use crate::segment::error::{SegmentError, SegmentStep};
use crate::segment::format::{
    HEAD, Header, SEAL_BYTES, Summary, Taken, put_mark, put_record, put_seal, put_skip,
};

/// A segment that takes nothing more.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) first: Seq,
    pub(super) bytes: u64,
    pub(super) summary: Summary,
}

/// The segment that grows.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) first: Seq,
    pub(super) path: PathBuf,
    pub(super) file: Box<dyn DiskFile>,
    pub(super) end: u64,
    /// Up to where it is known to be on the disk, and up to where a mark says so.
    pub(super) synced: u64,
    pub(super) marked: u64,
    pub(super) summary: Summary,
    /// What it was when it was last synced.
    pub(super) synced_summary: Summary,
}

/// The output of one child, as its one writer has it. Blocks while the disk works.
///
/// Dropping it loses what was not [synced](Self::sync), if the machine fails.
#[derive(Debug)]
pub struct OutputLog {
    pub(super) directory: OutputDirectory,
    pub(super) child: ChildKey,
    pub(super) segment_bytes: u64,
    pub(super) sealed: VecDeque<Sealed>,
    pub(super) current: Option<Current>,
    pub(super) next: Seq,
    pub(super) synced: Seq,
    pub(super) failed: bool,
    /// The directory has a name that may not be on the disk.
    pub(super) named: bool,
}

impl OutputLog {
    /// The same with smaller segments.
    #[must_use]
    pub const fn with_segments_of(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    pub(super) fn open_file(
        &self,
        path: &Path,
        access: Access,
    ) -> Result<Box<dyn DiskFile>, SegmentError> {
        let opened = self.directory.disk().open(path, access);
        opened.map_err(|error| SegmentError::io(SegmentStep::Open, path, error))
    }

    /// The number that the next record has to have.
    pub const fn next(&self) -> Seq {
        self.next
    }

    /// All records before this number are on the disk.
    pub const fn synced(&self) -> Seq {
        self.synced
    }

    /// Bytes of disk that the segments have.
    pub fn bytes(&self) -> u64 {
        let current = self.current.as_ref().map_or(0, |current| current.end);
        self.sealed.iter().map(|sealed| sealed.bytes).sum::<u64>() + current
    }

    /// Appends records, by one write; they are on the disk after the next [`sync`](Self::sync). A
    /// segment that is full is closed first, which waits for the disk.
    ///
    /// # Errors
    /// [`SegmentError`]; none of the records was appended. After [`SegmentError::Failed`], and a
    /// failure to sync, the log has to be opened again.
    pub fn append(&mut self, records: &[Record]) -> Result<(), SegmentError> {
        if self.failed {
            return Err(SegmentError::Failed);
        }
        if records.is_empty() {
            return Ok(());
        }
        let mut batch = Vec::new();
        if self.current.as_ref().is_some_and(|current| current.summary.next < self.next) {
            put_skip(&mut batch, self.next);
        }
        let skipped = batch.len();
        for (next, record) in (self.next.0..).zip(records) {
            let (next, given, length) = (Seq(next), record.seq, record.body.len());
            if next != given {
                return Err(SegmentError::Gap { next, given });
            }
            if length > limits::VALUE_BYTES {
                return Err(SegmentError::TooLong { length });
            }
            put_record(&mut batch, record);
        }
        let added = batch.len() as u64;
        let full = |current: &Current| current.end + added > self.segment_bytes;
        if self.current.as_ref().is_some_and(full) {
            self.seal()?;
            batch.drain(..skipped);
        }
        match &mut self.current {
            Some(current) => current.append(batch, &mut self.failed)?,
            None => self.begin(&batch)?,
        }
        for record in records {
            if let Some(current) = &mut self.current {
                current.summary.add(record.stream, record.seq);
            }
        }
        self.next = self.next.after(records.len() as u64);
        Ok(())
    }

    fn begin(&mut self, batch: &[u8]) -> Result<(), SegmentError> {
        let (first, bucket) = (self.next, self.directory.bucket(self.child));
        let path = self.directory.segment(self.child, first);
        let failed = |error| SegmentError::io(SegmentStep::Create, &path, error);
        self.directory.disk().make_directory(&bucket).map_err(failed)?;
        let file = self.directory.disk().open(&path, Access::Create).map_err(failed)?;
        let header = Header { child: self.child, first }.encode();
        let bytes = [&header, batch].concat();
        if let Err(error) = file.write_at(&bytes, 0) {
            // A file that cannot be removed has no whole record, or one that was not acknowledged.
            self.failed = self.directory.disk().remove(&path).is_err();
            return Err(SegmentError::io(SegmentStep::Append, &path, error));
        }
        self.named = true;
        let (end, summary) = (bytes.len() as u64, Summary::empty(first));
        self.current = Some(Current::new(first, path, file).up_to(end, summary));
        Ok(())
    }

    /// Returns when all that was appended is on the disk, and the number up to which that is.
    ///
    /// # Errors
    /// [`SegmentError::Io`]: nobody knows what is on the disk; nothing more is taken, and the log
    /// has to be opened again.
    pub fn sync(&mut self) -> Result<Seq, SegmentError> {
        if self.failed {
            return Err(SegmentError::Failed);
        }
        let synced = self.sync_current();
        self.failed = synced.is_err();
        synced.map(|()| self.synced)
    }

    pub(super) fn sync_current(&mut self) -> Result<(), SegmentError> {
        if let Some(current) = self.current.as_mut().filter(|now| now.synced < now.end) {
            let synced = current.file.sync();
            synced.map_err(|error| SegmentError::io(SegmentStep::Sync, &current.path, error))?;
            current.synced = current.end;
            current.synced_summary = current.summary;
        }
        if std::mem::take(&mut self.named) {
            let bucket = self.directory.bucket(self.child);
            let above = [bucket.parent(), Some(self.directory.root())];
            for directory in std::iter::once(&*bucket).chain(above.into_iter().flatten()) {
                let synced = self.directory.disk().sync_directory(directory);
                synced.map_err(|error| SegmentError::io(SegmentStep::Sync, directory, error))?;
            }
        }
        self.synced = self.next;
        Ok(())
    }

    /// The next record has this number, or the number that is next already if that is higher:
    /// records between were taken before they came here. That leaves no trace on the disk until
    /// [`hold_place`](Self::hold_place), or the next record, makes one.
    pub fn skip_to(&mut self, next: Seq) {
        self.next = self.next.max(next);
    }

    /// The number of the next record, as the disk tells it after the next [`sync`](Self::sync).
    pub fn told(&self) -> Seq {
        let sealed = self.sealed.back().map_or(Seq(0), |last| last.summary.next);
        self.current.as_ref().map_or(sealed, |current| current.summary.next)
    }

    /// Makes the number of the next record last with the next [`sync`](Self::sync), also if no
    /// record is here that tells it.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn hold_place(&mut self) -> Result<(), SegmentError> {
        if self.failed {
            return Err(SegmentError::Failed);
        }
        if self.told() >= self.next {
            return Ok(());
        }
        let next = self.next;
        let Some(current) = &mut self.current else { return self.begin(&[]) };
        let mut skip = Vec::with_capacity(HEAD);
        put_skip(&mut skip, next);
        current.append(skip, &mut self.failed)?;
        current.summary.next = next;
        Ok(())
    }

    /// Goes back to what is known to be on the disk, after a failure; what was appended since has
    /// to be appended again, from [`next`](Self::next) on: only a write that is done again makes a
    /// later sync mean anything.
    ///
    /// # Errors
    /// [`SegmentError::Io`]; the log has failed still.
    pub fn go_back(&mut self) -> Result<(), SegmentError> {
        self.failed = true;
        let path = self.current.as_ref().map(|current| current.path.clone());
        match &mut self.current {
            Some(current) if current.synced > 0 => {
                let cut = current.file.set_length(current.synced);
                cut.map_err(|error| SegmentError::io(SegmentStep::Cut, &current.path, error))?;
                (current.end, current.marked) = (current.synced, 0);
                current.summary = current.synced_summary;
                self.next = current.summary.next;
            }
            Some(current) => {
                self.next = current.first;
                path.map_or(Ok(()), |path| self.remove(&path))?;
                self.current = None;
            }
            // Its beginning failed, and so did the end of that.
            None => self.remove(&self.directory.segment(self.child, self.next))?,
        }
        (self.named, self.failed) = (self.current.is_some() || !self.sealed.is_empty(), false);
        self.synced = self.next;
        Ok(())
    }

    /// Whether a failure is to be [gone back](Self::go_back) from.
    pub const fn has_failed(&self) -> bool {
        self.failed
    }

    /// Whether nothing of the output is on the disk.
    pub fn is_empty(&self) -> bool {
        self.current.is_none() && self.sealed.is_empty()
    }

    /// Bytes of the growing segment.
    pub fn growing_bytes(&self) -> u64 {
        self.current.as_ref().map_or(0, |current| current.end)
    }

    /// Closes the growing segment: no more is appended to it, and all of it is on the disk. Done at
    /// a child's end, it guards the last records against damage as well.
    ///
    /// # Errors
    /// As [`append`](Self::append) and [`sync`](Self::sync).
    pub fn seal(&mut self) -> Result<(), SegmentError> {
        if self.failed {
            return Err(SegmentError::Failed);
        }
        self.current.is_some().then(|| self.hold_place()).transpose()?;
        let Some(current) = &mut self.current else { return Ok(()) };
        let mut seal = Vec::with_capacity(SEAL_BYTES);
        put_seal(&mut seal, &current.summary);
        current.append(seal, &mut self.failed)?;
        self.sync()?;
        if let Some(Current { first, end, summary, .. }) = self.current.take() {
            self.sealed.push_back(Sealed { first, bytes: end, summary });
        }
        Ok(())
    }

    /// Removes the segments of which everything was taken; the growing one stays until it is
    /// [sealed](Self::seal). Answers how many bytes of disk that gave back.
    ///
    /// # Errors
    /// [`SegmentError::Io`]; the segment is tried again at the next call.
    pub fn free(&mut self, taken: &Taken) -> Result<u64, SegmentError> {
        let mut freed = 0;
        let mut kept = VecDeque::new();
        let mut failure = None;
        for sealed in std::mem::take(&mut self.sealed) {
            let path = self.directory.segment(self.child, sealed.first);
            if failure.is_some() || !sealed.summary.is_taken(taken) {
                kept.push_back(sealed);
            } else if let Err(error) = self.remove(&path) {
                failure = Some(error);
                kept.push_back(sealed);
            } else {
                freed += sealed.bytes;
            }
        }
        self.sealed = kept;
        failure.map_or(Ok(freed), Err)
    }

    pub(super) fn remove(&self, path: &Path) -> Result<(), SegmentError> {
        let removed = self.directory.disk().remove(path);
        removed.map_err(|error| SegmentError::io(SegmentStep::Remove, path, error))
    }
}

impl Current {
    /// A segment with nothing in it.
    pub(super) fn new(first: Seq, path: PathBuf, file: Box<dyn DiskFile>) -> Self {
        let summary = Summary::empty(first);
        let (end, synced, marked, synced_summary) = (0, 0, 0, summary);
        Self { first, path, file, end, synced, marked, summary, synced_summary }
    }

    /// With what is known of it by now.
    pub(super) fn up_to(self, end: u64, summary: Summary) -> Self {
        Self { end, summary, ..self }
    }

    /// Writes at the end, behind a mark when there is something to say.
    fn append(&mut self, mut batch: Vec<u8>, failed: &mut bool) -> Result<(), SegmentError> {
        if self.synced > self.marked {
            let mut marked = Vec::with_capacity(HEAD + batch.len());
            put_mark(&mut marked, self.synced);
            marked.append(&mut batch);
            batch = marked;
        }
        let written = self.file.write_at(&batch, self.end);
        if let Err(error) = written {
            // Whole records may lie behind the end now; a later one must never seem to go on there.
            *failed = self.file.set_length(self.end).is_err();
            return Err(SegmentError::io(SegmentStep::Append, &self.path, error));
        }
        self.marked = self.synced;
        self.end += batch.len() as u64;
        Ok(())
    }
}
