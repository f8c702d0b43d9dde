//! The steps of `verify` and `fix`: each is a command that a person could type.

use std::env;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use crate::tidy::{self, Warnings};
use crate::wrap;

/// Whether `verify` runs the tests.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tests {
    /// It does.
    Run,
    /// The caller has just run them with the same profile.
    Skip,
}

/// A command of `verify`, and what to type when it fails.
struct Step {
    name: &'static str,
    command: &'static [&'static str],
    remedy: &'static str,
}

const FORMAT: Step =
    Step { name: "format", command: &["fmt", "--all", "--check"], remedy: "cargo xtask fix" };
const CLIPPY: Step = Step {
    name: "clippy",
    command: &["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"],
    remedy: "cargo clippy --workspace --all-targets -- -D warnings",
};
const TEST: Step = Step {
    name: "tests",
    command: &["test", "--workspace", "--quiet"],
    remedy: "cargo test --workspace",
};
const NEXTEST: Step = Step {
    name: "tests",
    command: &["nextest", "run", "--workspace", "--no-fail-fast"],
    remedy: "cargo nextest run --workspace",
};
const DOCTEST: Step = Step {
    name: "doc tests",
    command: &["test", "--workspace", "--doc", "--quiet"],
    remedy: "cargo test --workspace --doc",
};
const DOCS: Step = Step {
    name: "docs",
    command: &["doc", "--workspace", "--no-deps", "--quiet"],
    remedy: "RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps",
};

/// The program that does the chaos: it lies where this one does, as the next.
const CHAOS_PROGRAM: &str = "chaos";
/// The program that runs simulated seeds.
const SIMULATE_PROGRAM: &str = "simulate";

/// The programs of the steps below, as `cargo test` has built them. A test beside them, since what
/// is built without any has other features, and would be built twice.
const PROGRAMS: Step = Step {
    name: "programs",
    command: &[
        "build",
        "--quiet",
        "--workspace",
        "--bin",
        CHAOS_PROGRAM,
        "--bin",
        SIMULATE_PROGRAM,
        "--bin",
        "sortie",
        "--test",
        "options",
    ],
    remedy: "cargo build --workspace --bin chaos --bin simulate --bin sortie",
};
/// Half of the seeds that it takes by itself: to build it optimised would take longer than they do.
const SIMULATE: Step = Step {
    name: "simulate",
    command: &[SIMULATE_PROGRAM, "--seeds", "100"],
    remedy: "cargo xtask simulate",
};
const FIND_BROKEN: Step = Step {
    name: "find broken",
    command: &[SIMULATE_PROGRAM, "--broken", "all"],
    remedy: "cargo xtask simulate --broken all",
};
const CHAOS: Step = Step {
    name: "chaos",
    command: &[CHAOS_PROGRAM, "--short"],
    remedy: "cargo xtask chaos --short",
};

/// How a step went.
struct Outcome {
    name: &'static str,
    passed: bool,
    took: Duration,
    remedy: &'static str,
}

/// Runs every step, also after one failed, and sums up. Edits nothing.
pub(crate) fn verify(root: &Path, tests: Tests, warnings: Warnings) -> ExitCode {
    let mut steps = vec![FORMAT, CLIPPY];
    match tests {
        Tests::Skip => {}
        Tests::Run if has_nextest(root) => steps.extend([NEXTEST, DOCTEST]),
        Tests::Run => steps.push(TEST),
    }
    steps.extend([PROGRAMS, CHAOS, SIMULATE, FIND_BROKEN, DOCS]);
    let mut outcomes: Vec<Outcome> = steps.iter().map(|step| perform(root, step)).collect();
    outcomes.push(perform_tidy(root, warnings));
    sum_up(&outcomes)
}

/// Runs simulated seeds, with options of the program that does it.
pub(crate) fn simulate(root: &Path, options: &[String]) -> ExitCode {
    built(root, SIMULATE_PROGRAM, options)
}

/// Runs the chaos, which is long unless its options say otherwise.
pub(crate) fn chaos(root: &Path, options: &[String]) -> ExitCode {
    built(root, CHAOS_PROGRAM, options)
}

