//! What a job shows of itself and of its children.

use sortie_model::spec::{BodySpec, InputSpec, JobSpec, Placement, RunIn, StopSpec};
use sortie_model::view::{Kind, Progress};
use sortie_model::{
    ChildView, EntryId, JobView, NodeName, Ordinal, Reason, State, Timestamp, limits,
};
use sortie_wire::host_proto::{ChildOutcome, Verdict};

use crate::aggregate::{Outlook, StateCounts, Told};
use crate::map_input::{MapItem, Template};
use crate::notices::{Life, LifeEnd};
use crate::parent_job::row::{Phase, Row};
use crate::parent_job::{JobIdentity, ParentJob};
use crate::throttle::Line;

/// What a child's mailbox adds to its view.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MailboxFacts {
    /// Whether a record is unread.
    pub unread: bool,
    /// How many bytes are unread.
    pub unread_bytes: u64,
    /// Whether the error stream is not empty.
    pub with_errors: bool,
    /// What it reported last.
    pub progress: Option<Progress>,
    /// How many records were dropped.
    pub dropped_records: u64,
    /// Bytes of those.
    pub dropped_bytes: u64,
    /// Why its producer pauses.
    pub paused: Option<String>,
    /// What the user should know: dropped records, a full mailbox.
    pub notes: Vec<String>,
}

impl ParentJob {
    /// What identifies the job.
    pub const fn identity(&self) -> &JobIdentity {
        &self.identity
    }

    /// What was submitted.
    pub const fn spec(&self) -> &JobSpec {
        &self.spec
    }

    /// The job's state: a function of its children's.
    pub const fn state(&self) -> State {
        self.state
    }

    /// Whether the job as a whole was told to stop.
    pub fn told_to_stop(&self) -> bool {
        self.told == Told::Stop
    }

    /// When the last child ended.
    pub const fn end_time(&self) -> Option<Timestamp> {
        self.end
    }

    /// How many children are in which state.
    pub const fn counts(&self) -> &StateCounts {
        &self.counts
    }

    /// Children in progress, children that wait for a slot, and the bound.
    pub const fn line(&self) -> &Line {
        &self.line
    }

    /// Whether a child outlives the daemon of the node that it runs on: the guardian keeps
    /// processes, but not those at a terminal.
    pub const fn outlives_its_node(&self) -> bool {
        let is_function = matches!(self.spec.body, BodySpec::Task { .. });
        !is_function && !matches!(self.spec.input, InputSpec::Terminal(_))
    }

    /// Children that may yet come or begin.
    pub fn outlook(&self) -> Outlook {
        let in_line = if self.told == Told::Suspend { self.line.waiting() } else { 0 };
        let held = in_line + self.suspensions.held;
        Outlook { open: self.open, held, broke_off: self.broke_off }
    }

    /// Whether more children may come.
    pub const fn is_open(&self) -> bool {
        self.open
    }

    /// How many children there are.
    pub fn children(&self) -> u32 {
        self.rows.len() as u32
    }

    /// The child's number in its session.
    pub fn child_id(&self, ordinal: Ordinal) -> Option<EntryId> {
        self.row(ordinal).map(|row| row.id)
    }

    /// The child's state.
    pub fn child_state(&self, ordinal: Ordinal) -> Option<State> {
        self.row(ordinal).map(Row::state)
    }

    /// The child's state for who waits for it: one that may start again has not finished.
    pub fn awaited_state(&self, ordinal: Ordinal) -> Option<State> {
        let state = self.child_state(ordinal)?;
        let over = !state.is_finished() || self.is_settled(ordinal);
        Some(if over { state } else { State::NotStarted })
    }

    /// When the child ended.
    pub fn child_end(&self, ordinal: Ordinal) -> Option<Timestamp> {
        self.row(ordinal).and_then(|row| row.end)
    }

    /// The child's present life. One that waits for the next has ended.
    pub fn life(&self, ordinal: Ordinal) -> Option<Life> {
        let row = self.row(ordinal)?;
        let verdict = row.outcome.as_deref().map(|outcome| &outcome.verdict);
        let ended = row.phase.is_finished() || row.phase == Phase::Resting;
        let end = ended.then(|| LifeEnd {
            state: verdict.map_or(Phase::Completed, Phase::of).state(),
            reason: self.child_failure(ordinal).map(|(reason, _)| reason),
            time: row.end,
        });
        Some(Life { incarnation: row.incarnation, end })
    }

