//! The typed results of a job: what its tasks returned and emitted, each with its child.

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use sortie_model::record::StreamSet;
use sortie_model::selector::Selection;
use sortie_model::{EntryId, Ordinal, Reason, Stream as RecordStream};
use sortie_wire::session_proto::{Failure, ReceiveMode, ReceiveSpec};

use crate::error::{RequestError, StartError, ValueError};
use crate::job::in_order::ResultsInOrder;
use crate::job::received::{Memory, Received};
use crate::job::stream::JobStream;
use crate::job::{Job, Untyped};
use crate::receiver::ReceiveEnd;

/// One value that a child gave, and the child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildResult<T> {
    /// The child's place among its siblings, from 0: the place of a map's input.
    pub ordinal: Ordinal,
    /// The child's number in its session.
    pub child: EntryId,
    /// The name of the child's node, or `localhost`.
    pub location: Arc<str>,
    /// The value.
    pub value: T,
}

/// Why a job does not give all of its results.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResultError {
    /// A child failed.
    #[error("child {} on {} failed: {}", .0.child, .0.location, .0.reason)]
    ChildFailed(Failure),
    /// The job was stopped before it could give all of its results.
    #[error("the job was stopped before it gave all of its results")]
    Stopped {
        /// How many of its children were stopped. Inputs of a map that had no child yet are not
        /// counted.
        children: u64,
    },
    /// The input of the job, a map, did not reach its end: an input has no encoding, or the way to
    /// the node broke, or that failed. Why is known to handles that come from the start.
    #[error("the job's input was lost, so some of its results are missing")]
    InputLost(#[source] Option<Arc<StartError>>),
    /// A child gave what is no value of the wanted type, or one that was live and could not be
    /// encoded.
    #[error("child {child} on {location} gave no value of the wanted type")]
    Value {
        /// The child.
        child: EntryId,
        /// Its node's name, or `localhost`.
        location: Arc<str>,
        /// What is wrong with the value.
        #[source]
        source: ValueError,
    },
    /// The results could not be received, or the job is blocked ([`RequestError::Deadlock`]).
    #[error(transparent)]
    Request(#[from] RequestError),
}

impl ResultError {
    /// The child that it is about, if it is about one.
    pub const fn child(&self) -> Option<EntryId> {
        match self {
            Self::ChildFailed(failure) => Some(failure.child),
            Self::Value { child, .. } => Some(*child),
            Self::Stopped { .. } | Self::InputLost(_) | Self::Request(_) => None,
        }
    }

    /// The name of that child's node, or `localhost`.
    pub fn location(&self) -> Option<&str> {
        match self {
            Self::ChildFailed(failure) => Some(&failure.location),
            Self::Value { location, .. } => Some(location),
            Self::Stopped { .. } | Self::InputLost(_) | Self::Request(_) => None,
        }
    }

    /// Why the child failed, if that is what happened.
    pub const fn reason(&self) -> Option<&Reason> {
        match self {
            Self::ChildFailed(failure) => Some(&failure.reason),
            _ => None,
        }
    }

    /// Whether the same call, or the same work, may succeed later or elsewhere.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::ChildFailed(failure) => failure.reason.is_retryable(),
            Self::InputLost(why) => why.as_ref().is_some_and(|error| error.is_retryable()),
            Self::Request(error) => error.is_retryable(),
            Self::Stopped { .. } | Self::Value { .. } => false,
        }
    }
}

/// Why there are not all results: one error for each failed child, then one for a stop, then one
/// for inputs that were lost.
#[derive(Debug, Default)]
pub(super) struct Shortfall {
    failures: std::vec::IntoIter<Failure>,
    stopped: Option<u64>,
    /// Why, if that is known.
    lost: Option<Option<Arc<StartError>>>,
}

/// What the end of a receive says of missing results.
#[derive(Debug, Default)]
pub(super) struct Missing {
    /// Of failed children.
    pub(super) failures: Vec<Failure>,
    /// Children that were stopped, if any were.
    pub(super) stopped: Option<u64>,
    /// Not all children came, and those that did are none of these.
    pub(super) lacks_children: bool,
}

impl Missing {
    pub(super) fn of(end: &ReceiveEnd) -> Self {
        let (failures, stopped) = (end.failures.clone(), end.stopped());
        Self { failures, stopped, lacks_children: end.lacks_children() }
    }
}

impl Shortfall {
    pub(super) fn of(Missing { failures, stopped, lacks_children }: Missing) -> Self {
        Self { failures: failures.into_iter(), stopped, lost: lacks_children.then_some(None) }
    }

