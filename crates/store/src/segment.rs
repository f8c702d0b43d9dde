//! The output of a persistent session's children on disk: append-only segment files, one writer
//! and any number of readers for each child, which may be processes of their own
//! (`docs/semantics.md`, section 1.3).
//!
//! A segment begins with a header and has records behind each other, each with its checksum. Where
//! the writer knows that what it wrote is on the disk it says so by a mark, with its next batch; a
//! full segment is closed by a seal. Where records were taken before they came here a skip says
//! which number is next. Both tell a torn tail, which was never acknowledged and is
//! cut, from damage, which is refused with the file and the place.
//!
//! ```text
//! OUTPUT/JOB/BUCKET/ORDINAL-FIRST.segment    numbers in hexadecimal
//! header   magic 6, version 2, job 16, ordinal 4, first sequence number 8, crc32c 4
//! record   length of the body 4, stream 1, sequence number 8, time 8, crc32c 4, body
//! ```

mod directory;
mod error;
mod format;
mod opening;
mod reader;
mod scan;
#[cfg(test)]
mod tests;
mod writer;

pub use directory::{Neighbours, OutputDirectory, Swept};
pub use error::{SegmentError, SegmentStep};
pub use format::{SEGMENT_VERSION, Taken};
pub use opening::Known;
pub use reader::{Batch, OutputReader, ReadBounds};
pub use writer::OutputLog;
