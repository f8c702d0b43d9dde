//! Files and directories that nobody else can read or change.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::home::{Holder, HomeError};

/// The most that one of our files may hold; more is damage, not data.
const FILE_BYTES: u64 = 64 << 20;
/// The length of a file that only shows whether it can be written: it needs room of its own.
const TRIAL_BYTES: usize = 4096;

/// A directory that only we can use, made where there is none. One that others can change would let
/// them put their own identity in the place of ours.
pub(super) fn private_dir(path: &Path) -> Result<(), HomeError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| HomeError::Make { path: path.to_owned(), source })?;
    let metadata =
        fs::metadata(path).map_err(|source| HomeError::Read { path: path.to_owned(), source })?;
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(HomeError::Foreign { path: path.to_owned(), owner: metadata.uid() });
    }
    not_exposed(path, &metadata, 0o022, "change")
}

fn not_exposed(
    path: &Path,
    metadata: &Metadata,
    forbidden: u32,
    what: &'static str,
) -> Result<(), HomeError> {
    if metadata.mode() & forbidden == 0 {
        Ok(())
    } else {
        Err(HomeError::Exposed { what, path: path.to_owned() })
    }
}

/// Holds a home for this process, and says in the lock which process that is.
pub(super) fn lock(path: &Path) -> Result<File, HomeError> {
    let fault = |source| HomeError::Write { path: path.to_owned(), source };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(fault)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(HomeError::InUse { process: process_in(file), path: path.to_owned() });
        }
        Err(TryLockError::Error(source)) => return Err(fault(source)),
    }
    file.set_len(0).map_err(fault)?;
    file.write_all(format!("{}\n", std::process::id()).as_bytes()).map_err(fault)?;
    Ok(file)
}

/// Which process says in a lock that it holds it. Without it messages are shorter, and as true.
pub(super) fn process_in(lock: File) -> Option<u32> {
    let mut holder = String::new();
    lock.take(32).read_to_string(&mut holder).ok()?;
    holder.trim().parse().ok()
}

/// Who holds a home. A node that starts in the very moment of the look finds its home held.
pub(super) fn holder(path: &Path) -> io::Result<Holder> {
    let lock = match File::open(path) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Holder::Nobody),
        Err(error) => return Err(error),
    };
    match lock.try_lock_shared() {
        Ok(()) => Ok(Holder::Nobody),
        Err(TryLockError::WouldBlock) => Ok(Holder::Process(process_in(lock))),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// What the file holds; none where there is no file.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, HomeError> {
    read_checked(path, 0)
}

/// The same for a secret: one that others can read is no secret.
pub(super) fn read_secret(path: &Path) -> Result<Option<Vec<u8>>, HomeError> {
    read_checked(path, 0o077)
}

fn read_checked(path: &Path, forbidden: u32) -> Result<Option<Vec<u8>>, HomeError> {
    let fault = |source| HomeError::Read { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fault(error)),
    };
    let metadata = file.metadata().map_err(fault)?;
    not_exposed(path, &metadata, forbidden, "read")?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES + 1).read_to_end(&mut bytes).map_err(fault)?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(fault(io::ErrorKind::FileTooLarge.into()));
    }
    Ok(Some(bytes))
}

/// Writes the file beside its place and renames it into it: readers see the old or the new one.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), HomeError> {
    let beside = beside(path);
    let written = write_new(&beside, bytes).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // What is left of it is in nobody's way: its name is never used again.
        let _ = fs::remove_file(&beside);
    }
    written
        .and_then(|()| sync_parent(path))
        .map_err(|source| HomeError::Write { path: path.to_owned(), source })
}

/// A name in the same directory that no other writer uses.
fn beside(path: &Path) -> PathBuf {
    static WRITES: AtomicU64 = AtomicU64::new(0);
    let number = WRITES.fetch_add(1, Ordering::Relaxed);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.{number}", std::process::id()))
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // A crashed process with our id may have left one.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Writes a small file in a folder, syncs it and removes it again.
pub(super) fn try_write(folder: &Path) -> Result<(), HomeError> {
    let trial = beside(&folder.join("trial"));
    let written = write_new(&trial, &[0; TRIAL_BYTES]);
    let removed = fs::remove_file(&trial);
    written.and(removed).map_err(|source| HomeError::Write { path: folder.to_owned(), source })
}

/// Makes a rename or removal last through a crash of the machine.
pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().unwrap_or_else(|| Path::new("/"));
    File::open(parent)?.sync_all()
}

/// Removes the file, if it is there.
pub(super) fn remove(path: &Path) -> Result<(), HomeError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(HomeError::Write { path: path.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

/// Puts a directory with these files in the place of another, all or none.
///
/// A crash before the old one was moved away leaves it; [`recover_dir`] undoes or ends the rest.
pub(super) fn replace_dir(path: &Path, contents: &[(&str, Vec<u8>)]) -> Result<(), HomeError> {
    let replace = || {
        let (new, old) = (path.with_extension("new"), path.with_extension("old"));
        remove_dir(&new)?;
        remove_dir(&old)?;
        DirBuilder::new().mode(0o700).create(&new)?;
        for (name, bytes) in contents {
            write_new(&new.join(name), bytes)?;
        }
        File::open(&new)?.sync_all()?;
        if path.exists() {
            fs::rename(path, &old)?;
        }
        fs::rename(&new, path)?;
        sync_parent(path)?;
        remove_dir(&old)
    };
    replace().map_err(|source| HomeError::Write { path: path.to_owned(), source })
}

/// Ends what a crash interrupted: with the old directory moved away the new one was whole, and
/// takes its place; else what there is of a new one is dropped.
pub(super) fn recover_dir(path: &Path) -> Result<(), HomeError> {
    let recover = || {
        let (new, old) = (path.with_extension("new"), path.with_extension("old"));
        if !path.exists() && old.exists() {
            fs::rename(if new.exists() { &new } else { &old }, path)?;
            sync_parent(path)?;
        }
        remove_dir(&new)?;
        remove_dir(&old)
    };
    recover().map_err(|source| HomeError::Write { path: path.to_owned(), source })
}

fn remove_dir(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
