//! Taking over the directory, with what a dead guardian left there, and taking in new children.

use std::collections::{HashMap, HashSet};
use std::fs::DirBuilder;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use sortie_exec::keep::{Identity, KeepPlace};
use sortie_exec::sys::spawn::SpawnFailure;
use sortie_model::reason::SpawnStep;
use sortie_model::{Seq, limits};
use sortie_store::segment::{Batch, OutputReader, ReadBounds, SegmentError};
use sortie_wire::guardian_proto::{ChildNumber, Containment, Keep, Lack, Refusal, StandardInput};

use super::alone::Stood;
use super::disk::Room;
use super::file::{self, ChildFile, Noted};
use super::input::Input;
use super::output::{self, Output};
use super::{Daemon, Exited, Keeper, Kept, Life, Memory, errno};

/// The pause between two kills of what a dead guardian left.
const CLEAR_PAUSE: Duration = Duration::from_millis(5);

impl Keeper {
    /// Takes the directory over. Whatever a dead guardian left running is killed first.
    pub(crate) fn open(directory: &[u8], containment: &Containment) -> Result<Self, Refusal> {
        let failed = |error: io::Error| Refusal::Directory { errno: errno(&error).raw_os_error() };
        let path = Path::new(std::ffi::OsStr::from_bytes(directory));
        let place = KeepPlace::prepare(path).map_err(failed)?;
        let lock = place.lock().map_err(failed)?.ok_or(Refusal::Locked)?;
        clear_remains(&place).map_err(failed)?;
        let children = place.children();
        DirBuilder::new().recursive(true).mode(0o700).create(&children).map_err(failed)?;
        let noted = file::all(&children).map_err(failed)?;
        let group = match containment {
            Containment::ControlGroup { directory } => {
                Some(std::ffi::OsStr::from_bytes(directory.as_bytes()).into())
            }
            Containment::Parentage => None,
        };
        let identity = Identity::own(group).ok_or(Errno::SRCH.into()).map_err(failed)?;
        place.identify(&identity).map_err(failed)?;
        let door = place.listen().map_err(failed)?;
        let mut keeper = Self {
            directory: output::directory(&place.output()),
            door,
            children: HashMap::new(),
            numbers: HashMap::new(),
            jobs: HashMap::new(),
            news: HashSet::new(),
            ending: HashSet::new(),
            stuck: HashSet::new(),
            daemon: Daemon::There,
            room: Room::new(path.to_owned()),
            halted_until: None,
            lack: Lack::Room,
            told: None,
            retry_at: None,
            look_at: None,
            scratch: vec![0; limits::RECORD_BYTES],
            place,
            lock,
        };
        for (number, (file, noted)) in (1..).zip(noted) {
            keeper.inherit(ChildNumber(number), file, noted);
        }
        keeper.sweep();
        Ok(keeper)
    }

    /// The lowest number that no child has had.
    pub(crate) fn next_number(&self) -> u64 {
        self.children.keys().map(|number| number.0 + 1).max().unwrap_or(1)
    }

    /// A child of the guardian before us.
    fn inherit(&mut self, number: ChildNumber, file: ChildFile, noted: Noted) {
        let Noted { child, interruptions, end } = noted;
        let key = child.keep.child;
        let mut reader = OutputReader::new(self.directory.clone(), key, Seq(0));
        let one = ReadBounds { records: 1, bytes: 1 };
        let oldest = match reader.read(one) {
            Ok(Batch::Records(records)) => records.first().map(|record| record.seq),
            _ => None,
        };
        let first = child.keep.first.max(oldest.unwrap_or_default());
        let mut output = Output::left(self.directory.clone(), key, first);
        output.begin_at(oldest.unwrap_or(first));
        let life = match end {
            Some((report, left_behind)) => {
                let exited = Exited { report, ran: child.running, at: child.ended };
                Life::Ended { exited, left_behind }
            }
            None => Life::Lost,
        };
        let kept = Kept {
            keep: child.keep,
            file,
            output,
            input: Input::Over,
            pid: child.pid,
            started: Instant::now(),
            life,
            memory: Memory::Wanted,
            due: None,
            interruptions,
            stood: Stood::default(),
        };
        self.put(number, kept);
    }

