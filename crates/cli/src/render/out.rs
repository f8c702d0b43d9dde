//! Our two outputs as plain files: no buffer of their own, and patient with one that does not
//! block.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};

use crate::failure::Failure;

/// An output that writes through.
pub(crate) struct Output {
    file: File,
}

impl Output {
    /// Standard output.
    pub(crate) fn stdout() -> io::Result<Self> {
        Ok(Self { file: io::stdout().as_fd().try_clone_to_owned()?.into() })
    }

    /// Standard error.
    pub(crate) fn stderr() -> io::Result<Self> {
        Ok(Self { file: io::stderr().as_fd().try_clone_to_owned()?.into() })
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.file.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut wait = [PollFd::new(&self.file, PollFlags::OUT)];
                    poll(&mut wait, None)?;
                }
                written => return written,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes data to standard output.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = Output::stdout().map_err(|error| Failure::output(&error))?;
    stdout.write_all(text.as_bytes()).map_err(|error| Failure::output(&error))
}
