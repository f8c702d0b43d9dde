//! `docs/cli.md` names what the command line can print as JSON.
#![expect(clippy::expect_used, reason = "a test that cannot read its own source has failed")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What stands before and behind a literal that is a key of a JSON object.
const BEFORE: [&str; 3] = ["insert(", "field: ", "document("];
const BEHIND: [&str; 2] = [": ", ", json!("];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.file_name().is_some_and(|name| name != "tests.rs") {
            found.push(path);
        }
    }
}

/// The keys in a source, tests left out.
fn keys(source: &str) -> impl Iterator<Item = &str> {
    let code = source.split("#[cfg(test)]").next().unwrap_or_default();
    code.match_indices('"').filter_map(|(at, _)| {
        let (before, rest) = (code.get(..at)?, code.get(at + 1..)?);
        let (word, behind) = rest.split_once('"')?;
        let is_word =
            !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        let is_key = BEFORE.iter().any(|text| before.ends_with(text))
            || BEHIND.iter().any(|text| behind.starts_with(text));
        (is_word && is_key).then_some(word)
    })
}

#[test]
fn every_key_of_json_is_named_on_the_page() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("../../docs/cli.md")).expect("the page");
    let (_, output) = page.split_once("## 4. Output").expect("its section about output");
    let (output, _) = output.split_once("## 5. ").expect("the end of the section");
    let named: BTreeSet<&str> =
        output.split(|letter: char| !letter.is_ascii_lowercase() && letter != '_').collect();
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    let mut count = 0;
    for file in files {
        let source = std::fs::read_to_string(&file).expect("a source");
        for key in keys(&source) {
            count += 1;
            assert!(named.contains(key), "docs/cli.md does not name `{key}` of {}", file.display());
        }
    }
    assert!(count > 100, "the test finds the keys no more: {count}");
}
