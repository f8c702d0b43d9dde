//! From a tree to the nodes it names.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::parse::{Atom, Operand, Segment, Span, Union, Word, parse};
use super::{BadNodeExpr, MemberRef, Universe, natural_cmp};
use crate::selector::glob::{Case, Matcher};
use crate::{NodeName, limits};

/// Why an expression names no set of nodes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluateError {
    /// A name that is written out is no member.
    #[error("no node is called `{name}`; `sortie node get` lists the nodes")]
    UnknownNode {
        /// The name.
        name: String,
    },
    /// A group's expressions write out a name that is no member.
    #[error("no node is called `{name}`, which the group `{group}` names; correct the group")]
    UnknownNodeInGroup {
        /// The name.
        name: String,
        /// The group.
        group: String,
    },
    /// No group has that name.
    #[error("no group is called `{name}`; groups are defined in `groups.toml`")]
    UnknownGroup {
        /// The name.
        name: String,
    },
    /// A group's expression cannot be parsed.
    #[error("an expression of the group `{group}` cannot be read")]
    BadGroup {
        /// The group.
        group: String,
        /// What is wrong with it.
        #[source]
        error: BadNodeExpr,
    },
    /// A group names itself, directly or through others.
    #[error("the group `{group}` contains itself; take it out of its own expressions")]
    GroupCycle {
        /// The group.
        group: String,
    },
    /// Groups name groups too deeply.
    #[error(
        "the group `{group}` lies below {} others; name nodes directly",
        limits::EXPRESSION_DEPTH
    )]
    GroupDepth {
        /// The group at which it was given up.
        group: String,
    },
}

pub(super) fn evaluate<U: Universe + ?Sized>(
    union: &Union,
    exclude: Option<&Union>,
    universe: &U,
) -> Result<Vec<NodeName>, EvaluateError> {
    let mut members = universe.members();
    members.sort_by(|a, b| natural_cmp(a.name.as_str(), b.name.as_str()));
    let mut evaluation = Evaluation { universe, members, groups: HashMap::new(), path: Vec::new() };
    let named = evaluation.union(union)?;
    let left_out = exclude.map(|exclude| evaluation.union(exclude)).transpose()?;
    let kept = named
        .order
        .into_iter()
        .filter(|index| left_out.as_ref().is_none_or(|set| !set.contains(*index)))
        .filter_map(|index| evaluation.members.get(index as usize))
        .map(|member| member.name.clone());
    Ok(kept.collect())
}

/// Members by index, in order of first mention.
#[derive(Clone)]
struct Set {
    order: Vec<u32>,
    bits: Vec<u64>,
}

impl Set {
    fn of(members: usize) -> Self {
        Self { order: Vec::new(), bits: vec![0; members.div_ceil(64)] }
    }

    fn contains(&self, index: u32) -> bool {
        let word = self.bits.get(index as usize / 64).copied().unwrap_or(0);
        word & (1 << (index % 64)) != 0
    }

    fn push(&mut self, index: u32) {
        if let Some(word) = self.bits.get_mut(index as usize / 64) {
            let bit = 1 << (index % 64);
            if *word & bit == 0 {
                *word |= bit;
                self.order.push(index);
            }
        }
    }

    fn extend(&mut self, indices: impl IntoIterator<Item = u32>) {
        indices.into_iter().for_each(|index| self.push(index));
    }
}

struct Evaluation<'a, U: ?Sized> {
    universe: &'a U,
    members: Vec<MemberRef<'a>>,
    /// Groups that are done, so that none is evaluated twice.
    groups: HashMap<String, Set>,
    /// The groups that are being evaluated, outermost first.
    path: Vec<String>,
}

