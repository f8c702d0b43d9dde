//! The operating system, as far as process bodies need it. All `unsafe` of the workspace is here.

pub(crate) mod account;
pub mod channel;
pub mod control_group;
pub mod ended;
pub mod marks;
pub mod proc_table;
pub mod processes;
pub mod signals;
pub mod spawn;
pub mod standard;
pub mod terminal;
mod vfork;
pub(crate) mod watch;
