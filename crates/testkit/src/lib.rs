//! A cluster of real nodes in one process, on one thread, in virtual time.
//!
//! The nodes run the real actors and speak the real protocol; what is simulated is the network
//! between them, the clock, and the source of identities. All of it follows from one seed: the same
//! seed gives the same run, to the order of every message.
//!
//! ```
//! use std::time::Duration;
//!
//! use sortie_testkit::Cluster;
//!
//! let lost = Cluster::builder().nodes(3).seed(7).run(async |cluster| {
//!     cluster.kill(3).await?;
//!     // A minute that takes no time.
//!     cluster.advance(Duration::from_secs(60)).await;
//!     cluster.restart(3).await?;
//!     Ok::<_, sortie_testkit::ClusterError>(cluster.elapsed())
//! });
//! assert!(lost??.as_secs() >= 60);
//! # Ok::<(), sortie_testkit::ClusterError>(())
//! ```
//!
//! # What a simulated cluster can and cannot show
//!
//! * Time stands still while anything can run, and jumps to the next timer when nothing can. So
//!   every delay is exact, and code that blocks its thread blocks everything.
//! * Streams are reliable, as over QUIC. A packet that is dropped is sent again later, and one that
//!   is dropped too often takes its connection along.
//! * Nodes have no disk and no processes: children are functions, and what a child's mailbox cannot
//!   keep in memory (1 MiB) goes to a thread of the operating system, whose pace no seed decides.
//!   Keep simulated outputs small.
//! * What a simulated function does by chance it must draw from the seed as well.

mod builder;
pub mod chance;
mod cluster;
mod error;
mod keys;
pub mod simulation;
mod world;

pub use builder::ClusterBuilder;
pub use cluster::{Cluster, Life};
pub use error::ClusterError;
