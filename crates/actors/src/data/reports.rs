//! Reports from executing nodes: records go to their mailboxes, what began and ended to the job.

mod keeping;

use std::collections::BTreeSet;
use std::sync::Arc;

use sortie_engine::broken::{Rule, is_broken};
use sortie_engine::credit::grant;
use sortie_link::FrameReceiver;
use sortie_link::{CloseCode, Link};
use sortie_model::{ChildKey, NodeId, Ordinal, Record, Seq, limits};
use sortie_wire::frame::{self, Frame, Message};
use sortie_wire::host_proto::{CheckpointHead, Checkpoints, ChildPosition, Report, ReportStream};

use crate::data::attachment::{Attachment, Ended, Gaps};
use crate::data::job::{ChildReports, JobShared};
use crate::data::mailboxes::AppendError;
use crate::data::outbox::after_end;
use crate::data::reports::keeping::Keeping;
use crate::data::session::SessionShared;
use crate::node::NodeShared;
use crate::parent_job::ParentJobMessage;

/// A report that cannot be true or cannot be read.
#[derive(Debug, thiserror::Error)]
enum BadReport {
    #[error("a report stream cannot be read")]
    Malformed(#[from] sortie_wire::DecodeError),
    #[error("a report names a child that does not run on the reporting node")]
    FalseChild,
    #[error("a report leaves records out")]
    Gap,
    #[error("a report has a checkpoint of more than {} bytes", limits::CHECKPOINT_BYTES)]
    Checkpoint,
}

/// Reads one stream of reports until its end, the connection's, or a report that cannot be true:
/// the peer that sent it is not spoken to any more.
pub(crate) async fn read(node: Arc<NodeShared>, link: Link, from: NodeId, parts: Parts) {
    let Parts { first, mut stream } = parts;
    if let Err(error) = read_all(&node, (&link, from), first, &mut stream).await {
        link.close(CloseCode::GARBAGE, &error.to_string());
    }
}

/// A stream whose first frame was read to see what it is.
pub(crate) struct Parts {
    pub(crate) first: Frame,
    pub(crate) stream: FrameReceiver,
}

async fn read_all(
    node: &NodeShared,
    (link, from): (&Link, NodeId),
    first: Frame,
    stream: &mut FrameReceiver,
) -> Result<(), BadReport> {
    let ReportStream { session, child } = first.open()?;
    // A session that ended meanwhile has nobody to report to.
    let Some(session) = node.session(session) else { return Ok(()) };
    let attachment = session.attachment(from);
    let to = (&session, &attachment, link);
    let reading = async {
        match child {
            Some((job, ordinal)) => read_own(to, ChildKey { job, ordinal }, stream).await,
            None => {
                let (keeping, under_way) = Keeping::new();
                let kept = under_way.acknowledge(&attachment, link);
                let read = read_shared(to, keeping, stream);
                futures_util::try_join!(read, kept).map(drop)
            }
        }
    };
    // What waits here when the connection ends comes again on the next one. Stored later it could
    // stand under numbers that the child's next life has given out.
    tokio::select! {
        biased;
        _ = link.closed() => Ok(()),
        read = reading => read,
    }
}

/// The session, where it stands with the node, and the connection.
type To<'t> = (&'t Arc<SessionShared>, &'t Arc<Attachment>, &'t Link);

/// The stream of all children that say little. It waits for no job's disk: what is stored is kept
/// beside it.
async fn read_shared(
    (session, attachment, link): To<'_>,
    mut keeping: Keeping,
    stream: &mut FrameReceiver,
) -> Result<(), BadReport> {
    while let Ok(Some(frame)) = stream.next().await {
        if !attachment.is_current(link) {
            return Ok(());
        }
        if frame.kind == Checkpoints::KIND {
            let (checkpoints, values): (Checkpoints, _) = frame::open_head(frame)?;
            let (number, job) = (checkpoints.number, checkpoints.job);
            if number > attachment.reports() {
                let (session, from) = (Arc::clone(session), attachment.node());
                let keep = async move {
                    store_checkpoints(&session, from, checkpoints, values).map(|()| true)
                };
                keeping.push(number, job, keep).await;
            }
            continue;
        }
        let (report, payload): (Report, _) = frame::open_head(frame)?;
        let (number, job) = (report.number, report.job);
        if number > attachment.reports() {
            let keep = store((session, attachment), report, payload).await?;
            keeping.push(number, job, keep).await;
        }
    }
    Ok(())
}

