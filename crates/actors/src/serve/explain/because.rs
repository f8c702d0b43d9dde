//! Why an entry is where it is, and what to type next: sentences from facts.

use std::time::Duration;

use sortie_engine::parent_job::Unkept;
use sortie_model::quantity::show_duration;
use sortie_model::view::Tally;
use sortie_model::{EntryId, NodeName, Question, State};

/// What the sentences are made of.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    /// The entry that was asked for, and its job.
    pub(super) id: EntryId,
    pub(super) job: EntryId,
    pub(super) is_child: bool,
    /// Whether its job runs a function.
    pub(super) is_function: bool,
    pub(super) state: State,
    pub(super) more_data: bool,
    /// The job's children.
    pub(super) tally: Tally,
    /// The codes of their reasons, and how many failed so; empty for a child.
    pub(super) failed: Vec<(&'static str, u64)>,
    /// Children that wait for a slot, and those of them before the child that was asked for.
    pub(super) waiting: u64,
    pub(super) before: Option<u64>,
    pub(super) throttle: Option<u32>,
    /// Why nothing begins that waits for a slot, if the journal did not take it.
    pub(super) unkept: Option<Unkept>,
    /// What its children ask and nobody has answered.
    pub(super) asking: Vec<(EntryId, Question)>,
    /// Children that wait for their restart, and how long the first of them still does.
    pub(super) resting: (u64, Option<Duration>),
    /// Nodes that are waited for, and why.
    pub(super) away: Vec<(NodeName, String)>,
    pub(super) stopped_by: Option<String>,
}

/// A sentence for each thing that keeps the entry where it is.
pub(super) fn because(facts: &Facts) -> Vec<String> {
    let mut said = Vec::new();
    if !facts.failed.is_empty() {
        let kinds = facts.failed.iter().map(|(code, count)| format!("{count} {code}"));
        let kinds = kinds.collect::<Vec<_>>().join(", ");
        let failed = facts.tally.of(State::Failed);
        said.push(format!("{failed} of {} children failed: {kinds}", facts.tally.total()));
    }
    for (child, question) in &facts.asking {
        said.push(format!("{child} asks: {}", question.prompt));
    }
    said.extend(suspension(facts).map(str::to_owned));
    said.extend(restart(facts));
    said.extend(queue(facts));
    if facts.tally.open && !facts.is_child {
        said.push("its input is not at its end, so more children may come".to_owned());
    }
    for (node, what) in &facts.away {
        said.push(format!("waits for node {node}: {what}"));
    }
    let unfinished = facts.tally.total() - facts.tally.finished();
    if let Some(who) = facts.stopped_by.as_ref().filter(|_| !facts.state.is_finished()) {
        said.push(format!("told to stop by {who}; {}", have_not_ended(unfinished)));
    }
    if facts.state.is_finished() && facts.more_data {
        said.push("it is over, and has results that nobody has received".to_owned());
    }
    said
}

fn have_not_ended(count: u64) -> String {
    match count {
        1 => "1 child has not ended".to_owned(),
        count => format!("{count} children have not ended"),
    }
}

fn suspension(facts: &Facts) -> Option<&'static str> {
    match (facts.state, facts.is_child) {
        (State::Suspended, true) => Some("it is suspended, and goes on when it is resumed"),
        (State::Suspended, false) => {
            Some("it is suspended; what has not started starts when it is resumed")
        }
        (State::Suspending, _) if facts.is_function => {
            Some("it was told to suspend; a function does so at its next checkpoint")
        }
        (State::Suspending, _) => {
            Some("it was told to suspend, and its node has not said that it stands still")
        }
        _ => None,
    }
}

fn restart(facts: &Facts) -> Option<String> {
    let (count, first) = facts.resting;
    let soon = first.map_or_else(
        || "when its siblings have been stopped".to_owned(),
        // To the second, and never less than what is left.
        |left| format!("in {}", show_duration(Duration::from_secs(left.as_secs() + 1))),
    );
    match (facts.is_child, count) {
        (_, 0) => None,
        (true, _) => Some(format!("it starts again {soon}")),
        (false, 1) => Some(format!("1 child starts again {soon}")),
        (false, count) => Some(format!("{count} children start again, the first {soon}")),
    }
}

