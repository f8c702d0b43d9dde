//! The threads of a node and those of its functions.

use std::sync::OnceLock;

use tokio::runtime::{Builder, Handle, Runtime};

/// How many threads a runtime is best given that hosts a node: half of the processors, rounded up.
/// Processes that the node runs get the rest; and on a machine with few processors to wake another
/// thread costs more than most steps of a node, so that fewer threads answer sooner.
///
/// Functions that compute or block want
/// [`own_threads_for_functions`](crate::NodeBuilder::own_threads_for_functions) besides, or all
/// processors, which is tokio's default.
///
/// ```
/// let runtime = tokio::runtime::Builder::new_multi_thread()
///     .worker_threads(sortie::node_threads())
///     .enable_all()
///     .build()?;
/// # drop(runtime);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn node_threads() -> usize {
    // Where the number cannot be found out, one is always right.
    std::thread::available_parallelism().map_or(1, |processors| processors.get().div_ceil(2))
}

/// Where functions run that have threads of their own, those of all nodes of this process; none
/// where the system has no more threads. It lasts as long as the process: a function that never
/// returns could not be waited for.
pub(crate) fn for_functions() -> Option<Handle> {
    static FUNCTIONS: OnceLock<Option<Runtime>> = OnceLock::new();
    let runtime = FUNCTIONS.get_or_init(|| {
        // With one thread a function that blocks it would hold up all others.
        let threads = std::thread::available_parallelism().map_or(2, |it| it.get().max(2));
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(threads).thread_name("sortie-function").enable_all().build().ok()
    });
    runtime.as_ref().map(|runtime| runtime.handle().clone())
}
