//! What of the shared stream is stored and has yet to be kept: told job by job, so that none waits
//! for another one's disk, and acknowledged in order.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use sortie_link::Link;
use sortie_model::{JobInstance, limits};
use tokio::sync::{mpsc, oneshot};

use crate::data::attachment::Attachment;
use crate::data::reports::BadReport;

/// A report that is being kept: its number, and whether it is.
type Kept = Pin<Box<dyn Future<Output = Result<(u64, bool), BadReport>> + Send>>;

/// Where reports go once their records are stored.
pub(super) struct Keeping {
    under_way: mpsc::Sender<Kept>,
    /// Of each job the last report: when the job was told of it, and when it is kept.
    last: HashMap<JobInstance, [oneshot::Receiver<()>; 2]>,
}

/// A report's place among those of its job.
pub(super) struct Place {
    /// The job is told of one after the other.
    pub(super) told: Turn,
    /// They are kept one after the other, and may be told before that.
    pub(super) kept: Turn,
}

/// Comes behind that of the report before; the next one's comes when it is dropped.
pub(super) struct Turn {
    before: Option<oneshot::Receiver<()>>,
    _done: oneshot::Sender<()>,
}

impl Turn {
    fn behind(before: Option<oneshot::Receiver<()>>) -> (Self, oneshot::Receiver<()>) {
        let (done, after) = oneshot::channel();
        (Self { before, _done: done }, after)
    }

    pub(super) async fn comes(&mut self) {
        if let Some(before) = self.before.take() {
            // It ends without a word, too, where its report made no sense.
            let _ = before.await;
        }
    }
}

/// Reports of one stream that are being kept.
pub(super) struct UnderWay(mpsc::Receiver<Kept>);

impl Keeping {
    pub(super) fn new() -> (Self, UnderWay) {
        let (under_way, reports) = mpsc::channel(1);
        (Self { under_way, last: HashMap::new() }, UnderWay(reports))
    }

    /// The place of a report that comes behind all those before.
    pub(super) fn place(&mut self, job: JobInstance) -> Place {
        if self.last.len() >= limits::REPORTS_AHEAD {
            self.last.retain(|_, [_, kept]| !has_ended(kept));
        }
        let [told, kept] = self.last.remove(&job).map_or([None, None], |last| last.map(Some));
        let ((told, was_told), (kept, was_kept)) = (Turn::behind(told), Turn::behind(kept));
        self.last.insert(job, [was_told, was_kept]);
        Place { told, kept }
    }

    /// Has a report kept. Waits while [`limits::REPORTS_AHEAD`] of them are under way.
    pub(super) async fn push(
        &mut self,
        number: u64,
        keep: impl Future<Output = Result<bool, BadReport>> + Send + 'static,
    ) {
        let kept = async move { keep.await.map(|kept| (number, kept)) };
        // Nobody takes it where an earlier one made no sense, which ends the stream.
        let _ = self.under_way.send(Box::pin(kept)).await;
    }
}

fn has_ended(last: &mut oneshot::Receiver<()>) -> bool {
    !matches!(last.try_recv(), Err(oneshot::error::TryRecvError::Empty))
}

impl UnderWay {
    /// Keeps reports as they come, and acknowledges them in the order of the stream: what follows
    /// one that cannot be kept is not kept for its node, either.
    pub(super) async fn acknowledge(
        mut self,
        attachment: &Attachment,
        link: &Link,
    ) -> Result<(), BadReport> {
        let (mut under_way, mut all_kept, mut more) = (FuturesOrdered::new(), true, true);
        while more || !under_way.is_empty() {
            tokio::select! {
                biased;
                Some(done) = under_way.next(), if !under_way.is_empty() => {
                    let (number, kept) = done?;
                    all_kept &= kept;
                    if all_kept {
                        attachment.stored_report(link, number);
                    }
                }
                next = self.0.recv(), if more && under_way.len() < limits::REPORTS_AHEAD => {
                    match next {
                        Some(report) => under_way.push_back(report),
                        None => more = false,
                    }
                }
            }
        }
        Ok(())
    }
}
