//! What a worker's function asks: the question goes to the node, the answer comes back.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use sortie_model::QuestionNumber;
use sortie_wire::frame::write_message;
use sortie_wire::worker_proto::{WorkerAnswer, WorkerAsked, WorkerWithdrew};
use tokio::sync::Notify;

use super::Port;
use crate::task::{NoAnswer, TaskPort};
use crate::worker::channel::Put;

/// The questions of a worker.
#[derive(Default)]
pub(super) struct Asks {
    /// Held by who asks: one at a time, in the order of their coming.
    turn: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    answered: Notify,
}

#[derive(Default)]
struct State {
    last: QuestionNumber,
    open: bool,
    answer: Option<Bytes>,
}

impl Asks {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An answer to another question than the open one means nothing.
    pub(super) fn take(&self, WorkerAnswer { number, answer }: WorkerAnswer) {
        let mut state = self.state();
        if state.open && state.last == number {
            state.open = false;
            state.answer = Some(answer);
            drop(state);
            self.answered.notify_one();
        }
    }
}

impl Port {
    /// Asks the node, and waits for its answer or for a stop.
    pub(super) async fn ask_node(&self, prompt: String) -> Result<Bytes, NoAnswer> {
        tokio::select! {
            biased;
            answer = self.ask_in_turn(prompt), if !self.is_cancelled() => answer,
            () = self.cancelled() => Err(NoAnswer),
        }
    }

    async fn ask_in_turn(&self, prompt: String) -> Result<Bytes, NoAnswer> {
        let _turn = self.asks.turn.lock().await;
        let number = self.asks.state().last.next();
        let mut frame = Vec::new();
        write_message(&WorkerAsked { number, prompt }, &mut frame).map_err(|_| NoAnswer)?;
        self.channel
            .wait(|| {
                // The answer is taken only when the question counts as open.
                let mut state = self.asks.state();
                let put = self.channel.put(&frame);
                if put == Put::Done {
                    *state = State { last: number, open: true, answer: None };
                }
                put
            })
            .await;
        let _withdraw = Withdraw { port: self, number };
        loop {
            let answered = self.asks.answered.notified();
            if let Some(answer) = self.asks.state().answer.take() {
                return Ok(answer);
            }
            answered.await;
        }
    }
}

/// Says that nobody wants the answer any more, if it has not come.
struct Withdraw<'a> {
    port: &'a Port,
    number: QuestionNumber,
}

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        if !std::mem::replace(&mut self.port.asks.state().open, false) {
            return;
        }
        let mut frame = Vec::new();
        if write_message(&WorkerWithdrew { number: self.number }, &mut frame).is_ok() {
            self.port.channel.say(&frame);
        }
    }
}
