//! Room on the disk that is given up when there is no other, so that what has to be written then
//! can be: that a job was stopped, that a child ended.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::disk::{self, Access, Disk};

/// A file that only takes room.
///
/// Dropping it leaves the file where it is.
#[derive(Debug)]
pub struct Reserve {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    bytes: u64,
    retry: Duration,
    given_up: Option<Instant>,
}

impl Reserve {
    /// Takes the room, unless the disk is full: then it begins as given up.
    ///
    /// # Errors
    /// The system's, but for lack of space.
    pub fn new(
        disk: Arc<dyn Disk>,
        path: PathBuf,
        bytes: u64,
        retry: Duration,
    ) -> io::Result<Self> {
        let mut reserve = Self { disk, path, bytes, retry, given_up: None };
        match reserve.take() {
            Err(error) if disk::is_lack_of_space(&error) => {
                // A part of it would only be in the way.
                let _ = reserve.disk.remove(&reserve.path);
                reserve.given_up = Some(Instant::now());
            }
            taken => taken?,
        }
        Ok(reserve)
    }

    fn take(&self) -> io::Result<()> {
        let file = self.disk.open(&self.path, Access::Write)?;
        file.allocate(self.bytes)
    }

    /// Whether the disk was full when it was last looked at.
    pub const fn is_given_up(&self) -> bool {
        self.given_up.is_some()
    }

    /// Gives the room back to the disk. Says whether there was any.
    pub fn give_up(&mut self) -> bool {
        let had = self.given_up.is_none() && self.disk.remove(&self.path).is_ok();
        self.given_up = Some(Instant::now());
        had
    }

    /// Takes the room again if it was given up long enough ago and the disk has it.
    pub fn try_again(&mut self) {
        let Some(since) = self.given_up.filter(|since| since.elapsed() >= self.retry) else {
            return;
        };
        let taken = self.take();
        if taken.is_err() {
            // A part of it would only be in the way.
            let _ = self.disk.remove(&self.path);
        }
        self.given_up = taken.is_err().then(|| since.max(Instant::now()));
    }
}
