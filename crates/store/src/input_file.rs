//! Input of a job, kept until every child that reads it has it: memory first, then a sparse file
//! whose read prefix is given back.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sortie_model::limits;

/// A byte stream with random access to what was not freed. Dropping it frees everything: the file
/// has no name.
#[derive(Debug)]
pub struct InputFile {
    directory: PathBuf,
    file: Option<File>,
    /// Bytes below are freed, bytes up to `filed` are in the file, the rest is in memory.
    freed: u64,
    filed: u64,
    memory: VecDeque<Bytes>,
    memory_bytes: usize,
}

impl InputFile {
    /// Makes nothing on disk until something has to be written there.
    pub fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            file: None,
            freed: 0,
            filed: 0,
            memory: VecDeque::new(),
            memory_bytes: 0,
        }
    }

    /// Bytes appended so far.
    pub fn len(&self) -> u64 {
        self.filed + self.memory_bytes as u64
    }

    /// Whether nothing was appended.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that are kept.
    pub fn kept(&self) -> u64 {
        self.len() - self.freed
    }

    /// Appends bytes; writes to disk when [`limits::MAILBOX_MEMORY_BYTES`] in memory are passed.
    ///
    /// # Errors
    /// The system's error; nothing is lost, the bytes stay in memory.
    pub fn append(&mut self, bytes: Bytes) -> io::Result<()> {
        self.memory_bytes += bytes.len();
        self.memory.push_back(bytes);
        if self.memory_bytes > limits::MAILBOX_MEMORY_BYTES { self.spill() } else { Ok(()) }
    }

    fn spill(&mut self) -> io::Result<()> {
        if self.file.is_none() {
            std::fs::create_dir_all(&self.directory)?;
            self.file = Some(tempfile::tempfile_in(&self.directory)?);
        }
        let Some(file) = &self.file else { return Ok(()) };
        while let Some(bytes) = self.memory.front() {
            file.write_all_at(bytes, self.filed)?;
            self.filed += bytes.len() as u64;
            self.memory_bytes -= bytes.len();
            self.memory.pop_front();
        }
        Ok(())
    }

    /// At most `most` bytes from `offset` on; empty at the end. Bytes that were freed read as the
    /// end.
    ///
    /// # Errors
    /// The system's error.
    pub fn read(&self, offset: u64, most: usize) -> io::Result<Bytes> {
        if offset < self.freed || offset >= self.len() {
            return Ok(Bytes::new());
        }
        if let (Some(file), true) = (&self.file, offset < self.filed) {
            let length = usize::try_from(self.filed - offset).unwrap_or(usize::MAX).min(most);
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, offset)?;
            return Ok(bytes.into());
        }
        let mut start = self.filed;
        for bytes in &self.memory {
            let end = start + bytes.len() as u64;
            if offset < end {
                let skip = (offset - start) as usize;
                return Ok(bytes.slice(skip..bytes.len().min(skip.saturating_add(most))));
            }
            start = end;
        }
        Ok(Bytes::new())
    }

    /// Frees everything below `offset`.
    pub fn free_below(&mut self, offset: u64) {
        let offset = offset.min(self.len());
        if offset <= self.freed {
            return;
        }
        if let Some(file) = &self.file {
            let flags =
                rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
            let upto = offset.min(self.filed);
            // A file system without holes keeps the bytes until the file is closed.
            let _ = rustix::fs::fallocate(file, flags, self.freed, upto.saturating_sub(self.freed));
        }
        self.freed = offset;
        while let Some(bytes) = self.memory.front()
            && self.filed + bytes.len() as u64 <= offset
        {
            self.filed += bytes.len() as u64;
            self.memory_bytes -= bytes.len();
            self.memory.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_back_wherever_they_are_until_they_are_freed() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut input = InputFile::new(directory.path());
        let piece = |number: u8| Bytes::from(vec![number; 300 * limits::KIB]);
        for number in 0..8 {
            input.append(piece(number)).expect("room on the disk");
        }
        let mut all = Vec::new();
        while (all.len() as u64) < input.len() {
            all.extend_from_slice(&input.read(all.len() as u64, 100_000).expect("a readable file"));
        }
        assert_eq!(all, (0..8).flat_map(piece).collect::<Vec<u8>>());
        input.free_below(400_000);
        assert!(input.read(399_999, 1).expect("a readable file").is_empty());
        assert_eq!(input.read(400_000, 1).expect("a readable file"), &[1][..]);
        assert_eq!(input.kept(), input.len() - 400_000);
    }

    #[test]
    fn freed_memory_is_not_counted_twice() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut input = InputFile::new(directory.path());
        input.append(Bytes::from_static(b"one")).expect("memory only");
        input.append(Bytes::from_static(b"two")).expect("memory only");
        input.free_below(4);
        assert_eq!((input.len(), input.kept()), (6, 2));
        assert_eq!(input.read(4, 9).expect("memory only"), &b"wo"[..]);
    }
}
