//! What to run, where and how: shared by `start` and `invoke`, and turned into a [`JobSpec`].

use std::ffi::{OsStr, OsString};
use std::num::NonZeroU32;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use sortie::{StandardStream, began_without};
use sortie_model::name::{JobName, NodeName};
use sortie_model::nodeset::NodeExpr;
use sortie_model::quantity::{parse_max_fails, parse_throttle};
use sortie_model::shell_quote::quote_command;
use sortie_model::spec::{
    BodySpec, EnvironmentSpec, Fan, Hosting, InputSpec, MaxFails, OsBytes, Placement, Throttle,
};
use sortie_model::{IdempotencyKey, JobSpec, limits};

use crate::args::FileOrStdin;
use crate::args::open_input::OpenInput;
use crate::args::read::expression;
use crate::args::supervision::Supervision;
use crate::args::task::Task;
use crate::args::values::{duration, os_bytes, size, variable};
use crate::failure::Failure;
use crate::{own_node, program};

/// What to run, where and how.
#[derive(Debug, Args, Clone, Default)]
#[command(next_help_heading = "Work")]
pub(crate) struct Work {
    /// Target nodes: names, `node[1-9]`, globs, `@group`, `label=value`; `!` not, `&` and, `,` or.
    #[arg(short = 'w', long, visible_alias = "nodes", value_name = "EXPR")]
    pub(crate) on: Vec<String>,
    /// Nodes to leave out.
    #[arg(short = 'x', long, value_name = "EXPR")]
    pub(crate) exclude: Vec<String>,
    /// All nodes.
    #[arg(short = 'a', long)]
    pub(crate) all: bool,
    /// A file with one node expression a line; `-` for our standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) nodes_file: Option<OsString>,
    /// Children in progress at once: a number (default 32), or `unlimited`; a million in any case.
    #[arg(
        short = 'j',
        long,
        visible_alias = "fanout",
        value_name = "N",
        allow_hyphen_values = true
    )]
    #[arg(value_parser = parse_throttle)]
    pub(crate) throttle: Option<Throttle>,
    /// The job's name.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<JobName>,
    /// The job's name; with invoke it implies `--as-job`.
    #[arg(long, value_name = "NAME", conflicts_with = "name")]
    pub(crate) job_name: Option<JobName>,
    /// Run-time limit of each child.
    #[arg(long, value_name = "D", value_parser = duration, allow_hyphen_values = true)]
    pub(crate) timeout: Option<Duration>,
    /// How long the first connection to a node may take.
    #[arg(long, value_name = "D", value_parser = duration, allow_hyphen_values = true)]
    pub(crate) connect_timeout: Option<Duration>,
    /// Time between stop signal and kill.
    #[arg(long, value_name = "D", value_parser = duration, allow_hyphen_values = true)]
    pub(crate) grace: Option<Duration>,
    /// How long output is read after a process has ended.
    #[arg(long, value_name = "D", value_parser = duration, allow_hyphen_values = true)]
    pub(crate) drain: Option<Duration>,
    /// Bytes of output after which a child fails.
    #[arg(long, value_name = "SIZE", value_parser = size, allow_hyphen_values = true)]
    pub(crate) output_limit: Option<u64>,
    /// The working directory.
    #[arg(short = 'C', long, value_name = "DIR")]
    pub(crate) chdir: Option<OsString>,
    /// A variable, as NAME=VALUE; NAME alone takes our own value.
    #[arg(short = 'e', long, value_name = "K=V")]
    pub(crate) env: Vec<OsString>,
    /// A file with one variable a line; empty lines and lines with `#` are skipped.
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Nothing of our own environment.
    #[arg(long)]
    pub(crate) clean_env: bool,
    /// A shell command that runs first in each child.
    #[arg(long, value_name = "CMD")]
    pub(crate) init: Option<String>,
    /// What the children read: a file, or `-` for our standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "map")]
    pub(crate) stdin: Option<OsString>,
    #[command(flatten)]
    pub(crate) open: OpenInput,
    /// Send this script and run it there; the words that follow are its arguments.
    #[arg(long, value_name = "FILE")]
    pub(crate) script: Option<PathBuf>,
    /// One child for each line of a file, or `-`; `{}`, `{#}` and `{node}` are put in.
    #[arg(long, value_name = "FILE")]
    pub(crate) map: Option<OsString>,
    /// Every line on every node, instead of spread over the nodes.
    #[arg(long, requires = "map")]
    pub(crate) each: bool,
    /// Items end with a NUL byte instead of a newline.
    #[arg(short = '0', long, requires = "map")]
    pub(crate) null: bool,
    /// Stop the rest once so many children failed: N or N%.
    #[arg(long, value_name = "N", value_parser = parse_max_fails, allow_hyphen_values = true)]
    pub(crate) max_fails: Option<MaxFails>,
    /// Stop the rest at the first failure.
    #[arg(long, conflicts_with = "max_fails")]
    pub(crate) fail_fast: bool,
    /// Makes a repeated submission the same submission.
    #[arg(long, value_name = "KEY", value_parser = key)]
    pub(crate) key: Option<IdempotencyKey>,
    #[command(flatten)]
    pub(crate) task: Task,
    #[command(flatten)]
    pub(crate) supervision: Supervision,
}

