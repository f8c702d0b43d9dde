//! Maps that mislead are worse than none: what the documents point at must exist.

use super::{Finding, Source, Tree};

const MAP: &str = "two-hops";
const MODULE_MAP: &str = "module-map";
const LINK: &str = "dead-link";
const ARCHITECTURE: &str = "docs/architecture.md";
const TWO_HOPS: &str = "## Two hops";
const MODULES: &str = "## Modules";

/// Rows of the two-hop table, modules of the module map, and links between documents that point at
/// nothing; modules that the map leaves out.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let documents = tree.all().filter(|source| source.path.ends_with(".md"));
    documents
        .flat_map(|source| {
            let maps = match &*source.path {
                ARCHITECTURE => {
                    [check_two_hops(tree, source), check_modules(tree, source)].concat()
                }
                _ => Vec::new(),
            };
            maps.into_iter().chain(check_links(tree, source))
        })
        .collect()
}

/// The rows of the table below a heading: line number, what stands before the last cell, and that.
fn rows<'a>(source: &'a Source, heading: &str) -> Vec<(usize, &'a str, &'a str)> {
    let below = source.lines().skip_while(|(_, line)| !line.starts_with(heading)).skip(1);
    let section = below.take_while(|(_, line)| !line.starts_with("## "));
    let rows = section.filter(|(_, line)| line.starts_with('|')).skip(2);
    let cells = rows.filter_map(|(number, row)| {
        let (before, last) = row.trim_end().trim_end_matches('|').rsplit_once('|')?;
        Some((number, before, last))
    });
    cells.collect()
}

fn check_two_hops(tree: &Tree, source: &Source) -> Vec<Finding> {
    let rows = rows(source, TWO_HOPS);
    if rows.is_empty() {
        let sentence = format!("has no table under `{TWO_HOPS}`");
        return vec![Finding::error(MAP, source, 1, sentence)];
    }
    rows.into_iter().flat_map(|(number, _, files)| check_row(tree, source, number, files)).collect()
}

fn check_row(tree: &Tree, source: &Source, number: usize, files: &str) -> Vec<Finding> {
    let paths: Vec<&str> = code_spans(files).collect();
    if paths.is_empty() {
        return vec![Finding::error(MAP, source, number, "this row names no file".into())];
    }
    let missing = paths.into_iter().filter(|path| !tree.has(path));
    let finding = |path| Finding::error(MAP, source, number, format!("`{path}` is not there"));
    missing.map(finding).collect()
}

fn check_modules(tree: &Tree, source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, role, modules) in rows(source, MODULES) {
        let Some(role) = code_spans(role).next() else { continue };
        let folder = format!("crates/{role}/src/");
        let named: Vec<&str> = code_spans(modules).collect();
        for module in named.iter().filter(|module| !tree.has(&format!("{folder}{module}.rs"))) {
            let sentence = format!("`{role}` has no module `{module}`");
            findings.push(Finding::error(MODULE_MAP, source, number, sentence));
        }
        let files = tree.rust().filter_map(|file| file.path.strip_prefix(&folder));
        let modules = files.filter_map(|file| file.strip_suffix(".rs"));
        let left_out = modules.filter(|module| {
            !module.contains('/')
                && !matches!(*module, "lib" | "main" | "tests")
                && !named.contains(module)
        });
        for module in left_out {
            let sentence = format!("the map of `{role}` leaves out `{module}`");
            findings.push(Finding::warning(MODULE_MAP, source, number, sentence));
        }
    }
    findings
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
    fn the_module_map_and_the_modules_agree() {
        let text = "## Modules\n| crate | modules |\n|---|---|\n| `a` | `b` `gone` |\n\
                    ## Two hops\n|a|b|\n|-|-|\n| c | `crates/a/src/b.rs` |\n";
        let paths = ["lib", "b", "b/deep", "new"].map(|stem| format!("crates/a/src/{stem}.rs"));
        let mut files: Vec<_> = paths.map(|path| (path, String::new())).into();
        files.push((ARCHITECTURE.into(), text.into()));
        let found: Vec<String> = check(&Tree::new(files)).iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "docs/architecture.md:4: error: module-map: `a` has no module `gone`",
                "docs/architecture.md:4: warning: module-map: the map of `a` leaves out `new`",
            ]
        );
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
