//! The function's inbox in a worker process: the inbox itself is in the node, which is asked for
//! each message.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use sortie_wire::frame::{write_head, write_message};
use sortie_wire::message_proto::{CallAnswer, MessageKind};
use sortie_wire::worker_proto::{WorkerInbox, WorkerMessage, WorkerReply};
use tokio::sync::Notify;

use crate::inbox::{CallPort, Delivered, InboxPort};
use crate::task::BoxFuture;
use crate::worker::channel::Channel;

/// The function's end of its inbox.
pub(super) struct InboxEnd {
    mail: Arc<Mail>,
}

/// What the node says of the inbox.
pub(super) struct Mail {
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

impl Mail {
    pub(super) fn new(channel: Arc<Channel>) -> Arc<Self> {
        Arc::new(Self { channel, state: Mutex::default(), came: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was asked for.
    pub(super) fn came(&self, come: (WorkerMessage, Bytes)) {
        self.state().come = Some(come);
        self.came.notify_one();
    }

    /// The node is gone.
    pub(super) fn close(&self) {
        self.state().over = true;
        self.came.notify_one();
    }
}

fn say(channel: &Channel, word: WorkerInbox) {
    let mut frame = Vec::new();
    if write_message(&word, &mut frame).is_ok() {
        channel.say(&frame);
    }
}

impl InboxEnd {
    pub(super) fn open(mail: Arc<Mail>) -> Self {
        say(&mail.channel, WorkerInbox::Open);
        Self { mail }
    }

    async fn next(&self) -> Option<Delivered> {
        loop {
            {
                let mut state = self.mail.state();
                match state.come.take() {
                    Some((WorkerMessage::Message { number, kind }, message)) => {
                        state.asked = false;
                        let call = (kind == MessageKind::Call).then(|| {
                            let channel = Arc::clone(&self.mail.channel);
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
                    say(&self.mail.channel, WorkerInbox::Want);
                }
            }
            self.mail.came.notified().await;
        }
    }
}

impl InboxPort for InboxEnd {
    fn next(&mut self) -> BoxFuture<'_, Option<Delivered>> {
        Box::pin(Self::next(self))
    }
}

impl Drop for InboxEnd {
    fn drop(&mut self) {
        say(&self.mail.channel, WorkerInbox::Close);
    }
}

struct OpenCall {
    channel: Arc<Channel>,
    number: u64,
}

impl CallPort for OpenCall {
    fn answer(&self, (how, value): CallAnswer) {
        let (mut frame, answer) = (Vec::new(), WorkerReply { number: self.number, how });
        if write_head(&answer, value.len(), &mut frame).is_ok() {
            frame.extend_from_slice(&value);
            self.channel.say(&frame);
        }
    }
}