    /// The same of a whole job, whose handles may know that its input was lost, and why.
    pub(super) fn of_job(missing: Missing, memory: &Memory) -> Self {
        let shortfall = Self::of(missing);
        Self { lost: memory.lost_input().map(Some).or(shortfall.lost), ..shortfall }
    }

    pub(super) fn next(&mut self) -> Option<ResultError> {
        if let Some(failure) = self.failures.next() {
            return Some(ResultError::ChildFailed(failure));
        }
        let stopped = self.stopped.take().map(|children| ResultError::Stopped { children });
        stopped.or_else(|| self.lost.take().map(ResultError::InputLost))
    }
}

/// A job's results as they come; see [`Job::results`]. Ends when the job is finished, or after an
/// error of the request.
#[must_use = "a stream does nothing until it is polled"]
pub struct Results<T> {
    job: Job,
    records: JobStream,
    shortfall: Option<Shortfall>,
    value: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned + 'static> Results<T> {
    /// The same results in child order, which is the order of a map's inputs. Results that this
    /// stream has not handed out come first to whom they belong: nothing is lost by the change.
    ///
    /// Memory stays bounded, however long the first child takes: results that it is not the turn of
    /// stay in their mailboxes on the session's node (which writes what is large to disk), but for
    /// the first batch of each of the next
    /// [`limits::RESULTS_AHEAD`](crate::limits::RESULTS_AHEAD) children, at most about
    /// [`limits::BATCH_BYTES`](crate::limits::BATCH_BYTES) each. It costs one request for each
    /// child.
    pub fn in_order(self) -> ResultsInOrder<T> {
        let job = self.job.clone();
        // Gives back what it holds before anyone else looks.
        drop(self);
        ResultsInOrder::new(job)
    }

    /// The next result, without an import: what `StreamExt::next` gives.
    ///
    /// # Errors
    /// [`ResultError`]: a value of another type in its place; failed children (at most
    /// [`limits::FAILURES_SHOWN`](crate::limits::FAILURES_SHOWN)), a stop, a lost input at the end;
    /// an error of the request, which is the last item.
    ///
    /// # Cancel safety
    /// Cancel safe: no result is lost.
    pub async fn next(&mut self) -> Option<Result<ChildResult<T>, ResultError>> {
        StreamExt::next(self).await
    }
}

impl<T: DeserializeOwned + 'static> Stream for Results<T> {
    type Item = Result<ChildResult<T>, ResultError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(shortfall) = &mut this.shortfall {
                return Poll::Ready(shortfall.next().map(Err));
            }
            match ready!(this.records.poll_as_it_is(cx)) {
                Some(Ok(received)) => return Poll::Ready(Some(read(received))),
                Some(Err(error)) => {
                    this.shortfall = Some(Shortfall::default());
                    return Poll::Ready(Some(Err(error.into())));
                }
                None => {
                    let end = this.records.take_end();
                    this.shortfall = Some(Shortfall::of_job(end, &this.job.memory));
                }
            }
        }
    }
}

impl<T> std::fmt::Debug for Results<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Results").field(&self.records).finish()
    }
}

/// Reads a record as a result.
pub(super) fn read<T>(received: Received) -> Result<ChildResult<T>, ResultError>
where
    T: DeserializeOwned + 'static,
{
    let value = received.value_or_handle();
    let Received { child, ordinal, location, .. } = received;
    match value {
        Ok(value) => Ok(ChildResult { ordinal, child, location, value }),
        Err(source) => Err(ResultError::Value { child, location, source }),
    }
}

/// How results are received: output only, so that warnings and the like stay for other readers.
pub(super) fn receive_spec(selection: Selection) -> ReceiveSpec {
    let mode = ReceiveMode::TakeUntil { finished: true };
    let streams = StreamSet::EMPTY.with(RecordStream::Output);
    ReceiveSpec { streams, ..ReceiveSpec::new(selection, mode) }
}

impl<T: DeserializeOwned + 'static> Job<T> {
    /// The results of the job's children as they come, each with its child, until the job is
    /// finished: what they returned and what they emitted. A task that returns `()` gives none.
    /// Records of other streams stay for other readers.
    ///
    /// Failed children, a stop and a lost input are errors at the end, so a stream without errors
    /// is complete. [`Results::in_order`] gives them in child order instead.
    ///
    /// Dropping the stream stops nothing and loses nothing, as for [`Job::stream`].
    pub fn results(&self) -> Results<T> {
        let job: Job<Untyped> = self.typed();
        let stash = job.memory.take_output_stash();
        let opening = job.clone();
        let open = async move { opening.open(receive_spec(opening.selection())).await };
        let records = JobStream::new(Arc::clone(&job.memory), stash, open);
        Results { job, records, shortfall: None, value: PhantomData }
    }
}
