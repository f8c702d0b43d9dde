//! Messages to one child, at the owner of its job: who waits, what is on its way, and what each
//! sender is told (`docs/semantics.md`, section 3.7).
//!
//! A message gets its number when it is sent to a life of the child that has room for it. Until the
//! child's node says that it was accepted it is kept, and sent again on a new connection. What was
//! never accepted by a life that is over goes to the next one, as long as that is certain.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use sortie_model::{ChildIncarnation, limits};
use sortie_wire::message_proto::{
    AnswerKind, Arrived, CallAnswer, InboxWord, MessageKind, Undelivered,
};

/// One sender's message, at its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// What a sender is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PostEffect {
    /// The message is in the inbox. A call is told more.
    Accepted(Ticket),
    /// The call was answered.
    Answered(Ticket, CallAnswer),
    /// The message, or the answer to it, does not come.
    Failed(Ticket, Undelivered),
}

/// What an inbox can have accepted before its first word here: no number after it overflows.
const MOST_AT_FIRST: u64 = u64::MAX / 2;

/// Why a life of a child, or the child, is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// It ended.
    Ended,
    /// Its node is lost.
    NodeLost,
}

impl Over {
    /// What the sender of a message is told.
    pub const fn undelivered(self, arrived: Arrived) -> Undelivered {
        match self {
            Self::Ended => Undelivered::Ended { arrived },
            Self::NodeLost => Undelivered::NodeLost { arrived },
        }
    }
}

/// [`limits::SENDERS_PER_CHILD`] wait already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{} senders wait for that child already", limits::SENDERS_PER_CHILD)]
pub struct TooManySenders;

/// An inbox says of itself what cannot be true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an inbox cannot be in the state that it claims")]
pub struct FalseWord;

/// A message on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sending {
    /// The life that it is for.
    pub incarnation: ChildIncarnation,
    /// Its number there.
    pub number: u64,
    /// What its sender waits for.
    pub kind: MessageKind,
    /// The message.
    pub message: Bytes,
}

#[derive(Debug)]
struct Letter {
    /// None once its sender has gone.
    ticket: Option<Ticket>,
    kind: MessageKind,
    message: Bytes,
}

/// The inbox that is open now.
#[derive(Debug)]
struct Open {
    incarnation: ChildIncarnation,
    /// The connection on which it spoke last.
    connection: u64,
    accepted: u64,
    taken: u64,
    /// What went out on that connection, up to this number.
    sent: u64,
    /// Numbered and not accepted: the first has the number after `accepted`.
    flying: VecDeque<Letter>,
    flying_bytes: usize,
    /// Lengths of what was accepted and not taken, in bytes.
    untaken: VecDeque<usize>,
    untaken_bytes: usize,
    /// Numbered calls without an answer.
    calls: BTreeMap<u64, Option<Ticket>>,
    closed: bool,
}

/// Everything that is on its way to one child.
#[derive(Debug, Default)]
pub struct Post {
    tickets: u64,
    waiting: VecDeque<Letter>,
    open: Option<Open>,
    /// The life that was over last: what is said of it, or of an earlier one, is late.
    over: Option<ChildIncarnation>,
}

impl Post {
    /// A message to the child. It waits until an inbox has room for it.
    ///
    /// # Errors
    /// [`TooManySenders`].
    pub fn enter(&mut self, kind: MessageKind, message: Bytes) -> Result<Ticket, TooManySenders> {
        if self.waiting.len() >= limits::SENDERS_PER_CHILD {
            return Err(TooManySenders);
        }
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.waiting.push_back(Letter { ticket: Some(ticket), kind, message });
        Ok(ticket)
    }

    /// A sender waits no longer. What is on its way arrives all the same.
    pub fn abandon(&mut self, ticket: Ticket) {
        self.waiting.retain(|letter| letter.ticket != Some(ticket));
        if let Some(open) = &mut self.open {
            let tickets = open.flying.iter_mut().map(|letter| &mut letter.ticket);
            for known in tickets.chain(open.calls.values_mut()) {
                if *known == Some(ticket) {
                    *known = None;
                }
            }
        }
    }

