//! The ractor shells around the engine, and the data plane beside them.
//!
//! Control: a handler is a match whose arms are single calls into the engine; what the engine
//! decides comes out as effects, which `perform` carries out. Data: records move between pipes,
//! mailboxes, links and readers in [`data`], under credit, and never pass through an actor's inbox.

mod child_job;
pub mod data;
mod host;
mod node;
mod parent_job;
mod peer;
mod serve;
mod session;
mod world;

pub use data::above::{AboveError, WayAbove};
pub use data::nested::TaskNode;
pub use node::{
    KeepError, Keeper, Network, NoKeeper, NodeConfig, NodeError, NodeHandle, NodeKeys, RecoverError,
};
pub use world::{SystemWorld, World};
