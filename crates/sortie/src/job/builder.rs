//! Describing a job before it is started.

mod background;
mod supervise;
mod surroundings;

use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use futures_util::{FutureExt, StreamExt, stream};
use sortie_model::id::BadKey;
use sortie_model::name::BadName;
use sortie_model::nodeset::{BadNodeExpr, NodeExpr};
use sortie_model::spec::{
    BodySpec, Fan, InputSpec, MaxFails, NulByte, Placement, Throttle, WindowSize,
};
use sortie_model::{IdempotencyKey, JobSpec};

use crate::answer::Plan;
use crate::error::{EncodeError, Misuse, RequestError, StartError};
use crate::input::{InputSender, ItemSender, TerminalSender};
use crate::job::received::Memory;
use crate::job::{Job, Untyped};
use crate::session::Session;

type Encoded = Box<dyn Stream<Item = Result<Bytes, EncodeError>> + Send + Unpin>;

/// A job to be: made by [`Session::job`], by [`Session::run`] and [`Session::map`], whose results
/// have the type `T`, and by [`Session::task`] and [`Session::task_map`].
///
/// Methods that read a text say at once what is wrong with it; NUL bytes in words and variables are
/// an error of the start, as they are in the standard library. Nothing happens on any node before
/// [`JobBuilder::start`], and dropping a builder does nothing.
#[must_use = "a job does nothing until it is started"]
pub struct JobBuilder<T = Untyped> {
    session: Session,
    spec: Result<JobSpec, StartError>,
    key: Option<IdempotencyKey>,
    items: Option<Items>,
    results: PhantomData<fn() -> T>,
}

enum Items {
    /// Whatever the children's command makes of them.
    Raw(Encoded),
    /// Inputs of a function.
    Values(Encoded),
}

impl<T> JobBuilder<T> {
    pub(crate) fn new(session: Session, spec: Result<JobSpec, StartError>) -> Self {
        Self { session, spec, key: None, items: None, results: PhantomData }
    }

    fn with(mut self, change: impl FnOnce(&mut JobSpec)) -> Self {
        if let Ok(spec) = &mut self.spec {
            change(spec);
        }
        self
    }

    fn try_with(mut self, change: impl FnOnce(&mut JobSpec) -> Result<(), NulByte>) -> Self {
        if let Ok(spec) = &mut self.spec
            && let Err(nul) = change(spec)
        {
            self.spec = Err(nul.into());
        }
        self
    }

    /// The nodes on which children run, as a node expression: names, `node[01-20]`, globs,
    /// `@group`, `label=value`, `*`, combined with `!`, `&` and `,`. Without it, the session's own
    /// node. The expression is resolved when the node accepts the job: a name that no node has, or
    /// an expression that matches none, is an error of the start
    /// ([`ErrorCode::UnknownNode`](crate::ErrorCode::UnknownNode),
    /// [`ErrorCode::NoNodes`](crate::ErrorCode::NoNodes)). A second call replaces the first.
    ///
    /// # Errors
    /// [`BadNodeExpr`] when the text is no node expression.
    pub fn on(self, nodes: &str) -> Result<Self, BadNodeExpr> {
        let on = NodeExpr::try_from(nodes.to_owned())?;
        Ok(self.with(|spec| {
            let exclude = match std::mem::replace(&mut spec.placement, Placement::Here) {
                Placement::Here => None,
                Placement::Nodes { exclude, .. } => exclude,
            };
            spec.placement = Placement::Nodes { on, exclude };
        }))
    }

    /// Nodes to leave out of those that [`JobBuilder::on`] names; without `on`, of all nodes.
    ///
    /// # Errors
    /// [`BadNodeExpr`] when the text is no node expression.
    pub fn exclude(self, nodes: &str) -> Result<Self, BadNodeExpr> {
        let exclude = Some(NodeExpr::try_from(nodes.to_owned())?);
        Ok(self.with(|spec| {
            let on = match std::mem::replace(&mut spec.placement, Placement::Here) {
                Placement::Here => NodeExpr::all(),
                Placement::Nodes { on, .. } => on,
            };
            spec.placement = Placement::Nodes { on, exclude };
        }))
    }

