use sortie_model::restart::{RestartSpec, RestartType};
use sortie_wire::host_proto::{ChildAsk, OpenQuestion};

use super::*;
use crate::ask::{Asking, Taken};

fn asks(ordinal: u32, number: u32, taken: u32) -> ChildAsk {
    let open = Some(OpenQuestion { prompt: format!("question {number}"), time: NOW });
    ChildAsk {
        ordinal: Ordinal(ordinal),
        incarnation: ChildIncarnation(0),
        number: QuestionNumber(number),
        open,
        taken: QuestionNumber(taken),
    }
}

fn asks_no_more(ordinal: u32, number: u32, taken: u32) -> ChildAsk {
    ChildAsk { open: None, ..asks(ordinal, number, taken) }
}

/// A job of so many children on one node, which all began.
pub(super) fn running(children: u32) -> ParentJob {
    let (mut job, _) = accept(spec(per_node(children), None), 1);
    let begun: Vec<ChildStart> = (0..children).map(begin).collect();
    assert_eq!(job.on_report(node(0), &begun, vec![], &mut Effects::new()), Ok(()));
    job
}

fn report(job: &mut ParentJob, ask: ChildAsk) -> Effects {
    let mut effects = Effects::new();
    assert_eq!(job.on_asked(node(0), vec![ask], NOW, &mut effects), Ok(()));
    effects
}

fn answer(job: &mut ParentJob, number: Option<u32>) -> Result<QuestionKey, NotAsking> {
    let to = (Ordinal(0), number.map(QuestionNumber));
    job.on_answer(to, Bytes::from_static(b"\xc3"), NOW, &mut Effects::new())
}

#[test]
fn one_child_that_asks_blocks_its_job_until_somebody_answers() {
    let mut job = running(2);
    let effects = report(&mut job, asks(0, 1, 0));
    assert!(effects.contains(&JobEffect::ParentChanged(State::Blocked)));
    assert_eq!(job.child_state(Ordinal(0)), Some(State::Blocked));
    let question = job.question(Ordinal(0)).expect("it asks");
    assert_eq!((question.number, question.prompt.as_str()), (QuestionNumber(1), "question 1"));
    let mut effects = Effects::new();
    let said = Bytes::from_static(b"\xc3");
    let key = job.on_answer((Ordinal(0), None), said.clone(), NOW, &mut effects).expect("asked");
    assert!(effects.contains(&JobEffect::Answer { node: NodeIndex(0), key, answer: said }));
    assert_eq!((job.state(), job.question(Ordinal(0))), (State::Running, None));
    assert_eq!(job.answered(key), Answered::Sent);
    report(&mut job, asks_no_more(0, 1, 1));
    assert_eq!(job.answered(key), Answered::Taken);
}

#[test]
fn an_answer_to_an_old_question_and_a_second_answer_are_refused() {
    let mut job = running(1);
    assert_eq!(answer(&mut job, None), Err(NotAsking::Nothing));
    report(&mut job, asks(0, 2, 1));
    assert_eq!(answer(&mut job, Some(1)), Err(NotAsking::Other));
    let key = answer(&mut job, Some(2)).expect("it asks");
    assert_eq!(answer(&mut job, Some(2)), Err(NotAsking::Answered));
    report(&mut job, asks_no_more(0, 2, 2));
    assert_eq!(answer(&mut job, Some(2)), Err(NotAsking::Answered));
    assert_eq!(job.answered(key), Answered::Taken);
}

#[test]
fn an_answer_that_came_too_late_was_missed() {
    let mut job = running(1);
    report(&mut job, asks(0, 1, 0));
    let key = answer(&mut job, None).expect("it asks");
    report(&mut job, asks_no_more(0, 1, 0));
    assert_eq!((job.answered(key), job.state()), (Answered::Missed, State::Running));
    report(&mut job, asks(0, 2, 0));
    let key = answer(&mut job, None).expect("it asks");
    let ended = vec![end(0, Verdict::Completed)];
    assert_eq!(job.on_report(node(0), &[], ended, &mut Effects::new()), Ok(()));
    assert_eq!((job.answered(key), job.state()), (Answered::Missed, State::Completed));
}

#[test]
fn a_blocked_child_that_is_told_to_stop_asks_nothing_any_more() {
    let mut job = running(2);
    report(&mut job, asks(0, 1, 0));
    let mut effects = Effects::new();
    job.on_stop(order(ChildSet::All), NOW, &mut effects);
    assert_eq!((job.state(), job.question(Ordinal(0))), (State::Stopping, None));
    assert_eq!(answer(&mut job, Some(1)), Err(NotAsking::Nothing));
    report(&mut job, asks(1, 1, 0));
    assert_eq!((job.state(), job.question(Ordinal(1))), (State::Stopping, None));
}

#[test]
fn what_became_of_an_answer_is_known_also_when_a_stop_came_between() {
    let mut job = running(1);
    report(&mut job, asks(0, 1, 0));
    let key = answer(&mut job, None).expect("it asks");
    job.on_stop(order(ChildSet::All), NOW, &mut Effects::new());
    assert_eq!(job.answered(key), Answered::Sent);
    report(&mut job, asks_no_more(0, 1, 1));
    assert_eq!((job.answered(key), job.state()), (Answered::Taken, State::Stopping));
}

