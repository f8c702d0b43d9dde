//! The system's disk, which can refuse output and forget what was not synced.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicU32;

use sortie_store::disk::{Access, Disk, DiskFile, Lock, Names, SystemDisk};

use super::super::*;

/// How output is refused: at which call, and with what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    Full,
    Broken,
    BrokenSync,
    /// Nothing of it can be opened or read, as where a process has no more descriptors.
    Unreadable,
}

#[derive(Debug, Default)]
struct State {
    refusal: Option<Refusal>,
    /// The lengths that are on the disk.
    synced: HashMap<PathBuf, u64>,
    /// Files with output that were opened, as often as they were.
    opened: Vec<PathBuf>,
}

#[derive(Debug, Clone)]
pub(super) struct TestDisk {
    directory: Arc<tempfile::TempDir>,
    state: Arc<Mutex<State>>,
    refused: Arc<AtomicU32>,
    listed: Arc<AtomicU32>,
}

#[derive(Debug)]
struct TestFile {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    disk: TestDisk,
}

impl TestDisk {
    pub(super) fn new() -> Self {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let (state, refused, listed) = Default::default();
        Self { directory, state, refused, listed }
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(super) fn refuse(&self, refusal: Option<Refusal>) {
        self.state.lock().unwrap().refusal = refusal;
    }

    /// How many calls were refused.
    pub(super) fn refused(&self) -> u32 {
        self.refused.load(Ordering::Relaxed)
    }

    /// How often a directory was read.
    pub(super) fn listed(&self) -> u32 {
        self.listed.load(Ordering::Relaxed)
    }

    /// How often files with a child's output were opened.
    pub(super) fn opened(&self, child: Ordinal) -> usize {
        let name = format!("{:08x}-", child.0);
        let is_of_child = |path: &&PathBuf| {
            path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(&name))
        };
        self.state.lock().unwrap().opened.iter().filter(is_of_child).count()
    }

    /// The machine failed: output that was not synced is gone.
    pub(super) fn forget_unsynced(&self) {
        for path in self.output_files(&self.path().join("state/output")) {
            let synced = self.state.lock().unwrap().synced.get(&path).copied();
            match synced {
                None | Some(0) => std::fs::remove_file(&path).unwrap(),
                Some(length) => {
                    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
                    file.set_len(length.min(file.metadata().unwrap().len())).unwrap();
                }
            }
        }
    }

    fn output_files(&self, below: &Path) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(below) else { return Vec::new() };
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .flat_map(|path| if path.is_dir() { self.output_files(&path) } else { vec![path] })
            .collect()
    }

    pub(super) fn files(&self, below: &Path) -> usize {
        self.output_files(below).len()
    }

    pub(super) fn first_file(&self) -> PathBuf {
        let mut files = self.output_files(&self.path().join("state/output"));
        files.sort();
        files.remove(0)
    }

    fn is_output(&self, path: &Path) -> bool {
        path.starts_with(self.path().join("state/output"))
    }

    fn check_read(&self, path: &Path) -> io::Result<()> {
        let refusal = self.state.lock().unwrap().refusal.filter(|_| self.is_output(path));
        if refusal == Some(Refusal::Unreadable) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(io::Error::from_raw_os_error(24));
        }
        Ok(())
    }

    fn check(&self, path: &Path, sync: bool) -> io::Result<()> {
        let refusal = self.state.lock().unwrap().refusal.filter(|_| self.is_output(path));
        let error = match refusal {
            Some(Refusal::Full) if !sync => io::ErrorKind::StorageFull.into(),
            Some(Refusal::Broken) if !sync => io::Error::from_raw_os_error(5),
            Some(Refusal::BrokenSync) if sync => io::Error::from_raw_os_error(5),
            _ => return Ok(()),
        };
        self.refused.fetch_add(1, Ordering::Relaxed);
        Err(error)
    }
}

impl DiskFile for TestFile {
    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.disk.check_read(&self.path)?;
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.check(&self.path, false)?;
        self.file.write_at(bytes, offset)
    }

    fn set_length(&self, bytes: u64) -> io::Result<()> {
        if let Some(synced) = self.disk.state.lock().unwrap().synced.get_mut(&self.path) {
            *synced = bytes.min(*synced);
        }
        self.file.set_length(bytes)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.disk.check(&self.path, false)?;
        self.file.allocate(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.check(&self.path, true)?;
        let length = self.file.length()?;
        self.file.sync()?;
        self.disk.state.lock().unwrap().synced.insert(self.path.clone(), length);
        Ok(())
    }
}

impl Disk for TestDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>> {
        self.check_read(path)?;
        if access == Access::Create {
            self.check(path, false)?;
        }
        if self.is_output(path) {
            self.state.lock().unwrap().opened.push(path.to_owned());
        }
        let file = SystemDisk.open(path, access)?;
        Ok(Box::new(TestFile { file, path: path.to_owned(), disk: self.clone() }))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        SystemDisk.remove(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        SystemDisk.rename(from, to)
    }

    fn make_directory(&self, path: &Path) -> io::Result<()> {
        SystemDisk.make_directory(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        SystemDisk.remove_directory(path)
    }

    fn list(&self, path: &Path) -> io::Result<Names> {
        self.listed.fetch_add(1, Ordering::Relaxed);
        SystemDisk.list(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        SystemDisk.lock(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        SystemDisk.sync_directory(path)
    }
}
