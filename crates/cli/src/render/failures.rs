//! Why children failed, for people: one line for each reason, with the nodes it happened on.

use std::collections::BTreeMap;

use sortie::answer::Failure;

use crate::render::clean::one_line;
use crate::render::fold::fold;

/// Distinct lines that are said; the others are counted.
const LINES: usize = 20;

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// One line for each distinct reason.
    Folded,
    /// One line for each child (`-v`).
    EachChild,
}

/// The lines, without the name of our program in front.
pub(crate) fn sentences(failures: &[Failure], detail: Detail) -> Vec<String> {
    if detail == Detail::EachChild {
        let each = |failure: &Failure| {
            format!("{} (child {}): {}", place(&failure.location), failure.child, failure.reason)
        };
        return failures.iter().map(|failure| one_line(&each(failure)).into_owned()).collect();
    }
    let mut order = Vec::new();
    let mut groups = BTreeMap::<String, Vec<&Failure>>::new();
    for failure in failures {
        let reason = failure.reason.to_string();
        let group = groups.entry(reason.clone()).or_default();
        if group.is_empty() {
            order.push(reason);
        }
        group.push(failure);
    }
    let mut lines: Vec<String> = order
        .iter()
        .take(LINES)
        .filter_map(|reason| groups.get(reason).map(|group| folded(group, reason)))
        .collect();
    let more: usize =
        order.iter().skip(LINES).filter_map(|reason| groups.get(reason)).map(Vec::len).sum();
    if more > 0 {
        lines.push(format!("{more} more children failed for other reasons; `-v` shows each"));
    }
    lines
}

/// Where a child is, as people read it: an input that nobody took has no node.
pub(crate) const fn place(location: &str) -> &str {
    if location.is_empty() { "no node yet" } else { location }
}

fn folded(group: &[&Failure], reason: &str) -> String {
    let nodes = fold(group.iter().map(|failure| place(&failure.location)));
    let count = match group.len() {
        1 => String::new(),
        count => format!(" ({count})"),
    };
    one_line(&format!("{nodes}{count}: {reason}")).into_owned()
}

#[cfg(test)]
mod tests {
    use sortie_model::{EntryId, Reason};

    use super::*;

    fn failure(child: u64, node: &str, code: i32) -> Failure {
        Failure {
            child: EntryId(child),
            location: node.to_owned(),
            reason: Reason::Exit { code },
            exit_code: Some(code),
        }
    }

    #[test]
    fn equal_reasons_are_said_once() {
        let failures = [failure(2, "n1", 3), failure(3, "n3", 4), failure(4, "n2", 3)];
        assert_eq!(
            sentences(&failures, Detail::Folded),
            ["n[1-2] (2): exited with status 3", "n3: exited with status 4"]
        );
        assert_eq!(sentences(&failures, Detail::EachChild).len(), 3);
    }

    #[test]
    fn many_reasons_are_counted() {
        let failures: Vec<Failure> =
            (0..100).map(|index| failure(index, "n1", index as i32 % 50)).collect();
        let lines = sentences(&failures, Detail::Folded);
        assert_eq!(lines.len(), LINES + 1);
        assert!(lines[LINES].starts_with("60 more"), "{lines:?}");
    }
}
