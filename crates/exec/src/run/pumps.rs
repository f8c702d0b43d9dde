//! Moving a child's bytes: from its pipes or its guardian's files, and into its input.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use sortie_model::{Body, Record, Stream};
use tokio::sync::Notify;

use super::ProcessIo;
use crate::kept::KeptOutput;
use crate::process::{Input, Output};
use crate::stop::StopToken;

/// Which of a child's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// Its stdout or stderr.
    Stream(Stream),
    /// A worker's channel.
    Channel,
}

/// Moves one pipe's bytes until it closes, or until it is empty after the last call.
pub(super) async fn pump(
    output: Option<Output>,
    (source, io): (Source, &impl ProcessIo),
    meter: &Meter,
    last_call: &Notify,
) {
    let Some(mut output) = output else { return };
    loop {
        tokio::select! {
            biased;
            bytes = output.read() => match bytes {
                Some(bytes) => {
                    let said = (bytes, output.take_arrived());
                    deliver(said, (source, io), meter).await;
                }
                None => return,
            },
            () = last_call.notified() => break,
        }
    }
    while let Some(bytes) = output.read_now() {
        let said = (bytes, output.take_arrived());
        deliver(said, (source, io), meter).await;
    }
}

/// Moves what a kept child wrote from its guardian's files, until all of it was moved.
pub(super) async fn pump_kept(mut output: KeptOutput, io: &impl ProcessIo, meter: &Meter) {
    loop {
        match output.read().await {
            Ok(Some(records)) => {
                for record in records {
                    let body = meter.admit(record.body.bytes());
                    if !body.is_empty() {
                        io.keep(Record { body: Body::Bytes(body), ..record }).await;
                    }
                }
            }
            Ok(None) => return,
            Err(_) => return meter.broken.fire(),
        }
    }
}

async fn deliver(
    (bytes, arrived): (Bytes, Vec<OwnedFd>),
    (source, io): (Source, &impl ProcessIo),
    meter: &Meter,
) {
    let bytes = meter.admit(bytes);
    match source {
        _ if bytes.is_empty() => {}
        Source::Stream(stream) => io.write(stream, bytes).await,
        Source::Channel => io.report((bytes, arrived)).await,
    }
}

/// Writes the child's input until it ends or the child closes it.
pub(super) async fn feed(stdin: Option<Input>, io: &impl ProcessIo) {
    let Some(mut stdin) = stdin else { return };
    while let Some(bytes) = io.next_input().await {
        if stdin.write(bytes).await.is_err() {
            return io.input_closed().await;
        }
    }
}

/// Counts output against its limit.
pub(super) struct Meter {
    left: AtomicU64,
    cut: AtomicU64,
    /// The limit was passed.
    pub(super) passed: Notify,
    /// What a kept child wrote cannot be read.
    pub(super) broken: StopToken,
}

impl Meter {
    pub(super) fn new(limit: Option<u64>) -> Self {
        Self {
            left: AtomicU64::new(limit.unwrap_or(u64::MAX)),
            cut: AtomicU64::new(0),
            passed: Notify::new(),
            broken: StopToken::default(),
        }
    }

    /// How many bytes the limit has cut off.
    pub(super) fn cut(&self) -> u64 {
        self.cut.load(Ordering::Relaxed)
    }

    /// As much of the bytes as the limit lets through. All outputs are counted by one future, so
    /// the parts need not change together.
    fn admit(&self, mut bytes: Bytes) -> Bytes {
        let length = bytes.len() as u64;
        let left = self.left.load(Ordering::Relaxed);
        if length <= left {
            if left != u64::MAX {
                self.left.store(left - length, Ordering::Relaxed);
            }
            return bytes;
        }
        self.left.store(0, Ordering::Relaxed);
        if self.cut.fetch_add(length - left, Ordering::Relaxed) == 0 {
            self.passed.notify_one();
        }
        bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        bytes
    }
}
