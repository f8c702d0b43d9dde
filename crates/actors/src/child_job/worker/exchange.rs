//! What a background function asks its node about jobs of its own: each request comes over a socket
//! of its own. What it may ask is `sortie_engine::nest`'s to say.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use sortie_engine::nest::{WorkerAsk, worker_ask};
use sortie_exec::worker::socket::{SocketReceiver, SocketSender, directions};
use sortie_model::limits;
use sortie_wire::session_proto::{Answer, Request, SessionRef};
use tokio::sync::Semaphore;

use crate::data::above::{AboveError, WayAbove};
use crate::data::exchange::{ExchangeError, ServerEnd};
use crate::data::nested::refusal;
use crate::data::port::ChildPort;
use crate::serve;

/// The exchanges of one worker. Each ends by itself when the worker does.
pub(super) struct Exchanges {
    port: Arc<ChildPort>,
    places: Arc<Semaphore>,
}

impl Exchanges {
    pub(super) fn new(port: Arc<ChildPort>) -> Self {
        Self { port, places: Arc::new(Semaphore::new(limits::EXCHANGES_PER_WORKER)) }
    }

    /// The worker has ended: nothing more is served.
    pub(super) fn end(&self) {
        self.places.close();
    }

    /// Serves what came, until the worker has ended. It has no more open than there are places, so
    /// what is waited for here is at most the end of some that it has given up.
    pub(super) async fn serve(&self, sockets: Vec<OwnedFd>) {
        for socket in sockets {
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return };
            let Ok((sender, receiver)) = directions(socket, place) else { continue };
            let port = Arc::clone(&self.port);
            self.port.job().host_node.runtime.spawn(async move {
                // A worker that is gone has nobody left to be told.
                let _ = serve_one(port, sender, receiver).await;
            });
        }
    }
}

async fn serve_one(
    port: Arc<ChildPort>,
    sender: SocketSender,
    receiver: SocketReceiver,
) -> Result<(), ExchangeError> {
    let (request, end) = ServerEnd::accept(sender, receiver).await?;
    let own = port.nest().below().map(|session| session.identity.instance);
    let answer = match worker_ask(&request, own) {
        Ok(WorkerAsk::OfItsOwn) => {
            let node = Arc::clone(&port.job().host_node);
            drop(port);
            let by = node.asker();
            serve::serve(node, by, request, end).await;
            return Ok(());
        }
        Ok(WorkerAsk::OfTheOneAbove) => {
            let (way, session) = WayAbove::of(&port);
            drop(port);
            return relay(&way, Request { session: SessionRef::Instance(session), ..request }, end)
                .await;
        }
        Ok(WorkerAsk::Open) => match port.open_below().await {
            Ok(session) => Answer::Session(session.view(&session.node.asker())),
            Err(error) => Answer::Refused(error),
        },
        Err(refused) => Answer::Refused(refusal(refused)),
    };
    end.sender.finish_with(answer).await
}

/// Brings a request to the session above, and its answers back.
async fn relay(way: &WayAbove, request: Request, end: ServerEnd) -> Result<(), ExchangeError> {
    let ServerEnd { mut sender, receiver: _receiver } = end;
    let mut above = tokio::select! {
        biased;
        () = sender.abandoned() => return Ok(()),
        opened = way.open(request) => match opened {
            Ok(above) => above,
            Err(AboveError::Refused(error)) => {
                return sender.finish_with(Answer::Refused(error)).await;
            }
            Err(AboveError::Exchange(error)) => return Err(error),
        },
    };
    loop {
        let next = tokio::select! {
            biased;
            () = sender.abandoned() => return Ok(()),
            next = above.receiver.next() => next?,
        };
        match next {
            Some(message) => sender.send(message).await?,
            None => return sender.finish().await,
        }
    }
}
