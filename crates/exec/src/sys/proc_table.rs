//! The system's table of processes, read from `/proc`.

use std::collections::HashMap;
use std::fs;
use std::str::SplitAsciiWhitespace;
use std::time::{Duration, Instant};

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
    /// It waits in the kernel and heeds signals only behind that, as who has called `vfork` does
    /// until the other one executes a program.
    Uninterruptible,
    /// It was stopped, as by `SIGSTOP`, and can go on.
    Stopped,
    /// It has ended and waits to be collected.
    Ended,
}

/// How long a process may take to load its program until it counts as one without environment.
const EXECUTION_BOUND: Duration = Duration::from_millis(100);
/// The pause between two looks at a process that is loading its program.
const EXECUTION_PAUSE: Duration = Duration::from_micros(100);

fn read_stat(pid: Pid) -> Option<Vec<u8>> {
    fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()
}

/// The fields of a process's line from the third on.
fn fields_of(stat: &[u8]) -> Option<SplitAsciiWhitespace<'_>> {
    // The name, in parentheses, may hold anything: the fields begin behind the last one.
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    Some(std::str::from_utf8(stat.get(end + 1..)?).ok()?.split_ascii_whitespace())
}

fn life_of(state: &str) -> Life {
    match state {
        "Z" | "X" | "x" => Life::Ended,
        "D" => Life::Uninterruptible,
        "T" | "t" => Life::Stopped,
        _ => Life::Alive,
    }
}

/// The entry of one process.
pub fn entry(pid: Pid) -> Option<Entry> {
    let text = read_stat(pid)?;
    let mut fields = fields_of(&text)?;
    let life = life_of(fields.next()?);
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    let session = fields.next()?.parse().ok()?;
    // Field 22 of the file; the session is field 6.
    let start = fields.nth(15)?.parse().ok()?;
    Some(Entry { pid, parent, group, session, start, life })
}

/// Every process that we can see, in no order.
pub fn all() -> impl Iterator<Item = Entry> {
    let names = fs::read_dir("/proc").into_iter().flatten().flatten();
    names.filter_map(|process| entry(Pid::from_raw(process.file_name().to_str()?.parse().ok()?)?))
}

/// The boot that this machine runs since: process ids and start times mean something within one.
pub fn boot() -> Option<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned())
}

/// Every process below `root` in the tree of parents, in no order. Reads the whole table: a
/// fraction of a millisecond for each hundred processes of the machine.
pub fn descendants(root: Pid) -> Vec<Entry> {
    let mut by_parent: HashMap<i32, Vec<Entry>> = HashMap::new();
    for entry in all() {
        by_parent.entry(entry.parent).or_default().push(entry);
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

/// The value of a variable in the environment with which a process's program began. A process that
/// is just being given another program has none for a moment, and what is read of the one before
/// breaks off: it is asked again, for at most a tenth of a second.
pub fn variable(pid: Pid, name: &str) -> Option<Vec<u8>> {
    let deadline = Instant::now() + EXECUTION_BOUND;
    loop {
        let environment = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())).ok()?;
        if Some(environment.len()) == environment_length(pid)? {
            return value_of(name, &environment);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(EXECUTION_PAUSE);
    }
}

/// How many bytes a process's environment has, or nothing while the kernel loads its program; none
/// when it has ended.
fn environment_length(pid: Pid) -> Option<Option<usize>> {
    let text = read_stat(pid)?;
    let mut fields = fields_of(&text)?;
    if life_of(fields.next()?) == Life::Ended {
        return None;
    }
    // Fields 26, 50 and 51 of the file: where its program and its environment begin, and where that
    // ends. The kernel fills them in while it loads the program, the first one last.
    let program: usize = fields.nth(22)?.parse().ok()?;
    let begin: usize = fields.nth(23)?.parse().ok()?;
    let end: usize = fields.next()?.parse().ok()?;
    Some(if program == 0 { None } else { end.checked_sub(begin) })
}

fn value_of(name: &str, environment: &[u8]) -> Option<Vec<u8>> {
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

    /// How often a process is asked for its mark before it counts as one without.
    const ASKED: u32 = 5;

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

    #[test]
    fn a_process_that_loads_one_program_after_another_keeps_its_mark() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "exec sh -c \"$0\" \"$0\"", "exec sh -c \"$0\" \"$0\""])
            .env("A_MARK", "seen")
            .spawn()
            .expect("a child of ours");
        let pid = Pid::from_raw(child.id() as i32).expect("a process id");
        // On a busy machine it may take longer than one question waits; kills ask again, too.
        let seen = || (0..ASKED).any(|_| variable(pid, "A_MARK").as_deref() == Some(b"seen"));
        let missed = (0..5_000).filter(|_| !seen());
        let missed = missed.count();
        child.kill().expect("to be killed");
        child.wait().expect("to be collected");
        assert_eq!((missed, variable(pid, "A_MARK")), (0, None));
    }

    #[test]
    fn a_process_without_any_variable_has_none() {
        let mut child =
            std::process::Command::new("sleep").arg("60").env_clear().spawn().expect("a child");
        let pid = Pid::from_raw(child.id() as i32).expect("a process id");
        assert_eq!(variable(pid, "A_MARK"), None);
        child.kill().expect("to be killed");
        child.wait().expect("to be collected");
    }
}
