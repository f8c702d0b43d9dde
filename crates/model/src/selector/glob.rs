//! Patterns: `*`, `?`, `[a-z]`, `[!a]`. Everything else stands for itself; there is no escape, and
//! a `[` that is never closed is an ordinary character.

use serde::{Deserialize, Serialize};

/// A pattern with `*`, `?` and `[…]`; matches without regard to case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Glob(pub String);

impl Glob {
    /// Whether the pattern has no wildcard: it then names one thing, and naming nothing is an
    /// error.
    pub fn is_literal(&self) -> bool {
        !self.0.contains(['*', '?', '['])
    }

    /// Whether the whole text matches. To test many texts, compile a [`Glob::matcher`] once.
    pub fn matches(&self, text: &str) -> bool {
        self.matcher().is_match(text)
    }

    /// The compiled pattern.
    pub fn matcher(&self) -> Matcher {
        Matcher::new(&self.0, Case::Ignored)
    }
}

/// A text as it is compared without regard to case: two texts that a literal [`Glob`] takes for
/// equal have the same folded form, so it can be the key of an index.
pub fn fold(text: &str) -> String {
    if text.is_ascii() { text.to_ascii_lowercase() } else { text.chars().map(fold_char).collect() }
}

fn fold_char(plain: char) -> char {
    if plain.is_ascii() {
        return plain.to_ascii_lowercase();
    }
    // A letter whose lower case is several letters stays as it is, so that lengths agree.
    let mut lower = plain.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some(folded), None) => folded,
        _ => plain,
    }
}

/// Whether upper and lower case differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Case {
    Ignored,
    Distinct,
}

#[derive(Debug, Clone)]
enum Piece {
    One(char),
    AnyOne,
    AnyRun,
    Class { negated: bool, ranges: Vec<(char, char)> },
}

/// A compiled [`Glob`]. Matching takes at most pattern length times text length steps.
#[derive(Debug, Clone)]
pub struct Matcher {
    pieces: Vec<Piece>,
    case: Case,
}

impl Matcher {
    pub(crate) fn new(pattern: &str, case: Case) -> Self {
        let mut pieces = Vec::new();
        let mut rest = pattern;
        while let Some(first) = rest.chars().next() {
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
            match first {
                '*' if matches!(pieces.last(), Some(Piece::AnyRun)) => {}
                '*' => pieces.push(Piece::AnyRun),
                '?' => pieces.push(Piece::AnyOne),
                '[' => match class(rest, case) {
                    Some((piece, after)) => {
                        pieces.push(piece);
                        rest = after;
                    }
                    None => pieces.push(Piece::One(first)),
                },
                plain => pieces.push(Piece::One(case.fold(plain))),
            }
        }
        Self { pieces, case }
    }

    /// Whether the whole text matches.
    pub fn is_match(&self, text: &str) -> bool {
        if !self.ends_alike(text) {
            return false;
        }
        let mut rest = text.chars();
        let mut at = 0;
        // Where to go on after a mismatch: behind the last `*`, with one character more given to
        // it.
        let mut retry: Option<(usize, std::str::Chars<'_>)> = None;
        loop {
            let before = rest.clone();
            match (self.pieces.get(at), rest.next()) {
                (None, None) => return true,
                (Some(Piece::AnyRun), _) => {
                    at += 1;
                    if at == self.pieces.len() {
                        return true;
                    }
                    rest = before;
                    retry = Some((at, rest.clone()));
                    continue;
                }
                (Some(piece), Some(found)) if piece.takes(self.case.fold(found)) => {
                    at += 1;
                    continue;
                }
                _ => {}
            }
            let Some((behind, given)) = &mut retry else { return false };
            if given.next().is_none() {
                return false;
            }
            // What does not go on as the pattern does behind its `*` is given to that, too.
            if let Some(piece) = self.pieces.get(*behind) {
                let goes_on = |found| piece.takes(self.case.fold(found));
                while given.clone().next().is_some_and(|found| !goes_on(found)) {
                    given.next();
                }
            }
            (at, rest) = (*behind, given.clone());
        }
    }

    /// Whether the text ends with what is behind the last `*`: most texts do not, and are not
    /// looked at any more then.
    fn ends_alike(&self, text: &str) -> bool {
        let mut rest = text.chars();
        let fixed = self.pieces.iter().rev().take_while(|piece| !matches!(piece, Piece::AnyRun));
        fixed
            .into_iter()
            .all(|piece| rest.next_back().is_some_and(|found| piece.takes(self.case.fold(found))))
    }
}

impl Case {
    fn fold(self, plain: char) -> char {
        match self {
            Self::Ignored => fold_char(plain),
            Self::Distinct => plain,
        }
    }
}

impl Piece {
    fn takes(&self, found: char) -> bool {
        match self {
            Self::One(wanted) => *wanted == found,
            Self::AnyOne | Self::AnyRun => true,
            Self::Class { negated, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&found)) != *negated
            }
        }
    }
}

