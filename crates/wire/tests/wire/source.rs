//! The messages as the sources declare them, so that none is forgotten here.

use std::path::Path;

use sortie_wire::Kind;

pub(crate) fn crate_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The sources of this crate and of the nouns it is made of.
fn sources() -> Vec<String> {
    let folders = [crate_root().join("src"), crate_root().join("../model/src")];
    let mut files = Vec::new();
    let mut folders = folders.to_vec();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect()
}

/// Every message with its number, by number.
pub(crate) fn kinds() -> Vec<(Kind, String)> {
    let mut kinds = Vec::new();
    for source in sources() {
        for block in source.split("\nkinds! {").skip(1) {
            let block = block.split_once('}').unwrap().0;
            for entry in block.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
                let (name, number) = entry.split_once(" = ").unwrap();
                kinds.push((number.parse().unwrap(), name.to_owned()));
            }
        }
    }
    kinds.sort();
    kinds
}

/// The fields of a struct, or the variants of an enum, in the order of their declaration.
pub(crate) fn parts_of(name: &str) -> Vec<String> {
    let without = format!("pub struct {name};\n");
    if sources().iter().any(|source| source.contains(&without)) {
        return Vec::new();
    }
    let found = sources().into_iter().find_map(|source| {
        let declared = [format!("pub struct {name} {{\n"), format!("pub enum {name} {{\n")];
        let start = declared.iter().find_map(|line| Some(source.find(line)? + line.len()))?;
        source[start..].split_once("\n}").map(|(body, _)| body.to_owned())
    });
    let body = found.unwrap_or_else(|| panic!("{name} is declared nowhere"));
    let indented = body.lines().filter_map(|line| line.strip_prefix("    "));
    let parts = indented.filter(|line| line.starts_with(|first: char| first.is_alphabetic()));
    let word = |line: &str| {
        let line = line.strip_prefix("pub ").unwrap_or(line);
        line.split(|end: char| !end.is_alphanumeric() && end != '_').next().unwrap().to_owned()
    };
    parts.map(word).collect()
}

#[test]
fn no_number_belongs_to_two_messages() {
    let kinds = kinds();
    assert!(kinds.len() > 20, "the list of messages was not found: {kinds:?}");
    for pair in kinds.windows(2) {
        assert!(pair[0].0 < pair[1].0, "{} and {} share a number", pair[0].1, pair[1].1);
    }
}
