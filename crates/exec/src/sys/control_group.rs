//! Control groups, version 2: one per child, in a directory of the guardian's own.
//!
//! A group that is empty again is used for the next child, which saves making and removing one. Not
//! so a group that was frozen, in which a child could not begin, nor one in which processes were
//! killed: some kernels (6.13 and later) take a child that begins in such a group for one that was
//! being made during the kill, and kill it too.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;

const PREFIX: &str = "sortie-guardian-";
/// Empty groups that are kept for the next children.
const SPARE_GROUPS: usize = 64;
/// Names that are tried for a guardian's directory.
const NAMES_TRIED: u32 = 16;

/// A guardian's directory of groups. Holds a lock on it while it lives, which tells later guardians
/// that it is not left over.
#[derive(Debug)]
pub struct GroupDirectory {
    path: PathBuf,
    descriptor: OwnedFd,
    spare: Vec<Group>,
    /// Given back while something of them was still ending; removed when that is over.
    busy: Vec<Group>,
    made: u32,
}

/// One group.
#[derive(Debug, PartialEq, Eq)]
pub struct Group {
    number: u32,
    history: History,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum History {
    Clean,
    /// It was frozen, or processes in it were killed.
    Spent,
}

/// Whether a group has processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Population {
    /// It has none; ended ones that nobody collected do not count.
    Empty,
    /// It has some.
    Populated,
}

impl GroupDirectory {
    /// Makes a directory below the group that this process is in, after clearing away what dead
    /// guardians left there.
    ///
    /// # Errors
    /// When there is no version 2 hierarchy, or we may not make groups in it.
    pub fn create() -> io::Result<Self> {
        let base = own_group()?;
        clear_left_over(&base);
        let pid = std::process::id();
        for attempt in 0..NAMES_TRIED {
            let path = base.join(format!("{PREFIX}{pid}-{attempt}"));
            match fs::create_dir(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error),
            }
            // Another guardian that starts now may take it for left over until it is locked.
            let Ok(descriptor) = open_directory(&path) else { continue };
            let lock = rustix::fs::flock(&descriptor, FlockOperation::NonBlockingLockExclusive);
            if lock.is_ok() && path.join("cgroup.kill").exists() {
                let (spare, busy) = (Vec::new(), Vec::new());
                return Ok(Self { path, descriptor, spare, busy, made: 0 });
            }
        }
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// An empty group.
    ///
    /// # Errors
    /// When a new one cannot be made.
    pub fn take(&mut self) -> io::Result<Group> {
        if let Some(group) = self.spare.pop() {
            return Ok(group);
        }
        let group = Group { number: self.made, history: History::Clean };
        rustix::fs::mkdirat(&self.descriptor, group.name(), Mode::RWXU)?;
        self.made += 1;
        Ok(group)
    }

    /// Takes back a group in which nothing runs.
    pub fn give_back(&mut self, group: Group) {
        if group.history == History::Clean && self.spare.len() < SPARE_GROUPS {
            self.spare.push(group);
            return;
        }
        self.busy.push(group);
        // Usually all of them are removed at once; what is busy now is tried again next time.
        let directory = &self.descriptor;
        self.busy.retain(|group| {
            let name = group.name();
            match rustix::fs::unlinkat(directory, &name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => false,
                Err(_) => {
                    directories(&self.path.join(name)).for_each(|below| remove_tree(&below));
                    true
                }
            }
        });
    }

    /// A descriptor with which a child can begin in the group.
    ///
    /// # Errors
    /// When the group is gone or no descriptor is free.
    pub fn open(&self, group: &Group) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(&self.descriptor, group.name(), flags, Mode::empty())
    }

    /// Whether the group has processes.
    pub fn population(&self, group: &Group) -> Population {
        population(self.descriptor.as_fd(), &group.file("cgroup.events"))
    }

    /// The processes of the group, and of groups that they made below it.
    pub fn processes(&self, group: &Group) -> HashSet<Pid> {
        let mut found = HashSet::new();
        collect_processes(&self.path.join(group.name()), &mut found);
        found
    }

    /// Kills every process of the group, those that are just being made included.
    ///
    /// # Errors
    /// When the kernel refuses, for example because the group is gone.
    pub fn kill(&self, group: &mut Group) -> Result<(), Errno> {
        group.history = History::Spent;
        write_one(self.descriptor.as_fd(), &group.file("cgroup.kill"))
    }

    /// Freezes every process of the group, those that are just being made included. That takes a
    /// moment, and longer where one waits for a device: see [`GroupDirectory::is_frozen`]. What is
    /// frozen can be killed.
    ///
    /// # Errors
    /// When the kernel refuses, for example because the group is gone.
    pub fn freeze(&self, group: &mut Group) -> Result<(), Errno> {
        group.history = History::Spent;
        write_word(self.descriptor.as_fd(), &group.file("cgroup.freeze"), b"1")
    }

    /// Lets the processes of the group go on.
    ///
    /// # Errors
    /// When the kernel refuses, for example because the group is gone.
    pub fn thaw(&self, group: &Group) -> Result<(), Errno> {
        write_word(self.descriptor.as_fd(), &group.file("cgroup.freeze"), b"0")
    }

    /// Whether every process of the group stands still.
    pub fn is_frozen(&self, group: &Group) -> bool {
        event(self.descriptor.as_fd(), &group.file("cgroup.events"), b"frozen 1")
    }

    /// Kills every process of every group.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill_all(&self) -> Result<(), Errno> {
        write_one(self.descriptor.as_fd(), "cgroup.kill")
    }

    /// Whether any group has processes.
    pub fn population_of_all(&self) -> Population {
        population(self.descriptor.as_fd(), "cgroup.events")
    }

    /// Removes everything; what still has processes stays.
    pub fn remove(self) {
        remove_tree(&self.path);
    }
}

