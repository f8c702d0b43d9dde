//! The disk as kept output needs it: nothing waits for it, and some of it stays free.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use sortie_model::limits;
use sortie_store::disk::{Access, Disk, DiskFile, Lock, Names, SystemDisk};

/// The machine's disk, on which nothing is ever synced: what is written has to outlive the daemon,
/// not the machine, for the children do not outlive that.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct UnsyncedDisk;

#[derive(Debug)]
struct UnsyncedFile(Box<dyn DiskFile>);

impl DiskFile for UnsyncedFile {
    fn length(&self) -> io::Result<u64> {
        self.0.length()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(bytes, offset)
    }

    fn set_length(&self, bytes: u64) -> io::Result<()> {
        self.0.set_length(bytes)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.0.allocate(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Disk for UnsyncedDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(UnsyncedFile(SystemDisk.open(path, access)?)))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        SystemDisk.remove(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        SystemDisk.rename(from, to)
    }

    fn make_directory(&self, path: &Path) -> io::Result<()> {
        SystemDisk.make_directory(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        SystemDisk.remove_directory(path)
    }

    fn list(&self, path: &Path) -> io::Result<Names> {
        SystemDisk.list(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        SystemDisk.lock(path)
    }

    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

/// Whether the disk has room beyond its reserve, looked at rarely.
#[derive(Debug)]
pub(super) struct Room {
    path: PathBuf,
    looked_at: Option<Instant>,
    written: u64,
}

impl Room {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self { path, looked_at: None, written: 0 }
    }

    /// Notes bytes that were written.
    pub(super) const fn take(&mut self, bytes: u64) {
        self.written = self.written.saturating_add(bytes);
    }

    /// Whether more may be written by one who must leave the reserve alone.
    pub(super) fn is_left(&mut self, now: Instant) -> bool {
        let fresh = self.looked_at.is_some_and(|at| now - at < limits::KEPT_RETRY);
        if fresh && self.written < limits::KEPT_DISK_CHECK_BYTES {
            return true;
        }
        // A disk that cannot be measured is left to fail by itself.
        let Ok(disk) = rustix::fs::statvfs(&self.path) else { return true };
        let size = disk.f_blocks.saturating_mul(disk.f_frsize);
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let left = free >= limits::DISK_RESERVE_BYTES.min(size / 20);
        self.looked_at = left.then_some(now);
        self.written = 0;
        left
    }
}
