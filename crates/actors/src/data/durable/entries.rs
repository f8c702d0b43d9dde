//! Jobs, children and sessions as the journal has them, and back.

use std::collections::BTreeSet;

use sortie_engine::aggregate;
use sortie_engine::parent_job::{KeptChild, NodeIndex, ParentJob};
use sortie_engine::placement;
use sortie_model::facts::WaitsFor;
use sortie_model::spec::OsBytes;
use sortie_model::{EntryId, Ordinal};
use sortie_store::journal::{ChildFacts, ChildRun, JobEntry, JobFacts, SessionEntry, Told};

use crate::data::session::SessionShared;

/// What a page of `get` shows of the job.
pub(crate) fn job_entry(rows: &ParentJob) -> JobEntry {
    let view = rows.view(false, false, false);
    JobEntry {
        id: view.id,
        instance: view.instance,
        name: view.name,
        command: view.command,
        kind: view.kind,
        created: view.created,
        known_children: placement::known_children(&rows.spec().fan, rows.nodes().count() as u32)
            .unwrap_or(0),
        facts: job_facts(rows, false, false),
    }
}

/// What changes of it.
pub(crate) fn job_facts(rows: &ParentJob, unread: bool, with_errors: bool) -> JobFacts {
    let told = match rows.told() {
        aggregate::Told::Nothing => Told::Nothing,
        aggregate::Told::Stop => Told::Stop,
        aggregate::Told::Suspend => Told::Suspend,
    };
    let throttle = rows.line().limit();
    JobFacts {
        state: rows.state(),
        location: rows.locations(),
        tally: rows.counts().tally(rows.is_open()),
        begin: rows.begin_time(),
        end: rows.end_time(),
        with_errors,
        unread,
        restarts: rows.restarts(),
        told,
        stop: rows.any_stop().cloned(),
        throttle: (throttle != rows.spec().throttle).then_some(throttle),
        ..JobFacts::new()
    }
}

/// Children that do not wait for their turn: of a job that was accepted just now.
pub(crate) fn first_children(rows: &ParentJob) -> Vec<ChildRun> {
    let all = (0..rows.children()).map(Ordinal);
    let begun = all
        .filter(|ordinal| rows.kept(*ordinal).is_some_and(|kept| kept.waits_for != WaitsFor::Slot));
    rows_of(rows, &begun.collect())
}

/// These children, alike neighbours together.
pub(crate) fn rows_of(rows: &ParentJob, children: &BTreeSet<Ordinal>) -> Vec<ChildRun> {
    let nodes = rows.nodes().count() as u32;
    let mut runs: Vec<ChildRun> = Vec::new();
    for ordinal in children {
        let Some(facts) = child_facts(rows, *ordinal, nodes) else { continue };
        if let Some(last) = runs.last_mut()
            && last.first.0 + last.count == ordinal.0
            && last.facts.id.0 + u64::from(last.count) == facts.id.0
            && (ChildFacts { id: last.facts.id, ..facts.clone() }) == last.facts
        {
            last.count += 1;
        } else {
            runs.push(ChildRun { first: *ordinal, count: 1, facts });
        }
    }
    runs
}

fn child_facts(rows: &ParentJob, ordinal: Ordinal, nodes: u32) -> Option<ChildFacts> {
    let kept = rows.kept(ordinal)?;
    let KeptChild { id, node, incarnation, state, waits_for, told_to_stop, begin, end, outcome } =
        kept;
    // Where its place says its node, that is not said again: so alike children are one run.
    let told = placement::node_of(&rows.spec().fan, ordinal, nodes);
    let node = node.filter(|node| Some(*node) != told).map(|node| node.0);
    Some(ChildFacts { id, node, incarnation, state, waits_for, told_to_stop, begin, end, outcome })
}

/// A child as its job takes it up again. `told` is the node that its place says.
pub(crate) fn kept_child(facts: ChildFacts, after: u32, told: Option<NodeIndex>) -> KeptChild {
    KeptChild {
        id: EntryId(facts.id.0 + u64::from(after)),
        node: facts.node.map(NodeIndex).or(told),
        incarnation: facts.incarnation,
        state: facts.state,
        waits_for: facts.waits_for,
        told_to_stop: facts.told_to_stop,
        begin: facts.begin,
        end: facts.end,
        outcome: facts.outcome,
    }
}

/// The session as it is now.
pub(crate) fn session_entry(session: &SessionShared) -> SessionEntry {
    let (epoch, idle_timeout) = match session.hold() {
        Some(hold) => (hold.epoch(), Some(hold.idle_timeout())),
        None => (0, None),
    };
    let scope = session.scope().view();
    let variables = scope.variables.into_iter();
    SessionEntry {
        id: session.identity.id,
        instance: session.identity.instance,
        name: session.identity.name.clone(),
        owner: session.identity.owner.clone(),
        created: session.identity.created,
        next_id: session.table().next_id(),
        epoch,
        idle_timeout,
        disconnected: None,
        output: session.identity.output,
        directory: scope.directory,
        environment: variables
            .map(|(name, value): (OsBytes, OsBytes)| (name, Some(value)))
            .collect(),
    }
}
