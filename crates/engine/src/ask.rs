//! What one running child asks, where it runs (`docs/semantics.md`, section 2.3): one question at a
//! time, and one winner between its answer and whatever else ends it.

use sortie_model::QuestionNumber;

/// Whether an answer is the child's now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is.
    Yes,
    /// It answers nothing that is asked.
    No,
}

/// Whether the owner is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// What the child asks changed.
    Yes,
    /// It asks what it asked before.
    No,
}

/// The questions of one incarnation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asking {
    last: QuestionNumber,
    taken: QuestionNumber,
    open: bool,
}

impl Asking {
    /// Those of one that asked before, up to that number at most; nobody answers that any more.
    pub fn after(last: QuestionNumber) -> Self {
        Self { last, ..Self::default() }
    }

    /// The child asks. Nothing while its question before is open.
    pub const fn ask(&mut self) -> Option<QuestionNumber> {
        if self.open {
            return None;
        }
        self.last = self.last.next();
        self.open = true;
        Some(self.last)
    }

    /// An answer came. An answer to another question than the open one is too late, or came before.
    pub fn answer(&mut self, number: QuestionNumber) -> Taken {
        if !self.is_open(number) {
            return Taken::No;
        }
        self.open = false;
        self.taken = number;
        Taken::Yes
    }

    /// The child wants no answer any more: the future that asked was dropped, or it was told to
    /// stop.
    pub fn withdraw(&mut self, number: QuestionNumber) -> Changed {
        if !self.is_open(number) {
            return Changed::No;
        }
        self.open = false;
        Changed::Yes
    }

    /// Whether that question waits for its answer.
    pub fn is_open(&self, number: QuestionNumber) -> bool {
        self.open && self.last == number
    }

    /// The last question, and the last one whose answer the child took.
    pub const fn numbers(&self) -> (QuestionNumber, QuestionNumber) {
        (self.last, self.taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Ask,
        Answer(u32),
        Withdraw(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            Just(Step::Ask),
            (0_u32..6).prop_map(Step::Answer),
            (0_u32..6).prop_map(Step::Withdraw),
        ]
    }

    /// What became of each question, from the first: a slow model that forgets nothing.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Fate {
        Open,
        Answered,
        Withdrawn,
    }

    proptest! {
        #[test]
        fn each_question_has_one_fate(steps in prop::collection::vec(step(), 0..40)) {
            let mut asking = Asking::default();
            let mut fates: Vec<Fate> = Vec::new();
            for step in steps {
                let open = |fates: &[Fate], number: u32| {
                    number > 0 && fates.get(number as usize - 1) == Some(&Fate::Open)
                };
                match step {
                    Step::Ask => {
                        let waits = fates.contains(&Fate::Open);
                        let number = asking.ask();
                        prop_assert_eq!(number.is_none(), waits);
                        if let Some(number) = number {
                            fates.push(Fate::Open);
                            prop_assert_eq!(number.0 as usize, fates.len());
                        }
                    }
                    Step::Answer(number) => {
                        let wanted = open(&fates, number);
                        let taken = asking.answer(QuestionNumber(number));
                        prop_assert_eq!(taken == Taken::Yes, wanted);
                        if wanted {
                            fates[number as usize - 1] = Fate::Answered;
                        }
                    }
                    Step::Withdraw(number) => {
                        let wanted = open(&fates, number);
                        let changed = asking.withdraw(QuestionNumber(number));
                        prop_assert_eq!(changed == Changed::Yes, wanted);
                        if wanted {
                            fates[number as usize - 1] = Fate::Withdrawn;
                        }
                    }
                }
                let answered = fates.iter().rposition(|fate| *fate == Fate::Answered);
                let taken = answered.map_or(0, |place| place as u32 + 1);
                let numbers = (QuestionNumber(fates.len() as u32), QuestionNumber(taken));
                prop_assert_eq!(asking.numbers(), numbers);
            }
        }
    }
}
