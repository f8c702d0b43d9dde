//! The worker process itself: it calls one function and ends.

mod ask;
mod reach;

use std::any::Any;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use sortie_model::spec::RunIn;
use sortie_model::{Body, NodeName, Ordinal, Reason, Stream, limits};
use sortie_wire::frame::{Frame, PREFIX_BYTES, open_head, read_prefix, write_head};
use sortie_wire::worker_proto::{
    WorkerAnswer, WorkerCheckpoint, WorkerEnd, WorkerOrder, WorkerRecord,
};
use sortie_wire::{Message, TooLarge};
use tokio::signal::unix::{SignalKind, signal};

use self::ask::Asks;
pub use self::reach::WorkerNode;
use super::WORKER_ARGUMENT;
use crate::inbox::InboxPort;
use crate::registry::Registry;
use crate::stop::StopToken;
use crate::sys::processes;
use crate::task::{BoxFuture, NoAnswer, Task, TaskContext, TaskPort, panicked};
use crate::worker::channel::{Channel, Put};
use crate::worker::inbox::{InboxEnd, Mail};

/// Threads of the runtime that the function finds. Two, so that one that never waits does not keep
/// its token from firing.
const THREADS: usize = 2;
/// The exit status of a worker that could not work.
const FAULT: i32 = 70;

/// Runs one of these functions and does not return, if this program was executed to be a worker;
/// else returns at once. To be called before there is another thread.
pub fn run_if_asked(registry: &Registry) {
    if std::env::args_os().nth(1).is_none_or(|argument| argument != WORKER_ARGUMENT) {
        return;
    }
    let Some(channel) = processes::take_channel() else { return };
    let status = match work(channel, registry) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("a worker process cannot work: {error}");
            FAULT
        }
    };
    // Whatever the function left running ends here.
    std::process::exit(status);
}

fn work(channel: OwnedFd, registry: &Registry) -> io::Result<()> {
    let mut channel = UnixStream::from(channel);
    let order = read_order(&mut channel)?;
    channel.set_nonblocking(true)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
    let result = runtime.block_on(run(channel.into(), order, registry));
    // Nothing is waited for: a blocking call may never return.
    runtime.shutdown_background();
    result
}

fn read_order(channel: &mut UnixStream) -> io::Result<WorkerOrder> {
    let mut prefix = [0; PREFIX_BYTES];
    channel.read_exact(&mut prefix)?;
    let (kind, length) = read_prefix(prefix, limits::FRAME_BYTES).map_err(io::Error::other)?;
    let mut body = vec![0; length];
    channel.read_exact(&mut body)?;
    Frame { kind, body: body.into() }.open().map_err(io::Error::other)
}

async fn run(channel: OwnedFd, order: WorkerOrder, registry: &Registry) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let channel = Channel::new(channel)?;
    let port = Arc::new(Port {
        mail: Mail::new(Arc::clone(&channel)),
        way: Arc::new(WorkerNode::new(Arc::clone(&channel))),
        channel,
        token: StopToken::default(),
        asks: Asks::default(),
        ordinal: order.ordinal,
        node: order.node,
        opened: AtomicBool::new(false),
        resumed: Mutex::new(order.resumed),
    });
    let told = Arc::clone(&port);
    tokio::spawn(async move {
        terminate.recv().await;
        told.token.fire();
    });
    tokio::spawn(Arc::clone(&port.channel).keep_flushing());
    let listening = Arc::clone(&port);
    tokio::spawn(async move { listening.hear().await });
    let end = match registry.find(&order.name, order.types, RunIn::Thread) {
        Ok(task) => call(task, &port, order.input).await,
        Err(error) => WorkerEnd::Failed { kind: "worker".to_owned(), message: error.to_string() },
    };
    port.channel.end(&end).await;
    Ok(())
}

