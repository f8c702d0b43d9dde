//! The worker process itself: it calls one function and ends.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes};
use rustix::io::Errno;
use sortie_model::spec::RunIn;
use sortie_model::{Body, NodeName, Ordinal, Reason, Stream, limits};
use sortie_wire::TooLarge;
use sortie_wire::frame::{Frame, PREFIX_BYTES, read_prefix, write_head, write_message};
use sortie_wire::worker_proto::{WorkerEnd, WorkerOrder, WorkerRecord};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use super::WORKER_ARGUMENT;
use crate::registry::Registry;
use crate::sys::channel::send;
use crate::sys::processes;
use crate::sys::watch::watch;
use crate::task::{BoxFuture, Task, TaskContext, TaskPort, panicked};

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
    let port = Arc::new(Port {
        channel: watch(channel, Interest::WRITABLE)?,
        rest: Mutex::default(),
        left: Notify::new(),
        told: AtomicBool::new(false),
        stopping: Notify::new(),
        ordinal: order.ordinal,
        node: order.node,
    });
    let told = Arc::clone(&port);
    tokio::spawn(async move {
        terminate.recv().await;
        told.tell_stop();
    });
    let flushing = Arc::clone(&port);
    tokio::spawn(async move {
        loop {
            flushing.left.notified().await;
            flushing.flush().await;
        }
    });
    let end = match registry.find(&order.name, order.types, RunIn::Thread) {
        Ok(task) => call(task, &port, order.input).await,
        Err(error) => WorkerEnd::Failed { kind: "worker".to_owned(), message: error.to_string() },
    };
    port.end(&end).await;
    Ok(())
}

/// Calls the function on a thread of the runtime, where it may do what it does inside a node.
async fn call(task: Arc<dyn Task>, port: &Arc<Port>, input: Bytes) -> WorkerEnd {
    let context = TaskContext::new(Arc::clone(port) as Arc<_>);
    match tokio::spawn(async move { task.call(context, &input).await }).await {
        Ok(Ok(value)) => WorkerEnd::Returned { value },
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
    channel: AsyncFd<OwnedFd>,
    /// The end of a frame whose beginning was written.
    rest: Mutex<Bytes>,
    /// There is a rest.
    left: Notify,
    told: AtomicBool,
    stopping: Notify,
    ordinal: Ordinal,
    node: NodeName,
}

/// Whether something could be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Put {
    /// It was, or nobody listens any more: then the guardian ends this process.
    Done,
    /// The channel is full.
    Blocked,
}

impl Port {
    fn rest(&self) -> MutexGuard<'_, Bytes> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a frame, unless nothing of it can be written now. What the channel does not take of
    /// it follows by itself.
    fn put(&self, frame: &[u8]) -> Put {
        let mut rest = self.rest();
        if self.write_rest(&mut rest) == Put::Blocked {
            return Put::Blocked;
        }
        match send(self.channel.get_ref(), frame, &[]) {
            Ok(sent) => {
                *rest = Bytes::copy_from_slice(frame.get(sent..).unwrap_or_default());
                if !rest.is_empty() {
                    self.left.notify_one();
                }
                Put::Done
            }
            Err(Errno::AGAIN) => Put::Blocked,
            Err(_) => Put::Done,
        }
    }

    fn write_rest(&self, rest: &mut Bytes) -> Put {
        while !rest.is_empty() {
            match send(self.channel.get_ref(), rest, &[]) {
                Ok(sent) => rest.advance(sent),
                Err(Errno::AGAIN) => return Put::Blocked,
                Err(_) => rest.clear(),
            }
        }
        // Gives the frame's memory back.
        *rest = Bytes::new();
        Put::Done
    }

    /// Tries until it is done.
    async fn wait(&self, attempt: impl Fn() -> Put) {
        while let Ok(mut ready) = self.channel.writable().await {
            match attempt() {
                Put::Done => return,
                Put::Blocked => ready.clear_ready(),
            }
        }
    }

    async fn flush(&self) {
        self.wait(|| self.write_rest(&mut self.rest())).await;
    }

    async fn end(&self, end: &WorkerEnd) {
        let mut frame = Vec::new();
        if write_message(end, &mut frame).is_err() {
            frame.clear();
            // Has no content that could be too large.
            let _ = write_message(&WorkerEnd::TooLarge, &mut frame);
        }
        self.wait(|| self.put(&frame)).await;
        self.flush().await;
    }

    fn tell_stop(&self) {
        self.told.store(true, Ordering::Release);
        self.stopping.notify_waiters();
    }
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
        let Ok(frame) = record_frame(stream, body.bytes()) else { return Ok(()) };
        match self.put(&frame) {
            Put::Done => Ok(()),
            Put::Blocked => Err(body),
        }
    }

    fn write(&self, stream: Stream, body: Body) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Ok(frame) = record_frame(stream, body.bytes()) {
                self.wait(|| self.put(&frame)).await;
            }
        })
    }

    fn cancelled(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            loop {
                let stopping = self.stopping.notified();
                tokio::pin!(stopping);
                stopping.as_mut().enable();
                if self.is_cancelled() {
                    return;
                }
                stopping.await;
            }
        })
    }

    fn is_cancelled(&self) -> bool {
        self.told.load(Ordering::Acquire)
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
}
