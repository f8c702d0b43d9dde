//! The node's directory of mailbox files: its quota, its open files, its removal.

use std::collections::HashMap;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{FallocateFlags, FlockOperation};
use rustix::io::Errno;
use sortie_model::limits::{DISK_RESERVE_BYTES, NODE_QUOTA_BYTES, OPEN_MAILBOX_FILES};

use crate::error::{SpoolError, Step};

/// How the directories of spools begin; what is behind it is random.
const DIRECTORY_PREFIX: &str = "mailboxes-";
/// A directory that is not locked yet.
const UNLOCKED_PREFIX: &str = ".mailboxes-";

/// Bounds of a spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolBounds {
    /// Bytes that all files may have together. Default: [`NODE_QUOTA_BYTES`].
    pub quota: u64,
    /// Bytes of the disk that stay free, if they are less than 5 % of it. Default:
    /// [`DISK_RESERVE_BYTES`].
    pub reserve: u64,
    /// Files open at once. Default: [`OPEN_MAILBOX_FILES`].
    pub open_files: usize,
    /// For tests: the disk answers `ENOSPC` when all files together pass so many bytes.
    pub pretended_disk: Option<u64>,
}

impl Default for SpoolBounds {
    fn default() -> Self {
        Self {
            quota: NODE_QUOTA_BYTES,
            reserve: DISK_RESERVE_BYTES,
            open_files: OPEN_MAILBOX_FILES,
            pretended_disk: None,
        }
    }
}

/// A node's mailbox files. Its directory is made, private to its user, when the first file is, and
/// removed with the spool; directories that dead processes left beside it are removed then, too.
#[derive(Debug)]
pub struct Spool {
    parent: PathBuf,
    bounds: SpoolBounds,
    directory: Mutex<Option<Directory>>,
    open: Mutex<OpenFiles>,
    used: AtomicU64,
    next_file: AtomicU64,
    makes_holes: AtomicBool,
}

impl Spool {
    /// A spool below `parent`; touches no disk yet.
    pub fn new(parent: PathBuf, bounds: SpoolBounds) -> Arc<Self> {
        Arc::new(Self {
            parent,
            bounds,
            directory: Mutex::new(None),
            open: Mutex::new(OpenFiles::default()),
            used: AtomicU64::new(0),
            next_file: AtomicU64::new(0),
            makes_holes: AtomicBool::new(true),
        })
    }

    /// Removes what processes that are gone left beside this spool's directory, as making the
    /// directory does: for a node that starts and may never need one. Touches the disk.
    pub fn remove_abandoned(&self) {
        remove_abandoned(&self.parent);
    }

    /// Bytes of mailboxes in all files; freed ones do not count.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether freed stretches of a file go back to the disk before the file is removed.
    pub fn makes_holes(&self) -> bool {
        self.makes_holes.load(Ordering::Relaxed)
    }

    /// Whether `bytes` more could be written now.
    ///
    /// # Errors
    /// [`SpoolError`] says why not.
    pub fn check_room(&self, bytes: u64) -> Result<(), SpoolError> {
        let (used, quota) = (self.used(), self.bounds.quota);
        if used.saturating_add(bytes) > quota {
            return Err(SpoolError::NodeQuota { used, quota });
        }
        if self.bounds.pretended_disk.is_some_and(|disk| used.saturating_add(bytes) > disk) {
            return Err(SpoolError::io(Step::Measure, Errno::NOSPC));
        }
        self.check_reserve(bytes)
    }

