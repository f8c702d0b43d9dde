//! What the user wants to see, and which exit status.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};

use crate::args::reach::Reach;
use crate::exit::{Failures, Rule};
use crate::failure::{ErrorStyle, Failure};
use crate::render::failures::Detail;
use crate::render::sheet::{Format, Wanted};
use crate::render::table::{self, terminal_width};

/// How the answer is written.
#[derive(Debug, Args, Clone, Default)]
#[command(next_help_heading = "Output")]
pub(crate) struct Look {
    /// The format.
    #[arg(short = 'o', long = "output", value_name = "FORMAT", value_enum)]
    pub(crate) output: Option<Format>,
    /// Short for `-o json`.
    #[arg(long, conflicts_with = "output")]
    pub(crate) json: bool,
    /// Only these columns, in this order.
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub(crate) columns: Vec<String>,
    /// Ids only.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Say more: every failed child in a line of its own.
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Colours: when stdout is a terminal, always, or never.
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = When::Auto)]
    pub(crate) color: When,
    /// Whose sessions the answer is about.
    #[arg(skip)]
    pub(crate) whose: Whose,
    /// The session that is meant, where several are: ids are shown behind it.
    #[arg(skip)]
    pub(crate) session: Option<String>,
    /// Which node and session the answer is about: commands in hints say so.
    #[arg(skip)]
    pub(crate) reach: Reach,
}

/// Whose sessions an answer is about: by itself, a number means one of our own node's, and a job of
/// its `default` session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Whose {
    /// Our own node's.
    #[default]
    OwnNodes,
    /// Another's, where only an identity means what it says.
    Others,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum When {
    /// On a terminal, unless the environment says otherwise.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Look {
    /// The format that was asked for.
    pub(crate) fn format(&self) -> Option<Format> {
        if self.json { Some(Format::Json) } else { self.output }
    }

    /// Refuses a choice of columns, or a format that is made of them, for what has none.
    pub(crate) fn refuse_columns(&self, what: &str) -> Result<(), Failure> {
        let of_columns = matches!(self.format(), Some(Format::Csv | Format::Name));
        if !of_columns && self.columns.is_empty() {
            return Ok(());
        }
        let failure = Failure::usage(format_args!("`{what}` has no columns"));
        Err(failure.hint("`-o json` gives everything, in fields with names"))
    }

    /// How errors are said: as JSON where the output is JSON.
    pub(crate) fn error_style(&self) -> ErrorStyle {
        match self.format() {
            Some(Format::Json | Format::Ndjson) => ErrorStyle::Json,
            _ => ErrorStyle::Text,
        }
    }

    /// Reports a failure; the commands in its hint go to where the answer comes from.
    pub(crate) fn report(&self, failure: Failure) {
        failure.there(&self.reach).report(self.error_style());
    }

    /// What a list shows.
    pub(crate) fn wanted(&self) -> Wanted {
        Wanted {
            format: self.format().unwrap_or_default(),
            columns: self.columns.clone(),
            ids_only: self.quiet,
        }
    }

    /// How failed children are reported.
    pub(crate) const fn detail(&self) -> Detail {
        if self.verbose { Detail::EachChild } else { Detail::Folded }
    }

    /// Width and colours of tables.
    pub(crate) fn table(&self) -> table::Look {
        table::Look { width: terminal_width(), colour: self.colour() }
    }

    fn colour(&self) -> bool {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let forced = set("CLICOLOR_FORCE")
            && std::env::var_os("CLICOLOR_FORCE").is_some_and(|value| value != "0");
        match self.color {
            When::Always => true,
            When::Never => false,
            When::Auto if set("NO_COLOR") => false,
            When::Auto => forced || std::io::stdout().is_terminal(),
        }
    }
}

/// How outcomes become an exit status.
#[derive(Debug, Args, Clone, Copy)]
#[command(next_help_heading = "Exit status")]
pub(crate) struct Verdict {
    /// Exit with the largest status of any child.
    #[arg(short = 'S', long)]
    pub(crate) max_status: bool,
    /// Exit with 0 also when children failed, were lost or stopped.
    #[arg(long)]
    pub(crate) no_fail: bool,
    /// Exit with 0 also when an id or a name matches nothing.
    #[arg(long)]
    pub(crate) allow_empty: bool,
}

impl Verdict {
    /// The rule, where children's statuses count by the table otherwise.
    pub(crate) const fn rule(self, otherwise: Rule) -> Rule {
        if self.max_status { Rule::Largest } else { otherwise }
    }

    /// Whether failed children count.
    pub(crate) const fn failures(self) -> Failures {
        if self.no_fail { Failures::Ignore } else { Failures::Count }
    }
}
