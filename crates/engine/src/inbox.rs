//! A child's inbox, on the node that executes it: which messages it accepts, what its owner must
//! hear of them, and how calls come to an answer (`docs/semantics.md`, section 3.7).
//!
//! Messages are numbered from 1 in each life of the child, and accepted in that order, each once.
//! The owner sends no more than there is room for, so an inbox never refuses what keeps to the
//! rules; what it does not keep to is [`BadMessage`].

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use sortie_model::limits;
use sortie_wire::message_proto::{AnswerKind, CallAnswer, InboxWord, MessageKind, Posted};

/// A message that the child has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Its number.
    pub number: u64,
    /// Whether it must be answered.
    pub kind: MessageKind,
    /// The message.
    pub message: Bytes,
}

/// Something that no owner says who keeps to the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    /// Messages before it are missing.
    #[error("a message to a child leaves others out")]
    Gap,
    /// It passes [`limits::MESSAGE_BYTES`].
    #[error("a message to a child has more than {} bytes", limits::MESSAGE_BYTES)]
    TooLong,
    /// It passes [`limits::INBOX_MESSAGES`] or [`limits::INBOX_BYTES`].
    #[error("a message to a child is more than its inbox has room for")]
    Full,
    /// It passes [`limits::CALLS_PER_CHILD`].
    #[error("a child has more than {} calls to answer", limits::CALLS_PER_CHILD)]
    Calls,
}

/// How far a child takes messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    /// It does.
    Open,
    /// It takes none any more.
    Closed,
    /// That, and the owner knows.
    Known,
}

#[derive(Debug)]
enum Call {
    /// The child has not answered.
    Open,
    /// It has; the owner may not have heard.
    Answered(CallAnswer),
}

/// What the owner was told on the present connection.
#[derive(Debug, Default)]
struct Told {
    /// Accepted and taken.
    progress: Option<(u64, u64)>,
    closed: bool,
    /// Answers that wait to be told.
    answers: Vec<u64>,
}

/// The inbox of one child in one life.
#[derive(Debug)]
pub struct Inbox {
    accepted: u64,
    taken: u64,
    queued: VecDeque<(MessageKind, Bytes)>,
    queued_bytes: usize,
    calls: BTreeMap<u64, Call>,
    door: Door,
    told: Told,
}

impl Default for Inbox {
    fn default() -> Self {
        Self {
            accepted: 0,
            taken: 0,
            queued: VecDeque::new(),
            queued_bytes: 0,
            calls: BTreeMap::new(),
            door: Door::Open,
            told: Told::default(),
        }
    }
}

impl Inbox {
    /// The owner says something; a message comes with its bytes.
    ///
    /// # Errors
    /// [`BadMessage`]; nothing was changed.
    pub fn on_posted(&mut self, what: Posted, message: Bytes) -> Result<(), BadMessage> {
        match what {
            Posted::Message { number, kind } => self.on_message(number, kind, message),
            Posted::Answered { number } => {
                if let Some(Call::Answered(_)) = self.calls.get(&number) {
                    self.calls.remove(&number);
                }
                Ok(())
            }
            Posted::Closed => {
                if self.door == Door::Closed {
                    self.door = Door::Known;
                }
                Ok(())
            }
        }
    }

    fn on_message(
        &mut self,
        number: u64,
        kind: MessageKind,
        message: Bytes,
    ) -> Result<(), BadMessage> {
        // What a closed inbox is sent was sent before its owner knew.
        if self.door != Door::Open || number <= self.accepted {
            return Ok(());
        }
        if number != self.accepted + 1 {
            return Err(BadMessage::Gap);
        }
        if message.len() > limits::MESSAGE_BYTES {
            return Err(BadMessage::TooLong);
        }
        if self.queued.len() >= limits::INBOX_MESSAGES
            || self.queued_bytes + message.len() > limits::INBOX_BYTES
        {
            return Err(BadMessage::Full);
        }
        if kind == MessageKind::Call {
            if self.calls.len() >= limits::CALLS_PER_CHILD {
                return Err(BadMessage::Calls);
            }
            self.calls.insert(number, Call::Open);
        }
        self.accepted = number;
        self.queued_bytes += message.len();
        self.queued.push_back((kind, message));
        Ok(())
    }

    /// The child takes its next message, if there is one.
    pub fn take(&mut self) -> Option<Taken> {
        let (kind, message) = self.queued.pop_front()?;
        self.taken += 1;
        self.queued_bytes -= message.len();
        Some(Taken { number: self.taken, kind, message })
    }

    /// The child answers a call, or lets go of it. Only the first answer counts.
    pub fn answer(&mut self, number: u64, answer: CallAnswer) {
        if let Some(call @ Call::Open) = self.calls.get_mut(&number) {
            *call = Call::Answered(answer);
            self.told.answers.push(number);
        }
    }

    /// The child takes no more messages: what it has not taken is let go of.
    pub fn close(&mut self) {
        if self.door == Door::Open {
            self.door = Door::Closed;
        }
        while let Some(taken) = self.take() {
            self.answer(taken.number, (AnswerKind::Unanswered, Bytes::new()));
        }
    }

    /// The child ends: besides, nobody will answer what is open.
    pub fn end(&mut self) {
        self.close();
        let open = self.calls.iter().filter(|(_, call)| matches!(call, Call::Open));
        let open: Vec<u64> = open.map(|(number, _)| *number).collect();
        for number in open {
            self.answer(number, (AnswerKind::Unanswered, Bytes::new()));
        }
    }

    /// Whether the owner has heard all there is to say: the inbox is closed, each call answered.
    pub fn is_settled(&self) -> bool {
        self.door == Door::Known && self.calls.is_empty()
    }

    /// What is to be told to the owner; it counts as told on this connection.
    pub fn words(&mut self) -> Vec<(InboxWord, Bytes)> {
        let mut words = Vec::new();
        let (accepted, taken) = (self.accepted, self.taken);
        if self.told.progress != Some((accepted, taken)) && self.door == Door::Open {
            self.told.progress = Some((accepted, taken));
            words.push((InboxWord::Open { accepted, taken }, Bytes::new()));
        }
        for number in std::mem::take(&mut self.told.answers) {
            if let Some(Call::Answered((how, value))) = self.calls.get(&number) {
                words.push((InboxWord::Answer { number, how: *how }, value.clone()));
            }
        }
        if self.door == Door::Closed && !self.told.closed {
            self.told.closed = true;
            words.push((InboxWord::Closed { accepted }, Bytes::new()));
        }
        words
    }

    /// The owner's node lives anew: nobody there waits for an answer to what was sent before.
    pub fn forget_calls(&mut self) {
        self.calls.clear();
    }

    /// There is a new connection to the owner: what it may not have heard is to be said again.
    pub fn tell_again(&mut self) {
        let answered = self.calls.iter().filter(|(_, call)| matches!(call, Call::Answered(_)));
        let answers = answered.map(|(number, _)| *number).collect();
        self.told = Told { progress: None, closed: false, answers };
    }
}

#[cfg(test)]
mod tests;
