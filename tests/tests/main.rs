//! The end-to-end tests, with real nodes: one program, since each more is linked anew with all that
//! Sortie has, and since those of one file then run beside those of the others.

use std::fs;
use std::path::Path;

mod above;
mod actors;
mod archived;
mod ask;
mod background;
mod bad_input;
mod blocking;
mod checkpoints;
mod damaged_home;
mod detached;
mod dropped;
mod dropped_clients;
mod elsewhere;
mod embedding;
mod enter;
mod failing_disk;
mod fan_out;
mod functions;
mod guardian_death;
mod input;
mod inputs_survive;
mod live;
mod messages;
mod nested;
mod nobody_waits;
mod outlive;
mod outlive_quota;
mod outlive_told;
mod questions;
mod receive;
mod reconnect;
mod scope;
mod send_process;
mod session_words;
mod sessions;
mod simulated;
mod stop;
mod supervision;
mod surroundings;
mod suspend;
mod suspend_simulated;
mod tasks;
mod together;
mod tour;
mod tree;
mod tree_background;
mod typed;
mod upgrade;
mod verbs;

#[test]
fn every_file_of_tests_is_a_part_of_this_program() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let entries = fs::read_dir(folder).expect("this folder");
    let names = entries.map(|entry| entry.expect("a file").file_name());
    let names = names.filter_map(|name| Some(name.to_str()?.strip_suffix(".rs")?.to_owned()));
    let missing = |name: &String| !include_str!("main.rs").contains(&format!("\nmod {name};"));
    let missing: Vec<String> = names.filter(|name| name != "main").filter(missing).collect();
    assert!(missing.is_empty(), "nobody runs them: {missing:?}");
}
