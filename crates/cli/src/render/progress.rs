//! The progress line: on stderr, only on a terminal, only for what lasts, and never inside a line
//! of output.

use std::io::IsTerminal;
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
    state: Option<Arc<Mutex<Terminal>>>,
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
    retired: bool,
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
            retired: false,
        };
        Self { state: Some(Arc::new(Mutex::new(state))) }
    }

    /// One that shows nothing.
    pub(crate) const fn silent() -> Self {
        Self { state: None }
    }

    /// Whether anybody sees a progress line.
    pub(crate) const fn is_watched(&self) -> bool {
        self.state.is_some()
    }

    /// Writes beside the progress line, which is out of the way meanwhile and does not come back
    /// before the channel is at the end of a line.
    pub(crate) fn aside<R>(
        &self,
        channel: Channel,
        ends_line: bool,
        write: impl FnOnce() -> R,
    ) -> R {
        let Some(mut state) = self.lock() else { return write() };
        let on_terminal = channel == Channel::Err || state.out_is_terminal;
        if !on_terminal {
            drop(state);
            return write();
        }
        let [out, err] = &mut state.open;
        *(if channel == Channel::Out { out } else { err }) = !ends_line;
        if state.open.contains(&true) {
            state.clear();
        }
        // A terminal may block; what shows the progress must not wait for it meanwhile.
        state.writing = true;
        let bar = state.bar.clone();
        drop(state);
        let written = match bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        };
        if let Some(mut state) = self.lock() {
            state.writing = false;
        }
        written
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
        }
    }

    fn lock(&self) -> Option<MutexGuard<'_, Terminal>> {
        let state = self.state.as_ref()?;
        Some(state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Terminal {
    fn has_room(&self) -> bool {
        !self.retired && !self.writing && !self.open.contains(&true)
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
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
            _ if tally.of(State::Stopping) == 1 => "stopping",
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
    let stopping = tally.of(State::Stopping);
    if stopping > 0 {
        text.push_str(&format!(", {stopping} stopping"));
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
    }

    #[test]
    fn a_silent_screen_lets_everything_pass() {
        let screen = Screen::silent();
        screen.show(&tally(1, 0, 0, 0));
        assert_eq!(screen.aside(Channel::Out, false, || 7), 7);
    }
}
