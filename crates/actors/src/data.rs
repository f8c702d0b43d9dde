//! The data plane: records and input on their way, outside every actor's inbox.

pub mod exchange;
pub mod mailboxes;
