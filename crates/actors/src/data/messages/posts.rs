//! Messages to the children of one session that wait at their owner, or are on their way.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use sortie_engine::parent_job::Lives;
use sortie_engine::post::{FalseWord, Over, Post, PostEffect, Sending, Ticket, TooManySenders};
use sortie_model::{ChildIncarnation, ChildKey, Incarnation, NodeId, Ordinal, limits};
use sortie_wire::message_proto::{
    ChildLife, FromChild, InboxWord, MessageKind, Posted, ToChild, Undelivered,
};
use tokio::sync::{Notify, mpsc};

use crate::data::job::JobShared;

/// What a sender is told, in this order: at most one of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// The message is in the inbox.
    Accepted,
    /// The call was answered.
    Answered(Bytes),
    /// The message, or the answer to it, does not come.
    Failed(Undelivered),
}

/// What a sender is told at most: that its message was accepted, and what became of the call.
const TOLD: usize = 2;

/// The children of one session that messages are sent to, or whose inboxes are open.
#[derive(Debug, Default)]
pub(crate) struct Posts {
    children: Mutex<BTreeMap<ChildKey, Arc<ChildPost>>>,
}

/// What is on its way to one child.
#[derive(Debug)]
pub(crate) struct ChildPost {
    key: ChildKey,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    post: Post,
    senders: BTreeMap<Ticket, mpsc::Sender<Told>>,
    courier: Option<Arc<Courier>>,
    /// In which life the child's node was when its inbox spoke last.
    life: Option<Incarnation>,
    /// Whether the child waits in its courier's line.
    in_line: bool,
}

/// A sender's message; dropping it abandons it.
#[derive(Debug)]
pub(crate) struct Letter {
    post: Arc<ChildPost>,
    ticket: Ticket,
    told: mpsc::Receiver<Told>,
}

impl Letter {
    /// What the sender is told next. Cancel safe.
    pub(crate) async fn told(&mut self) -> Told {
        // A session that is gone tells nobody.
        let lost =
            Told::Failed(Over::Ended.undelivered(sortie_wire::message_proto::Arrived::Maybe));
        self.told.recv().await.unwrap_or(lost)
    }
}

impl Drop for Letter {
    fn drop(&mut self) {
        let mut state = self.post.state();
        state.senders.remove(&self.ticket);
        state.post.abandon(self.ticket);
    }
}

impl Posts {
    fn children(&self) -> MutexGuard<'_, BTreeMap<ChildKey, Arc<ChildPost>>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, key: ChildKey) -> Arc<ChildPost> {
        let make = || Arc::new(ChildPost { key, state: Mutex::default() });
        Arc::clone(self.children().entry(key).or_insert_with(make))
    }

    /// A message to a child of that job.
    ///
    /// # Errors
    /// [`TooManySenders`].
    pub(crate) fn enter(
        &self,
        job: &JobShared,
        ordinal: Ordinal,
        message: (MessageKind, Bytes),
    ) -> Result<Letter, TooManySenders> {
        let key = ChildKey { job: job.identity.instance, ordinal };
        let letter = self.of(key).enter(message)?;
        // It may have ended before anybody was there to be told, and its line be forgotten.
        if let Some(lives) = job.rows().lives(ordinal) {
            self.tell(&letter.post, lives);
        }
        Ok(letter)
    }

    /// The inbox of a child on that node says something.
    ///
    /// # Errors
    /// [`FalseWord`].
    pub(super) fn on_word(
        &self,
        (job, node): (&JobShared, NodeId),
        courier: &Arc<Courier>,
        (from, value): (FromChild, Bytes),
    ) -> Result<(), FalseWord> {
        let ChildLife { ordinal, incarnation, .. } = from.child;
        // What has ended, or was said to run elsewhere, has nothing to say any more.
        if !job.rows().lives_on(ordinal, incarnation, node) {
            return Ok(());
        }
        let post = self.of(from.child.key());
        post.on_word(courier, incarnation, (from.what, value))?;
        self.look(job, ordinal);
        Ok(())
    }

    /// A child changed: whoever waits for a life that is over is told.
    pub(crate) fn look(&self, job: &JobShared, ordinal: Ordinal) {
        let key = ChildKey { job: job.identity.instance, ordinal };
        let post = self.children().get(&key).cloned();
        if let (Some(post), Some(lives)) = (post, job.rows().lives(ordinal)) {
            self.tell(&post, lives);
        }
    }

    /// Tells who waits for a life that is over.
    fn tell(&self, post: &Arc<ChildPost>, lives: Lives) {
        if !lives.more {
            self.children().remove(&post.key);
        }
        post.apply(|post, effects| {
            if let Some(over) = lives.over {
                post.on_over(over, lives.why, effects);
            }
            if !lives.more {
                post.on_end(lives.why, effects);
            }
        });
    }

    /// The node of these children is lost, and they may run on there: nobody waits for them.
    pub(crate) fn silent(&self, theirs: impl Fn(ChildKey) -> bool) {
        let posts: Vec<_> = self.children().values().map(Arc::clone).collect();
        for post in posts.into_iter().filter(|post| theirs(post.key)) {
            post.apply(|post, effects| post.on_silent(effects));
        }
    }

    /// The session is over.
    pub(crate) fn end(&self) {
        let children = std::mem::take(&mut *self.children());
        for post in children.into_values() {
            post.apply(|post, effects| {
                post.on_over(ChildIncarnation(u32::MAX), Over::Ended, effects);
                post.on_end(Over::Ended, effects);
            });
        }
    }
}

