//! The progress line: on stderr, only on a terminal, only for what lasts, and never inside a line
//! of output. And the prompt of a question, which stands below what comes meanwhile.

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sortie_model::State;
use sortie_model::view::Tally;

use crate::render::sink::Channel;

/// What takes less time than this shows no progress line.
const PATIENCE: Duration = Duration::from_secs(1);
/// Redraws in a second, at most.
const REDRAWS: u8 = 10;

/// The terminal behind stderr, shared by the progress line and by what is written beside it.
#[derive(Clone, Debug)]
pub(crate) struct Screen {
    shared: Option<Arc<Shared>>,
}

#[derive(Debug)]
struct Shared {
    terminal: Mutex<Terminal>,
    /// Held by the one who writes to the terminal.
    pen: Mutex<()>,
}

#[derive(Debug)]
struct Terminal {
    since: Instant,
    bar: Option<ProgressBar>,
    out_is_terminal: bool,
    /// A channel that stands in the middle of a line on the terminal.
    open: [bool; 2],
    /// Something is being written beside the progress line.
    writing: bool,
    /// What is asked.
    prompt: Option<Prompt>,
    retired: bool,
}

/// A question at the terminal. Whatever is written while it waits for its answer comes on lines of
/// its own, and the prompt stands below it again.
#[derive(Debug)]
struct Prompt {
    text: String,
    /// The cursor stands behind it.
    shown: bool,
}

impl Prompt {
    /// What to write before something else.
    fn make_room(&mut self) -> &'static str {
        if std::mem::take(&mut self.shown) { "\n" } else { "" }
    }

    /// What to write once that is at the end of a line.
    fn come_back(&mut self) -> String {
        self.shown = true;
        self.text.clone()
    }
}

impl Screen {
    /// The real one: silent unless stderr is a terminal.
    pub(crate) fn of_stderr() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::silent();
        }
        let state = Terminal {
            since: Instant::now(),
            bar: None,
            out_is_terminal: std::io::stdout().is_terminal(),
            open: [false, false],
            writing: false,
            prompt: None,
            retired: false,
        };
        let shared = Shared { terminal: Mutex::new(state), pen: Mutex::default() };
        Self { shared: Some(Arc::new(shared)) }
    }

    /// One that shows nothing.
    pub(crate) const fn silent() -> Self {
        Self { shared: None }
    }

    /// Whether anybody sees a progress line.
    pub(crate) const fn is_watched(&self) -> bool {
        self.shared.is_some()
    }

    /// Writes beside the progress line, which is out of the way meanwhile and does not come back
    /// before the channel is at the end of a line.
    pub(crate) fn aside<R>(
        &self,
        channel: Channel,
        ends_line: bool,
        write: impl FnOnce() -> R,
    ) -> R {
        let Some(shared) = &self.shared else { return write() };
        if channel == Channel::Out && !shared.terminal().out_is_terminal {
            return write();
        }
        let _pen = shared.pen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = shared.terminal();
        let [out, err] = &mut state.open;
        *(if channel == Channel::Out { out } else { err }) = !ends_line;
        if state.open.contains(&true) {
            state.clear();
        }
        // A terminal may block; what shows the progress must not wait for it meanwhile.
        state.writing = true;
        let bar = state.bar.clone();
        let room = state.prompt.as_mut().map_or("", Prompt::make_room);
        drop(state);
        eprint_quietly(room);
        let written = match bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        };
        let mut state = shared.terminal();
        state.writing = false;
        let at_end = !state.open.contains(&true);
        let prompt = state.prompt.as_mut().filter(|_| at_end).map(Prompt::come_back);
        drop(state);
        eprint_quietly(&prompt.unwrap_or_default());
        written
    }

    /// Shows a prompt, which stays the last line until it is answered.
    pub(crate) fn ask(&self, prompt: String) {
        let Some(shared) = &self.shared else { return eprint_quietly(&prompt) };
        let _pen = shared.pen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = shared.terminal();
        state.clear();
        state.prompt = Some(Prompt { text: prompt.clone(), shown: true });
        drop(state);
        eprint_quietly(&prompt);
    }

    /// The prompt has its line, whose end the terminal shows; or it gets none.
    pub(crate) fn answered(&self, line: Typed) {
        if let Some(shared) = &self.shared {
            shared.terminal().prompt = None;
        }
        if line == Typed::Nothing {
            eprint_quietly("\n");
        }
    }

    /// Shows how far the job is, once it has lasted.
    pub(crate) fn show(&self, tally: &Tally) {
        let Some(mut state) = self.lock() else { return };
        let elapsed = state.since.elapsed();
        if elapsed < PATIENCE || !state.has_room() {
            return;
        }
        state.bar.get_or_insert_with(new_bar).set_message(sentence(tally, elapsed));
    }

    /// Removes the progress line for good.
    pub(crate) fn retire(&self) {
        if let Some(mut state) = self.lock()
            && !state.retired
        {
            state.retired = true;
            state.clear();
            let room = state.prompt.take().map_or("", |mut prompt| prompt.make_room());
            drop(state);
            eprint_quietly(room);
        }
    }

    fn lock(&self) -> Option<MutexGuard<'_, Terminal>> {
        self.shared.as_deref().map(Shared::terminal)
    }
}

