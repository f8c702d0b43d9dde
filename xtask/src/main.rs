//! Chores of the workspace: `cargo xtask verify`, `cargo xtask fix`, `cargo xtask tidy`,
//! `cargo xtask simulate`, `cargo xtask chaos`.
//!
//! `fix` edits what a machine can edit; the others edit nothing.

mod steps;
mod tidy;
mod wrap;

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use steps::Tests;

const USAGE: &str = "usage:
  cargo xtask verify [--skip-tests] [--strict]  what must hold before a commit; edits nothing
  cargo xtask fix                               formats, wraps comments, applies clippy's fixes
  cargo xtask tidy [--strict]                   only the rules of the house, as verify does
  cargo xtask simulate [OPTIONS]                random operations on simulated clusters; --help
                                                lists the options
  cargo xtask chaos [OPTIONS]                   kills real nodes and clients at random; --help lists
                                                the options

  --skip-tests   the caller has just run them
  --strict       warnings of tidy count as errors";

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let Some((verb, options)) = words.split_first() else { return usage() };
    if verb == "simulate" {
        return steps::simulate(&root(), options);
    }
    if verb == "chaos" {
        return steps::chaos(&root(), options);
    }
    let known: &[&str] = match verb.as_str() {
        "verify" => &["--skip-tests", "--strict"],
        "tidy" => &["--strict"],
        "fix" => &[],
        _ => return usage(),
    };
    if options.iter().any(|option| !known.contains(&option.as_str())) {
        return usage();
    }
    let has = |wanted: &str| options.iter().any(|option| option == wanted);
    let warnings = if has("--strict") { tidy::Warnings::AreErrors } else { tidy::Warnings::Pass };
    let tests = if has("--skip-tests") { Tests::Skip } else { Tests::Run };
    let root = root();
    match verb.as_str() {
        "verify" => steps::verify(&root, tests, warnings),
        "fix" => steps::fix(&root),
        _ => tidy::report(&root, warnings),
    }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

/// The workspace: this package's folder is one below it.
fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_path_buf()
}
