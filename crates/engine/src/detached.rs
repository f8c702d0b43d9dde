//! Detached processes (`docs/semantics.md`, section 3.8): which may be started, and whose logs
//! stay.

use sortie_model::detached::DetachSpec;
use sortie_model::limits;
use sortie_model::spec::BodySpec;
use sortie_wire::codec::encoded_length;

/// Why a process may not be detached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DetachRefused {
    /// There is nothing to execute.
    #[error("the command is empty")]
    Empty,
    /// A function is no process.
    #[error("a function cannot be detached, only a command or a script")]
    Function,
    /// It passes [`limits::SPEC_BYTES`].
    #[error(
        "the command, its script and its environment have more than {} bytes",
        limits::SPEC_BYTES
    )]
    TooLong,
}

/// Whether that can be detached, as far as it can be told before it is tried.
///
/// # Errors
/// [`DetachRefused`].
pub fn check(spec: &DetachSpec) -> Result<(), DetachRefused> {
    match &spec.body {
        BodySpec::Task { .. } => return Err(DetachRefused::Function),
        body if body.is_empty_command() => return Err(DetachRefused::Empty),
        BodySpec::Command { .. } | BodySpec::Script { .. } => {}
    }
    match encoded_length(spec) {
        Ok(length) if length <= limits::SPEC_BYTES => Ok(()),
        _ => Err(DetachRefused::TooLong),
    }
}

/// As many logs are kept as there may be, and all of their processes run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("all of {0} detached processes run")]
pub struct NoRoom(pub usize);

/// The logs that go, so that there is room for one more among `most`: the oldest whose process is
/// over. `logs` come oldest first; no more of them are looked at than need be.
///
/// # Errors
/// [`NoRoom`].
pub fn make_room<L>(
    logs: &[L],
    most: usize,
    mut is_over: impl FnMut(&L) -> bool,
) -> Result<Vec<&L>, NoRoom> {
    let surplus = (logs.len() + 1).saturating_sub(most);
    let go: Vec<&L> = logs.iter().filter(|log| is_over(log)).take(surplus).collect();
    if go.len() < surplus { Err(NoRoom(logs.len())) } else { Ok(go) }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use sortie_model::spec::{EnvironmentSpec, OsBytes, RunIn};

    use super::*;

    fn check_body(body: BodySpec, expected: Result<(), DetachRefused>) {
        let spec = DetachSpec { body, directory: None, environment: EnvironmentSpec::default() };
        assert_eq!(check(&spec), expected);
    }

    #[test]
    fn only_a_command_or_a_script_that_is_not_too_long_is_detached() {
        let word = |text: &str| OsBytes::try_from(text).expect("no NUL");
        let command = |words: &[&str]| BodySpec::Command {
            words: words.iter().map(|text| word(text)).collect(),
        };
        let script = |text: Bytes| BodySpec::Script { text, arguments: Vec::new() };
        check_body(command(&["true"]), Ok(()));
        check_body(command(&[]), Err(DetachRefused::Empty));
        check_body(command(&["", "x"]), Err(DetachRefused::Empty));
        check_body(script(Bytes::new()), Ok(()));
        check_body(script(vec![b'#'; limits::SPEC_BYTES].into()), Err(DetachRefused::TooLong));
        let task = BodySpec::Task {
            name: "f".to_owned(),
            input: Bytes::new(),
            types: None,
            run_in: RunIn::Background,
        };
        check_body(task, Err(DetachRefused::Function));
    }

    #[test]
    fn the_oldest_that_are_over_make_room_and_none_that_runs_does() {
        let room = |logs: &[(u32, bool)], most: usize| {
            let go = make_room(logs, most, |(_, over)| *over);
            go.map(|go| go.into_iter().map(|(log, _)| *log).collect::<Vec<_>>())
        };
        assert_eq!(room(&[], 2), Ok(vec![]));
        assert_eq!(room(&[(1, true)], 2), Ok(vec![]));
        assert_eq!(room(&[(1, true), (2, true)], 2), Ok(vec![1]));
        assert_eq!(room(&[(1, false), (2, true)], 2), Ok(vec![2]));
        assert_eq!(room(&[(1, false), (2, false)], 2), Err(NoRoom(2)));
        assert_eq!(room(&[(1, true), (2, false), (3, true), (4, true)], 2), Ok(vec![1, 3, 4]));
    }
}
