//! The directory in which a guardian keeps children that outlive their daemon.
//!
//! ```text
//! DIRECTORY/lock       held by the guardian that has the directory, for as long as it lives
//! DIRECTORY/guardian   which process that is, and how it contains its children
//! DIRECTORY/socket     where the next daemon finds it
//! DIRECTORY/children   what is known of each kept child
//! DIRECTORY/output     what kept children wrote
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::Pid;

use crate::sys::{control_group, marks, proc_table};

/// Where in the directory the output of kept children is.
pub(crate) const OUTPUT: &str = "output";
/// The bits of a directory into which everybody may write.
const SHARED: u32 = 0o1002;
/// Daemons that may knock while a guardian is busy.
const BACKLOG: i32 = 8;

/// The directory, which is there and is ours alone.
#[derive(Debug)]
pub struct KeepPlace {
    path: PathBuf,
    directory: OwnedFd,
}

/// Held by the one guardian that has the directory.
#[derive(Debug)]
pub struct PlaceLock(File);

/// Which process it is, or was: one that has a directory, for one. Its number alone would say
/// nothing once it has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its process id.
    pub pid: i32,
    /// When it started, in clock ticks since the boot.
    pub start: u64,
    /// That boot.
    pub boot: String,
    /// Its control group, if it contains children by those.
    pub group: Option<PathBuf>,
}

