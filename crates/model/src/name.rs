//! Names that people give. A name that could be read as something else is refused when it is
//! given, not when it is used.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits;

/// Why a name is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Empty, or longer than the limit for its kind.
    #[error("a name has 1 to {limit} bytes")]
    Length {
        /// The most bytes a name may have.
        limit: usize,
    },
    /// A character that a node's name cannot have.
    #[error("a node name has letters, digits, `-`, `_` and `.`, and begins with a letter or digit")]
    NodeCharacter,
    /// A control character.
    #[error("a name has no control characters")]
    Control,
    /// The name reads as a selector or an option: an id, a range, `last` or `all`, or it has glob
    /// characters or begins with `-`.
    #[error("`{0}` reads as an id, a range, a glob, `last` or `all`; choose another name")]
    ReadsAsSelector(String),
    /// The name of a session reads as several sessions, or as an entry or the node of one.
    #[error(
        "`{0}` reads as several sessions, or as a part of one; choose a name without `,`, `:` \
         and `@`"
    )]
    ReadsAsSessions(String),
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl TryFrom<String> for $name {
            type Error = BadName;
            fn try_from(text: String) -> Result<Self, BadName> {
                $check(&text)?;
                Ok(Self(text))
            }
        }
        impl FromStr for $name {
            type Err = BadName;
            fn from_str(text: &str) -> Result<Self, BadName> {
                Self::try_from(text.to_owned())
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name! {
    /// A node's name: 1 to [`limits::NODE_NAME_BYTES`] ASCII letters, digits, `-`, `_` and `.`, the
    /// first a letter or digit, as in a certificate.
    NodeName, node_name
}
name! {
    /// A job's name: 1 to [`limits::ENTRY_NAME_BYTES`] bytes without control characters. Not
    /// unique; never one that reads as a selector.
    JobName, entry_name
}
name! {
    /// A session's name: 1 to [`limits::ENTRY_NAME_BYTES`] bytes without control characters. Not
    /// unique; never one that reads as a selector, as several sessions (`a,b`), or as an entry of
    /// one (`a:1`, `a@node:1`).
    SessionName, session_name
}

impl NodeName {
    /// The location of a child that was started without naming a node.
    pub const LOCALHOST: &'static str = "localhost";
}

fn length(text: &str, limit: usize) -> Result<(), BadName> {
    if (1..=limit).contains(&text.len()) { Ok(()) } else { Err(BadName::Length { limit }) }
}

fn node_name(text: &str) -> Result<(), BadName> {
    length(text, limits::NODE_NAME_BYTES)?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if begins && text.bytes().all(allowed) { Ok(()) } else { Err(BadName::NodeCharacter) }
}

fn entry_name(text: &str) -> Result<(), BadName> {
    length(text, limits::ENTRY_NAME_BYTES)?;
    if text.chars().any(char::is_control) {
        return Err(BadName::Control);
    }
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let range = text.split_once('-').is_some_and(|(a, b)| digits(a) && digits(b));
    let word = text.eq_ignore_ascii_case("last") || text.eq_ignore_ascii_case("all");
    let glob = text.contains(['*', '?', '[']);
    let instance = uuid::Uuid::try_parse(text).is_ok();
    if digits(text) || range || word || glob || instance || text.starts_with('-') {
        return Err(BadName::ReadsAsSelector(text.to_owned()));
    }
    Ok(())
}

fn session_name(text: &str) -> Result<(), BadName> {
    entry_name(text)?;
    if text.contains([',', ':', '@']) {
        return Err(BadName::ReadsAsSessions(text.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_name_never_reads_as_a_selector() {
        for bad in ["7", "3-7", "last", "ALL", "we*", "-x", "01890a5d-ac96-774b-bcce-b302099a8057"]
        {
            assert!(bad.parse::<JobName>().is_err(), "{bad}");
        }
        for good in ["web", "Job1", "nightly build", "v1-2", "3-a"] {
            assert!(good.parse::<JobName>().is_ok(), "{good}");
        }
    }

    #[test]
    fn a_session_name_never_reads_as_several_sessions_or_an_entry() {
        for bad in ["u,v", "a:1", "a@b", ",", "we*", "w?", "a[1", "7", "last", "-x", "a\nb", ""] {
            assert!(bad.parse::<SessionName>().is_err(), "{bad}");
        }
        for good in ["web", "session7", "nightly build", "v1-2", "a/b"] {
            assert!(good.parse::<SessionName>().is_ok(), "{good}");
        }
    }

    #[test]
    fn a_node_name_fits_a_certificate_and_a_node_expression() {
        for bad in ["", "-a", "a b", "a,b", "a*", "ä", &"n".repeat(64)] {
            assert!(bad.parse::<NodeName>().is_err(), "{bad}");
        }
        for good in ["a", "node01", "db-1.example", "X_9"] {
            assert!(good.parse::<NodeName>().is_ok(), "{good}");
        }
    }
}
