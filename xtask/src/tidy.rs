//! The rules of the house that no compiler knows (`docs/contributing.md` lists them).
//!
//! Every rule is a pure function from the [`Tree`] to its [`Finding`]s.

mod bounds;
mod floors;
mod homes;
mod maps;
mod promises;
mod scan;
pub(crate) mod size;
mod source;
mod words;

use std::fmt;
use std::io;
use std::path::Path;
use std::process::{Command, ExitCode};

pub(crate) use source::{Source, Tree};

/// What a warning does to the exit status.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Warnings {
    /// Nothing.
    Pass,
    /// The same as an error.
    AreErrors,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    Warning,
    Error,
}

/// A place that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    rule: &'static str,
    severity: Severity,
    path: String,
    line: usize,
    sentence: String,
}

impl Finding {
    fn error(rule: &'static str, source: &Source, line: usize, sentence: String) -> Self {
        Self { rule, severity: Severity::Error, path: source.path.clone(), line, sentence }
    }

    fn warning(rule: &'static str, source: &Source, line: usize, sentence: String) -> Self {
        Self { severity: Severity::Warning, ..Self::error(rule, source, line, sentence) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, severity, path, line, sentence } = self;
        let severity = match severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{path}:{line}: {severity}: {rule}: {sentence}")
    }
}

const RULES: [fn(&Tree) -> Vec<Finding>; 9] = [
    floors::check,
    homes::check,
    size::check,
    maps::check,
    bounds::check,
    promises::check,
    words::check_code,
    words::check_text,
    words::check_names,
];

/// Every finding in the tree, by path and line.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings: Vec<Finding> = RULES.iter().flat_map(|rule| rule(tree)).collect();
    findings.sort_by(|a, b| (&a.path, a.line, a.rule).cmp(&(&b.path, b.line, b.rule)));
    findings
}

/// Reads the tree, prints the findings, and says whether it is tidy.
pub(crate) fn report(root: &Path, warnings: Warnings) -> ExitCode {
    let tree = match read(root) {
        Ok(tree) => tree,
        Err(error) => {
            eprintln!("tidy cannot read the tree: {error}");
            return ExitCode::FAILURE;
        }
    };
    let findings = check(&tree);
    for finding in &findings {
        println!("{finding}");
    }
    let count = |wanted| findings.iter().filter(|finding| finding.severity == wanted).count();
    let (errors, warned) = (count(Severity::Error), count(Severity::Warning));
    eprintln!("tidy: {} files, {errors} errors, {warned} warnings", tree.len());
    let fails = errors > 0 || (warned > 0 && warnings == Warnings::AreErrors);
    if fails { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Reads the files that git tracks or would track, so that a new file is checked before its first
/// commit.
///
/// # Errors
/// When git cannot list them.
pub(crate) fn read(root: &Path) -> io::Result<Tree> {
    let listing = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()?;
    if !listing.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&listing.stderr).trim().to_owned()));
    }
    let listing = String::from_utf8_lossy(&listing.stdout);
    let mut sources = Vec::new();
    for path in listing.split('\0').filter(|path| !path.is_empty()) {
        // A tracked file may be gone from the work tree, and a binary one is nobody's to tidy.
        if let Ok(text) = std::fs::read_to_string(root.join(path)) {
            sources.push((path.to_owned(), text));
        }
    }
    Ok(Tree::new(sources))
}
