//! Decisions: every rule of the system as a pure function or state machine.
//!
//! There is no clock, no randomness, no thread and no I/O here: moments come in as arguments, what
//! is to be done goes out as effects. An actor that has to decide something asks a module of this
//! crate.

pub mod aggregate;
pub mod ask;
pub mod bonds;
pub mod broken;
pub mod child_job;
pub mod credit;
pub mod detached;
pub mod function_end;
pub mod history;
pub mod hold;
pub mod host;
pub mod inbox;
pub mod link_rule;
pub mod mailbox;
pub mod map_input;
pub mod nest;
pub mod notices;
pub mod parent_job;
pub mod peer;
pub mod placement;
pub mod post;
pub mod prompt;
pub mod receive;
pub mod reconnect;
pub mod restart;
pub mod roster;
pub mod seen;
pub mod select;
pub mod session;
pub mod session_scope;
pub mod suspend;
pub mod terminal;
pub mod throttle;
pub mod untold;
pub mod wait;