impl KeepPlace {
    /// The directory, made if it is not there, for its owner alone.
    ///
    /// # Errors
    /// The system's; [`io::ErrorKind::PermissionDenied`] for a directory of another user, or one
    /// that is meant for everybody.
    pub fn prepare(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = File::from(rustix::fs::open(path, flags, Mode::empty())?);
        let found = directory.metadata()?;
        let is_shared = found.mode() & SHARED != 0;
        if found.uid() != rustix::process::geteuid().as_raw() || is_shared {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        if found.mode() & 0o077 != 0 {
            directory.set_permissions(fs::Permissions::from_mode(0o700))?;
        }
        Ok(Self { path: path.to_owned(), directory: directory.into() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the output of kept children is.
    pub fn output(&self) -> PathBuf {
        self.path.join(OUTPUT)
    }

    /// Where there is a file for each kept child.
    pub fn children(&self) -> PathBuf {
        self.path.join("children")
    }

    /// Takes the directory; none when somebody has it.
    ///
    /// # Errors
    /// The system's.
    pub fn lock(&self) -> io::Result<Option<PlaceLock>> {
        let path = self.path.join("lock");
        loop {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            let file = options.open(&path)?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
            // One who ends removes the file: then ours is nobody's.
            let here = fs::metadata(&path).ok().map(|found| found.ino());
            if here == Some(file.metadata()?.ino()) {
                return Ok(Some(PlaceLock(file)));
            }
        }
    }

    /// Begins to listen for the next daemon.
    ///
    /// # Errors
    /// The system's.
    pub fn listen(&self) -> io::Result<OwnedFd> {
        let _ = fs::remove_file(self.path.join("socket"));
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::bind(&socket, &self.address()?)?;
        fs::set_permissions(self.path.join("socket"), fs::Permissions::from_mode(0o600))?;
        rustix::net::listen(&socket, BACKLOG)?;
        Ok(socket)
    }

    /// A connection to the guardian that listens here, of our own user.
    ///
    /// # Errors
    /// `ECONNREFUSED` and `ENOENT` when nobody listens; `EACCES` for another user's.
    pub fn connect(&self) -> Result<(OwnedFd, Pid), Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::connect(&socket, &self.address()?)?;
        let peer = rustix::net::sockopt::socket_peercred(&socket)?;
        if peer.uid != rustix::process::geteuid() {
            return Err(Errno::ACCESS);
        }
        Ok((socket, peer.pid))
    }

    /// By the descriptor: an address has room for 107 bytes, and a home may lie deeper.
    fn address(&self) -> Result<SocketAddrUnix, Errno> {
        SocketAddrUnix::new(format!("/proc/self/fd/{}/socket", self.directory.as_raw_fd()))
    }

    /// Notes who has the directory.
    ///
    /// # Errors
    /// The system's.
    pub fn identify(&self, identity: &Identity) -> io::Result<()> {
        let (path, new) = (self.path.join("guardian"), self.path.join("guardian.new"));
        fs::write(&new, identity.encode())?;
        fs::rename(new, path)
    }

    /// Who has, or had, the directory; none when that is not known.
    pub fn identity(&self) -> Option<Identity> {
        Identity::read(&self.path)
    }

    /// Removes what tells of a guardian, which has nothing to be found for any more.
    pub fn forget_guardian(&self) {
        for name in ["guardian", "guardian.new", "socket"] {
            let _ = fs::remove_file(self.path.join(name));
        }
    }

    /// Gives the directory up, and everything in it. What stays is an empty directory.
    pub fn clear(&self, lock: PlaceLock) {
        let _ = fs::remove_dir_all(self.output());
        let _ = fs::remove_dir_all(self.children());
        self.forget_guardian();
        let _ = fs::remove_file(self.path.join("lock"));
        drop(lock);
    }
}

impl PlaceLock {
    /// Whether the directory is still there, so that somebody can find who has it.
    pub fn is_there(&self) -> bool {
        self.0.metadata().is_ok_and(|found| found.nlink() > 0)
    }
}

impl Drop for PlaceLock {
    /// Closing alone does not: a process that is being started has the open file, too, until it
    /// executes its program.
    fn drop(&mut self) {
        let _ = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

impl Identity {
    /// What a directory says of who has, or had, it; none when it says nothing.
    pub fn read(directory: &Path) -> Option<Self> {
        Self::decode(&fs::read(directory.join("guardian")).ok()?)
    }

    /// Whether that process lives.
    pub fn is_alive(&self) -> bool {
        let entry = Pid::from_raw(self.pid).and_then(proc_table::entry);
        proc_table::boot().as_ref() == Some(&self.boot)
            && entry.is_some_and(|entry| {
                entry.start == self.start && entry.life != proc_table::Life::Ended
            })
    }

    /// Whether that process lives and was stopped, as by `SIGSTOP`.
    pub fn is_stopped(&self) -> bool {
        let entry = Pid::from_raw(self.pid).and_then(proc_table::entry);
        self.is_alive() && entry.is_some_and(|entry| entry.life == proc_table::Life::Stopped)
    }

    /// Of this process; none without a readable `/proc`.
    pub fn own(group: Option<PathBuf>) -> Option<Self> {
        Some(Self { group, ..Self::of(rustix::process::getpid())? })
    }

    /// Of a process that nobody has collected yet; none without a readable `/proc`.
    pub fn of(pid: Pid) -> Option<Self> {
        let entry = proc_table::entry(pid)?;
        let pid = entry.pid.as_raw_nonzero().get();
        Some(Self { pid, start: entry.start, boot: proc_table::boot()?, group: None })
    }

    /// Kills, once, what that guardian held and left when it was killed. To be repeated until it
    /// returns that nothing is left.
    pub fn clear_remains(&self) -> bool {
        if proc_table::boot().as_ref() != Some(&self.boot) {
            return true;
        }
        match (&self.group, Pid::from_raw(self.pid)) {
            (Some(group), _) => control_group::clear(group),
            (None, Some(pid)) => marks::clear(pid),
            (None, None) => true,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut text = format!("{} {} {}\n", self.pid, self.start, self.boot).into_bytes();
        if let Some(group) = &self.group {
            text.extend_from_slice(group.as_os_str().as_bytes());
        }
        text
    }

    pub(crate) fn decode(text: &[u8]) -> Option<Self> {
        let end = text.iter().position(|byte| *byte == b'\n')?;
        let (line, group) = text.split_at_checked(end)?;
        let mut words = std::str::from_utf8(line).ok()?.split(' ');
        let pid = words.next()?.parse().ok()?;
        let start = words.next()?.parse().ok()?;
        let boot = words.next()?.to_owned();
        let group = group.get(1..).filter(|group| !group.is_empty()).map(<[u8]>::to_vec);
        let group = group.map(|group| PathBuf::from(std::ffi::OsString::from_vec(group)));
        Some(Self { pid, start, boot, group })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_read_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let place = KeepPlace::prepare(&directory.path().join("keep")).expect("ours");
        assert_eq!(place.identity(), None);
        for group in [None, Some(PathBuf::from("/sys/fs/cgroup/a b\nc"))] {
            let identity = Identity::own(group).expect("a /proc");
            place.identify(&identity).expect("written");
            assert_eq!(place.identity(), Some(identity));
        }
    }

    #[test]
    fn the_directory_has_one_holder_at_a_time_and_is_for_its_owner() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("x".repeat(100)).join("y".repeat(100));
        let place = KeepPlace::prepare(&path).expect("ours");
        let mode = fs::metadata(&path).expect("there").mode();
        assert_eq!(mode & 0o777, 0o700);
        let shared = directory.path().join("shared");
        fs::create_dir(&shared).expect("made");
        for (mode, refused) in [(0o1777, true), (0o777, true), (0o755, false)] {
            fs::set_permissions(&shared, fs::Permissions::from_mode(mode)).expect("ours");
            assert_eq!(KeepPlace::prepare(&shared).is_err(), refused, "{mode:o}");
        }
        let lock = place.lock().expect("a lock").expect("free");
        assert!(KeepPlace::prepare(&path).expect("ours").lock().expect("no lock").is_none());
        assert_eq!(place.connect().map(|_| ()), Err(Errno::NOENT));
        let door = place.listen().expect("to listen");
        assert_eq!(place.connect().map(|(_, pid)| pid), Ok(rustix::process::getpid()));
        drop(door);
        assert_eq!(place.connect().map(|_| ()), Err(Errno::CONNREFUSED));
        assert!(lock.is_there());
        fs::rename(path.join("lock"), path.join("other")).expect("renamed");
        assert!(lock.is_there());
        fs::remove_file(path.join("other")).expect("removed");
        assert!(!lock.is_there());
        place.clear(lock);
        assert_eq!(fs::read_dir(&path).expect("there").count(), 0);
        assert!(place.lock().expect("a lock").is_some());
    }
}
