//! The functions of this program: what all of its nodes know, and its worker processes.

use std::sync::OnceLock;

use sortie_exec::registry::{NameTaken, Registry as Functions};

use crate::registry::Registry;

/// What [`init_with`] was given.
static OF_PROGRAM: OnceLock<Registry> = OnceLock::new();

/// Adds the program's functions to those of a node.
pub(crate) fn add_to(functions: &mut Functions) -> Result<(), NameTaken> {
    OF_PROGRAM.get().map_or(Ok(()), |registry| registry.add_for_workers_to(functions))
}

/// [`init`](crate::init) for programs whose functions run in the background, too
/// ([`JobBuilder::background`](crate::JobBuilder::background)): the first line of `main`. Each
/// background function runs in a *worker*: this program once more, for which this call does not
/// return either.
///
/// ```
/// use std::convert::Infallible;
///
/// use sortie::Registry;
///
/// #[sortie::task]
/// async fn double(n: u64) -> Result<u64, Infallible> {
///     Ok(2 * n)
/// }
///
/// fn main() {
///     sortie::init_with(&Registry::new().register(double));
///     // From here on there are only nodes. Each of them knows `double`.
/// }
/// ```
///
/// * Every node of the program knows these functions: they need not be registered again, but the
///   same registry may be given to a node. A node that registers another function under such a
///   name does not start. Functions that only a node knows do not run in the background: a start
///   that asks for it is refused ([`ErrorCode::NoBackground`](crate::ErrorCode::NoBackground)), and
///   on another node fails its child ([`Reason::NoBackground`](crate::Reason::NoBackground)).
/// * In a worker nothing of `main` runs but what comes before this call, which must be the same in
///   nodes and workers: above all the registry. So the functions cannot hold what `main` makes
///   later, such as a pool of connections: they make it themselves, in each worker.
///
/// Called too late, like [`init`](crate::init), it only gives the functions to the nodes. Only the
/// first call counts. A name that two functions of the registry have is an error of each node's
/// start ([`NodeStartError::TaskName`](crate::NodeStartError::TaskName)).
pub fn init_with(registry: &Registry) {
    crate::init();
    sortie_exec::worker::run_if_asked(registry.functions());
    // A second call changes nothing.
    let _ = OF_PROGRAM.set(registry.clone());
}
