//! The file with what is known of one kept child: the reports that a later daemon gets.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bytes::BytesMut;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use sortie_model::facts::Interruption;
use sortie_model::{ChildKey, limits};
use sortie_wire::frame::{take_frame, write_message};
use sortie_wire::guardian_proto::{GuardianReport, KeptChild};

/// What there is to note of a child's end has so many bytes more, at most, than what there was at
/// its beginning.
const MORE_AT_END_BYTES: u64 = 512;

/// How a file is called beside that in whose place it comes.
const NEW: &str = "new";

/// A child's file. Dropping this leaves it where it is.
#[derive(Debug)]
pub(super) struct ChildFile(PathBuf);

/// What such a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Noted {
    pub(super) child: KeptChild,
    /// Why it was signalled before its end.
    pub(super) interruptions: Vec<Interruption>,
    /// How it ended, and how many processes it left behind, if that was known.
    pub(super) end: Option<(GuardianReport, u32)>,
}

impl ChildFile {
    pub(super) fn of(directory: &Path, child: ChildKey) -> Self {
        Self(directory.join(format!("{}-{:08x}", child.job.0.simple(), child.ordinal.0)))
    }

    /// Makes the file, in place of one of an earlier life of the child, with room for its end: that
    /// may come when the disk is full.
    ///
    /// # Errors
    /// The system's. All is as it was then.
    pub(super) fn create(&self, reports: &[GuardianReport]) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let bytes = encode(reports);
        let length = bytes.len() as u64;
        let new = self.0.with_extension(NEW);
        let made = options.open(&new).and_then(|mut file| {
            file.write_all(&bytes)?;
            reserve(&file, length, length + MORE_AT_END_BYTES)?;
            fs::rename(&new, &self.0)
        });
        if made.is_err() {
            let _ = fs::remove_file(&new);
        }
        made
    }

    /// Adds what is known since; the last word counts. Where there is no room, since no room can be
    /// reserved there, the child will be called lost if this guardian is killed.
    pub(super) fn note(&self, reports: &[GuardianReport]) {
        let file = OpenOptions::new().append(true).open(&self.0);
        let _ = file.and_then(|mut file| file.write_all(&encode(reports)));
    }

    pub(super) fn remove(&self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// What the files say, each with its file. One that is not whole, or not in its place, is of a
/// child that was never started, and is removed.
pub(super) fn all(directory: &Path) -> io::Result<Vec<(ChildFile, Noted)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == NEW) {
            fs::remove_file(path)?;
            continue;
        }
        match decode(&fs::read(&path)?) {
            Some(noted) => found.push((ChildFile(path), noted)),
            None => fs::remove_file(path)?,
        }
    }
    Ok(found)
}

/// Takes so many bytes of the disk for a file that ends there; it does not become longer.
fn reserve(file: &File, end: u64, bytes: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, end, bytes) {
        Err(errno @ (Errno::NOSPC | Errno::DQUOT)) => Err(errno.into()),
        // There are file systems that cannot.
        _ => Ok(()),
    }
}

fn encode(reports: &[GuardianReport]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for report in reports {
        // Notes have a bound far below that of a frame.
        let _ = write_message(report, &mut bytes);
    }
    bytes
}

fn decode(bytes: &[u8]) -> Option<Noted> {
    let mut bytes = BytesMut::from(bytes);
    let (mut child, mut exited, mut end) = (None, None, None);
    let mut interruptions = Vec::new();
    while let Ok(Some(frame)) = take_frame(&mut bytes, limits::FRAME_BYTES) {
        match frame.open() {
            Ok(GuardianReport::Kept(kept)) => child = Some(*kept),
            Ok(report @ GuardianReport::Exited { .. }) => exited = Some(report),
            Ok(GuardianReport::Gone { left_behind, .. }) => {
                end = exited.take().map(|exited| (exited, left_behind));
            }
            Ok(GuardianReport::Interrupted { why, .. }) => interruptions.push(why),
            Ok(_) => {}
            Err(_) => break,
        }
    }
    child.map(|child| Noted { child, interruptions, end })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use sortie_model::{ChildIncarnation, JobInstance, Motion, Ordinal, Seq};
    use sortie_wire::guardian_proto::{ChildNumber, Keep, KeptFate, KeptInput};
    use uuid::Uuid;

    use super::*;

    fn life(first: u64) -> GuardianReport {
        let child = ChildKey { job: JobInstance(Uuid::nil()), ordinal: Ordinal(0) };
        GuardianReport::Kept(Box::new(KeptChild {
            number: ChildNumber(1),
            keep: Keep {
                child,
                incarnation: ChildIncarnation(0),
                first: Seq(first),
                drain: Duration::ZERO,
                note: Bytes::new(),
            },
            oldest: Seq(first),
            pid: 9,
            running: Duration::ZERO,
            input: KeptInput::Whole,
            fate: KeptFate::Lost,
            ended: None,
            kill_in: None,
            motion: Motion::Running,
        }))
    }

    fn firsts(directory: &Path) -> Vec<Seq> {
        let all = all(directory).expect("readable");
        all.into_iter().map(|(_, noted)| noted.child.keep.first).collect()
    }

    #[test]
    fn a_life_that_could_not_be_noted_leaves_what_is_known_of_the_one_before() {
        let directory = tempfile::tempdir().expect("a directory");
        let child = ChildKey { job: JobInstance(Uuid::nil()), ordinal: Ordinal(0) };
        let file = ChildFile::of(directory.path(), child);
        file.create(&[life(0)]).expect("room");
        let beside = file.0.with_extension(NEW);
        // Nothing can be written where a folder is.
        fs::create_dir(&beside).expect("a folder");
        file.create(&[life(5)]).expect_err("a folder");
        fs::remove_dir(&beside).expect("it is empty");
        assert_eq!(firsts(directory.path()), [Seq(0)]);
        file.create(&[life(5)]).expect("room");
        assert_eq!(firsts(directory.path()), [Seq(5)]);
        // A guardian that died in between never started it.
        fs::copy(&file.0, &beside).expect("a file");
        assert_eq!((firsts(directory.path()), beside.exists()), (vec![Seq(5)], false));
    }
}
