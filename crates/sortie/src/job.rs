//! A job: what was started, and what comes of it.

mod builder;
mod children;
mod gather;
mod in_order;
mod observed;
mod received;
mod results;
mod stream;
mod suspend;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use sortie_model::selector::{Query, Selection, Selector};
use sortie_model::spec::{StopSpec, Throttle};
use sortie_model::view::EntryView;
use sortie_model::{EntryId, JobInstance, JobView};
use sortie_wire::session_proto::{Entries, ReceiveMode, ReceiveSpec, WaitCount, WaitSpec};

use crate::answer::{StopReturns, Unfinished};
use crate::error::RequestError;
use crate::job::received::{Batch, Collected, Memory};
use crate::receiver::{ReceiveItem, Receiver};
use crate::session::Session;

pub use builder::JobBuilder;
pub use children::ChildQuestion;
pub use in_order::ResultsInOrder;
pub use received::Received;
pub use results::{ChildResult, ResultError, Results};
pub use stream::{JobStream, Values};

/// What a job's results are when nobody said it: bytes of processes, or values of a function that
/// was started by its name. Such a job has records ([`Job::stream`]) but no results to await.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Untyped {}

/// A handle on a job: one submission and its children (`docs/semantics.md`, section 1.2).
///
/// Handles are cheap to clone, and dropping one stops nothing; a job ends when its children do,
/// when it is stopped, or with its session. A handle on a job of a temporary session keeps that
/// session.
///
/// A job that was started from a task ([`Session::run`], [`Session::map`]) has results of the type
/// `T`, and its handle can be awaited for all of them in child order, which is the order of a map's
/// inputs:
///
/// ```
/// # use std::convert::Infallible;
/// # use sortie::Node;
/// #[sortie::task]
/// async fn double(n: u64) -> Result<u64, Infallible> {
///     Ok(2 * n)
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let node = Node::builder("a").register(double).start().await?;
/// let doubled: Vec<u64> = node.session().map(double, [3, 1, 2]).start().await?.await?;
/// assert_eq!(doubled, [6, 2, 4]);
/// # Ok(())
/// # }
/// ```
///
/// Awaiting waits until the job is finished, also when a child fails early; then it gives the first
/// failure in child order ([`ResultError`]), else that it was stopped or that its input was lost;
/// what the others gave stays for [`Job::results`]. A job that is blocked ends the wait with
/// [`RequestError::Deadlock`]. [`JobBuilder::max_fails`] ends it early; [`Job::events`] tells at
/// once. All results are held in memory; a task that returns `()` gives none. Dropping the future
/// stops nothing and loses nothing: what it took comes first with the next call on a clone.
pub struct Job<T = Untyped> {
    session: Session,
    id: EntryId,
    instance: JobInstance,
    memory: Arc<Memory>,
    results: PhantomData<fn() -> T>,
}

impl<T> Clone for Job<T> {
    fn clone(&self) -> Self {
        self.typed()
    }
}

impl<T> fmt::Debug for Job<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("id", &self.id).field("instance", &self.instance).finish()
    }
}

impl Job {
    pub(crate) fn new(session: Session, id: EntryId, instance: JobInstance) -> Self {
        Self { session, id, instance, memory: Arc::default(), results: PhantomData }
    }
}

impl<T> Job<T> {
    /// The same job, with results that are read as another type: for functions that were started by
    /// their name, and jobs that were found. Whether they are of that type shows when they are
    /// read.
    pub fn typed<U>(&self) -> Job<U> {
        let Self { session, id, instance, memory, .. } = self;
        Job {
            session: session.clone(),
            id: *id,
            instance: *instance,
            memory: Arc::clone(memory),
            results: PhantomData,
        }
    }

    /// The job's number in its session, for people.
    pub const fn id(&self) -> EntryId {
        self.id
    }

    /// The job's identity.
    pub const fn instance(&self) -> JobInstance {
        self.instance
    }

    /// The job's session.
    pub const fn session(&self) -> &Session {
        &self.session
    }

    /// The job as its session shows it now.
    ///
    /// # Errors
    /// [`RequestError`]: [`RequestError::Refused`] with
    /// [`ErrorCode::NotFound`](crate::ErrorCode::NotFound) once it was removed.
    ///
    /// # Cancel safety
    /// Cancel safe: it changes nothing.
    pub async fn view(&self) -> Result<JobView, RequestError> {
        let query = Query { selection: self.selection(), ..Query::default() };
        self.own_view(self.session.get(query).await?)
    }