    /// The display name, at most [`limits::ENTRY_NAME_BYTES`](crate::limits::ENTRY_NAME_BYTES);
    /// without it, `Job<id>`. Names need not be unique.
    ///
    /// # Errors
    /// [`BadName`] when it is empty or too long, has control characters, begins with `-`, or reads
    /// as an id, a range, a glob, `last` or `all`.
    pub fn name(self, name: &str) -> Result<Self, BadName> {
        let name = name.parse()?;
        Ok(self.with(|spec| spec.name = Some(name)))
    }

    /// Makes a repeated start the same start: the same key with the same job gives the same job,
    /// however often it is sent; with another job it is an error of the start
    /// ([`ErrorCode::KeyReused`](crate::ErrorCode::KeyReused)). The session remembers it as long as
    /// the job is there and [`limits::KEY_KEPT`](crate::limits::KEY_KEPT) longer
    /// (`docs/semantics.md`, section 3.1). Without it every start is one of its own.
    ///
    /// # Errors
    /// [`BadKey`] when it is not 1 to
    /// [`limits::IDEMPOTENCY_KEY_BYTES`](crate::limits::IDEMPOTENCY_KEY_BYTES) printable ASCII
    /// characters without a space.
    pub fn key(mut self, key: &str) -> Result<Self, BadKey> {
        self.key = Some(IdempotencyKey::try_from(key.to_owned())?);
        Ok(self)
    }

    /// How many children may be in progress at once; the others queue. 0 counts as 1. The default
    /// is [`limits::THROTTLE_DEFAULT`](crate::limits::THROTTLE_DEFAULT), the most
    /// [`limits::IN_PROGRESS_PER_JOB`](crate::limits::IN_PROGRESS_PER_JOB).
    pub fn throttle(self, children: u32) -> Self {
        let children = NonZeroU32::new(children).unwrap_or(NonZeroU32::MIN);
        self.with(|spec| spec.throttle = Throttle::AtMost(children))
    }

    /// Lets all children be in progress at once: up to
    /// [`limits::IN_PROGRESS_PER_JOB`](crate::limits::IN_PROGRESS_PER_JOB), and in a map that is
    /// spread up to [`limits::UNFINISHED_PER_NODE`](crate::limits::UNFINISHED_PER_NODE) on each
    /// node.
    pub fn unthrottled(self) -> Self {
        self.with(|spec| spec.throttle = Throttle::Unlimited)
    }

    /// How many children run on each node; 0 counts as 1. More than
    /// [`limits::CHILDREN_PER_JOB`](crate::limits::CHILDREN_PER_JOB) in all are an error of the
    /// start. Not for maps, which have one child per item: said of one, it makes the start an error
    /// ([`Misuse::NoMap`]).
    pub fn copies(self, copies: u32) -> Self {
        let copies = NonZeroU32::new(copies).unwrap_or(NonZeroU32::MIN);
        self.with(|spec| spec.fan = Fan::PerNode { copies })
    }

    /// How long each child may run, from its start, each incarnation anew; it then fails with
    /// [`Reason::Timeout`](crate::Reason::Timeout). No limit without it.
    pub fn timeout(self, limit: Duration) -> Self {
        self.with(|spec| spec.timeout = Some(limit))
    }

    /// How long a child that is told to stop has until it is killed, also one that is stopped for a
    /// sibling's sake; zero kills at once. OTP's `shutdown`. The default is
    /// [`limits::GRACE`](crate::limits::GRACE).
    pub fn grace(self, grace: Duration) -> Self {
        self.with(|spec| spec.grace = grace)
    }

    /// How long the first connection to a node may take; the default is
    /// [`limits::CONNECT_TIME`](crate::limits::CONNECT_TIME).
    pub fn connect_timeout(self, limit: Duration) -> Self {
        self.with(|spec| spec.connect_timeout = limit)
    }

