//! Every decision of Sortie, without clock, threads, randomness or I/O.

pub mod credit;
pub mod mailbox;
