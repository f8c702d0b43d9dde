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
    /// Takes nothing yet: what an earlier life took is still there.
    pub const fn new(disk: Arc<dyn Disk>, path: PathBuf, bytes: u64, retry: Duration) -> Self {
        Self { disk, path, bytes, retry, given_up: None }
    }

    /// Takes the room, unless it was given up already. On a full disk that is no error: it counts
    /// as given up.
    ///
    /// # Errors
    /// The system's, but for lack of space.
    pub fn take(&mut self) -> io::Result<()> {
        if self.given_up.is_some() {
            return Ok(());
        }
        match self.allocate() {
            Err(error) if disk::is_lack_of_space(&error) => {
                self.give_up();
                Ok(())
            }
            taken => taken,
        }
    }

    fn allocate(&self) -> io::Result<()> {
        self.disk.open(&self.path, Access::Write)?.allocate(self.bytes)
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
        if self.given_up.is_none_or(|since| since.elapsed() < self.retry) {
            return;
        }
        self.given_up = None;
        if self.allocate().is_err() {
            // A part of it would only be in the way.
            self.give_up();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::simulated::{Fault, SimulatedDisk};

    const BYTES: u64 = 8 * 4_096;

    fn reserve(disk: &SimulatedDisk) -> Reserve {
        Reserve::new(disk.shared(), "reserve".into(), BYTES, Duration::ZERO)
    }

    #[test]
    fn room_is_taken_given_up_and_taken_again() {
        let disk = SimulatedDisk::default();
        disk.set_room(Some(BYTES));
        let mut reserve = reserve(&disk);
        reserve.take().expect("room");
        assert!(!reserve.is_given_up());
        assert_eq!(disk.content("reserve".as_ref()).len() as u64, BYTES);
        assert!(reserve.give_up(), "there was something to give");
        assert!(!reserve.give_up(), "and now there is not");
        disk.set_room(Some(BYTES - 1));
        reserve.try_again();
        assert!(reserve.is_given_up() && disk.paths().is_empty());
        disk.set_room(Some(BYTES));
        reserve.try_again();
        assert!(!reserve.is_given_up());
    }

    #[test]
    fn a_full_disk_is_no_error_and_a_broken_one_is() {
        let disk = SimulatedDisk::default();
        disk.set_room(Some(4_096));
        let mut full = reserve(&disk);
        full.take().expect("a full disk");
        assert!(full.is_given_up() && disk.paths().is_empty());
        let broken = SimulatedDisk::default();
        broken.fail(0, Fault::Broken);
        assert!(reserve(&broken).take().is_err());
    }
}
