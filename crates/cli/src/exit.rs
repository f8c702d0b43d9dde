//! Which exit status a command ends with (`docs/cli.md`, section 5): a pure function of what
//! happened. Nothing else in this program knows these numbers.

use sortie_model::reason::SpawnStep;
use sortie_model::{JobView, Reason, State};

/// Something that decides the exit status by itself, most important first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Cause {
    /// A signal told us to end.
    Interrupted,
    /// Whoever read our output is gone.
    OutputClosed,
    /// Our output was closed from the start.
    NoOutput,
    /// A fault of ours or of the machine.
    Internal,
    /// The request was refused for who we are.
    NotPermitted,
    /// An id, a literal name or a node that does not exist.
    NotFound,
    /// The request makes no sense as it stands.
    Usage,
    /// The data asked for is no longer kept.
    NoLongerKept,
    /// What is waited for is blocked on input.
    Deadlock,
    /// The wait ran out; the job goes on.
    WaitRanOut,
    /// No node could be reached before anything started.
    NotReached,
    /// The node that we talked to was lost.
    NodeLost,
    /// An expression matches no node, or a glob no job, so nothing was to be done. Decides nothing
    /// beside others.
    NothingMatches,
}

impl Cause {
    /// The exit status.
    pub(crate) const fn status(self) -> u8 {
        match self {
            Self::Interrupted => 130,
            Self::OutputClosed | Self::NoOutput => 128 + SIGPIPE,
            Self::Internal => 1,
            Self::NotPermitted => 103,
            Self::NotFound => 4,
            Self::Usage => 2,
            Self::NoLongerKept => 104,
            Self::Deadlock => 105,
            Self::WaitRanOut => 124,
            Self::NotReached => 125,
            Self::NodeLost => NODE_FAILED,
            Self::NothingMatches => 0,
        }
    }
}

const SIGPIPE: u8 = 13;
const CHILD_FAILED: u8 = 100;
const NODE_FAILED: u8 = 101;
const STOPPED: u8 = 102;
const CANNOT_EXECUTE: u8 = 126;
const COMMAND_NOT_FOUND: u8 = 127;
const DIED_OF_SIGNAL: i32 = 128;
const ENOENT: i32 = 2;

/// How the ends of children become a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// The table.
    Table,
    /// The only child's own status; the table when there are several.
    PassThrough,
    /// The largest status of any child (`-S`).
    Largest,
}

/// Whether children that did not end well make the command fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failures {
    /// They do.
    Count,
    /// They do not (`--no-fail`).
    Ignore,
}

/// How the children ended, as far as the status needs it; holds a few words for any number of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ends {
    total: u64,
    failed: u64,
    by_node: u64,
    unreachable: u64,
    stopped: u64,
    largest: u8,
}

impl Ends {
    /// Counts `count` children that need no reason: they completed, were stopped, or go on.
    pub(crate) fn add(&mut self, state: State, count: u64) {
        self.total = self.total.saturating_add(count);
        match state {
            State::Stopped => self.stopped = self.stopped.saturating_add(count),
            State::Disconnected => self.by_node = self.by_node.saturating_add(count),
            _ => {}
        }
    }

    /// Counts the children of a job. One that failed though none of them did, since not all of them
    /// came, counts as a failure.
    pub(crate) fn add_job(&mut self, job: &JobView) {
        State::ALL.into_iter().for_each(|state| self.add(state, job.tally.of(state)));
        if job.lacks_children() {
            self.note_unexplained(1);
        }
    }

    /// Counts a child that failed.
    pub(crate) fn add_failure(&mut self, reason: &Reason) {
        self.total = self.total.saturating_add(1);
        self.note_failure(reason);
    }

    /// Says why one of the children that are counted already failed.
    pub(crate) fn note_failure(&mut self, reason: &Reason) {
        let by_node = reason.is_about_the_node();
        if by_node {
            self.by_node = self.by_node.saturating_add(1);
        } else {
            self.failed = self.failed.saturating_add(1);
        }
        if matches!(reason, Reason::Unreachable { .. }) {
            self.unreachable = self.unreachable.saturating_add(1);
        }
        let without_code = if by_node { NODE_FAILED } else { CHILD_FAILED };
        self.largest = self.largest.max(own_status(reason).unwrap_or(without_code));
    }

