//! The verbs that read a session, asked of a real node in this process.

mod harness;
mod reading;

mod receiving;
mod speed;
mod streaming;
mod waiting;
mod watching;
