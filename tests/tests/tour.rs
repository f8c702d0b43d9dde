//! `docs/tour.md`, as it is typed: each block in one shell, and what stands below it printed.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use sortie_tests::sortie_binary;

/// What stands between the outputs of two blocks.
const MARK: &str = "--- end of a block ---";

/// The blocks of a page, in order: what is typed, and what it prints.
fn blocks(page: &str) -> Vec<(String, String)> {
    let mut blocks: Vec<(String, String)> = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let is_typed = match line {
            "```sh" => true,
            "```text" => false,
            _ => continue,
        };
        let block: String = lines
            .by_ref()
            .take_while(|line| *line != "```")
            .map(|line| format!("{line}\n"))
            .collect();
        match blocks.last_mut() {
            Some((_, printed)) if !is_typed => *printed = block,
            _ => blocks.push((block, String::new())),
        }
    }
    blocks
}

#[test]
fn every_block_prints_what_stands_below_it() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/tour.md");
    let blocks = blocks(&fs::read_to_string(page).expect("the page"));
    assert!(blocks.len() > 5, "{blocks:?}");
    let script: String =
        blocks.iter().map(|(typed, _)| format!("{typed}echo '{MARK}'\n")).collect();
    let here = tempfile::tempdir().expect("a directory");
    let binary = sortie_binary();
    let directory = binary.parent().expect("a directory").to_str().expect("UTF-8");
    let path = format!("{directory}:{}", std::env::var("PATH").expect("a PATH"));
    let mut command = Command::new("bash");
    command.arg("-c").arg(&script).current_dir(here.path()).env("PATH", path).env("NO_COLOR", "1");
    let output = command.stdin(Stdio::null()).output().expect("bash");
    let said = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    let printed: Vec<&str> = said.split(&format!("{MARK}\n")).collect();
    for ((typed, expected), printed) in blocks.iter().zip(&printed) {
        assert_eq!(printed, expected, "of\n{typed}\n{complaints}");
    }
    assert_eq!(printed.len(), blocks.len() + 1, "{said}\n{complaints}");
}
