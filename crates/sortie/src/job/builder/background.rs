//! Where a job's functions run.

use sortie_model::spec::{BodySpec, RunIn};

use crate::job::builder::JobBuilder;

impl<T> JobBuilder<T> {
    /// Runs each child's function in a worker process of its own, instead of inside the node. An
    /// abort, a stack overflow, an endless loop, a leak or [`std::process::exit`] then takes that
    /// child only, and a stop or a timeout ends also a function that never waits
    /// (`docs/semantics.md`, section 2.1). Commands always run so, and this changes nothing for
    /// them.
    ///
    /// * It costs a process: about 4 ms from start to end (1.7 ms of each when eight are in
    ///   progress on two cores) and 0.6 MiB, where a function inside the node costs 15 us. The
    ///   executing node has at most
    ///   [`limits::PROCESSES_PER_NODE`](crate::limits::PROCESSES_PER_NODE) processes at once; more
    ///   children queue.
    /// * The function must have been given to [`init_with`](crate::init_with). It sees the
    ///   environment and the working directory that a command would ([`JobBuilder::env`],
    ///   [`JobBuilder::directory`]), and shares no memory, file or socket with the node.
    /// * [`TaskContext`](crate::TaskContext) is the same. What the function prints becomes records
    ///   of bytes: stdout in the information stream, stderr, and so a panic's message, in the error
    ///   stream. Values come in order and wait for the child's credit. A crash can lose the last
    ///   one when the node has not kept up.
    /// * A stop or a timeout sends its signal to the whole tree of processes; `TERM` fires the
    ///   function's token. After the grace the tree is killed. Whatever else the function started,
    ///   threads and processes, ends with it.
    pub fn background(self) -> Self {
        self.with(|spec| {
            if let BodySpec::Task { run_in, .. } = &mut spec.body {
                *run_in = RunIn::Background;
            }
        })
    }
}
