//! Jobs, sessions and nodes as lists.

use std::fmt;

use serde_json::json;
use sortie::DetachedProcess;
use sortie::answer::Entries;
use sortie_model::view::{EntryView, NodeState, Tally};
use sortie_model::{ChildView, JobView, NodeView, State, Timestamp};

use crate::args::output::{Look, Whose};
use crate::render::json;
use crate::render::sheet::{Column, Item, Sheet, columns};
use crate::render::table::Tone;

pub(crate) const JOB_COLUMNS: &[Column] = columns![
    "id" "ID" Always,
    "name" "NAME" Always,
    "kind" "KIND" Always,
    "state" "STATE" Always,
    "has_more_data" "HAS_MORE_DATA" Always,
    "location" "LOCATION" Always,
    "progress" "PROGRESS" Wide,
    "begin_time" "BEGIN_TIME" Wide,
    "end_time" "END_TIME" Wide,
    "exit_code" "EXIT_CODE" Wide,
    "with_errors" "WITH_ERRORS" Wide,
    "unread_bytes" "UNREAD_BYTES" Wide,
    "dropped_records" "DROPPED_RECORDS" Wide,
    "dropped_bytes" "DROPPED_BYTES" Wide,
    "paused" "PAUSED" Wide,
    "reason" "REASON" Wide,
    "instance_id" "INSTANCE_ID" Wide,
    "command" "COMMAND" Always,
];
const JOB_STATE: usize = 3;

/// Jobs and children; children directly below their job are indented. Where several sessions are
/// asked each id is shown behind its session.
pub(crate) fn entries(entries: &Entries, look: &Look) -> Sheet {
    let mut parent = None;
    // Of several sessions a number alone means nothing.
    let whose = if look.session.is_some() { Whose::Others } else { look.whose };
    let mut items = Vec::with_capacity(entries.entries.len());
    for entry in &entries.entries {
        items.push(match entry {
            EntryView::Job(view) => {
                parent = Some(view.id);
                job(view, whose)
            }
            EntryView::Child(view) => child(view, usize::from(parent == Some(view.parent)), whose),
        });
    }
    if let Some(session) = &look.session {
        let ids = items.iter_mut().filter_map(|item: &mut Item| item.cells.first_mut());
        ids.for_each(|id| *id = format!("{session}:{id}"));
    }
    let mut more = Vec::new();
    more.extend(look.session.as_ref().map(|session| ("session", json!(session))));
    if entries.total > entries.entries.len() as u64 {
        more.push(("total", json!(entries.total)));
    }
    if !entries.troubles.is_empty() {
        let troubles = entries.troubles.iter().map(json::trouble).collect();
        more.push(("errors", serde_json::Value::Array(troubles)));
    }
    Sheet { field: "jobs", columns: JOB_COLUMNS, items, more }
}

fn job(view: &JobView, whose: Whose) -> Item {
    Item {
        json: json::job(view),
        id: quiet_id(whose, view.id, view.instance),
        name: view.name.clone(),
        depth: 0,
        cells: vec![
            view.id.to_string(),
            view.name.clone(),
            view.kind.as_str().to_owned(),
            view.state.to_string(),
            view.has_more_data.to_string(),
            view.location.clone(),
            progress(&view.tally),
            time(view.begin_time),
            time(view.end_time),
            String::new(),
            view.with_errors.to_string(),
            String::new(),
            String::new(),
            String::new(),
            if view.paused > 0 { view.paused.to_string() } else { String::new() },
            String::new(),
            view.instance.to_string(),
            view.command.clone(),
        ],
        tone: Some((JOB_STATE, tone(view.state))),
    }
}

