//! Inputs of jobs that outlive their node: a file for each, with the bytes as they came. How many
//! of them are certain, and their checksum, is a fact of the journal ([`InputMark`]); what lies
//! behind is as if it were not there.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sortie_model::JobInstance;
use sortie_model::limits::RECORD_BYTES;
use uuid::Uuid;

use crate::disk::{Access, Disk, DiskFile};

/// So much of an input is on the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputMark {
    /// Bytes.
    pub bytes: u64,
    /// Their CRC-32C.
    pub sum: u32,
}

/// Why an input cannot be read again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// The system refused.
    #[error("cannot read {}", file.display())]
    Io {
        /// Which file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Bytes that were on the disk are others now, or are gone.
    #[error("{} does not have the {bytes} bytes that were stored there", file.display())]
    Damaged {
        /// Which file.
        file: PathBuf,
        /// How many were stored.
        bytes: u64,
    },
}

/// The directory with the inputs of a node's persistent sessions. Clones are the same one.
#[derive(Debug, Clone)]
pub struct InputDirectory {
    disk: Arc<dyn Disk>,
    root: Arc<Path>,
}

impl InputDirectory {
    /// Makes nothing on the disk.
    pub fn new(disk: Arc<dyn Disk>, root: &Path) -> Self {
        Self { disk, root: root.into() }
    }

    /// Where a job's input is, if it has one.
    pub fn path(&self, job: JobInstance) -> PathBuf {
        self.root.join(job.0.simple().to_string())
    }

    /// The input of a new job, with nothing in it; its file is made by the first byte.
    pub fn begin(&self, job: JobInstance) -> LastingInput {
        let (directory, end, synced) = (self.clone(), InputMark::default(), Arc::default());
        LastingInput { directory, job, file: None, end, synced }
    }

    /// The input that an earlier node stored, up to the mark. Reads all of it: it is what was
    /// stored, or an error.
    ///
    /// # Errors
    /// [`InputError`]; nothing was changed.
    pub fn open(&self, job: JobInstance, mark: InputMark) -> Result<LastingInput, InputError> {
        let mut input = self.begin(job);
        if mark.bytes == 0 {
            return Ok(input);
        }
        let path = self.path(job);
        let damaged = || InputError::Damaged { file: path.clone(), bytes: mark.bytes };
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof => damaged(),
            _ => InputError::Io { file: path.clone(), source },
        };
        let file = self.disk.open(&path, Access::Read).map_err(failed)?;
        let mut buffer = vec![0; RECORD_BYTES];
        let mut found = InputMark::default();
        while found.bytes < mark.bytes {
            let most = usize::try_from(mark.bytes - found.bytes).unwrap_or(RECORD_BYTES);
            let piece = buffer.get_mut(..most.min(RECORD_BYTES)).unwrap_or_default();
            file.read_at(piece, found.bytes).map_err(failed)?;
            found = found.with(piece);
        }
        if found != mark {
            return Err(damaged());
        }
        (input.file, input.end) = (Some(file.into()), mark);
        Ok(input)
    }

    /// The jobs that have a file here, in no order. Names that are none of ours are left out.
    ///
    /// # Errors
    /// The system's; a directory that is not there has none.
    pub fn jobs(&self) -> io::Result<impl Iterator<Item = JobInstance> + use<>> {
        let names = self.disk.list(&self.root)?;
        Ok(names.filter_map(|name| {
            let name = name.ok()?;
            let uuid = Uuid::try_parse(name.to_str().filter(|name| name.len() == 32)?).ok()?;
            Some(JobInstance(uuid))
        }))
    }

    fn sync_names(&self) -> io::Result<()> {
        self.disk.sync_directory(&self.root)?;
        self.root.parent().map_or(Ok(()), |above| self.disk.sync_directory(above))
    }

    /// Removes a job's input. One that is not there is no error.
    ///
    /// # Errors
    /// The system's.
    pub fn remove(&self, job: JobInstance) -> io::Result<()> {
        self.disk.remove(&self.path(job))
    }
}

