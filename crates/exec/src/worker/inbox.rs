//! The function's inbox in a worker process: the inbox itself is in the node, which is asked for
//! each message.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use sortie_wire::frame::{open_head, write_head, write_message};
use sortie_wire::message_proto::{CallAnswer, MessageKind};
use sortie_wire::worker_proto::{WorkerAnswer, WorkerInbox, WorkerMessage};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::inbox::{CallPort, Delivered, InboxPort};
use crate::task::BoxFuture;
use crate::worker::channel::Channel;

/// The function's end of its inbox.
pub(super) struct InboxEnd {
    shared: Arc<Shared>,
    reading: AbortHandle,
}

struct Shared {
    channel: Arc<Channel>,
    state: Mutex<State>,
    came: Notify,
}

#[derive(Default)]
struct State {
    asked: bool,
    come: Option<(WorkerMessage, Bytes)>,
    over: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn say(channel: &Channel, word: WorkerInbox) {
    let mut frame = Vec::new();
    if write_message(&word, &mut frame).is_ok() {
        channel.say(&frame);
    }
}

impl InboxEnd {
    pub(super) fn open(channel: Arc<Channel>) -> Self {
        say(&channel, WorkerInbox::Open);
        let shared = Arc::new(Shared { channel, state: Mutex::default(), came: Notify::new() });
        let reading = tokio::spawn(read(Arc::clone(&shared))).abort_handle();
        Self { shared, reading }
    }

    async fn next(&self) -> Option<Delivered> {
        loop {
            {
                let mut state = self.shared.state();
                match state.come.take() {
                    Some((WorkerMessage::Message { number, kind }, message)) => {
                        state.asked = false;
                        let call = (kind == MessageKind::Call).then(|| {
                            let channel = Arc::clone(&self.shared.channel);
                            Box::new(OpenCall { channel, number }) as Box<dyn CallPort>
                        });
                        return Some(Delivered { message, call });
                    }
                    Some((WorkerMessage::NoMore, _)) => state.over = true,
                    None => {}
                }
                if state.over {
                    return None;
                }
                if !std::mem::replace(&mut state.asked, true) {
                    say(&self.shared.channel, WorkerInbox::Want);
                }
            }
            self.shared.came.notified().await;
        }
    }
}

async fn read(shared: Arc<Shared>) {
    let mut buffer = BytesMut::new();
    while let Some(frame) = shared.channel.read(&mut buffer).await {
        // The node is the same program: what it says makes sense.
        let Ok(come) = open_head::<WorkerMessage>(frame) else { break };
        shared.state().come = Some(come);
        shared.came.notify_one();
    }
    shared.state().over = true;
    shared.came.notify_one();
}

impl InboxPort for InboxEnd {
    fn next(&mut self) -> BoxFuture<'_, Option<Delivered>> {
        Box::pin(Self::next(self))
    }
}

impl Drop for InboxEnd {
    fn drop(&mut self) {
        self.reading.abort();
        say(&self.shared.channel, WorkerInbox::Close);
    }
}

struct OpenCall {
    channel: Arc<Channel>,
    number: u64,
}

impl CallPort for OpenCall {
    fn answer(&self, (how, value): CallAnswer) {
        let (mut frame, answer) = (Vec::new(), WorkerAnswer { number: self.number, how });
        if write_head(&answer, value.len(), &mut frame).is_ok() {
            frame.extend_from_slice(&value);
            self.channel.say(&frame);
        }
    }
}
