//! The shared stream: all that is ready goes out as one numbered report per job.

use std::collections::BTreeMap;
use std::sync::Arc;

use sortie_link::FrameSender;
use sortie_link::Link;
use sortie_model::{ChildKey, JobInstance, limits};
use sortie_wire::host_proto::{ChildEnd, Report, ReportStream};
use sortie_wire::version::CHECKPOINTS;
use tokio::time::Instant;

use crate::data::outbox::{Head, Outbox, Pending, Sent, State, ask_bytes, weight_of};

/// Writes reports until the connection or the session ends.
pub(super) async fn send(outbox: Arc<Outbox>, link: Link, generation: u64) {
    let session = outbox.session;
    let Ok(mut stream) = link.open_uni(PRIORITY).await else { return };
    if stream.send(&ReportStream { session, child: None }).await.is_err() {
        return;
    }
    let tells = link.facts().version >= CHECKPOINTS;
    let again: Vec<Sent> = outbox.state().unacknowledged.iter().cloned().collect();
    for report in again {
        if write(&mut stream, tells, report).await.is_err() {
            return;
        }
    }
    let mut last: Option<Instant> = None;
    loop {
        if last.is_some_and(|last| last.elapsed() < limits::CLOSELY) {
            // Children that can run now report with this one, in one frame: nothing waits for more.
            tokio::task::yield_now().await;
        }
        let (fresh, due) = {
            let mut state = outbox.state();
            if state.generation != generation {
                // The wake-up may have been meant for the sender that came after.
                outbox.wake.notify_one();
                return;
            }
            let fresh = take_pending(&mut state);
            let due = state.untold.due().filter(|_| state.tells_checkpoints);
            (fresh, due.map(|due| state.began + due))
        };
        if fresh.is_empty() {
            tokio::select! {
                biased;
                () = outbox.wake.notified() => {}
                // tidy: waits because a checkpoint is told a while after it was reached.
                () = at(due) => {}
                _ = link.closed() => return,
            }
        }
        last = Some(Instant::now()).filter(|_| !fresh.is_empty()).or(last);
        for report in fresh {
            if write(&mut stream, tells, report).await.is_err() {
                return;
            }
        }
    }
}

/// Above the children's own streams, below control.
const PRIORITY: i32 = 10;

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

async fn write(
    stream: &mut FrameSender,
    tells_checkpoints: bool,
    Sent { head, payload, .. }: Sent,
) -> Result<(), ()> {
    let sent = match &head {
        Head::Report(report) => stream.send_with_payload(report.as_ref(), payload).await,
        // Told over another connection; the owner does not know such words on this one.
        Head::Checkpoints(_) if !tells_checkpoints => return Ok(()),
        Head::Checkpoints(told) => stream.send_with_payload(told.as_ref(), payload).await,
    };
    sent.map_err(|_| ())
}

pub(super) fn take_pending(state: &mut State) -> Vec<Sent> {
    let mut reached = state.take_reached();
    let pending = std::mem::take(&mut state.pending);
    let mut fresh = Vec::new();
    // Words that cost no credit wait where the owner stores nothing, the last one of each child.
    let waits = state.unacknowledged.len() >= limits::REPORTS_AHEAD;
    for (job, mut pending) in pending {
        let waits = |ordinal| waits || state.holds_back(ChildKey { job, ordinal });
        let (wait, moved): (BTreeMap<_, _>, _) =
            std::mem::take(&mut pending.moved).into_iter().partition(|(child, _)| waits(*child));
        pending.moved = moved;
        let holds = |end: &ChildEnd| state.holds_end(ChildKey { job, ordinal: end.ordinal });
        let (held, ended): (Vec<_>, _) =
            std::mem::take(&mut pending.ended).into_iter().partition(holds);
        pending.ended = ended;
        if !wait.is_empty() || !held.is_empty() {
            state.pending.insert(job, Pending { moved: wait, ended: held, ..Pending::default() });
        }
        for end in &pending.ended {
            state.untold.forget(ChildKey { job, ordinal: end.ordinal }, end.incarnation);
        }
        let mut behind = Pending::default();
        let told = reached.remove(&job);
        if told.is_some() {
            // What was said before a checkpoint goes before it, and what it holds back behind it.
            behind.moved = std::mem::take(&mut pending.moved);
            behind.ended = std::mem::take(&mut pending.ended);
        }
        report(state, job, pending, &mut fresh);
        fresh.extend(told.map(|told| state.tell(job, told)));
        report(state, job, behind, &mut fresh);
    }
    fresh.extend(reached.into_iter().map(|(job, told)| state.tell(job, told)));
    state.unacknowledged.extend(fresh.iter().cloned());
    fresh
}