/// A child's own stream.
async fn read_own(
    to: To<'_>,
    child: ChildKey,
    stream: &mut FrameReceiver,
) -> Result<(), BadReport> {
    let (_, attachment, link) = to;
    while let Ok(Some(frame)) = stream.next().await {
        if !attachment.is_current(link) {
            return Ok(());
        }
        let (report, payload): (Report, _) = frame::open_head(frame)?;
        store_own(to, child, report, payload).await?;
    }
    Ok(())
}

/// Stores the records of a report of the shared stream, and gives what is to be done behind that.
async fn store(
    (session, attachment): (&Arc<SessionShared>, &Arc<Attachment>),
    report: Report,
    mut payload: bytes::Bytes,
) -> Result<impl Future<Output = Result<bool, BadReport>> + use<>, BadReport> {
    let (from, gaps) = (attachment.node(), attachment.gaps());
    let job = session.job(report.job);
    if let Some(job) = &job {
        let rows = job.rows();
        let records = report.records.iter().map(|run| run.ordinal);
        let started = report.started.iter().map(|start| start.ordinal);
        let asked = report.asked.iter().map(|ask| ask.ordinal);
        let ended = report.ended.iter().map(|end| end.ordinal);
        let moved = report.moved.iter().map(|moved| moved.ordinal);
        let mut named = records.chain(started).chain(asked).chain(moved).chain(ended);
        if !named.all(|ordinal| rows.runs_on(ordinal, from) || rows.ran_before(ordinal)) {
            return Err(BadReport::FalseChild);
        }
    }
    let any = !report.records.is_empty();
    // Nothing is gathered for a job that ends with its node.
    let kept = job.as_ref().is_some_and(|job| job.durable.is_some());
    let spoke: BTreeSet<Ordinal> =
        report.records.iter().filter(|_| kept).map(|run| run.ordinal).collect();
    let lossy = is_broken(Rule::P5) && !report.ended.is_empty();
    let Report { records, started, asked, moved, ended, .. } = report;
    for run in records {
        let Some(job) = job.as_ref().filter(|_| !lossy) else { continue };
        let (ordinal, first) = (run.ordinal, run.first);
        job.note_streams(run.records.iter().map(|head| head.stream));
        let records = run.unpack(&mut payload, Report::KIND)?;
        if job.takes_reports_from(ordinal, from) {
            append((job, ordinal), first, records, gaps).await?;
        }
    }
    let reports = ChildReports { started, asked, moved, ended };
    Ok(async move {
        // Nobody wants to know what a job that is gone said.
        let Some(job) = job else { return Ok(true) };
        let mut said = true;
        if any {
            // What is not kept is received all the same, as long as this node lives.
            said = job.keep_said(&spoke).await;
            // Their readers go first, before the job's actor and the acknowledgement.
            tokio::task::yield_now().await;
        }
        Ok(tell(&job, (from, gaps), reports, lossy).await? && said)
    })
}

/// Tells the job what became of its children, behind all that they said. False when that cannot be
/// kept, and so is not to be acknowledged.
async fn tell(
    job: &JobShared,
    (from, gaps): (NodeId, Gaps),
    mut reports: ChildReports,
    lossy: bool,
) -> Result<bool, BadReport> {
    for end in &reports.ended {
        if !job.takes_reports_from(end.ordinal, from) {
            continue;
        }
        let summary = job.mailboxes.summary(end.ordinal);
        let is_gap = summary.next < end.end && gaps == Gaps::False;
        if is_gap && !summary.closed && !job.mailboxes.is_removed() && !lossy {
            return Err(BadReport::Gap);
        }
        job.close_at_end(end.ordinal);
    }
    reports.ended.iter_mut().for_each(|end| job.judge(end));
    if reports.is_empty() {
        return Ok(true);
    }
    job.tell(ParentJobMessage::Reported { node: from, reports });
    Ok(job.kept().await)
}

/// Keeps checkpoints of a job that outlives this node. What is not said of a life that is on, or
/// comes without the output before it, is late or a lie, and left alone.
fn store_checkpoints(
    session: &SessionShared,
    from: NodeId,
    checkpoints: Checkpoints,
    values: bytes::Bytes,
) -> Result<(), BadReport> {
    let Some(job) = session.job(checkpoints.job) else { return Ok(()) };
    for (head, value) in checkpoints.unpack(values)? {
        let CheckpointHead { ordinal, incarnation, next, .. } = head;
        let (knows, is_on) = {
            let rows = job.rows();
            let knows = rows.runs_on(ordinal, from) || rows.ran_before(ordinal);
            (knows, rows.is_life_on(ordinal, incarnation, from))
        };
        if !knows {
            return Err(BadReport::FalseChild);
        }
        if value.len() > limits::CHECKPOINT_BYTES {
            return Err(BadReport::Checkpoint);
        }
        let is_whole = || job.mailboxes.summary(ordinal).next >= next;
        if job.durable.is_some() && is_on && is_whole() {
            job.keep_checkpoint((ordinal, incarnation), value);
        }
    }
    Ok(())
}