    /// Takes what is there now, without waiting, children in child order: it is gone from the node
    /// when this returns. Everything is held in memory; for output that does not fit, use
    /// [`Job::stream`].
    ///
    /// # Errors
    /// [`RequestError`]; [`RequestError::Refused`] with
    /// [`ErrorCode::NotFound`](crate::ErrorCode::NotFound) once the job was removed. What was taken
    /// before the error is not lost: the next call on this handle, or on a clone of it, returns it
    /// first.
    ///
    /// # Cancel safety
    /// As for an error.
    pub async fn receive(&self) -> Result<Vec<Received>, RequestError> {
        let mut receiver = self.receiver(ReceiveMode::Take).await?;
        let mut taken = Collected::new(&self.memory, self.memory.take_stash());
        while let Some(item) = receiver.next().await? {
            match item {
                ReceiveItem::Records { number, source, records } => {
                    taken.add(&source, records);
                    receiver.acknowledge(number);
                }
                ReceiveItem::End(end) => end.about_one()?,
                ReceiveItem::Settled { .. } | ReceiveItem::Asked { .. } => {}
            }
        }
        Ok(taken.hand_over().into_iter().map(Received::encoded).collect())
    }

    /// What is there now, and it stays: the next receive starts with it again. Everything is held
    /// in memory.
    ///
    /// # Errors
    /// [`RequestError`], as for [`Job::view`].
    ///
    /// # Cancel safety
    /// Cancel safe: keeping changes nothing.
    pub async fn receive_keep(&self) -> Result<Vec<Received>, RequestError> {
        let mut receiver = self.receiver(ReceiveMode::Keep).await?;
        let mut kept = Vec::new();
        while let Some(item) = receiver.next().await? {
            match item {
                ReceiveItem::Records { source, records, .. } => {
                    kept.extend(Batch::new(&source, records));
                }
                ReceiveItem::End(end) => end.about_one()?,
                ReceiveItem::Settled { .. } | ReceiveItem::Asked { .. } => {}
            }
        }
        Ok(kept)
    }

    /// Takes records one by one as they come, in order of arrival, until the job is settled. A
    /// batch of them is acknowledged, and so freed on the node, when the record after its last one
    /// is asked for. The stream ends with [`RequestError::Deadlock`] when the job is blocked.
    ///
    /// Dropping the stream stops nothing. Records that were not handed out come again to the next
    /// receive. Of those that were, the last few batches' may come again too, under the same
    /// sequence numbers, to who receives by another handle; this one and its clones leave them out.
    ///
    /// The fastest way through many records is [`Job::receiver`], which hands over whole batches.
    pub fn stream(&self) -> JobStream {
        let job: Job = self.typed();
        let mode = ReceiveMode::TakeUntil { finished: false };
        let stash = self.memory.take_stash();
        let open = async move { job.receiver(mode).await };
        JobStream::new(Arc::clone(&self.memory), stash, open)
    }

