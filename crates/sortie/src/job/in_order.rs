//! A job's results in child order, without holding what it is not the turn of.
//!
//! Each child is received by a request of its own, the next few ahead of their turn. So what waits
//! for its turn lies in the mailboxes of the session's node, and a slow first child costs no memory
//! here.

use std::collections::VecDeque;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use sortie_model::selector::{Selection, Selector};
use sortie_model::{EntryId, JobView, Ordinal, State, limits};
use sortie_wire::ErrorCode;

use crate::error::RequestError;
use crate::job::Job;
use crate::job::received::Received;
use crate::job::results::{ChildResult, Missing, ResultError, Shortfall, read, receive_spec};
use crate::job::stream::JobStream;
use crate::watch::Happenings;

/// A job's results in child order, which is the order of a map's inputs; see
/// [`Results::in_order`](crate::Results::in_order). A child that failed or was stopped is an error
/// in its place, after what it gave before; a stop that came before the last input had its child,
/// and a lost input, are errors at the end. Ends when the job is finished and everything was handed
/// out, or after an error of the request.
///
/// Dropping it stops nothing and loses nothing, as for [`Job::stream`].
#[must_use = "a stream does nothing until it is polled"]
pub struct ResultsInOrder<T> {
    job: Job,
    /// What earlier receives left, in child order.
    stash: VecDeque<Received>,
    /// The child whose turn it is, and those after it.
    children: VecDeque<Child>,
    shortfall: Shortfall,
    /// Children that were stopped, if a stop cut the list of them and no child said so.
    stopped: Option<u64>,
    /// The ordinal of the first child that no request was made for.
    next: u32,
    /// The numbers of that child and of those after it, a page at most.
    listed: VecDeque<EntryId>,
    step: Step,
    value: PhantomData<fn() -> T>,
}

struct Child {
    ordinal: Ordinal,
    records: JobStream,
}

enum Step {
    /// Every listed child was read: which come next?
    Listing(Pin<Box<dyn Future<Output = ListedOrNot> + Send>>),
    /// Children are read; the watch, if there was need of one, tells of more to come.
    Reading(Option<Box<Happenings>>),
    /// All children are listed.
    Closed,
    /// All were read: how did the job end?
    Ending(Pin<Box<dyn Future<Output = Result<JobView, RequestError>> + Send>>),
    /// It ended, or a request failed.
    Over,
}

/// Children that were listed, and the job as it was just before.
struct Listed {
    view: JobView,
    children: Vec<EntryId>,
    watch: Option<Box<Happenings>>,
}

type ListedOrNot = Result<Listed, RequestError>;

impl<T> ResultsInOrder<T> {
    pub(super) fn new(job: Job) -> Self {
        let mut stash = job.memory.take_output_stash();
        stash.sort_by_key(|received| (received.ordinal, received.record.seq));
        Self {
            job,
            stash: stash.into(),
            children: VecDeque::new(),
            shortfall: Shortfall::default(),
            stopped: None,
            next: 0,
            listed: VecDeque::new(),
            step: Step::Reading(None),
            value: PhantomData,
        }
    }

    /// Makes the requests for the next children.
    fn look_ahead(&mut self, cx: &mut Context<'_>) {
        while self.children.len() <= limits::RESULTS_AHEAD
            && let Some(child) = self.listed.pop_front()
        {
            let spec = receive_spec(Selection::of([Selector::Id(child)]));
            let job = self.job.clone();
            let open = async move { job.open(spec).await };
            let records = JobStream::new(Arc::clone(&self.job.memory), Vec::new(), open);
            self.children.push_back(Child { ordinal: Ordinal(self.next), records });
            self.next = self.next.saturating_add(1);
        }
        for child in self.children.iter_mut().skip(1) {
            child.records.poll_ahead(cx);
        }
    }

