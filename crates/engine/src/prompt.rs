//! When the output of a process asks something: its last unfinished line ends with the mark of its
//! prompt (`docs/semantics.md`, section 2.3).
//!
//! Stdout and stderr have a line each. Which of the two was written first is not known, so what
//! comes on one leaves the question of the other as it is.

use sortie_model::question::PromptMark;
use sortie_model::{Stream, limits};

/// What the process asks changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PromptChange {
    /// It asks that, and nothing else any more: at most [`limits::PROMPT_BYTES`].
    Asks(String),
    /// It asks nothing any more: it wrote on.
    Withdrawn,
}

/// Looks at what one process writes, in one of its lives.
#[derive(Debug)]
pub struct PromptWatch {
    mark: PromptMark,
    output: Line,
    error: Line,
    asking: Option<Stream>,
}

/// The end of a line that is not finished, at most [`limits::PROMPT_BYTES`].
#[derive(Debug, Default)]
struct Line(Vec<u8>);

impl PromptWatch {
    /// A process that has not written anything.
    pub fn new(mark: PromptMark) -> Self {
        Self { mark, output: Line::default(), error: Line::default(), asking: None }
    }

    /// The process wrote that; none when it asks what it asked before.
    pub fn on_output(&mut self, stream: Stream, bytes: &[u8]) -> Option<PromptChange> {
        let mark = self.mark.as_str().as_bytes();
        let (line, other, other_stream) = match stream {
            Stream::Output => (&mut self.output, &self.error, Stream::Error),
            Stream::Error => (&mut self.error, &self.output, Stream::Output),
            _ => return None,
        };
        if bytes.is_empty() {
            return None;
        }
        line.write(bytes);
        let before = self.asking;
        if line.0.ends_with(mark) {
            self.asking = Some(stream);
            return Some(PromptChange::Asks(line.shown()));
        }
        if other.0.ends_with(mark) {
            self.asking = Some(other_stream);
            let is_new = before != self.asking;
            return is_new.then(|| PromptChange::Asks(other.shown()));
        }
        self.asking = None;
        before.map(|_| PromptChange::Withdrawn)
    }

    /// Something was written to its input: it asks nothing any more, and what it writes now begins
    /// a line, as at a terminal.
    pub fn on_input(&mut self) {
        self.output.0.clear();
        self.error.0.clear();
        self.asking = None;
    }
}

impl Line {
    fn write(&mut self, bytes: &[u8]) {
        let finished = bytes.iter().rposition(|byte| *byte == b'\n');
        if finished.is_some() {
            self.0.clear();
        }
        let rest = bytes.get(finished.map_or(0, |at| at + 1)..).unwrap_or_default();
        let rest = rest.get(rest.len().saturating_sub(limits::PROMPT_BYTES)..).unwrap_or_default();
        let surplus = (self.0.len() + rest.len()).saturating_sub(limits::PROMPT_BYTES);
        self.0.drain(..surplus.min(self.0.len()));
        self.0.extend_from_slice(rest);
    }

    /// The line as a text: what is behind its last carriage return, and of a long one its end.
    fn shown(&self) -> String {
        let visible = self.0.rsplit(|byte| *byte == b'\r').next().unwrap_or_default();
        let visible = if visible.is_empty() { &self.0 } else { visible };
        let mut text = String::from_utf8_lossy(visible).into_owned();
        // What is no UTF-8 is longer as a text.
        let mut from = text.len().saturating_sub(limits::PROMPT_BYTES);
        while !text.is_char_boundary(from) {
            from += 1;
        }
        text.split_off(from)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sortie_model::Stream::{Error, Information, Output};

    use super::*;

    fn watch() -> PromptWatch {
        PromptWatch::new("? ".parse().expect("a mark"))
    }

    fn asks(text: &str) -> Option<PromptChange> {
        Some(PromptChange::Asks(text.to_owned()))
    }

    #[track_caller]
    fn check(written: &[(Stream, &str)], expected: &[Option<PromptChange>]) {
        let mut watch = watch();
        let changes =
            written.iter().map(|(stream, bytes)| watch.on_output(*stream, bytes.as_bytes()));
        assert_eq!(changes.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_last_unfinished_line_asks_however_it_was_read() {
        check(&[(Output, "hello\nname? ")], &[asks("name? ")]);
        check(&[(Output, "na"), (Output, "me?"), (Output, " ")], &[None, None, asks("name? ")]);
        check(&[(Error, "name? "), (Error, "sure? ")], &[asks("name? "), asks("name? sure? ")]);
        check(&[(Output, "50%\r100%\rgo? ")], &[asks("go? ")]);
        check(&[(Information, "name? "), (Output, "")], &[None, None]);
    }

    #[test]
    fn what_is_written_on_withdraws_the_question() {
        check(&[(Output, "name? \n")], &[None]);
        check(
            &[(Output, "name? "), (Output, "\n")],
            &[asks("name? "), Some(PromptChange::Withdrawn)],
        );
        check(
            &[(Output, "a? "), (Output, "b"), (Output, "? ")],
            &[asks("a? "), Some(PromptChange::Withdrawn), asks("a? b? ")],
        );
    }

    #[test]
    fn each_stream_has_a_line_of_its_own() {
        check(&[(Error, "name? "), (Output, "busy\n")], &[asks("name? "), None]);
        check(&[(Output, "busy"), (Error, "name? ")], &[None, asks("name? ")]);
        check(
            &[(Error, "a? "), (Output, "b? "), (Output, "\n"), (Error, "\n")],
            &[asks("a? "), asks("b? "), asks("a? "), Some(PromptChange::Withdrawn)],
        );
    }

    #[test]
    fn what_is_answered_is_asked_no_more_and_a_new_line_begins() {
        let mut watch = watch();
        assert_eq!(watch.on_output(Output, b"name? "), asks("name? "));
        watch.on_input();
        assert_eq!(watch.on_output(Error, b"log\n"), None);
        assert_eq!(watch.on_output(Output, b"age? "), asks("age? "));
    }

    #[test]
    fn a_question_is_short_and_a_text_whatever_was_written() {
        let mut watch = watch();
        let mut long = vec![0xff; 3 * limits::PROMPT_BYTES];
        long.extend_from_slice(b"really? ");
        let Some(PromptChange::Asks(text)) = watch.on_output(Output, &long) else {
            panic!("it asks")
        };
        assert!(text.len() <= limits::PROMPT_BYTES && text.ends_with("\u{fffd}really? "));
        let text = "ä".repeat(limits::PROMPT_BYTES) + "? ";
        let mut watch = self::watch();
        let Some(PromptChange::Asks(shown)) = watch.on_output(Output, text.as_bytes()) else {
            panic!("it asks")
        };
        assert!(shown.len() <= limits::PROMPT_BYTES && shown.ends_with("ää? "));
    }

    proptest! {
        #[test]
        fn cuts_between_reads_change_nothing_in_the_end(
            text in "[a?\n ]{0,40}",
            cuts in prop::collection::vec(0_usize..40, 0..6),
        ) {
            let (mut whole, mut cut) = (watch(), watch());
            let at_once = whole.on_output(Output, text.as_bytes());
            let mut cuts: Vec<usize> = cuts.into_iter().map(|at| at.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let mut last = None;
            for ends in cuts.windows(2) {
                last = cut.on_output(Output, &text.as_bytes()[ends[0]..ends[1]]).or(last);
            }
            let asked = |change| match change {
                Some(PromptChange::Asks(text)) => Some(text),
                Some(PromptChange::Withdrawn) | None => None,
            };
            prop_assert_eq!(asked(at_once), asked(last));
        }
    }
}
