//! The functions that a node can run, by name.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use sortie_model::spec::TaskTypes;

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
}

/// A name that another function has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a function `{0}` is registered already")]
pub struct NameTaken(pub String);

impl Registry {
    /// Registers a function.
    ///
    /// # Errors
    /// [`NameTaken`] when the name belongs to another function.
    pub fn add(&mut self, name: &str, task: Arc<dyn Task>) -> Result<(), NameTaken> {
        self.insert(name, Registered { task, types: None })
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
        self.insert(name, Registered { task, types: Some(types) })
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

    /// The function with that name, if its types are those that its caller names. Where one of
    /// them names none, any will do: whether they fit shows when the input is read.
    ///
    /// # Errors
    /// [`NotCallable`].
    pub fn find(&self, name: &str, types: Option<TaskTypes>) -> Result<Arc<dyn Task>, NotCallable> {
        let found = self.tasks.get(name).ok_or(NotCallable::Unknown)?;
        match (found.types, types) {
            (Some(own), Some(wanted)) if own != wanted => Err(NotCallable::OtherTypes),
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
            let found = registry.find(name, types.map(TaskTypes)).map(|_| ());
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
}
