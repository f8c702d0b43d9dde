//! A reader of a child's output: in another thread than the writer, or in another process.

use std::io;
use std::path::PathBuf;

use bytes::BytesMut;
use sortie_model::{ChildKey, Record, Seq, limits};

use crate::disk::{Access, DiskFile};
use crate::segment::directory::OutputDirectory;
use crate::segment::error::{SegmentError, SegmentStep};
use crate::segment::format::{BadHeader, HEADER, Header};
use crate::segment::scan::{self, Met, Scan};

/// How much one read gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadBounds {
    /// Records at most. Default: [`limits::BATCH_RECORDS`].
    pub records: usize,
    /// Bytes of bodies at most, though one record in any case. Default: [`limits::BATCH_BYTES`].
    pub bytes: usize,
}

impl Default for ReadBounds {
    fn default() -> Self {
        Self { records: limits::BATCH_RECORDS, bytes: limits::BATCH_BYTES }
    }
}

/// What a read gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Batch {
    /// Records, at least one; their numbers follow each other, but where what was taken is gone.
    Records(Vec<Record>),
    /// All that is there was read; there may be more later.
    Waiting,
}

#[derive(Debug)]
struct Open {
    first: Seq,
    path: PathBuf,
    file: Box<dyn DiskFile>,
    scan: Scan,
    sealed: bool,
}

/// Reads a child's records forward. It blocks while the disk works, never waits for the writer, and
/// changes nothing.
#[derive(Debug)]
pub struct OutputReader {
    directory: OutputDirectory,
    child: ChildKey,
    position: Seq,
    open: Option<Open>,
}

impl OutputReader {
    /// Begins with the record `from`, or the first one after it that is still there.
    pub const fn new(directory: OutputDirectory, child: ChildKey, from: Seq) -> Self {
        Self { directory, child, position: from, open: None }
    }

    /// The number of the next record.
    pub const fn position(&self) -> Seq {
        self.position
    }

    /// The next records. A tail that is not whole is one that its writer has not finished.
    ///
    /// # Errors
    /// [`SegmentError`]; the position is where the error is, and a retry begins there.
    pub fn read(&mut self, bounds: ReadBounds) -> Result<Batch, SegmentError> {
        let (mut records, mut bytes) = (Vec::new(), 0);
        while records.len() < bounds.records.max(1) && bytes < bounds.bytes.max(1) {
            match self.next() {
                Ok(Some(record)) => {
                    bytes += record.body.len();
                    self.position = record.seq.after(1);
                    records.push(record);
                }
                Ok(None) => break,
                // The next read meets it again, with nothing before it.
                Err(error) if records.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        Ok(if records.is_empty() { Batch::Waiting } else { Batch::Records(records) })
    }

    /// After [`SegmentError::Damaged`]: goes on with the segment behind the damaged one. Says
    /// whether there is one.
    ///
    /// # Errors
    /// [`SegmentError::Io`].
    pub fn pass_damage(&mut self) -> Result<bool, SegmentError> {
        let damaged = self.open.take().filter(|open| !open.sealed).map(|open| open.first);
        let firsts = self.directory.segments(self.child)?;
        let behind = firsts.into_iter().find(|first| *first > damaged.unwrap_or(self.position));
        self.position = self.position.max(behind.unwrap_or_default());
        Ok(behind.is_some())
    }

    fn next(&mut self) -> Result<Option<Record>, SegmentError> {
        let mut again = false;
        loop {
            if self.open.as_ref().is_none_or(|open| open.sealed) {
                let Some(next) = self.open_next()? else { return Ok(None) };
                self.open = Some(next);
            }
            let Some(open) = &mut self.open else { return Ok(None) };
            let failed = |error| SegmentError::io(SegmentStep::Read, &open.path, error);
            match open.scan.next(open.file.as_ref()).map_err(failed)? {
                Met::Record(record) if record.seq < self.position => {}
                Met::Record(record) => return Ok(Some(record)),
                Met::Seal => open.sealed = true,
                Met::End | Met::Incomplete => return Ok(None),
                Met::Bad if !again => {
                    // What was read ahead may be what a writer that came back has cut since.
                    open.scan.look_again();
                    again = true;
                    continue;
                }
                Met::Bad => {
                    let offset = open.scan.at();
                    if scan::is_promised(open.file.as_ref(), offset).map_err(failed)? {
                        return Err(SegmentError::Damaged { file: open.path.clone(), offset });
                    }
                    return Ok(None);
                }
            }
            again = false;
        }
    }

    /// The segment behind the one that was read, else the one with the position or the first one
    /// after it.
    fn open_next(&self) -> Result<Option<Open>, SegmentError> {
        let firsts = self.directory.segments(self.child)?;
        let begin = match &self.open {
            Some(open) => firsts.partition_point(|first| *first < open.scan.summary().next),
            None => firsts.partition_point(|first| *first <= self.position).saturating_sub(1),
        };
        for first in firsts.iter().skip(begin) {
            if let Some(open) = self.open_segment(*first)? {
                return Ok(Some(open));
            }
        }
        Ok(None)
    }

    /// None for one that is gone, or whose header is not whole yet.
    fn open_segment(&self, first: Seq) -> Result<Option<Open>, SegmentError> {
        let path = self.directory.segment(self.child, first);
        let file = match self.directory.disk().open(&path, Access::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(|error| SegmentError::io(SegmentStep::Open, &path, error))?,
        };
        let failed = |error| SegmentError::io(SegmentStep::Read, &path, error);
        let mut header = [0; HEADER];
        match file.read_at(&mut header, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read.map_err(failed)?,
        }
        match Header::decode(&header) {
            Ok(header) if header == (Header { child: self.child, first }) => {
                let scan = Scan::new(first, BytesMut::new());
                Ok(Some(Open { first, path, file, scan, sealed: false }))
            }
            Err(BadHeader::Newer(version)) => Err(SegmentError::Newer { file: path, version }),
            _ if scan::is_promised(file.as_ref(), 0).map_err(failed)? => {
                Err(SegmentError::Damaged { file: path, offset: 0 })
            }
            _ => Ok(None),
        }
    }
}