fn key(text: &str) -> Result<IdempotencyKey, sortie_model::id::BadKey> {
    IdempotencyKey::try_from(text.to_owned())
}

/// What the caller gives to a child on its own node: its environment and its working directory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Caller {
    /// The environment.
    pub(crate) environment: Vec<(OsBytes, OsBytes)>,
    /// The working directory, unless the job says its own.
    pub(crate) directory: Option<OsBytes>,
}

impl Caller {
    /// This process. A job that says its own directory, as an absolute path, needs none of ours.
    pub(crate) fn of_process(chdir: Option<&OsStr>) -> Result<Self, Failure> {
        let bytes = |word: &OsStr| os_bytes(word).ok();
        let variables = std::env::vars_os();
        // The shell moves `_` about between two commands; the same submission must stay the same.
        let lasting = variables.filter(|(name, _)| name != "_");
        let mut environment: Vec<_> =
            lasting.filter_map(|(name, value)| Some((bytes(&name)?, bytes(&value)?))).collect();
        environment.sort_unstable();
        let needs_none = chdir.is_some_and(|directory| Path::new(directory).is_absolute());
        let directory = match std::env::current_dir() {
            Ok(directory) => bytes(directory.as_os_str()),
            Err(_) if needs_none => None,
            Err(error) => return Err(no_directory(&error)),
        };
        Ok(Self { environment, directory })
    }
}

/// Our own working directory cannot be told: it was removed, or lies where we may not look.
pub(crate) fn no_directory(error: &std::io::Error) -> Failure {
    let called = std::env::var_os("PWD").filter(|name| !name.is_empty());
    let called = called.map_or_else(String::new, |name| format!(", {}", name.display()));
    let failure = match error.kind() {
        std::io::ErrorKind::NotFound => {
            Failure::usage(format_args!("our working directory{called}, exists no more"))
        }
        _ => Failure::usage(format_args!("cannot tell our working directory{called}: {error}")),
    };
    failure.hint("go to a folder that exists, or name one with `--chdir /DIR`")
}

impl Work {
    /// The file that `--nodes-file` names.
    pub(crate) fn nodes_from(&self) -> Option<FileOrStdin> {
        self.nodes_file.clone().map(Into::into)
    }

    /// The file that the map reads.
    pub(crate) fn map_from(&self) -> Option<FileOrStdin> {
        self.map.clone().map(Into::into)
    }

    /// The file that the children read.
    pub(crate) fn stdin_from(&self) -> Option<FileOrStdin> {
        self.stdin.clone().map(Into::into)
    }

    /// The job that these arguments describe. Reads the files that they name, but not what the
    /// children read.
    pub(crate) fn spec(
        &self,
        words: &[OsString],
        caller: Option<Caller>,
    ) -> Result<JobSpec, Failure> {
        self.check_stdin_is_read_once()?;
        let (command, body) = self.body(words)?;
        let fan = self.fan();
        if matches!(self.max_fails, Some(MaxFails::Percent(_))) && self.map.is_some() {
            return Err(Failure::usage("`--max-fails N%` needs to know the number of children")
                .hint("give a map a number of failures"));
        }
        Ok(JobSpec {
            name: self.name.clone().or_else(|| self.job_name.clone()),
            placement: self.placement()?,
            fan,
            throttle: self.throttle.unwrap_or_default(),
            input: match self.stdin {
                Some(_) => InputSpec::Stream,
                None => self.open.spec(),
            },
            timeout: self.timeout,
            grace: self.grace.unwrap_or(limits::GRACE),
            drain: self.drain.unwrap_or(limits::DRAIN),
            output_limit: self.output_limit,
            max_fails: match self.max_fails {
                Some(limit) => limit,
                None if self.fail_fast => MaxFails::Count(0),
                None => MaxFails::Unlimited,
            },
            init: self.init.clone(),
            directory: self.chdir.as_deref().map(os_bytes).transpose()?,
            environment: self.environment(caller)?,
            hosting: Hosting::Persistent,
            connect_timeout: self.connect_timeout.unwrap_or(limits::CONNECT_TIME),
            restart: self.supervision.rules()?,
            stop_sequence: self.supervision.stop_sequence(),
            ..JobSpec::new(command, body)
        })
    }

    fn check_stdin_is_read_once(&self) -> Result<(), Failure> {
        if self.readers_of_stdin() > 1 {
            return Err(Failure::usage("our standard input can be read by one option only"));
        }
        Ok(())
    }

    /// Whether an option reads our standard input, so that nobody can type answers there.
    pub(crate) fn reads_stdin(&self) -> bool {
        self.readers_of_stdin() > 0
    }

