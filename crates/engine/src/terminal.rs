//! Which jobs may have a terminal (`docs/semantics.md`, section 3.1).

use sortie_model::JobSpec;
use sortie_model::restart::RestartSpec;
use sortie_model::spec::{BodySpec, Fan, InputSpec};

/// A job that asks for a terminal and cannot have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoTerminal {
    /// Nobody can type at several children at once.
    #[error("a terminal is one child's: this job would have {children}")]
    Several {
        /// How many it would have.
        children: u64,
    },
    /// A map has as many children as items.
    #[error("a terminal is one child's: a map has none")]
    Map,
    /// Functions have no standard streams.
    #[error("a function has no terminal: a command or a script has")]
    Function,
    /// What was typed is read once.
    #[error("a child that starts again has no terminal: what was typed is read once")]
    Restarts,
}

/// Whether a job with so many children, if that is known, gets the terminal that it asks for.
///
/// # Errors
/// [`NoTerminal`]; no job may be made of it.
pub fn check_terminal(spec: &JobSpec, children: Option<u64>) -> Result<(), NoTerminal> {
    if !matches!(spec.input, InputSpec::Terminal(_)) {
        return Ok(());
    }
    match (&spec.body, &spec.fan, children) {
        (BodySpec::Task { .. }, ..) => Err(NoTerminal::Function),
        (_, Fan::Spread | Fan::Each, _) => Err(NoTerminal::Map),
        (_, _, Some(children)) if children != 1 => Err(NoTerminal::Several { children }),
        _ if spec.restart != RestartSpec::default() => Err(NoTerminal::Restarts),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use sortie_model::restart::RestartType;
    use sortie_model::spec::{RunIn, WindowSize};

    use super::*;

    fn spec() -> JobSpec {
        let words = vec!["top".try_into().expect("no NUL")];
        let spec = JobSpec::new("top", BodySpec::Command { words });
        JobSpec { input: InputSpec::Terminal(WindowSize::default()), ..spec }
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut JobSpec), children: Option<u64>, expected: &str) {
        let mut spec = spec();
        change(&mut spec);
        let found =
            check_terminal(&spec, children).map_or_else(|why| why.to_string(), |()| "".into());
        assert!(found.contains(expected) && found.is_empty() == expected.is_empty(), "{found}");
    }

    #[test]
    fn a_terminal_is_for_the_only_child_of_a_command_or_a_script() {
        check(|_| {}, Some(1), "");
        check(|_| {}, Some(3), "this job would have 3");
        check(|spec| spec.fan = Fan::Spread, None, "a map has none");
        check(|spec| spec.fan = Fan::Each, None, "a map has none");
        check(|spec| spec.restart.restart = RestartType::Permanent, Some(1), "read once");
        let (name, input) = ("count".to_owned(), bytes::Bytes::new());
        let task = BodySpec::Task { name, input, types: None, run_in: RunIn::Background };
        check(|spec| spec.body = task, Some(1), "a function has no terminal");
    }

    #[test]
    fn a_job_without_a_terminal_is_not_asked() {
        check(|spec| spec.input = InputSpec::Stream, Some(3), "");
        check(|spec| spec.input = InputSpec::None, None, "");
    }
}