    /// Stops the rest of the job once so many children failed; never without it. A child that
    /// starts again has not failed.
    pub fn max_fails(self, most: MaxFails) -> Self {
        self.with(|spec| spec.max_fails = most)
    }

    /// How many bytes each child may write, in all streams; no limit without it. Past them it is
    /// stopped and fails with [`Reason::Limit`](crate::Reason::Limit); what is beyond is dropped,
    /// and how much that is, is said.
    pub fn output_limit(self, bytes: u64) -> Self {
        self.with(|spec| spec.output_limit = Some(bytes))
    }

    /// Makes the job a map: one child per item, spread over the nodes, with the item in place of
    /// `{}` or behind the words (`docs/semantics.md`, section 3.1). Empty items are skipped.
    ///
    /// Items are taken from the iterator after the start, by a future of the runtime that started
    /// the job: an iterator that blocks belongs into [`JobBuilder::map_stream`]. How far ahead of
    /// their children is said at [`Session::map`]. An item of more than
    /// [`limits::VALUE_BYTES`](crate::limits::VALUE_BYTES) ends the input as lost. A function takes
    /// values, not items: its map is made by [`Session::map`] or [`Session::task_map`], and here
    /// its start is an error ([`Misuse::RawItemsForTask`]).
    pub fn map<I>(self, items: I) -> Self
    where
        I: IntoIterator<Item: Into<Bytes>, IntoIter: Send + 'static>,
    {
        self.map_stream(stream::iter(items))
    }

    /// The same with items that come over time.
    pub fn map_stream<S>(mut self, items: S) -> Self
    where
        S: Stream<Item: Into<Bytes>> + Send + 'static,
    {
        let items = items.map(|item| Ok(item.into())).boxed();
        self.items = Some(Items::Raw(Box::new(items)));
        self.with(|spec| spec.fan = Fan::Spread)
    }

    pub(crate) fn map_encoded<S>(mut self, items: S) -> Self
    where
        S: Stream<Item = Result<Bytes, EncodeError>> + Send + 'static,
    {
        self.items = Some(Items::Values(Box::new(items.boxed())));
        self.with(|spec| spec.fan = Fan::Spread)
    }

    /// Runs every item of a map on every node, item by item, instead of each item on one node. Said
    /// of a job that is no map, it makes the start an error ([`Misuse::InputMissing`]).
    pub fn each(self) -> Self {
        self.with(|spec| spec.fan = Fan::Each)
    }

    /// The submission as it will be sent.
    ///
    /// # Errors
    /// [`StartError::Nul`] when a word, a variable or the directory has a NUL byte;
    /// [`StartError::Input`] when the function's input has no encoding.
    pub fn spec(&self) -> Result<&JobSpec, &StartError> {
        self.spec.as_ref()
    }

    /// What the start would do. Touches nothing.
    ///
    /// # Errors
    /// [`StartError`], as the start would give it.
    ///
    /// # Cancel safety
    /// Cancel safe: it changes nothing.
    pub async fn dry_run(&self) -> Result<Plan, StartError> {
        let spec = match &self.spec {
            Ok(spec) => spec.clone(),
            Err(StartError::Nul(nul)) => return Err((*nul).into()),
            Err(StartError::Input(error)) => return Err(error.clone().into()),
            Err(_) => return Err(RequestError::Unexpected.into()),
        };
        Ok(self.session.dry_run(spec).await?)
    }

