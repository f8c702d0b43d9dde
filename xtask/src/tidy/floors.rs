//! Crates depend on lower floors only; siblings do not know each other (`docs/architecture.md`).

use toml::{Table, Value};

use super::{Finding, Source, Tree};

const RULE: &str = "floors";

/// What a package of ours may depend on, of ours.
enum Allowed {
    /// Every crate on a lower floor.
    Below,
    /// These only.
    Only(&'static [&'static str]),
}

/// A package, its floor, and what it may know.
const HOUSE: [(&str, u8, Allowed); 18] = [
    ("sortie-model", 0, Allowed::Below),
    ("sortie-macros", 0, Allowed::Below),
    ("sortie-wire", 1, Allowed::Below),
    ("sortie-engine", 2, Allowed::Below),
    ("sortie-link", 2, Allowed::Below),
    ("sortie-store", 2, Allowed::Below),
    ("sortie-exec", 2, Allowed::Only(EXEC)),
    ("sortie-actors", 3, Allowed::Below),
    ("sortie-guardian", 3, Allowed::Only(GUARDIAN)),
    ("sortie-testkit", 3, Allowed::Only(TESTKIT)),
    ("sortie", 4, Allowed::Below),
    ("sortie-cli", 5, Allowed::Only(&["sortie", "sortie-model"])),
    ("sortie-ractor", 5, Allowed::Only(&["sortie"])),
    ("sortie-examples", 6, Allowed::Only(PUBLIC)),
    ("sortie-tests", 6, Allowed::Only(PUBLIC)),
    ("sortie-chaos", 6, Allowed::Only(&[])),
    ("sortie-benches", 6, Allowed::Only(BENCHES)),
    ("xtask", 6, Allowed::Only(&[])),
];

/// What a guardian wrote of kept children is read with the store's reader.
const EXEC: &[&str] = &["sortie-model", "sortie-wire", "sortie-store"];

/// The guardian is small: it spawns and stores, and knows no decisions.
const GUARDIAN: &[&str] = &["sortie-model", "sortie-wire", "sortie-exec", "sortie-store"];

/// The testkit is the one crate that knows a neighbour: a simulated cluster runs the real actors.
const TESTKIT: &[&str] = &[
    "sortie-model",
    "sortie-wire",
    "sortie-engine",
    "sortie-link",
    "sortie-exec",
    "sortie-actors",
];

/// The crates that users see.
const PUBLIC: &[&str] = &["sortie", "sortie-model", "sortie-macros", "sortie-cli", "sortie-ractor"];

/// What is measured from outside, and the store, which nothing outside shows yet.
const BENCHES: &[&str] = &["sortie", "sortie-model", "sortie-store"];

/// Dependencies that go up, sideways, or past what the package may see; packages without a floor.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let manifests = tree.all().filter(|source| source.path.ends_with("/Cargo.toml"));
    manifests.flat_map(check_manifest).collect()
}

fn check_manifest(source: &Source) -> Vec<Finding> {
    let Ok(manifest) = source.text.parse::<Table>() else {
        return vec![Finding::error(RULE, source, 1, "is no TOML".into())];
    };
    let name =
        manifest.get("package").and_then(|package| package.get("name")).and_then(Value::as_str);
    let Some(name) = name else {
        return vec![Finding::error(RULE, source, 1, "names no package".into())];
    };
    let Some(place) = HOUSE.iter().find(|place| place.0 == name) else {
        let sentence =
            format!("`{name}` has no floor: give it one in docs/architecture.md and xtask");
        return vec![Finding::error(RULE, source, 1, sentence)];
    };
    let mut findings: Vec<Finding> = dependencies(&manifest)
        .filter_map(|dependency| objection(place, &dependency).map(|why| (dependency, why)))
        .map(|(dependency, why)| Finding::error(RULE, source, line_of(source, &dependency), why))
        .collect();
    let lints_on = manifest.get("lints").is_some();
    if !lints_on {
        findings.push(Finding::error(RULE, source, 1, "says no `[lints] workspace = true`".into()));
    }
    findings
}

/// Why the package may not depend on that one; none when it may, or when that one is not ours.
fn objection((name, floor, allowed): &(&str, u8, Allowed), dependency: &str) -> Option<String> {
    if !is_ours(dependency) {
        return None;
    }
    let Some((_, below, _)) = HOUSE.iter().find(|place| place.0 == dependency) else {
        return Some(format!("`{dependency}` has no floor"));
    };
    match allowed {
        Allowed::Only(few) if few.contains(&dependency) => None,
        Allowed::Only(few) => {
            let few = if few.is_empty() { "nothing of ours".to_owned() } else { few.join(", ") };
            Some(format!("`{name}` may know {few}; not `{dependency}`"))
        }
        _ if below >= floor => Some(format!(
            "`{dependency}` does not lie below `{name}`: a crate knows lower floors only"
        )),
        _ => None,
    }
}

