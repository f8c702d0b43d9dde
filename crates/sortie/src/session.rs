//! A session: the scope in which verbs act, one method each.

mod held;
mod lasting;
mod start;
mod suspend;

use std::sync::Arc;

use sortie_actors::data::exchange::ClientEnd;
use sortie_model::selector::{Query, Selection, Selector};
use sortie_model::spec::{StopSpec, Throttle};
use sortie_model::view::EntryView;
use sortie_model::{ChildKey, JobInstance, JobSpec, JobView, Ordinal, QuestionNumber, SessionView};
use sortie_wire::session_proto::{
    Answer, Ask, Entries, Explanation, Plan, ReceiveSpec, SessionRef, WaitSpec,
};
use sortie_wire::{ErrorCode, RemoteError};
use tokio::sync::OnceCell;

use crate::answer::{StopReturns, Unfinished, Waited};
use crate::child::Child;
use crate::error::{AnswerError, RequestError, encode_value};
use crate::job::Job;
use crate::monitor::Monitor;
use crate::receiver::Receiver;
use crate::route::{Route, answer};
use crate::watch::Happenings;

/// A handle on a session: a named scope on one node that owns jobs (`docs/semantics.md`, section
/// 1.1).
///
/// Handles are cheap to clone, and dropping one stops nothing. The one exception is a temporary
/// session ([`Client::temporary`](crate::Client::temporary)): it lives as long as a handle on it,
/// or on one of its jobs, exists, and ends with the last: its unfinished jobs are stopped, its
/// results dropped. A session that was opened or connected to ([`Client::open_session`],
/// [`Client::connect_session`]) outlives its handles; they are what keeps its idle time from
/// running (section 4.1). Once their client has parted from it they are of no more use: each
/// request is refused with [`ErrorCode::SessionTaken`].
///
/// [`Client::open_session`]: crate::Client::open_session
/// [`Client::connect_session`]: crate::Client::connect_session
///
/// Every async method is one request to the session's node. Dropping its future abandons the
/// request; what the node already did stays done.
#[derive(Debug, Clone)]
pub struct Session {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    route: Route,
    reference: SessionRef,
    presence: Option<Presence>,
    /// This very session, for requests that may have to be repeated.
    firm: OnceCell<SessionRef>,
}

/// What shows the node that there is a handle.
#[derive(Debug)]
struct Presence {
    view: SessionView,
    /// Held, never used: dropping it ends a temporary session, and lets another one be idle.
    _exchange: ClientEnd,
}

impl Session {
    pub(crate) fn new(route: Route, reference: SessionRef) -> Self {
        Self::made(route, reference, None)
    }

    pub(crate) async fn open_temporary(route: Route) -> Result<Self, RequestError> {
        let exchange = route.open(SessionRef::Default, Ask::OpenTemporary).await?;
        Self::present(route, exchange, |view| SessionRef::Instance(view.instance)).await
    }

    /// A session that an exchange gives, and that it stands for as long as it is open.
    async fn present(
        route: Route,
        mut exchange: ClientEnd,
        reference: impl FnOnce(&SessionView) -> SessionRef,
    ) -> Result<Self, RequestError> {
        let Answer::Session(view) = answer(&mut exchange.receiver).await? else {
            return Err(RequestError::Unexpected);
        };
        let reference = reference(&view);
        let presence = Some(Presence { view, _exchange: exchange });
        Ok(Self::made(route, reference, presence))
    }

    fn made(route: Route, reference: SessionRef, presence: Option<Presence>) -> Self {
        let firm = OnceCell::new();
        Self { inner: Arc::new(Inner { route, reference, presence, firm }) }
    }

    /// What the node said of this session when it was opened or connected to; none of a session
    /// that was only named.
    pub fn view_at_start(&self) -> Option<&SessionView> {
        self.inner.presence.as_ref().map(|presence| &presence.view)
    }

    /// What a start would do: its nodes, the unreachable ones among them, how many children.
    /// Touches nothing.
    ///
    /// # Errors
    /// [`RequestError`], as the start would give it.
    ///
    /// # Cancel safety
    /// Cancel safe: it changes nothing.
    pub async fn dry_run(&self, spec: JobSpec) -> Result<Plan, RequestError> {
        match self.ask(Ask::DryRun { spec: Box::new(spec) }).await? {
            Answer::Plan(plan) => Ok(plan),
            _ => Err(RequestError::Unexpected),
        }
    }

