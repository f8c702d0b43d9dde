//! Input on its way from a job's log to a child's standard input, here or on another node.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use sortie_link::FrameReceiver;
use sortie_link::Link;
use sortie_model::{JobInstance, NodeId, Ordinal};
use sortie_wire::frame::{self, Frame};
use sortie_wire::host_proto::{InputPiece, InputStream};
use tokio::sync::mpsc;

use crate::data::input_log::{InputLog, InputReader, Piece};
use crate::data::job::JobShared;
use crate::data::port::{ChildPort, Target};
use crate::data::session::SessionShared;
use crate::node::NodeShared;

/// Pieces of input that wait for a child on this node; each has at most one record's bytes.
const QUEUED_PIECES: usize = 4;

/// The client died, or the link broke, before the end of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the input broke off before its end")]
pub(crate) struct BrokenOff;

/// Where the input of one job's children on this node arrives. A child is in it from its start
/// until its stream came or it reads no more: nothing that an owner sends adds to it.
#[derive(Debug, Default)]
pub(crate) struct InputPorts {
    awaited: Mutex<HashMap<Ordinal, mpsc::Sender<Piece>>>,
}

impl InputPorts {
    fn awaited(&self) -> MutexGuard<'_, HashMap<Ordinal, mpsc::Sender<Piece>>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(self: &Arc<Self>, ordinal: Ordinal) -> Inlet {
        let (sender, queue) = mpsc::channel(QUEUED_PIECES);
        self.awaited().insert(ordinal, sender);
        Inlet { ports: Arc::clone(self), ordinal, queue }
    }

    /// Where the child's stream goes, if it waits for one.
    fn take(&self, ordinal: Ordinal) -> Option<mpsc::Sender<Piece>> {
        self.awaited().remove(&ordinal)
    }
}

/// A child's end of its input from another node; dropping it says that the child reads no more.
#[derive(Debug)]
pub(crate) struct Inlet {
    ports: Arc<InputPorts>,
    ordinal: Ordinal,
    queue: mpsc::Receiver<Piece>,
}

impl Drop for Inlet {
    fn drop(&mut self) {
        self.ports.take(self.ordinal);
    }
}

/// The inputs of every job that this node executes for others.
#[derive(Debug, Default)]
pub(crate) struct NodeInputs {
    jobs: Mutex<HashMap<(NodeId, JobInstance), Arc<InputPorts>>>,
}

impl NodeInputs {
    pub(crate) fn of(&self, owner: NodeId, job: JobInstance) -> Arc<InputPorts> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(jobs.entry((owner, job)).or_default())
    }

    fn known(&self, owner: NodeId, job: JobInstance) -> Option<Arc<InputPorts>> {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.get(&(owner, job)).cloned()
    }

    pub(crate) fn forget(&self, owner: NodeId, job: JobInstance) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).remove(&(owner, job));
    }
}

/// What a child on this node reads.
#[derive(Debug)]
pub(crate) enum ChildInput {
    /// From its job's log, on the job's own node.
    Here(InputReader),
    /// From a stream of the owner's.
    There(Inlet),
}

impl ChildInput {
    /// The child's input, if its job has one.
    pub(crate) fn open(port: &ChildPort) -> Option<Self> {
        let job = port.job();
        if !job.spec.input {
            return None;
        }
        match &job.target {
            Target::Here(shared) => shared.input.as_ref().map(|log| Self::Here(log.reader())),
            Target::There(_) => {
                let ordinal = sortie_exec::task::TaskPort::ordinal(port);
                Some(Self::There(job.inputs.open(ordinal)))
            }
        }
    }

    /// The next bytes; none at the end.
    ///
    /// # Errors
    /// [`BrokenOff`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, BrokenOff> {
        let piece = match self {
            Self::Here(reader) => reader.next().await,
            Self::There(inlet) => inlet.queue.recv().await.unwrap_or(Piece::Lost),
        };
        match piece {
            Piece::Bytes(bytes) => Ok(Some(bytes)),
            Piece::End => Ok(None),
            Piece::Lost => Err(BrokenOff),
        }
    }
}

