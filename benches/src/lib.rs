//! What the benchmark programs share. Each program measures one scenario beside its limit, in turn
//! and in the same run, because a figure of its own means nothing on a noisy machine.
//!
//! A program is its own nodes: it executes itself again as a node, or as a peer that shows the
//! limit, so that every node is a process of its own.

pub mod bare;
pub mod cluster;
pub mod history;
pub mod home;
pub mod measure;
pub mod peer;
pub mod proc_figures;
pub mod program;
pub mod report;
pub mod work;
pub mod writer;

pub use cluster::{Cluster, NodeProcess};
pub use program::{Options, Outcome, Size, run};
pub use report::{Bound, Row};