    /// Starts the job and returns when its node has accepted it, before the work ends. The items of
    /// a map are fed by a future of the present tokio runtime, which the job's handles do not hold:
    /// if this program ends before it, the input counts as lost.
    ///
    /// # Errors
    /// [`StartError`]; when the node refuses, nothing was started. Which codes it refuses with is
    /// said at [`Session::start`].
    ///
    /// # Cancel safety
    /// A start whose future is dropped may have happened: give it a [`JobBuilder::key`] and repeat
    /// it.
    pub async fn start(self) -> Result<Job<T>, StartError> {
        let Self { session, spec, key, items, .. } = self;
        let spec = spec?;
        let view = match items {
            None => session.start(spec, key).await?,
            Some(Items::Raw(_)) if matches!(spec.body, BodySpec::Task { .. }) => {
                return Err(Misuse::RawItemsForTask.into());
            }
            Some(Items::Raw(items) | Items::Values(items)) => {
                let (view, sender) = session.start_map(spec, key).await?;
                let job = session.handle(&view);
                let memory = Arc::clone(&job.memory);
                tokio::spawn(async move {
                    if let Err(error) = feed(items, sender, &memory).await {
                        let (job, error): (_, &dyn std::error::Error) = (view.id, &*error);
                        tracing::warn!(%job, error, "the input of a map is lost");
                    }
                });
                return Ok(job.typed());
            }
        };
        Ok(session.handle(&view).typed())
    }

    /// Starts the job with an input for its children: one child reads it, or each of them reads
    /// all. Children that start again ([`JobBuilder::restart`]) take none.
    ///
    /// # Errors
    /// As for [`JobBuilder::start`]; a map takes no other input than its items.
    ///
    /// # Cancel safety
    /// As for [`JobBuilder::start`].
    pub async fn start_with_input(self) -> Result<(Job<T>, InputSender), StartError> {
        let Self { session, spec, key, items, .. } = self;
        let spec = JobSpec { input: InputSpec::Stream, ..spec? };
        if items.is_some() {
            return Err(Misuse::InputOfMap.into());
        }
        let (view, sender) = session.start_with_input(spec, key).await?;
        Ok((session.handle(&view).typed(), sender))
    }
}

impl<T> JobBuilder<T> {
    /// Starts the job on a terminal of that size: its only child's standard streams are one pseudo
    /// terminal. What the child writes there is its output. Its `TERM` is what the job sets.
    ///
    /// # Errors
    /// As for [`JobBuilder::start`]; a map has no terminal, and neither has a job of several
    /// children, a function, or a child that starts again.
    ///
    /// # Cancel safety
    /// As for [`JobBuilder::start`].
    pub async fn start_on_terminal(
        self,
        size: WindowSize,
    ) -> Result<(Job<T>, TerminalSender), StartError> {
        let Self { session, spec, key, items, .. } = self;
        let spec = JobSpec { input: InputSpec::Terminal(size), ..spec? };
        if items.is_some() {
            return Err(Misuse::InputOfMap.into());
        }
        let (view, sender) = session.start_on_terminal(spec, key).await?;
        Ok((session.handle(&view).typed(), sender))
    }
}

impl<T> std::fmt::Debug for JobBuilder<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobBuilder").field("spec", &self.spec).finish_non_exhaustive()
    }
}

/// Hands items over as the node makes room, and never waits to fill a piece.
async fn feed(
    mut items: Encoded,
    mut sender: ItemSender,
    memory: &Memory,
) -> Result<(), Arc<StartError>> {
    // The job's handles know it before the node does, which hears it when the sender is dropped.
    let lost = |error| memory.lose_input(error);
    match send_all(&mut items, &mut sender).await.map_err(lost)? {
        Fed::All => sender.finish().await.map_err(|error| lost(error.into())),
        Fed::Closed => Ok(()),
    }
}

/// How far the items came.
enum Fed {
    All,
    /// The job ended before its input did, which is no loss.
    Closed,
}

async fn send_all(items: &mut Encoded, sender: &mut ItemSender) -> Result<Fed, StartError> {
    loop {
        let item = match items.next().now_or_never() {
            Some(item) => item,
            None => {
                sender.flush().await?;
                items.next().await
            }
        };
        let Some(item) = item else { break };
        let item = match item {
            Ok(item) => item,
            Err(error) => {
                // The items before it have their children all the same.
                sender.flush().await?;
                return Err(error.into());
            }
        };
        match sender.send(&item).await {
            Ok(()) => {}
            Err(RequestError::InputClosed) => return Ok(Fed::Closed),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Fed::All)
}

#[cfg(test)]
mod tests;