    /// The values that the job's functions give, decoded, in order of arrival, until the job is
    /// settled: the records of the stream `output`. A child that failed is an error at the end. A
    /// stop, or an input that was lost, is none: [`Job::results`] says these, too. Records of other
    /// streams are taken and left out.
    ///
    /// What dropping does is said at [`Job::stream`].
    pub fn values<V: serde::de::DeserializeOwned + 'static>(&self) -> Values<V> {
        Values::new(self.stream())
    }

    /// Receives batch by batch, with acknowledgements in the caller's hands.
    ///
    /// # Errors
    /// [`RequestError`] when the node cannot be asked; a refusal comes from the first
    /// [`Receiver::next`].
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is taken before it is acknowledged.
    pub async fn receiver(&self, mode: ReceiveMode) -> Result<Receiver, RequestError> {
        self.open(ReceiveSpec::new(self.selection(), mode)).await
    }

    /// A receive of this job. It waits until those that were dropped have given back what they
    /// held, so that it misses nothing.
    async fn open(&self, spec: ReceiveSpec) -> Result<Receiver, RequestError> {
        let departures = &self.memory.departures;
        departures.over().await;
        Ok(self.session.receive(spec).await?.known_to(departures))
    }

    /// Waits until the job is settled: finished, or disconnected or suspended
    /// (`docs/semantics.md`, section 3.4). A receive afterwards sees all output.
    ///
    /// # Errors
    /// [`RequestError`]; one with [`ErrorCode::Deadlock`](crate::ErrorCode::Deadlock) when the job
    /// waits for input that nobody has given, with
    /// [`ErrorCode::NotFound`](crate::ErrorCode::NotFound) once it was removed, with
    /// [`ErrorCode::ShuttingDown`](crate::ErrorCode::ShuttingDown) when its session ends.
    ///
    /// # Cancel safety
    /// Cancel safe: waiting changes nothing.
    pub async fn wait(&self) -> Result<JobView, RequestError> {
        self.await_settled(None).await?.ok_or(RequestError::Unexpected)
    }

    /// The same for at most `timeout`; none when the time ran out, and the job runs on. Zero is a
    /// poll.
    ///
    /// # Errors
    /// As for [`Job::wait`].
    ///
    /// # Cancel safety
    /// Cancel safe: waiting changes nothing.
    pub async fn wait_timeout(&self, timeout: Duration) -> Result<Option<JobView>, RequestError> {
        self.await_settled(Some(timeout)).await
    }

    async fn await_settled(
        &self,
        timeout: Option<Duration>,
    ) -> Result<Option<JobView>, RequestError> {
        let spec = WaitSpec {
            selection: self.selection(),
            count: WaitCount::All,
            finished: false,
            timeout,
        };
        let waited = self.session.wait(spec).await?;
        if waited.timed_out {
            return Ok(None);
        }
        self.own_view(waited.entries).map(Some)
    }

    /// Stops the job on every node, queued children included, and waits until it is finished, but
    /// no longer than its grace and [`limits::STOP_MARGIN`](crate::limits::STOP_MARGIN): the view
    /// says what runs on, such as children on a node that is away, which are told when it is back
    /// (`docs/semantics.md`, section 3.5). What it produced stays receivable.
    ///
    /// # Errors
    /// [`RequestError`], as for [`Job::view`]. Stopping what is finished is none.
    ///
    /// # Cancel safety
    /// A dropped call takes no stop back.
    pub async fn stop(&self) -> Result<JobView, RequestError> {
        self.stop_as(StopSpec::default()).await
    }

    /// The same without grace: every process tree is killed, every function aborted at its next
    /// await.
    ///
    /// # Errors
    /// As for [`Job::stop`].
    ///
    /// # Cancel safety
    /// As for [`Job::stop`].
    pub async fn stop_now(&self) -> Result<JobView, RequestError> {
        self.stop_as(StopSpec::NOW).await
    }

    async fn stop_as(&self, how: StopSpec) -> Result<JobView, RequestError> {
        let selection = self.selection();
        self.own_view(self.session.stop(selection, how, StopReturns::WhenFinished).await?)
    }

    /// Removes the finished job with everything of it, unread records included.
    ///
    /// # Errors
    /// [`RequestError`]: [`RequestError::Refused`] with
    /// [`ErrorCode::NotFinished`](crate::ErrorCode::NotFinished) while it is not finished.
    ///
    /// # Cancel safety
    /// A dropped call may have been carried out; a second one then finds no job.
    pub async fn remove(&self) -> Result<(), RequestError> {
        let removed = self.session.remove(self.selection(), Unfinished::Refuse).await?;
        self.own_view(removed).map(|_| ())
    }

    /// Changes how many children may be in progress at once, in any case
    /// [`limits::IN_PROGRESS_PER_JOB`](crate::limits::IN_PROGRESS_PER_JOB). A higher number starts
    /// more at once, a lower one stops nothing.
    ///
    /// # Errors
    /// [`RequestError`], as for [`Job::view`].
    ///
    /// # Cancel safety
    /// A dropped call may have been carried out; it can be repeated.
    pub async fn set_throttle(&self, throttle: Throttle) -> Result<(), RequestError> {
        let changed = self.session.set_throttle(self.selection(), throttle).await?;
        self.own_view(changed).map(|_| ())
    }

    fn selection(&self) -> Selection {
        Selection::of([Selector::Instance(self.instance.0)])
    }

    /// This job in an answer that is about nothing else.
    fn own_view(&self, answer: Entries) -> Result<JobView, RequestError> {
        let Entries { entries, troubles, .. } = answer;
        if !troubles.is_empty() {
            return Err(RequestError::of_troubles(troubles));
        }
        let own = entries.into_iter().find_map(|entry| match entry {
            EntryView::Job(view) if view.instance == self.instance => Some(view),
            _ => None,
        });
        own.ok_or(RequestError::Unexpected)
    }
}
