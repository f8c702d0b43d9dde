//! The words of `suspend` and `resume`.

use clap::Args;

use crate::args::output::Look;
use crate::args::pick::Picked;
use crate::args::reach::Reach;

/// Arguments of `suspend` and of `resume`.
#[derive(Debug, Args, Clone)]
pub(crate) struct SuspendArgs {
    #[command(flatten)]
    pub(crate) pick: Picked,
    /// Return when the order is recorded.
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Exit with 0 also when an id or a name matches nothing.
    #[arg(long)]
    pub(crate) allow_empty: bool,
    #[command(flatten)]
    pub(crate) reach: Reach,
    #[command(flatten)]
    pub(crate) look: Look,
}
