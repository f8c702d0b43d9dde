//! What a process child's end means (`docs/semantics.md`, sections 2.1 and 3.5).

use std::time::Duration;

use sortie_model::facts::{Interruption, MemoryEnd, ProcessEnd, ProcessFacts};
use sortie_model::reason::{LimitKind, SpawnStep};
use sortie_model::{ChildIncarnation, Reason, Seq};
use sortie_wire::host_proto::{ChildOutcome, Verdict};

/// The outcome of a process child. `timeout` is the limit that its timeout interruption, if it has
/// one, is about.
pub fn outcome(facts: &ProcessFacts, timeout: Option<Duration>) -> ChildOutcome {
    let (exit_code, signal) = match facts.end {
        ProcessEnd::Exited { code } => (Some(code), None),
        ProcessEnd::Signalled { number, .. } => (None, Some(number)),
        ProcessEnd::NotStarted { .. } | ProcessEnd::Lost => (None, None),
    };
    ChildOutcome {
        verdict: verdict(facts, timeout),
        exit_code,
        signal,
        left_behind: facts.left_behind,
        cut_bytes: facts.cut_bytes,
    }
}

/// Which record a daemon expects first of a child that an earlier one left, and whose job lives on
/// another node: `oldest` is the oldest one of its process that the owner may not have, and the
/// present life of it begins with `begins`. See [`lost_mark`].
pub fn expected(oldest: Seq, begins: Seq, life: ChildIncarnation) -> Seq {
    if life.0 > 0 && oldest == begins { Seq(begins.0.saturating_sub(1)) } else { oldest }
}

/// The number of what a node said of a child between two lives of it, where records of its process
/// are found and that is not among them: `came` was found where `next` was expected. What a node
/// says itself only its daemon has, so it goes with that, and it says one thing, that the child
/// starts again, right before the new life's first record (section 5). So it is said again; an
/// owner that has it knows its number.
pub fn lost_mark(next: Seq, came: Seq) -> Option<Seq> {
    let before = Seq(came.0.checked_sub(1)?);
    (before >= next).then_some(before)
}

/// First rule that matches.
fn verdict(facts: &ProcessFacts, timeout: Option<Duration>) -> Verdict {
    let interrupted_by = |why| facts.interruptions.contains(&why);
    if facts.memory == MemoryEnd::OutOfMemory {
        return Verdict::Failed(Reason::Oom);
    }
    if interrupted_by(Interruption::Stop) && facts.end != ProcessEnd::Lost {
        return Verdict::Stopped;
    }
    // A child that has written too much has failed, also when it ended before it could be told.
    let over_limit = facts.cut_bytes > 0 || interrupted_by(Interruption::OutputLimit);
    let timed_out_first = facts.interruptions.first() == Some(&Interruption::Timeout);
    match timeout {
        Some(limit)
            if timed_out_first || (interrupted_by(Interruption::Timeout) && !over_limit) =>
        {
            return Verdict::Failed(Reason::Timeout { limit });
        }
        _ if over_limit => {
            return Verdict::Failed(Reason::Limit { which: LimitKind::Output });
        }
        _ => {}
    }
    match facts.end {
        ProcessEnd::Exited { code: 0 } => Verdict::Completed,
        ProcessEnd::Exited { code } => Verdict::Failed(Reason::Exit { code }),
        ProcessEnd::Signalled { number, core_dumped } => {
            Verdict::Failed(Reason::Signal { number, name: signal_name(number), core_dumped })
        }
        // Without an error of the system's: it was gone before it answered.
        ProcessEnd::NotStarted { step: SpawnStep::Guardian, errno: 0 } | ProcessEnd::Lost => {
            Verdict::Failed(Reason::GuardianLost)
        }
        ProcessEnd::NotStarted { step, errno } => Verdict::Failed(Reason::Spawn { step, errno }),
    }
}

/// The names of Linux's signals 1 to 31, in order, without `SIG`.
const SIGNAL_NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// The first signal that programs may use as they like, after the two the C library keeps.
const FIRST_REAL_TIME: i32 = 34;

