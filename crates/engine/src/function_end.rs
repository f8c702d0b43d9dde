//! What a function's end means (`docs/semantics.md`, sections 2.1 and 3.5).

use std::time::Duration;

use sortie_model::Reason;
use sortie_model::facts::{Interruption, MemoryEnd, ProcessEnd, ProcessFacts};
use sortie_model::reason::{LimitKind, WorkerFault};
use sortie_wire::host_proto::{ChildOutcome, Verdict};
use sortie_wire::worker_proto::WorkerEnd;

use crate::child_job::outcome;

/// How a function's future came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FunctionResult {
    /// `Ok`.
    Returned,
    /// `Err`, or a value that could not be encoded.
    Failed(Reason),
    /// A panic.
    Panicked(Reason),
    /// It ran longer than it may.
    TimedOut(Duration),
    /// It wrote more than it may.
    OverLimit,
    /// A job of its own took it along.
    Escalated(Reason),
    /// It did not return within its grace, or what ran it is gone: its future was dropped.
    Dropped,
}

/// Whether a stop had been delivered before the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopDelivered {
    /// It had.
    Yes,
    /// It had not.
    No,
}

/// Once a stop was delivered every end is `Stopped`, except a panic.
pub fn function_outcome(result: FunctionResult, stop: StopDelivered) -> ChildOutcome {
    let verdict = match (result, stop) {
        (FunctionResult::Panicked(reason), _) => Verdict::Failed(reason),
        (FunctionResult::TimedOut(limit), _) => Verdict::Failed(Reason::Timeout { limit }),
        (FunctionResult::OverLimit, _) => {
            Verdict::Failed(Reason::Limit { which: LimitKind::Output })
        }
        // What stopped it then was the same failure.
        (FunctionResult::Escalated(reason), _) => Verdict::Failed(reason),
        (_, StopDelivered::Yes) => Verdict::Stopped,
        (FunctionResult::Returned, StopDelivered::No) => Verdict::Completed,
        (FunctionResult::Failed(reason), StopDelivered::No) => Verdict::Failed(reason),
        (FunctionResult::Dropped, StopDelivered::No) => {
            Verdict::Failed(Reason::Panic { message: "what ran the function is gone".to_owned() })
        }
    };
    ChildOutcome::of(verdict)
}

/// What the worker process of a background function said of its function's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerSaid {
    /// How it ended.
    Ended(WorkerEnd),
    /// Nothing: the process ended first.
    Nothing,
    /// What makes no sense, for which it was killed.
    Garbage,
}

/// The outcome of a background function; first rule that matches. What was done to its process
/// counts as for any process, and where nothing was, its function's result does. `timeout` is as in
/// [`outcome`].
pub fn worker_outcome(
    facts: &ProcessFacts,
    said: WorkerSaid,
    timeout: Option<Duration>,
) -> ChildOutcome {
    let process = outcome(facts, timeout);
    if facts.memory == MemoryEnd::OutOfMemory {
        return process;
    }
    let with = |verdict| ChildOutcome { verdict, ..process.clone() };
    let stopped = process.verdict == Verdict::Stopped;
    match said {
        WorkerSaid::Garbage => {
            with(Verdict::Failed(Reason::NoResult { fault: WorkerFault::Garbage }))
        }
        // A panic is a failure, also after a stop.
        WorkerSaid::Ended(WorkerEnd::Panicked { message })
            if stopped || !is_past_its_limits(facts) =>
        {
            ended(&process, Verdict::Failed(Reason::Panic { message }))
        }
        _ if stopped || is_past_its_limits(facts) => process,
        WorkerSaid::Ended(end) => ended(&process, verdict_of(end)),
        WorkerSaid::Nothing if facts.end == (ProcessEnd::Exited { code: 0 }) => {
            with(Verdict::Failed(Reason::NoResult { fault: WorkerFault::Exited }))
        }
        WorkerSaid::Nothing => process,
    }
}

