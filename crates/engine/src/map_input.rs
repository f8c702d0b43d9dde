//! From an item of a map to the words of a child's command (`docs/semantics.md`, section 3.1).

use bytes::Bytes;
use sortie_model::shell_quote::show_command;
use sortie_model::spec::OsBytes;
use sortie_model::{NodeName, limits};

/// One item of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapItem {
    /// Its number, from 1.
    pub number: u64,
    /// Its bytes, exactly as they came.
    pub bytes: Bytes,
}

/// Why an item cannot become a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadItem {
    /// The operating system takes no NUL byte in an argument.
    #[error("input {number} contains a NUL byte, which no argument can")]
    Nul {
        /// The item's number.
        number: u64,
    },
    /// The command would be too long.
    #[error("input {number} makes a command of more than {} bytes", limits::SPEC_BYTES)]
    TooLong {
        /// The item's number.
        number: u64,
    },
}

/// The words of a map's command, with the places where an item goes.
///
/// `{}` is the item, `{#}` its number, `{node}` the node that executes the child, anywhere in a
/// word and any number of times; what is put in is not looked at again. When no word has a `{}` the
/// item becomes one more word at the end.
#[derive(Debug, Clone)]
pub struct Template {
    words: Vec<Word>,
}

#[derive(Debug, Clone)]
enum Word {
    Fixed(OsBytes),
    Parts(Vec<Part>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(Bytes),
    Item,
    Number,
    Node,
}

impl Template {
    /// The template that these words are.
    pub fn new(words: &[OsBytes]) -> Self {
        let mut has_item = false;
        let mut parsed: Vec<_> = words
            .iter()
            .map(|word| {
                let parts = parts(word.as_bytes());
                has_item |= parts.contains(&Part::Item);
                let fixed = parts.iter().all(|part| matches!(part, Part::Text(_)));
                if fixed { Word::Fixed(word.clone()) } else { Word::Parts(parts) }
            })
            .collect();
        if !has_item {
            parsed.push(Word::Parts(vec![Part::Item]));
        }
        Self { words: parsed }
    }

    /// The words of one child.
    ///
    /// # Errors
    /// [`BadItem`] when the item holds a NUL byte or the words would pass [`limits::SPEC_BYTES`].
    pub fn fill(&self, item: &MapItem, node: &NodeName) -> Result<Vec<OsBytes>, BadItem> {
        let number = item.number;
        let digits = number.to_string();
        let mut room = limits::SPEC_BYTES;
        let mut words = Vec::with_capacity(self.words.len());
        for word in &self.words {
            let word = match word {
                Word::Fixed(word) => word.clone(),
                Word::Parts(parts) if parts == &[Part::Item] => os_bytes(item.bytes.clone(), item)?,
                Word::Parts(parts) => {
                    let values = parts.iter().map(|part| match part {
                        Part::Text(text) => text.as_ref(),
                        Part::Item => item.bytes.as_ref(),
                        Part::Number => digits.as_bytes(),
                        Part::Node => node.as_str().as_bytes(),
                    });
                    let length = values.clone().map(<[u8]>::len).sum::<usize>();
                    if length > room {
                        return Err(BadItem::TooLong { number });
                    }
                    os_bytes(values.collect::<Vec<_>>().concat().into(), item)?
                }
            };
            let length = word.as_bytes().len();
            room = room.checked_sub(length).ok_or(BadItem::TooLong { number })?;
            words.push(word);
        }
        Ok(words)
    }

