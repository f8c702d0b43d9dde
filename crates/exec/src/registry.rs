//! The functions that a node can run, by name.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::task::Task;

/// Functions by name; fixed once the node runs.
#[derive(Default, Clone)]
pub struct Registry {
    tasks: HashMap<String, Arc<dyn Task>>,
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
        if self.tasks.contains_key(name) {
            return Err(NameTaken(name.to_owned()));
        }
        self.tasks.insert(name.to_owned(), task);
        Ok(())
    }

    /// Registers every function of another registry.
    ///
    /// # Errors
    /// [`NameTaken`] when a name belongs to another function; some of the rest may be registered.
    pub fn add_all(&mut self, others: &Self) -> Result<(), NameTaken> {
        others.tasks.iter().try_for_each(|(name, task)| self.add(name, Arc::clone(task)))
    }

    /// The function with that name.
    pub fn find(&self, name: &str) -> Option<Arc<dyn Task>> {
        self.tasks.get(name).cloned()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.tasks.keys()).finish()
    }
}