#[test]
fn a_question_ends_with_its_node_and_outlives_a_connection() {
    let mut job = running(2);
    report(&mut job, asks(0, 1, 0));
    report(&mut job, asks(1, 1, 0));
    let key = answer(&mut job, None).expect("it asks");
    let mut effects = Effects::new();
    job.on_reconnected(node(0), NOW, &mut effects);
    let again = JobEffect::Answer { node: NodeIndex(0), key, answer: Bytes::from_static(b"\xc3") };
    assert_eq!(effects, [again]);
    assert_eq!(job.asking().collect::<Vec<_>>(), [(Ordinal(1), QuestionNumber(1))]);
    job.on_lost((node(0), NOW), |_| false, NOW, &mut Effects::new());
    assert_eq!((job.asking().count(), job.state()), (0, State::Failed));
    assert_eq!(job.answered(key), Answered::Missed);
    let reason = job.child_failure(Ordinal(1)).map(|(reason, _)| reason);
    assert_eq!(reason, Some(Reason::NodeLost { since: NOW }));
}

#[test]
fn a_question_is_over_with_the_life_of_its_node_and_is_asked_again() {
    let mut job = running(2);
    report(&mut job, asks(0, 3, 2));
    report(&mut job, asks(1, 1, 0));
    let to = (Ordinal(1), None);
    let mut effects = Effects::new();
    let key = job.on_answer(to, Bytes::new(), NOW, &mut effects).expect("it asks");
    let mut effects = Effects::new();
    job.forget_questions(node(0), &mut effects);
    for ordinal in [Ordinal(0), Ordinal(1)] {
        assert!(effects.contains(&JobEffect::Asked(ordinal)));
        assert_eq!(job.child_state(ordinal), Some(State::Running));
    }
    assert_eq!(job.answered(key), Answered::Missed);
    assert_eq!(answer(&mut job, None), Err(NotAsking::Nothing));
    let mut effects = Effects::new();
    job.on_reconnected(node(0), NOW, &mut effects);
    assert!(!effects.iter().any(|effect| matches!(effect, JobEffect::Answer { .. })));
    report(&mut job, asks(0, 1, 0));
    assert_eq!(job.child_state(Ordinal(0)), Some(State::Blocked));
}

#[test]
fn a_question_dies_with_its_incarnation_and_the_next_one_counts_anew() {
    let restart = RestartSpec { restart: RestartType::Permanent, ..RestartSpec::default() };
    let (mut job, _) = accept(JobSpec { restart, ..spec(per_node(1), None) }, 1);
    assert_eq!(job.on_report(node(0), &[begin(0)], vec![], &mut Effects::new()), Ok(()));
    report(&mut job, asks(0, 3, 2));
    let key = answer(&mut job, Some(3)).expect("it asks");
    let ended = vec![end(0, failed())];
    assert_eq!(job.on_report(node(0), &[], ended, &mut Effects::new()), Ok(()));
    assert_eq!((job.asking().count(), job.answered(key)), (0, Answered::Missed));
    let next = ChildIncarnation(1);
    let begun = ChildStart { incarnation: next, ..begin(0) };
    assert_eq!(job.on_report(node(0), &[begun], vec![], &mut Effects::new()), Ok(()));
    // A late word about the life before means nothing.
    report(&mut job, asks(0, 4, 2));
    assert_eq!((job.state(), job.question(Ordinal(0))), (State::Running, None));
    report(&mut job, ChildAsk { incarnation: next, ..asks(0, 1, 0) });
    assert_eq!(job.state(), State::Blocked);
    assert_eq!(job.question(Ordinal(0)).map(|it| it.number), Some(QuestionNumber(1)));
    assert_eq!(answer(&mut job, Some(3)), Err(NotAsking::Other));
    assert_eq!(answer(&mut job, None).map(|key| key.incarnation), Ok(next));
}

#[test]
fn a_question_may_overtake_the_word_that_its_child_began() {
    let (mut job, _) = accept(spec(per_node(1), None), 1);
    report(&mut job, asks(0, 1, 0));
    assert_eq!(job.child_state(Ordinal(0)), Some(State::NotStarted));
    assert_eq!(job.on_report(node(0), &[begin(0)], vec![], &mut Effects::new()), Ok(()));
    assert_eq!(job.state(), State::Blocked);
}

#[test]
fn a_question_of_anothers_child_or_of_great_length_is_a_false_report() {
    let (mut job, _) = accept(spec(per_node(1), None), 2);
    let mut effects = Effects::new();
    assert_eq!(job.on_asked(node(0), vec![asks(1, 1, 0)], NOW, &mut effects), Err(FalseReport));
    let prompt = "x".repeat(limits::PROMPT_BYTES + 1);
    let long = ChildAsk { open: Some(OpenQuestion { prompt, time: NOW }), ..asks(0, 1, 0) };
    assert_eq!(job.on_asked(node(0), vec![long], NOW, &mut effects), Err(FalseReport));
    assert_eq!(effects, []);
}

