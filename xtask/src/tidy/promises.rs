//! What the documentation of public calls has to say.

use super::{Finding, Source, Tree};

const CANCEL_SAFETY: &str = "cancel-safety";
/// The crate whose calls are public, and what it hands to its users from below.
const PUBLIC: [&str; 3] =
    ["crates/sortie/src/", "crates/exec/src/task.rs", "crates/exec/src/task/"];
const SECTION: &str = "/// # Cancel safety";

/// Public async functions that do not say what dropping their future does.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let public = |source: &&Source| PUBLIC.iter().any(|path| source.path.starts_with(path));
    tree.rust().filter(public).flat_map(check_source).collect()
}

fn check_source(source: &Source) -> Vec<Finding> {
    let silent = source.lines().filter(|(number, line)| {
        line.trim_start().starts_with("pub async fn ")
            && !source.is_test(*number)
            && !says_it(source, *number)
    });
    let finding = |(number, line): (usize, &str)| {
        let name = line.trim_start().trim_start_matches("pub async fn ");
        let end = name.find(['(', '<']).unwrap_or(name.len());
        let name = name.get(..end).unwrap_or(name);
        let sentence = format!("`{name}` does not say what dropping it does: `{SECTION}`");
        Finding::error(CANCEL_SAFETY, source, number, sentence)
    };
    silent.map(finding).collect()
}

/// Whether the documentation above the line has the section, and a sentence in it.
fn says_it(source: &Source, line: usize) -> bool {
    let above = source.lines_up_from(line).skip(1).map(str::trim_start);
    let above = above.take_while(|text| text.starts_with("///") || text.starts_with("#["));
    let mut below = "";
    for text in above {
        if text == SECTION {
            let sentence = below.strip_prefix("///").unwrap_or_default();
            return !sentence.trim().is_empty();
        }
        below = text;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_text(path: &str, text: &str, lines: &[usize]) {
        let tree = Tree::new(vec![(path.to_owned(), text.to_owned())]);
        let found: Vec<_> = check(&tree).into_iter().map(|finding| finding.line).collect();
        assert_eq!(found, lines, "{text}");
    }

    #[test]
    fn a_public_async_function_says_what_dropping_it_does() {
        let path = "crates/sortie/src/node.rs";
        check_text(path, "/// Does.\npub async fn f() {}\n", &[2]);
        check_text(path, "/// Does.\n///\n/// # Cancel safety\n/// Yes.\npub async fn f() {}", &[]);
        check_text(path, "/// # Cancel safety\n#[must_use]\npub async fn f() {}", &[3]);
        check_text(path, "/// # Cancel safety\n/// Yes.\nfn g() {}\npub async fn f() {}", &[4]);
        check_text(path, "async fn f() {}\npub fn g() {}\npub(crate) async fn h() {}", &[]);
        check_text("crates/link/src/link.rs", "pub async fn f() {}\n", &[]);
    }
}
