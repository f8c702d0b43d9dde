//! Messages to running children, outside every actor's inbox: from who waits at the owner of a job
//! to the inbox of a child, on this node or on another.
//!
//! The owner keeps what was not accepted, one line per child ([`posts`]); the executing node keeps
//! the inbox and the answers that its owner has not heard ([`inboxes`]). A carrier moves what each
//! has to say: over two streams of the link, one in each direction and shared by all children of a
//! session, or through memory. Neither reads ahead of the inbox's room, so a child that takes
//! nothing stops nobody else. What must be said again after a connection broke is the engine's to
//! say (`sortie_engine::inbox`, `sortie_engine::post`).

pub(crate) mod carry;
pub(crate) mod gate;
pub(crate) mod inboxes;
pub(crate) mod posts;
