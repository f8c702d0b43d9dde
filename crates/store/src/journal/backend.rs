//! The journal's file, as the storage engine sees it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::StorageBackend;

use crate::disk::DiskFile;

/// Whether a sync failed: then nobody knows what of the file is on the disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct SyncFailed(Arc<AtomicBool>);

impl SyncFailed {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// One opening of the file. It is locked by another file's lock, so that the engine needs none.
#[derive(Debug)]
pub(crate) struct JournalFile {
    pub(crate) file: Box<dyn DiskFile>,
    pub(crate) sync_failed: SyncFailed,
}

impl StorageBackend for JournalFile {
    fn len(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_at(out, offset)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_length(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        // A second sync that succeeds says nothing about what the first one lost.
        if self.sync_failed.is_set() {
            return Err(io::Error::other("a sync failed before"));
        }
        let synced = self.file.sync();
        if synced.is_err() {
            self.sync_failed.0.store(true, Ordering::Release);
        }
        synced
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_at(data, offset)
    }
}