    /// Lists jobs and children (`docs/semantics.md`, section 3.2), one page at a time: at most
    /// [`limits::PAGE_MOST`](crate::limits::PAGE_MOST) entries and about
    /// [`limits::ENTRIES_BYTES`](crate::limits::ENTRIES_BYTES), whatever the query asks for.
    ///
    /// # Errors
    /// [`RequestError`]. A selector that names nothing is a trouble in the answer, not an error.
    ///
    /// # Cancel safety
    /// Cancel safe: it changes nothing.
    pub async fn get(&self, query: Query) -> Result<Entries, RequestError> {
        self.entries(Ask::Get(Box::new(query))).await
    }

    /// A handle on a child, whether it exists or not: that shows when something is sent to it.
    pub fn child(&self, job: JobInstance, ordinal: Ordinal) -> Child {
        Child::new(self.clone(), ChildKey { job, ordinal })
    }

    /// A handle on one job that exists: that of the selector's first match.
    ///
    /// # Errors
    /// [`RequestError`]: [`RequestError::Refused`] with
    /// [`ErrorCode::NotFound`](crate::ErrorCode::NotFound) when nothing matches, or only children
    /// do.
    ///
    /// # Cancel safety
    /// Cancel safe: it changes nothing.
    pub async fn find(&self, selector: Selector) -> Result<Job, RequestError> {
        let nothing = || {
            let sentence = format!("`{selector}` names no job");
            RequestError::Refused(RemoteError::new(ErrorCode::NotFound, sentence))
        };
        let query = Query { selection: Selection::of([selector.clone()]), ..Query::default() };
        let Entries { entries, troubles, .. } = self.get(query).await?;
        let job = entries.into_iter().find_map(|entry| match entry {
            EntryView::Job(view) => Some(self.handle(&view)),
            EntryView::Child(_) => None,
        });
        match (job, troubles.is_empty()) {
            (Some(job), _) => Ok(job),
            (None, false) => Err(RequestError::of_troubles(troubles)),
            (None, true) => Err(nothing()),
        }
    }

    /// A handle on a job that this session showed. Asks nothing.
    pub fn handle(&self, view: &JobView) -> Job {
        Job::new(self.clone(), view.id, view.instance)
    }

    /// Receives records (`docs/semantics.md`, section 3.3). Records come in batches, each to be
    /// acknowledged once it is written out.
    ///
    /// # Errors
    /// [`RequestError`] when the node cannot be asked; a refusal comes from the first
    /// [`Receiver::next`], with [`ErrorCode::Usage`](crate::ErrorCode::Usage) for choices that
    /// contradict each other.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is taken before it is acknowledged.
    pub async fn receive(&self, spec: ReceiveSpec) -> Result<Receiver, RequestError> {
        if let Some(mut again) = self.receive_on(&spec).await? {
            return Ok(Receiver::lasting(again.open().await?, again));
        }
        Ok(Receiver::new(self.open(Ask::Receive(Box::new(spec))).await?))
    }

    /// Waits for entries (`docs/semantics.md`, section 3.4). What runs out of time runs on; the end
    /// of the time is no error.
    ///
    /// # Errors
    /// [`RequestError`]; what is blocked on input is an error with
    /// [`ErrorCode::Deadlock`](crate::ErrorCode::Deadlock), the end of the session one with
    /// [`ErrorCode::ShuttingDown`]. A selector that names nothing is a trouble in the answer.
    ///
    /// # Cancel safety
    /// Cancel safe: waiting changes nothing.
    pub async fn wait(&self, spec: WaitSpec) -> Result<Waited, RequestError> {
        match self.lasting() {
            Some(remote) => self.wait_on(remote, spec).await,
            None => lasting::waited(self.ask(Ask::Wait(spec)).await),
        }
    }

    /// Stops entries, those of a job on every node (`docs/semantics.md`, section 3.5). Stopping
    /// what is finished is no error.
    ///
    /// # Errors
    /// [`RequestError`]. A selector that names nothing is a trouble in the answer; what is not
    /// finished when it returns shows its state.
    ///
    /// # Cancel safety
    /// A dropped call takes no stop back; it can be repeated.
    pub async fn stop(
        &self,
        selection: Selection,
        how: StopSpec,
        returns: StopReturns,
    ) -> Result<Entries, RequestError> {
        let wait = returns == StopReturns::WhenFinished;
        match self.lasting().filter(|_| wait) {
            Some(remote) => self.stop_on(remote, (selection, how)).await,
            None => self.entries(Ask::Stop { selection, how, wait }).await,
        }
    }

    /// Removes finished jobs with everything of theirs (`docs/semantics.md`, section 3.5); the
    /// answer shows them as they were.
    ///
    /// # Errors
    /// [`RequestError`]. What cannot be removed is a trouble in the answer, and the rest is
    /// removed: [`ErrorCode::NotFinished`], and [`ErrorCode::IsChild`] for a child alone.
    ///
    /// # Cancel safety
    /// A dropped call may have been carried out; a second one then finds nothing.
    pub async fn remove(
        &self,
        selection: Selection,
        unfinished: Unfinished,
    ) -> Result<Entries, RequestError> {
        let force = unfinished == Unfinished::StopFirst;
        self.entries(Ask::Remove { selection, force }).await
    }

