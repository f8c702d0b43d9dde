//! The executing side of input: where a child's bytes arrive, and how far it has read.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering as Atomic};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes};
use sortie_link::{CloseCode, FrameReceiver, Link};
use sortie_model::{ChildKey, JobInstance, NodeId, Ordinal, limits};
use sortie_wire::DecodeError;
use sortie_wire::frame::{self, Frame};
use sortie_wire::host_proto::{
    InputPiece, InputPosition, InputProgress, InputRead, InputRest, InputStream,
};
use tokio::sync::mpsc;

use crate::data::input_log::Piece;
use crate::data::outbox::Outbox;
use crate::node::NodeShared;

/// Pieces of input that wait for a child on this node; each has at most one record's bytes.
const QUEUED_PIECES: usize = 4;

/// Where the input of one job's children on this node arrives. A child is in it from its start
/// until it reads no more: nothing that an owner sends adds to it.
#[derive(Debug, Default)]
pub(crate) struct InputPorts {
    gates: Mutex<BTreeMap<Ordinal, Arc<Gate>>>,
}

/// The entrance to one child's queue.
#[derive(Debug)]
struct Gate {
    queue: mpsc::Sender<Piece>,
    /// Bytes that were put into the queue. Streams of two connections may meet here: what the
    /// other one brought is skipped.
    received: tokio::sync::Mutex<u64>,
    /// Bytes that the child has.
    read: AtomicU64,
    /// The child knows how its input ended, and asks for nothing more.
    over: AtomicBool,
}

/// Why a stream of input ends here.
#[derive(Debug)]
enum StreamEnd {
    /// The child reads no more.
    Unwanted,
    /// Its end was passed on, or another connection brings the rest.
    Over,
    /// The peer did not keep to the protocol.
    Broken(&'static str),
}

impl InputPorts {
    fn gates(&self) -> MutexGuard<'_, BTreeMap<Ordinal, Arc<Gate>>> {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A child begins to read, or reads on behind so many bytes.
    pub(crate) fn open(
        self: &Arc<Self>,
        ChildKey { job, ordinal }: ChildKey,
        read: u64,
        outbox: &Arc<Outbox>,
    ) -> Inlet {
        let (sender, queue) = mpsc::channel(QUEUED_PIECES);
        let gate = Arc::new(Gate {
            queue: sender,
            received: tokio::sync::Mutex::new(read),
            read: AtomicU64::new(read),
            over: AtomicBool::new(false),
        });
        self.gates().insert(ordinal, Arc::clone(&gate));
        let inlet = Inlet {
            ports: Arc::clone(self),
            outbox: Arc::clone(outbox),
            job,
            ordinal,
            gate,
            queue,
            handed: 0,
            told: read,
        };
        inlet.tell(InputProgress::UpTo(read));
        inlet
    }

    /// Takes in a stream of the child's input, in tests.
    #[cfg(test)]
    pub(super) async fn take_in(&self, ordinal: Ordinal, stream: &mut FrameReceiver) {
        let gate = self.gates().get(&ordinal).cloned();
        if let Some(gate) = gate {
            let end = gate.take_in(stream).await;
            assert!(!matches!(end, StreamEnd::Broken(_)), "{end:?}");
        }
    }

    /// How far its children have read.
    pub(crate) fn positions(&self, job: JobInstance) -> Vec<InputPosition> {
        let position = |(ordinal, gate): (&Ordinal, &Arc<Gate>)| {
            let read = InputProgress::UpTo(gate.read.load(Atomic::Acquire));
            InputPosition { job, ordinal: *ordinal, read }
        };
        let gates = self.gates();
        let open = gates.iter().filter(|(_, gate)| !gate.over.load(Atomic::Acquire));
        open.map(position).collect()
    }
}

/// A child's end of its input from another node; dropping it says that the child reads no more.
#[derive(Debug)]
pub(crate) struct Inlet {
    ports: Arc<InputPorts>,
    outbox: Arc<Outbox>,
    job: JobInstance,
    ordinal: Ordinal,
    gate: Arc<Gate>,
    queue: mpsc::Receiver<Piece>,
    /// Bytes of the last piece: the child has them when it asks for the next one.
    handed: u64,
    /// How far the owner knows that the child has read.
    told: u64,
}

impl Inlet {
    /// The next piece. Cancel safe.
    pub(super) async fn next(&mut self) -> Piece {
        let handed = std::mem::take(&mut self.handed);
        let read = self.gate.read.fetch_add(handed, Atomic::AcqRel) + handed;
        let untold = read - self.told;
        if untold >= limits::INPUT_UNTOLD_BYTES || (untold > 0 && self.queue.is_empty()) {
            self.told = read;
            self.tell(InputProgress::UpTo(read));
        }
        // The gate holds the queue open, so there is always a next piece to wait for.
        let piece = self.queue.recv().await.unwrap_or(Piece::Lost);
        match &piece {
            Piece::Bytes(bytes) => self.handed = bytes.len() as u64,
            // Nothing is asked for any more, however long the child lives on.
            Piece::End | Piece::Lost => {
                self.gate.over.store(true, Atomic::Release);
                self.tell(InputProgress::Closed);
            }
        }
        piece
    }

