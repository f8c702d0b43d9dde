//! The bytes of mailboxes, in memory and in files. Synchronous, and decides nothing: who may read
//! what, and what is free, comes in from `sortie-engine` through `sortie-actors`.
//!
//! A stream is a log ([`StreamLog`]): what was written to files first, what is in memory behind it.
//! Files belong to the node's [`Spool`]; each [`MailboxFile`] grows by whole writes and shrinks by
//! holes.

pub mod disk;
pub mod error;
pub mod input_file;
pub mod journal;
pub mod lasting_input;
pub mod mailbox_file;
pub mod record_log;
pub mod recover;
pub mod reserve;
pub mod segment;
pub mod spool;
pub mod stream_log;

pub use error::SpoolError;
pub use lasting_input::{InputDirectory, InputError, InputMark, LastingInput};
pub use mailbox_file::MailboxFile;
pub use record_log::{Backward, Damaged, Entry, Forward, Loaded, Next, put_record, split_record};
pub use recover::{RecoverError, RecoveredJob, Store};
pub use spool::{Spool, SpoolBounds};
pub use stream_log::{Hole, LoadError, Segment, Spill, StreamLog, Written};
