//! Wraps comments that are longer than a line may be, which rustfmt leaves as they are.

use std::path::Path;
use std::{fs, io};

use crate::tidy;
use crate::tidy::size::LINE_COLUMNS;

/// Wraps the comments of every Rust file below `root`.
///
/// # Errors
/// When the tree cannot be listed, or a file cannot be written.
pub(crate) fn wrap_files(root: &Path) -> io::Result<()> {
    for source in tidy::read(root)?.rust() {
        let wrapped = wrap(&source.text);
        if wrapped != source.text {
            fs::write(root.join(&source.path), wrapped)?;
        }
    }
    Ok(())
}

/// The text, with the last words of each comment line that is too long moved to the next one.
fn wrap(text: &str) -> String {
    let mut waiting: Vec<String> = text.lines().rev().map(str::to_owned).collect();
    let mut out = String::with_capacity(text.len());
    let mut in_example = false;
    while let Some(line) = waiting.pop() {
        let comment = comment(&line).map(|(prefix, words)| (prefix.to_owned(), words.to_owned()));
        in_example ^= comment.as_ref().is_some_and(|(_, words)| words.starts_with("```"));
        let cut = comment.filter(|(_, words)| !in_example && !words.starts_with('|')).and_then(
            |(prefix, words)| {
                let (kept, moved) = cut(&line, prefix.len())?;
                // What goes on below an item of a list is indented, or it would end the list.
                let indent = if words.starts_with(['*', '-']) { "  " } else { "" };
                Some((kept, moved, prefix + indent))
            },
        );
        let Some((kept, moved, prefix)) = cut else {
            out.push_str(&line);
            out.push('\n');
            continue;
        };
        out.push_str(kept);
        out.push('\n');
        let below = waiting.pop();
        waiting.extend(join(&prefix, moved, below));
    }
    out
}

/// The moved words in front of the line below when that goes on with the same paragraph; else on a
/// line of their own. In the order of a stack.
fn join(prefix: &str, moved: &str, below: Option<String>) -> Vec<String> {
    let goes_on = below.as_deref().and_then(comment).filter(|(other, words)| {
        let begins_anew = words.is_empty() || words.starts_with(['*', '-', '#', '|', '`', '1']);
        other.trim_end() == prefix.trim_end() && !begins_anew
    });
    match goes_on {
        Some((other, words)) => vec![format!("{other}{moved} {words}")],
        None => below.into_iter().chain([format!("{prefix}{moved}")]).collect(),
    }
}

/// The prefix of a comment line, blanks included, and its words.
fn comment(line: &str) -> Option<(&str, &str)> {
    let bare = line.trim_start();
    let marker = ["///", "//!", "//"].into_iter().find(|marker| bare.starts_with(marker))?;
    let words = bare.strip_prefix(marker)?.trim_start();
    line.split_at_checked(line.len() - words.len())
}

/// The line up to the last blank at which it is short enough, and the rest; none when it is short
/// enough already or has no such blank.
fn cut(line: &str, prefix: usize) -> Option<(&str, &str)> {
    let limit = line.char_indices().nth(LINE_COLUMNS).map(|(at, _)| at)?;
    let at = line.get(..=limit)?.rfind(' ').filter(|at| *at > prefix)?;
    Some((line.get(..at)?.trim_end(), line.get(at..)?.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(count: usize) -> String {
        "word ".repeat(count).trim_end().to_owned()
    }

    #[test]
    fn the_last_words_move_into_the_line_below() {
        let text = format!("    /// {}\n    /// end.\n", words(20));
        let wrapped = format!("    /// {}\n    /// word word end.\n", words(18));
        assert_eq!(wrap(&text), wrapped);
    }

    #[test]
    fn a_paragraph_ends_where_it_ended() {
        let text = format!("//! {}\n//!\n//! next\n", words(20));
        assert_eq!(wrap(&text), format!("//! {}\n//! word\n//!\n//! next\n", words(19)));
    }

    #[test]
    fn an_item_of_a_list_goes_on_indented() {
        let text = format!("/// * {}\n/// * next\n", words(20));
        assert_eq!(wrap(&text), format!("/// * {}\n///   word\n/// * next\n", words(19)));
    }

    #[test]
    fn code_examples_and_tables_stay_as_they_are() {
        for line in [format!("let a = \"{}\";\n", words(30)), format!("/// | {} |\n", words(30))] {
            assert_eq!(wrap(&line), line);
        }
        let example = format!("/// ```\n/// {}\n/// ```\n", words(30));
        assert_eq!(wrap(&example), example);
    }

    #[test]
    fn a_short_comment_and_a_word_without_end_stay_as_they_are() {
        let word = format!("// {}\n// {}\n", "a".repeat(97), "a".repeat(120));
        assert_eq!(wrap(&word), word);
    }
}
