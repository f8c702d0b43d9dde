//! The data plane: records and input on their way, outside every actor's inbox.

pub(crate) mod above;
pub(crate) mod archived;
pub(crate) mod attachment;
pub(crate) mod bound;
pub(crate) mod changes;
pub(crate) mod checkpoints;
pub(crate) mod credit;
pub(crate) mod durable;
pub mod exchange;
pub(crate) mod input;
pub(crate) mod input_log;
pub(crate) mod job;
#[cfg(test)]
pub(crate) mod linked;
pub mod mailboxes;
pub(crate) mod map_feed;
pub(crate) mod messages;
pub(crate) mod nested;
pub(crate) mod outbox;
pub(crate) mod port;
pub(crate) mod reports;
pub(crate) mod session;
pub(crate) mod stay;
pub(crate) mod traffic;
pub(crate) mod window;
