//! Each outside crate that could spread has a home: the only places where it may be named. Some
//! places, besides, must not name what would break their promise (no clock, no threads, no I/O).

use toml::Table;

use super::scan::{self, Token};
use super::{Finding, Source, Tree, floors};

const HOME: &str = "homes";
const ABSENCE: &str = "absence";

/// Crates, as packages spell them, and where they may be named: folders end with `/`.
const HOMES: [(&[&str], &[&str]); 8] = [
    (&["ractor"], &["crates/actors/", "crates/ractor/"]),
    (&["quinn", "quinn-proto", "quinn-udp", "rustls", "rcgen"], &["crates/link/", "benches/"]),
    (&["x509-parser"], &["crates/link/"]),
    (&["bincode"], &["crates/wire/src/codec.rs", "crates/wire/Cargo.toml"]),
    (&["redb"], &["crates/store/", "benches/"]),
    (&["clap", "clap_complete", "indicatif", "anstream"], &["crates/cli/"]),
    (&["tracing-subscriber"], &["crates/cli/", "examples/", "tests/"]),
    (
        &["rmp-serde", "rmpv"],
        &["crates/sortie/", "crates/exec/", "crates/cli/", "crates/macros/", "tests/", "benches/"],
    ),
];

/// A floor's promise: what its code never names outside tests.
struct Absence {
    folders: &'static [&'static str],
    names: &'static [&'static [&'static str]],
    why: &'static str,
}

const ABSENCES: [Absence; 3] = [
    Absence {
        folders: &["crates/engine/"],
        names: &[
            &["Instant", ":", ":", "now"],
            &["SystemTime"],
            &["Timestamp", ":", ":", "now"],
            &["now_v7"],
            &["new_v4"],
            &["thread"],
            &["rand"],
            &["async"],
            &["await"],
        ],
        why: "the engine has no clock, no randomness, no async and no threads: what it needs of \
              them comes in as an argument",
    },
    Absence {
        folders: &[
            "crates/engine/",
            "crates/model/",
            "crates/wire/",
            "crates/store/",
            "crates/guardian/",
        ],
        names: &[&["tokio"], &["tokio_util"]],
        why: "tokio lives above: this crate must work without a runtime",
    },
    Absence {
        folders: &["crates/engine/", "crates/model/", "crates/wire/"],
        names: &[
            &["std", ":", ":", "fs"],
            &["std", ":", ":", "net"],
            &["std", ":", ":", "process"],
            &["std", ":", ":", "env"],
            &["File", ":", ":", "open"],
        ],
        why: "this crate does no I/O",
    },
];

/// Names outside their homes, and names where a floor promises their absence.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let code = tree.rust().flat_map(check_code);
    let manifests = tree.all().filter(|source| source.path.ends_with("/Cargo.toml"));
    code.chain(manifests.flat_map(check_manifest)).collect()
}

fn is_at_home(path: &str, homes: &[&str]) -> bool {
    homes.iter().any(|home| path == *home || (home.ends_with('/') && path.starts_with(home)))
}

fn check_code(source: &Source) -> Vec<Finding> {
    let tokens = source.tokens();
    let mut findings = Vec::new();
    for (names, homes) in HOMES.iter().filter(|(_, homes)| !is_at_home(&source.path, homes)) {
        let identifiers: Vec<String> = names.iter().map(|name| name.replace('-', "_")).collect();
        let strays = (0..tokens.len()).filter_map(|at| {
            let token = tokens.get(at)?;
            let is_named = identifiers.iter().any(|name| name == token.text);
            (is_named && is_path_root(&tokens, at)).then_some(token)
        });
        findings.extend(strays.map(|token| stray(source, token.line, token.text, homes)));
    }
    for absence in ABSENCES.iter().filter(|absence| is_at_home(&source.path, absence.folders)) {
        findings.extend(breaches(source, &tokens, absence));
    }
    findings
}

