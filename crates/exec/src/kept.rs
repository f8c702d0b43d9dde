//! What a kept child wrote, read from its guardian's files.

use sortie_model::{ChildKey, Record, Seq, limits};
use sortie_store::segment::{Batch, OutputDirectory, OutputReader, ReadBounds, SegmentError};
use tokio::sync::watch;

/// Reads one child's records. None while another thread has it.
#[derive(Debug)]
pub(crate) struct KeptReader {
    reader: Option<OutputReader>,
    position: Seq,
}

impl KeptReader {
    /// Begins with that record, or the first one after it that is still there.
    pub(crate) const fn new(directory: OutputDirectory, child: ChildKey, from: Seq) -> Self {
        Self { reader: Some(OutputReader::new(directory, child, from)), position: from }
    }

    /// What is there now; nothing when all was read. `ahead` says how much is expected: what is
    /// little was written just now, and is read without leaving this thread.
    ///
    /// Not cancel safe: a reader that is under way is lost.
    async fn read(&mut self, ahead: Option<u64>) -> Result<Vec<Record>, SegmentError> {
        let Some(mut reader) = self.reader.take() else { return Ok(Vec::new()) };
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
    /// Not cancel safe.
    pub(crate) async fn read(&mut self) -> Result<Option<Vec<Record>>, Unreadable> {
        loop {
            let end = *self.written.borrow_and_update();
            if self.reader.position < end {
                let ahead = end.0 - self.reader.position.0;
                let records = self.read_some(Some(ahead)).await?;
                if !records.is_empty() {
                    return Ok(Some(records));
                }
            }
            if self.written.changed().await.is_err() {
                // Nobody writes any more: all there is can be read.
                let records = self.read_some(None).await?;
                return Ok(Some(records).filter(|records| !records.is_empty()));
            }
        }
    }

    async fn read_some(&mut self, ahead: Option<u64>) -> Result<Vec<Record>, Unreadable> {
        let mut attempts = 1;
        loop {
            match self.reader.read(ahead).await {
                Ok(records) => return Ok(records),
                Err(error) if error.is_retryable() && attempts < limits::KEPT_READ_ATTEMPTS => {
                    attempts += 1;
                    tokio::time::sleep(limits::KEPT_READ_PAUSE).await;
                }
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "what a kept process wrote cannot be read"
                    );
                    return Err(Unreadable);
                }
            }
        }
    }
}