    pub(crate) fn reserve(&self, bytes: u64) -> Result<(), SpoolError> {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed);
        let quota = self.bounds.quota;
        let fits = if used.saturating_add(bytes) > quota {
            Err(SpoolError::NodeQuota { used, quota })
        } else {
            self.check_reserve(bytes)
        };
        fits.inspect_err(|_| self.release(bytes))
    }

    pub(crate) fn release(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn check_pretended_disk(&self) -> Result<(), SpoolError> {
        match self.bounds.pretended_disk {
            Some(disk) if self.used() > disk => Err(SpoolError::io(Step::Write, Errno::NOSPC)),
            _ => Ok(()),
        }
    }

    fn check_reserve(&self, bytes: u64) -> Result<(), SpoolError> {
        let path = self.path()?;
        let disk = rustix::fs::statvfs(&path);
        let disk = disk.map_err(|error| SpoolError::io(Step::Measure, error))?;
        let size = disk.f_blocks.saturating_mul(disk.f_frsize);
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let reserve = self.bounds.reserve.min(size / 20);
        if free.saturating_sub(bytes) < reserve {
            return Err(SpoolError::Reserve { free, reserve });
        }
        Ok(())
    }

    pub(crate) fn create_file(&self) -> Result<u64, SpoolError> {
        let id = self.next_file.fetch_add(1, Ordering::Relaxed);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        let file = options.open(self.path()?.join(id.to_string()));
        let file = file.map_err(|error| SpoolError::io(Step::Create, error))?;
        lock(&self.open).put(id, Arc::new(file), self.bounds.open_files);
        Ok(id)
    }

    pub(crate) fn open(&self, id: u64) -> Result<Arc<File>, SpoolError> {
        if let Some(file) = lock(&self.open).find(id) {
            return Ok(file);
        }
        let path = self.path()?.join(id.to_string());
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = Arc::new(file.map_err(|error| SpoolError::io(Step::Open, error))?);
        lock(&self.open).put(id, Arc::clone(&file), self.bounds.open_files);
        Ok(file)
    }

    pub(crate) fn remove_file(&self, id: u64) {
        let closed = lock(&self.open).files.remove(&id);
        drop(closed);
        if let Ok(path) = self.path() {
            // What cannot be removed now goes with the directory.
            let _ = std::fs::remove_file(path.join(id.to_string()));
        }
    }

    pub(crate) fn punch(&self, id: u64, at: u64, bytes: u64) {
        if !self.makes_holes() {
            return;
        }
        let Ok(file) = self.open(id) else { return };
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        if matches!(
            rustix::fs::fallocate(&*file, flags, at, bytes),
            Err(Errno::OPNOTSUPP | Errno::NOSYS)
        ) {
            self.makes_holes.store(false, Ordering::Relaxed);
        }
    }

    fn path(&self) -> Result<PathBuf, SpoolError> {
        let mut directory = lock(&self.directory);
        if directory.is_none() {
            let made = Directory::make(&self.parent);
            *directory = Some(made.map_err(|error| SpoolError::io(Step::Prepare, error))?);
        }
        Ok(directory.as_ref().map(|directory| directory.path.clone()).unwrap_or_default())
    }
}

/// A directory that is ours as long as `_lock` lives.
#[derive(Debug)]
struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    fn make(parent: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        remove_abandoned(parent);
        let private = Permissions::from_mode(0o700);
        let new = tempfile::Builder::new()
            .prefix(UNLOCKED_PREFIX)
            .permissions(private)
            .tempdir_in(parent)?;
        let lock = File::open(new.path())?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        // Only a locked directory gets the name that others look for.
        let name = new.path().file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let path = parent.join(name.strip_prefix('.').unwrap_or(name));
        std::fs::rename(new.path(), &path)?;
        let _renamed = new.keep();
        Ok(Self { path, _lock: lock })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Best effort: the next spool below the same parent removes what is left.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

fn remove_abandoned(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if !name.to_str().is_some_and(|name| name.starts_with(DIRECTORY_PREFIX)) {
            continue;
        }
        let Ok(directory) = File::open(entry.path()) else { continue };
        if rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[derive(Debug, Default)]
struct OpenFiles {
    files: HashMap<u64, (Arc<File>, u64)>,
    uses: u64,
}

impl OpenFiles {
    fn find(&mut self, id: u64) -> Option<Arc<File>> {
        self.uses += 1;
        let (file, used) = self.files.get_mut(&id)?;
        *used = self.uses;
        Some(Arc::clone(file))
    }

    /// Closes the file that was not used for the longest time when there are too many.
    fn put(&mut self, id: u64, file: Arc<File>, most: usize) {
        if self.files.len() >= most.max(1) {
            let oldest = self.files.iter().min_by_key(|(_, (_, used))| *used).map(|(id, _)| *id);
            oldest.and_then(|oldest| self.files.remove(&oldest));
        }
        self.uses += 1;
        self.files.insert(id, (file, self.uses));
    }
}

/// A panic while a lock is held leaves nothing half done here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
