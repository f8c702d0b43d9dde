//! A process whose standard input stays open: what it is sent while it runs goes there, one message
//! after the other (`docs/semantics.md`, section 3.7); and what it asks by its prompt, whose answer
//! goes there, too (section 2.3).

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::{BufMut, Bytes, BytesMut};
use sortie_engine::ask::Changed;
use sortie_engine::inbox::Taken;
use sortie_engine::prompt::{PromptChange, PromptWatch};
use sortie_exec::task::read_value;
use sortie_model::spec::InputSpec;
use sortie_model::{QuestionNumber, Stream};
use sortie_wire::message_proto::AnswerKind;
use tokio::sync::Notify;

use crate::data::messages::gate::Gate;
use crate::data::port::ChildPort;

/// The way to a process's standard input.
#[derive(Debug)]
pub(super) struct OpenInput {
    port: Arc<ChildPort>,
    /// Its inbox, once it runs.
    gate: OnceLock<Arc<Gate>>,
    /// The message that is being written to the pipe.
    writing: Mutex<Option<u64>>,
    closed: Notify,
    prompts: Option<Prompts>,
}

/// What a process asks by its prompt.
#[derive(Debug)]
struct Prompts {
    /// Held by who looks at output, until the owner is told of a change. It may wait for the owner.
    turn: tokio::sync::Mutex<()>,
    state: Mutex<Asking>,
    changed: Notify,
}

#[derive(Debug)]
struct Asking {
    watch: PromptWatch,
    /// What it asks, or was answered to it and is not written yet.
    number: Option<QuestionNumber>,
    /// How often something was written to its input, or that was closed.
    inputs: u64,
    closed: bool,
}

impl OpenInput {
    /// That of a child; none of a job without open input.
    pub(super) fn of(port: &Arc<ChildPort>) -> Option<Self> {
        let InputSpec::Open { prompt } = &port.job().spec.input else { return None };
        Some(Self {
            port: Arc::clone(port),
            gate: OnceLock::new(),
            writing: Mutex::default(),
            closed: Notify::new(),
            prompts: prompt.clone().map(|mark| Prompts {
                turn: tokio::sync::Mutex::default(),
                state: Mutex::new(Asking {
                    watch: PromptWatch::new(mark),
                    number: None,
                    inputs: 0,
                    closed: false,
                }),
                changed: Notify::new(),
            }),
        })
    }

    /// The process runs: from now on its inbox takes what comes.
    pub(super) fn begin(&self) {
        if let Some(gate) = self.port.open_inbox() {
            let _ = self.gate.set(gate);
        }
    }

    /// The next bytes for the pipe; none once that is to be closed. Whoever asks again has written
    /// what came before.
    pub(super) async fn next(&self) -> Option<Bytes> {
        self.written(AnswerKind::Value);
        let taken = tokio::select! {
            biased;
            line = self.answer_to_prompt() => Err(line),
            taken = self.take() => Ok(taken),
        };
        if let Some(prompts) = &self.prompts {
            prompts.state().on_input(&self.port);
        }
        let taken = match taken {
            Ok(taken) => taken,
            Err(line) => return Some(line),
        };
        if taken.message.is_empty() {
            self.is_closed();
            self.answer(taken.number, AnswerKind::Value);
            return None;
        }
        *self.writing.lock().unwrap_or_else(PoisonError::into_inner) = Some(taken.number);
        Some(taken.message)
    }

    /// The process wrote that, and it is stored.
    pub(super) async fn on_output(&self, stream: Stream, bytes: &[u8]) {
        let Some(prompts) = &self.prompts else { return };
        let _turn = prompts.turn.lock().await;
        let Some((prompt, inputs)) = prompts.state().on_output((stream, bytes), &self.port) else {
            return;
        };
        if self.port.was_told_to_stop() {
            return;
        }
        let Some(number) = self.port.begin_question(prompt).await else { return };
        let mut state = prompts.state();
        state.number = Some(number);
        if state.inputs != inputs {
            // Something was written while the owner had no room for the question.
            state.withdraw(&self.port);
        }
        drop(state);
        prompts.changed.notify_one();
    }

    /// The process has closed its input, or somebody did in an earlier life of this node.
    pub(super) fn close(&self) {
        self.written(AnswerKind::Unreadable);
        self.is_closed();
    }

    /// Nothing can be written any more, so its prompts ask nobody.
    fn is_closed(&self) {
        if let Some(prompts) = &self.prompts {
            let mut state = prompts.state();
            state.closed = true;
            state.on_input(&self.port);
        }
        self.closed.notify_one();
    }

    /// Tells whoever sends something to an input that is closed.
    pub(super) async fn refuse_rest(&self) -> Infallible {
        self.closed.notified().await;
        loop {
            let taken = self.take().await;
            self.answer(taken.number, AnswerKind::Unreadable);
        }
    }

    /// The line that answers what the process asks, once somebody gave it. Cancel safe.
    async fn answer_to_prompt(&self) -> Bytes {
        let Some(prompts) = &self.prompts else { return std::future::pending().await };
        loop {
            let number = prompts.state().number;
            let answer = async {
                match number {
                    Some(number) => (number, self.port.answer_to(number).await),
                    None => std::future::pending().await,
                }
            };
            let (number, answer) = tokio::select! {
                biased;
                () = prompts.changed.notified() => continue,
                answer = answer => answer,
            };
            prompts.state().number.take_if(|asked| *asked == number);
            // Its owner takes nothing else than a text.
            if let Some(line) = answer.and_then(|answer| read_value::<String>(&answer).ok()) {
                let mut bytes = BytesMut::from(line.as_bytes());
                bytes.put_u8(b'\n');
                return bytes.freeze();
            }
        }
    }

    /// The next message. Of a process that was told to stop no more come, and its input is left as
    /// it is.
    async fn take(&self) -> Taken {
        let next = async { self.gate.get()?.next().await };
        match next.await {
            Some(taken) => taken,
            None => std::future::pending().await,
        }
    }

    fn written(&self, how: AnswerKind) {
        let number = self.writing.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(number) = number {
            self.answer(number, how);
        }
    }

    fn answer(&self, number: u64, how: AnswerKind) {
        if let Some(gate) = self.gate.get() {
            gate.answer(number, (how, Bytes::new()));
        }
    }
}

impl Prompts {
    fn state(&self) -> MutexGuard<'_, Asking> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asking {
    fn on_input(&mut self, port: &ChildPort) {
        self.watch.on_input();
        self.inputs += 1;
        self.withdraw(port);
    }

    /// The prompt by which it asks now, if it does, and how often it had been written to by then.
    /// What was answered before is written first, and answers that.
    fn on_output(
        &mut self,
        (stream, bytes): (Stream, &[u8]),
        port: &ChildPort,
    ) -> Option<(String, u64)> {
        if self.closed {
            return None;
        }
        let change = self.watch.on_output(stream, bytes)?;
        self.withdraw(port);
        match change {
            PromptChange::Asks(prompt) if self.number.is_none() => Some((prompt, self.inputs)),
            PromptChange::Asks(_) | PromptChange::Withdrawn => None,
        }
    }

    /// What it asked is over, unless its answer came before.
    fn withdraw(&mut self, port: &ChildPort) {
        self.number.take_if(|number| port.withdraw_question(*number) == Changed::Yes);
    }
}