/// Calls the function on a thread of the runtime, where it may do what it does inside a node.
async fn call(task: Arc<dyn Task>, port: &Arc<Port>, input: Bytes) -> WorkerEnd {
    let context = TaskContext::new(Arc::clone(port) as Arc<_>);
    match tokio::spawn(async move { task.call(context, &input).await }).await {
        Ok(Ok(body)) => WorkerEnd::Returned { value: body.map(|body| body.bytes()) },
        Ok(Err(Reason::Error { kind, message })) => WorkerEnd::Failed { kind, message },
        Ok(Err(Reason::Limit { .. })) => WorkerEnd::TooLarge,
        Ok(Err(reason)) => {
            WorkerEnd::Failed { kind: reason.code().to_owned(), message: reason.to_string() }
        }
        Err(error) => {
            let reason = match error.try_into_panic() {
                Ok(panic) => panicked(panic.as_ref()),
                Err(error) => Reason::Panic { message: error.to_string() },
            };
            match reason {
                Reason::Panic { message } => WorkerEnd::Panicked { message },
                other => WorkerEnd::Panicked { message: other.to_string() },
            }
        }
    }
}

/// What the function reaches of its child: the channel to the node.
struct Port {
    channel: Arc<Channel>,
    mail: Arc<Mail>,
    /// To jobs below the child.
    way: Arc<WorkerNode>,
    token: StopToken,
    asks: Asks,
    ordinal: Ordinal,
    node: NodeName,
    opened: AtomicBool,
    /// What an incarnation before came to.
    resumed: Mutex<Option<Bytes>>,
}

impl Port {
    /// Reads what the node says until it is gone.
    async fn hear(&self) {
        let mut buffer = BytesMut::new();
        while let Some(frame) = self.channel.read(&mut buffer).await {
            // The node is the same program: what it says makes sense.
            if frame.kind == WorkerAnswer::KIND {
                let Ok(answer) = frame.open() else { break };
                self.asks.take(answer);
            } else {
                let Ok(message) = open_head(frame) else { break };
                self.mail.came(message);
            }
        }
        self.mail.close();
    }

    fn resumed(&self) -> MutexGuard<'_, Option<Bytes>> {
        self.resumed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn checkpoint_frame(value: &Bytes) -> Result<Vec<u8>, TooLarge> {
    let mut frame = Vec::with_capacity(value.len() + PREFIX_BYTES * 2);
    write_head(&WorkerCheckpoint, value.len(), &mut frame)?;
    frame.extend_from_slice(value);
    Ok(frame)
}

fn record_frame(stream: Stream, value: &Bytes) -> Result<Vec<u8>, TooLarge> {
    let mut frame = Vec::with_capacity(value.len() + PREFIX_BYTES * 2);
    write_head(&WorkerRecord { stream }, value.len(), &mut frame)?;
    frame.extend_from_slice(value);
    Ok(frame)
}

impl TaskPort for Port {
    fn try_write(&self, stream: Stream, body: Body) -> Result<(), Body> {
        // A value that is too large for a frame was refused before.
        let Ok(frame) = record_frame(stream, &body.bytes()) else { return Ok(()) };
        match self.channel.put(&frame) {
            Put::Done => Ok(()),
            Put::Blocked => Err(body),
        }
    }

    fn write(&self, stream: Stream, body: Body) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Ok(frame) = record_frame(stream, &body.bytes()) {
                self.channel.write(&frame).await;
            }
        })
    }

    fn cancelled(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.token.fired())
    }

    fn is_cancelled(&self) -> bool {
        self.token.has_fired()
    }

    fn reach(self: Arc<Self>) -> Option<Arc<dyn Any + Send + Sync>> {
        Some(Arc::clone(&self.way) as Arc<_>)
    }

    fn ask(&self, prompt: String) -> BoxFuture<'_, Result<Bytes, NoAnswer>> {
        Box::pin(self.ask_node(prompt))
    }

    fn checkpoint(&self, value: Bytes) -> BoxFuture<'_, ()> {
        *self.resumed() = None;
        // Whoever suspends the child freezes this process: there is nothing to wait for.
        Box::pin(async move {
            if let Ok(frame) = checkpoint_frame(&value) {
                self.channel.write(&frame).await;
            }
        })
    }

    fn resumed_from(&self) -> Option<Bytes> {
        self.resumed().clone()
    }

    fn environment(&self) -> BTreeMap<OsString, OsString> {
        std::env::vars_os().collect()
    }

    fn ordinal(&self) -> Ordinal {
        self.ordinal
    }

    fn node(&self) -> &NodeName {
        &self.node
    }

    fn inbox(&self) -> Option<Box<dyn InboxPort>> {
        let first = !self.opened.swap(true, Ordering::AcqRel);
        first.then(|| Box::new(InboxEnd::open(Arc::clone(&self.mail))) as Box<dyn InboxPort>)
    }
}