    /// Lists more children when every listed one was read. Ready when there are some, or none to
    /// come and it is known what is missing.
    fn poll_list(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RequestError>> {
        loop {
            match std::mem::replace(&mut self.step, Step::Over) {
                Step::Reading(watch) => {
                    let (job, from) = (self.job.clone(), u64::from(self.next));
                    self.step = Step::Listing(Box::pin(list(job, from, watch)));
                }
                Step::Listing(mut listing) => match listing.as_mut().poll(cx) {
                    Poll::Ready(listed) => return Poll::Ready(listed.map(|some| self.add(some))),
                    Poll::Pending => {
                        self.step = Step::Listing(listing);
                        return Poll::Pending;
                    }
                },
                Step::Closed => {
                    let job = self.job.clone();
                    self.step = Step::Ending(Box::pin(async move { job.view().await }));
                }
                Step::Ending(mut ending) => match ending.as_mut().poll(cx) {
                    Poll::Ready(view) => return Poll::Ready(self.end(view)),
                    Poll::Pending => {
                        self.step = Step::Ending(ending);
                        return Poll::Pending;
                    }
                },
                Step::Over => return Poll::Ready(Ok(())),
            }
        }
    }

    fn add(&mut self, listed: Listed) {
        let Listed { view, children, watch } = listed;
        self.listed = children.into();
        let known = u64::from(self.next) + self.listed.len() as u64;
        if view.tally.open || known < view.tally.total() {
            self.step = Step::Reading(watch);
            return;
        }
        // A stop that came before may have cut the list.
        self.stopped = view.stopped_by.map(|_| view.tally.of(State::Stopped));
        self.step = Step::Closed;
    }

    /// The job has ended like that, and everything was handed out.
    fn end(&mut self, view: Result<JobView, RequestError>) -> Result<(), RequestError> {
        let lacks_children = match view {
            Ok(view) => view.lacks_children(),
            // Somebody removed it meanwhile, or closed its session.
            Err(error)
                if matches!(
                    error.code(),
                    ErrorCode::NotFound | ErrorCode::Gone | ErrorCode::NoSession
                ) =>
            {
                false
            }
            Err(error) => return Err(error),
        };
        let missing =
            Missing { stopped: self.stopped.take(), lacks_children, ..Missing::default() };
        self.shortfall = Shortfall::of_job(missing, &self.job.memory);
        Ok(())
    }

    /// The next record of the child whose turn it is; none when the child has given everything.
    fn poll_child(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Received, RequestError>>> {
        let Some(child) = self.children.front_mut() else { return Poll::Ready(None) };
        if self.stash.front().is_some_and(|left| left.ordinal <= child.ordinal)
            && let Some(left) = self.stash.pop_front()
        {
            return Poll::Ready(Some(Ok(left)));
        }
        child.records.poll_as_it_is(cx)
    }
}

/// Lists the children from that place on, once there are any or none will come: a page of them.
async fn list(job: Job, from: u64, mut watch: Option<Box<Happenings>>) -> ListedOrNot {
    loop {
        let view = job.view().await?;
        let is_there = view.tally.total() > from;
        if is_there || !view.tally.open {
            let children = if is_there { job.child_ids(from).await? } else { Vec::new() };
            if is_there && children.is_empty() {
                return Err(RequestError::Unexpected);
            }
            return Ok(Listed { view, children, watch });
        }
        match &mut watch {
            None => watch = Some(Box::new(job.events().await?)),
            Some(watch) => {
                watch.next().await?.ok_or(RequestError::Lost)?;
            }
        }
    }
}

impl<T: DeserializeOwned + 'static> ResultsInOrder<T> {
    /// The next result, without an import: what `StreamExt::next` gives.
    ///
    /// # Errors
    /// [`ResultError`]: a value of another type, a failed or a stopped child, each in its place; a
    /// lost input at the end; an error of the request, which is the last item.
    ///
    /// # Cancel safety
    /// Cancel safe: no result is lost.
    pub async fn next(&mut self) -> Option<Result<ChildResult<T>, ResultError>> {
        StreamExt::next(self).await
    }
}

impl<T: DeserializeOwned + 'static> Stream for ResultsInOrder<T> {
    type Item = Result<ChildResult<T>, ResultError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(error) = this.shortfall.next() {
                return Poll::Ready(Some(Err(error)));
            }
            this.look_ahead(cx);
            let fault = if this.children.is_empty() {
                if matches!(this.step, Step::Over) {
                    return Poll::Ready(None);
                }
                match this.poll_list(cx) {
                    Poll::Ready(Ok(())) => continue,
                    Poll::Ready(Err(error)) => error,
                    Poll::Pending => return Poll::Pending,
                }
            } else {
                match this.poll_child(cx) {
                    Poll::Ready(Some(Ok(received))) => return Poll::Ready(Some(read(received))),
                    Poll::Ready(Some(Err(error))) => error,
                    Poll::Ready(None) => {
                        let ended = this.children.pop_front();
                        let end = ended.map(|mut child| child.records.take_end());
                        let end = end.unwrap_or_default();
                        if end.stopped.is_some() {
                            this.stopped = None;
                        }
                        this.shortfall = Shortfall::of(end);
                        continue;
                    }
                    Poll::Pending => return Poll::Pending,
                }
            };
            this.step = Step::Over;
            this.children.clear();
            this.listed.clear();
            return Poll::Ready(Some(Err(fault.into())));
        }
    }
}

impl<T> Drop for ResultsInOrder<T> {
    fn drop(&mut self) {
        if !self.stash.is_empty() {
            self.job.memory.stash(self.stash.drain(..).collect());
        }
    }
}

impl<T> std::fmt::Debug for ResultsInOrder<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResultsInOrder").field("job", &self.job).finish_non_exhaustive()
    }
}
