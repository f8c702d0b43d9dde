//! What children ask, as their parent knows it, and the way of the answers (`docs/semantics.md`,
//! section 2.3). The executing node decides whether an answer was taken.

use std::collections::BTreeMap;

use bytes::Bytes;
use sortie_model::{
    ChildIncarnation, NodeId, Ordinal, Question, QuestionNumber, Timestamp, limits,
};
use sortie_wire::host_proto::{ChildAsk, OpenQuestion};

use crate::parent_job::row::Phase;
use crate::parent_job::{Effects, FalseReport, JobEffect, ParentJob};
use crate::placement::NodeIndex;

/// The last questions of the children that ever asked.
#[derive(Debug, Default)]
pub(super) struct Questions(BTreeMap<Ordinal, Asked>);

/// The last question of a child.
#[derive(Debug)]
struct Asked {
    incarnation: ChildIncarnation,
    number: QuestionNumber,
    taken: QuestionNumber,
    stand: Stand,
}

#[derive(Debug)]
enum Stand {
    /// Nobody has answered.
    Open(OpenQuestion),
    /// The answer is on its way; kept until the child's node says what became of it.
    Answered(Bytes),
    /// It was answered or withdrawn, or its child was told to stop, or ended.
    Over,
}

/// Nobody asks that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAsking {
    /// The child asks nothing.
    #[error("it asks nothing")]
    Nothing,
    /// Somebody has answered already.
    #[error("its question was answered already")]
    Answered,
    /// It asks something else by now.
    #[error("it asks something else by now")]
    Other,
}

/// What became of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// It is on its way.
    Sent,
    /// The child took it.
    Taken,
    /// The child asked no more when it came, or ended before it said so.
    Missed,
}

/// Which question of a job an answer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuestionKey {
    /// The child.
    pub ordinal: Ordinal,
    /// Which of its incarnations asked.
    pub incarnation: ChildIncarnation,
    /// Which of its questions.
    pub number: QuestionNumber,
}

impl ParentJob {
    /// A node said what children ask. Words about earlier incarnations and earlier questions are
    /// late.
    ///
    /// # Errors
    /// [`FalseReport`] when a child is not on that node, or asks at too great a length; nothing of
    /// the report was applied.
    pub fn on_asked(
        &mut self,
        node: NodeId,
        asked: Vec<ChildAsk>,
        now: Timestamp,
        effects: &mut Effects,
    ) -> Result<(), FalseReport> {
        let node = self.nodes.find(node).ok_or(FalseReport)?;
        let honest = |ask: &ChildAsk| {
            let short = ask.open.as_ref().is_none_or(|it| it.prompt.len() <= limits::PROMPT_BYTES);
            short && (self.row_on(ask.ordinal, node).is_some() || self.ran_before(ask.ordinal))
        };
        if !asked.iter().all(honest) {
            return Err(FalseReport);
        }
        for ask in asked {
            let row = self.row_on(ask.ordinal, node);
            let present = row
                .is_some_and(|row| row.incarnation == ask.incarnation && !row.phase.is_finished());
            if present && self.questions.is_news(&ask) {
                self.apply_ask(ask, effects);
            }
        }
        self.advance(now, effects);
        Ok(())
    }

    fn apply_ask(&mut self, ask: ChildAsk, effects: &mut Effects) {
        let ChildAsk { ordinal, incarnation, number, open, taken } = ask;
        let phase = self.row(ordinal).map(|row| row.phase);
        let told_to_stop = self.row(ordinal).is_some_and(|row| row.told_to_stop);
        let stand = match open {
            Some(open) if !told_to_stop => Stand::Open(open),
            _ => Stand::Over,
        };
        self.questions.0.insert(ordinal, Asked { incarnation, number, taken, stand });
        if phase.is_some_and(Phase::goes_on) {
            self.set_phase(ordinal, self.begun_phase(ordinal), effects);
        }
        effects.push(JobEffect::Asked(ordinal));
    }

    /// Somebody answers a child: the open question, if none is named. The child runs again.
    ///
    /// # Errors
    /// [`NotAsking`]; nothing changed.
    pub fn on_answer(
        &mut self,
        (ordinal, number): (Ordinal, Option<QuestionNumber>),
        answer: Bytes,
        now: Timestamp,
        effects: &mut Effects,
    ) -> Result<QuestionKey, NotAsking> {
        let asked = self.questions.0.get_mut(&ordinal).ok_or(NotAsking::Nothing)?;
        if number.is_some_and(|number| number != asked.number) {
            return Err(NotAsking::Other);
        }
        match asked.stand {
            Stand::Open(_) => {}
            Stand::Answered(_) => return Err(NotAsking::Answered),
            Stand::Over if asked.taken == asked.number && number.is_some() => {
                return Err(NotAsking::Answered);
            }
            Stand::Over => return Err(NotAsking::Nothing),
        }
        asked.stand = Stand::Answered(answer.clone());
        let key = QuestionKey { ordinal, incarnation: asked.incarnation, number: asked.number };
        if self.row(ordinal).is_some_and(|row| row.phase == Phase::Blocked) {
            self.set_phase(ordinal, self.begun_phase(ordinal), effects);
        }
        if let Some(node) = self.row(ordinal).and_then(|row| row.node) {
            effects.push(JobEffect::Answer { node, key, answer });
        }
        self.advance(now, effects);
        Ok(key)
    }