    fn put(&mut self, number: ChildNumber, kept: Kept) {
        self.numbers.insert(kept.keep.child, number);
        *self.jobs.entry(kept.keep.child.job).or_default() += 1;
        self.children.insert(number, kept);
    }

    /// Removes output that nothing is known of: of children that were never started.
    fn sweep(&self) {
        for job in self.directory.jobs().into_iter().flatten() {
            if !self.jobs.contains_key(&job) {
                // What cannot be removed stays until the next guardian begins here.
                let _ = self.directory.remove_job(job, usize::MAX);
            }
        }
    }

    /// Makes room for what a child is going to write, before it starts. Gives the daemon's end of
    /// its input, if it is to have one.
    pub(crate) fn admit(
        &mut self,
        number: ChildNumber,
        keep: Keep,
        input: StandardInput,
    ) -> Result<Option<OwnedFd>, SpawnFailure> {
        let failed = |errno| SpawnFailure { step: SpawnStep::Guardian, errno };
        if keep.note.len() > limits::KEPT_NOTE_BYTES {
            return Err(failed(Errno::MSGSIZE));
        }
        let earlier = self.numbers.get(&keep.child).copied();
        let is_busy = |number: &ChildNumber| {
            self.children.get(number).is_some_and(|kept| kept.life.is_unfinished())
        };
        if earlier.as_ref().is_some_and(is_busy) {
            return Err(failed(Errno::EXIST));
        }
        let output = Output::open(self.directory.clone(), keep.child, keep.first);
        let output = output.map_err(|error| failed(errno_of(&error)))?;
        let (input, given) = match input {
            StandardInput::Pipe => {
                let (input, given) = Input::open().map_err(failed)?;
                (input, Some(given))
            }
            _ => (Input::Over, None),
        };
        let mut kept = Kept {
            file: ChildFile::of(&self.place.children(), keep.child),
            keep,
            output,
            input,
            pid: 0,
            started: Instant::now(),
            life: Life::Runs,
            memory: Memory::Wanted,
            due: None,
            interruptions: Vec::new(),
            stood: Stood::default(),
        };
        kept.file.create(&kept.told(number)).map_err(|error| failed(errno(&error)))?;
        if let Some(earlier) = earlier.and_then(|earlier| self.take_out(earlier)) {
            kept.output.inherit(earlier.output);
        }
        self.put(number, kept);
        Ok(given)
    }

    /// A child was not started after all. What an earlier life of it wrote stays until the daemon
    /// has it.
    pub(crate) fn withdraw(&mut self, number: ChildNumber) {
        match self.children.get_mut(&number) {
            Some(kept) if kept.output.is_owed() => kept.life = Life::Lost,
            _ => self.drop_child(number),
        }
    }

    /// Takes an earlier life of a child off the books; its output stays.
    fn take_out(&mut self, number: ChildNumber) -> Option<Kept> {
        let kept = self.children.remove(&number)?;
        self.news.remove(&number);
        if let Some(count) = self.jobs.get_mut(&kept.keep.child.job) {
            *count = count.saturating_sub(1);
        }
        Some(kept)
    }
}

/// Kills what a dead guardian left, until nothing of it is left or time is up: a process that hangs
/// in the kernel dies when the kernel lets it.
fn clear_remains(place: &KeepPlace) -> io::Result<()> {
    let Some(identity) = place.identity() else { return Ok(()) };
    let until = Instant::now() + limits::GUARDIAN_END;
    while !identity.clear_remains() {
        if Instant::now() >= until {
            return Err(Errno::BUSY.into());
        }
        std::thread::sleep(CLEAR_PAUSE);
    }
    place.forget_guardian();
    Ok(())
}

fn errno_of(error: &SegmentError) -> Errno {
    match error {
        SegmentError::Io { source, .. } => errno(source),
        SegmentError::Gap { .. } => Errno::EXIST,
        _ => Errno::IO,
    }
}
