//! Functions that several nodes share.

use std::future::Future;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use sortie_exec::registry::{NameTaken, Registry as Functions};
use sortie_exec::task::{TaskContext, TaskError, TaskOutput, typed};

use crate::task::TaskFn;

/// Functions by name, for every node that is given them by
/// [`NodeBuilder::registry`](crate::NodeBuilder::registry) or
/// [`Embedded::start_with`](crate::Embedded::start_with), and for every node and worker process of
/// a program that begins with [`init_with`](crate::init_with).
///
/// Cheap to clone; a clone that is added to leaves the others as they are.
///
/// ```
/// use std::convert::Infallible;
///
/// use sortie::{Embedded, Registry};
///
/// #[sortie::task]
/// async fn double(n: u64) -> Result<u64, Infallible> {
///     Ok(2 * n)
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let registry = Registry::new().register(double);
///
/// let cluster = Embedded::start_with(2, &registry).await?;
/// let session = cluster.client().ok_or("no node")?.session();
/// let job = session.map(double, [1, 2, 3]).on("*")?.start().await?;
/// assert_eq!(job.await?, [2, 4, 6]);
/// # cluster.shut_down().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Registry {
    functions: Arc<Functions>,
    /// The first name that was given to two functions.
    taken: Option<NameTaken>,
}

impl Registry {
    /// A registry without functions.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a function under a name, as [`NodeBuilder::task`](crate::NodeBuilder::task) does:
    /// its input and output travel as MessagePack with field names; a panic in it fails its child
    /// only. Its error is a [`TaskError`], which `Box<dyn Error>` is not.
    ///
    /// A name that two functions have is an error of each node's start:
    /// [`NodeStartError::TaskName`](crate::NodeStartError::TaskName).
    #[must_use]
    pub fn task<F, Fut, I, O, E>(mut self, name: &str, function: F) -> Self
    where
        F: Fn(TaskContext, I) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, E>> + Send + 'static,
        I: DeserializeOwned + 'static,
        O: TaskOutput,
        E: TaskError,
    {
        if let Err(taken) = Arc::make_mut(&mut self.functions).add(name, typed(function)) {
            self.taken.get_or_insert(taken);
        }
        self
    }

    /// Registers a function that has the attribute [`task`](crate::task), under its own name, as
    /// [`NodeBuilder::register`](crate::NodeBuilder::register) does.
    #[must_use]
    pub fn register<F: TaskFn>(mut self, task: F) -> Self {
        let function = typed(move |context, input| task.call(context, input));
        let functions = Arc::make_mut(&mut self.functions);
        if let Err(taken) = functions.add_typed(F::NAME, function, F::TYPES) {
            self.taken.get_or_insert(taken);
        }
        self
    }

    /// Adds its functions to those of a node.
    pub(crate) fn add_to(&self, functions: &mut Functions) -> Result<(), NameTaken> {
        functions.add_all(&self.functions)?;
        self.taken.clone().map_or(Ok(()), Err)
    }

    /// The same for functions that worker processes have, too.
    pub(crate) fn add_for_workers_to(&self, functions: &mut Functions) -> Result<(), NameTaken> {
        functions.add_for_workers(&self.functions)?;
        self.taken.clone().map_or(Ok(()), Err)
    }

    pub(crate) fn functions(&self) -> &Functions {
        &self.functions
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use sortie_model::spec::RunIn;

    use super::*;

    async fn nothing(_: TaskContext, (): ()) -> Result<(), Infallible> {
        Ok(())
    }

    #[test]
    fn a_clone_that_is_added_to_leaves_the_others_as_they_are() {
        let one = Registry::new().task("one", nothing);
        let both = one.clone().task("two", nothing);
        assert!(one.functions.find("two", None, RunIn::Thread).is_err());
        assert!(both.functions.find("one", None, RunIn::Thread).is_ok());
        assert!(both.functions.find("two", None, RunIn::Thread).is_ok());
    }

    #[test]
    fn a_name_that_is_taken_is_said_to_each_node() {
        let twice = Registry::new().task("a", nothing).task("a", nothing).task("b", nothing);
        assert_eq!(twice.add_to(&mut Functions::default()), Err(NameTaken("a".to_owned())));
        let mut functions = Functions::default();
        let once = Registry::new().task("b", nothing);
        assert_eq!(once.add_to(&mut functions), Ok(()));
        assert_eq!(once.add_to(&mut functions), Err(NameTaken("b".to_owned())));
    }
}