/// Whether the word names a crate here: it begins a path, and is no variable, field or module of
/// the same name.
fn is_path_root(tokens: &[Token<'_>], at: usize) -> bool {
    let before =
        |back: usize| at.checked_sub(back).and_then(|at| tokens.get(at)).map(|token| token.text);
    let after = tokens.get(at + 1..).unwrap_or_default();
    let inside_a_path =
        before(1) == Some(":") && before(2) == Some(":") && before(3).is_some_and(is_word);
    let leads = scan::starts_with(after, &[":", ":"]);
    let imported =
        matches!(before(1), Some("use" | "crate")) && !scan::starts_with(after, &[":", ":", ":"]);
    !inside_a_path && (leads || imported)
}

fn is_word(text: &str) -> bool {
    text.chars().all(|now| now.is_alphanumeric() || now == '_')
}

fn stray(source: &Source, line: usize, name: &str, homes: &[&str]) -> Finding {
    let sentence = format!("`{name}` is named only in {}", homes.join(", "));
    Finding::error(HOME, source, line, sentence)
}

fn breaches(source: &Source, tokens: &[Token<'_>], absence: &Absence) -> Vec<Finding> {
    let places = (0..tokens.len()).filter_map(|at| tokens.get(at..));
    let named = places.filter_map(|rest| {
        let first = rest.first().filter(|first| !source.is_test(first.line))?;
        let hit = absence.names.iter().find(|name| scan::starts_with(rest, name))?;
        Some((first.line, hit.concat()))
    });
    let mut named: Vec<(usize, String)> = named.collect();
    named.dedup();
    let finding = |(line, name)| {
        Finding::error(ABSENCE, source, line, format!("`{name}` is named: {}", absence.why))
    };
    named.into_iter().map(finding).collect()
}

fn check_manifest(source: &Source) -> Vec<Finding> {
    let Ok(manifest) = source.text.parse::<Table>() else { return Vec::new() };
    let mut findings = Vec::new();
    // Tests may drive a crate with what the crate itself does without.
    let built: Vec<String> = floors::built_dependencies(&manifest).collect();
    for dependency in floors::dependencies(&manifest) {
        let line = floors::line_of(source, &dependency);
        let home = HOMES.iter().find(|(names, _)| names.contains(&&*dependency));
        if let Some((_, homes)) = home.filter(|(_, homes)| !is_at_home(&source.path, homes)) {
            findings.push(stray(source, line, &dependency, homes));
        }
        let breach = ABSENCES.iter().find(|absence| {
            built.contains(&dependency)
                && is_at_home(&source.path, absence.folders)
                && absence.names.iter().any(|name| name.concat() == dependency.replace('-', "_"))
        });
        if let Some(absence) = breach {
            let sentence = format!("depends on `{dependency}`: {}", absence.why);
            findings.push(Finding::error(ABSENCE, source, line, sentence));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_one(path: &str, text: &str) -> Vec<String> {
        let tree = Tree::new(vec![(path.into(), text.into())]);
        check(&tree).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_crate_is_named_at_home_only() {
        for (text, home) in [
            ("use ractor::Actor;", "crates/actors/src/a.rs"),
            ("fn a(b: quinn::Connection) {}", "crates/link/src/a.rs"),
            ("use rustls as tls;", "benches/src/bin/a.rs"),
            ("bincode::config::standard()", "crates/wire/src/codec.rs"),
            ("use tracing_subscriber::fmt;", "crates/cli/src/a.rs"),
        ] {
            assert!(check_one(home, text).is_empty(), "{text} in {home}");
            let stray = check_one("crates/sortie/src/a.rs", text);
            assert_eq!(stray.len(), 1, "{text}: {stray:?}");
        }
        assert_eq!(check_one("crates/wire/src/frame.rs", "use bincode::config;").len(), 1);
        assert_eq!(check_one("crates/model/Cargo.toml", "[dependencies]\nclap = \"4\"").len(), 1);
    }

    #[test]
    fn a_word_that_names_no_crate_is_free() {
        for text in
            ["// quinn::x", "let rustls = 1;", "\"ractor::a\"", "self.clap", "crate::clap::a()"]
        {
            assert!(check_one("crates/store/src/a.rs", text).is_empty(), "{text}");
        }
    }

    #[test]
    fn the_engine_has_no_clock_and_no_threads_but_its_tests_may() {
        for text in ["Instant::now()", "std::thread::spawn(f)", "async fn a() {}", "Uuid::now_v7()"]
        {
            assert_eq!(check_one("crates/engine/src/a.rs", text).len(), 1, "{text}");
        }
        let test = "#[cfg(test)]\nmod tests { fn a() { Instant::now(); } }";
        assert!(check_one("crates/engine/src/a.rs", test).is_empty());
        assert!(check_one("crates/engine/src/a.rs", "fn a(now: Instant) {}").is_empty());
    }

    #[test]
    fn the_guardian_has_no_tokio() {
        assert_eq!(check_one("crates/guardian/src/a.rs", "use tokio::select;").len(), 1);
        assert_eq!(
            check_one("crates/guardian/Cargo.toml", "[dependencies]\ntokio = \"1\"").len(),
            1
        );
        let tested = "[dev-dependencies]\ntokio = \"1\"";
        assert!(check_one("crates/guardian/Cargo.toml", tested).is_empty());
        assert!(check_one("crates/exec/src/a.rs", "use tokio::select;").is_empty());
    }
}
