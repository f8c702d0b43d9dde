//! Many node names as one short expression: `node[1-3,7]`.

use std::collections::BTreeSet;

use sortie_model::nodeset::natural_cmp;

/// The names, each once, in natural order, with runs of numbers folded; reads back as a node
/// expression.
pub(crate) fn fold<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let unique: BTreeSet<&str> = names.into_iter().collect();
    let mut names: Vec<&str> = unique.into_iter().collect();
    names.sort_by(|left, right| natural_cmp(left, right));
    let mut families: Vec<Family<'_>> = Vec::new();
    for name in names {
        match split(name) {
            Some((head, digits, tail)) => match families.iter_mut().rev().find(|family| {
                family.head == head && family.tail == tail && !family.runs.is_empty()
            }) {
                Some(family) => family.push(digits),
                None => families.push(Family { head, tail, runs: vec![(digits, digits)] }),
            },
            None => families.push(Family { head: name, tail: "", runs: Vec::new() }),
        }
    }
    families.iter().map(Family::text).collect::<Vec<_>>().join(",")
}

/// Names that differ in one number only.
struct Family<'a> {
    head: &'a str,
    tail: &'a str,
    runs: Vec<(&'a str, &'a str)>,
}

impl<'a> Family<'a> {
    fn push(&mut self, digits: &'a str) {
        match self.runs.last_mut() {
            Some((first, last)) if follows(first, last, digits) => *last = digits,
            _ => self.runs.push((digits, digits)),
        }
    }

    fn text(&self) -> String {
        let Self { head, tail, runs } = self;
        match runs.as_slice() {
            [] => (*head).to_owned(),
            [(first, last)] if first == last => format!("{head}{first}{tail}"),
            runs => {
                let text = |(first, last): &(&str, &str)| {
                    if first == last { (*first).to_owned() } else { format!("{first}-{last}") }
                };
                let runs: Vec<String> = runs.iter().map(text).collect();
                format!("{head}[{}]{tail}", runs.join(","))
            }
        }
    }
}

/// Whether `digits` is the number after `last`, spelled as a range from `first` spells it.
fn follows(first: &str, last: &str, digits: &str) -> bool {
    let next = last.parse::<u64>().ok().and_then(|last| last.checked_add(1));
    next.is_some_and(|next| format!("{next:0width$}", width = first.len()) == digits)
}

/// What stands before, in and behind the last run of digits.
fn split(name: &str) -> Option<(&str, &str, &str)> {
    let end = name.rfind(|c: char| c.is_ascii_digit())? + 1;
    let (front, tail) = name.split_at_checked(end)?;
    let head = front.trim_end_matches(|c: char| c.is_ascii_digit());
    Some((head, front.get(head.len()..)?, tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(names: &[&str], folded: &str) {
        assert_eq!(fold(names.iter().copied()), folded);
    }

    #[test]
    fn runs_of_numbers_fold() {
        check(&["b", "a", "b"], "a,b");
        check(&["node3", "node1", "node2"], "node[1-3]");
        check(&["node8", "node9", "node10", "node12"], "node[8-10,12]");
        check(&["n08", "n09", "n10"], "n[08-10]");
        check(&["n1", "n01"], "n[1,01]");
        check(&["db-1.x", "db-2.x", "web"], "db-[1-2].x,web");
        check(&["only7"], "only7");
        check(&[], "");
    }
}
