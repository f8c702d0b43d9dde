//! Words that do not belong: placeholders, sleeps in tests, silent allowances, names that say
//! nothing, and traces of one machine.

use super::scan::{self, Token};
use super::{Finding, Source, Tree};

const PLACEHOLDER: &str = "placeholder";
const ALLOW: &str = "allow";
const SLEEP: &str = "sleep-in-test";
const MODULE: &str = "module-name";
const MACHINE: &str = "machine-path";
const REGISTRY: &str = "registry";

/// The comment that makes a sleep in a test right; a reason follows.
const WAITS: &str = "// tidy: waits because ";
const REFUSED_MODULES: [&str; 7] = ["utils", "util", "helpers", "helper", "common", "misc", "imp"];
/// Folders of one machine. Written in pieces, so that this file is tidy itself.
const MACHINE_PATHS: [&str; 4] = [
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/tmp/", "target"),
    concat!("../", "shared"),
];
const LOCKED_SOURCE: &str = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";

/// Placeholders, allowances and sleeps in code.
pub(crate) fn check_code(tree: &Tree) -> Vec<Finding> {
    tree.rust().flat_map(check_tokens).collect()
}

fn check_tokens(source: &Source) -> Vec<Finding> {
    let tokens = source.tokens();
    let places = (0..tokens.len()).filter_map(|at| tokens.get(at..));
    places.filter_map(|rest| check_place(source, rest)).collect()
}

fn check_place(source: &Source, tokens: &[Token<'_>]) -> Option<Finding> {
    let first = tokens.first()?;
    let begins = |texts: &[&str]| scan::starts_with(tokens, texts);
    for name in ["todo", "unimplemented", "dbg"] {
        if begins(&[name, "!"]) {
            let sentence = format!("`{name}!` is no code to keep");
            return Some(Finding::error(PLACEHOLDER, source, first.line, sentence));
        }
    }
    if begins(&["#", "[", "allow"]) || begins(&["#", "!", "[", "allow"]) {
        let sentence =
            "say `#[expect(…, reason = \"…\")]`: it warns when it is no longer needed".into();
        return Some(Finding::error(ALLOW, source, first.line, sentence));
    }
    let sleeps = begins(&["sleep", "("]) && source.is_test(first.line);
    if sleeps && !says_why_it_waits(source, first.line) {
        let sentence = format!("wait for a condition with a deadline, or say `{WAITS}…` above");
        return Some(Finding::error(SLEEP, source, first.line, sentence));
    }
    None
}

/// Whether the line, or the comment above its statement, has the marker with a reason.
fn says_why_it_waits(source: &Source, line: usize) -> bool {
    let has_reason =
        |text: &str| text.split_once(WAITS).is_some_and(|(_, reason)| !reason.trim().is_empty());
    let mut upwards = source.lines_up_from(line);
    upwards.next().is_some_and(has_reason)
        || upwards.take_while(|above| above.trim_start().starts_with("//")).any(has_reason)
}

/// Paths of one machine in any file, and other registries in the lock file.
pub(crate) fn check_text(tree: &Tree) -> Vec<Finding> {
    tree.all()
        .flat_map(|source| {
            source.lines().filter_map(|(number, line)| check_line(source, number, line))
        })
        .collect()
}

fn check_line(source: &Source, number: usize, line: &str) -> Option<Finding> {
    if let Some(path) = MACHINE_PATHS.into_iter().find(|path| names_path(line, path)) {
        let sentence = format!("`{path}` exists on one machine only");
        return Some(Finding::error(MACHINE, source, number, sentence));
    }
    let is_locked = source.path.ends_with("Cargo.lock") && line.starts_with("source = ");
    let replaces = source.path.contains(".cargo/") && line.trim_start().starts_with("[source");
    if (is_locked && line != LOCKED_SOURCE) || replaces {
        let sentence = "names a registry other than crates.io".into();
        return Some(Finding::error(REGISTRY, source, number, sentence));
    }
    None
}

/// Whether the line names the path from its root: `target` + path is a path of the project's own.
fn names_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line.get(..at).and_then(|before| before.chars().next_back());
        before.is_none_or(|before| {
            !before.is_alphanumeric() && !matches!(before, '.' | '-' | '_' | '}' | '*')
        })
    })
}

