//! Maps that mislead are worse than none: what the documents point at must exist.

use super::{Finding, Source, Tree};

const MAP: &str = "two-hops";
const LINK: &str = "dead-link";
const ARCHITECTURE: &str = "docs/architecture.md";
const HEADING: &str = "## Two hops";

/// Rows of the two-hop table, and links between documents, that point at nothing.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let documents = tree.all().filter(|source| source.path.ends_with(".md"));
    documents
        .flat_map(|source| {
            let table =
                if source.path == ARCHITECTURE { check_table(tree, source) } else { Vec::new() };
            table.into_iter().chain(check_links(tree, source))
        })
        .collect()
}

fn check_table(tree: &Tree, source: &Source) -> Vec<Finding> {
    let rows = source.lines().skip_while(|(_, line)| !line.starts_with(HEADING)).skip(1);
    let rows = rows.take_while(|(_, line)| !line.starts_with("## "));
    let rows: Vec<_> = rows.filter(|(_, line)| line.starts_with('|')).skip(2).collect();
    if rows.is_empty() {
        let sentence = format!("has no table under `{HEADING}`");
        return vec![Finding::error(MAP, source, 1, sentence)];
    }
    rows.iter().flat_map(|(number, row)| check_row(tree, source, *number, row)).collect()
}

fn check_row(tree: &Tree, source: &Source, number: usize, row: &str) -> Vec<Finding> {
    let last = row.trim_end().trim_end_matches('|').rsplit('|').next().unwrap_or_default();
    let paths: Vec<&str> = code_spans(last).collect();
    if paths.is_empty() {
        return vec![Finding::error(MAP, source, number, "this row names no file".into())];
    }
    let missing = paths.into_iter().filter(|path| !tree.has(path));
    let finding = |path| Finding::error(MAP, source, number, format!("`{path}` is not there"));
    missing.map(finding).collect()
}

fn code_spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn check_links(tree: &Tree, source: &Source) -> Vec<Finding> {
    let folder = source.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut findings = Vec::new();
    for (number, line) in source.lines() {
        let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://") && !target.starts_with('#')) {
            let path = target.split('#').next().unwrap_or_default();
            if !tree.has(&resolve(folder, path)) {
                let sentence = format!("`{target}` points at nothing");
                findings.push(Finding::error(LINK, source, number, sentence));
            }
        }
    }
    findings
}

fn resolve(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_table_with(last_cell: &str) -> Vec<String> {
        let text =
            format!("# A\n## Two hops\n| want | where |\n|---|---|\n| b | {last_cell} |\n## C\n");
        let tree = Tree::new(vec![
            (ARCHITECTURE.into(), text),
            ("crates/engine/src/aggregate.rs".into(), String::new()),
        ]);
        check(&tree).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_path_of_the_table_exists() {
        assert!(check_table_with("`crates/engine/src/aggregate.rs`").is_empty());
        assert!(
            check_table_with("`crates/engine/src/`, `crates/engine/src/aggregate.rs`").is_empty()
        );
        let found = check_table_with("`crates/engine/src/aggregate.rs`, `crates/gone.rs`");
        assert_eq!(
            found,
            ["docs/architecture.md:5: error: two-hops: `crates/gone.rs` is not there"]
        );
        assert_eq!(check_table_with("somewhere").len(), 1);
    }

    #[test]
    fn a_missing_table_is_found() {
        let tree = Tree::new(vec![(ARCHITECTURE.into(), "# A\n".into())]);
        assert_eq!(check(&tree).len(), 1);
    }

    #[test]
    fn links_between_documents_lead_somewhere() {
        let tree = |text: &str| {
            Tree::new(vec![
                ("docs/a.md".into(), text.into()),
                ("README.md".into(), String::new()),
                ("docs/b.md".into(), String::new()),
            ])
        };
        assert!(
            check(&tree("[b](b.md#x) [r](../README.md) [w](https://a.b/c) [h](#h)")).is_empty()
        );
        assert_eq!(check(&tree("[b](c.md)")).len(), 1);
    }
}