impl InputMark {
    /// The same with more bytes behind.
    fn with(self, more: &[u8]) -> Self {
        let bytes = self.bytes + more.len() as u64;
        Self { bytes, sum: crc32c::crc32c_append(self.sum, more) }
    }
}

/// One job's input. Its file stays when this is dropped.
#[derive(Debug)]
pub struct LastingInput {
    directory: InputDirectory,
    job: JobInstance,
    file: Option<Arc<dyn DiskFile>>,
    /// What was appended, on the disk or on its way there.
    end: InputMark,
    synced: Arc<Mutex<Synced>>,
}

/// What the waits for the disk brought so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Synced {
    /// The file's name may not be on the disk.
    #[default]
    Unnamed,
    Named,
    /// The system says so once: what a later wait says is worth nothing.
    Failed,
}

impl LastingInput {
    /// Bytes appended so far.
    pub const fn len(&self) -> u64 {
        self.end.bytes
    }

    /// Whether nothing was appended.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lets go of the file, which stays: what was stored is not read here any more.
    pub fn release(&mut self) {
        self.file = None;
    }

    /// Appends bytes, which are certain after the next [`sync`](Self::sync).
    ///
    /// # Errors
    /// The system's; nothing was appended.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = match &self.file {
            Some(file) => file,
            None => {
                let (disk, path) = (&self.directory.disk, self.directory.path(self.job));
                disk.make_directory(&self.directory.root)?;
                self.file.insert(disk.open(&path, Access::Write)?.into())
            }
        };
        // What a write that failed left there is written over, or lies behind the end.
        file.write_at(bytes, self.end.bytes)?;
        self.end = self.end.with(bytes);
        Ok(())
    }

    /// At most `most` bytes from `offset` on; empty at the end.
    ///
    /// # Errors
    /// The system's.
    pub fn read(&self, offset: u64, most: usize) -> io::Result<Bytes> {
        let left = usize::try_from(self.len().saturating_sub(offset)).unwrap_or(usize::MAX);
        let (Some(file), length @ 1..) = (&self.file, left.min(most)) else {
            return Ok(Bytes::new());
        };
        let mut bytes = vec![0; length];
        file.read_at(&mut bytes, offset)?;
        Ok(bytes.into())
    }

    /// What brings all that was appended so far to the disk.
    pub fn sync(&self) -> InputSync {
        InputSync {
            file: self.file.clone(),
            directory: self.directory.clone(),
            mark: self.end,
            synced: Arc::clone(&self.synced),
        }
    }

    /// Removes the file.
    ///
    /// # Errors
    /// The system's.
    pub fn remove(&self) -> io::Result<()> {
        self.directory.remove(self.job)
    }
}

/// A wait for the disk.
#[derive(Debug)]
pub struct InputSync {
    file: Option<Arc<dyn DiskFile>>,
    directory: InputDirectory,
    mark: InputMark,
    synced: Arc<Mutex<Synced>>,
}

impl InputSync {
    /// Returns what is certain then. Blocks while the disk works.
    ///
    /// # Errors
    /// The system's: nobody knows what is on the disk, and every later wait for this input fails,
    /// too.
    pub fn wait(self) -> io::Result<InputMark> {
        let Some(file) = &self.file else { return Ok(self.mark) };
        // One at a time: the failure of one is not to be missed by another.
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        let done = match *synced {
            Synced::Unnamed => file.sync().and_then(|()| self.directory.sync_names()),
            Synced::Named => file.sync(),
            Synced::Failed => Err(io::Error::other("an earlier wait for the disk failed")),
        };
        *synced = if done.is_ok() { Synced::Named } else { Synced::Failed };
        done.map(|()| self.mark)
    }
}

#[cfg(test)]
mod tests;