/// A report of a child's own stream. Its first records may overtake the last ones of the shared
/// stream: then it waits for those.
async fn store_own(
    (session, attachment, link): To<'_>,
    key: ChildKey,
    report: Report,
    mut payload: bytes::Bytes,
) -> Result<(), BadReport> {
    let Some(job) = session.job(key.job) else { return Ok(()) };
    let mine = |ordinal: Ordinal| ordinal == key.ordinal;
    let (runs, ran) = {
        let rows = job.rows();
        (rows.runs_on(key.ordinal, attachment.node()), rows.ran_before(key.ordinal))
    };
    let honest = report.job == key.job
        && report.records.iter().all(|run| mine(run.ordinal))
        && report.asked.iter().all(|ask| mine(ask.ordinal))
        && report.moved.iter().all(|moved| mine(moved.ordinal))
        && report.ended.iter().all(|end| mine(end.ordinal))
        && (runs || ran);
    if !honest {
        return Err(BadReport::FalseChild);
    }
    if !runs {
        // It was started again elsewhere: its former node may forget it, and what it said.
        let said = report.records.last().map(|run| run.first.after(run.records.len() as u64));
        let (next, stored) = match report.ended.first() {
            Some(end) => (Some(after_end(end.end)), Ended::Yes),
            None => (said, Ended::No),
        };
        if let Some(next) = next {
            let (job, ordinal, credit) = (key.job, key.ordinal, grant(u64::MAX));
            attachment.stored_child(link, ChildPosition { job, ordinal, next, credit }, stored);
        }
        return Ok(());
    }
    let mut room = u64::MAX;
    for run in report.records {
        let first = run.first;
        job.note_streams(run.records.iter().map(|head| head.stream));
        let records = run.unpack(&mut payload, Report::KIND)?;
        reached(&job, key.ordinal, first).await;
        room = append((&job, key.ordinal), first, records, attachment.gaps()).await?;
        if !job.keep_said(&BTreeSet::from([key.ordinal])).await {
            return Ok(());
        }
    }
    let (mut next, mut stored) = (job.mailboxes.summary(key.ordinal).next, Ended::No);
    if let Some(end) = report.ended.first() {
        reached(&job, key.ordinal, end.end).await;
        job.close_at_end(key.ordinal);
        (next, stored) = (after_end(end.end), Ended::Yes);
    }
    let Report { started, asked, moved, mut ended, .. } = report;
    ended.iter_mut().for_each(|end| job.judge(end));
    let reports = ChildReports { started, asked, moved, ended };
    if !reports.is_empty() {
        job.tell(ParentJobMessage::Reported { node: attachment.node(), reports });
        if !job.kept().await {
            return Ok(());
        }
    }
    let at = |credit| ChildPosition { job: key.job, ordinal: key.ordinal, next, credit };
    attachment.stored_child(link, at(grant(room)), stored);
    if room == 0 && stored == Ended::No {
        // The child pauses at its node; this stream is its own, so nobody else waits.
        job.room(key.ordinal).await;
        attachment.stored_child(link, at(grant(u64::MAX)), Ended::No);
    }
    Ok(())
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

/// Stores records in order and answers how much room is left; a full mailbox is waited for, which
/// stops only this stream.
async fn append(
    (job, ordinal): (&JobShared, Ordinal),
    first: Seq,
    mut records: Vec<Record>,
    gaps: Gaps,
) -> Result<u64, BadReport> {
    // What its node itself said between went with an earlier life of that.
    let passes = gaps == Gaps::True && first > job.mailboxes.summary(ordinal).next;
    if job.durable.is_some() && (passes || job.mailboxes.may_come_again(ordinal)) {
        for record in records {
            job.store_again(ordinal, record).await;
        }
        return Ok(u64::MAX);
    }
    loop {
        match job.mailboxes.append(ordinal, first, records).await {
            Err(AppendError::Full { records: back, .. }) => {
                job.room(ordinal).await;
                records = back;
            }
            Err(AppendError::Gap { .. }) => return Err(BadReport::Gap),
            Err(AppendError::OverQuota { .. }) => {
                job.tell(ParentJobMessage::OverQuota(ordinal));
                return Ok(u64::MAX);
            }
            Ok(appended) => return Ok(appended.room),
            Err(_) => return Ok(u64::MAX),
        }
    }
}