impl<U: Universe + ?Sized> Evaluation<'_, U> {
    fn union(&mut self, union: &Union) -> Result<Set, EvaluateError> {
        let mut all = Set::of(self.members.len());
        for operands in &union.0 {
            match operands.as_slice() {
                [Operand { negated: false, atom: Atom::Names(word), .. }] => {
                    self.names(word, &mut all)?;
                }
                operands => all.extend(self.intersection(operands)?),
            }
        }
        Ok(all)
    }

    /// In the order of the first operand that is not negated; in natural order if there is none.
    fn intersection(&mut self, operands: &[Operand]) -> Result<Vec<u32>, EvaluateError> {
        let mut order: Option<Vec<u32>> = None;
        let mut kept = vec![u64::MAX; self.members.len().div_ceil(64)];
        for operand in operands {
            let set = self.atom(&operand.atom)?;
            if order.is_none() && !operand.negated {
                order = Some(set.order);
            } else {
                let flip = if operand.negated { u64::MAX } else { 0 };
                kept.iter_mut().zip(set.bits).for_each(|(kept, bits)| *kept &= bits ^ flip);
            }
        }
        let kept = Set { order: Vec::new(), bits: kept };
        let mut order = order.unwrap_or_else(|| (0..self.members.len() as u32).collect());
        order.retain(|index| kept.contains(*index));
        Ok(order)
    }

    fn atom(&mut self, atom: &Atom) -> Result<Set, EvaluateError> {
        let mut set = Set::of(self.members.len());
        match atom {
            Atom::All => set.extend(0..self.members.len() as u32),
            Atom::Names(word) => self.names(word, &mut set)?,
            Atom::Pattern(word) => self.pattern(word, &mut set),
            Atom::Group(name) => return self.group(name),
            Atom::Label { key, value } => {
                let has = |member: &MemberRef<'_>| {
                    member.labels.iter().any(|(name, text)| name == key && value.is_match(text))
                };
                set.extend(self.indices(has));
            }
        }
        Ok(set)
    }

    fn indices(&self, test: impl Fn(&MemberRef<'_>) -> bool) -> impl Iterator<Item = u32> {
        let found = self.members.iter().enumerate().filter(move |(_, member)| test(member));
        found.map(|(index, _)| index as u32)
    }

    fn names(&self, word: &Word, set: &mut Set) -> Result<(), EvaluateError> {
        let mut found = Vec::new();
        let mut unknown = None;
        expand(word, &mut |name| {
            let place =
                self.members.binary_search_by(|member| natural_cmp(member.name.as_str(), name));
            match place {
                Ok(index) => found.push(index as u32),
                Err(_) => unknown = Some(name.to_owned()),
            }
            unknown.is_none()
        });
        if let Some(name) = unknown {
            return Err(match self.path.last() {
                Some(group) => EvaluateError::UnknownNodeInGroup { name, group: group.clone() },
                None => EvaluateError::UnknownNode { name },
            });
        }
        // Members are in natural order, so their indices are too.
        found.sort_unstable();
        set.extend(found);
        Ok(())
    }

    fn pattern(&self, word: &Word, set: &mut Set) {
        let mut matchers = Vec::new();
        expand(word, &mut |pattern| {
            matchers.push(Matcher::new(pattern, Case::Distinct));
            true
        });
        let any = |member: &MemberRef<'_>| {
            matchers.iter().any(|matcher| matcher.is_match(member.name.as_str()))
        };
        set.extend(self.indices(any));
    }

    fn group(&mut self, name: &str) -> Result<Set, EvaluateError> {
        if let Some(done) = self.groups.get(name) {
            return Ok(done.clone());
        }
        let group = name.to_owned();
        if self.path.contains(&group) {
            return Err(EvaluateError::GroupCycle { group });
        }
        if self.path.len() >= limits::EXPRESSION_DEPTH {
            return Err(EvaluateError::GroupDepth { group });
        }
        let Some(texts) = self.universe.group(name) else {
            return Err(EvaluateError::UnknownGroup { name: group });
        };
        self.path.push(group.clone());
        let mut set = Set::of(self.members.len());
        for text in texts {
            let union = parse(text)
                .map_err(|error| EvaluateError::BadGroup { group: group.clone(), error })?;
            set.extend(self.union(&union)?.order);
        }
        self.path.pop();
        self.groups.insert(group, set.clone());
        Ok(set)
    }
}

/// Calls `take` with every name that the word stands for, one at a time, until it returns false.
fn expand(word: &Word, take: &mut impl FnMut(&str) -> bool) {
    expand_from(&word.0, &mut String::new(), take);
}

fn expand_from(
    segments: &[Segment],
    name: &mut String,
    take: &mut impl FnMut(&str) -> bool,
) -> bool {
    let length = name.len();
    let go_on = match segments.split_first() {
        None => take(name),
        Some((Segment::Text(text), rest)) => {
            name.push_str(text);
            expand_from(rest, name, take)
        }
        Some((Segment::Numbers(spans), rest)) => spans.iter().all(|span| {
            span.numbers().all(|number| {
                name.truncate(length);
                // Writing to a string cannot fail.
                let _ = write!(name, "{number:0width$}", width = span.width);
                expand_from(rest, name, take)
            })
        }),
    };
    name.truncate(length);
    go_on
}

impl Span {
    fn numbers(self) -> impl Iterator<Item = u64> {
        let step = usize::try_from(self.step).unwrap_or(usize::MAX);
        (self.first..=self.last).step_by(step)
    }
}
