//! Node expressions (`docs/cli.md`, section 2).
//!
//! Names, `node[01-20/2]`, globs, `@group`, `label=value`, `*`; `!` not, `&` and, `,` or, binding
//! in this order. There are no parentheses: a group does their work.

mod evaluate;
mod natural;
mod parse;
#[cfg(test)]
mod tests;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{NodeName, limits};

pub use evaluate::EvaluateError;
pub use natural::natural_cmp;

/// A parsed node expression; keeps the text it was parsed from, which is what travels. Clones
/// share.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeExpr {
    parsed: Arc<Parsed>,
}

struct Parsed {
    text: String,
    union: parse::Union,
}

/// One node that expressions are evaluated over.
#[derive(Debug, Clone, Copy)]
pub struct MemberRef<'a> {
    /// Its name.
    pub name: &'a NodeName,
    /// Its labels.
    pub labels: &'a [(String, String)],
}

/// The nodes and groups that an expression is evaluated over.
pub trait Universe {
    /// Every node once, in any order; evaluation is fastest when they come in natural order.
    fn members(&self) -> Vec<MemberRef<'_>>;

    /// The expressions whose union is the group, if there is a group of that name.
    fn group(&self, name: &str) -> Option<&[String]>;
}

impl NodeExpr {
    /// Every node: `*`.
    pub fn all() -> Self {
        Self { parsed: Arc::new(Parsed { text: "*".to_owned(), union: parse::Union::all() }) }
    }

    /// That node alone.
    pub fn node(name: &NodeName) -> Self {
        let union = parse::Union::node(name.as_str());
        Self { parsed: Arc::new(Parsed { text: name.as_str().to_owned(), union }) }
    }

    /// The text it was parsed from.
    pub fn as_str(&self) -> &str {
        &self.parsed.text
    }

    /// Whether it may name a group: only then is the groups' file of use.
    pub fn may_name_groups(&self) -> bool {
        self.parsed.text.contains('@')
    }

    /// The groups that it names, without their `@`, as often as they stand there.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.parsed.union.groups()
    }

    /// The nodes it names: each once, in order of first mention, globs and ranges in natural order.
    ///
    /// # Errors
    /// [`EvaluateError`] when a name written out is no member, or a group is not defined or broken.
    /// A glob, a label or a group that matches nothing is empty, not an error.
    pub fn evaluate<U: Universe + ?Sized>(
        &self,
        universe: &U,
    ) -> Result<Vec<NodeName>, EvaluateError> {
        evaluate::evaluate(&self.parsed.union, None, universe)
    }

    /// The nodes it names without those that `exclude` names, in the same order.
    ///
    /// # Errors
    /// As [`NodeExpr::evaluate`], for either expression.
    pub fn evaluate_without<U: Universe + ?Sized>(
        &self,
        exclude: Option<&Self>,
        universe: &U,
    ) -> Result<Vec<NodeName>, EvaluateError> {
        let exclude = exclude.map(|expr| &expr.parsed.union);
        evaluate::evaluate(&self.parsed.union, exclude, universe)
    }
}

/// Why a text is no node expression. `at` counts bytes from 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadNodeExpr {
    /// Nothing where something should be named.
    #[error("a node name is missing at byte {at}; write a name, a glob, `@group` or `label=value`")]
    Missing {
        /// Where.
        at: usize,
    },
    /// The text is too long.
    #[error(
        "a node expression has at most {} bytes; use a glob, a range or a group",
        limits::EXPRESSION_BYTES
    )]
    TooLong,
    /// A character that no name has.
    #[error("{found:?} at byte {at} is not part of a node name; separate names by `,`")]
    Character {
        /// Where.
        at: usize,
        /// What stands there.
        found: char,
    },
    /// A `[` without its `]`.
    #[error("the `[` at byte {at} is not closed; write `]` behind the range")]
    Unclosed {
        /// Where.
        at: usize,
    },
    /// A bracket that is neither a range nor a class of characters.
    #[error("the range at byte {at} cannot be read; write it as `[1-9]`, `[01-20/2]` or `[1,4-6]`")]
    Range {
        /// Where.
        at: usize,
    },
    /// A range whose end lies before its beginning.
    #[error("the range at byte {at} runs backwards; write the smaller number first")]
    Backwards {
        /// Where.
        at: usize,
    },
    /// Too many ranges in one name.
    #[error("more than {} ranges in one name at byte {at}", limits::EXPRESSION_DEPTH)]
    TooManyRanges {
        /// Where.
        at: usize,
    },
    /// A range of numbers in a label's value, where brackets are classes of characters.
    #[error("the brackets at byte {at} are not a class of characters; name the values with `,`")]
    RangeInValue {
        /// Where.
        at: usize,
    },
    /// The names and ranges stand for too many nodes.
    #[error(
        "a node expression names at most {} nodes, and with the name at byte {at} it names more; \
         write a shorter range, a glob such as `web*` or a `@group`",
        limits::EXPRESSION_NODES
    )]
    TooMany {
        /// Where the count was passed.
        at: usize,
    },
    /// Too many globs, labels and groups.
    #[error(
        "more than {} globs, labels and groups up to byte {at}; use a wider one",
        limits::EXPRESSION_PATTERNS
    )]
    TooManyPatterns {
        /// Where the count was passed.
        at: usize,
    },
    /// Too many `!` in a row.
    #[error("more than {} `!` in a row at byte {at}; one is enough", limits::EXPRESSION_DEPTH)]
    TooDeep {
        /// Where.
        at: usize,
    },
}

impl TryFrom<String> for NodeExpr {
    type Error = BadNodeExpr;

    fn try_from(text: String) -> Result<Self, BadNodeExpr> {
        let union = parse::parse(&text)?;
        Ok(Self { parsed: Arc::new(Parsed { text, union }) })
    }
}

impl FromStr for NodeExpr {
    type Err = BadNodeExpr;

    fn from_str(text: &str) -> Result<Self, BadNodeExpr> {
        Self::try_from(text.to_owned())
    }
}

impl From<NodeExpr> for String {
    fn from(expr: NodeExpr) -> Self {
        expr.as_str().to_owned()
    }
}

impl PartialEq for NodeExpr {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for NodeExpr {}

impl Hash for NodeExpr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Display for NodeExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for NodeExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeExpr({:?})", self.as_str())
    }
}