fn child(view: &ChildView, depth: usize, whose: Whose) -> Item {
    let name = json::child_name(view);
    let progress = match (view.progress, view.queue_position) {
        (Some(at), _) if at.total > 0 => format!("{}/{}", at.done, at.total),
        (Some(at), _) => at.done.to_string(),
        (None, Some(position)) => format!("{position} before it"),
        (None, None) => String::new(),
    };
    Item {
        json: json::child(view),
        id: quiet_id(whose, view.id, view.instance),
        name: name.clone(),
        depth,
        cells: vec![
            view.id.to_string(),
            name,
            String::new(),
            view.state.to_string(),
            view.has_more_data.to_string(),
            view.location.clone(),
            progress,
            time(view.begin_time),
            time(view.end_time),
            view.exit_code.map(|code| code.to_string()).unwrap_or_default(),
            view.with_errors.to_string(),
            view.unread_bytes.to_string(),
            view.dropped_records.to_string(),
            view.dropped_bytes.to_string(),
            view.paused.clone().unwrap_or_default(),
            view.reason.as_ref().map(ToString::to_string).unwrap_or_default(),
            view.instance.to_string(),
            view.command.clone(),
        ],
        tone: Some((JOB_STATE, tone(view.state))),
    }
}

/// What `-q` prints, and can be used again.
pub(crate) fn quiet_id(
    whose: Whose,
    number: impl fmt::Display,
    identity: impl fmt::Display,
) -> String {
    match whose {
        Whose::OwnNodes => number.to_string(),
        Whose::Others => identity.to_string(),
    }
}

/// `3/8 done, 1 failed`.
pub(crate) fn progress(tally: &Tally) -> String {
    let total = if tally.open { "?".to_owned() } else { tally.total().to_string() };
    let failed = match tally.of(State::Failed) {
        0 => String::new(),
        failed => format!(", {failed} failed"),
    };
    format!("{}/{total} done{failed}", tally.finished())
}

/// What a state says at a glance.
pub(crate) const fn tone(state: State) -> Tone {
    match state {
        State::Completed => Tone::Good,
        State::Failed => Tone::Bad,
        State::Running | State::NotStarted => Tone::Busy,
        _ => Tone::Odd,
    }
}

/// A moment to the second.
pub(crate) fn time(time: Option<Timestamp>) -> String {
    const MICROS: i64 = 1_000_000;
    time.map(|at| Timestamp(at.0.div_euclid(MICROS) * MICROS).to_string()).unwrap_or_default()
}

pub(crate) const NODE_COLUMNS: &[Column] = columns![
    "name" "NAME" Always,
    "state" "STATE" Always,
    "address" "ADDRESS" Always,
    "running" "RUNNING" Always,
    "labels" "LABELS" Always,
    "version" "VERSION" Always,
    "id" "ID" Wide,
];
const NODE_STATE: usize = 1;

/// Nodes.
pub(crate) fn nodes(views: &[NodeView]) -> Sheet {
    let item = |view: &NodeView| {
        let labels: Vec<String> =
            view.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let tone = match view.state {
            NodeState::Alive => Tone::Good,
            NodeState::Suspect => Tone::Odd,
            NodeState::Lost => Tone::Bad,
        };
        Item {
            json: json::node(view),
            id: view.id.to_string(),
            name: view.name.to_string(),
            depth: 0,
            cells: vec![
                view.name.to_string(),
                view.state.as_str().to_owned(),
                view.address.clone(),
                view.running.to_string(),
                labels.join(","),
                view.version.clone().unwrap_or_default(),
                view.id.to_string(),
            ],
            tone: Some((NODE_STATE, tone)),
        }
    };
    Sheet {
        field: "nodes",
        columns: NODE_COLUMNS,
        items: views.iter().map(item).collect(),
        more: Vec::new(),
    }
}

pub(crate) const DETACHED_COLUMNS: &[Column] = columns![
    "node" "NODE" Always,
    "pid" "PID" Always,
    "log" "LOG" Always,
];

/// Processes that were detached.
pub(crate) fn detached(processes: &[DetachedProcess]) -> Sheet {
    let item = |process: &DetachedProcess| {
        let (node, pid) = (process.node.to_string(), process.pid.to_string());
        let log = process.log.to_string_lossy().into_owned();
        Item {
            json: json!({ "node": node, "pid": process.pid, "log": log }),
            id: pid.clone(),
            name: node.clone(),
            depth: 0,
            cells: vec![node, pid, log],
            tone: None,
        }
    };
    Sheet {
        field: "detached",
        columns: DETACHED_COLUMNS,
        items: processes.iter().map(item).collect(),
        more: Vec::new(),
    }
}

#[cfg(test)]
pub(crate) mod tests;
