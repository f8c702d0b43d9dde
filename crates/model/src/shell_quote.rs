//! Quoting words so that a shell reads them back, for people who paste what they see.
//!
//! Control characters and bytes that are not UTF-8 are written as `$'\033'`, which bash, zsh, ksh
//! and the POSIX shell of 2024 read, and which does a terminal no harm.

use crate::limits;

/// One word as a shell reads it back. `first` words are also kept from being read as an assignment
/// or a keyword.
fn push_word(word: &[u8], first: bool, to: &mut String) {
    match std::str::from_utf8(word) {
        Ok(text) if is_plain(text, first) => to.push_str(text),
        Ok(text) if !text.chars().any(needs_escape) => push_single_quoted(text, to),
        _ => push_escaped(word, to),
    }
}

/// The word, quoted where it needs to be.
pub fn quote_word(word: &[u8]) -> String {
    let mut text = String::new();
    push_word(word, false, &mut text);
    text
}

/// A whole command, quoted where it needs to be.
pub fn quote_command<W: AsRef<[u8]>>(words: impl IntoIterator<Item = W>) -> String {
    quote_up_to(words, usize::MAX)
}

/// A command as a view shows it: quoted, and cut with `…` to [`limits::COMMAND_SHOWN_BYTES`].
pub fn show_command<W: AsRef<[u8]>>(words: impl IntoIterator<Item = W>) -> String {
    cut_command(quote_up_to(words, limits::COMMAND_SHOWN_BYTES))
}

