//! The system's table of processes, read from `/proc`.

use std::collections::HashMap;
use std::fs;

use rustix::process::Pid;

/// One process, as it was when the table was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its id.
    pub pid: Pid,
    /// Its parent's id.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// Its session.
    pub session: i32,
    /// When it started, in clock ticks since the boot: with the id, it names one process.
    pub start: u64,
    /// Whether it runs or has ended.
    pub life: Life,
}

/// Whether a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It does.
    Alive,
    /// It has ended and waits to be collected.
    Ended,
}

/// The entry of one process.
pub fn entry(pid: Pid) -> Option<Entry> {
    let text = fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // The name, in parentheses, may hold anything: the fields begin behind the last one.
    let end = text.iter().rposition(|byte| *byte == b')')?;
    let fields = std::str::from_utf8(text.get(end + 1..)?).ok()?;
    let mut fields = fields.split_ascii_whitespace();
    let life = match fields.next()? {
        "Z" | "X" | "x" => Life::Ended,
        _ => Life::Alive,
    };
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    let session = fields.next()?.parse().ok()?;
    // Field 22 of the file; the session is field 6.
    let start = fields.nth(15)?.parse().ok()?;
    Some(Entry { pid, parent, group, session, start, life })
}

/// Every process below `root` in the tree of parents, in no order. Reads the whole table: a
/// fraction of a millisecond for each hundred processes of the machine.
pub fn descendants(root: Pid) -> Vec<Entry> {
    let mut by_parent: HashMap<i32, Vec<Entry>> = HashMap::new();
    let Ok(directory) = fs::read_dir("/proc") else { return Vec::new() };
    for name in directory.flatten().map(|process| process.file_name()) {
        let pid = name.to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        if let Some(entry) = pid.and_then(entry) {
            by_parent.entry(entry.parent).or_default().push(entry);
        }
    }
    let mut found = by_parent.remove(&root.as_raw_nonzero().get()).unwrap_or_default();
    let mut next = 0;
    while let Some(entry) = found.get(next) {
        let children = by_parent.remove(&entry.pid.as_raw_nonzero().get()).unwrap_or_default();
        found.extend(children);
        next += 1;
    }
    found
}

/// Our own children, ended ones that were not collected included. Cheap: the kernel keeps the list
/// of this single thread.
///
/// None when the kernel was built without the list.
pub fn own_children() -> Option<Vec<Pid>> {
    let text = fs::read_to_string("/proc/thread-self/children").ok()?;
    Some(text.split_ascii_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect())
}

/// The value of a variable in the environment with which a process's program began.
pub fn variable(pid: Pid, name: &str) -> Option<Vec<u8>> {
    let environment = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())).ok()?;
    environment
        .split(|byte| *byte == 0)
        .find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
        .map(<[u8]>::to_vec)
}

/// How many processes the kernel has ended for want of memory since the boot.
pub fn memory_kills() -> Option<u64> {
    let text = fs::read_to_string("/proc/vmstat").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_finds_itself_and_its_children() {
        let own = entry(rustix::process::getpid()).expect("our own entry");
        assert_eq!(own.life, Life::Alive);
        let mut child =
            std::process::Command::new("sleep").arg("60").spawn().expect("a child of ours");
        let pid = Pid::from_raw(child.id() as i32).expect("a process id");
        let below = descendants(rustix::process::getpid());
        assert!(
            below
                .iter()
                .any(|entry| entry.pid == pid && entry.parent == own.pid.as_raw_nonzero().get())
        );
        child.kill().expect("to be killed");
        child.wait().expect("to be collected");
        assert_eq!(entry(pid), None);
    }
}