    /// The command of one child as a view shows it: quoted and cut. An item that cannot become a
    /// command shows as it is.
    pub fn show(&self, item: &MapItem, node: &NodeName) -> String {
        match self.fill(item, node) {
            Ok(words) => show_command(words.iter().map(OsBytes::as_bytes)),
            Err(_) => show_command([&item.bytes]),
        }
    }
}

fn os_bytes(bytes: Bytes, item: &MapItem) -> Result<OsBytes, BadItem> {
    OsBytes::try_from(bytes).map_err(|_| BadItem::Nul { number: item.number })
}

const PLACES: [(&[u8], Part); 3] =
    [(b"{}", Part::Item), (b"{#}", Part::Number), (b"{node}", Part::Node)];

fn parts(word: &[u8]) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut text = Vec::new();
    let mut rest = word;
    while let Some((first, behind)) = rest.split_first() {
        let place = PLACES.iter().find_map(|(name, part)| Some((part, rest.strip_prefix(*name)?)));
        if let Some((part, after)) = place {
            if !text.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut text).into()));
            }
            parts.push(part.clone());
            rest = after;
        } else {
            text.push(*first);
            rest = behind;
        }
    }
    if !text.is_empty() {
        parts.push(Part::Text(text.into()));
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn item(bytes: &[u8], number: u64) -> MapItem {
        MapItem { number, bytes: Bytes::copy_from_slice(bytes) }
    }

    fn template(words: &[&str]) -> Template {
        let words: Vec<_> = words.iter().map(|word| OsBytes::try_from(*word).unwrap()).collect();
        Template::new(&words)
    }

    #[track_caller]
    fn check(words: &[&str], expected: &[&str]) {
        let node = "n1".parse().unwrap();
        let filled = template(words).fill(&item(b"a b", 7), &node).unwrap();
        let filled: Vec<_> =
            filled.iter().map(|word| std::str::from_utf8(word.as_bytes()).unwrap()).collect();
        assert_eq!(filled, expected);
    }

    #[test]
    fn places_are_filled_wherever_they_stand() {
        check(&["cp", "{}", "{}.bak"], &["cp", "a b", "a b.bak"]);
        check(&["x", "{}{}-{#}@{node}"], &["x", "a ba b-7@n1"]);
        check(&["{}"], &["a b"]);
    }

    #[test]
    fn without_a_place_the_item_comes_last() {
        check(&["cat"], &["cat", "a b"]);
        check(&["echo", "{#}", "{node}"], &["echo", "7", "n1", "a b"]);
    }

    #[test]
    fn what_only_looks_like_a_place_stays() {
        check(
            &["x", "{", "{}", "{ }", "{##}", "{nodes}", "}{"],
            &["x", "{", "a b", "{ }", "{##}", "{nodes}", "}{"],
        );
    }

    #[test]
    fn what_is_put_in_is_not_looked_at_again() {
        let filled = template(&["x", "{}"]).fill(&item(b"{#}{}", 1), &"n".parse().unwrap());
        assert_eq!(filled.unwrap()[1].as_bytes(), b"{#}{}");
    }

    #[test]
    fn an_item_that_no_command_can_hold_is_an_error() {
        let node: NodeName = "n".parse().unwrap();
        let nul = template(&["x"]).fill(&item(b"a\0b", 3), &node);
        assert_eq!(nul, Err(BadItem::Nul { number: 3 }));
        let many = "{}".repeat(limits::SPEC_BYTES / limits::MAP_LINE_BYTES + 1);
        let long = template(&[&many]).fill(&item(&vec![b'x'; limits::MAP_LINE_BYTES], 4), &node);
        assert_eq!(long, Err(BadItem::TooLong { number: 4 }));
        let words: Vec<_> = (0..5).map(|_| "{}").collect();
        let long = template(&words).fill(&item(&vec![b'x'; limits::MAP_LINE_BYTES], 4), &node);
        assert_eq!(long, Err(BadItem::TooLong { number: 4 }));
    }

    #[test]
    fn a_childs_command_is_shown_as_it_could_be_pasted() {
        let node = "n".parse().unwrap();
        assert_eq!(template(&["wc", "-c"]).show(&item(b"a b", 1), &node), "wc -c 'a b'");
        assert_eq!(template(&["wc"]).show(&item(b"a\0b", 1), &node), "$'a\\000b'");
    }

    proptest! {
        #[test]
        fn filling_agrees_with_replacing(
            words in prop::collection::vec(r"(\{\}|\{#\}|\{node\}|[{}#a])*", 1..4),
        ) {
            // None of the values put in can form a new place, so replacing in turn is the model.
            let mut expected: Vec<String> = words
                .iter()
                .map(|word| word.replace("{}", "<").replace("{#}", "7").replace("{node}", "n1"))
                .collect();
            if !words.iter().any(|word| word.contains("{}")) {
                expected.push("<".to_owned());
            }
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            let filled = template(&words).fill(&item(b"<", 7), &"n1".parse().unwrap()).unwrap();
            let filled: Vec<_> = filled.iter().map(OsBytes::as_bytes).collect();
            let expected: Vec<_> = expected.iter().map(String::as_bytes).collect();
            prop_assert_eq!(filled, expected);
        }
    }
}
