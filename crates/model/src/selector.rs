//! How verbs name jobs and children (`docs/semantics.md`, section 3).

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{EntryId, State, Timestamp, limits};

/// One word that names jobs or children.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Selector {
    /// The entry with that number.
    Id(EntryId),
    /// The entries whose numbers lie between, ends included.
    Range(EntryId, EntryId),
    /// The entry with that identity.
    Instance(Uuid),
    /// The entries whose names match, without regard to case.
    Name(Glob),
    /// The newest job.
    Last,
    /// Every job.
    All,
}

/// A pattern with `*`, `?` and `[…]`; matches without regard to case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Glob(pub String);

/// Which entries a verb is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// The words; empty means every job where the verb allows that.
    pub selectors: Vec<Selector>,
    /// Only jobs in one of these states; empty is any.
    pub states: Vec<State>,
    /// Only jobs whose command matches.
    pub command: Option<Glob>,
}

/// What `get` asks for. Applied in the order: select, add children, has-more-data, time, newest,
/// sort, page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Query {
    /// Which entries.
    pub selection: Selection,
    /// Also the direct children.
    pub children: bool,
    /// Also the children in one of these states.
    pub child_states: Vec<State>,
    /// Only entries with, or without, unread data.
    pub has_more_data: Option<bool>,
    /// Only what ended before.
    pub before: Option<Timestamp>,
    /// Only what ended after.
    pub after: Option<Timestamp>,
    /// Only the newest so many by end time; unfinished entries count as newest.
    pub newest: Option<u32>,
    /// Entries in a page.
    pub limit: u32,
    /// Entries to skip.
    pub offset: u64,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            selection: Selection::default(),
            children: false,
            child_states: Vec::new(),
            has_more_data: None,
            before: None,
            after: None,
            newest: None,
            limit: limits::PAGE as u32,
            offset: 0,
        }
    }
}