fn is_past_its_limits(facts: &ProcessFacts) -> bool {
    let limits = [Interruption::Timeout, Interruption::OutputLimit];
    facts.cut_bytes > 0 || limits.iter().any(|limit| facts.interruptions.contains(limit))
}

/// The function's own end: how its process then ended says nothing.
const fn ended(process: &ChildOutcome, verdict: Verdict) -> ChildOutcome {
    ChildOutcome {
        verdict,
        exit_code: None,
        signal: None,
        left_behind: process.left_behind,
        cut_bytes: process.cut_bytes,
    }
}

fn verdict_of(end: WorkerEnd) -> Verdict {
    Verdict::Failed(match end {
        WorkerEnd::Returned { .. } => return Verdict::Completed,
        WorkerEnd::Failed { kind, message } => Reason::Error { kind, message },
        WorkerEnd::TooLarge => Reason::Limit { which: LimitKind::Value },
        WorkerEnd::Panicked { message } => Reason::Panic { message },
    })
}

/// The child of a background function was told that it must end, for these causes, before its
/// function ended: it may have ended for what that did to its jobs, before its process was
/// signalled.
pub fn told_before_its_end(mut facts: ProcessFacts, causes: &[Interruption]) -> ProcessFacts {
    let new = causes.iter().filter(|cause| !facts.interruptions.contains(cause));
    let new: Vec<Interruption> = new.copied().collect();
    facts.interruptions.extend(new);
    facts
}

/// A job of a background function took it along: how its process then ended says nothing, unless
/// that was for want of memory.
pub fn taken_along(outcome: ChildOutcome, facts: &ProcessFacts, reason: Reason) -> ChildOutcome {
    if facts.memory == MemoryEnd::OutOfMemory {
        return outcome;
    }
    ended(&outcome, Verdict::Failed(reason))
}