/// A signal's name without `SIG`: `KILL`, `RTMIN+3`.
pub fn signal_name(number: i32) -> String {
    let named = usize::try_from(number - 1).ok().and_then(|index| SIGNAL_NAMES.get(index));
    match named {
        Some(name) => (*name).to_owned(),
        None if number == FIRST_REAL_TIME => "RTMIN".to_owned(),
        None if number > FIRST_REAL_TIME => format!("RTMIN+{}", number - FIRST_REAL_TIME),
        None => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Interruption::{OutputLimit, Stop, Timeout};

    const LIMIT: Duration = Duration::from_secs(3);
    const EXIT_0: ProcessEnd = ProcessEnd::Exited { code: 0 };
    const EXIT_3: ProcessEnd = ProcessEnd::Exited { code: 3 };
    const TERMINATED: ProcessEnd = ProcessEnd::Signalled { number: 15, core_dumped: false };

    fn check(end: ProcessEnd, interruptions: &[Interruption], expected: Verdict) {
        let facts = ProcessFacts { interruptions: interruptions.to_vec(), ..ProcessFacts::of(end) };
        assert_eq!(outcome(&facts, Some(LIMIT)).verdict, expected, "{facts:?}");
    }

    #[test]
    fn what_a_node_said_before_a_life_of_which_nothing_is_stored_is_expected_before_it() {
        let check = |oldest, begins, life, first| {
            let expected = expected(Seq(oldest), Seq(begins), ChildIncarnation(life));
            assert_eq!(expected, Seq(first), "{oldest} {begins} {life}");
        };
        check(8, 8, 1, 7);
        // It was stored with what follows it.
        check(9, 8, 1, 9);
        // It is missed behind what the life before wrote.
        check(5, 8, 1, 5);
        check(7, 8, 1, 7);
        // A life behind no records has none, and the first one neither.
        check(0, 0, 1, 0);
        check(8, 8, 0, 8);
    }

    #[test]
    fn what_a_node_said_itself_is_missed_right_before_what_is_found_behind_it() {
        let check = |next, came, lost: Option<u64>| {
            assert_eq!(lost_mark(Seq(next), Seq(came)), lost.map(Seq), "{next} {came}");
        };
        check(7, 7, None);
        check(0, 0, None);
        check(7, 8, Some(7));
        // What came of an earlier life is here, and two lives began behind it.
        check(7, 9, Some(8));
        // What is told again.
        check(7, 3, None);
        check(7, 0, None);
    }

    fn failed(reason: Reason) -> Verdict {
        Verdict::Failed(reason)
    }

    #[test]
    fn an_undisturbed_end_means_what_it_says() {
        check(EXIT_0, &[], Verdict::Completed);
        check(EXIT_3, &[], failed(Reason::Exit { code: 3 }));
        let name = "TERM".to_owned();
        let signal = Reason::Signal { number: 15, name, core_dumped: false };
        check(TERMINATED, &[], failed(signal));
        let spawn = Reason::Spawn { step: SpawnStep::Chdir, errno: 2 };
        check(ProcessEnd::NotStarted { step: SpawnStep::Chdir, errno: 2 }, &[], failed(spawn));
    }

    #[test]
    fn after_a_delivered_stop_every_exit_is_stopped_and_keeps_its_code() {
        for end in [EXIT_0, EXIT_3, TERMINATED] {
            check(end, &[Stop], Verdict::Stopped);
            check(end, &[Timeout, Stop], Verdict::Stopped);
        }
        let facts = ProcessFacts { interruptions: vec![Stop], ..ProcessFacts::of(EXIT_3) };
        assert_eq!(outcome(&facts, None).exit_code, Some(3));
        let facts = ProcessFacts { interruptions: vec![Stop], ..ProcessFacts::of(TERMINATED) };
        assert_eq!(outcome(&facts, None).signal, Some(15));
    }

    #[test]
    fn want_of_memory_beats_a_stop() {
        let facts = ProcessFacts {
            memory: MemoryEnd::OutOfMemory,
            interruptions: vec![Stop],
            ..ProcessFacts::of(ProcessEnd::Signalled { number: 9, core_dumped: false })
        };
        assert_eq!(outcome(&facts, None).verdict, failed(Reason::Oom));
    }

    #[test]
    fn the_first_of_two_limits_is_the_reason() {
        check(TERMINATED, &[Timeout], failed(Reason::Timeout { limit: LIMIT }));
        check(EXIT_0, &[Timeout], failed(Reason::Timeout { limit: LIMIT }));
        let output = Reason::Limit { which: LimitKind::Output };
        check(TERMINATED, &[OutputLimit, Timeout], failed(output));
        check(TERMINATED, &[Timeout, OutputLimit], failed(Reason::Timeout { limit: LIMIT }));
    }

    #[test]
    fn a_child_that_wrote_too_much_fails_also_when_it_ended_before_it_was_told() {
        let facts = ProcessFacts { cut_bytes: 7, ..ProcessFacts::of(EXIT_0) };
        let outcome = outcome(&facts, None);
        assert_eq!(outcome.verdict, failed(Reason::Limit { which: LimitKind::Output }));
        assert_eq!((outcome.cut_bytes, outcome.exit_code), (7, Some(0)));
    }

    #[test]
    fn signals_have_their_usual_names() {
        let names: Vec<_> = [1, 9, 15, 31, 34, 36, 33].into_iter().map(signal_name).collect();
        assert_eq!(names, ["HUP", "KILL", "TERM", "SYS", "RTMIN", "RTMIN+2", "33"]);
    }
}
