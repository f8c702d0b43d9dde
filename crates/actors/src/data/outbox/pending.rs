//! What has to be reported, before and after it was put into frames.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use sortie_model::{JobInstance, Ordinal, Record, limits};
use sortie_wire::host_proto::{
    Checkpoints, ChildAsk, ChildEnd, ChildMotion, ChildStart, RecordRun, Report,
};

/// What a job has to report and has not been put into a frame yet.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) started: Vec<ChildStart>,
    pub(super) runs: Vec<RecordRun>,
    pub(super) payload: Vec<Bytes>,
    pub(super) asked: Vec<ChildAsk>,
    /// The last word about each child that was suspended or goes on.
    pub(super) moved: BTreeMap<Ordinal, ChildMotion>,
    /// What records and questions weigh against the link's credit, in bytes.
    pub(super) weight: usize,
    /// How many records there are.
    pub(super) heads: usize,
    pub(super) ended: Vec<ChildEnd>,
}

/// A report on its way: its frame, to be sent again if need be.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) number: u64,
    pub(super) head: Head,
    pub(super) payload: Vec<Bytes>,
    pub(super) bytes: usize,
}

/// What a frame begins with.
#[derive(Debug, Clone)]
pub(super) enum Head {
    Report(Arc<Report>),
    Checkpoints(Arc<Checkpoints>),
}

impl Head {
    pub(super) fn job(&self) -> JobInstance {
        match self {
            Self::Report(report) => report.job,
            Self::Checkpoints(checkpoints) => checkpoints.job,
        }
    }
}

impl Pending {
    pub(super) fn is_nothing(&self) -> bool {
        let records = self.runs.is_empty() && self.asked.is_empty();
        records && self.started.is_empty() && self.ended.is_empty() && self.moved.is_empty()
    }

    pub(super) fn push(&mut self, ordinal: Ordinal, record: Record) {
        self.weight += weight_of(record.body.len());
        self.heads += 1;
        let seq = record.seq;
        let run = RecordRun::pack(ordinal, [record], &mut self.payload);
        match self.runs.last_mut() {
            Some(last)
                if last.ordinal == ordinal
                    && last.first.after(last.records.len() as u64) == seq =>
            {
                last.records.extend(run.records);
            }
            _ => self.runs.push(run),
        }
    }
}

/// What a record with so many bytes counts against credit: an empty one is not free.
pub(crate) const fn weight_of(length: usize) -> usize {
    length + limits::RECORD_OVERHEAD_BYTES as usize
}

/// What a question with a prompt of so many bytes counts against credit: with it the word that it
/// is over, which waits for nothing.
pub(crate) const fn ask_bytes(prompt: usize) -> usize {
    prompt + 2 * limits::RECORD_OVERHEAD_BYTES as usize
}
