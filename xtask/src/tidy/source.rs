//! The files that rules look at, with the lexical views that several rules share.

use std::collections::BTreeSet;

use super::scan::{self, Token};

/// All files of the workspace.
pub(crate) struct Tree {
    sources: Vec<Source>,
}

/// One text file.
pub(crate) struct Source {
    /// Relative to the workspace, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
    code: String,
    test_lines: BTreeSet<usize>,
}

impl Tree {
    /// The tree of files given as (path, text).
    pub(crate) fn new(files: Vec<(String, String)>) -> Self {
        let mut sources: Vec<Source> =
            files.into_iter().map(|(path, text)| Source::new(path, text)).collect();
        let test_modules: BTreeSet<String> =
            sources.iter().flat_map(Source::test_module_stems).collect();
        for source in &mut sources {
            if is_test_path(&source.path) || is_below(&source.path, &test_modules) {
                source.test_lines = (1..=source.text.lines().count()).collect();
            }
        }
        Self { sources }
    }

    /// How many files there are.
    pub(crate) fn len(&self) -> usize {
        self.sources.len()
    }

    /// Every file.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Source> {
        self.sources.iter()
    }

    /// The Rust files.
    pub(crate) fn rust(&self) -> impl Iterator<Item = &Source> {
        self.all().filter(|source| source.is_rust())
    }

    /// The file at that path.
    pub(crate) fn get(&self, path: &str) -> Option<&Source> {
        self.all().find(|source| source.path == path)
    }

    /// Whether a file or a folder is there.
    pub(crate) fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        self.all().any(|source| {
            source
                .path
                .strip_prefix(path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }
}

impl Source {
    fn new(path: String, text: String) -> Self {
        let is_rust = path.ends_with(".rs");
        let code = if is_rust { scan::mask(&text) } else { String::new() };
        let test_lines = test_items(&scan::tokens(&code)).into_iter().flatten().collect();
        Self { path, text, code, test_lines }
    }

    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// The code without comments and literals; empty for other files than Rust's.
    pub(crate) fn tokens(&self) -> Vec<Token<'_>> {
        scan::tokens(&self.code)
    }

    /// Whether the line, from 1, belongs to a test.
    pub(crate) fn is_test(&self, line: usize) -> bool {
        self.test_lines.contains(&line)
    }

    /// The lines with their numbers, from 1.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(at, line)| (at + 1, line))
    }

    /// The lines from the number `line` downwards to the first, that one included.
    pub(crate) fn lines_up_from(&self, line: usize) -> impl Iterator<Item = &str> {
        self.text.lines().take(line).collect::<Vec<_>>().into_iter().rev()
    }

    /// The package's folder: `crates/engine`, `xtask`; empty for files of the workspace itself.
    pub(crate) fn package(&self) -> &str {
        let depth = if self.path.starts_with("crates/") { 2 } else { 1 };
        let end = self.path.match_indices('/').nth(depth - 1).map_or(0, |(at, _)| at);
        self.path.get(..end).unwrap_or_default()
    }

    /// Where the modules lie that this file declares for tests only, without `.rs`.
    fn test_module_stems(&self) -> Vec<String> {
        let Some(stem) = self.path.strip_suffix(".rs") else { return Vec::new() };
        let folder = match stem.rsplit_once('/') {
            Some((folder, "lib" | "main")) => folder,
            _ => stem,
        };
        let tokens = self.tokens();
        let declared = tokens.windows(3).filter(|window| {
            matches!(window, [word, _, end] if word.text == "mod" && end.text == ";")
                && window.first().is_some_and(|word| self.is_test(word.line))
        });
        declared
            .filter_map(|window| window.get(1))
            .map(|name| format!("{folder}/{}", name.text))
            .collect()
    }
}

