//! What is set in a session and lasts between its commands: a working directory and variables
//! (`docs/semantics.md`, section 1.1).

use std::collections::BTreeMap;

use sortie_model::spec::OsBytes;
use sortie_model::{JobSpec, limits};
use sortie_wire::session_proto::{ScopeChange, SessionScope};

use crate::session::{SpecTooLong, check_spec};

/// Why a change of what is set is refused; nothing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScopeRefused {
    /// The session would keep more than [`limits::SESSION_SCOPE_BYTES`].
    #[error("a session keeps at most {} bytes of variables", limits::SESSION_SCOPE_BYTES)]
    TooLarge,
    /// No process could find such a variable.
    #[error("a variable has a name, and no `=` in it")]
    Name,
}

/// What is set in a session.
#[derive(Debug, Default)]
pub struct Scope {
    directory: Option<OsBytes>,
    variables: BTreeMap<OsBytes, OsBytes>,
}

impl Scope {
    /// Changes what is set. An empty directory unsets it.
    ///
    /// # Errors
    /// [`ScopeRefused`]; nothing changed.
    pub fn change(&mut self, change: ScopeChange) -> Result<(), ScopeRefused> {
        let ScopeChange { directory, set, unset } = change;
        let bad = |name: &OsBytes| name.as_bytes().is_empty() || name.as_bytes().contains(&b'=');
        if set.iter().any(|(name, _)| bad(name)) {
            return Err(ScopeRefused::Name);
        }
        let mut variables = self.variables.clone();
        variables.retain(|name, _| !unset.contains(name));
        variables.extend(set);
        let texts = variables.iter().flat_map(|(name, value)| [name, value]);
        let directory = match directory {
            Some(directory) => Some(directory).filter(|it| !it.as_bytes().is_empty()),
            None => self.directory.clone(),
        };
        if texts.chain(&directory).map(bytes).sum::<usize>() > limits::SESSION_SCOPE_BYTES {
            return Err(ScopeRefused::TooLarge);
        }
        (self.directory, self.variables) = (directory, variables);
        Ok(())
    }

    /// What is set now.
    pub fn view(&self) -> SessionScope {
        let variables = self.variables.clone().into_iter().collect();
        SessionScope { directory: self.directory.clone(), variables }
    }

    /// A submission with what is set below what it says itself: that wins. None if nothing is set.
    ///
    /// # Errors
    /// [`SpecTooLong`] when both together are.
    pub fn below(&self, spec: &JobSpec) -> Result<Option<Box<JobSpec>>, SpecTooLong> {
        if self.directory.is_none() && self.variables.is_empty() {
            return Ok(None);
        }
        let mut spec = Box::new(spec.clone());
        if spec.directory.is_none() {
            spec.directory.clone_from(&self.directory);
        }
        let own = std::mem::take(&mut spec.environment.set);
        let variables = self.variables.clone().into_iter();
        spec.environment.set = variables.chain(own).collect();
        check_spec(&spec)?;
        Ok(Some(spec))
    }
}

/// What one of them takes, with what it takes to say it.
fn bytes(text: &OsBytes) -> usize {
    16 + text.as_bytes().len()
}

#[cfg(test)]
mod tests {
    use sortie_model::spec::BodySpec;

    use super::*;

    fn word(text: &str) -> OsBytes {
        OsBytes::try_from(text).expect("no NUL")
    }

    fn set(name: &str, value: &str) -> ScopeChange {
        ScopeChange { set: vec![(word(name), word(value))], ..ScopeChange::default() }
    }

    fn spec() -> JobSpec {
        JobSpec::new("true", BodySpec::Command { words: vec![word("true")] })
    }

    #[test]
    fn what_a_submission_says_itself_wins() {
        let mut scope = Scope::default();
        let there = ScopeChange { directory: Some(word("/tmp")), ..set("A", "session") };
        scope.change(there).expect("it fits");
        let silent = scope.below(&spec()).expect("it fits").expect("something is set");
        assert_eq!(silent.directory, Some(word("/tmp")));
        assert_eq!(silent.environment.set, [(word("A"), word("session"))]);
        let mut own = spec();
        own.directory = Some(word("/"));
        own.environment.set = vec![(word("A"), word("own"))];
        let own = scope.below(&own).expect("it fits").expect("something is set");
        assert_eq!(own.directory, Some(word("/")));
        // The last one wins.
        assert_eq!(own.environment.set.last(), Some(&(word("A"), word("own"))));
    }

    #[test]
    fn both_together_keep_the_bound_of_a_submission() {
        let mut scope = Scope::default();
        assert_eq!(scope.below(&spec()), Ok(None), "nothing is set");
        scope.change(set("A", &"x".repeat(limits::SESSION_SCOPE_BYTES / 2))).expect("it fits");
        let mut long = spec();
        let value = "x".repeat(limits::SPEC_BYTES - limits::SESSION_SCOPE_BYTES / 4);
        long.environment.set = vec![(word("B"), word(&value))];
        assert_eq!(check_spec(&long), Ok(()));
        assert_eq!(scope.below(&long), Err(SpecTooLong));
    }

    #[test]
    fn what_is_unset_is_gone_and_what_is_set_lasts() {
        let mut scope = Scope::default();
        scope.change(set("A", "1")).expect("it fits");
        scope.change(set("B", "2")).expect("it fits");
        let change = ScopeChange { unset: vec![word("A"), word("Z")], ..ScopeChange::default() };
        scope.change(change).expect("it fits");
        assert_eq!(scope.view().variables, [(word("B"), word("2"))]);
    }

    #[test]
    fn a_directory_is_unset_by_an_empty_one_and_names_are_looked_at() {
        let mut scope = Scope::default();
        let to = |directory| ScopeChange { directory: Some(word(directory)), ..set("A", "1") };
        scope.change(to("/tmp")).expect("it fits");
        for name in ["", "A=B"] {
            assert_eq!(scope.change(set(name, "1")), Err(ScopeRefused::Name));
        }
        assert_eq!(scope.view().directory, Some(word("/tmp")));
        scope.change(to("")).expect("it fits");
        assert_eq!(scope.view().directory, None);
    }

    #[test]
    fn what_passes_the_bound_changes_nothing() {
        let mut scope = Scope::default();
        scope.change(set("A", "1")).expect("it fits");
        let long = "x".repeat(limits::SESSION_SCOPE_BYTES);
        assert_eq!(scope.change(set("B", &long)), Err(ScopeRefused::TooLarge));
        assert_eq!(scope.view().variables, [(word("A"), word("1"))]);
    }
}