    /// One screen about a job or a child: what happened, why, and what to do next.
    ///
    /// # Errors
    /// [`RequestError`]; [`ErrorCode::NotFound`] when the selector names nothing.
    ///
    /// # Cancel safety
    /// Cancel safe: it changes nothing.
    pub async fn explain(&self, selector: Selector) -> Result<Explanation, RequestError> {
        match self.ask(Ask::Explain(selector)).await? {
            Answer::Explanation(explanation) => Ok(*explanation),
            _ => Err(RequestError::Unexpected),
        }
    }

    /// Answers what a child asks (`docs/semantics.md`, section 2.3), and returns once the child
    /// took the answer. The selector names the child, or a job of which one child asks; without a
    /// `number` it is the question that is open when the answer comes.
    ///
    /// # Errors
    /// [`AnswerError`]; as codes [`NotAsking`](ErrorCode::NotAsking) when the child asks nothing,
    /// or not that any more, [`NotFound`](ErrorCode::NotFound), [`Usage`](ErrorCode::Usage) when
    /// several children are meant, [`Limit`](ErrorCode::Limit) for more than
    /// [`limits::ANSWER_BYTES`](crate::limits::ANSWER_BYTES).
    ///
    /// # Cancel safety
    /// A dropped call may have been carried out; with a `number`, repeating it answers nothing
    /// twice.
    pub async fn answer<A>(
        &self,
        child: Selector,
        number: Option<QuestionNumber>,
        answer: &A,
    ) -> Result<(), AnswerError>
    where
        A: serde::Serialize + ?Sized + Sync,
    {
        self.answer_encoded(child, number, encode_value(answer)?).await
    }

    /// The same with an answer that is encoded already: MessagePack with field names.
    ///
    /// # Errors
    /// As for [`Session::answer`].
    ///
    /// # Cancel safety
    /// As for [`Session::answer`].
    pub async fn answer_encoded(
        &self,
        child: Selector,
        number: Option<QuestionNumber>,
        answer: bytes::Bytes,
    ) -> Result<(), AnswerError> {
        match self.ask(Ask::Answer { child, number, answer }).await? {
            Answer::Done => Ok(()),
            _ => Err(RequestError::Unexpected.into()),
        }
    }

    /// Watches jobs and their children, those to come included when the selection is empty.
    ///
    /// # Errors
    /// [`RequestError`] when the node cannot be asked; a refusal comes from the first
    /// [`Happenings::next`].
    ///
    /// # Cancel safety
    /// Cancel safe: it changes nothing.
    pub async fn watch(&self, selection: Selection) -> Result<Happenings, RequestError> {
        // Before it begins: what is lost of it over another connection is lost over this one.
        let over = self.lasting().map(|remote| remote.present());
        let end = self.open(Ask::Watch { selection: selection.clone() }).await?;
        Ok(match self.watch_on(selection, over).await? {
            Some(again) => Happenings::lasting(end, again),
            None => Happenings::new(end),
        })
    }

    /// Monitors jobs and children that exist (`docs/semantics.md`, section 5.2): one notice for
    /// each end of theirs, at once for what has ended.
    ///
    /// # Errors
    /// [`RequestError`], also when a selector names nothing.
    ///
    /// # Cancel safety
    /// Cancel safe: it changes nothing.
    pub async fn monitor(&self, selection: Selection) -> Result<Monitor, RequestError> {
        Monitor::begin(self.open(Ask::Monitor { selection }).await?).await
    }

    /// Changes how many children of each job may be in progress, in any case
    /// [`limits::IN_PROGRESS_PER_JOB`](crate::limits::IN_PROGRESS_PER_JOB). Lowering it stops
    /// nothing.
    ///
    /// # Errors
    /// [`RequestError`]. A selector that names nothing, or a child ([`ErrorCode::IsChild`]), is a
    /// trouble in the answer.
    ///
    /// # Cancel safety
    /// A dropped call may have been carried out; it can be repeated.
    pub async fn set_throttle(
        &self,
        selection: Selection,
        throttle: Throttle,
    ) -> Result<Entries, RequestError> {
        self.entries(Ask::SetThrottle { selection, throttle }).await
    }

    pub(crate) async fn open(&self, ask: Ask) -> Result<ClientEnd, RequestError> {
        self.open_in(self.inner.reference.clone(), ask).await
    }

    async fn entries(&self, ask: Ask) -> Result<Entries, RequestError> {
        lasting::entries(self.ask(ask).await)
    }
}
