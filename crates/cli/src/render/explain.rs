//! One screen about a job: what happened so far, why it is where it is, and what to type next.

use std::fmt::Write;

use sortie::answer::{ChildExplanation, Explanation};
use sortie_model::{State, Timestamp};

use crate::program;
use crate::render::clean::{line_of_bytes, one_line};
use crate::render::failures::place;
use crate::render::json::child_name;
use crate::render::listing::{progress, time};
use crate::render::tree::restarts;

/// Lines of children's errors on one screen, all children together.
const ERROR_LINES: usize = 20;
/// States so far that are shown.
const STATES: usize = 12;

/// The screen.
pub(crate) fn screen(explanation: &Explanation) -> String {
    let mut lines = Lines::default();
    head(&mut lines, explanation);
    history(&mut lines, &explanation.history);
    children(&mut lines, explanation);
    for sentence in explanation.because.iter().chain(&explanation.job.notes) {
        lines.field("why", sentence);
    }
    for (index, command) in explanation.next.iter().enumerate() {
        lines.field(if index == 0 { "next" } else { "" }, command);
    }
    lines.text
}

#[derive(Default)]
struct Lines {
    text: String,
}

impl Lines {
    /// A word, and what there is to say about it.
    fn field(&mut self, word: &str, content: &str) {
        let _ = writeln!(self.text, "{word:<9} {}", one_line(content));
    }
}

fn head(lines: &mut Lines, explanation: &Explanation) {
    let job = &explanation.job;
    let name = one_line(&job.name);
    lines.field("job", &format!("{} {name}, {}: {}", job.id, job.kind.as_str(), job.state));
    lines.field("command", &job.command);
    lines.field("location", &job.location);
    if job.tally.total() != 1 || job.tally.open {
        lines.field("children", &tally(explanation));
    }
    if let Some(who) = &job.stopped_by {
        lines.field("stopped", &format!("by {who}"));
    }
    if !job.stop_pending.is_empty() {
        let nodes: Vec<&str> = job.stop_pending.iter().map(|node| node.as_str()).collect();
        lines.field("pending", &format!("the stop has not reached {}", nodes.join(", ")));
    }
}

/// `3/8 done, 1 failed (NotStarted 2, Running 3, …)`.
fn tally(explanation: &Explanation) -> String {
    let tally = &explanation.job.tally;
    let counts: Vec<String> = State::ALL
        .into_iter()
        .filter(|state| tally.of(*state) > 0)
        .map(|state| format!("{state} {}", tally.of(state)))
        .collect();
    let restarts = restarts(explanation.job.restarts);
    format!("{} ({}){restarts}", progress(tally), counts.join(", "))
}

fn history(lines: &mut Lines, history: &[(State, Timestamp)]) {
    let skipped = history.len().saturating_sub(STATES);
    if skipped > 0 {
        lines.field("states", &format!("… {skipped} earlier ones"));
    }
    for (index, (state, at)) in history.iter().skip(skipped).enumerate() {
        let word = if index == 0 && skipped == 0 { "states" } else { "" };
        lines.field(word, &format!("{} {state}", time(Some(*at))));
    }
}

fn children(lines: &mut Lines, explanation: &Explanation) {
    let mut errors_left = ERROR_LINES;
    for explained in &explanation.children {
        child(lines, explained, &mut errors_left);
    }
    let shown = explanation.children.len() as u64;
    let hidden = explanation.job.tally.total().saturating_sub(shown);
    if hidden > 0 && shown > 1 {
        let job = explanation.job.id;
        lines.field(
            "",
            &format!("… {hidden} more children: {} get {job} --children", program::name()),
        );
    }
}

fn child(lines: &mut Lines, explained: &ChildExplanation, errors_left: &mut usize) {
    let view = &explained.child;
    let mut sentence =
        format!("{} {} on {}: {}", view.id, child_name(view), place(&view.location), view.state);
    if let Some(reason) = &view.reason {
        let _ = write!(sentence, ", {reason}");
    }
    sentence.push_str(&restarts(view.restarts.into()));
    if let Some(position) = view.queue_position {
        let _ = write!(sentence, ", {position} before it");
    }
    if view.unread_bytes > 0 {
        let _ = write!(sentence, ", {} unread bytes", view.unread_bytes);
    }
    lines.field("child", &sentence);
    for note in &view.notes {
        lines.field("", note);
    }
    let skipped = explained.last_errors.len().saturating_sub(*errors_left);
    for line in explained.last_errors.iter().skip(skipped) {
        lines.field("", &format!("| {}", line_of_bytes(line)));
        *errors_left -= 1;
    }
}

#[cfg(test)]
mod tests {
    use sortie_model::EntryId;

    use super::*;
    use crate::render::listing::tests::{a_child, a_job};

    #[test]
    fn the_screen_goes_from_what_happened_to_what_to_type() {
        let child = ChildExplanation {
            child: a_child(),
            last_errors: vec![b"no\x1b[2J such file".to_vec()],
        };
        let explanation = Explanation {
            job: a_job(),
            children: vec![child],
            history: vec![
                (State::NotStarted, Timestamp(1_000_000)),
                (State::Running, Timestamp(2_500_000)),
            ],
            because: vec!["5 children run".to_owned()],
            next: vec!["sortie receive 1 --wait".to_owned(), "sortie stop 1".to_owned()],
        };
        assert_eq!(
            screen(&explanation),
            "job       1 web, remote: Running\n\
             command   sh -c 'echo \"x, y\"'\n\
             location  a,b\n\
             children  3/8 done, 1 failed (Running 5, Completed 2, Failed 1)\n\
             states    1970-01-01T00:00:01Z NotStarted\n          \
                       1970-01-01T00:00:02Z Running\n\
             child     2 Job2 on a: Failed, exited with status 3\n          \
                       | no[2J such file\n\
             why       5 children run\n\
             next      sortie receive 1 --wait\n          \
                       sortie stop 1\n"
        );
    }

    #[test]
    fn the_screen_stays_one_screen() {
        let mut child = a_child();
        let children = (0..20).map(|id| {
            child.id = EntryId(id);
            ChildExplanation { child: child.clone(), last_errors: vec![b"line".to_vec(); 20] }
        });
        let explanation = Explanation {
            job: a_job(),
            children: children.collect(),
            history: vec![(State::Running, Timestamp(0)); 100],
            because: Vec::new(),
            next: Vec::new(),
        };
        assert!(screen(&explanation).lines().count() < 60);
    }
}