/// The client died before the end of the child's input, so the child was killed: whatever it said
/// since is not its own doing.
pub fn lost_its_input(outcome: ChildOutcome) -> ChildOutcome {
    ChildOutcome { verdict: Verdict::Failed(Reason::InputLost), ..outcome }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_stop_every_end_is_stopped_except_a_panic() {
        let panic = Reason::Panic { message: "boom".to_owned() };
        let check = |result, stop, verdict| {
            assert_eq!(function_outcome(result, stop), ChildOutcome::of(verdict));
        };
        check(FunctionResult::Returned, StopDelivered::No, Verdict::Completed);
        check(FunctionResult::Returned, StopDelivered::Yes, Verdict::Stopped);
        check(FunctionResult::Dropped, StopDelivered::Yes, Verdict::Stopped);
        let limit = Reason::Limit { which: LimitKind::Output };
        for stop in [StopDelivered::No, StopDelivered::Yes] {
            check(FunctionResult::OverLimit, stop, Verdict::Failed(limit.clone()));
        }
        let failed = || FunctionResult::Panicked(panic.clone());
        check(failed(), StopDelivered::Yes, Verdict::Failed(panic.clone()));
        check(failed(), StopDelivered::No, Verdict::Failed(panic.clone()));
    }

    const EXIT_0: ProcessEnd = ProcessEnd::Exited { code: 0 };
    const LIMIT: Duration = Duration::from_secs(3);

    fn check(
        (end, interruptions): (ProcessEnd, &[Interruption]),
        said: WorkerSaid,
        expected: Verdict,
    ) {
        let facts = ProcessFacts { interruptions: interruptions.to_vec(), ..ProcessFacts::of(end) };
        let found = worker_outcome(&facts, said.clone(), Some(LIMIT)).verdict;
        assert_eq!(found, expected, "{facts:?} {said:?}");
    }

    #[test]
    fn a_background_function_ends_as_it_says_and_else_as_its_process_does() {
        let text = || "boom".to_owned();
        let returned = || WorkerSaid::Ended(WorkerEnd::Returned { value: None });
        check((EXIT_0, &[]), returned(), Verdict::Completed);
        let aborted = ProcessEnd::Signalled { number: 6, core_dumped: false };
        let signal = Reason::Signal { number: 6, name: "ABRT".to_owned(), core_dumped: false };
        check((aborted, &[]), WorkerSaid::Nothing, Verdict::Failed(signal));
        check((aborted, &[]), returned(), Verdict::Completed);
        let failed = WorkerSaid::Ended(WorkerEnd::Failed { kind: text(), message: text() });
        let error = Reason::Error { kind: text(), message: text() };
        check((EXIT_0, &[]), failed, Verdict::Failed(error));
        let exit = Reason::Exit { code: 3 };
        let exited = ProcessEnd::Exited { code: 3 };
        check((exited, &[]), WorkerSaid::Nothing, Verdict::Failed(exit));
        let nothing = Reason::NoResult { fault: WorkerFault::Exited };
        check((EXIT_0, &[]), WorkerSaid::Nothing, Verdict::Failed(nothing));
        let garbage = Reason::NoResult { fault: WorkerFault::Garbage };
        let stop = [Interruption::Stop];
        check((EXIT_0, &stop), WorkerSaid::Garbage, Verdict::Failed(garbage));
    }

    #[test]
    fn what_a_child_was_told_counts_before_its_process_is_signalled() {
        let failed = WorkerEnd::Failed { kind: "e".to_owned(), message: "refused".to_owned() };
        let check = |causes: &[Interruption], expected| {
            let facts = told_before_its_end(ProcessFacts::of(EXIT_0), causes);
            let said = WorkerSaid::Ended(failed.clone());
            assert_eq!(worker_outcome(&facts, said, Some(LIMIT)).verdict, expected);
        };
        check(&[Interruption::Stop], Verdict::Stopped);
        check(&[Interruption::Timeout], Verdict::Failed(Reason::Timeout { limit: LIMIT }));
        let once =
            ProcessFacts { interruptions: vec![Interruption::Stop], ..ProcessFacts::of(EXIT_0) };
        assert_eq!(told_before_its_end(once.clone(), &[Interruption::Stop]), once);
    }

    #[test]
    fn a_job_that_takes_its_child_along_counts_more_than_how_the_process_ends() {
        let why = Reason::Escalated { job: sortie_model::EntryId(3), cause: "oops".to_owned() };
        let killed = ProcessEnd::Signalled { number: 15, core_dumped: false };
        let stop = vec![Interruption::Stop];
        let facts = ProcessFacts { interruptions: stop, ..ProcessFacts::of(killed) };
        let outcome = |facts: &ProcessFacts| worker_outcome(facts, WorkerSaid::Nothing, None);
        let along = taken_along(outcome(&facts), &facts, why.clone());
        assert_eq!((along.verdict, along.signal), (Verdict::Failed(why.clone()), None));
        let starved = ProcessFacts { memory: MemoryEnd::OutOfMemory, ..facts };
        assert_eq!(taken_along(outcome(&starved), &starved, why), outcome(&starved));
    }

    #[test]
    fn a_stop_and_a_limit_count_more_than_a_result_but_a_panic_more_than_a_stop() {
        let returned = || WorkerSaid::Ended(WorkerEnd::Returned { value: None });
        let panicked = || WorkerSaid::Ended(WorkerEnd::Panicked { message: "boom".to_owned() });
        let panic = || Verdict::Failed(Reason::Panic { message: "boom".to_owned() });
        let timeout = || Verdict::Failed(Reason::Timeout { limit: LIMIT });
        check((EXIT_0, &[Interruption::Stop]), returned(), Verdict::Stopped);
        check((EXIT_0, &[Interruption::Stop]), WorkerSaid::Nothing, Verdict::Stopped);
        check((EXIT_0, &[Interruption::Stop]), panicked(), panic());
        check((EXIT_0, &[]), panicked(), panic());
        check((EXIT_0, &[Interruption::Timeout]), returned(), timeout());
        check((EXIT_0, &[Interruption::Timeout]), panicked(), timeout());
    }
}
