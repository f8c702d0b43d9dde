//! How verbs name jobs and children (`docs/semantics.md`, section 3).

pub(crate) mod glob;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{EntryId, State, Timestamp, limits};

pub use glob::{Glob, Matcher, fold};

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

/// Why a word names nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadSelector {
    /// The word is empty or too long.
    #[error("a selector has 1 to {} bytes", limits::EXPRESSION_BYTES)]
    Length,
    /// A number that no id can reach.
    #[error("`{0}` is no id: ids have at most 20 digits; `sortie get` lists them")]
    Number(String),
    /// A range whose end lies before its beginning.
    #[error("the range `{0}` runs backwards; write the smaller id first")]
    Backwards(String),
    /// A control character, which no name has.
    #[error("a selector has no control characters")]
    Control,
}

impl FromStr for Selector {
    type Err = BadSelector;

    fn from_str(word: &str) -> Result<Self, BadSelector> {
        if word.is_empty() || word.len() > limits::EXPRESSION_BYTES {
            return Err(BadSelector::Length);
        }
        if word.chars().any(char::is_control) {
            return Err(BadSelector::Control);
        }
        if let Some(id) = id(word)? {
            return Ok(Self::Id(id));
        }
        if let Some((first, last)) = word.split_once('-')
            && let (Some(first), Some(last)) = (id(first)?, id(last)?)
        {
            let backwards = || BadSelector::Backwards(word.to_owned());
            return if first <= last { Ok(Self::Range(first, last)) } else { Err(backwards()) };
        }
        if let Ok(instance) = Uuid::try_parse(word) {
            return Ok(Self::Instance(instance));
        }
        Ok(match word {
            _ if word.eq_ignore_ascii_case("last") => Self::Last,
            _ if word.eq_ignore_ascii_case("all") => Self::All,
            name => Self::Name(Glob(name.to_owned())),
        })
    }
}

impl Selector {
    /// Whether it is an error that it names nothing: of one entry it is; a glob, a range and `all`
    /// may be empty (`docs/semantics.md`, section 3).
    pub fn must_name_something(&self) -> bool {
        match self {
            Self::Id(_) | Self::Instance(_) | Self::Last => true,
            Self::Name(glob) => glob.is_literal(),
            Self::Range(..) | Self::All => false,
        }
    }
}

/// The id that the word is; none if it is not all digits.
fn id(word: &str) -> Result<Option<EntryId>, BadSelector> {
    if word.is_empty() || !word.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    word.parse().map(|id| Some(EntryId(id))).map_err(|_| BadSelector::Number(word.to_owned()))
}

/// The word as it would be typed.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Range(first, last) => write!(f, "{first}-{last}"),
            Self::Instance(instance) => instance.fmt(f),
            Self::Name(glob) => f.write_str(&glob.0),
            Self::Last => f.write_str("last"),
            Self::All => f.write_str("all"),
        }
    }
}

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

impl Selection {
    /// Just these words, without filters.
    pub fn of(selectors: impl IntoIterator<Item = Selector>) -> Self {
        Self { selectors: selectors.into_iter().collect(), ..Self::default() }
    }

    /// The words as typed.
    ///
    /// # Errors
    /// [`BadSelector`] for the first word that names nothing.
    pub fn parse<W: AsRef<str>>(words: impl IntoIterator<Item = W>) -> Result<Self, BadSelector> {
        let selectors = words.into_iter().map(|word| word.as_ref().parse());
        Ok(Self { selectors: selectors.collect::<Result<_, _>>()?, ..Self::default() })
    }

    /// Whether neither a word nor a filter narrows it.
    pub fn is_empty(&self) -> bool {
        self.selectors.is_empty() && !self.has_filters()
    }

    /// Whether it filters by state or command, which looks at parents only.
    pub fn has_filters(&self) -> bool {
        !self.states.is_empty() || self.command.is_some()
    }
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
    /// Only what ended before; never what is unfinished.
    pub before: Option<Timestamp>,
    /// Only what ended after; never what is unfinished.
    pub after: Option<Timestamp>,
    /// Only the newest so many by end time; unfinished entries count as newest.
    pub newest: Option<u32>,
    /// Entries in a page, at most [`limits::PAGE_MOST`].
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(word: &str, expected: Selector) {
        assert_eq!(word.parse(), Ok(expected), "{word}");
    }

    #[test]
    fn a_word_reads_as_what_it_looks_like() {
        let name = |text: &str| Selector::Name(Glob(text.to_owned()));
        check("7", Selector::Id(EntryId(7)));
        check("007", Selector::Id(EntryId(7)));
        check("3-7", Selector::Range(EntryId(3), EntryId(7)));
        check("3-3", Selector::Range(EntryId(3), EntryId(3)));
        check("last", Selector::Last);
        check("ALL", Selector::All);
        let uuid = "01890a5d-ac96-774b-bcce-b302099a8057";
        check(uuid, Selector::Instance(Uuid::try_parse(uuid).unwrap()));
        check("Job7", name("Job7"));
        check("3-a", name("3-a"));
        check("-3", name("-3"));
        check("we*", name("we*"));
        check("nightly build", name("nightly build"));
    }

    #[test]
    fn a_word_that_can_name_nothing_is_refused() {
        let bad = |word: &str| word.parse::<Selector>().unwrap_err();
        assert_eq!(bad(""), BadSelector::Length);
        assert_eq!(bad(&"x".repeat(limits::EXPRESSION_BYTES + 1)), BadSelector::Length);
        assert_eq!(bad("7-3"), BadSelector::Backwards("7-3".to_owned()));
        assert_eq!(bad(&"9".repeat(21)), BadSelector::Number("9".repeat(21)));
        assert_eq!(bad("a\u{7}"), BadSelector::Control);
    }

    #[test]
    fn a_selection_without_words_and_filters_is_empty() {
        assert!(Selection::default().is_empty());
        assert!(!Selection::parse(["last"]).unwrap().is_empty());
        let failed = Selection { states: vec![State::Failed], ..Selection::default() };
        assert!(!failed.is_empty() && failed.has_filters());
    }

    proptest! {
        #[test]
        fn a_selector_prints_as_it_is_typed(
            word in "[0-9]{1,4}|[0-9]-9[0-9]|last|all|[a-z*?]{1,9}",
        ) {
            let selector: Selector = word.parse().unwrap();
            prop_assert_eq!(selector.to_string().parse(), Ok(selector));
        }

        #[test]
        fn every_name_that_a_job_may_have_reads_as_that_name(name in "[ -~é]{1,12}") {
            if let Ok(name) = name.parse::<crate::JobName>() {
                let glob = Glob(name.as_str().to_owned());
                prop_assert_eq!(name.as_str().parse(), Ok(Selector::Name(glob.clone())));
                prop_assert!(glob.is_literal() && glob.matches(name.as_str()));
            }
        }
    }
}