/// A command's text, cut with `…` to [`limits::COMMAND_SHOWN_BYTES`].
pub fn cut_command(mut text: String) -> String {
    if text.len() > limits::COMMAND_SHOWN_BYTES {
        let mut end = limits::COMMAND_SHOWN_BYTES - '…'.len_utf8();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Stops soon behind `limit` bytes, so that a script of megabytes is not quoted to show a line.
fn quote_up_to<W: AsRef<[u8]>>(words: impl IntoIterator<Item = W>, limit: usize) -> String {
    let mut text = String::new();
    for (place, word) in words.into_iter().enumerate() {
        if place > 0 {
            text.push(' ');
        }
        let word = word.as_ref();
        // A word grows when it is quoted, never shrinks.
        let mut room = limit.saturating_sub(text.len()).saturating_add(1);
        while word.get(room).is_some_and(|byte| byte & 0xc0 == 0x80) {
            room += 1;
        }
        push_word(word.get(..room).unwrap_or(word), place == 0, &mut text);
        if text.len() > limit {
            break;
        }
    }
    text
}

fn is_plain(text: &str, first: bool) -> bool {
    // A map's placeholder is no keyword and no expansion.
    if text == "{}" {
        return true;
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(&byte);
    let special = first && (text.contains('=') || KEYWORDS.contains(&text));
    !text.is_empty() && text.bytes().all(plain) && !special
}

/// Words that begin something else than a command, in sh and in bash.
const KEYWORDS: [&str; 17] = [
    "if", "then", "else", "elif", "fi", "do", "done", "case", "esac", "while", "until", "for",
    "in", "function", "select", "time", "coproc",
];

/// Characters that would change a terminal, or the order in which a line is read.
fn needs_escape(found: char) -> bool {
    let unseen = ['\u{200b}'..='\u{200f}', '\u{2028}'..='\u{202e}', '\u{2066}'..='\u{2069}'];
    found.is_control() || unseen.iter().any(|range| range.contains(&found))
}

fn push_single_quoted(text: &str, to: &mut String) {
    to.push('\'');
    to.push_str(&text.replace('\'', "'\\''"));
    to.push('\'');
}

fn push_escaped(word: &[u8], to: &mut String) {
    to.push_str("$'");
    for chunk in word.utf8_chunks() {
        for found in chunk.valid().chars() {
            match found {
                '\n' => to.push_str("\\n"),
                '\t' => to.push_str("\\t"),
                '\'' | '\\' => to.extend(['\\', found]),
                plain if !needs_escape(plain) => to.push(plain),
                special => push_octal(special.encode_utf8(&mut [0; 4]).as_bytes(), to),
            }
        }
        push_octal(chunk.invalid(), to);
    }
    to.push('\'');
}

/// Three octal digits for each byte: unlike `\x`, no digit that follows can join them.
fn push_octal(bytes: &[u8], to: &mut String) {
    for byte in bytes {
        to.push_str(&format!("\\{byte:03o}"));
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(words: &[&[u8]], expected: &str) {
        assert_eq!(quote_command(words), expected);
    }

    #[test]
    fn words_are_quoted_only_where_they_need_it() {
        check(&[b"echo", b"a-b_c.d/e:f,g@h%i+j=k"], "echo a-b_c.d/e:f,g@h%i+j=k");
        check(&[b"echo", b"", b"two words", b"it's"], "echo '' 'two words' 'it'\\''s'");
        check(&[b"echo", b"$HOME", b"*", b"~", b"#", b"!"], "echo '$HOME' '*' '~' '#' '!'");
        check(&[b"sha256sum", b"{}", b"{a,b}", b"{#}"], "sha256sum {} '{a,b}' '{#}'");
        check(&[b"A=b", b"A=b"], "'A=b' A=b");
        check(&[b"if", b"if"], "'if' if");
        check(&["é".as_bytes(), "日本".as_bytes()], "'é' '日本'");
    }

    #[test]
    fn control_and_foreign_bytes_never_reach_a_terminal() {
        check(&[b"a\nb"], "$'a\\nb'");
        check(&[b"\x1b[31m'\\"], "$'\\033[31m\\'\\\\'");
        check(&[b"\xff\xfe7"], "$'\\377\\3767'");
        check(&["\u{9b}x\u{202e}".as_bytes()], "$'\\302\\233x\\342\\200\\256'");
    }

    #[test]
    fn a_long_command_is_cut() {
        let word = "é".repeat(limits::COMMAND_SHOWN_BYTES);
        for program in ["echo", "echos"] {
            let shown = show_command([program.as_bytes(), word.as_bytes()]);
            assert!(shown.len() <= limits::COMMAND_SHOWN_BYTES && shown.ends_with("é…"));
            assert!(shown.len() > limits::COMMAND_SHOWN_BYTES - 3);
        }
        let many = vec!["x"; limits::COMMAND_SHOWN_BYTES];
        let shown = show_command(many);
        assert!(shown.len() <= limits::COMMAND_SHOWN_BYTES && shown.ends_with('…'), "{shown}");
        assert_eq!(show_command(["echo", "a b"]), "echo 'a b'");
    }

    /// What the shell takes the words for, one per line of hexadecimal digits.
    fn read_by(shell: &str, words: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let words = words.iter().map(Vec::as_slice);
        let command = quote_command([&b"-"[..]].into_iter().chain(words));
        let script = format!("printf '%s\\0' {command}");
        let output = Command::new(shell).arg("-c").arg(&script).output().unwrap();
        assert!(output.status.success(), "{script}: {output:?}");
        let mut read: Vec<_> = output.stdout.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
        assert_eq!(read.pop().as_deref(), Some(&[][..]));
        read.split_off(1)
    }

    fn words(byte: impl Strategy<Value = u8>) -> impl Strategy<Value = Vec<Vec<u8>>> {
        prop::collection::vec(prop::collection::vec(byte, 0..12), 1..40)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn sh_reads_printable_words_back(words in words(0x20..0x7f_u8)) {
            prop_assert_eq!(read_by("sh", &words), words);
        }

        #[test]
        fn bash_reads_any_words_back(words in words(1..=255_u8)) {
            prop_assert_eq!(read_by("bash", &words), words);
        }

        #[test]
        fn nothing_shown_has_a_control_character(words in words(any::<u8>())) {
            prop_assert!(!show_command(&words).contains(needs_escape));
        }
    }
}