    /// What became of an answer that was sent.
    pub fn answered(&self, key: QuestionKey) -> Answered {
        let Some(asked) = self.questions.0.get(&key.ordinal) else { return Answered::Missed };
        let same = asked.incarnation == key.incarnation && asked.number == key.number;
        match asked.stand {
            Stand::Answered(_) if same => Answered::Sent,
            _ if asked.incarnation == key.incarnation && asked.taken == key.number => {
                Answered::Taken
            }
            _ => Answered::Missed,
        }
    }

    /// What the child asks and nobody has answered.
    pub fn question(&self, ordinal: Ordinal) -> Option<Question> {
        let asked = self.questions.0.get(&ordinal)?;
        let Stand::Open(open) = &asked.stand else { return None };
        let (prompt, time) = (open.prompt.clone(), open.time);
        Some(Question { number: asked.number, prompt, time })
    }

    /// The children whose questions nobody has answered, in child order.
    pub fn asking(&self) -> impl Iterator<Item = (Ordinal, QuestionNumber)> {
        let open = self.questions.0.iter().filter(|(_, it)| matches!(it.stand, Stand::Open(_)));
        open.map(|(ordinal, asked)| (*ordinal, asked.number))
    }

    /// The child was told to stop: nobody can answer it any more. What became of an answer that is
    /// on its way its node still says.
    pub(super) fn withdraw_question(&mut self, ordinal: Ordinal, effects: &mut Effects) {
        if self.questions.is_open(ordinal) {
            self.close_question(ordinal, effects);
        }
    }

    /// The child ended, and with it what it asked.
    pub(super) fn close_question(&mut self, ordinal: Ordinal, effects: &mut Effects) {
        if let Some(asked) = self.questions.0.get_mut(&ordinal)
            && !matches!(asked.stand, Stand::Over)
        {
            asked.stand = Stand::Over;
            effects.push(JobEffect::Asked(ordinal));
        }
    }

    /// The phase of a child that began. A stop that overtook the report of its start shows at once.
    /// What it asks may have overtaken that, too: the two can come on different streams.
    pub(super) fn begun_phase(&self, ordinal: Ordinal) -> Phase {
        let told_to_stop = self.row(ordinal).is_some_and(|row| row.told_to_stop);
        match self.suspensions.of(ordinal) {
            _ if told_to_stop => Phase::Stopping,
            _ if self.questions.is_open(ordinal) => Phase::Blocked,
            Some(phase) => phase,
            None => Phase::Running,
        }
    }

    /// The node lives anew: what its children asked in its earlier life is over, and what became
    /// of the answers to that it does not know. It asks again what its children still ask.
    pub fn forget_questions(&mut self, node: NodeId, effects: &mut Effects) {
        let Some(index) = self.nodes.find(node) else { return };
        let begun = self.questions.0.iter().filter(|(_, it)| !matches!(it.stand, Stand::Over));
        let there = begun.map(|(it, _)| *it).filter(|it| self.row_on(*it, index).is_some());
        for ordinal in there.collect::<Vec<_>>() {
            self.questions.0.remove(&ordinal);
            if self.row(ordinal).is_some_and(|row| row.phase == Phase::Blocked) {
                self.set_phase(ordinal, self.begun_phase(ordinal), effects);
            }
            effects.push(JobEffect::Asked(ordinal));
        }
    }

    /// Answers that a node may not have heard, said again: it takes each once.
    pub(super) fn answer_again(&self, node: NodeIndex, effects: &mut Effects) {
        for (ordinal, asked) in &self.questions.0 {
            let Stand::Answered(answer) = &asked.stand else { continue };
            if self.row_on(*ordinal, node).is_none() {
                continue;
            }
            let (ordinal, incarnation, number) = (*ordinal, asked.incarnation, asked.number);
            let key = QuestionKey { ordinal, incarnation, number };
            effects.push(JobEffect::Answer { node, key, answer: answer.clone() });
        }
    }
}

impl Questions {
    fn is_open(&self, ordinal: Ordinal) -> bool {
        self.0.get(&ordinal).is_some_and(|asked| matches!(asked.stand, Stand::Open(_)))
    }

    /// Whether it says more than what is known.
    fn is_news(&self, ask: &ChildAsk) -> bool {
        let Some(known) = self.0.get(&ask.ordinal) else { return true };
        let over = |open: bool| u8::from(!open);
        let known_at = (known.incarnation, known.number, over(!matches!(known.stand, Stand::Over)));
        (ask.incarnation, ask.number, over(ask.open.is_some())) > known_at
    }
}
