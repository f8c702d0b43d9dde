//! A child's own stream of reports.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sortie_engine::credit::grant;
use sortie_link::FrameReceiver;
use sortie_model::{ChildKey, Ordinal, Seq, limits};
use sortie_wire::frame::{self, Message};
use sortie_wire::host_proto::{ChildPosition, RecordRun, Report};

use crate::data::attachment::{Ended, Gaps};
use crate::data::job::{ChildReports, JobShared};
use crate::data::outbox::after_end;
use crate::data::reports::{BadReport, To, append};
use crate::parent_job::ParentJobMessage;

/// What acknowledges a report once its disk takes what it said.
type Late<'t> = Pin<Box<dyn Future<Output = ()> + Send + 't>>;

/// Reads a child's own stream, which waits for its mailbox to have room, and not for a disk that
/// takes nothing: what is late is acknowledged beside the reading, with what comes meanwhile.
pub(super) async fn read_own(
    to: To<'_>,
    child: ChildKey,
    stream: &mut FrameReceiver,
) -> Result<(), BadReport> {
    let (_, attachment, link) = to;
    let mut late: Option<Late<'_>> = None;
    loop {
        let frame = tokio::select! {
            biased;
            () = async { if let Some(late) = &mut late { late.await } }, if late.is_some() => {
                late = None;
                continue;
            }
            frame = stream.next() => frame,
        };
        let Ok(Some(frame)) = frame else { break };
        if !attachment.is_current(link) {
            return Ok(());
        }
        let (report, payload): (Report, _) = frame::open_head(frame)?;
        // The next acknowledgement says what this one would have said. Nobody waits for a lock that
        // it may have while it stands still.
        let was_late = late.take().is_some();
        late = store_own(to, child, (report, payload), was_late).await?;
    }
    if let Some(late) = late {
        late.await;
    }
    Ok(())
}

/// Stores a report. Its first records may overtake the last ones of the shared stream: then it
/// waits for those. Gives what acknowledges it where its disk is not waited for any more.
async fn store_own<'t>(
    to: To<'t>,
    key: ChildKey,
    (report, payload): (Report, bytes::Bytes),
    was_late: bool,
) -> Result<Option<Late<'t>>, BadReport> {
    let (session, attachment, link) = to;
    let Some(job) = session.job(key.job) else { return Ok(None) };
    let (runs, ran) = {
        let rows = job.rows();
        (rows.runs_on(key.ordinal, attachment.node()), rows.ran_before(key.ordinal))
    };
    if !(is_of(&report, key) && (runs || ran)) {
        return Err(BadReport::FalseChild);
    }
    if !runs {
        return Ok(Some(Box::pin(forget_former(to, key, report))));
    }
    let any = was_late || !report.records.is_empty();
    let room =
        store_records((&job, key.ordinal), report.records, payload, attachment.gaps()).await?;
    let (mut next, mut stored) = (job.mailboxes.summary(key.ordinal).next, Ended::No);
    if let Some(end) = report.ended.first() {
        reached(&job, key.ordinal, end.end).await;
        job.close_at_end(key.ordinal);
        (next, stored) = (after_end(end.end), Ended::Yes);
    }
    let Report { started, asked, moved, mut ended, .. } = report;
    ended.iter_mut().for_each(|end| job.judge(end));
    let reports = ChildReports { started, asked, moved, ended };
    let (keeper, said) = (Arc::clone(&job), BTreeSet::from([key.ordinal]));
    let mut keeping = Box::pin(async move { !any || keeper.keep_said(&said).await });
    let wait = if was_late { Duration::ZERO } else { limits::OUTPUT_WAIT };
    let in_time = tokio::time::timeout(wait, &mut keeping).await.ok();
    let says = !reports.is_empty();
    if says {
        job.tell(ParentJobMessage::Reported { node: attachment.node(), reports });
    }
    let is_late = in_time.is_none();
    let acknowledging = async move {
        let heard = async { !says || job.kept().await };
        let kept = match in_time {
            Some(said) => said && heard.await,
            None => futures_util::join!(heard, keeping) == (true, true),
        };
        if !kept {
            return;
        }
        let at = |credit| ChildPosition { job: key.job, ordinal: key.ordinal, next, credit };
        if stored == Ended::Yes {
            // Its next life may hear it.
            return attachment.stored_child(link, at(grant(u64::MAX)), stored);
        }
        attachment.stored_child(link, at(grant(room)), stored);
        if room == 0 {
            // The child pauses at its node; this stream is its own, so nobody else waits.
            job.room(key.ordinal).await;
            attachment.stored_child(link, at(grant(u64::MAX)), Ended::No);
        }
    };
    if is_late {
        return Ok(Some(Box::pin(acknowledging)));
    }
    acknowledging.await;
    Ok(None)
}

/// Stores what a child said, and answers how much room is left.
async fn store_records(
    (job, ordinal): (&JobShared, Ordinal),
    runs: Vec<RecordRun>,
    mut payload: bytes::Bytes,
    gaps: Gaps,
) -> Result<u64, BadReport> {
    let mut room = u64::MAX;
    for run in runs {
        let first = run.first;
        job.note_streams(run.records.iter().map(|head| head.stream));
        let records = run.unpack(&mut payload, Report::KIND)?;
        reached(job, ordinal, first).await;
        room = append((job, ordinal), first, records, gaps).await?;
    }
    Ok(room)
}

/// Whether all of the report is about that child.
fn is_of(report: &Report, child: ChildKey) -> bool {
    let mine = |ordinal: Ordinal| ordinal == child.ordinal;
    report.job == child.job
        && report.records.iter().all(|run| mine(run.ordinal))
        && report.asked.iter().all(|ask| mine(ask.ordinal))
        && report.moved.iter().all(|moved| mine(moved.ordinal))
        && report.ended.iter().all(|end| mine(end.ordinal))
}

/// A child was started again elsewhere, or waits for its next life: its former node may forget it,
/// and what it said, once that is kept.
async fn forget_former(to: To<'_>, key: ChildKey, report: Report) {
    let (session, attachment, link) = to;
    let said = report.records.last().map(|run| run.first.after(run.records.len() as u64));
    let (next, stored) = match report.ended.first() {
        Some(end) => (Some(after_end(end.end)), Ended::Yes),
        None => (said, Ended::No),
    };
    let Some(next) = next else { return };
    if let Some(of) = session.job(key.job)
        && !(of.keep_said(&BTreeSet::from([key.ordinal])).await && of.kept().await)
    {
        return;
    }
    let (job, ordinal, credit) = (key.job, key.ordinal, grant(u64::MAX));
    attachment.stored_child(link, ChildPosition { job, ordinal, next, credit }, stored);
}

/// Waits until the child's mailbox holds everything before that record, or takes nothing more.
async fn reached(job: &JobShared, ordinal: Ordinal, seq: Seq) {
    loop {
        let version = job.mailboxes.version();
        let summary = job.mailboxes.summary(ordinal);
        if summary.next >= seq || summary.closed || job.mailboxes.is_removed() {
            return;
        }
        job.mailboxes.changed(version).await;
    }
}
