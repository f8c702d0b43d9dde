//! What a running child asks, and the answers that come to it; whether one is taken is
//! `sortie_engine::ask`'s to say.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use sortie_engine::ask::{Asking, Changed, Taken};
use sortie_exec::task::{NoAnswer, TaskPort};
use sortie_model::QuestionNumber;
use sortie_wire::host_proto::{AnswerChild, ChildAsk, OpenQuestion};
use tokio::sync::Notify;

use crate::data::credit::Held;
use crate::data::outbox::ask_bytes;
use crate::data::port::{ChildPort, Target};

/// The questions of one incarnation; made with its first.
#[derive(Debug, Default)]
pub(super) struct Asks {
    /// Held by who asks: one at a time, in the order of their coming.
    turn: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    asking: Asking,
    /// What was asked last.
    open: Option<OpenQuestion>,
    /// The answer that came last, until it is picked up.
    answer: Option<Bytes>,
}

impl Asks {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ChildPort {
    /// The child ran in an earlier life of this node, whose questions are over: the numbers of the
    /// next are above theirs, as long as it asked less than once in a second.
    pub(super) fn asked_before(&self) {
        let seconds = self.shared.world.now().0 / 1_000_000;
        let last = QuestionNumber(u32::try_from(seconds).unwrap_or_default());
        let state = Mutex::new(State { asking: Asking::after(last), ..State::default() });
        let _ = self.asks.set(Box::new(Asks { state, ..Asks::default() }));
    }

    fn asks(&self) -> &Asks {
        self.asks.get_or_init(Box::default)
    }

    /// Asks, and waits for the answer or for a stop. Dropped before, the question is withdrawn.
    pub(super) async fn ask_owner(&self, prompt: String) -> Result<Bytes, NoAnswer> {
        let asking = async {
            let _turn = self.asks().turn.lock().await;
            let number = self.begin_question(prompt).await.ok_or(NoAnswer)?;
            let _withdraw = Withdraw { port: self, number };
            self.answer_to(number).await.ok_or(NoAnswer)
        };
        tokio::select! {
            biased;
            answer = asking, if !self.was_told_to_stop() => answer,
            () = self.cancelled() => Err(NoAnswer),
        }
    }

    /// Opens the child's next question, waiting while the owner has no credit for it. None while
    /// the one before is open.
    pub(crate) async fn begin_question(&self, prompt: String) -> Option<QuestionNumber> {
        let held = match (&self.shared.target, self.state().bulk.is_some()) {
            (Target::There(outbox), false) => Some(outbox),
            _ => None,
        };
        let held = match held {
            Some(outbox) => Some(outbox.wait_for_question(ask_bytes(prompt.len())).await),
            None => None,
        };
        let mut state = self.asks().state();
        let number = state.asking.ask()?;
        state.answer = None;
        let open = OpenQuestion { prompt, time: self.shared.world.now() };
        state.open = Some(open.clone());
        self.say_asking(&state.asking, Some(open), held);
        Some(number)
    }

    /// Says once more what is asked, if something is: an owner that began anew knows nothing of it,
    /// and to the one that was told it is no news.
    pub(crate) fn ask_again(&self) {
        let Some(asks) = self.asks.get() else { return };
        let state = asks.state();
        if state.asking.is_open(state.asking.numbers().0) {
            self.say_asking(&state.asking, state.open.clone(), None);
        }
    }

    /// The answer to a question; none once it was withdrawn, or its child has ended.
    pub(crate) async fn answer_to(&self, number: QuestionNumber) -> Option<Bytes> {
        let asks = self.asks();
        loop {
            let changed = asks.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let mut state = asks.state();
                if state.asking.numbers() == (number, number)
                    && let Some(answer) = state.answer.take()
                {
                    return Some(answer);
                }
                if !state.asking.is_open(number) || self.state().ended {
                    return None;
                }
            }
            changed.await;
        }
    }

    /// Nobody wants that answer any more. Nothing changes when it came before.
    pub(crate) fn withdraw_question(&self, number: QuestionNumber) -> Changed {
        let asks = self.asks();
        let mut state = asks.state();
        let changed = state.asking.withdraw(number);
        if changed == Changed::Yes {
            self.say_asking(&state.asking, None, None);
            drop(state);
            asks.changed.notify_waiters();
        }
        changed
    }

    /// The owner sends an answer. It counts if it is for the open question of this incarnation.
    pub(crate) fn answer(&self, answer: &AnswerChild) {
        let Some(asks) = self.asks.get().filter(|_| answer.incarnation == self.incarnation) else {
            return;
        };
        let mut state = asks.state();
        if state.asking.answer(answer.number) == Taken::Yes {
            state.answer = Some(answer.answer.clone());
            self.say_asking(&state.asking, None, None);
            drop(state);
            asks.changed.notify_waiters();
        }
    }

    /// Who still waits for an answer, though the child has ended, gets none.
    pub(super) fn end_questions(&self) {
        if let Some(asks) = self.asks.get() {
            asks.changed.notify_waiters();
        }
    }

    /// Reports what the child asks now; nothing follows its end.
    fn say_asking(&self, asking: &Asking, open: Option<OpenQuestion>, held: Option<Held>) {
        let (number, taken) = asking.numbers();
        let (ordinal, incarnation) = (self.ordinal, self.incarnation);
        let ask = ChildAsk { ordinal, incarnation, number, open, taken };
        let state = self.state();
        if state.ended || self.shared.is_discarded() {
            return;
        }
        match (&self.shared.target, &state.bulk) {
            (Target::Here(job), _) => job.asked(ask),
            (Target::There(_), Some(bulk)) => bulk.asked(state.next, ask),
            (Target::There(outbox), None) => outbox.asked(self.shared.job, ask, held),
        }
    }
}

/// Withdraws a question that was not answered.
struct Withdraw<'a> {
    port: &'a ChildPort,
    number: QuestionNumber,
}

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        self.port.withdraw_question(self.number);
    }
}
