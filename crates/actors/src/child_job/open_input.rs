//! A process whose standard input stays open: what it is sent while it runs goes there, one message
//! after the other (`docs/semantics.md`, section 3.7); and what it asks by its prompt, whose answer
//! goes there, too (section 2.3).

use std::convert::Infallible;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::{BufMut, Bytes, BytesMut};
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
    /// Held until the owner is told of a change.
    watch: tokio::sync::Mutex<PromptWatch>,
    asked: Mutex<Option<QuestionNumber>>,
    changed: Notify,
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
                watch: tokio::sync::Mutex::new(PromptWatch::new(mark)),
                asked: Mutex::default(),
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
            prompts.watch.lock().await.on_input();
            prompts.withdraw(&self.port);
        }
        let taken = match taken {
            Ok(taken) => taken,
            Err(line) => return Some(line),
        };
        if taken.message.is_empty() {
            self.closed.notify_one();
            self.answer(taken.number, AnswerKind::Value);
            return None;
        }
        *self.writing.lock().unwrap_or_else(PoisonError::into_inner) = Some(taken.number);
        Some(taken.message)
    }

    /// The process wrote that, and it is stored.
    pub(super) async fn on_output(&self, stream: Stream, bytes: &[u8]) {
        let Some(prompts) = &self.prompts else { return };
        let mut watch = prompts.watch.lock().await;
        let Some(change) = watch.on_output(stream, bytes) else { return };
        prompts.withdraw(&self.port);
        if let PromptChange::Asks(prompt) = change
            && !self.port.was_told_to_stop()
            && let Some(number) = self.port.begin_question(prompt).await
        {
            *prompts.asked() = Some(number);
            prompts.changed.notify_one();
        }
    }

    /// The process has closed its input.
    pub(super) fn close(&self) {
        self.written(AnswerKind::Unreadable);
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
            let number = *prompts.asked();
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
            prompts.asked().take_if(|asked| *asked == number);
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
    fn asked(&self) -> std::sync::MutexGuard<'_, Option<QuestionNumber>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it asked is over.
    fn withdraw(&self, port: &ChildPort) {
        let asked = self.asked().take();
        if let Some(number) = asked {
            port.withdraw_question(number);
        }
    }
}
