//! Reports on their way to the daemon.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use sortie_exec::sys::channel::{DESCRIPTORS_PER_WRITE, send};
use sortie_model::limits;
use sortie_wire::frame::write_message;
use sortie_wire::guardian_proto::GuardianReport;

/// Reports that were not written yet: whole writes that the socket did not take, then the one that
/// is being gathered.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: VecDeque<Write>,
    gathering: Write,
}

#[derive(Debug, Default)]
struct Write {
    bytes: Vec<u8>,
    sent: usize,
    descriptors: Vec<OwnedFd>,
}

/// Whether anything is left to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flushed {
    Everything,
    Partly,
}

impl Outbox {
    pub(crate) fn push(&mut self, report: &GuardianReport) {
        self.push_with(report, Vec::new());
    }

    /// Adds a report that takes descriptors.
    pub(crate) fn push_with(&mut self, report: &GuardianReport, descriptors: Vec<OwnedFd>) {
        if self.gathering.descriptors.len() + descriptors.len() > DESCRIPTORS_PER_WRITE {
            self.seal();
        }
        // Reports are a few bytes long, far below the limit of a frame.
        let _ = write_message(report, &mut self.gathering.bytes);
        self.gathering.descriptors.extend(descriptors);
    }

    /// Writes as much as the socket takes.
    pub(crate) fn flush(&mut self, socket: &OwnedFd) -> Flushed {
        self.seal();
        while let Some(write) = self.waiting.front_mut() {
            let descriptors: Vec<BorrowedFd<'_>> =
                write.descriptors.iter().map(AsFd::as_fd).collect();
            let rest = write.bytes.get(write.sent..).unwrap_or_default();
            // Every error but a full socket means that the daemon is gone, which the main loop
            // sees.
            let Ok(sent) = send(socket, rest, &descriptors) else { return Flushed::Partly };
            write.descriptors.clear();
            write.sent += sent;
            if write.sent >= write.bytes.len() {
                self.waiting.pop_front();
            }
        }
        Flushed::Everything
    }

    /// Whether the daemon reads so slowly that nothing more should be begun.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() >= limits::GUARDIAN_WRITES_QUEUED
    }

    fn seal(&mut self) {
        if self.gathering.bytes.is_empty() {
            return;
        }
        let mut write = std::mem::take(&mut self.gathering);
        let count = write.descriptors.len() as u32;
        if count > 0 {
            let mut bytes = Vec::with_capacity(write.bytes.len() + 16);
            let _ = write_message(&GuardianReport::Descriptors { count }, &mut bytes);
            bytes.append(&mut write.bytes);
            write.bytes = bytes;
        }
        self.waiting.push_back(write);
    }
}
