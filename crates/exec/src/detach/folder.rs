//! The folder in which a node keeps the logs of detached processes.
//!
//! ```text
//! FOLDER/ID.log       what the process writes
//! FOLDER/ID.process   which process that is
//! FOLDER/ID.script    its script, if it runs one
//! ```
//!
//! An id is a UUID that sorts by the time of its making.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use sortie_model::spec::OsBytes;

use crate::keep::{Identity, KeepPlace};

const LOG: &str = "log";
const NOTE: &str = "process";
const SCRIPT: &str = "script";

/// The folder, which is there and is ours alone.
#[derive(Debug)]
pub struct DetachFolder(PathBuf);

/// The files of one process, by their path without what tells them apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DetachLog(OsBytes);

impl DetachFolder {
    /// The folder, made if it is not there, for its owner alone. What is left of logs that somebody
    /// has removed goes.
    ///
    /// # Errors
    /// The system's; [`io::ErrorKind::PermissionDenied`] for a folder of another user.
    pub fn prepare(path: &Path) -> io::Result<Self> {
        let place = KeepPlace::prepare(path)?;
        let folder = Self(place.path().to_owned());
        // A log is made before them, so that of what is found first it is there by now.
        let beside = [folder.with(NOTE)?, folder.with(SCRIPT)?].concat();
        let logs = folder.logs()?;
        let mut left = beside.iter().filter(|of| logs.binary_search(of).is_err());
        left.try_for_each(DetachLog::remove)?;
        Ok(folder)
    }

    /// The logs in it, oldest first.
    ///
    /// # Errors
    /// The system's.
    pub fn logs(&self) -> io::Result<Vec<DetachLog>> {
        self.with(LOG)
    }

    /// Those of which there is a file of that kind, oldest first.
    fn with(&self, kind: &str) -> io::Result<Vec<DetachLog>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == kind) {
                found.push(DetachLog::at(path.with_extension(""))?);
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Makes the log of a process to come, for its owner alone.
    ///
    /// # Errors
    /// The system's.
    pub fn make(&self, id: &str) -> io::Result<(DetachLog, File)> {
        let log = DetachLog::at(self.0.join(id))?;
        let mut options = OpenOptions::new();
        options.append(true).create_new(true).mode(0o600);
        let file = options.open(log.file(LOG))?;
        Ok((log, file))
    }
}

impl DetachLog {
    fn at(path: PathBuf) -> io::Result<Self> {
        let path = Bytes::from(path.into_os_string().into_vec());
        OsBytes::try_from(path).map(Self).map_err(|_| io::ErrorKind::InvalidInput.into())
    }

    /// Where the log itself is.
    pub fn path(&self) -> OsBytes {
        let path = Bytes::from(self.file(LOG).into_os_string().into_vec());
        // Two words without a NUL byte are one without.
        OsBytes::try_from(path).unwrap_or_else(|_| self.0.clone())
    }

    /// Where the process's script is, if it runs one.
    pub fn script(&self) -> PathBuf {
        self.file(SCRIPT)
    }

    /// Notes which process writes to the log.
    ///
    /// # Errors
    /// The system's; [`io::ErrorKind::NotFound`] without a readable `/proc`.
    pub fn note(&self, pid: Pid) -> io::Result<()> {
        let process = Identity::of(pid).ok_or(io::ErrorKind::NotFound)?;
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(self.file(NOTE))?;
        file.write_all(&process.encode())
    }

    /// Whether its process has ended. None where no process was noted: its starter was killed, or
    /// the disk was full, and the process may run all the same.
    pub fn is_over(&self) -> Option<bool> {
        let noted = fs::read(self.file(NOTE)).ok()?;
        Identity::decode(&noted).map(|process| !process.is_alive())
    }

    /// Removes all of it that is there.
    ///
    /// # Errors
    /// The system's, about the log.
    pub fn remove(&self) -> io::Result<()> {
        // They are not always there, and mean nothing without the log.
        let _ = fs::remove_file(self.file(NOTE));
        let _ = fs::remove_file(self.file(SCRIPT));
        match fs::remove_file(self.file(LOG)) {
            // Somebody was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    fn file(&self, kind: &str) -> PathBuf {
        let mut path = OsStr::from_bytes(self.0.as_bytes()).to_owned();
        path.push(".");
        path.push(kind);
        path.into()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_log_is_over_when_its_process_is_and_goes_with_all_that_belongs_to_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("detached");
        let folder = DetachFolder::prepare(&path).expect("ours");
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o700);
        let (second, _) = folder.make("0002").expect("made");
        let (first, _) = folder.make("0001").expect("made");
        assert!(folder.make("0001").is_err(), "it is there");
        fs::write(path.join("0003.else"), "").expect("written");
        assert_eq!(folder.logs().expect("logs"), [first.clone(), second.clone()]);
        assert_eq!(first.is_over(), None, "nobody noted a process");

        first.note(rustix::process::getpid()).expect("noted");
        assert_eq!(first.is_over(), Some(false));
        let other_start = Identity::own(None).expect("a /proc");
        let other_start = Identity { start: other_start.start + 1, ..other_start };
        fs::write(path.join("0002.process"), other_start.encode()).expect("written");
        assert_eq!(second.is_over(), Some(true), "its number is another process's by now");

        fs::write(path.join("0001.script"), "").expect("written");
        for file in ["0001.log", "0001.process"] {
            let mode = fs::metadata(path.join(file)).expect("there").mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
        first.remove().expect("removed");
        second.remove().expect("removed");
        assert_eq!(fs::read_dir(&path).expect("there").count(), 1);
        first.remove().expect("it is gone, as it is to be");
    }

    #[test]
    fn what_is_left_of_a_log_that_somebody_removed_goes_with_the_next_look() {
        let directory = tempfile::tempdir().expect("a directory");
        let folder = DetachFolder::prepare(directory.path()).expect("ours");
        let names = |log: &str, others: [&str; 2]| {
            [log, others[0], others[1]].map(|kind| directory.path().join(kind))
        };
        let left = names("1.log", ["1.process", "1.script"]);
        let whole = names("2.log", ["2.process", "2.script"]);
        let other = directory.path().join("3.else");
        left.iter().chain(&whole).chain([&other]).for_each(|file| {
            fs::write(file, "").expect("written");
        });
        fs::remove_file(&left[0]).expect("it was there");
        DetachFolder::prepare(directory.path()).expect("ours");
        assert!(left.iter().all(|file| !file.exists()), "{left:?}");
        assert!(whole.iter().chain([&other]).all(|file| file.exists()), "{whole:?}");
        assert_eq!(folder.logs().expect("logs").len(), 1);
    }
}