    /// The inbox of a life of the child says something, over that connection.
    ///
    /// # Errors
    /// [`FalseWord`]; the node that says it does not keep to the rules.
    pub fn on_word(
        &mut self,
        (incarnation, connection): (ChildIncarnation, u64),
        (word, value): (InboxWord, Bytes),
        effects: &mut Vec<PostEffect>,
    ) -> Result<(), FalseWord> {
        if self.over.is_some_and(|over| incarnation <= over) {
            return Ok(());
        }
        if self.open.as_ref().is_none_or(|open| open.incarnation < incarnation) {
            if let Some(earlier) = &self.open {
                self.on_over(earlier.incarnation, Over::Ended, effects);
            }
            // What it took before this node heard of it was sent by an earlier life of this node.
            let (accepted, taken) = match word {
                InboxWord::Open { accepted, taken } => (accepted, taken),
                InboxWord::Closed { accepted } => (accepted, accepted),
                InboxWord::Answer { .. } => (0, 0),
            };
            let untaken = accepted.checked_sub(taken).ok_or(FalseWord)?;
            if untaken > limits::INBOX_MESSAGES as u64 || accepted > MOST_AT_FIRST {
                return Err(FalseWord);
            }
            self.open = Some(Open::new((incarnation, connection), (accepted, taken)));
        }
        let Some(open) = self.open.as_mut().filter(|open| open.incarnation == incarnation) else {
            return Ok(());
        };
        if open.connection != connection {
            open.connection = connection;
            // What the earlier one carried beyond that may not have come.
            open.sent = open.accepted;
        }
        match word {
            InboxWord::Open { accepted, taken } => {
                open.accept(accepted, effects)?;
                open.take(taken)
            }
            InboxWord::Closed { accepted } => {
                open.accept(accepted, effects)?;
                open.take(accepted)?;
                open.closed = true;
                // They did not arrive, and another life may take them. Their places at the head of
                // the line were theirs before.
                let back = std::mem::take(&mut open.flying);
                open.flying_bytes = 0;
                open.calls.retain(|number, _| *number <= accepted);
                let back = back.into_iter().filter(|letter| letter.ticket.is_some());
                let mut back: VecDeque<Letter> = back.collect();
                back.append(&mut self.waiting);
                self.waiting = back;
                Ok(())
            }
            InboxWord::Answer { number, how } => open.answer(number, (how, value), effects),
        }
    }

    /// The next message that may be sent over that connection.
    pub fn next(&mut self, connection: u64) -> Option<Sending> {
        let open = self.open.as_mut()?;
        if open.connection != connection || open.closed {
            return None;
        }
        let (incarnation, number) = (open.incarnation, open.sent + 1);
        let again = usize::try_from(open.sent - open.accepted).unwrap_or(usize::MAX);
        if again >= open.flying.len() {
            self.waiting.front().filter(|letter| open.has_room_for(letter))?;
            let letter = self.waiting.pop_front()?;
            open.flying_bytes += letter.message.len();
            if letter.kind == MessageKind::Call {
                open.calls.insert(number, letter.ticket);
            }
            open.flying.push_back(letter);
        }
        let letter = open.flying.get(again)?;
        open.sent = number;
        Some(Sending { incarnation, number, kind: letter.kind, message: letter.message.clone() })
    }

    /// That life of the child, and each before it, is over: what was numbered for it fails.
    pub fn on_over(&mut self, life: ChildIncarnation, why: Over, effects: &mut Vec<PostEffect>) {
        self.over = self.over.max(Some(life));
        if let Some(open) = self.open.take_if(|open| open.incarnation <= life) {
            open.fail(why, effects);
        }
    }

    /// The child's node lives anew, and with it the child's inbox, which begins anew if the child
    /// runs on: what was numbered for the one before fails.
    pub fn on_reborn(&mut self, effects: &mut Vec<PostEffect>) {
        if let Some(open) = self.open.take() {
            open.fail(Over::NodeLost, effects);
        }
    }

    /// The child's node is lost, and the child may run on there: nobody waits for it. What is on
    /// its way may arrive when the node is back; what is not does not.
    pub fn on_silent(&mut self, effects: &mut Vec<PostEffect>) {
        let mut failed = |ticket: &mut Option<Ticket>, arrived| {
            let failed = ticket.take().map(|it| (it, Over::NodeLost.undelivered(arrived)));
            effects.extend(failed.map(|(ticket, why)| PostEffect::Failed(ticket, why)));
        };
        for mut letter in std::mem::take(&mut self.waiting) {
            failed(&mut letter.ticket, Arrived::No);
        }
        let Some(open) = &mut self.open else { return };
        for (letter, number) in open.flying.iter_mut().zip(open.accepted + 1..) {
            open.calls.entry(number).and_modify(|ticket| *ticket = None);
            failed(&mut letter.ticket, Arrived::Maybe);
        }
        open.calls.values_mut().for_each(|ticket| failed(ticket, Arrived::Yes));
    }

