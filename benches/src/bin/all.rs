//! Runs every scenario and prints one table; a scenario that fails is named and the rest goes on.
//! Options are handed on to each.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use sortie_benches::report::{HEADING, line};
use sortie_benches::{Outcome, Row};

/// The programs, in the order of their rows.
const SCENARIOS: [&str; 17] = [
    "process_jobs",
    "in_process_children",
    "task_latency",
    "process_latency",
    "output_throughput",
    "small_records",
    "stop_cascade",
    "child_memory",
    "idle_memory",
    "links",
    "command_line",
    "growth",
    "restarts",
    "live_values",
    "journal",
    "history",
    "long_life",
];

fn main() -> ExitCode {
    let options: Vec<String> = std::env::args().skip(1).collect();
    let json = options.iter().any(|option| option == "--json");
    if !json {
        println!("{HEADING}");
    }
    let (mut failed, mut missed) = (Vec::new(), 0);
    for scenario in SCENARIOS {
        match rows_of(scenario, &options) {
            Ok(rows) => {
                missed += rows.iter().filter(|(row, _)| row.holds() == Some(false)).count();
                for (row, text) in rows {
                    println!("{}", if json { text } else { line(&row) });
                }
            }
            Err(error) => {
                eprintln!("{scenario}: {error}");
                failed.push(scenario);
            }
        }
    }
    if !failed.is_empty() {
        eprintln!("without figures: {}", failed.join(", "));
        return ExitCode::FAILURE;
    }
    if missed > 0 {
        eprintln!("{missed} row(s) below what is asked");
    }
    ExitCode::SUCCESS
}

/// The rows of a scenario, each with its JSON.
fn rows_of(scenario: &str, options: &[String]) -> Outcome<Vec<(Row, String)>> {
    let path = std::env::current_exe()?.with_file_name(scenario);
    let rows = executed(&path, options)?;
    let parsed = rows.lines().map(|text| Ok((serde_json::from_str(text)?, text.to_owned())));
    parsed.collect()
}

fn executed(program: &Path, options: &[String]) -> Outcome<String> {
    let others = options.iter().filter(|option| *option != "--json");
    let output = Command::new(program)
        .args(others)
        .arg("--json")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(output.status.to_string().into());
    }
    Ok(String::from_utf8(output.stdout)?)
}
