//! How many threads a node is best given.

/// How many threads a runtime is best given that hosts a node: half of the processors, at least
/// one. Processes that the node runs get the rest; and on a machine with few processors to wake
/// another thread costs more than most steps of a node, so that fewer threads answer sooner.
///
/// A program whose functions compute in the node's own runtime wants all processors instead, which
/// is tokio's default.
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