    /// Says that so many of the children that are counted already failed for unknown reasons.
    pub(crate) fn note_unexplained(&mut self, count: u64) {
        if count > 0 {
            self.failed = self.failed.saturating_add(count);
            self.largest = self.largest.max(CHILD_FAILED);
        }
    }

    /// How many children were counted.
    pub(crate) const fn total(&self) -> u64 {
        self.total
    }

    fn by_table(&self) -> u8 {
        match self {
            Self { failed: 1.., .. } => CHILD_FAILED,
            Self { unreachable: 1.., .. } if self.unreachable == self.total => {
                Cause::NotReached.status()
            }
            Self { by_node: 1.., .. } => NODE_FAILED,
            Self { stopped: 1.., .. } => STOPPED,
            _ => 0,
        }
    }

    fn by_rule(&self, rule: Rule) -> u8 {
        match rule {
            Rule::PassThrough if self.total == 1 && self.failed == 1 => self.largest,
            Rule::Largest if self.failed + self.by_node > 0 => self.largest,
            _ => self.by_table(),
        }
    }
}

/// The status that a child would have had if we had run it ourselves.
fn own_status(reason: &Reason) -> Option<u8> {
    match reason {
        Reason::Exit { code } => Some(clamp(*code)),
        Reason::Signal { number, .. } => Some(clamp(DIED_OF_SIGNAL.saturating_add(*number))),
        Reason::Spawn { step: SpawnStep::Exec, errno: ENOENT } => Some(COMMAND_NOT_FOUND),
        Reason::Spawn { step: SpawnStep::Exec, .. } => Some(CANNOT_EXECUTE),
        _ => None,
    }
}

fn clamp(code: i32) -> u8 {
    u8::try_from(code.clamp(0, 255)).unwrap_or(u8::MAX)
}

/// Everything that happened in one command.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    first: Option<Cause>,
    /// How the children ended.
    pub(crate) ends: Ends,
}

impl Outcome {
    /// Something happened that decides the status, unless something more important did.
    pub(crate) fn note(&mut self, cause: Cause) {
        if cause != Cause::NothingMatches {
            self.first = Some(self.first.map_or(cause, |first| first.min(cause)));
        }
    }

