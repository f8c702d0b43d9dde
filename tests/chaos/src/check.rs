//! Whether an item that has ended is what its plan says.

use serde_json::Value;

use crate::fleet::Item;
use crate::item::{End, Notes};
use crate::ledger::{Whose, difference};
use crate::violation::Violation;

/// Bytes of a text that a violation shows, on each side of a difference.
const SHOWN: usize = 60;

/// The number of the signal KILL.
const KILL: i64 = 9;

/// How a child ended, as `get --children -o json` tells.
pub(crate) struct Ended {
    state: String,
    exit_code: Option<i64>,
    signal: Option<i64>,
    reason: String,
}

impl Ended {
    /// Of a child as `get` shows it.
    pub(crate) fn of(child: &Value) -> Option<Self> {
        let number = |key: &str| child.get(key).and_then(Value::as_i64);
        let reason = child.get("reason").filter(|reason| !reason.is_null());
        Some(Self {
            state: child.get("state")?.as_str()?.to_owned(),
            exit_code: number("exit_code"),
            signal: number("signal"),
            reason: reason.map_or(String::new(), Value::to_string),
        })
    }

    /// Whether it failed for a reason of that code.
    pub(crate) fn is_of(&self, code: &str) -> bool {
        self.state == "failed" && self.reason.contains(&format!("\"{code}\""))
    }

    /// Whether it ended in that state, with that exit status if one is said.
    pub(crate) fn was(&self, state: &str, exit_code: Option<i64>) -> bool {
        self.state == state && exit_code.is_none_or(|code| self.exit_code == Some(code))
    }

    fn sentence(&self) -> String {
        let Self { state, exit_code, signal, reason } = self;
        format!("{state} with status {exit_code:?}, signal {signal:?}, reason {reason}")
    }
}

/// The children of one job, once they and the job are over: between two lives a child shows how
/// the last one ended, and its job is not over then.
pub(crate) fn children_over(answer: &Value) -> Option<Vec<&Value>> {
    let entries = answer.get("jobs")?.as_array()?;
    let is_over = |entry: &Value| {
        let state = entry.get("state").and_then(Value::as_str);
        matches!(state, Some("completed" | "failed" | "stopped"))
    };
    let children = entries.iter().filter(|entry| entry.get("parent").is_some_and(Value::is_u64));
    entries.iter().all(is_over).then(|| children.collect())
}

/// Whether a job is suspended.
pub(crate) fn stands_still(answer: &Value) -> bool {
    let entries = answer.get("jobs").and_then(Value::as_array).into_iter().flatten();
    let mut states = entries.filter_map(|entry| entry.get("state").and_then(Value::as_str));
    states.any(|state| state == "suspended")
}

/// Whether anything of a job is left to receive.
pub(crate) fn has_more(answer: &Value) -> bool {
    let entries = answer.get("jobs").and_then(Value::as_array);
    let more = |entry: &Value| entry.get("has_more_data").and_then(Value::as_bool) != Some(false);
    entries.is_none_or(|entries| entries.iter().any(more))
}

/// Checks an item of which everything was received.
///
/// # Errors
/// The first thing that is not as its plan says.
pub(crate) fn item(
    item: &Item,
    whose: Whose,
    ended: &Ended,
    notes: &Notes,
) -> Result<(), Violation> {
    let (times, wanted) = (notes.starts(), item.plan.lives);
    let is_stopped = ended.state == "stopped" && item.stop_asked;
    if times != wanted && !(is_stopped && times < wanted) {
        return Err(Violation::Starts { item: whose.item, job: whose.job, times, wanted });
    }
    let (output, error) = item.plan.output();
    let exactness = if is_stopped || item.plan.end == End::IsStopped {
        check_stopped(item, whose, ended)?;
        Exactness::AtLeast(written(item, times, notes))
    } else {
        check_end(item, whose, ended)?;
        Exactness::All
    };
    item.ledger.whole(whose, item.plan.lives)?;
    let found = (item.ledger.bytes("output"), item.ledger.bytes("error"));
    same(whose, ("stdout", &found.0, &output), exactness)?;
    same(whose, ("stderr", &found.1, &error), exactness)?;
    if let Exactness::AtLeast(lines) = exactness {
        let found = found.0.lines().count() + found.1.lines().count();
        if (found as u64) < lines {
            let wanted = usize::try_from(lines).unwrap_or_default();
            let there = "what was written before a pause is missing".to_owned();
            let Whose { item, job } = whose;
            let (stream, at, instead) = ("a stopped process's lines", found, String::new());
            return Err(Violation::Bytes { item, job, stream, at, found, wanted, there, instead });
        }
    }
    Ok(())
}

