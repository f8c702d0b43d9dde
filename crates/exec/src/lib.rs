//! Running bodies: process children through a guardian, and registered Rust functions.
//!
//! [`guardian`] launches the helper process that owns process children, [`process`] is one such
//! child with its pipes, [`run()`] drives it from start to end and reports the facts, which the
//! engine judges. [`sys`] is the operating system below both the daemon and the guardian.

pub mod detach;
pub mod environment;
pub mod error;
pub mod guardian;
pub mod inbox;
pub mod keep;
mod kept;
pub mod process;
pub mod registry;
pub mod run;
pub mod stop;
pub mod sys;
pub mod task;
pub mod worker;

pub use environment::{
    JobEnvironment, JobPlace, NodeBasics, detached_environment, working_directory,
};
pub use error::{LaunchError, SpawnError};
pub use guardian::{Adopted, AdoptedInput, Guardian, LaunchOptions};
pub use process::{Process, ProcessSpec};
pub use run::{ProcessIo, RunPlan, resume, run};
pub use sortie_wire::guardian_proto::{Keep, Lack};
pub use stop::{StopToken, Stopper, Stops, stop_channel};
