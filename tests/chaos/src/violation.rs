//! What a run can find wrong.

use std::io;
use std::time::Duration;

/// A promise that was not kept, or a run that could not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Violation {
    /// A process began more often than its plan says, or less often.
    #[error("item {item}, job {job}: its process began {times} times instead of {wanted}")]
    Starts { item: u64, job: u64, times: u64, wanted: u64 },
    /// A key was answered with two jobs.
    #[error("item {item}: its key was answered with job {first}, then with job {then}")]
    OtherJob { item: u64, first: u64, then: u64 },
    /// A job ended in another way than its process did.
    #[error("item {item}, job {job}: it ended as {found} instead of {wanted}")]
    End { item: u64, job: u64, found: String, wanted: String },
    /// A record came again although its reader had ended well.
    #[error("item {item}, job {job}: record {seq} came again after it was confirmed")]
    Doubled { item: u64, job: u64, seq: u64 },
    /// A record came again and was another one.
    #[error("item {item}, job {job}: record {seq} came again and says something else")]
    Changed { item: u64, job: u64, seq: u64 },
    /// A record never came.
    #[error(
        "item {item}, job {job}: of {count} records the one with number {seq} is missing, between \
         {beside:?}"
    )]
    Gap { item: u64, job: u64, seq: u64, count: u64, beside: [String; 2] },
    /// A record came before others that come first.
    #[error("record {came} came where {next} was to come")]
    Order { next: u64, came: u64 },
    /// A job stands still that was resumed.
    #[error("item {item}, job {job}: it is suspended, and its resume was confirmed")]
    Suspended { item: u64, job: u64 },
    /// The bytes of a stream are not those that the process wrote.
    #[error(
        "item {item}, job {job}: {stream} differs at byte {at}: {found} bytes came of {wanted}; \
         there is {there:?} instead of {instead:?}"
    )]
    Bytes {
        item: u64,
        job: u64,
        stream: &'static str,
        at: usize,
        found: usize,
        wanted: usize,
        there: String,
        instead: String,
    },
    /// A command did not come to its end.
    #[error("`{command}` did not end within {limit:?}")]
    Hung { command: String, limit: Duration },
    /// A command failed in a way that no kill explains.
    #[error("`{command}` ended with {code}: {said}")]
    Refused { command: String, code: i32, said: String },
    /// A command answered something that cannot be read.
    #[error("`{command}` answered {said:?}")]
    Answer { command: String, said: String },
    /// Processes are there that nobody wants.
    #[error("{count} processes are left over, among them {pid}: {line}")]
    Left { count: usize, pid: u32, line: String },
    /// Something does not happen.
    #[error("waited {limit:?} in vain for {what}")]
    Vain { what: &'static str, limit: Duration },
    /// The sums of what was sent and of what was received differ.
    #[error("{bytes} bytes of numbered lines differ: sha256 {found} instead of {wanted}")]
    Sum { bytes: u64, found: String, wanted: String },
    /// The machine does not give what the run needs.
    #[error("{what}: {source}")]
    Machine { what: &'static str, source: io::Error },
}

/// The same, for a line of a closure.
pub(crate) fn machine(what: &'static str) -> impl FnOnce(io::Error) -> Violation {
    move |source| Violation::Machine { what, source }
}