    /// No life of the child can follow: who waits for one waits in vain.
    pub fn on_end(&mut self, why: Over, effects: &mut Vec<PostEffect>) {
        for letter in std::mem::take(&mut self.waiting) {
            let failed = letter.ticket.map(|ticket| (ticket, why.undelivered(Arrived::No)));
            effects.extend(failed.map(|(ticket, why)| PostEffect::Failed(ticket, why)));
        }
    }

    /// The life whose inbox is open, if one is known.
    pub fn open_life(&self) -> Option<ChildIncarnation> {
        self.open.as_ref().map(|open| open.incarnation)
    }
}

impl Open {
    /// One that has accepted and taken so many. Those that it has not taken may be as long as any.
    fn new(
        (incarnation, connection): (ChildIncarnation, u64),
        (accepted, taken): (u64, u64),
    ) -> Self {
        let untaken: VecDeque<usize> = (taken..accepted).map(|_| limits::MESSAGE_BYTES).collect();
        Self {
            incarnation,
            connection,
            accepted,
            taken,
            sent: accepted,
            flying: VecDeque::new(),
            flying_bytes: 0,
            untaken_bytes: untaken.iter().sum(),
            untaken,
            calls: BTreeMap::new(),
            closed: false,
        }
    }

    /// Its senders are told that it takes nothing more.
    fn fail(self, why: Over, effects: &mut Vec<PostEffect>) {
        let Self { flying, mut calls, accepted, .. } = self;
        let undelivered = |arrived| why.undelivered(arrived);
        for (letter, number) in flying.into_iter().zip(accepted + 1..) {
            calls.remove(&number);
            let failed = letter.ticket.map(|it| (it, undelivered(Arrived::Maybe)));
            effects.extend(failed.map(|(ticket, why)| PostEffect::Failed(ticket, why)));
        }
        for ticket in calls.into_values().flatten() {
            effects.push(PostEffect::Failed(ticket, undelivered(Arrived::Yes)));
        }
    }

    fn has_room_for(&self, letter: &Letter) -> bool {
        let messages = self.flying.len() + self.untaken.len();
        let bytes = self.flying_bytes + self.untaken_bytes + letter.message.len();
        let calls = letter.kind == MessageKind::Call && self.calls.len() >= limits::CALLS_PER_CHILD;
        messages < limits::INBOX_MESSAGES && bytes <= limits::INBOX_BYTES && !calls
    }

    fn accept(&mut self, up_to: u64, effects: &mut Vec<PostEffect>) -> Result<(), FalseWord> {
        if up_to > self.accepted + self.flying.len() as u64 {
            return Err(FalseWord);
        }
        while self.accepted < up_to {
            let letter = self.flying.pop_front().ok_or(FalseWord)?;
            self.accepted += 1;
            let length = letter.message.len();
            self.flying_bytes -= length;
            self.untaken.push_back(length);
            self.untaken_bytes += length;
            effects.extend(letter.ticket.map(PostEffect::Accepted));
        }
        // An earlier connection may have carried it.
        self.sent = self.sent.max(self.accepted);
        Ok(())
    }

    fn take(&mut self, up_to: u64) -> Result<(), FalseWord> {
        if up_to > self.accepted {
            return Err(FalseWord);
        }
        while self.taken < up_to {
            self.taken += 1;
            self.untaken_bytes -= self.untaken.pop_front().unwrap_or_default();
        }
        Ok(())
    }

    fn answer(
        &mut self,
        number: u64,
        answer: CallAnswer,
        effects: &mut Vec<PostEffect>,
    ) -> Result<(), FalseWord> {
        // Only what was accepted can be answered.
        if number > self.accepted {
            self.accept(number, effects)?;
        }
        // One that was answered before is said again.
        let Some(Some(ticket)) = self.calls.remove(&number) else { return Ok(()) };
        effects.push(match answer {
            (AnswerKind::Unanswered, _) => PostEffect::Failed(ticket, Undelivered::Unanswered),
            (AnswerKind::Unreadable, _) => PostEffect::Failed(ticket, Undelivered::Unreadable),
            answer => PostEffect::Answered(ticket, answer),
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