    fn tell(&self, read: InputProgress) {
        let position = InputPosition { job: self.job, ordinal: self.ordinal, read };
        let children = vec![position];
        self.outbox.say(&InputRead { session: self.outbox.session(), children });
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        self.ports.gates().remove(&self.ordinal);
        self.tell(InputProgress::Closed);
    }
}

impl Gate {
    /// Passes on what is new of a piece that begins at `offset`.
    async fn put(&self, offset: u64, mut bytes: Bytes) -> Result<(), StreamEnd> {
        let mut received = self.received.lock().await;
        let Some(known) = received.checked_sub(offset) else {
            return Err(StreamEnd::Broken("a stream of input leaves bytes out"));
        };
        let known = usize::try_from(known).unwrap_or(usize::MAX);
        if known >= bytes.len() {
            return Ok(());
        }
        bytes.advance(known);
        let length = bytes.len() as u64;
        self.queue.send(Piece::Bytes(bytes)).await.map_err(|_| StreamEnd::Unwanted)?;
        *received += length;
        Ok(())
    }

    /// Passes on what the input ends with at `offset`.
    async fn end(&self, offset: u64, piece: Piece) -> StreamEnd {
        let received = self.received.lock().await;
        // An owner that began anew knows what was read, and not what came.
        let fits = match piece {
            Piece::Lost => offset <= *received,
            _ => offset == *received,
        };
        if !fits {
            return StreamEnd::Broken("an input ends before or behind its last byte");
        }
        // A child that is gone does not mind.
        let _ = self.queue.send(piece).await;
        StreamEnd::Over
    }

    async fn take_in(&self, stream: &mut FrameReceiver) -> StreamEnd {
        loop {
            let frame = match stream.next().await {
                Ok(Some(frame)) => frame,
                Ok(None) => return StreamEnd::Broken("a stream of input ends without its end"),
                // The connection broke, or its owner takes another one: that one brings the rest.
                Err(_) => return StreamEnd::Over,
            };
            let Ok((InputPiece { offset, rest }, bytes)) = frame::open_head(frame) else {
                return StreamEnd::Broken("a piece of input cannot be read");
            };
            if bytes.len() > limits::RECORD_BYTES {
                return StreamEnd::Broken("a piece of input is too long");
            }
            let end = offset.saturating_add(bytes.len() as u64);
            if let Err(why) = self.put(offset, bytes).await {
                return why;
            }
            match rest {
                InputRest::More => {}
                InputRest::Nothing => return self.end(end, Piece::End).await,
                InputRest::Lost => return self.end(end, Piece::Lost).await,
            }
        }
    }
}

/// The inputs of every job that this node executes for others.
#[derive(Debug, Default)]
pub(crate) struct NodeInputs {
    jobs: Mutex<BTreeMap<(NodeId, JobInstance), Arc<InputPorts>>>,
}

impl NodeInputs {
    pub(crate) fn of(&self, owner: NodeId, job: JobInstance) -> Arc<InputPorts> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(jobs.entry((owner, job)).or_default())
    }

    fn gate(&self, owner: NodeId, job: JobInstance, ordinal: Ordinal) -> Option<Arc<Gate>> {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let ports = jobs.get(&(owner, job)).cloned();
        drop(jobs);
        ports?.gates().get(&ordinal).cloned()
    }

    pub(crate) fn forget(&self, owner: NodeId, job: JobInstance) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).remove(&(owner, job));
    }
}

/// Reads one child's input from its owner's stream. Returning before its end stops the stream,
/// which tells the owner that the child reads no more.
pub(crate) async fn receive(
    node: Arc<NodeShared>,
    (link, owner): (Link, NodeId),
    first: Frame,
    mut stream: FrameReceiver,
) {
    let opened: Result<InputStream, DecodeError> = first.open();
    let end = match opened {
        Ok(InputStream { job, ordinal, .. }) => match node.inputs.gate(owner, job, ordinal) {
            Some(gate) => gate.take_in(&mut stream).await,
            None => StreamEnd::Unwanted,
        },
        Err(_) => StreamEnd::Broken("a stream of input cannot be read"),
    };
    if let StreamEnd::Broken(why) = end {
        link.close(CloseCode::GARBAGE, why);
    }
}
