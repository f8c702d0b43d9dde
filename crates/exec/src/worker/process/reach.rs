//! A worker's way to its node, for jobs below its child.

use std::fmt;
use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use sortie_model::limits;
use sortie_wire::frame::write_message;
use sortie_wire::worker_proto::WorkerExchange;
use tokio::sync::Semaphore;

use crate::worker::channel::Channel;
use crate::worker::socket::{SocketReceiver, SocketSender, directions, pair};

/// The node that a background function runs on, for the function's own use: what
/// [`TaskPort::reach`](crate::task::TaskPort::reach) gives in a worker process.
pub struct WorkerNode {
    channel: Arc<Channel>,
    places: Arc<Semaphore>,
}

impl fmt::Debug for WorkerNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerNode").finish_non_exhaustive()
    }
}

impl WorkerNode {
    pub(super) fn new(channel: Arc<Channel>) -> Self {
        Self { channel, places: Arc::new(Semaphore::new(limits::EXCHANGES_PER_WORKER)) }
    }

    /// Begins an exchange with the node, which waits for a request on it. Waits while
    /// [`limits::EXCHANGES_PER_WORKER`] are open.
    ///
    /// # Errors
    /// When this process has too many descriptors open.
    ///
    /// # Cancel safety
    /// Cancel safe: an exchange that was begun ends.
    pub async fn open(&self) -> io::Result<(SocketSender, SocketReceiver)> {
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(io::Error::other)?;
        let (ours, theirs) = pair()?;
        let exchange = directions(ours, place)?;
        let mut frame = Vec::new();
        write_message(&WorkerExchange, &mut frame).map_err(io::Error::other)?;
        self.channel.give(&frame, theirs.as_fd()).await;
        Ok(exchange)
    }
}
