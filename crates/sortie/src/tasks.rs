//! The functions of a program: what its nodes can run, and its worker processes.

use std::future::Future;
use std::sync::OnceLock;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sortie_exec::registry::{NameTaken, Registry};
use sortie_exec::task::{TaskContext, typed};

use crate::task::TaskFn;

/// What [`init_with`] was given.
static OF_PROGRAM: OnceLock<Tasks> = OnceLock::new();

/// Functions by name, as [`init_with`] takes them.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    registry: Registry,
    /// The first name that came twice.
    taken: Option<NameTaken>,
}

impl Tasks {
    /// Adds a function under a name, as [`NodeBuilder::task`](crate::NodeBuilder::task) does. Two
    /// of the same name are an error of each node's start.
    #[must_use]
    pub fn task<F, Fut, I, O, E>(mut self, name: &str, function: F) -> Self
    where
        F: Fn(TaskContext, I) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, E>> + Send + 'static,
        I: DeserializeOwned + 'static,
        O: Serialize,
        E: std::error::Error + 'static,
    {
        let added = self.registry.add(name, typed(function));
        self.note(added);
        self
    }

    /// Adds a function that has the attribute [`task`](crate::task), under its own name.
    #[must_use]
    pub fn register<F: TaskFn>(mut self, task: F) -> Self {
        let function = typed(move |context, input| task.call(context, input));
        let added = self.registry.add_typed(F::NAME, function, F::TYPES);
        self.note(added);
        self
    }

    fn note(&mut self, added: Result<(), NameTaken>) {
        if let Err(taken) = added {
            self.taken.get_or_insert(taken);
        }
    }

    /// These functions, and those of the program, which can run in the background.
    pub(crate) fn with_those_of_program(self) -> Result<Registry, NameTaken> {
        self.with(OF_PROGRAM.get())
    }

    fn with(mut self, program: Option<&Self>) -> Result<Registry, NameTaken> {
        if let Some(program) = program {
            let added = self.registry.add_for_workers(&program.registry);
            self.note(program.taken.clone().map_or(added, Err));
        }
        self.taken.map_or(Ok(self.registry), Err)
    }
}

/// [`init`](crate::init) for programs whose functions run in the background, too
/// ([`JobBuilder::background`](crate::JobBuilder::background)): the first line of `main`. Each
/// background function runs in a *worker*: this program once more, for which this call does not
/// return either.
///
/// ```
/// use std::convert::Infallible;
///
/// #[sortie::task]
/// async fn double(n: u64) -> Result<u64, Infallible> {
///     Ok(2 * n)
/// }
///
/// fn main() {
///     sortie::init_with(|tasks| tasks.register(double));
///     // From here on there are only nodes. Each of them knows `double`.
/// }
/// ```
///
/// * Every node of the program knows these functions without
///   [`NodeBuilder::register`](crate::NodeBuilder::register); a node that registers another one
///   under such a name does not start. Functions that only a node knows do not run in the
///   background: a start that asks for it is refused
///   ([`ErrorCode::NoBackground`](crate::ErrorCode::NoBackground)), and on another node fails its
///   child ([`Reason::NoBackground`](crate::Reason::NoBackground)).
/// * In a worker nothing of `main` runs but `tasks`, and what comes before this call. So the
///   functions cannot hold what `main` makes later, such as a pool of connections: they make it
///   themselves, in each worker.
/// * `tasks` is called in nodes and in workers, and must add the same functions in both.
///
/// Called too late, like [`init`](crate::init), it only gives the functions to the nodes. Only the
/// first call counts.
pub fn init_with(tasks: impl FnOnce(Tasks) -> Tasks) {
    crate::init();
    let tasks = tasks(Tasks::default());
    sortie_exec::worker::run_if_asked(&tasks.registry);
    // A second call changes nothing.
    let _ = OF_PROGRAM.set(tasks);
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use sortie_model::spec::RunIn;

    use super::*;

    fn tasks(names: &[&str]) -> Tasks {
        names.iter().fold(Tasks::default(), |tasks, name| {
            tasks.task(name, |_: TaskContext, n: u64| async move { Ok::<_, Infallible>(n) })
        })
    }

    #[test]
    fn a_node_knows_the_functions_of_its_program_and_no_two_of_one_name() {
        let found = tasks(&["own"]).with(Some(&tasks(&["given"]))).expect("different names");
        assert!(found.find("given", None, RunIn::Background).is_ok());
        assert!(found.find("own", None, RunIn::Background).is_err());
        let clash = |own: &[&str], given: &[&str]| {
            tasks(own).with(Some(&tasks(given))).map(|_| ()).map_err(|taken| taken.0)
        };
        assert_eq!(clash(&["f"], &["f"]), Err("f".to_owned()));
        assert_eq!(clash(&[], &["g", "g"]), Err("g".to_owned()));
        assert_eq!(clash(&["h", "h"], &[]), Err("h".to_owned()));
        assert_eq!(clash(&["f"], &["g"]), Ok(()));
    }
}
