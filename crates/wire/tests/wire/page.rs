//! `docs/protocol.md` names every message, its number, its fields and its variants.

use crate::source;

fn page() -> String {
    std::fs::read_to_string(source::crate_root().join("../../docs/protocol.md")).unwrap()
}

/// What stands below a message's heading, up to the next one.
fn section(page: &str, number: u16, message: &str) -> String {
    let heading = format!("\n### {number} `{message}`\n");
    let start = page
        .find(&heading)
        .unwrap_or_else(|| panic!("docs/protocol.md has no heading `{}`", heading.trim()));
    let body = &page[start + heading.len()..];
    body.split("\n## ").next().unwrap().split("\n### ").next().unwrap().to_owned()
}

#[test]
fn every_message_is_described_with_its_fields() {
    let page = page();
    let mut missing = Vec::new();
    for (number, message) in source::kinds() {
        let text = section(&page, number, &message);
        let row = format!("| {number} | `{message}` | ");
        if !page.contains(&row) {
            missing.push(format!("{message} has no row `{row}`"));
        }
        let parts = source::parts_of(&message);
        let absent = parts.iter().filter(|part| !text.contains(&format!("`{part}`")));
        missing.extend(absent.map(|part| format!("{message} does not say what `{part}` is")));
    }
    assert!(missing.is_empty(), "docs/protocol.md:\n{}", missing.join("\n"));
}

#[test]
fn every_verb_and_event_is_described() {
    let page = page();
    for (name, number, message) in [("Ask", 200, "Request"), ("Event", 205, "Happening")] {
        let text = section(&page, number, message);
        for part in source::parts_of(name) {
            assert!(text.contains(&format!("`{part}`")), "{message} does not describe `{part}`");
        }
    }
}

#[test]
fn no_message_is_described_that_does_not_exist() {
    let kinds = source::kinds();
    for line in page().lines().filter_map(|line| line.strip_prefix("### ")) {
        let known = kinds.iter().any(|(number, name)| line == format!("{number} `{name}`"));
        assert!(known, "docs/protocol.md describes `{line}`");
    }
}

#[test]
fn every_error_code_is_listed_with_its_number() {
    let page = page();
    for (number, code) in source::parts_of("ErrorCode").iter().enumerate() {
        let row = format!("| {number} | `{code}` | ");
        assert!(page.contains(&row), "docs/protocol.md has no row `{row}`");
    }
}
