//! One child's inbox on this node, between its function and its owner.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use sortie_engine::inbox::{BadMessage, Inbox, Taken};
use sortie_exec::inbox::{CallPort, Delivered, InboxPort};
use sortie_exec::task::BoxFuture;
use sortie_model::limits;
use sortie_wire::message_proto::{
    CallAnswer, ChildLife, FromChild, InboxWord, MessageKind, Posted,
};
use tokio::sync::Notify;

use crate::data::messages::inboxes::{Inboxes, OwnerLife};

/// The inbox of one child in one life.
#[derive(Debug)]
pub(crate) struct Gate {
    life: ChildLife,
    inbox: Mutex<Inbox>,
    /// Something came for the function, or its child was told to stop.
    arrived: Notify,
    /// The owner heard something, or never will.
    heard: Notify,
    stopping: AtomicBool,
    inboxes: Arc<Inboxes>,
}

impl Gate {
    pub(super) fn new(life: ChildLife, inboxes: Arc<Inboxes>) -> Arc<Self> {
        let (arrived, heard, stopping) = (Notify::new(), Notify::new(), AtomicBool::new(false));
        Arc::new(Self { life, inbox: Mutex::default(), arrived, heard, stopping, inboxes })
    }

    pub(super) const fn life(&self) -> ChildLife {
        self.life
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The owner says something.
    ///
    /// # Errors
    /// [`BadMessage`].
    pub(super) fn on_posted(&self, what: Posted, message: Bytes) -> Result<(), BadMessage> {
        self.inbox().on_posted(what, message)?;
        match what {
            Posted::Message { .. } => {
                self.arrived.notify_one();
                self.inboxes.has_news(self.life);
            }
            Posted::Answered { .. } | Posted::Closed => self.heard.notify_one(),
        }
        Ok(())
    }

    /// What is to be told to the owner.
    pub(super) fn words(&self) -> Vec<(FromChild, Bytes)> {
        let child = self.life;
        let words = self.inbox().words();
        let word = |(what, value): (InboxWord, Bytes)| (FromChild { child, what }, value);
        words.into_iter().map(word).collect()
    }

    pub(super) fn tell_again(&self, owner: OwnerLife) {
        let mut inbox = self.inbox();
        if owner == OwnerLife::Another {
            inbox.forget_calls();
        }
        inbox.tell_again();
    }

    pub(super) fn nobody_hears(&self) {
        self.heard.notify_one();
    }

    /// The child was told to stop: once nothing is left, its function gets nothing more.
    pub(crate) fn tell_stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.arrived.notify_one();
    }

    /// The next message; none once the child was told to stop and nothing is left, or the function
    /// takes no more. Asked by one at a time. Cancel safe.
    pub(crate) async fn next(&self) -> Option<Taken> {
        loop {
            // By itself: nobody holds an inbox who locks what holds all of them.
            let taken = self.inbox().take();
            if let Some(taken) = taken {
                self.inboxes.has_news(self.life);
                return Some(taken);
            }
            if self.stopping.load(Ordering::Acquire) {
                self.close();
                return None;
            }
            self.arrived.notified().await;
        }
    }

    /// The function answers a call, or lets go of it.
    pub(crate) fn answer(&self, number: u64, answer: CallAnswer) {
        self.inbox().answer(number, answer);
        self.inboxes.has_news(self.life);
    }

    /// The function takes no more.
    pub(crate) fn close(&self) {
        self.inbox().close();
        self.tell_stop();
        self.inboxes.has_news(self.life);
    }

    /// The function has ended: waits until its owner has heard what became of each message, so that
    /// the child's end does not overtake it. An owner that does not hear is not waited for.
    pub(crate) async fn settle(&self) {
        self.inbox().end();
        self.inboxes.has_news(self.life);
        let settled = async {
            while !self.inbox().is_settled() && self.inboxes.is_heard() {
                self.heard.notified().await;
            }
        };
        // Whatever was not heard by then fails with the child's end.
        let _ = tokio::time::timeout(limits::INBOX_CLOSE_TIME, settled).await;
    }

    /// The child has ended.
    pub(crate) fn end(&self) {
        self.inboxes.remove(self.life);
    }
}

/// The function's end of its inbox.
pub(crate) struct FunctionEnd(pub(crate) Arc<Gate>);

impl InboxPort for FunctionEnd {
    fn next(&mut self) -> BoxFuture<'_, Option<Delivered>> {
        Box::pin(async {
            let Taken { number, kind, message } = self.0.next().await?;
            let gate = Arc::clone(&self.0);
            let call = (kind == MessageKind::Call)
                .then(|| Box::new(OpenCall { gate, number }) as Box<dyn CallPort>);
            Some(Delivered { message, call })
        })
    }
}

impl Drop for FunctionEnd {
    fn drop(&mut self) {
        self.0.close();
    }
}

struct OpenCall {
    gate: Arc<Gate>,
    number: u64,
}

impl CallPort for OpenCall {
    fn answer(&self, answer: CallAnswer) {
        self.gate.answer(self.number, answer);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use futures_util::FutureExt;
    use sortie_model::{ChildIncarnation, JobInstance, Ordinal, SessionInstance};
    use uuid::Uuid;

    use super::*;
    use crate::data::attachment::tests::link;
    use crate::data::messages::inboxes::Way;

    const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

    fn life() -> ChildLife {
        let (job, incarnation) = (JobInstance(Uuid::from_u128(7)), ChildIncarnation(0));
        ChildLife { job, ordinal: Ordinal(0), incarnation }
    }

    #[tokio::test]
    async fn who_takes_a_message_holds_no_inbox_while_all_inboxes_are_locked() {
        let (link, _ends) = link().await;
        let inboxes = Inboxes::new(SessionInstance(Uuid::from_u128(1)), Way::There(link));
        let gate = inboxes.open(life());
        let message = Posted::Message { number: 1, kind: MessageKind::Send };
        gate.on_posted(message, Bytes::from_static(b"x")).expect("room");
        // As a new connection does, which then asks each inbox what it has to say.
        let all = inboxes.lock_all();
        let taker = Arc::clone(&gate);
        let taker = std::thread::spawn(move || taker.next().now_or_never().flatten());
        let until = Instant::now() + PATIENCE;
        let one = InboxWord::Open { accepted: 1, taken: 1 };
        let says_so = |inbox: &mut Inbox| inbox.words().iter().any(|(word, _)| *word == one);
        let is_taken = || gate.inbox.try_lock().is_ok_and(|mut inbox| says_so(&mut inbox));
        while !is_taken() {
            assert!(Instant::now() < until, "who takes a message waits with its inbox locked");
            std::thread::yield_now();
        }
        drop(all);
        assert_eq!(taker.join().expect("no panic").map(|taken| taken.number), Some(1));
    }
}