/// How many lines of a stopped item were written for certain in all its lives. What stands in the
/// note of a later life may be the earlier one's.
fn written(item: &Item, times: u64, notes: &Notes) -> u64 {
    match times {
        0 | 1 => notes.written(),
        _ => (times - 1) * item.plan.lines(),
    }
}

/// Checks an item that ended with its guardian: it began once at most, and what came of it is a
/// beginning of each stream.
///
/// # Errors
/// The first thing that is otherwise.
pub(crate) fn lost(item: &Item, whose: Whose, notes: &Notes) -> Result<(), Violation> {
    let (times, wanted) = (notes.starts(), 1);
    if times > wanted {
        return Err(Violation::Starts { item: whose.item, job: whose.job, times, wanted });
    }
    item.ledger.whole(whose, 1)?;
    let (output, error) = item.plan.output();
    same(whose, ("stdout", &item.ledger.bytes("output"), &output), Exactness::AtLeast(0))?;
    same(whose, ("stderr", &item.ledger.bytes("error"), &error), Exactness::AtLeast(0))
}

/// Checks an item whose process is said never to have begun.
///
/// # Errors
/// When it has.
pub(crate) fn never_began(item: &Item, whose: Whose, notes: &Notes) -> Result<(), Violation> {
    let (times, wanted) = (notes.starts(), 0);
    if times != wanted || item.ledger.counts().0 > 0 {
        return Err(Violation::Starts { item: whose.item, job: whose.job, times, wanted });
    }
    Ok(())
}

/// How much of what a process may write must be there.
#[derive(Clone, Copy)]
enum Exactness {
    All,
    /// So many lines of both streams together; of each stream a beginning.
    AtLeast(u64),
}

fn check_end(item: &Item, whose: Whose, ended: &Ended) -> Result<(), Violation> {
    let (state, code, signal) = match item.plan.end {
        End::Exits(0) => ("completed", Some(0), None),
        End::Exits(status) => ("failed", Some(i64::from(status)), None),
        End::KillsItself | End::IsStopped => ("failed", None, Some(KILL)),
    };
    if (ended.state.as_str(), ended.exit_code, ended.signal) == (state, code, signal) {
        return Ok(());
    }
    let wanted = format!("{state} with status {code:?}, signal {signal:?}");
    Err(Violation::End { item: whose.item, job: whose.job, found: ended.sentence(), wanted })
}

fn check_stopped(item: &Item, whose: Whose, ended: &Ended) -> Result<(), Violation> {
    if ended.state == "stopped" && item.stop_asked {
        return Ok(());
    }
    let wanted = if item.stop_asked { "stopped" } else { "no end before a stop" }.to_owned();
    Err(Violation::End { item: whose.item, job: whose.job, found: ended.sentence(), wanted })
}

fn same(
    whose: Whose,
    (stream, found, wanted): (&'static str, &str, &str),
    exactness: Exactness,
) -> Result<(), Violation> {
    let end = match exactness {
        Exactness::All => wanted.len(),
        Exactness::AtLeast(_) => found.len().min(wanted.len()),
    };
    let wanted = wanted.get(..end).unwrap_or(wanted);
    let Some(at) = difference(found, wanted) else { return Ok(()) };
    let shown = |text: &str| {
        let bytes = text.as_bytes();
        let (from, to) = (at.saturating_sub(SHOWN), (at + SHOWN).min(bytes.len()));
        String::from_utf8_lossy(bytes.get(from..to).unwrap_or_default()).into_owned()
    };
    Err(Violation::Bytes {
        item: whose.item,
        job: whose.job,
        stream,
        at,
        found: found.len(),
        wanted: wanted.len(),
        there: shown(found),
        instead: shown(wanted),
    })
}