/// Builds the programs, and runs one.
fn built(root: &Path, program: &str, options: &[String]) -> ExitCode {
    if !run(root, PROGRAMS.command) {
        return ExitCode::FAILURE;
    }
    status_of(cargo(root, &[program]).args(options))
}

fn status_of(command: &mut Command) -> ExitCode {
    match command.status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(status) => {
            ExitCode::from(status.code().and_then(|code| code.try_into().ok()).unwrap_or(1))
        }
        Err(error) => {
            eprintln!("cannot run cargo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Formats, wraps comments and applies clippy's fixes, also over uncommitted changes.
pub(crate) fn fix(root: &Path) -> ExitCode {
    let clippy: &[&str] =
        &["clippy", "--workspace", "--all-targets", "--fix", "--allow-dirty", "--allow-staged"];
    let wrapped =
        wrap::wrap_files(root).map_err(|error| eprintln!("cannot wrap comments: {error}"));
    let worked = [wrapped.is_ok(), run(root, clippy), run(root, &["fmt", "--all"])];
    if worked == [true; 3] { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn perform(root: &Path, step: &Step) -> Outcome {
    let cargo = if own_program(step.command).is_some() { "" } else { "cargo " };
    announce(step.name, &format!("{cargo}{}", step.command.join(" ")));
    let begin = Instant::now();
    let passed = run(root, step.command);
    Outcome { name: step.name, passed, took: begin.elapsed(), remedy: step.remedy }
}

fn perform_tidy(root: &Path, warnings: Warnings) -> Outcome {
    announce("tidy", "cargo xtask tidy");
    let begin = Instant::now();
    let passed = tidy::report(root, warnings) == ExitCode::SUCCESS;
    Outcome { name: "tidy", passed, took: begin.elapsed(), remedy: "cargo xtask tidy" }
}

fn announce(name: &str, command: &str) {
    eprintln!("── {name}: {command}");
}

/// The program of ours that a command begins with, if it does.
fn own_program<'a>(words: &[&'a str]) -> Option<&'a str> {
    words.first().copied().filter(|word| [CHAOS_PROGRAM, SIMULATE_PROGRAM].contains(word))
}

/// The command with these words: cargo's, but for those that begin with a program of ours.
fn cargo(root: &Path, words: &[&str]) -> Command {
    let (program, words) = match (own_program(words), env::current_exe()) {
        (Some(program), Ok(own)) => {
            (own.with_file_name(program).into_os_string(), words.get(1..).unwrap_or_default())
        }
        _ => (env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), words),
    };
    let mut command = Command::new(program);
    command.args(words).current_dir(root).stdin(Stdio::null());
    // What cargo has told this program about itself: build scripts look at it (ring's), and would
    // run again, with all that depends on them, after a build that a person has typed.
    let own = env::vars_os().map(|(name, _)| name);
    own.filter(|name| is_of_this_package(&name.to_string_lossy())).for_each(|name| {
        command.env_remove(name);
    });
    if words.first() == Some(&"doc") {
        command.env("RUSTDOCFLAGS", "-D warnings");
    }
    command
}

/// Whether cargo gives that variable to the program that it runs, about its package.
fn is_of_this_package(name: &str) -> bool {
    name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
}

fn run(root: &Path, words: &[&str]) -> bool {
    match cargo(root, words).status() {
        Ok(status) => status.success(),
        Err(error) => {
            eprintln!("cannot run cargo: {error}");
            false
        }
    }
}

fn has_nextest(root: &Path) -> bool {
    let mut command = cargo(root, &["nextest", "--version"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn sum_up(outcomes: &[Outcome]) -> ExitCode {
    eprintln!("── summary");
    for Outcome { name, passed, took, remedy } in outcomes {
        let seconds = took.as_secs_f64();
        if *passed {
            eprintln!("{name:<11} ok      {seconds:>7.1} s");
        } else {
            eprintln!("{name:<11} FAILED  {seconds:>7.1} s   run: {remedy}");
        }
    }
    if outcomes.iter().all(|outcome| outcome.passed) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
