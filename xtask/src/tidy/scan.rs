//! A lexical view of Rust: enough to tell code from comments and strings, and a function from its
//! neighbours. It knows no grammar, so a rule built on it names tokens, never meanings.

/// A word or a single character of code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) text: &'a str,
    /// From 1.
    pub(crate) line: usize,
}

/// The text with comments and the contents of literals turned into spaces. Lines stay as they are.
pub(crate) fn mask(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let in_word = out.ends_with(|last: char| last.is_alphanumeric() || last == '_');
        let (length, keep) = match first {
            '/' if rest.starts_with("//") => (rest.find('\n').unwrap_or(rest.len()), 0),
            '/' if rest.starts_with("/*") => (block_comment(rest), 0),
            '"' => (string(rest), 1),
            '\'' => (character(rest).unwrap_or(1), 1),
            'r' | 'b' | 'c' if !in_word => match raw_string(rest) {
                Some(length) => (length, 1),
                None => (1, 1),
            },
            other => (other.len_utf8(), other.len_utf8()),
        };
        let (taken, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
        let (kept, hidden) = taken.split_at_checked(keep).unwrap_or((taken, ""));
        out.push_str(kept);
        out.extend(hidden.chars().map(|hidden| if hidden == '\n' { '\n' } else { ' ' }));
        rest = after;
    }
    out
}

fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut before = ' ';
    for (at, now) in text.char_indices() {
        match (before, now) {
            ('/', '*') => (depth, before) = (depth + 1, ' '),
            ('*', '/') => (depth, before) = (depth.saturating_sub(1), ' '),
            _ => {
                before = now;
                continue;
            }
        }
        if depth == 0 {
            return at + 1;
        }
    }
    text.len()
}

fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, now) in text.char_indices().skip(1) {
        match now {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of a character literal; none for a lifetime.
fn character(text: &str) -> Option<usize> {
    let mut chars = text.char_indices().skip(1);
    let (_, first) = chars.next()?;
    if first == '\\' {
        chars.next()?;
        return chars.find(|(_, now)| *now == '\'').map(|(at, _)| at + 1);
    }
    chars.next().filter(|(_, now)| *now == '\'').map(|(at, _)| at + 1)
}

/// The length of `r"…"`, `br#"…"#` and their like; none when none starts here.
fn raw_string(text: &str) -> Option<usize> {
    let body = text.trim_start_matches(['b', 'c']);
    let hashes_on = body.strip_prefix('r')?;
    if text.len() - body.len() > 1 {
        return None;
    }
    let quoted = hashes_on.trim_start_matches('#');
    let hashes = hashes_on.len() - quoted.len();
    let content = quoted.strip_prefix('"')?;
    let closing = format!("\"{}", "#".repeat(hashes));
    let end = content.find(&closing).map_or(content.len(), |at| at + closing.len());
    Some(text.len() - content.len() + end)
}

/// The words and characters of masked code.
pub(crate) fn tokens(code: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let is_word = |now: char| now.is_alphanumeric() || now == '_';
            let length = if is_word(first) {
                rest.find(|now| !is_word(now)).unwrap_or(rest.len())
            } else {
                first.len_utf8()
            };
            let (text, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
            tokens.push(Token { text, line: number + 1 });
            rest = after.trim_start();
        }
    }
    tokens
}

/// Whether the tokens begin with those texts.
pub(crate) fn starts_with(tokens: &[Token<'_>], texts: &[&str]) -> bool {
    tokens.len() >= texts.len() && tokens.iter().zip(texts).all(|(token, text)| token.text == *text)
}

/// How many tokens an item has: up to its `;`, or the end of its first block.
pub(crate) fn item_length(tokens: &[Token<'_>]) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" => depth = depth.saturating_sub(1),
            "}" => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            ";" if depth == 0 => return at + 1,
            _ => {}
        }
    }
    tokens.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        tokens(&mask(text)).iter().map(|token| token.text.to_owned()).collect()
    }

    #[test]
    fn comments_and_literals_are_not_code() {
        assert_eq!(words("a // b\nc /* d /* e */ f */ g"), ["a", "c", "g"]);
        assert_eq!(words(r#"a "b \" c" d"#), ["a", "\"", "d"]);
        assert_eq!(words(r##"r#"b " c"# d"##), ["r", "d"]);
        assert_eq!(words("br\"b\" d"), ["b", "d"]);
        assert_eq!(words(r"'{' '\'' 'é' b"), ["'", "'", "'", "b"]);
    }

    #[test]
    fn lifetimes_and_raw_names_are_code() {
        assert_eq!(words("&'a str"), ["&", "'", "a", "str"]);
        assert_eq!(words("r#type"), ["r", "#", "type"]);
        assert_eq!(words("for"), ["for"]);
    }

    #[test]
    fn masking_keeps_lines() {
        let text = "a /* b\n c */ \"d\ne\" f";
        assert_eq!(mask(text).lines().count(), text.lines().count());
        assert_eq!(
            tokens(&mask(text)).last().map(|token| (token.text, token.line)),
            Some(("f", 3))
        );
    }

    #[test]
    fn an_item_ends_with_its_block_or_its_semicolon() {
        let length = |text: &str| item_length(&tokens(text));
        assert_eq!(length("fn a(b: [u8; 4]) { c; } d"), 15);
        assert_eq!(length("const A: [u8; 4] = B; c"), 11);
    }
}
