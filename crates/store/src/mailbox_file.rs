//! One file with bytes of mailboxes.

use std::fs::File;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::error::{SpoolError, Step};
use crate::spool::Spool;

/// Parts of one vectored write; more of them take several.
const PARTS_AT_ONCE: usize = 1_024;
/// Holes are made of whole blocks of this size.
const BLOCK: u64 = 4_096;

/// A file that grows at its end by whole writes and shrinks by holes. It is one mailbox's own, or
/// shared by small ones.
///
/// Dropping it removes it from the disk.
#[derive(Debug)]
pub struct MailboxFile {
    spool: Arc<Spool>,
    id: u64,
    end: AtomicU64,
    live: AtomicU64,
}

impl MailboxFile {
    /// Makes an empty file.
    ///
    /// # Errors
    /// [`SpoolError::Io`] when the directory or the file cannot be made.
    pub fn create(spool: &Arc<Spool>) -> Result<Arc<Self>, SpoolError> {
        let id = spool.create_file()?;
        let (end, live) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Arc::new(Self { spool: Arc::clone(spool), id, end, live }))
    }

    /// Where the next write will begin, in bytes.
    pub fn end(&self) -> u64 {
        self.end.load(Ordering::Relaxed)
    }

    /// The spool that the file belongs to.
    pub const fn spool(&self) -> &Arc<Spool> {
        &self.spool
    }

    /// Writes the parts behind each other at the end, and says where that was. Several threads may
    /// write at once.
    ///
    /// # Errors
    /// [`SpoolError`]; nothing of it counts as written then, and the parts are the caller's still.
    pub fn append(&self, parts: &[Bytes]) -> Result<u64, SpoolError> {
        let bytes = parts.iter().map(|part| part.len() as u64).sum();
        self.spool.reserve(bytes)?;
        let at = self.end.fetch_add(bytes, Ordering::Relaxed);
        let written = self.spool.open(self.id).and_then(|file| {
            self.spool.check_pretended_disk()?;
            write_all_at(&file, parts, at).map_err(|error| SpoolError::io(Step::Write, error))
        });
        match written {
            Ok(()) => {
                self.live.fetch_add(bytes, Ordering::Relaxed);
                Ok(at)
            }
            Err(error) => {
                self.spool.release(bytes);
                self.punch(at..at + bytes, at..at + bytes);
                Err(error)
            }
        }
    }

    /// Reads what was written.
    ///
    /// # Errors
    /// [`SpoolError::Io`].
    pub fn read(&self, at: u64, bytes: usize) -> Result<Bytes, SpoolError> {
        let mut buffer = vec![0; bytes];
        let file = self.spool.open(self.id)?;
        file.read_exact_at(&mut buffer, at).map_err(|error| SpoolError::io(Step::Read, error))?;
        Ok(buffer.into())
    }

    /// Gives `bytes` back to the node's quota, and the blocks of `gap` that touch `freed` to the
    /// disk. `gap` is `freed` with the free stretches around it. Where the file system makes no
    /// holes the blocks go with the file.
    pub(crate) fn free(&self, freed: Range<u64>, gap: Range<u64>, bytes: u64) {
        self.live.fetch_sub(bytes, Ordering::Relaxed);
        self.spool.release(bytes);
        self.punch(freed, gap);
    }

    fn punch(&self, freed: Range<u64>, gap: Range<u64>) {
        let from = gap.start.next_multiple_of(BLOCK).max(freed.start / BLOCK * BLOCK);
        let to = (gap.end / BLOCK * BLOCK).min(freed.end.next_multiple_of(BLOCK));
        if from < to {
            self.spool.punch(self.id, from, to - from);
        }
    }
}

impl Drop for MailboxFile {
    fn drop(&mut self) {
        self.spool.release(self.live.load(Ordering::Relaxed));
        self.spool.remove_file(self.id);
    }
}

fn write_all_at(file: &File, parts: &[Bytes], mut at: u64) -> io::Result<()> {
    for parts in parts.chunks(PARTS_AT_ONCE) {
        let mut slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut rest = slices.as_mut_slice();
        while !rest.is_empty() {
            let written = match rustix::io::pwritev(file, rest, at) {
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => written,
            };
            at += written as u64;
            IoSlice::advance_slices(&mut rest, written);
        }
    }
    Ok(())
}