    fn readers_of_stdin(&self) -> usize {
        let sources = [&self.stdin, &self.map, &self.nodes_file, &self.task.input];
        sources.into_iter().flatten().filter(|word| *word == "-").count()
    }

    fn body(&self, words: &[OsString]) -> Result<(String, BodySpec), Failure> {
        if let Some(name) = &self.task.task {
            return Ok((name.clone(), self.task.body(name, words)?));
        }
        let bytes: Vec<OsBytes> =
            words.iter().map(|word| os_bytes(word)).collect::<Result<_, _>>()?;
        let Some(script) = &self.script else {
            if words.first().is_none_or(|word| word.is_empty()) {
                return Err(Failure::usage("there is no command to run").hint(format!(
                    "write it behind the options: `{} invoke -- hostname`",
                    program::name()
                )));
            }
            let command = quote_command(words.iter().map(|word| word.as_bytes()));
            return Ok((command, BodySpec::Command { words: bytes }));
        };
        let text = std::fs::read(script).map_err(|error| cannot_read(script, &error))?;
        let shown =
            std::iter::once(script.as_os_str()).chain(words.iter().map(OsString::as_os_str));
        let command = quote_command(shown.map(OsStr::as_bytes));
        Ok((command, BodySpec::Script { text: text.into(), arguments: bytes }))
    }

    fn placement(&self) -> Result<Placement, Failure> {
        let exclude = expression(&self.exclude)?;
        let mut words = self.on.clone();
        if let Some(from) = self.nodes_from() {
            words.extend(nodes_of(&from)?);
        }
        let on = match expression(&words)? {
            _ if self.all && !words.is_empty() => {
                return Err(Failure::usage("`--all` and a choice of nodes exclude each other"));
            }
            Some(on) => on,
            None if self.all || exclude.is_some() => NodeExpr::all(),
            None => return Ok(Placement::Here),
        };
        Ok(Placement::Nodes { on, exclude })
    }

    const fn fan(&self) -> Fan {
        match (&self.map, self.each) {
            (None, _) => Fan::PerNode { copies: NonZeroU32::MIN },
            (Some(_), false) => Fan::Spread,
            (Some(_), true) => Fan::Each,
        }
    }

    fn environment(&self, caller: Option<Caller>) -> Result<EnvironmentSpec, Failure> {
        let mut set = Vec::new();
        // What is left out is said: who misspelled it should know.
        let mut add = |word: &OsStr, left_out: &dyn Fn() -> String| {
            match variable(word)? {
                Some(variable) => set.push(variable),
                None => own_node::notice("not_set", format_args!("{}", left_out())),
            }
            Ok::<_, Failure>(())
        };
        for file in &self.env_file {
            let text = std::fs::read(file).map_err(|error| cannot_read(file, &error))?;
            for (number, line) in (1_u64..).zip(text.split(|byte| *byte == b'\n')) {
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                if !line.is_empty() && !line.starts_with(b"#") {
                    // Not what it says: it may be a part of a secret.
                    let path = file.display();
                    add(OsStr::from_bytes(line), &|| {
                        format!("{path}:{number} names no variable that is set here, and sets none")
                    })?;
                }
            }
        }
        for word in &self.env {
            let shown = word.display();
            add(word, &|| format!("`{shown}` is not set here, so `-e {shown}` sets nothing"))?;
        }
        let caller = caller.map(|caller| (caller.environment, caller.directory));
        let (environment, inherited_directory) = caller.unzip();
        Ok(EnvironmentSpec {
            inherited: environment.filter(|_| !self.clean_env),
            inherited_directory: inherited_directory.flatten(),
            set,
        })
    }
}

/// The expressions of a nodes file, one a line; empty lines and lines with `#` are skipped.
fn nodes_of(from: &FileOrStdin) -> Result<Vec<String>, Failure> {
    let text = match from {
        FileOrStdin::File(path) => {
            std::fs::read_to_string(path).map_err(|error| cannot_read(path, &error))?
        }
        FileOrStdin::Stdin if began_without(StandardStream::Input) => {
            return Err(Failure::no_input());
        }
        FileOrStdin::Stdin => std::io::read_to_string(std::io::stdin())
            .map_err(|error| cannot_read(OsStr::new("-"), &error))?,
    };
    let lines = text.lines().map(str::trim);
    let words: Vec<String> = lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    if words.is_empty() {
        return Err(Failure::usage("the nodes file names no node"));
    }
    Ok(words)
}

/// A local file that cannot be read.
pub(crate) fn cannot_read(path: impl AsRef<OsStr>, error: &std::io::Error) -> Failure {
    if path.as_ref().is_empty() {
        return Failure::usage("the name of a file to read is empty");
    }
    Failure::usage(format_args!("cannot read {}: {error}", path.as_ref().display()))
}

/// Whether the word names a node rather than an address.
pub(crate) fn node_name(word: &str) -> Option<NodeName> {
    word.parse().ok()
}