/// Module names that say nothing, and `mod.rs`.
pub(crate) fn check_names(tree: &Tree) -> Vec<Finding> {
    tree.rust()
        .flat_map(|source| {
            let file = check_path(source);
            file.into_iter().chain(check_inline(source))
        })
        .collect()
}

fn check_path(source: &Source) -> Option<Finding> {
    if source.path.ends_with("/mod.rs") {
        let sentence = "is `foo.rs` beside the folder `foo`, not `foo/mod.rs`".into();
        return Some(Finding::error(MODULE, source, 1, sentence));
    }
    let inside = source.path.get(source.package().len()..).unwrap_or_default();
    let parts = inside.trim_end_matches(".rs").split('/');
    let refused = parts.into_iter().find(|part| REFUSED_MODULES.contains(part))?;
    Some(nameless(source, 1, refused))
}

fn check_inline(source: &Source) -> Vec<Finding> {
    let tokens = source.tokens();
    let inline = tokens.windows(3).filter_map(|window| match window {
        [word, name, open] if word.text == "mod" && open.text == "{" => Some(name),
        _ => None,
    });
    let refused = inline.filter(|name| REFUSED_MODULES.contains(&name.text));
    refused.map(|name| nameless(source, name.line, name.text)).collect()
}

fn nameless(source: &Source, line: usize, name: &str) -> Finding {
    Finding::error(MODULE, source, line, format!("`{name}` says nothing: name what it does"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_one(path: &str, text: &str) -> Vec<String> {
        let tree = Tree::new(vec![(path.into(), text.into())]);
        let findings = [check_code(&tree), check_text(&tree), check_names(&tree)].concat();
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn placeholders_and_allowances_are_refused_in_code_only() {
        for text in
            ["todo!()", "unimplemented!(\"a\")", "dbg!(a)", "#[allow(dead_code)]", "#![allow(a)]"]
        {
            assert_eq!(check_one("crates/a/src/b.rs", text).len(), 1, "{text}");
        }
        for text in ["// todo!()", "\"dbg!\"", "#[expect(dead_code, reason = \"a\")]", "a.todo()"] {
            assert!(check_one("crates/a/src/b.rs", text).is_empty(), "{text}");
        }
    }

    #[test]
    fn a_test_sleeps_only_with_a_reason() {
        let path = "crates/a/tests/b.rs";
        assert_eq!(check_one(path, "thread::sleep(d);").len(), 1);
        assert_eq!(check_one(path, "// tidy: waits because \nsleep(d);").len(), 1);
        assert!(
            check_one(path, "// tidy: waits because the poll needs a pause\n// x\nsleep(d);")
                .is_empty()
        );
        assert!(check_one(path, "sleep(d); // tidy: waits because it polls").is_empty());
        assert!(check_one("crates/a/src/b.rs", "sleep(d);").is_empty());
        assert_eq!(check_one("crates/a/src/b.rs", "#[test]\nfn a() { sleep(d) }").len(), 1);
    }

    #[test]
    fn paths_of_a_machine_are_found_everywhere() {
        for path in MACHINE_PATHS {
            assert_eq!(check_one("docs/a.md", &format!("see {path}x")).len(), 1, "{path}");
            assert!(check_one("docs/a.md", &format!("see here{path}x")).is_empty(), "{path}");
        }
    }

    #[test]
    fn the_lock_file_names_no_other_registry() {
        assert!(check_one("Cargo.lock", LOCKED_SOURCE).is_empty());
        assert_eq!(check_one("Cargo.lock", "source = \"registry+https://mirror/index\"").len(), 1);
        assert_eq!(check_one(".cargo/config.toml", "[source.crates-io]").len(), 1);
    }

    #[test]
    fn a_module_is_named_for_what_it_does() {
        for path in ["crates/a/src/utils.rs", "crates/a/src/common/b.rs", "crates/a/src/b/mod.rs"] {
            assert_eq!(check_one(path, "").len(), 1, "{path}");
        }
        assert_eq!(check_one("crates/a/src/b.rs", "mod imp {}").len(), 1);
        assert!(check_one("crates/common/src/b.rs", "mod tests {}").is_empty());
    }
}