    /// Why the child failed, and its exit status.
    pub fn child_failure(&self, ordinal: Ordinal) -> Option<(Reason, Option<i32>)> {
        let outcome = self.row(ordinal)?.outcome.as_deref()?;
        match &outcome.verdict {
            Verdict::Failed(reason) => Some((reason.clone(), outcome.exit_code)),
            _ => None,
        }
    }

    /// The node's name, `localhost` for a child without `--on`, nothing while it has no place.
    pub fn location(&self, ordinal: Ordinal) -> &str {
        match (&self.spec.placement, self.row(ordinal).and_then(|row| row.node)) {
            (Placement::Here, _) => NodeName::LOCALHOST,
            (_, Some(node)) => self.nodes.name(node).map_or("", NodeName::as_str),
            (_, None) => "",
        }
    }

    /// The child's place among the siblings on its node, from 1; none where it is alone there.
    pub fn place_on_node(&self, ordinal: Ordinal) -> Option<u32> {
        let nodes = self.nodes.len() as u32;
        (self.items.is_empty() && nodes > 0 && self.rows.len() as u32 > nodes)
            .then(|| ordinal.0 / nodes + 1)
    }

    /// The states so far, oldest first.
    pub fn history(&self) -> &[(State, Timestamp)] {
        &self.history
    }

    /// How the job was told to stop, and by whom.
    pub fn stop(&self) -> Option<(&StopSpec, &str)> {
        let stop = self.stop.as_ref().filter(|_| self.told_to_stop());
        stop.map(|(how, by)| (how, by.as_str()))
    }

    /// What the job as a whole was told.
    pub const fn told(&self) -> Told {
        self.told
    }

    /// How it or some of its children were told to stop, and by whom.
    pub const fn any_stop(&self) -> Option<&(StopSpec, String)> {
        self.stop.as_ref()
    }

    /// The input of a map's child.
    pub fn item(&self, ordinal: Ordinal) -> Option<(u64, &bytes::Bytes)> {
        let number = u64::from(ordinal.0) / self.children_per_item().max(1);
        self.items.get(number as usize).map(|item| (number + 1, item))
    }

    /// The job as its session shows it. `ids` says whether the children's numbers are wanted.
    pub fn view(&self, unread: bool, with_errors: bool, ids: bool) -> JobView {
        let most = if ids { limits::CHILD_IDS_SHOWN } else { 0 };
        JobView {
            id: self.identity.id,
            instance: self.identity.instance,
            name: self.name(),
            kind: self.kind(),
            state: self.state,
            has_more_data: !self.state.is_finished() || unread,
            location: self.locations(),
            command: self.spec.command.clone(),
            created: self.identity.created,
            begin_time: self.begin,
            end_time: self.end,
            with_errors: with_errors && self.state == State::Completed,
            tally: self.counts.tally(self.open),
            children: self.rows.iter().take(most).map(|row| row.id).collect(),
            session: self.identity.session,
            stopped_by: self.stop().map(|(_, by)| by.to_owned()),
            stop_pending: Vec::new(),
            notes: self.notes.clone(),
            restarts: self.restarts(),
            paused: 0,
        }
    }

