//! Which jobs and children.

use clap::Args;
use sortie_model::State;
use sortie_model::selector::{Glob, Selection};

use crate::failure::Failure;

/// Which entries; none means all jobs.
#[derive(Debug, Args, Clone, Default)]
pub(crate) struct Pick {
    /// Ids, ranges (`3-7`), names, globs, instance ids, `last`, `all`.
    #[arg(value_name = "SEL")]
    pub(crate) selectors: Vec<String>,
    #[command(flatten)]
    pub(crate) filters: Filters,
}

/// Which entries; at least one word or filter.
#[derive(Debug, Args, Clone, Default)]
pub(crate) struct Picked {
    /// Ids, ranges (`3-7`), names, globs, instance ids, `last`, `all`.
    #[arg(value_name = "SEL", required_unless_present_any = ["state", "command_glob"])]
    pub(crate) selectors: Vec<String>,
    #[command(flatten)]
    pub(crate) filters: Filters,
}

/// Filters over jobs.
#[derive(Debug, Args, Clone, Default)]
pub(crate) struct Filters {
    /// Only jobs in these states.
    #[arg(long, value_name = "STATE", value_delimiter = ',')]
    pub(crate) state: Vec<State>,
    /// Only jobs whose command matches.
    #[arg(long = "command", id = "command_glob", value_name = "GLOB")]
    pub(crate) command_glob: Option<String>,
}

impl Pick {
    /// The selection.
    pub(crate) fn selection(&self) -> Result<Selection, Failure> {
        selection(&self.selectors, &self.filters)
    }
}

impl Picked {
    /// The selection.
    pub(crate) fn selection(&self) -> Result<Selection, Failure> {
        selection(&self.selectors, &self.filters)
    }
}

fn selection(words: &[String], filters: &Filters) -> Result<Selection, Failure> {
    let words = Selection::parse(words).map_err(Failure::usage)?;
    Ok(Selection {
        states: filters.state.clone(),
        command: filters.command_glob.clone().map(Glob),
        ..words
    })
}
