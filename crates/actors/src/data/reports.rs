//! Reports from executing nodes: records go to their mailboxes, what began and ended to the job.

mod keeping;
mod own;

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;

use sortie_engine::broken::{Rule, is_broken};
use sortie_link::FrameReceiver;
use sortie_link::{CloseCode, Link};
use sortie_model::{ChildKey, NodeId, Ordinal, Record, Seq, limits};
use sortie_wire::frame::{self, Frame, Message};
use sortie_wire::host_proto::{CheckpointHead, Checkpoints, Report, ReportStream};
use tokio::time::Instant;

use crate::data::attachment::{Attachment, Gaps};
use crate::data::job::{ChildReports, JobShared};
use crate::data::mailboxes::AppendError;
use crate::data::reports::keeping::{Keeping, Place};
use crate::data::reports::own::read_own;
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
                let mut place = keeping.place(job);
                let keep = async move {
                    place.told.comes().await;
                    store_checkpoints(&session, from, checkpoints, values).map(|()| true)
                };
                keeping.push(number, keep).await;
            }
            continue;
        }
        let (report, payload): (Report, _) = frame::open_head(frame)?;
        let (number, job) = (report.number, report.job);
        if number > attachment.reports() {
            let place = keeping.place(job);
            let keep = store((session, attachment), (report, payload), place).await?;
            keeping.push(number, keep).await;
        }
    }
    Ok(())
}

/// Stores the records of a report of the shared stream, and gives what is to be done behind that.
async fn store(
    (session, attachment): (&Arc<SessionShared>, &Arc<Attachment>),
    (report, mut payload): (Report, bytes::Bytes),
    place: Place,
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
    let by = Instant::now() + limits::OUTPUT_WAIT;
    Ok(async move {
        let Place { mut told, kept: mut keeper } = place;
        // Nobody wants to know what a job that is gone said.
        let Some(job) = job else { return Ok(true) };
        // What is not kept is received all the same, as long as this node lives.
        let mut keeping = pin!(async {
            keeper.comes().await;
            let said = !any || job.keep_said(&spoke).await;
            drop(keeper);
            // Their readers go first, before the job's actor and the acknowledgement.
            tokio::task::yield_now().await;
            said
        });
        let in_time = tokio::time::timeout_at(by, &mut keeping).await;
        let heard = async {
            told.comes().await;
            let says = tell(&job, (from, gaps), reports, lossy)?;
            drop(told);
            Ok::<_, BadReport>(!says || job.kept().await)
        };
        match in_time {
            Ok(said) => Ok(heard.await? && said),
            // A disk that takes nothing holds up no end: the node keeps what its children said.
            Err(_) => {
                let (heard, said) = futures_util::join!(heard, keeping);
                Ok(heard? && said)
            }
        }
    })
}

/// Tells the job what became of its children, behind all that they said. Says whether there was
/// anything to tell.
fn tell(
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
    let says = !reports.is_empty();
    if says {
        job.tell(ParentJobMessage::Reported { node: from, reports });
    }
    Ok(says)
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