    /// A child as its session shows it.
    pub fn child_view(&self, ordinal: Ordinal, mailbox: MailboxFacts) -> Option<ChildView> {
        let row = self.row(ordinal)?;
        let outcome = row.outcome.as_deref();
        Some(ChildView {
            id: row.id,
            instance: self.identity.instance.child(ordinal),
            parent: self.identity.id,
            ordinal,
            state: row.state(),
            reason: outcome.and_then(|outcome| match &outcome.verdict {
                Verdict::Failed(reason) => Some(reason.clone()),
                _ => None,
            }),
            has_more_data: !row.phase.is_finished() || mailbox.unread,
            location: self.location(ordinal).to_owned(),
            command: self.child_command(ordinal),
            begin_time: row.begin,
            end_time: row.end,
            exit_code: self.exit_code(row),
            signal: outcome.and_then(|outcome| outcome.signal),
            with_errors: mailbox.with_errors && row.state() == State::Completed,
            progress: mailbox.progress,
            queue_position: self.line.position(ordinal),
            unread_bytes: mailbox.unread_bytes,
            dropped_records: mailbox.dropped_records,
            dropped_bytes: mailbox.dropped_bytes,
            paused: mailbox.paused,
            notes: self.notes_of(ordinal, outcome, mailbox.notes),
            restarts: row.incarnation.0,
            question: self.question(ordinal),
        })
    }

    pub(super) fn row(&self, ordinal: Ordinal) -> Option<&Row> {
        self.rows.get(ordinal.0 as usize)
    }

    /// A completed command exited with 0; that is not kept per row.
    fn exit_code(&self, row: &Row) -> Option<i32> {
        let process = !matches!(self.spec.body, BodySpec::Task { .. });
        match row.outcome.as_deref() {
            Some(outcome) => outcome.exit_code,
            None => (process && row.state() == State::Completed).then_some(0),
        }
    }

    fn name(&self) -> String {
        match &self.spec.name {
            Some(name) => name.to_string(),
            None => format!("Job{}", self.identity.id),
        }
    }

    const fn kind(&self) -> Kind {
        match (&self.spec.placement, &self.spec.body) {
            (Placement::Nodes { .. }, _) => Kind::Remote,
            (Placement::Here, BodySpec::Task { run_in: RunIn::Thread, .. }) => Kind::Thread,
            (Placement::Here, _) => Kind::Background,
        }
    }

    /// Each once, in the order of the children, with how many they are where they are several.
    pub fn locations(&self) -> String {
        let here = matches!(self.spec.placement, Placement::Here);
        let looked_at = if here { 1 } else { limits::LOCATIONS_SHOWN };
        let more = self.rows.len().saturating_sub(looked_at);
        let mut placed: Vec<(&str, usize)> = Vec::new();
        for ordinal in 0..self.rows.len().min(looked_at) as u32 {
            let name = self.location(Ordinal(ordinal));
            match placed.iter_mut().find(|(known, _)| *known == name) {
                _ if name.is_empty() => {}
                Some((_, count)) => *count += 1,
                None => placed.push((name, 1)),
            }
        }
        let said = placed.into_iter().map(|(name, count)| match count {
            _ if here && more > 0 => format!("{name} ({})", more + 1),
            1 => name.to_owned(),
            // How many follow is not looked at.
            _ if more > 0 => name.to_owned(),
            count => format!("{name} ({count})"),
        });
        let mut text = said.collect::<Vec<_>>().join(",");
        if more > 0 && !here {
            text.push_str(",…");
        }
        text
    }

    fn child_command(&self, ordinal: Ordinal) -> String {
        let (BodySpec::Command { words }, Some((number, item))) =
            (&self.spec.body, self.item(ordinal))
        else {
            return self.spec.command.clone();
        };
        let node = self.row(ordinal).and_then(|row| row.node);
        let Some(node) = node.and_then(|node| self.nodes.name(node)) else {
            return self.spec.command.clone();
        };
        Template::new(words).show(&MapItem { number, bytes: item.clone() }, node)
    }

    fn notes_of(
        &self,
        ordinal: Ordinal,
        outcome: Option<&ChildOutcome>,
        mut notes: Vec<String>,
    ) -> Vec<String> {
        let life = self.row(ordinal).map(|row| (ordinal, row.incarnation));
        if let Some(when) = life.and_then(|life| self.adopted.get(&life)) {
            notes.push(format!("it outlived a daemon, and was taken over by the next at {when}"));
        }
        let Some(outcome) = outcome else { return notes };
        if outcome.left_behind > 0 {
            let left = outcome.left_behind;
            notes.push(format!("{left} processes of its tree were left and killed"));
        }
        if outcome.cut_bytes > 0 {
            notes.push(format!("{} bytes of output were cut off", outcome.cut_bytes));
        }
        notes
    }
}