/// The class that `text` begins with, behind its `[`, and what follows its `]`. A `]` right at the
/// beginning belongs to the class, as in a shell.
fn class(text: &str, case: Case) -> Option<(Piece, &str)> {
    let (negated, body) = match text.strip_prefix(['!', '^']) {
        Some(body) => (true, body),
        None => (false, text),
    };
    let end = body.char_indices().skip(1).find(|(_, found)| *found == ']')?.0;
    let after = body.get(end + 1..)?;
    let mut ranges = Vec::new();
    let mut members = body.get(..end)?.chars();
    while let Some(low) = members.next() {
        let mut ahead = members.clone();
        match (ahead.next(), ahead.next()) {
            (Some('-'), Some(high)) => {
                members = ahead;
                ranges.push((case.fold(low), case.fold(high)));
            }
            _ => ranges.push((case.fold(low), case.fold(low))),
        }
    }
    Some((Piece::Class { negated, ranges }, after))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        let glob = Glob(pattern.to_owned());
        for text in yes {
            assert!(glob.matches(text), "{pattern} should match {text:?}");
        }
        for text in no {
            assert!(!glob.matches(text), "{pattern} should not match {text:?}");
        }
    }

    #[test]
    fn wildcards_mean_what_they_mean_in_a_shell() {
        check("*", &["", "x", "é x"], &[]);
        check("web*", &["web", "WEB-1"], &["aweb"]);
        check("*.log", &["a.log", ".log", "a.log.log"], &["a.log1"]);
        check("a*b*c", &["abc", "aXbYbZc"], &["acb", "ab"]);
        check("j?b", &["job", "jéb"], &["jb", "joob"]);
        check("n[0-2a]", &["n0", "n2", "na", "NA"], &["n3", "n", "n00"]);
        check("n[!0-2]", &["n3", "nx"], &["n0", "n"]);
        check("[]x]", &["]", "x"], &["a"]);
        check("n[-a]", &["n-", "na"], &["nb"]);
        check("n[a-]", &["n-", "na"], &["nb"]);
    }

    #[test]
    fn a_bracket_that_is_not_closed_is_a_character() {
        check("a[b", &["a[b"], &["ab"]);
        check("a[]", &["a[]"], &["a"]);
    }

    #[test]
    fn only_wildcards_make_a_glob() {
        for (text, literal) in [("web", true), ("we b-1", true), ("w*", false), ("w[1]", false)] {
            assert_eq!(Glob(text.to_owned()).is_literal(), literal, "{text}");
        }
    }

    #[test]
    fn many_stars_against_a_long_text_end_soon() {
        let pattern = "a*".repeat(200) + "b";
        assert!(!Glob(pattern).matches(&"a".repeat(4_000)));
    }

    /// The obvious model: try every split at a star.
    fn slow(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('*', rest)) => (0..=text.len()).any(|cut| slow(rest, &text[cut..])),
            Some(('?', rest)) => !text.is_empty() && slow(rest, &text[1..]),
            Some((one, rest)) => text.first() == Some(one) && slow(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_trying_every_split(pattern in "[ab*?]{0,8}", text in "[ab]{0,10}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(
                Glob(pattern.clone()).matches(&text),
                slow(&chars(&pattern), &chars(&text))
            );
        }

        #[test]
        fn a_literal_matches_exactly_what_folds_alike(
            left in "[aAbBéÉİ]{0,4}",
            right in "[aAbBéÉİ]{0,4}",
        ) {
            prop_assert_eq!(Glob(left.clone()).matches(&right), fold(&left) == fold(&right));
        }

        #[test]
        fn no_pattern_panics(pattern in ".{0,20}", text in ".{0,20}") {
            Glob(pattern).matches(&text);
        }
    }
}