/// What was typed at a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Typed {
    /// A line.
    Line,
    /// The end of the input.
    Nothing,
}

impl Shared {
    fn terminal(&self) -> MutexGuard<'_, Terminal> {
        self.terminal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Terminal {
    fn has_room(&self) -> bool {
        let quiet = !self.writing && self.prompt.is_none() && !self.open.contains(&true);
        quiet && !self.retired
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn eprint_quietly(text: &str) {
    // A stderr that cannot be written to has nobody who reads it.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

fn new_bar() -> ProgressBar {
    let target = ProgressDrawTarget::stderr_with_hz(REDRAWS);
    let bar = ProgressBar::with_draw_target(None, target);
    match ProgressStyle::with_template("{spinner} {msg}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// `37/120 done, 2 failed, 32 running, 12/s, about 7s left`; of a single child `running, 7s`.
pub(crate) fn sentence(tally: &Tally, elapsed: Duration) -> String {
    if tally.total() == 1 && !tally.open {
        let word = match tally {
            _ if tally.of(State::NotStarted) == 1 => "waiting",
            _ if tally.of(State::Blocked) == 1 => "blocked",
            _ if tally.of(State::Stopping) == 1 => "stopping",
            _ if tally.of(State::Suspended) == 1 => "suspended",
            _ => "running",
        };
        return format!("{word}, {}", span(elapsed));
    }
    let done = tally.finished();
    let total = if tally.open { "?".to_owned() } else { tally.total().to_string() };
    let mut text = format!("{done}/{total} done");
    let failed = tally.of(State::Failed);
    if failed > 0 {
        text.push_str(&format!(", {failed} failed"));
    }
    text.push_str(&format!(", {} running", tally.of(State::Running)));
    let others = [
        (State::Blocked, "blocked"),
        (State::Suspended, "suspended"),
        (State::Stopping, "stopping"),
    ];
    for (count, word) in others.map(|(state, word)| (tally.of(state), word)) {
        if count > 0 {
            text.push_str(&format!(", {count} {word}"));
        }
    }
    let rate = done as f64 / elapsed.as_secs_f64().max(f64::EPSILON);
    if done > 1 {
        text.push_str(&format!(", {}/s", rounded(rate)));
        let left = tally.total().saturating_sub(done);
        if !tally.open && left > 0 {
            let seconds = (left as f64 / rate).max(1.0);
            text.push_str(&format!(", about {} left", span(Duration::from_secs_f64(seconds))));
        }
    } else {
        text.push_str(&format!(", {}", span(elapsed)));
    }
    text
}

fn rounded(rate: f64) -> String {
    if rate < 10.0 { format!("{rate:.1}") } else { format!("{rate:.0}") }
}

/// A length of time for people: `7s`, `2m 5s`, `3h 20m`.
pub(crate) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m {seconds}s"),
        (hours, minutes, _) => format!("{hours}h {minutes}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(completed: u64, failed: u64, running: u64, queued: u64) -> Tally {
        let mut tally = Tally::default();
        for (state, count) in [
            (State::Completed, completed),
            (State::Failed, failed),
            (State::Running, running),
            (State::NotStarted, queued),
        ] {
            tally.by_state[state as usize] = count;
        }
        tally
    }

    #[test]
    fn the_line_says_how_far_and_how_long() {
        let at = |tally: &Tally, seconds| sentence(tally, Duration::from_secs(seconds));
        let some = tally(35, 2, 32, 51);
        assert_eq!(at(&some, 10), "37/120 done, 2 failed, 32 running, 3.7/s, about 22s left");
        let open = Tally { open: true, ..tally(40, 0, 32, 0) };
        assert_eq!(at(&open, 2), "40/? done, 32 running, 20/s");
        let mut stopping = tally(3, 0, 0, 0);
        stopping.by_state[State::Stopping as usize] = 2;
        assert_eq!(at(&stopping, 2), "3/5 done, 0 running, 2 stopping, 1.5/s, about 1s left");
        assert_eq!(at(&tally(0, 0, 2, 0), 75), "0/2 done, 2 running, 1m 15s");
        assert_eq!(at(&tally(0, 0, 1, 0), 7), "running, 7s");
        let mut blocked = tally(1, 0, 1, 0);
        blocked.by_state[State::Blocked as usize] = 1;
        assert_eq!(at(&blocked, 2), "1/3 done, 1 running, 1 blocked, 2s");
    }

    #[test]
    fn a_prompt_stands_below_what_is_written_while_it_waits() {
        let mut prompt = Prompt { text: "2 asks: name? ".to_owned(), shown: true };
        assert_eq!(prompt.make_room(), "\n");
        // What follows within that line needs no room any more.
        assert_eq!(prompt.make_room(), "");
        assert_eq!(prompt.come_back(), "2 asks: name? ");
        assert_eq!(prompt.make_room(), "\n");
    }

    #[test]
    fn a_silent_screen_lets_everything_pass() {
        let screen = Screen::silent();
        screen.show(&tally(1, 0, 0, 0));
        assert_eq!(screen.aside(Channel::Out, false, || 7), 7);
    }
}
