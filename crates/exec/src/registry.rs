//! The functions that a node can run, by name.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use sortie_model::spec::{RunIn, TaskTypes};

use crate::task::Task;

/// Functions by name; fixed once the node runs.
#[derive(Default, Clone)]
pub struct Registry {
    tasks: HashMap<String, Registered>,
}

#[derive(Clone)]
struct Registered {
    task: Arc<dyn Task>,
    types: Option<TaskTypes>,
    reach: Reach,
}

/// Where a function can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Inside the node only.
    Node,
    /// In a worker process, too: the program has it from its first line on.
    Worker,
}

/// Why a function cannot be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotCallable {
    /// None of that name is registered.
    #[error("no function of that name is registered")]
    Unknown,
    /// The one of that name has other types than its caller thinks.
    #[error("the function of that name has other types")]
    OtherTypes,
    /// The one of that name runs inside the node only.
    #[error("the function of that name does not run in a worker process")]
    OnlyInside,
}

/// A name that another function has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a function `{0}` is registered already")]
pub struct NameTaken(pub String);

impl Registry {
    /// Whether it has no function.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Registers a function.
    ///
    /// # Errors
    /// [`NameTaken`] when the name belongs to another function.
    pub fn add(&mut self, name: &str, task: Arc<dyn Task>) -> Result<(), NameTaken> {
        self.insert(name, Registered { task, types: None, reach: Reach::Node })
    }

    /// The same for a function that says its types.
    ///
    /// # Errors
    /// As for [`Registry::add`].
    pub fn add_typed(
        &mut self,
        name: &str,
        task: Arc<dyn Task>,
        types: TaskTypes,
    ) -> Result<(), NameTaken> {
        self.insert(name, Registered { task, types: Some(types), reach: Reach::Node })
    }

    fn insert(&mut self, name: &str, registered: Registered) -> Result<(), NameTaken> {
        if self.tasks.contains_key(name) {
            return Err(NameTaken(name.to_owned()));
        }
        self.tasks.insert(name.to_owned(), registered);
        Ok(())
    }

    /// Registers every function of another registry.
    ///
    /// # Errors
    /// [`NameTaken`] when a name belongs to another function; some of the rest may be registered.
    pub fn add_all(&mut self, others: &Self) -> Result<(), NameTaken> {
        others.tasks.iter().try_for_each(|(name, registered)| self.insert(name, registered.clone()))
    }

    /// Adds functions that worker processes of this program have, too. One that is here already
    /// becomes one of them.
    ///
    /// # Errors
    /// [`NameTaken`] when the name of one belongs to another function.
    pub fn add_for_workers(&mut self, functions: &Self) -> Result<(), NameTaken> {
        for (name, registered) in &functions.tasks {
            match self.tasks.get_mut(name) {
                Some(own) if Arc::ptr_eq(&own.task, &registered.task) => own.reach = Reach::Worker,
                _ => {
                    self.insert(name, Registered { reach: Reach::Worker, ..registered.clone() })?
                }
            }
        }
        Ok(())
    }

    /// The function with that name, if it can run there and its types are those that its caller
    /// names. Where one of them names none, any will do: whether they fit shows when the input is
    /// read.
    ///
    /// # Errors
    /// [`NotCallable`].
    pub fn find(
        &self,
        name: &str,
        types: Option<TaskTypes>,
        run_in: RunIn,
    ) -> Result<Arc<dyn Task>, NotCallable> {
        let found = self.tasks.get(name).ok_or(NotCallable::Unknown)?;
        match (found.types, types) {
            (Some(own), Some(wanted)) if own != wanted => Err(NotCallable::OtherTypes),
            _ if run_in == RunIn::Background && found.reach == Reach::Node => {
                Err(NotCallable::OnlyInside)
            }
            _ => Ok(Arc::clone(&found.task)),
        }
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.tasks.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::task::{TaskContext, typed};

    #[test]
    fn types_are_compared_where_both_sides_name_them() {
        let function = || typed(|_: TaskContext, n: u64| async move { Ok::<_, Infallible>(n) });
        let mut registry = Registry::default();
        registry.add("plain", function()).expect("the name is free");
        registry.add_typed("typed", function(), TaskTypes(1)).expect("the name is free");
        let check = |name: &str, types: Option<u64>, expected: Result<(), NotCallable>| {
            let found = registry.find(name, types.map(TaskTypes), RunIn::Thread).map(|_| ());
            assert_eq!(found, expected, "{name} with {types:?}");
        };
        check("plain", None, Ok(()));
        check("plain", Some(2), Ok(()));
        check("typed", None, Ok(()));
        check("typed", Some(1), Ok(()));
        check("typed", Some(2), Err(NotCallable::OtherTypes));
        check("other", Some(1), Err(NotCallable::Unknown));
        assert!(registry.add_typed("plain", function(), TaskTypes(1)).is_err());
    }

    #[test]
    fn only_what_was_given_to_workers_runs_there() {
        let function = || typed(|_: TaskContext, n: u64| async move { Ok::<_, Infallible>(n) });
        let (mut registry, mut given) = (Registry::default(), Registry::default());
        registry.add("inside", function()).expect("the name is free");
        given.add("both", function()).expect("the name is free");
        registry.add_for_workers(&given).expect("the name is free");
        let find = |name, run_in| registry.find(name, None, run_in).map(|_| ());
        assert_eq!(find("inside", RunIn::Thread), Ok(()));
        assert_eq!(find("inside", RunIn::Background), Err(NotCallable::OnlyInside));
        assert_eq!(find("both", RunIn::Thread), Ok(()));
        assert_eq!(find("both", RunIn::Background), Ok(()));
        assert_eq!(registry.add_for_workers(&given), Ok(()), "the same functions once more");
        let (mut here, mut other) = (Registry::default(), Registry::default());
        here.add_all(&given).expect("the name is free");
        assert!(here.find("both", None, RunIn::Background).is_err());
        here.add_for_workers(&given).expect("the same function");
        assert!(here.find("both", None, RunIn::Background).is_ok());
        other.add("both", function()).expect("the name is free");
        assert_eq!(here.add_for_workers(&other), Err(NameTaken("both".to_owned())));
    }
}