fn is_ours(dependency: &str) -> bool {
    dependency == "sortie" || dependency.starts_with("sortie-") || dependency == "xtask"
}

/// The packages that a manifest depends on in any way, renamed ones by their real name.
pub(crate) fn dependencies(manifest: &Table) -> impl Iterator<Item = String> {
    named_in(manifest, &["dependencies", "dev-dependencies", "build-dependencies"])
}

/// The packages that are part of what is built, without those that only its tests use.
pub(crate) fn built_dependencies(manifest: &Table) -> impl Iterator<Item = String> {
    named_in(manifest, &["dependencies", "build-dependencies"])
}

fn named_in<'a>(
    manifest: &'a Table,
    sections: &'static [&'static str],
) -> impl Iterator<Item = String> + use<'a> {
    let platforms = manifest.get("target").and_then(Value::as_table);
    let platforms = platforms.into_iter().flat_map(|platforms| platforms.values());
    let tables = std::iter::once(manifest).chain(platforms.filter_map(Value::as_table));
    let sections = tables.flat_map(|table| {
        sections.iter().filter_map(|section| table.get(*section).and_then(Value::as_table))
    });
    sections
        .flatten()
        .map(|(key, value)| value.get("package").and_then(Value::as_str).unwrap_or(key).to_owned())
}

/// The first line that names the dependency as a whole word; the first line when none does.
pub(crate) fn line_of(source: &Source, dependency: &str) -> usize {
    let names = |line: &str| {
        let key = line.split(['.', '=', ' ']).next().unwrap_or_default();
        key == dependency || line.contains(&format!("\"{dependency}\""))
    };
    source.lines().filter(|(_, line)| names(line)).last().map_or(1, |(number, _)| number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_one(name: &str, rest: &str) -> Vec<String> {
        let text = format!("[package]\nname = \"{name}\"\n[lints]\nworkspace = true\n{rest}");
        let tree = Tree::new(vec![("crates/a/Cargo.toml".into(), text)]);
        check(&tree).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_crate_may_know_lower_floors_and_strangers() {
        assert!(
            check_one("sortie-actors", "[dependencies]\nsortie-engine = \"1\"\ntokio = \"1\"")
                .is_empty()
        );
        assert!(check_one("sortie", "[dependencies]\nsortie-guardian.workspace = true").is_empty());
        assert!(check_one("sortie-guardian", "[dependencies]\nsortie-store = \"1\"").is_empty());
        assert!(check_one("sortie-testkit", "[dependencies]\nsortie-actors = \"1\"").is_empty());
    }

    #[test]
    fn siblings_do_not_know_each_other_and_nothing_looks_up() {
        for (name, other) in [
            ("sortie-engine", "sortie-link"),
            ("sortie-actors", "sortie-guardian"),
            ("sortie-model", "sortie-wire"),
            ("sortie-testkit", "sortie"),
            ("sortie-guardian", "sortie-engine"),
            ("sortie-cli", "sortie-actors"),
            ("sortie-tests", "sortie-wire"),
        ] {
            let found = check_one(name, &format!("[dependencies]\n{other} = \"1\""));
            assert_eq!(found.len(), 1, "{name} knows {other}: {found:?}");
            assert!(
                found.iter().all(|found| found.contains("Cargo.toml:6: error: floors")),
                "{found:?}"
            );
        }
    }

    #[test]
    fn no_kind_of_dependency_escapes() {
        for section in ["dev-dependencies", "build-dependencies", "target.'cfg(unix)'.dependencies"]
        {
            let found = check_one("sortie-engine", &format!("[{section}]\nsortie-link = \"1\""));
            assert_eq!(found.len(), 1, "{section}");
        }
        let renamed = "[dependencies]\nquiet = { package = \"sortie-link\", version = \"1\" }";
        assert_eq!(check_one("sortie-engine", renamed).len(), 1);
    }

    #[test]
    fn a_new_package_needs_a_floor_and_lints() {
        assert_eq!(check_one("sortie-shed", "").len(), 1);
        let bare = "[package]\nname = \"sortie-model\"".to_owned();
        assert_eq!(check(&Tree::new(vec![("crates/model/Cargo.toml".into(), bare)])).len(), 1);
    }
}
