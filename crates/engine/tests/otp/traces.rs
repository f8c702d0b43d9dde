//! The recorded traces, what our machine does, and what Erlang does now.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::perform::perform;
use crate::scenario::{Scenario, scenarios};

/// Ends the head of the file.
const HEAD_END: &str = "---\n";

fn here(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/otp").join(file)
}

/// The recorded file: its head, and the scenarios with what OTP did.
fn recorded() -> (String, String) {
    let text = std::fs::read_to_string(here("traces.txt")).expect("the recorded traces");
    let (head, traces) = text.split_once(HEAD_END).expect("a head");
    (head.to_owned(), traces.to_owned())
}

/// What our machine does in the scenarios.
fn ours() -> String {
    let show = |(number, scenario): (usize, &Scenario)| {
        let outcomes = perform(scenario);
        let steps = scenario.steps.iter().zip(outcomes).map(|(step, outcome)| {
            let line = format!("  {step} -> {}", outcome.join(", "));
            format!("{}\n", line.trim_end())
        });
        format!("{}\n{}", scenario.header(number), steps.collect::<String>())
    };
    scenarios().iter().enumerate().map(show).collect()
}

/// What OTP does in the scenarios; none where Erlang is not installed.
fn otps() -> Option<String> {
    let show = |(number, scenario): (usize, &Scenario)| {
        let steps: String = scenario.steps.iter().map(|step| format!("{step}\n")).collect();
        format!("{}\n{steps}", scenario.header(number))
    };
    let scripts: String = scenarios().iter().enumerate().map(show).collect();
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("scenarios.txt");
    std::fs::write(&file, scripts).expect("a file for the scenarios");
    match Command::new("escript").arg(here("supervise.escript")).arg(&file).output() {
        Ok(output) => {
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{errors}{}", String::from_utf8_lossy(&output.stdout));
            Some(String::from_utf8(output.stdout).expect("text"))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => panic!("escript does not run: {error}"),
    }
}

/// Compares scenario by scenario, so that a difference shows with what led to it.
#[track_caller]
fn check(theirs: &str, expected: &str) {
    let split = |text: &str| text.split("scenario ").map(str::to_owned).collect::<Vec<_>>();
    let (theirs, expected) = (split(theirs), split(expected));
    for (theirs, expected) in theirs.iter().zip(&expected) {
        assert!(theirs == expected, "scenario {theirs}\nbut expected is\n\n{expected}");
    }
    assert_eq!(theirs.len(), expected.len(), "scenarios");
}

#[test]
fn every_scenario_goes_as_otp_was_recorded() {
    check(&ours(), &recorded().1);
}

#[test]
fn otp_does_what_is_recorded() {
    match otps() {
        Some(traces) => check(&traces, &recorded().1),
        None => println!("skipped: Erlang's `escript` is not installed"),
    }
}

#[test]
fn there_are_hundreds_of_scenarios() {
    assert!(scenarios().len() >= 200);
}

/// After a change of the scenarios:
/// `cargo test -p sortie-engine --test otp -- --ignored record`.
#[test]
#[ignore = "writes traces.txt anew; needs Erlang"]
fn record() {
    let traces = otps().expect("Erlang's `escript`");
    let head = recorded().0;
    std::fs::write(here("traces.txt"), format!("{head}{HEAD_END}{traces}")).expect("traces.txt");
}
