//! What a function's end means (`docs/semantics.md`, sections 2.1 and 3.5).

use std::time::Duration;

use bytes::Bytes;
use sortie_model::Reason;
use sortie_wire::host_proto::{ChildOutcome, Verdict};

/// How a function's future came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FunctionResult {
    /// `Ok`, with its value unless that is `()`.
    Returned(Option<Bytes>),
    /// `Err`, or a value that could not be encoded.
    Failed(Reason),
    /// A panic.
    Panicked(Reason),
    /// It ran longer than it may.
    TimedOut(Duration),
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
        (_, StopDelivered::Yes) => Verdict::Stopped,
        (FunctionResult::Returned(_), StopDelivered::No) => Verdict::Completed,
        (FunctionResult::Failed(reason), StopDelivered::No) => Verdict::Failed(reason),
        (FunctionResult::Dropped, StopDelivered::No) => {
            Verdict::Failed(Reason::Panic { message: "what ran the function is gone".to_owned() })
        }
    };
    ChildOutcome::of(verdict)
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
        check(FunctionResult::Returned(None), StopDelivered::No, Verdict::Completed);
        check(FunctionResult::Returned(None), StopDelivered::Yes, Verdict::Stopped);
        check(FunctionResult::Dropped, StopDelivered::Yes, Verdict::Stopped);
        let failed = || FunctionResult::Panicked(panic.clone());
        check(failed(), StopDelivered::Yes, Verdict::Failed(panic.clone()));
        check(failed(), StopDelivered::No, Verdict::Failed(panic.clone()));
    }
}
