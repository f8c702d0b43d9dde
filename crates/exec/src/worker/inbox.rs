//! The function's inbox in a worker process: the inbox itself is in the node, which is asked for
//! each message.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use sortie_wire::frame::{write_head, write_message};
use sortie_wire::message_proto::{AnswerKind, CallAnswer, MessageKind};
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
    /// The function takes no more.
    closed: bool,
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
        let mut state = self.state();
        if state.closed {
            // It was on its way when the function closed its inbox.
            drop(state);
            return self.let_go(&come.0);
        }
        state.come = Some(come);
        drop(state);
        self.came.notify_one();
    }

    /// The function does not take what came; a call's sender must not wait for it.
    fn let_go(&self, come: &WorkerMessage) {
        if let WorkerMessage::Message { number, kind: MessageKind::Call } = *come {
            let call = OpenCall { channel: Arc::clone(&self.channel), number };
            call.answer((AnswerKind::Unanswered, Bytes::new()));
        }
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
        let come = {
            let mut state = self.mail.state();
            state.closed = true;
            state.come.take()
        };
        if let Some((come, _)) = come {
            self.mail.let_go(&come);
        }
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

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    use futures_util::FutureExt;

    use super::*;
    use crate::worker::{WorkerReport, WorkerReports};

    /// What the node was told on its end of the channel.
    fn told(mut node: UnixStream) -> Vec<WorkerReport> {
        let (mut bytes, mut reports) = (Vec::new(), WorkerReports::default());
        node.read_to_end(&mut bytes).expect("the other end is closed");
        reports.add(&bytes);
        std::iter::from_fn(|| reports.take().expect("sense")).collect()
    }

    #[tokio::test]
    async fn a_call_that_came_for_a_closed_inbox_is_let_go_of() {
        let call = |number| WorkerMessage::Message { number, kind: MessageKind::Call };
        let send = WorkerMessage::Message { number: 3, kind: MessageKind::Send };
        let (node, own) = UnixStream::pair().expect("a pair");
        own.set_nonblocking(true).expect("a socket");
        let mail = Mail::new(Channel::new(own.into()).expect("a channel"));
        let end = InboxEnd::open(Arc::clone(&mail));
        assert!(end.next().now_or_never().is_none(), "nothing has come");
        mail.came((call(1), Bytes::new()));
        drop(end);
        mail.came((call(2), Bytes::new()));
        mail.came((send, Bytes::new()));
        drop(mail);
        let let_go = |number| WorkerReport::Reply(number, (AnswerKind::Unanswered, Bytes::new()));
        let inbox = WorkerReport::Inbox;
        let expected = [
            inbox(WorkerInbox::Open),
            inbox(WorkerInbox::Want),
            let_go(1),
            inbox(WorkerInbox::Close),
            let_go(2),
        ];
        assert_eq!(told(node), expected);
    }
}
