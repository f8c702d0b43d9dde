//! Every bound has a sentence that says what it bounds, and something that enforces it.

use std::collections::BTreeMap;

use super::{Finding, Source, Tree};

const DOCUMENTED: &str = "bound-documented";
const USED: &str = "bound-used";
const LIMITS: &str = "crates/model/src/limits.rs";

/// Bounds without a doc comment (errors) and bounds that nothing uses (warnings).
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let Some(limits) = tree.get(LIMITS) else { return Vec::new() };
    let bounds = constants(limits);
    let mut uses: BTreeMap<&str, usize> =
        bounds.iter().map(|(name, _)| (name.as_str(), 0)).collect();
    for source in tree.rust() {
        for token in source.tokens().iter().filter(|token| !source.is_test(token.line)) {
            if let Some(count) = uses.get_mut(token.text) {
                *count += 1;
            }
        }
    }
    let mut findings = Vec::new();
    for (name, line) in &bounds {
        if !is_documented(limits, *line) {
            let sentence = format!("`{name}` does not say what it bounds");
            findings.push(Finding::error(DOCUMENTED, limits, *line, sentence));
        }
        // The definition itself is the one use that counts for nothing.
        if uses.get(name.as_str()).is_some_and(|uses| *uses < 2) {
            let sentence = format!("nothing enforces `{name}`");
            findings.push(Finding::warning(USED, limits, *line, sentence));
        }
    }
    findings
}

fn constants(limits: &Source) -> Vec<(String, usize)> {
    let tokens = limits.tokens();
    let declared = tokens.windows(3).filter_map(|window| match window {
        [public, word, name] if public.text == "pub" && word.text == "const" => Some(name),
        _ => None,
    });
    declared
        .filter(|name| !limits.is_test(name.line) && name.text != "fn")
        .map(|name| (name.text.to_owned(), name.line))
        .collect()
}

fn is_documented(limits: &Source, line: usize) -> bool {
    limits.lines_up_from(line - 1).next().is_some_and(|above| above.trim_start().starts_with("///"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_with(limits: &str, other: &str) -> Vec<String> {
        let tree = Tree::new(vec![
            (LIMITS.into(), limits.into()),
            ("crates/link/src/a.rs".into(), other.into()),
        ]);
        check(&tree).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_documented_and_enforced_bound_is_fine() {
        assert!(check_with("/// Frames.\npub const A: usize = 4;", "take(limits::A)").is_empty());
        assert!(
            check_with("/// a.\npub const A: u8 = 1;\n/// b.\npub const B: u8 = A;", "B")
                .is_empty()
        );
    }

    #[test]
    fn a_bound_that_is_only_talked_about_is_unused() {
        let found = check_with("/// Frames.\npub const A: usize = 4;", "// A\n\"A\"");
        assert_eq!(
            found,
            ["crates/model/src/limits.rs:2: warning: bound-used: nothing enforces `A`"]
        );
    }

    #[test]
    fn a_bound_says_what_it_bounds() {
        assert_eq!(check_with("pub const A: usize = 4;", "A").len(), 1);
        assert_eq!(check_with("// Frames.\npub const A: usize = 4;", "A").len(), 1);
    }
}