#[derive(Debug, Clone)]
enum Step {
    Ask,
    Withdraw,
    Answer(u32),
    ReportArrives,
    AnswerArrives,
    Reconnect,
    Stop,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Ask),
        1 => Just(Step::Withdraw),
        4 => (0_u32..5).prop_map(Step::Answer),
        4 => Just(Step::ReportArrives),
        4 => Just(Step::AnswerArrives),
        1 => Just(Step::Reconnect),
        1 => Just(Step::Stop),
    ]
}

/// A child with its node on one side, its owner on the other, and what is on the way between.
struct Both {
    job: ParentJob,
    child: Asking,
    prompts: u32,
    told: bool,
    /// Everything that the node ever reported; repeated from the start by a reconnection.
    reports: Vec<ChildAsk>,
    arrived: usize,
    answers: Vec<QuestionKey>,
    /// Which questions the child has answers to: the slow model.
    taken: Vec<QuestionNumber>,
    accepted: Vec<QuestionKey>,
}

impl Both {
    fn new() -> Self {
        Self {
            job: running(1),
            child: Asking::default(),
            prompts: 0,
            told: false,
            reports: Vec::new(),
            arrived: 0,
            answers: Vec::new(),
            taken: Vec::new(),
            accepted: Vec::new(),
        }
    }

    fn says(&mut self) {
        let (last, taken) = self.child.numbers();
        let open = self.child.is_open(last);
        let word = if open { asks } else { asks_no_more };
        self.reports.push(word(0, last.0, taken.0));
    }

    fn withdraw(&mut self) {
        let (last, _) = self.child.numbers();
        if self.child.withdraw(last) == crate::ask::Changed::Yes {
            self.says();
        }
    }

    fn carry(&mut self, effects: Effects) {
        self.answers.extend(effects.into_iter().filter_map(|effect| match effect {
            JobEffect::Answer { key, .. } => Some(key),
            _ => None,
        }));
    }

    fn report_arrives(&mut self) {
        if let Some(ask) = self.reports.get(self.arrived).cloned() {
            self.arrived += 1;
            report(&mut self.job, ask);
        }
    }

    fn answer_arrives(&mut self) {
        if !self.answers.is_empty() {
            let key = self.answers.remove(0);
            if self.child.answer(key.number) == Taken::Yes {
                self.taken.push(key.number);
                self.says();
            }
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Ask if !self.told => {
                if self.child.ask().is_some() {
                    self.prompts += 1;
                    self.says();
                }
            }
            Step::Ask => {}
            Step::Withdraw => self.withdraw(),
            Step::Answer(number) => {
                let number = (number > 0).then_some(QuestionNumber(number));
                let mut effects = Effects::new();
                let to = (Ordinal(0), number);
                if let Ok(key) = self.job.on_answer(to, Bytes::new(), NOW, &mut effects) {
                    self.accepted.push(key);
                }
                self.carry(effects);
            }
            Step::ReportArrives => self.report_arrives(),
            Step::AnswerArrives => self.answer_arrives(),
            Step::Reconnect => {
                // What was on its way is lost; reports come again, some of them twice.
                self.answers.clear();
                self.arrived = self.arrived.saturating_sub(2);
                let mut effects = Effects::new();
                self.job.on_reconnected(node(0), NOW, &mut effects);
                self.carry(effects);
            }
            Step::Stop => {
                self.job.on_stop(order(ChildSet::All), NOW, &mut Effects::new());
                self.told = true;
                self.withdraw();
            }
        }
    }

    fn settle(&mut self) {
        while self.arrived < self.reports.len() || !self.answers.is_empty() {
            self.report_arrives();
            self.answer_arrives();
        }
    }
}

proptest! {
    /// Whatever is lost, repeated and late between a child and its owner: no question has two
    /// answers, and in the end both sides say the same of each.
    #[test]
    fn owner_and_node_agree_on_every_question(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut both = Both::new();
        for step in steps {
            both.take(step);
            let mut once = both.taken.clone();
            once.dedup();
            prop_assert_eq!(&once, &both.taken, "a question was answered twice");
        }
        both.take(Step::Reconnect);
        both.settle();
        let (last, _) = both.child.numbers();
        let open = both.child.is_open(last);
        prop_assert_eq!(both.job.question(Ordinal(0)).map(|it| it.number), open.then_some(last));
        let state = if both.told {
            State::Stopping
        } else if open {
            State::Blocked
        } else {
            State::Running
        };
        prop_assert_eq!(both.job.state(), state);
        if let Some(key) = both.accepted.last() {
            let taken = both.taken.contains(&key.number);
            let newest = both.taken.last() == Some(&key.number);
            let answered = both.job.answered(*key);
            prop_assert_ne!(answered, Answered::Sent);
            prop_assert!(!newest || answered == Answered::Taken);
            prop_assert!(taken || answered == Answered::Missed);
        }
    }
}
