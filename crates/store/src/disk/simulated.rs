//! A disk in memory that fails when it is told to, and forgets in a crash what was not synced.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::disk::{Access, Disk, DiskFile, Lock, Names};

const BLOCK: u64 = 4_096;

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No space is left; nothing is written.
    NoSpace,
    /// No space is left behind the first half.
    ShortWrite,
    /// The device failed, with nothing written.
    Broken,
}

impl Fault {
    pub(crate) const ALL: [Self; 3] = [Self::NoSpace, Self::ShortWrite, Self::Broken];

    fn error(self) -> io::Error {
        match self {
            Self::NoSpace | Self::ShortWrite => ErrorKind::StorageFull.into(),
            Self::Broken => io::Error::from_raw_os_error(5),
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Content {
    live: Vec<u8>,
    synced: Vec<u8>,
    /// The name is on the disk.
    named: bool,
    /// The blocks that have room on the disk.
    blocks: BTreeSet<u64>,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<PathBuf, Content>,
    /// Calls that change something.
    calls: u64,
    /// The call that fails, and how.
    fault: Option<(u64, Fault)>,
    /// Bytes that may still be written; none when there is no bound.
    room: Option<u64>,
    syncs: u64,
    failed_syncs: u64,
}

/// The disk; clones are the same one.
#[derive(Debug, Clone, Default)]
pub(crate) struct SimulatedDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct SimulatedFile {
    disk: SimulatedDisk,
    path: PathBuf,
}

impl SimulatedDisk {
    pub(crate) fn shared(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds the lock")
    }

    /// The `at`-th changing call from now on fails, from 0.
    pub(crate) fn fail(&self, at: u64, fault: Fault) {
        let mut state = self.state();
        state.fault = Some((state.calls + at, fault));
    }

    /// Whether the call that was to fail was reached.
    pub(crate) fn has_failed(&self) -> bool {
        let state = self.state();
        state.fault.is_some_and(|(at, _)| state.calls > at)
    }

    pub(crate) fn failed_syncs(&self) -> u64 {
        self.state().failed_syncs
    }

    /// Calls to sync so far.
    pub(crate) fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// From now on only so many bytes of disk are left; removing a file gives its own back.
    pub(crate) fn set_room(&self, room: Option<u64>) {
        self.state().room = room;
    }

    /// What is on the disk when the machine fails now.
    pub(crate) fn after_a_crash(&self) -> Self {
        let files = self.state().files.clone();
        let kept = files.into_iter().filter(|(_, content)| content.named);
        let kept = kept.map(|(path, content)| {
            let live = content.synced.clone();
            (path, Content { live, ..content })
        });
        Self::of(kept.collect())
    }

    /// What is on the disk when the process is killed now.
    pub(crate) fn after_a_kill(&self) -> Self {
        Self::of(self.state().files.clone())
    }

    fn of(files: BTreeMap<PathBuf, Content>) -> Self {
        Self(Arc::new(Mutex::new(State { files, ..State::default() })))
    }

    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        self.state().files.keys().cloned().collect()
    }

    pub(crate) fn content(&self, path: &Path) -> Vec<u8> {
        self.state().files.get(path).map(|content| content.live.clone()).unwrap_or_default()
    }

    pub(crate) fn put(&self, path: &Path, bytes: Vec<u8>) {
        let content =
            Content { live: bytes.clone(), synced: bytes, named: true, ..Content::default() };
        self.state().files.insert(path.to_owned(), content);
    }
}

impl State {
    /// Counts a changing call, and fails it when it is its turn.
    fn call(&mut self) -> Result<(), Fault> {
        let now = self.calls;
        self.calls += 1;
        match self.fault {
            Some((at, fault)) if at == now => Err(fault),
            _ => Ok(()),
        }
    }

    /// Takes room for the blocks of these bytes that have none yet.
    fn take_room(&mut self, path: &Path, bytes: Range<usize>) -> io::Result<()> {
        let content = self.files.get_mut(path).ok_or(ErrorKind::NotFound)?;
        let blocks = bytes.start as u64 / BLOCK..(bytes.end as u64).div_ceil(BLOCK);
        let new: Vec<u64> = blocks.filter(|block| !content.blocks.contains(block)).collect();
        if let Some(room) = &mut self.room {
            let left = room.checked_sub(new.len() as u64 * BLOCK);
            *room = left.ok_or(ErrorKind::StorageFull)?;
        }
        content.blocks.extend(new);
        Ok(())
    }

    fn live(&mut self, path: &Path) -> io::Result<&mut Vec<u8>> {
        let content = self.files.get_mut(path).ok_or(ErrorKind::NotFound)?;
        Ok(&mut content.live)
    }

    fn write(&mut self, path: &Path, bytes: &[u8], offset: usize) -> io::Result<()> {
        let end = offset + bytes.len();
        self.take_room(path, offset..end)?;
        let live = self.live(path)?;
        live.resize(live.len().max(end), 0);
        live[offset..end].copy_from_slice(bytes);
        Ok(())
    }
}

impl DiskFile for SimulatedFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.state().live(&self.path)?.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let live = state.live(&self.path)?;
        let (from, bytes) = (offset as usize, buffer.len());
        let read = from.checked_add(bytes).and_then(|end| live.get(from..end));
        buffer.copy_from_slice(read.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        match state.call() {
            Ok(()) => state.write(&self.path, bytes, offset as usize),
            Err(fault) => {
                if fault == Fault::ShortWrite {
                    state.write(&self.path, &bytes[..bytes.len() / 2], offset as usize)?;
                }
                Err(fault.error())
            }
        }
    }

    fn set_length(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.call().map_err(Fault::error)?;
        state.live(&self.path)?.resize(bytes as usize, 0);
        Ok(())
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.call().map_err(Fault::error)?;
        state.take_room(&self.path, 0..bytes as usize)?;
        let live = state.live(&self.path)?;
        live.resize(live.len().max(bytes as usize), 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.syncs += 1;
        if let Err(fault) = state.call() {
            state.failed_syncs += 1;
            return Err(fault.error());
        }
        let content = state.files.get_mut(&self.path).ok_or(ErrorKind::NotFound)?;
        content.synced = content.live.clone();
        Ok(())
    }
}

impl Disk for SimulatedDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        let is_there = state.files.contains_key(path);
        match access {
            Access::Read if !is_there => return Err(ErrorKind::NotFound.into()),
            Access::Create if is_there => return Err(ErrorKind::AlreadyExists.into()),
            Access::Write | Access::Create if !is_there => {
                state.call().map_err(Fault::error)?;
                state.files.insert(path.to_owned(), Content::default());
            }
            _ => {}
        }
        drop(state);
        Ok(Box::new(SimulatedFile { disk: self.clone(), path: path.to_owned() }))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.call().map_err(Fault::error)?;
        let freed = state.files.remove(path).map_or(0, |content| content.blocks.len() as u64);
        if let Some(room) = &mut state.room {
            *room += freed * BLOCK;
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.call().map_err(Fault::error)?;
        let content = state.files.remove(from).ok_or(ErrorKind::NotFound)?;
        state.files.insert(to.to_owned(), Content { named: false, ..content });
        Ok(())
    }

    fn make_directory(&self, _: &Path) -> io::Result<()> {
        self.state().call().map_err(Fault::error)
    }

    fn remove_directory(&self, _: &Path) -> io::Result<()> {
        self.state().call().map_err(Fault::error)
    }

    fn list(&self, path: &Path) -> io::Result<Names> {
        let state = self.state();
        let mut names: Vec<OsString> = state
            .files
            .keys()
            .filter_map(|file| Some(file.strip_prefix(path).ok()?.iter().next()?.to_owned()))
            .collect();
        names.dedup();
        Ok(Box::new(names.into_iter().map(Ok)))
    }

    /// Nobody else has a disk in memory.
    fn lock(&self, _: &Path) -> io::Result<Option<Lock>> {
        tempfile::tempfile().map(|file| Some(Lock(file)))
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.call().map_err(Fault::error)?;
        for (_, content) in state.files.iter_mut().filter(|(file, _)| file.parent() == Some(path)) {
            content.named = true;
        }
        Ok(())
    }
}