fn queue(facts: &Facts) -> Option<String> {
    if facts.state == State::Suspended {
        return None;
    }
    let throttle = match (facts.unkept, facts.throttle) {
        (Some(Unkept::Full), _) => "the disk is full, and nothing begins that cannot be noted: \
                                    free some space"
            .to_owned(),
        (Some(Unkept::Failed), _) => "the journal failed, and nothing begins that cannot be \
                                      noted: run `sortie node restart`"
            .to_owned(),
        (None, None) => "its nodes have as many as they may".to_owned(),
        (None, Some(most)) => format!("the throttle lets {most} run at once"),
    };
    match (facts.is_child, facts.before) {
        (true, Some(0)) => Some(format!("it starts next: {throttle}")),
        (true, Some(before)) => Some(format!("{before} children start before it: {throttle}")),
        (false, _) if facts.waiting == 1 => Some(format!("1 child waits for its turn: {throttle}")),
        (false, _) if facts.waiting > 0 => {
            Some(format!("{} children wait for their turn: {throttle}", facts.waiting))
        }
        _ => None,
    }
}

/// Commands that help from here, the likeliest first.
pub(super) fn next(facts: &Facts) -> Vec<String> {
    let Facts { id, job, .. } = facts;
    let mut commands = Vec::new();
    if let Some((child, _)) = facts.asking.first() {
        commands.push(format!("sortie send {child} TEXT"));
    }
    if facts.state == State::Blocked {
        commands.push(format!("sortie receive {id} --wait"));
    }
    if !facts.failed.is_empty() {
        commands.push(format!("sortie get {job} --child-state failed"));
    }
    if let Some((node, _)) = facts.away.first() {
        commands.push(format!("sortie node ping {node}"));
    }
    let suspended = matches!(facts.state, State::Suspended | State::Suspending);
    if suspended {
        commands.push(format!("sortie resume {id}"));
    }
    if !facts.state.is_finished() {
        if facts.state != State::Blocked && !suspended {
            commands.push(format!("sortie receive {id} --wait"));
        }
        if facts.waiting > 0 {
            commands.push(format!("sortie get {job} --children"));
        }
        if facts.stopped_by.is_some() {
            commands.push(format!("sortie stop {id} --now"));
        } else {
            commands.push(format!("sortie stop {id}"));
        }
        return commands;
    }
    if facts.more_data {
        commands.push(format!("sortie receive {id} --keep"));
        commands.push(format!("sortie receive {id}"));
    }
    // Children go with their job, when all of it is over.
    if !facts.is_child {
        commands.push(format!("sortie remove {job}"));
    }
    commands
}

#[cfg(test)]
mod tests {
    use sortie_model::{QuestionNumber, Timestamp};

    use super::*;

    fn facts(state: State) -> Facts {
        Facts {
            id: EntryId(3),
            job: EntryId(3),
            is_child: false,
            state,
            more_data: !state.is_finished(),
            tally: Tally::default(),
            failed: Vec::new(),
            waiting: 0,
            before: None,
            throttle: Some(32),
            unkept: None,
            asking: Vec::new(),
            resting: (0, None),
            away: Vec::new(),
            is_function: false,
            stopped_by: None,
        }
    }

    fn tally(states: &[(State, u64)]) -> Tally {
        let mut tally = Tally::default();
        for (state, count) in states {
            tally.by_state[*state as usize] = *count;
        }
        tally
    }

    #[test]
    fn a_running_job_has_nothing_to_explain_and_can_be_watched_or_stopped() {
        let facts = facts(State::Running);
        assert_eq!(because(&facts), [] as [&str; 0]);
        assert_eq!(next(&facts), ["sortie receive 3 --wait", "sortie stop 3"]);
    }

    #[test]
    fn failures_are_counted_by_their_reasons() {
        let facts = Facts {
            tally: tally(&[(State::Failed, 3), (State::Completed, 5)]),
            failed: vec![("exit", 2), ("node_lost", 1)],
            ..facts(State::Failed)
        };
        assert_eq!(because(&facts), ["3 of 8 children failed: 2 exit, 1 node_lost"]);
        assert_eq!(next(&facts), ["sortie get 3 --child-state failed", "sortie remove 3"]);
    }

