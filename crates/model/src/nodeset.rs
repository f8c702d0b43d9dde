//! Node expressions (`docs/cli.md`, section 2).

use serde::{Deserialize, Serialize};

/// A parsed node expression; keeps the text it was parsed from, which is what travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeExpr {
    text: String,
}

impl NodeExpr {
    /// The text it was parsed from.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Why a text is no node expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadNodeExpr {
    /// Nothing where a name should be.
    #[error("a node name is missing at byte {at}")]
    Missing {
        /// Where.
        at: usize,
    },
}

impl TryFrom<String> for NodeExpr {
    type Error = BadNodeExpr;

    fn try_from(text: String) -> Result<Self, BadNodeExpr> {
        if text.is_empty() { Err(BadNodeExpr::Missing { at: 0 }) } else { Ok(Self { text }) }
    }
}

impl From<NodeExpr> for String {
    fn from(expr: NodeExpr) -> Self {
        expr.text
    }
}