/// Reports about a job that say that, if it is anything.
fn report(state: &mut State, job: JobInstance, pending: Pending, fresh: &mut Vec<Sent>) {
    if pending.is_nothing() {
        return;
    }
    for Pending { started, runs, payload, weight, ended, asked, moved, .. } in cut(pending) {
        state.last_number = state.last_number.saturating_add(1);
        let number = state.last_number;
        let moved = moved.into_values().collect();
        let report = Report { number, job, started, records: runs, ended, asked, moved };
        let head = Head::Report(Arc::new(report));
        fresh.push(Sent { number, head, payload, bytes: weight });
    }
}

/// Bytes of records in one report, so that it fits a frame with its heads.
const REPORT_BYTES: usize = limits::FRAME_BYTES / 4;

/// Questions in one report of those that are cut, so that it fits a frame.
const ASKED: usize = REPORT_BYTES / (2 * limits::PROMPT_BYTES);

/// What gathered, in reports that fit a frame each: starts before records, records before
/// questions, these before suspensions, and these before ends.
fn cut(pending: Pending) -> Vec<Pending> {
    let items = pending.started.len().max(pending.heads).max(pending.ended.len());
    let items = items.max(pending.asked.len()).max(pending.moved.len());
    if items <= limits::FRAME_ITEMS && pending.weight <= REPORT_BYTES {
        return vec![pending];
    }
    let Pending { started, runs, payload, ended, asked, mut moved, .. } = pending;
    let of_starts = started.chunks(limits::FRAME_ITEMS);
    let mut reports: Vec<Pending> =
        of_starts.map(|some| Pending { started: some.to_vec(), ..Pending::default() }).collect();
    let mut payload = payload.into_iter();
    let mut report = Pending::default();
    for run in runs {
        if report.heads >= limits::FRAME_ITEMS || report.weight >= REPORT_BYTES {
            reports.push(std::mem::take(&mut report));
        }
        report.heads += run.records.len();
        report.weight +=
            run.records.iter().map(|head| weight_of(head.length as usize)).sum::<usize>();
        report.payload.extend(payload.by_ref().take(run.records.len()));
        report.runs.push(run);
    }
    reports.push(report);
    reports.extend(asked.chunks(ASKED).map(|some| {
        let open = some.iter().filter_map(|ask| ask.open.as_ref());
        let weight = open.map(|open| ask_bytes(open.prompt.len())).sum();
        Pending { asked: some.to_vec(), weight, ..Pending::default() }
    }));
    while !moved.is_empty() {
        let rest = moved.keys().nth(limits::FRAME_ITEMS).copied();
        let rest = rest.map_or_else(BTreeMap::new, |first| moved.split_off(&first));
        let moved = std::mem::replace(&mut moved, rest);
        reports.push(Pending { moved, ..Pending::default() });
    }
    let of_ends = ended.chunks(limits::FRAME_ITEMS);
    reports.extend(of_ends.map(|some| Pending { ended: some.to_vec(), ..Pending::default() }));
    reports
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use sortie_model::{Body, Ordinal, Record, Seq, Stream, Timestamp};

    use super::*;

    #[test]
    fn what_gathered_is_cut_into_reports_that_fit_a_frame() {
        let mut pending = Pending::default();
        let (children, size) = (600, 16 * limits::KIB - limits::RECORD_OVERHEAD_BYTES as usize);
        for child in 0..children {
            let body = Body::Bytes(Bytes::from(vec![child as u8; size]));
            let (seq, stream, time) = (Seq(0), Stream::Output, Timestamp(0));
            pending.push(Ordinal(child), Record { seq, stream, time, body });
        }
        let whole = pending.weight;
        let reports = cut(pending);
        assert!(reports.len() > 1);
        assert!(reports.iter().all(|report| report.weight <= REPORT_BYTES + 16 * limits::KIB));
        assert_eq!(reports.iter().map(|report| report.weight).sum::<usize>(), whole);
        let in_order = reports.iter().flat_map(|report| report.runs.iter().zip(&report.payload));
        let right = in_order.filter(|(run, bytes)| bytes.first() == Some(&(run.ordinal.0 as u8)));
        assert_eq!(right.count(), children as usize);
    }
}
