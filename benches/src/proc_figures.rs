//! What the kernel says of a process.

use std::time::Duration;

use crate::program::Outcome;

/// The memory of a process that lies in RAM, in bytes.
///
/// # Errors
/// When there is no such process.
pub fn resident_bytes(pid: u32) -> Outcome<f64> {
    kibibytes(&format!("/proc/{pid}/status"), "VmRSS:")
}

/// The same without the pages that it shares with others, those counted by share.
///
/// # Errors
/// When there is no such process.
pub fn proportional_bytes(pid: u32) -> Outcome<f64> {
    kibibytes(&format!("/proc/{pid}/smaps_rollup"), "Pss:")
}

fn kibibytes(path: &str, key: &str) -> Outcome<f64> {
    let text = std::fs::read_to_string(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    let number = number.ok_or_else(|| format!("{path} has no {key}"))?;
    Ok(number.parse::<f64>()? * 1024.0)
}

/// The processor time that the threads of a process have used.
///
/// # Errors
/// When there is no such process.
pub fn cpu_time(pid: u32) -> Outcome<Duration> {
    let mut nanoseconds = 0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end meanwhile; it then counts nothing.
        let Ok(text) = std::fs::read_to_string(thread?.path().join("schedstat")) else { continue };
        let first = text.split_whitespace().next().unwrap_or("0");
        nanoseconds += first.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// The children of a process, such as the guardian of a node.
///
/// # Errors
/// When there is no such process.
pub fn children(pid: u32) -> Outcome<Vec<u32>> {
    let mut children = Vec::new();
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = std::fs::read_to_string(thread?.path().join("children")).unwrap_or_default();
        children.extend(text.split_whitespace().filter_map(|word| word.parse::<u32>().ok()));
    }
    Ok(children)
}