    /// The exit status.
    pub(crate) fn status(&self, rule: Rule, failures: Failures) -> u8 {
        if let Some(cause) = self.first {
            return cause.status();
        }
        let status = self.ends.by_rule(rule);
        match failures {
            Failures::Ignore if status != Cause::NotReached.status() => 0,
            _ => status,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sortie_model::Timestamp;
    use sortie_model::reason::{LimitKind, ReachStep};

    use super::*;

    enum End {
        Completed,
        Stopped,
        Failed(Reason),
    }
    use End::{Completed, Stopped};

    fn exit(code: i32) -> End {
        End::Failed(Reason::Exit { code })
    }
    fn signal(number: i32) -> End {
        let name = "KILL".to_owned();
        End::Failed(Reason::Signal { number, name, core_dumped: false })
    }
    fn spawn(step: SpawnStep, errno: i32) -> End {
        End::Failed(Reason::Spawn { step, errno })
    }
    fn unreachable() -> End {
        End::Failed(Reason::Unreachable { step: ReachStep::Connect })
    }
    fn lost() -> End {
        End::Failed(Reason::NodeLost { since: Timestamp(0) })
    }
    fn timeout() -> End {
        End::Failed(Reason::Timeout { limit: Duration::from_secs(1) })
    }

    fn outcome(ends: &[End]) -> Outcome {
        let mut outcome = Outcome::default();
        for end in ends {
            match end {
                Completed => outcome.ends.add(State::Completed, 1),
                Stopped => outcome.ends.add(State::Stopped, 1),
                End::Failed(reason) => outcome.ends.add_failure(reason),
            }
        }
        outcome
    }

    #[track_caller]
    fn check(ends: &[End], rule: Rule, status: u8) {
        assert_eq!(outcome(ends).status(rule, Failures::Count), status);
    }

    #[test]
    fn the_table_ranks_failed_children_before_lost_nodes_before_stops() {
        check(&[], Rule::Table, 0);
        check(&[Completed, Completed], Rule::Table, 0);
        check(&[exit(7)], Rule::Table, 100);
        check(&[Completed, exit(7), lost(), Stopped], Rule::Table, 100);
        check(&[Completed, lost(), Stopped], Rule::Table, 101);
        check(&[Completed, unreachable()], Rule::Table, 101);
        check(&[End::Failed(Reason::StartUncertain)], Rule::Table, 101);
        check(&[Completed, Stopped], Rule::Table, 102);
    }

    #[test]
    fn nothing_started_when_every_node_was_unreachable() {
        check(&[unreachable()], Rule::PassThrough, 125);
        check(&[unreachable(), unreachable()], Rule::PassThrough, 125);
        check(&[unreachable(), lost()], Rule::PassThrough, 101);
    }

    #[test]
    fn a_single_childs_own_status_passes_through() {
        check(&[Completed], Rule::PassThrough, 0);
        check(&[exit(7)], Rule::PassThrough, 7);
        check(&[exit(255)], Rule::PassThrough, 255);
        check(&[signal(9)], Rule::PassThrough, 137);
        check(&[spawn(SpawnStep::Exec, 2)], Rule::PassThrough, 127);
        check(&[spawn(SpawnStep::Exec, 13)], Rule::PassThrough, 126);
        check(&[lost()], Rule::PassThrough, 101);
        check(&[Stopped], Rule::PassThrough, 102);
    }

    #[test]
    fn a_failure_without_a_status_is_100() {
        let limit = End::Failed(Reason::Limit { which: LimitKind::Output });
        let panic = End::Failed(Reason::Panic { message: "no".to_owned() });
        for end in [timeout(), End::Failed(Reason::Oom), limit, panic] {
            check(&[end], Rule::PassThrough, 100);
        }
        check(&[spawn(SpawnStep::Chdir, 2)], Rule::PassThrough, 100);
    }

    #[test]
    fn several_children_never_pass_through() {
        check(&[exit(7), Completed], Rule::PassThrough, 100);
        check(&[spawn(SpawnStep::Exec, 2), spawn(SpawnStep::Exec, 2)], Rule::PassThrough, 100);
    }

    #[test]
    fn the_largest_status_wins_when_it_is_asked_for() {
        check(&[exit(7), exit(3), Completed], Rule::Largest, 7);
        check(&[exit(7), signal(9)], Rule::Largest, 137);
        check(&[exit(7), timeout()], Rule::Largest, 100);
        check(&[exit(7), lost()], Rule::Largest, 101);
        check(&[Completed, Stopped], Rule::Largest, 102);
        check(&[Completed], Rule::Largest, 0);
    }

    #[test]
    fn ignored_failures_are_a_0_and_an_unreached_node_is_not() {
        for ends in [vec![exit(7)], vec![exit(7), lost()], vec![lost()], vec![Stopped]] {
            for rule in [Rule::Table, Rule::PassThrough, Rule::Largest] {
                assert_eq!(outcome(&ends).status(rule, Failures::Ignore), 0);
            }
        }
        assert_eq!(outcome(&[unreachable()]).status(Rule::PassThrough, Failures::Ignore), 125);
    }

    #[test]
    fn the_first_cause_of_the_table_decides_whatever_came_first() {
        let order = [
            (Cause::Interrupted, 130),
            (Cause::Internal, 1),
            (Cause::NotPermitted, 103),
            (Cause::NotFound, 4),
            (Cause::Deadlock, 105),
            (Cause::WaitRanOut, 124),
        ];
        for (index, (cause, status)) in order.into_iter().enumerate() {
            for (other, _) in order.into_iter().skip(index) {
                let mut outcome = outcome(&[exit(7), lost(), Stopped]);
                outcome.note(other);
                outcome.note(cause);
                assert_eq!(outcome.status(Rule::PassThrough, Failures::Ignore), status);
            }
        }
    }

    #[test]
    fn what_matches_nothing_is_no_failure_and_hides_none() {
        assert_eq!(Cause::NothingMatches.status(), 0);
        let mut outcome = outcome(&[exit(7)]);
        outcome.note(Cause::NothingMatches);
        assert_eq!(outcome.status(Rule::Table, Failures::Count), 100);
    }

    #[test]
    fn reasons_may_come_after_the_children_were_counted() {
        let mut outcome = Outcome::default();
        outcome.ends.add(State::Completed, 2);
        outcome.ends.add(State::Failed, 1);
        outcome.ends.note_failure(&Reason::Exit { code: 9 });
        assert_eq!(outcome.ends.total(), 3);
        assert_eq!(outcome.status(Rule::Table, Failures::Count), 100);
        assert_eq!(outcome.status(Rule::Largest, Failures::Count), 9);
    }
}