    #[test]
    fn who_waits_for_a_turn_is_told_what_bounds_it() {
        let job = Facts { waiting: 7, ..facts(State::Running) };
        let throttle = "the throttle lets 32 run at once";
        assert_eq!(because(&job), [format!("7 children wait for their turn: {throttle}")]);
        let child = Facts {
            id: EntryId(5),
            is_child: true,
            before: Some(2),
            waiting: 7,
            ..facts(State::NotStarted)
        };
        assert_eq!(because(&child), [format!("2 children start before it: {throttle}")]);
        let unkept = Facts { unkept: Some(Unkept::Failed), ..job };
        let why = "the journal failed, and nothing begins that cannot be noted: run `sortie node \
                   restart`";
        assert_eq!(because(&unkept), [format!("7 children wait for their turn: {why}")]);
    }

    #[test]
    fn who_waits_for_a_restart_is_told_when_it_comes() {
        let left = Some(Duration::from_millis(3_200));
        let job = Facts { resting: (1, left), ..facts(State::Running) };
        assert_eq!(because(&job), ["1 child starts again in 4s"]);
        let several = Facts { resting: (3, left), ..job };
        assert_eq!(because(&several), ["3 children start again, the first in 4s"]);
        let child = Facts { is_child: true, resting: (1, None), ..facts(State::NotStarted) };
        assert_eq!(because(&child), ["it starts again when its siblings have been stopped"]);
    }

    #[test]
    fn a_node_that_is_away_is_named_with_what_is_known() {
        let node: NodeName = "db1".parse().unwrap();
        let facts = Facts {
            away: vec![(node, "it is silent".to_owned())],
            stopped_by: Some("ada".to_owned()),
            tally: tally(&[(State::Stopping, 1)]),
            ..facts(State::Stopping)
        };
        let expected =
            ["waits for node db1: it is silent", "told to stop by ada; 1 child has not ended"];
        assert_eq!(because(&facts), expected);
        assert_eq!(next(&facts).first().map(String::as_str), Some("sortie node ping db1"));
        assert_eq!(next(&facts).last().map(String::as_str), Some("sortie stop 3 --now"));
    }

    #[test]
    fn results_that_wait_are_pointed_out() {
        let facts = Facts { more_data: true, ..facts(State::Completed) };
        assert_eq!(because(&facts), ["it is over, and has results that nobody has received"]);
        let expected = ["sortie receive 3 --keep", "sortie receive 3", "sortie remove 3"];
        assert_eq!(next(&facts), expected);
    }

    #[test]
    fn a_suspended_entry_says_how_to_let_it_go_on() {
        let job = Facts { waiting: 7, ..facts(State::Suspended) };
        let expected = ["it is suspended; what has not started starts when it is resumed"];
        assert_eq!(because(&job), expected);
        assert_eq!(next(&job), ["sortie resume 3", "sortie get 3 --children", "sortie stop 3"]);
        let child = Facts { is_child: true, ..facts(State::Suspending) };
        let expected = ["it was told to suspend, and its node has not said that it stands still"];
        assert_eq!(because(&child), expected);
        let of_function = Facts { is_function: true, ..child.clone() };
        let expected = ["it was told to suspend; a function does so at its next checkpoint"];
        assert_eq!(because(&of_function), expected);
        assert_eq!(next(&child).first().map(String::as_str), Some("sortie resume 3"));
    }

    #[test]
    fn a_blocked_entry_says_what_is_asked_and_how_to_answer() {
        let question = |prompt: &str| Question {
            number: QuestionNumber(1),
            prompt: prompt.to_owned(),
            time: Timestamp(0),
        };
        let asking = vec![(EntryId(4), question("sure?")), (EntryId(6), question("name?"))];
        let facts = Facts { asking, ..facts(State::Blocked) };
        assert_eq!(because(&facts), ["4 asks: sure?", "6 asks: name?"]);
        let expected = ["sortie send 4 TEXT", "sortie receive 3 --wait", "sortie stop 3"];
        assert_eq!(next(&facts), expected);
    }
}