/// Owner side: a child on another node began, so its input flows to it. On this node the child
/// reads the log itself.
pub(crate) fn feed(
    session: &SessionShared,
    job: Arc<JobShared>,
    log: Arc<InputLog>,
    ordinal: Ordinal,
) {
    let rows = job.rows();
    let node = rows.nodes().map(|(id, _)| id).find(|id| rows.runs_on(ordinal, *id));
    let Some(node) = node.filter(|node| *node != session.node.me.id) else { return };
    drop(rows);
    let Some(link) = session.attachment(node).link() else { return };
    let head =
        InputStream { session: session.identity.instance, job: job.identity.instance, ordinal };
    let reader = log.reader();
    tokio::spawn(async move {
        // A broken stream is the executing node's to notice: its child fails with `input_lost`.
        let _ = send(&link, head, reader).await;
    });
}

async fn send(link: &Link, head: InputStream, mut reader: InputReader) -> Result<(), BrokenOff> {
    let mut stream = link.open_uni(0).await.map_err(|_| BrokenOff)?;
    stream.send(&head).await.map_err(|_| BrokenOff)?;
    let mut offset = 0;
    loop {
        let bytes = match reader.next().await {
            Piece::Bytes(bytes) => bytes,
            Piece::Lost => return Err(BrokenOff),
            Piece::End => {
                let piece = InputPiece { offset, last: true };
                stream.send_with_payload(&piece, Vec::new()).await.map_err(|_| BrokenOff)?;
                let mut finished = stream.finish().map_err(|_| BrokenOff)?;
                return finished.delivered().await.map_err(|_| BrokenOff);
            }
        };
        let piece = InputPiece { offset, last: false };
        offset += bytes.len() as u64;
        stream.send_with_payload(&piece, vec![bytes]).await.map_err(|_| BrokenOff)?;
    }
}

/// Executing side: reads one child's input from its owner's stream.
pub(crate) async fn receive(
    node: Arc<NodeShared>,
    owner: NodeId,
    first: Frame,
    mut stream: FrameReceiver,
) {
    let Ok(InputStream { job, ordinal, .. }) = first.open() else { return };
    let Some(ports) = node.inputs.known(owner, job) else { return };
    let Some(queue) = ports.take(ordinal) else { return };
    while let Ok(Some(frame)) = stream.next().await {
        let Ok((InputPiece { last, .. }, bytes)) = frame::open_head(frame) else { return };
        if !bytes.is_empty() && queue.send(Piece::Bytes(bytes)).await.is_err() {
            return; // The child has closed its input; dropping the stream says so.
        }
        if last {
            // A child that is gone does not mind.
            let _ = queue.send(Piece::End).await;
            return;
        }
    }
    let _ = queue.send(Piece::Lost).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: JobInstance = JobInstance(uuid::Uuid::from_u128(7));
    const OWNER: NodeId = NodeId([1; 16]);

    #[test]
    fn a_job_remembers_no_child_that_reads_no_more() {
        let inputs = NodeInputs::default();
        let ports = inputs.of(OWNER, JOB);
        let inlets: Vec<_> = (0..100).map(|child| ports.open(Ordinal(child))).collect();
        assert!(ports.take(Ordinal(3)).is_some_and(|queue| !queue.is_closed()));
        assert_eq!(ports.awaited().len(), 99);
        drop(inlets);
        assert!(ports.awaited().is_empty());
        drop(ports);
        inputs.forget(OWNER, JOB);
        assert!(inputs.known(OWNER, JOB).is_none());
    }

    #[test]
    fn a_stream_for_a_child_that_waits_for_none_leaves_nothing_behind() {
        let ports = NodeInputs::default().of(OWNER, JOB);
        assert!((0..100).all(|child| ports.take(Ordinal(child)).is_none()));
        assert!(ports.awaited().is_empty());
    }
}