/// The line ranges of items that only tests compile.
fn test_items(tokens: &[Token<'_>]) -> Vec<std::ops::RangeInclusive<usize>> {
    let mut ranges = Vec::new();
    let mut rest = tokens;
    while let Some((first, after)) = rest.split_first() {
        if !scan::starts_with(rest, &["#", "["]) {
            rest = after;
            continue;
        }
        let attribute = attribute_length(rest);
        let (words, mut item) = rest.split_at_checked(attribute).unwrap_or((rest, &[]));
        if !is_test_attribute(words) {
            rest = item;
            continue;
        }
        while scan::starts_with(item, &["#", "["]) {
            item = item.get(attribute_length(item)..).unwrap_or_default();
        }
        let (body, next) = item.split_at_checked(scan::item_length(item)).unwrap_or((item, &[]));
        ranges.push(first.line..=body.last().map_or(first.line, |last| last.line));
        rest = next;
    }
    ranges
}

fn attribute_length(tokens: &[Token<'_>]) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        match token.text {
            "[" => depth += 1,
            "]" if depth == 1 => return at + 1,
            "]" => depth -= 1,
            _ => {}
        }
    }
    tokens.len()
}

/// `#[test]`, `#[tokio::test(…)]`, `#[cfg(test)]`, `#[cfg(all(test, …))]`.
fn is_test_attribute(attribute: &[Token<'_>]) -> bool {
    let has = |wanted: &str| attribute.iter().any(|token| token.text == wanted);
    if scan::starts_with(attribute, &["#", "[", "cfg", "("]) {
        return has("test") && !has("not");
    }
    let path = attribute.iter().skip(2).take_while(|token| !matches!(token.text, "(" | "]"));
    path.last().is_some_and(|last| last.text == "test")
}

fn is_test_path(path: &str) -> bool {
    path.split('/').any(|part| matches!(part, "tests" | "tests.rs"))
}

fn is_below(path: &str, stems: &BTreeSet<String>) -> bool {
    let Some(stem) = path.strip_suffix(".rs") else { return false };
    stems.iter().any(|module| {
        stem.strip_prefix(module.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> Tree {
        Tree::new(files.iter().map(|(path, text)| ((*path).into(), (*text).into())).collect())
    }

    fn test_lines(text: &str) -> Vec<usize> {
        Source::new("crates/a/src/b.rs".into(), text.into()).test_lines.into_iter().collect()
    }

    #[test]
    fn a_test_item_reaches_from_its_attribute_to_its_end() {
        assert_eq!(test_lines("fn a() {}\n#[cfg(test)]\nmod tests {\n}\nfn b() {}"), [2, 3, 4]);
        assert_eq!(
            test_lines("#[tokio::test(flavor = \"x\")]\n#[ignore]\nfn a() {\n}\n"),
            [1, 2, 3, 4]
        );
        assert_eq!(test_lines("#[cfg(test)]\nuse a::{b, c};\nfn b() {}"), [1, 2]);
    }

    #[test]
    fn other_attributes_mark_nothing() {
        assert!(test_lines("#[cfg(not(test))]\nfn a() {}\n#[derive(Debug)]\nstruct B;").is_empty());
        assert!(test_lines("#![warn(missing_docs)]\nfn a() {}").is_empty());
    }

    #[test]
    fn a_module_declared_for_tests_is_test_code_wherever_it_lies() {
        let tree = tree(&[
            ("crates/a/src/lib.rs", "//! a.\n#[cfg(test)]\nmod model_check;\nmod real;"),
            ("crates/a/src/model_check.rs", "fn a() {}"),
            ("crates/a/src/model_check/deep.rs", "fn a() {}"),
            ("crates/a/src/real.rs", "//! b.\n#[cfg(test)]\nmod claims;"),
            ("crates/a/src/real/claims.rs", "fn a() {}"),
            ("crates/a/tests/verbs.rs", "fn a() {}"),
        ]);
        let tests: Vec<&str> =
            tree.all().filter(|source| source.is_test(1)).map(|source| &*source.path).collect();
        assert_eq!(
            tests,
            [
                "crates/a/src/model_check.rs",
                "crates/a/src/model_check/deep.rs",
                "crates/a/src/real/claims.rs",
                "crates/a/tests/verbs.rs",
            ]
        );
    }

    #[test]
    fn a_file_belongs_to_the_package_whose_folder_it_is_in() {
        let package = |path: &str| Source::new(path.into(), String::new()).package().to_owned();
        assert_eq!(package("crates/engine/src/a/b.rs"), "crates/engine");
        assert_eq!(package("xtask/src/main.rs"), "xtask");
        assert_eq!(package("README.md"), "");
    }
}