impl ChildPost {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(
        self: Arc<Self>,
        (kind, message): (MessageKind, Bytes),
    ) -> Result<Letter, TooManySenders> {
        let (sender, told) = mpsc::channel(TOLD);
        let ticket = {
            let mut state = self.state();
            let ticket = state.post.enter(kind, message)?;
            state.senders.insert(ticket, sender);
            state.line_up(&self);
            ticket
        };
        Ok(Letter { post: self, ticket, told })
    }

    fn apply(&self, change: impl FnOnce(&mut Post, &mut Vec<PostEffect>)) {
        let (mut state, mut effects) = (self.state(), Vec::new());
        change(&mut state.post, &mut effects);
        state.tell(effects);
    }

    fn on_word(
        self: &Arc<Self>,
        courier: &Arc<Courier>,
        incarnation: ChildIncarnation,
        said: (InboxWord, Bytes),
    ) -> Result<(), FalseWord> {
        let (mut state, mut effects) = (self.state(), Vec::new());
        if state.life.replace(courier.life).is_some_and(|before| before != courier.life) {
            state.post.on_reborn(&mut effects);
        }
        let result = state.post.on_word((incarnation, courier.id), said, &mut effects);
        state.tell(effects);
        result?;
        if state.courier.as_ref().is_none_or(|known| !Arc::ptr_eq(known, courier)) {
            state.courier = Some(Arc::clone(courier));
            state.in_line = false;
        }
        state.line_up(self);
        Ok(())
    }

    /// The next message that goes with that courier.
    fn next(self: &Arc<Self>, courier: &Courier) -> Option<(ToChild, Bytes)> {
        let mut state = self.state();
        let Some(sending) = state.post.next(courier.id) else {
            state.in_line = false;
            return None;
        };
        // Back to the end of the line: children are served in turn.
        courier.add(Errand::Visit(Arc::clone(self)));
        let Sending { incarnation, number, kind, message } = sending;
        let ChildKey { job, ordinal } = self.key;
        let what = Posted::Message { number, kind };
        Some((ToChild { child: ChildLife { job, ordinal, incarnation }, what }, message))
    }
}

impl State {
    fn tell(&mut self, effects: Vec<PostEffect>) {
        for effect in effects {
            let (ticket, told) = match effect {
                PostEffect::Accepted(ticket) => (ticket, Told::Accepted),
                PostEffect::Answered(ticket, (_, value)) => (ticket, Told::Answered(value)),
                PostEffect::Failed(ticket, why) => (ticket, Told::Failed(why)),
            };
            if let Some(sender) = self.senders.get(&ticket) {
                // There is room for all that one sender is told.
                let _ = sender.try_send(told);
            }
        }
    }

    fn line_up(&mut self, post: &Arc<ChildPost>) {
        if let (Some(courier), false) = (&self.courier, self.in_line) {
            self.in_line = true;
            courier.add(Errand::Visit(Arc::clone(post)));
        }
    }
}

