//! Opening the output of a child: finding what is there, and cutting what was never whole.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use sortie_model::{ChildKey, Seq, limits};

use crate::disk::{Access, DiskFile};
use crate::segment::directory::OutputDirectory;
use crate::segment::error::{SegmentError, SegmentStep};
use crate::segment::format::{BadHeader, HEAD, HEADER, Head, Header, Item, SEAL_BYTES};
use crate::segment::scan::{self, Met, Scan};
use crate::segment::writer::{Current, OutputLog, Sealed};

/// What is known of a child's output beside what its segments say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Known {
    /// All records before this number were acknowledged as stored. Those that were not taken have
    /// to be there.
    pub stored: Seq,
    /// All records before this number may have been taken, so that no new one may have such a
    /// number.
    pub taken: Seq,
}

impl OutputLog {
    /// Opens the output of a child, empty at first. A torn tail is cut; what a reader waits for
    /// comes behind the last whole record.
    ///
    /// Only the last segment is read, so it takes the time of [`limits::SEGMENT_BYTES`] at most.
    ///
    /// # Errors
    /// [`SegmentError::Damaged`], [`SegmentError::Missing`], [`SegmentError::Newer`]; nothing was
    /// changed. [`SegmentError::Io`].
    pub fn open(
        directory: OutputDirectory,
        child: ChildKey,
        known: Known,
    ) -> Result<Self, SegmentError> {
        let firsts = directory.segments(child)?;
        let mut log = Self::empty(directory, child);
        if let Some((last, before)) = firsts.split_last() {
            for first in before {
                let path = log.directory.segment(child, *first);
                let file = log.open_file(&path, Access::Read)?;
                let sealed = read_seal(file.as_ref(), &path)?.ok_or_else(|| {
                    SegmentError::Damaged { file: path.clone(), offset: HEADER as u64 }
                })?;
                check_header(file.as_ref(), &path, child, *first)?;
                log.sealed.push_back(Sealed { first: *first, ..sealed });
            }
            log.open_last(*last)?;
        }
        let end = log.next.max(known.taken);
        if known.stored > end {
            let promised = known.stored;
            let file = firsts
                .last()
                .map_or(log.directory.bucket(child), |last| log.directory.segment(child, *last));
            return Err(SegmentError::Missing { file, end, promised });
        }
        log.cut_tail()?;
        if end > log.next {
            // The numbers between were taken, and are gone.
            log.seal()?;
            log.next = end;
        }
        log.synced = log.next;
        Ok(log)
    }

    /// Begins the output of a child anew behind what cannot be opened, which stays for who wants to
    /// look at it. The next record has the number `next`.
    ///
    /// # Errors
    /// [`SegmentError::Io`].
    pub fn open_behind_damage(
        directory: OutputDirectory,
        child: ChildKey,
        next: Seq,
    ) -> Result<Self, SegmentError> {
        let path = directory.segment(child, next);
        let firsts = directory.segments(child)?;
        if firsts.contains(&next) {
            let aside = directory.disk().rename(&path, &path.with_extension("damaged"));
            aside.map_err(|error| SegmentError::io(SegmentStep::Create, &path, error))?;
        }
        Ok(Self { next, synced: next, ..Self::empty(directory, child) })
    }

    const fn empty(directory: OutputDirectory, child: ChildKey) -> Self {
        Self {
            directory,
            child,
            segment_bytes: limits::SEGMENT_BYTES,
            sealed: VecDeque::new(),
            current: None,
            next: Seq(0),
            synced: Seq(0),
            failed: false,
            named: false,
        }
    }

    /// Looks through the last segment, and changes nothing yet.
    fn open_last(&mut self, first: Seq) -> Result<(), SegmentError> {
        let path = self.directory.segment(self.child, first);
        let file = self.open_file(&path, Access::Write)?;
        let failed = |error| SegmentError::io(SegmentStep::Read, &path, error);
        let is_promised = |from| -> Result<bool, SegmentError> {
            let marked = scan::is_promised(file.as_ref(), from).map_err(failed)?;
            Ok(marked || read_seal(file.as_ref(), &path)?.is_some())
        };
        self.next = first;
        let mut scan = Scan::new(first, BytesMut::new());
        match check_header(file.as_ref(), &path, self.child, first) {
            Ok(()) => {}
            Err(SegmentError::Damaged { .. }) if !is_promised(0)? => {
                // It was never whole, and goes with the torn tail.
                self.current = Some(Current::new(first, path, file));
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        loop {
            match scan.next(file.as_ref()).map_err(failed)? {
                Met::Record(_) => {}
                Met::Seal => {
                    let (bytes, summary) = (scan.at(), *scan.summary());
                    self.next = summary.next;
                    self.sealed.push_back(Sealed { first, bytes, summary });
                    return Ok(());
                }
                Met::End => break,
                Met::Incomplete | Met::Bad if !is_promised(scan.at())? => break,
                Met::Incomplete | Met::Bad => {
                    return Err(SegmentError::Damaged { file: path, offset: scan.at() });
                }
            }
        }
        let (end, marked, summary) = (scan.at(), scan.marked(), *scan.summary());
        self.next = summary.next;
        let current = Current::new(first, path, file).up_to(end, summary);
        self.current = Some(Current { marked, ..current });
        Ok(())
    }

    /// Cuts what was never acknowledged, and makes the rest of it last: what a reader has seen of a
    /// writer that was killed must not vanish later.
    fn cut_tail(&mut self) -> Result<(), SegmentError> {
        let Some(current) = &mut self.current else { return Ok(()) };
        if current.end < HEADER as u64 {
            let path = current.path.clone();
            self.current = None;
            return self.remove(&path);
        }
        let length = current.file.length();
        let cut = length.and_then(|length| match length == current.end {
            true => Ok(()),
            false => current.file.set_length(current.end),
        });
        cut.map_err(|error| SegmentError::io(SegmentStep::Cut, &current.path, error))?;
        self.named = true;
        self.sync_current()
    }
}

fn check_header(
    file: &dyn DiskFile,
    path: &Path,
    child: ChildKey,
    first: Seq,
) -> Result<(), SegmentError> {
    let mut bytes = [0; HEADER];
    let damaged = || SegmentError::Damaged { file: path.to_owned(), offset: 0 };
    match file.read_at(&mut bytes, 0) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Err(damaged()),
        read => read.map_err(|error| SegmentError::io(SegmentStep::Read, path, error))?,
    }
    match Header::decode(&bytes) {
        Ok(header) if header == (Header { child, first }) => Ok(()),
        Err(BadHeader::Newer(version)) => {
            Err(SegmentError::Newer { file: path.to_owned(), version })
        }
        _ => Err(damaged()),
    }
}

/// The seal at the end of a segment, if it has one.
fn read_seal(file: &dyn DiskFile, path: &Path) -> Result<Option<Sealed>, SegmentError> {
    let failed = |error| SegmentError::io(SegmentStep::Read, path, error);
    let bytes = file.length().map_err(failed)?;
    let mut seal = [0; SEAL_BYTES];
    let Some(at) = bytes.checked_sub(SEAL_BYTES as u64) else { return Ok(None) };
    file.read_at(&mut seal, at).map_err(failed)?;
    let item = seal
        .split_at_checked(HEAD)
        .and_then(|(head, body)| Head::decode(head)?.item(head, Bytes::copy_from_slice(body)));
    Ok(match item {
        Some(Item::Seal(summary)) => Some(Sealed { first: Seq(0), bytes, summary }),
        _ => None,
    })
}
