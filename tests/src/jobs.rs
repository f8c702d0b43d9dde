//! Jobs of a home's own session, as tests start them and look at them.

use serde_json::Value;

use crate::{Home, Ran};

/// The entry of a job or a child; null when there is none.
///
/// # Panics
/// When `get` fails.
pub fn entry(home: &Home, id: &str) -> Value {
    home.json(&["get", id]).pointer("/jobs/0").cloned().unwrap_or_default()
}

/// The state of a job or a child.
///
/// # Panics
/// When it is not there.
pub fn state(home: &Home, id: &str) -> String {
    entry(home, id).get("state").and_then(Value::as_str).expect("a state").to_owned()
}

/// Starts a job.
///
/// # Panics
/// When it is refused.
pub fn start(home: &Home, arguments: &[&str]) -> Ran {
    let ran = home.sortie(&[&["start"][..], arguments].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    ran
}

/// What `seq` prints.
pub fn numbers(most: u32) -> String {
    (1..=most).map(|number| format!("{number}\n")).collect()
}