impl Group {
    fn name(&self) -> String {
        self.number.to_string()
    }

    fn file(&self, name: &str) -> String {
        format!("{}/{name}", self.number)
    }
}

/// Kills what a dead guardian left in its directory, and removes the directory as soon as it is
/// empty. Does nothing while the guardian lives.
///
/// Returns whether nothing is left.
pub fn clear(path: &Path) -> bool {
    let Ok(descriptor) = open_directory(path) else { return true };
    if rustix::fs::flock(&descriptor, FlockOperation::NonBlockingLockExclusive).is_err() {
        return false;
    }
    let _ = write_one(descriptor.as_fd(), "cgroup.kill");
    remove_tree(path);
    !path.exists()
}

fn clear_left_over(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else { return };
    for entry in entries.flatten() {
        if entry.file_name().as_bytes().starts_with(PREFIX.as_bytes()) {
            clear(&entry.path());
        }
    }
}

/// The directory of the version 2 group that this process is in.
fn own_group() -> io::Result<PathBuf> {
    let unsupported = || io::Error::from(io::ErrorKind::Unsupported);
    let groups = fs::read("/proc/self/cgroup")?;
    let own = groups
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(b"0::"))
        .ok_or_else(unsupported)?;
    let mounts = fs::read("/proc/self/mountinfo")?;
    let (root, point) =
        mounts.split(|byte| *byte == b'\n').find_map(version_two_mount).ok_or_else(unsupported)?;
    let below =
        own.strip_prefix(root.strip_suffix(b"/").unwrap_or(root)).ok_or_else(unsupported)?;
    let below = below.strip_prefix(b"/").unwrap_or(below);
    Ok(Path::new(OsStr::from_bytes(point)).join(OsStr::from_bytes(below)))
}

/// What part of the hierarchy a line of `mountinfo` shows, and where.
fn version_two_mount(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut fields = line.split(|byte| *byte == b' ');
    let root = fields.nth(3)?;
    let point = fields.next()?;
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    (kind == b"cgroup2").then_some((root, point))
}

fn open_directory(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}

fn population(directory: BorrowedFd<'_>, file: &str) -> Population {
    let populated = event(directory, file, b"populated 1");
    if populated { Population::Populated } else { Population::Empty }
}

/// Whether a file of events says that.
fn event(directory: BorrowedFd<'_>, file: &str, what: &[u8]) -> bool {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let mut buffer = [0; 128];
    let read = rustix::fs::openat(directory, file, flags, Mode::empty())
        .and_then(|events| rustix::io::read(&events, &mut buffer));
    let text = read.ok().and_then(|length| buffer.get(..length)).unwrap_or_default();
    text.split(|byte| *byte == b'\n').any(|line| line == what)
}

fn write_one(directory: BorrowedFd<'_>, file: &str) -> Result<(), Errno> {
    write_word(directory, file, b"1")
}

fn write_word(directory: BorrowedFd<'_>, file: &str, word: &[u8]) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, file, flags, Mode::empty())?;
    rustix::io::write(&file, word).map(|_| ())
}

fn collect_processes(path: &Path, found: &mut HashSet<Pid>) {
    let text = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    // A process of another namespace shows as 0.
    found.extend(text.lines().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)));
    for below in directories(path) {
        collect_processes(&below, found);
    }
}

fn remove_tree(path: &Path) {
    for below in directories(path) {
        remove_tree(&below);
    }
    let _ = fs::remove_dir(path);
}

fn directories(path: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_two_mount_is_found_among_others() {
        let line = b"36 32 0:32 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw";
        assert_eq!(
            version_two_mount(line),
            Some((b"/".as_slice(), b"/sys/fs/cgroup/unified".as_slice()))
        );
        let line = b"33 32 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu";
        assert_eq!(version_two_mount(line), None);
        assert_eq!(version_two_mount(b""), None);
    }
}
