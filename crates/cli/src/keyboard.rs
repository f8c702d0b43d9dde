//! What is typed at our terminal, on its way to a child's: bytes as they are, each at once, and the
//! window's size as it changes.

use bytes::{Bytes, BytesMut};
use sortie::{RequestError, TerminalSender, WindowSize};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::args::FileOrStdin;
use crate::args::terminal::TerminalArgs;
use crate::failure::Failure;
use crate::feed::Source;
use crate::terminal;

/// Our terminal, as far as a child's hears of it.
pub(crate) struct Keyboard {
    source: Source,
    resized: Signal,
    size: WindowSize,
    escape: Escape,
}

impl Keyboard {
    /// Opens it. Must be called within a runtime.
    ///
    /// # Errors
    /// A usage failure when our standard input is no terminal.
    pub(crate) fn open(args: TerminalArgs, what: &str) -> Result<Self, Failure> {
        if !terminal::is_ours() {
            let text = format!("{what} needs a terminal, and our standard input is none");
            return Err(Failure::usage(text).hint("`sortie invoke -i` passes any input on"));
        }
        let source = Source::open(&FileOrStdin::Stdin)?;
        // Listened to before the size is read, so that no change of it is missed.
        let resized = signal(SignalKind::window_change()).map_err(|error| {
            Failure::internal(format_args!("cannot listen for signals: {error}"))
        })?;
        let escape = if args.no_escape { Escape::None } else { Escape::AtLineStart };
        Ok(Self { source, resized, size: terminal::size(), escape })
    }

    /// The size of its window.
    pub(crate) const fn size(&self) -> WindowSize {
        self.size
    }

    /// Passes on what is typed, up to the end of the child.
    ///
    /// # Errors
    /// Also when the user leaves, and when our terminal is gone.
    pub(crate) async fn play(self, mut sender: TerminalSender) -> Result<(), Failure> {
        let Self { source, mut resized, mut size, mut escape } = self;
        let mut pieces = source.pieces();
        loop {
            let sent = tokio::select! {
                piece = pieces.recv() => {
                    let Some(Ok(piece)) = piece else {
                        return Err(Failure::interrupted("our terminal is gone"));
                    };
                    match escape.pass(&piece) {
                        Passed::On(keys) => sender.keys(keys).await,
                        Passed::Left => return Err(Failure::interrupted("left by `~.`")),
                    }
                }
                _ = resized.recv() => {
                    let now = terminal::size();
                    if now == std::mem::replace(&mut size, now) {
                        continue;
                    }
                    sender.resize(now).await
                }
            };
            match sent {
                // It has ended; its results say how.
                Err(RequestError::InputClosed) => return Ok(()),
                sent => sent?,
            }
        }
    }
}

/// How far the keys that leave a terminal were typed: `~.` at the beginning of a line. `~~` stands
/// for one `~` there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escape {
    /// Nothing leaves it.
    None,
    /// A line begins.
    AtLineStart,
    /// Something of a line was typed.
    InLine,
    /// A `~` was, which is held back.
    Begun,
}

/// What becomes of keys.
#[derive(Debug, PartialEq, Eq)]
enum Passed {
    /// These are typed.
    On(Bytes),
    /// The user leaves.
    Left,
}

impl Escape {
    fn pass(&mut self, keys: &Bytes) -> Passed {
        if *self == Self::None {
            return Passed::On(keys.clone());
        }
        let mut passed = BytesMut::with_capacity(keys.len() + 1);
        for key in keys {
            match (*self, key) {
                (Self::AtLineStart, b'~') => {
                    *self = Self::Begun;
                    continue;
                }
                (Self::Begun, b'.') => return Passed::Left,
                (Self::Begun, b'~') => {}
                (Self::Begun, _) => passed.extend_from_slice(b"~"),
                _ => {}
            }
            passed.extend_from_slice(&[*key]);
            *self = if matches!(key, b'\r' | b'\n') { Self::AtLineStart } else { Self::InLine };
        }
        Passed::On(passed.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(typed: &[&str], expected: Option<&str>) {
        let mut escape = Escape::AtLineStart;
        let mut all = Vec::new();
        for keys in typed {
            match escape.pass(&Bytes::copy_from_slice(keys.as_bytes())) {
                Passed::On(keys) => all.extend_from_slice(&keys),
                Passed::Left => return assert_eq!(expected, None),
            }
        }
        assert_eq!(expected.map(str::as_bytes), Some(all.as_slice()), "{typed:?}");
    }

    #[test]
    fn a_tilde_and_a_dot_at_the_beginning_of_a_line_leave() {
        check(&["~."], None);
        check(&["ls\r", "~", "."], None);
        check(&["ls\n~.more"], None);
        check(&["~~."], Some("~."));
        check(&["a~."], Some("a~."));
        check(&["~", "x."], Some("~x."));
        check(&["~\r~."], None);
        check(&["~"], Some(""));
    }

    #[test]
    fn every_byte_passes_where_nothing_leaves() {
        let all: Bytes = (0..=255).chain(*b"\r~.").collect();
        assert_eq!(Escape::None.pass(&all), Passed::On(all));
    }
}
