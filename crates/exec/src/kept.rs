//! What a kept child wrote, read from its guardian's files.

use sortie_model::{ChildKey, Record, Seq, limits};
use sortie_store::segment::{Batch, OutputDirectory, OutputReader, ReadBounds, SegmentError};
use tokio::sync::watch;

/// Reads one child's records.
#[derive(Debug)]
pub(crate) struct KeptReader {
    directory: OutputDirectory,
    child: ChildKey,
    position: Seq,
    /// None at first, and while another thread has it.
    reader: Option<OutputReader>,
}

impl KeptReader {
    /// Begins with that record, or the first one after it that is still there.
    pub(crate) const fn new(directory: OutputDirectory, child: ChildKey, from: Seq) -> Self {
        Self { directory, child, position: from, reader: None }
    }

    /// Looks for the files anew: a segment that could not be written may have been removed after it
    /// was opened here, and another one may have its name.
    fn look_again(&mut self) {
        self.reader = None;
    }

    /// What is there now; nothing when all was read. `ahead` says how much is expected: what is
    /// little was written just now, and is read without leaving this thread.
    ///
    /// Cancel safe: what was under way is read again.
    async fn read(&mut self, ahead: Option<u64>) -> Result<Vec<Record>, SegmentError> {
        let mut reader = self.reader.take().unwrap_or_else(|| {
            OutputReader::new(self.directory.clone(), self.child, self.position)
        });
        let (reader, batch) = if ahead.is_some_and(|few| few <= limits::KEPT_RECORDS_AT_ONCE) {
            let batch = reader.read(ReadBounds::default());
            (reader, batch)
        } else {
            let read = move || {
                let batch = reader.read(ReadBounds::default());
                (reader, batch)
            };
            match tokio::task::spawn_blocking(read).await {
                Ok(read) => read,
                // The runtime is ending, and we with it.
                Err(_) => return Ok(Vec::new()),
            }
        };
        self.position = reader.position();
        self.reader = Some(reader);
        match batch? {
            Batch::Records(records) => Ok(records),
            Batch::Waiting => Ok(Vec::new()),
        }
    }
}

/// The output of a kept child.
#[derive(Debug)]
pub struct KeptOutput {
    reader: KeptReader,
    written: watch::Receiver<Seq>,
}

/// What a kept child wrote cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what a kept process wrote cannot be read")]
pub(crate) struct Unreadable;

impl KeptOutput {
    pub(crate) const fn new(reader: KeptReader, written: watch::Receiver<Seq>) -> Self {
        Self { reader, written }
    }

    /// Waits for records and returns them, in order; none when nothing is left of the child, or of
    /// its guardian, and all was read.
    ///
    /// Cancel safe.
    pub(crate) async fn read(&mut self) -> Result<Option<Vec<Record>>, Unreadable> {
        loop {
            let end = *self.written.borrow_and_update();
            if self.reader.position < end {
                let ahead = end.0 - self.reader.position.0;
                return self.read_some(Some(ahead)).await.map(Some);
            }
            if self.written.changed().await.is_err() {
                // Nobody writes any more, and a guardian that was killed could not say how far it
                // came: all that is there is taken.
                return self.read_last().await;
            }
        }
    }

    /// Records that have to be there.
    async fn read_some(&mut self, ahead: Option<u64>) -> Result<Vec<Record>, Unreadable> {
        for _ in 0..limits::KEPT_READ_ATTEMPTS {
            match self.reader.read(ahead).await {
                Ok(records) if !records.is_empty() => return Ok(records),
                Ok(_) => self.reader.look_again(),
                Err(error) => report(&error)?,
            }
            tokio::time::sleep(limits::KEPT_READ_PAUSE).await;
        }
        tracing::error!(child = ?self.reader.child, "what a kept process wrote is not there");
        Err(Unreadable)
    }

    /// Records that may be there.
    async fn read_last(&mut self) -> Result<Option<Vec<Record>>, Unreadable> {
        for attempt in 1..=limits::KEPT_READ_ATTEMPTS {
            match self.reader.read(None).await {
                Ok(records) if !records.is_empty() => return Ok(Some(records)),
                Ok(_) if attempt > 1 => return Ok(None),
                Ok(_) => {
                    self.reader.look_again();
                    continue;
                }
                Err(error) => report(&error)?,
            }
            tokio::time::sleep(limits::KEPT_READ_PAUSE).await;
        }
        Err(Unreadable)
    }
}

/// Writes down what went wrong; an error when trying again cannot help.
fn report(error: &SegmentError) -> Result<(), Unreadable> {
    let source: &dyn std::error::Error = error;
    tracing::error!(error = source, "what a kept process wrote cannot be read");
    if error.is_retryable() { Ok(()) } else { Err(Unreadable) }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    use sortie_model::{Body, JobInstance, Ordinal, Stream, Timestamp};
    use sortie_store::disk::SystemDisk;
    use sortie_store::segment::{Known, OutputLog};

    use super::*;

    const CHILD: ChildKey = ChildKey { job: JobInstance(uuid::Uuid::nil()), ordinal: Ordinal(0) };

    fn record(number: u64) -> Record {
        let (seq, time) = (Seq(number), Timestamp(1));
        let body = Body::Bytes(number.to_string().into());
        Record { seq, stream: Stream::Output, time, body }
    }

    fn segments(directory: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { found.extend(segments(&path)) } else { found.push(path) }
        }
        found.sort();
        found
    }

    #[tokio::test]
    async fn a_segment_that_was_replaced_after_a_full_disk_is_read() {
        let root = tempfile::tempdir().expect("a directory");
        let directory = OutputDirectory::new(Arc::new(SystemDisk), root.path());
        let log = OutputLog::open(directory.clone(), CHILD, Known::default()).expect("empty");
        let mut log = log.with_segments_of(1);
        log.append(&[record(0)]).expect("room");
        let (written, receiver) = watch::channel(Seq(1));
        let mut output = KeptOutput::new(KeptReader::new(directory, CHILD, Seq(0)), receiver);
        assert_eq!(output.read().await, Ok(Some(vec![record(0)])));

        log.append(&[record(1)]).expect("room");
        // What a write leaves that the disk had no room for, and then what was written instead.
        let second = segments(root.path()).pop().expect("a second segment");
        let whole = std::fs::read(&second).expect("readable");
        std::fs::remove_file(&second).expect("removed");
        std::fs::write(&second, &whole[..whole.len() - 1]).expect("written");
        let early = output.reader.read(None).await.expect("a disk that works");
        assert!(early.is_empty(), "the record is not whole: {early:?}");
        std::fs::remove_file(&second).expect("removed");
        std::fs::write(&second, &whole).expect("written");
        written.send_replace(Seq(2));
        assert_eq!(output.read().await, Ok(Some(vec![record(1)])));

        // A guardian that was killed could not say how far it came.
        log.append(&[record(2)]).expect("room");
        drop(written);
        assert_eq!(output.read().await, Ok(Some(vec![record(2)])));
        assert_eq!(output.read().await, Ok(None));
    }

    #[tokio::test]
    async fn what_was_written_and_is_gone_is_an_error() {
        let root = tempfile::tempdir().expect("a directory");
        let directory = OutputDirectory::new(Arc::new(SystemDisk), root.path());
        let (_written, receiver) = watch::channel(Seq(1));
        let mut output = KeptOutput::new(KeptReader::new(directory, CHILD, Seq(0)), receiver);
        assert_eq!(output.read().await, Err(Unreadable));
    }
}
