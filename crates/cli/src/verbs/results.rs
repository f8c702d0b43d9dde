//! What `invoke` and `receive` share: which sink suits the children, and what their ends mean.

use std::io;

use sortie::ReceiveEnd;
use sortie::answer::{Failure as ChildFailure, Source};
use sortie_model::note::WITH_ANOTHER_READER;
use sortie_model::reason::SpawnStep;
use sortie_model::view::EntryView;
use sortie_model::{EntryId, Reason, Record, State};

use crate::args::invoke::LineArgs;
use crate::args::output::Look;
use crate::exit::{Ends, Outcome};
use crate::failure::Failure;
use crate::own_node::eprintln_quietly;
use crate::render::clean::one_line;
use crate::render::exact::ExactSink;
use crate::render::failures::sentences;
use crate::render::gather::GatherSink;
use crate::render::lines::{LineSink, Prefix};
use crate::render::out::Output;
use crate::render::progress::Screen;
use crate::render::records::{Events, JsonSink, NdjsonSink};
use crate::render::sheet::Format;
use crate::render::sink::{Channel, Channels, RecordSink};
use crate::verbs::{Nothing, report_notes, report_troubles};

/// Whose output comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// One child's.
    One,
    /// Several children's, told apart by their nodes.
    Several,
    /// A map's children's.
    Map,
}

/// Refuses a format that results do not have, before anything is done.
pub(super) fn check_format(look: &Look) -> Result<(), Failure> {
    match look.format() {
        None | Some(Format::Json | Format::Ndjson) if look.columns.is_empty() => Ok(()),
        _ => Err(no_columns()),
    }
}

fn no_columns() -> Failure {
    Failure::usage("results have no columns")
        .hint("`-o ndjson` gives records, `-o json` one document")
}

/// How output is put together.
pub(super) struct Style<'a> {
    pub(super) look: &'a Look,
    pub(super) lines: LineArgs,
    pub(super) shape: Shape,
    pub(super) events: Events,
}

impl Style<'_> {
    /// Whether the output is lines of several children, which end with their child.
    pub(super) fn needs_ends_of_children(&self) -> bool {
        self.shape != Shape::One && self.look.format().is_none()
    }

    /// The sink.
    pub(super) fn sink(&self, screen: &Screen) -> Result<Box<dyn RecordSink>, Failure> {
        let stdout = Output::stdout().map_err(|error| Failure::output(&error))?;
        let stderr = Output::stderr().map_err(|error| Failure::output(&error))?;
        let channels = Channels::new(Box::new(stdout), Box::new(stderr), screen.clone());
        let text: Box<dyn RecordSink> = match self.look.format() {
            Some(Format::Json) => return Ok(Box::new(JsonSink::new(channels))),
            Some(Format::Ndjson) => return Ok(Box::new(NdjsonSink::new(channels, self.events))),
            Some(_) => return Err(no_columns()),
            None if self.shape == Shape::One && !self.lines.prefix => {
                Box::new(ExactSink::new(channels))
            }
            None if self.lines.gather => Box::new(GatherSink::new(channels)),
            None => Box::new(LineSink::new(channels, self.prefix())),
        };
        if self.events == Events::Say {
            return Ok(Box::new(Announcing { inner: text, screen: screen.clone() }));
        }
        Ok(text)
    }

    const fn prefix(&self) -> Prefix {
        let LineArgs { prefix, no_prefix, .. } = self.lines;
        match self.shape {
            _ if prefix => Prefix::Node,
            _ if no_prefix => Prefix::None,
            Shape::Map => Prefix::None,
            Shape::One | Shape::Several => Prefix::Node,
        }
    }
}

/// Says on stderr when something settles (`--events`).
struct Announcing {
    inner: Box<dyn RecordSink>,
    screen: Screen,
}

impl RecordSink for Announcing {
    fn records(&mut self, source: &Source, records: &[Record]) -> io::Result<()> {
        self.inner.records(source, records)
    }

    fn end_of(&mut self, child: EntryId) -> io::Result<()> {
        self.inner.end_of(child)
    }

    fn settled(&mut self, entry: EntryId, state: State) -> io::Result<()> {
        self.inner.settled(entry, state)?;
        let line = format!("sortie: {entry} is {state}");
        self.screen.aside(Channel::Err, true, || eprintln_quietly(&line));
        Ok(())
    }

    fn holds_back(&self) -> bool {
        self.inner.holds_back()
    }

    fn write_held(&mut self) -> io::Result<()> {
        self.inner.write_held()
    }

    fn finish(&mut self, failures: &[ChildFailure]) -> io::Result<()> {
        self.inner.finish(failures)
    }

    fn break_off(&mut self, why: &Failure) -> io::Result<()> {
        self.inner.break_off(why)
    }
}

/// Whether a single child's exit status is said, or just passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PlainExits {
    /// It is said.
    Say,
    /// Our own status says it.
    PassOn,
}

/// Reports what failed, and gives everything that the exit status depends on.
pub(super) fn conclude(
    end: &ReceiveEnd,
    nothing: Nothing,
    plain: PlainExits,
    look: &Look,
) -> Outcome {
    let mut outcome = report_troubles(&end.entries, nothing, look);
    report_notes(&end.entries, look);
    report_others(end, look);
    outcome.ends = ends_of(end);
    let passes_on = plain == PlainExits::PassOn
        && outcome.ends.total() == 1
        && end.failures.iter().all(|failure| matches!(failure.reason, Reason::Exit { .. }));
    if !passes_on {
        report_failures(end, look);
    }
    outcome
}

/// Says of children what other readers have of them; of jobs it is a note.
fn report_others(end: &ReceiveEnd, look: &Look) {
    for entry in &end.entries.entries {
        let EntryView::Child(child) = entry else { continue };
        for note in child.notes.iter().filter(|note| note.contains(WITH_ANOTHER_READER)) {
            look.error_style().notice("note", format_args!("{}: {note}", child.id));
        }
    }
}

fn ends_of(end: &ReceiveEnd) -> Ends {
    let mut ends = Ends::default();
    let mut failed = 0_u64;
    for entry in &end.entries.entries {
        match entry {
            EntryView::Job(job) => {
                ends.add_job(job);
                failed = failed.saturating_add(job.tally.of(State::Failed));
            }
            EntryView::Child(child) => {
                ends.add(child.state, 1);
                failed = failed.saturating_add(u64::from(child.state == State::Failed));
            }
        }
    }
    end.failures.iter().for_each(|failure| ends.note_failure(&failure.reason));
    ends.note_unexplained(failed.saturating_sub(end.failures.len() as u64));
    ends
}

/// The command that could not be executed, where one command is what every failure is about.
fn unexecuted(end: &ReceiveEnd) -> Option<String> {
    let exec = |failure: &ChildFailure| {
        matches!(failure.reason, Reason::Spawn { step: SpawnStep::Exec, .. })
    };
    match end.entries.entries.as_slice() {
        [EntryView::Job(job)] if end.failures.iter().all(exec) => {
            Some(one_line(&job.command).into_owned())
        }
        _ => None,
    }
}

fn report_failures(end: &ReceiveEnd, look: &Look) {
    let command = unexecuted(end).map_or_else(String::new, |command| format!(": {command}"));
    for sentence in sentences(&end.failures, look.detail()) {
        look.error_style().notice("child_failed", format_args!("{sentence}{command}"));
    }
}