/// What goes to the inboxes on one node, over one connection.
#[derive(Debug)]
pub(super) struct Courier {
    /// The connection's number.
    id: u64,
    /// The life of the node at its other end.
    life: Incarnation,
    line: Mutex<Line>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Line {
    errands: VecDeque<Errand>,
    /// How many of them are words.
    words: usize,
}

#[derive(Debug)]
enum Errand {
    /// That is to be said.
    Say(ToChild),
    /// That child may have messages to be sent.
    Visit(Arc<ChildPost>),
}

/// More is to be said than anybody has reason to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {} words for inboxes wait", limits::INBOX_ERRANDS)]
pub(super) struct TooMuchToSay;

impl Courier {
    pub(super) fn new(id: u64, life: Incarnation) -> Arc<Self> {
        Arc::new(Self { id, life, line: Mutex::default(), news: Notify::new() })
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, errand: Errand) {
        let mut line = self.line();
        line.words += usize::from(matches!(errand, Errand::Say(_)));
        line.errands.push_back(errand);
        drop(line);
        self.news.notify_one();
    }

    /// Says that the inbox was heard, where it waits for that.
    ///
    /// # Errors
    /// [`TooMuchToSay`].
    pub(super) fn confirm(&self, from: &FromChild) -> Result<(), TooMuchToSay> {
        let what = match from.what {
            InboxWord::Open { .. } => return Ok(()),
            InboxWord::Closed { .. } => Posted::Closed,
            InboxWord::Answer { number, .. } => Posted::Answered { number },
        };
        if self.line().words >= limits::INBOX_ERRANDS {
            return Err(TooMuchToSay);
        }
        self.add(Errand::Say(ToChild { child: from.child, what }));
        Ok(())
    }

    /// What is to be said next, once there is something. Cancel safe.
    pub(super) async fn next(&self) -> (ToChild, Bytes) {
        loop {
            let errand = self.line().errands.pop_front();
            match errand {
                Some(Errand::Say(what)) => {
                    self.line().words -= 1;
                    return (what, Bytes::new());
                }
                Some(Errand::Visit(post)) => {
                    if let Some(message) = post.next(self) {
                        return message;
                    }
                }
                None => self.news.notified().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use sortie_model::JobInstance;
    use sortie_wire::message_proto::AnswerKind;

    use super::*;

    #[test]
    fn a_child_that_ends_while_a_message_comes_in_is_told_of() {
        let (posts, job) = (Posts::default(), JobInstance(uuid::Uuid::nil()));
        let ended = || Lives { over: Some(ChildIncarnation(0)), why: Over::Ended, more: false };
        let post = posts.of(ChildKey { job, ordinal: Ordinal(0) });
        // Its end comes just before the message does.
        posts.tell(&post, ended());
        let message = (MessageKind::Send, Bytes::from_static(b"x"));
        let mut letter = post.enter(message).expect("room");
        posts.tell(&letter.post, ended());
        let gone = Undelivered::Ended { arrived: sortie_wire::message_proto::Arrived::No };
        assert_eq!(letter.told().now_or_never(), Some(Told::Failed(gone)));
        assert!(posts.children().is_empty());
    }

    #[test]
    fn what_waits_to_be_confirmed_is_bounded() {
        let courier = Courier::new(1, Incarnation(1));
        let (job, incarnation) = (JobInstance(uuid::Uuid::nil()), ChildIncarnation(0));
        let child = ChildLife { job, ordinal: Ordinal(0), incarnation };
        let answer = |number| InboxWord::Answer { number, how: AnswerKind::Value };
        let confirm = |number| courier.confirm(&FromChild { child, what: answer(number) });
        for number in 1..=limits::INBOX_ERRANDS as u64 {
            assert_eq!(confirm(number), Ok(()));
        }
        assert_eq!(confirm(0), Err(TooMuchToSay));
        let (said, _) = courier.next().now_or_never().expect("there is something to say");
        assert_eq!(said, ToChild { child, what: Posted::Answered { number: 1 } });
        assert_eq!(confirm(0), Ok(()));
    }
}
