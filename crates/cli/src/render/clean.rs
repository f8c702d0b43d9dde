//! Text from elsewhere on its way to a terminal: names, paths, commands and errors lose their
//! control characters, so that nothing but a child's own output can move a cursor.

use std::borrow::Cow;

/// The text on one line: line breaks and tabs become spaces, other control characters vanish.
pub(crate) fn one_line(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unwanted) {
        return Cow::Borrowed(text);
    }
    let keep = |c: char| match c {
        '\n' | '\t' => Some(' '),
        c if is_unwanted(c) => None,
        c => Some(c),
    };
    Cow::Owned(text.chars().filter_map(keep).collect())
}

/// The bytes as one line of text; what is not UTF-8 becomes `\u{fffd}`.
pub(crate) fn line_of_bytes(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    one_line(&text).into_owned()
}

/// Control characters, and the marks that reverse the direction of what follows.
fn is_unwanted(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_character_passes() {
        assert_eq!(one_line("plain ä"), "plain ä");
        assert_eq!(one_line("a\nb\tc\r\u{7}\u{9b}31m\u{202e}d"), "a b c31md");
        assert_eq!(line_of_bytes(b"\x1b[2Jx\xff"), "[2Jx\u{fffd}");
    }
}
