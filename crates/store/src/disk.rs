//! The few acts on files that durable storage stands on, behind a trait: so that a test can make
//! each of them fail, and no promise rests on a disk that never does.

#[cfg(test)]
pub(crate) mod simulated;

use std::ffi::OsString;
use std::fmt::Debug;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FallocateFlags, FlockOperation};
use rustix::io::Errno;

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading only.
    Read,
    /// Reading and writing; the file is made if it is not there.
    Write,
    /// Reading and writing a file that must not be there yet.
    Create,
}

/// An open file. Several threads may use it at once.
///
/// Dropping it closes the file; nothing is synced by that.
pub trait DiskFile: Debug + Send + Sync {
    /// Bytes that the file has.
    ///
    /// # Errors
    /// The system's.
    fn length(&self) -> io::Result<u64>;

    /// Fills the buffer from `offset` on.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] when the file ends before; the system's.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all bytes at `offset`.
    ///
    /// # Errors
    /// The system's; any part of the bytes may have been written then.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts the file, or makes it longer without taking room for it.
    ///
    /// # Errors
    /// The system's.
    fn set_length(&self, bytes: u64) -> io::Result<()>;

    /// Makes the file at least so long and takes room on the disk for all of it.
    ///
    /// # Errors
    /// The system's; some of the room may be taken then.
    fn allocate(&self, bytes: u64) -> io::Result<()>;

    /// Returns when all that was written is on the disk. After a failure nobody knows what is: a
    /// second call that succeeds says nothing about the first one's bytes.
    ///
    /// # Errors
    /// The system's.
    fn sync(&self) -> io::Result<()>;
}

/// A locked file; dropping it unlocks the file.
#[derive(Debug)]
pub struct Lock(File);

impl Drop for Lock {
    /// Closing alone does not: a process that is being forked has the open file, too, until it
    /// executes its program.
    fn drop(&mut self) {
        let _ = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

/// The names in a directory, one by one.
pub type Names = Box<dyn Iterator<Item = io::Result<OsString>>>;

/// Where files are.
pub trait Disk: Debug + Send + Sync {
    /// Opens a file, for its owner alone if it is made.
    ///
    /// # Errors
    /// The system's.
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>>;

    /// Removes a file; one that is not there is no error.
    ///
    /// # Errors
    /// The system's.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Gives a file another name, in place of a file that has it.
    ///
    /// # Errors
    /// The system's.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Makes a directory and those above it, for their owner alone.
    ///
    /// # Errors
    /// The system's.
    fn make_directory(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty directory; one that is not there is no error.
    ///
    /// # Errors
    /// The system's.
    fn remove_directory(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory, in no order; none in one that is not there.
    ///
    /// # Errors
    /// The system's, also for each name.
    fn list(&self, path: &Path) -> io::Result<Names>;

    /// Locks a file, which is made if it is not there, until what is returned is dropped, or the
    /// process ends. None when another one has it locked.
    ///
    /// # Errors
    /// The system's.
    fn lock(&self, path: &Path) -> io::Result<Option<Lock>>;

    /// Returns when the names in a directory are on the disk.
    ///
    /// # Errors
    /// The system's.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
}

/// The disk of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemDisk;

impl DiskFile for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn set_length(&self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        match rustix::fs::fallocate(self, FallocateFlags::empty(), 0, bytes) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_zeros(self, bytes),
            done => Ok(done?),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Takes room where the file system cannot be asked for it.
fn write_zeros(file: &File, bytes: u64) -> io::Result<()> {
    let zeros = [0; 64 * 1024];
    let mut at = 0;
    while at < bytes {
        let now = zeros.len().min(usize::try_from(bytes - at).unwrap_or(usize::MAX));
        file.write_all_at(zeros.get(..now).unwrap_or(&zeros), at)?;
        at += now as u64;
    }
    Ok(())
}

impl Disk for SystemDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).mode(0o600);
        match access {
            Access::Read => &mut options,
            Access::Write => options.write(true).create(true),
            Access::Create => options.write(true).create_new(true),
        };
        Ok(Box::new(options.open(path)?))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        unless_absent(std::fs::remove_file(path), ())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn make_directory(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        unless_absent(std::fs::remove_dir(path), ())
    }

    fn list(&self, path: &Path) -> io::Result<Names> {
        let entries = unless_absent(std::fs::read_dir(path).map(Some), None)?;
        let names = entries.into_iter().flatten();
        Ok(Box::new(names.map(|entry| entry.map(|entry| entry.file_name()))))
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Lock(file))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

fn unless_absent<T>(done: io::Result<T>, absent: T) -> io::Result<T> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(absent),
        done => done,
    }
}

/// Whether room on the disk would cure it.
pub(crate) fn is_lack_of_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
