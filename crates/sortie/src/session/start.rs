//! Starting jobs: commands, functions by name, and tasks by value.

use bytes::Bytes;
use futures_core::Stream;
use futures_util::StreamExt;
use serde::Serialize;
use sortie_actors::data::exchange::ClientEnd;
use sortie_engine::reconnect::{Repeat, repeat};
use sortie_model::spec::{BodySpec, Fan, Hosting, InputSpec, RunIn, TaskTypes};
use sortie_model::{IdempotencyKey, JobSpec, JobView};
use sortie_wire::session_proto::{Answer, Ask};
use uuid::Uuid;

use crate::command::Command;
use crate::error::{EncodeError, Misuse, RequestError, encode_value};
use crate::input::{InputSender, ItemSender, TerminalSender};
use crate::job::JobBuilder;
use crate::route::again::is_loss;
use crate::route::answer;
use crate::session::Session;
use crate::task::TaskFn;

impl Session {
    /// A job that runs a command; nothing happens until it is started. A NUL byte in a word is an
    /// error of the start.
    pub fn job(&self, command: Command) -> JobBuilder {
        JobBuilder::new(self.clone(), command.into_spec().map_err(Into::into))
    }

    /// A job that calls the function registered under that name; nothing happens until it is
    /// started. The input travels as MessagePack with field names.
    ///
    /// # Errors
    /// [`EncodeError`] when the input has no encoding, or one of more than
    /// [`limits::VALUE_BYTES`](crate::limits::VALUE_BYTES). One that passes
    /// [`limits::SPEC_BYTES`](crate::limits::SPEC_BYTES) with the rest of the submission is an
    /// error of the start: an input of a map may be longer.
    pub fn task<I>(&self, name: &str, input: &I) -> Result<JobBuilder, EncodeError>
    where
        I: Serialize + ?Sized,
    {
        Ok(self.task_spec(name, None, encode_value(input)?))
    }

    /// A job that calls the function registered under that name once for each input, spread over
    /// the job's nodes: a map (`docs/semantics.md`, section 3.1). [`JobBuilder::each`] calls it for
    /// each input on every node instead.
    ///
    /// The inputs are encoded as the node asks for them, after the start; how far ahead of their
    /// children is said at [`Session::map`]. One that has no encoding, or too long a one, ends the
    /// input as lost.
    pub fn task_map<I>(&self, name: &str, inputs: I) -> JobBuilder
    where
        I: IntoIterator<Item: Serialize, IntoIter: Send + 'static>,
    {
        let inputs = futures_util::stream::iter(inputs);
        let items = inputs.map(|input| encode_value(&input));
        self.task_spec(name, None, Bytes::new()).map_encoded(items)
    }

    /// A job that calls a task once; nothing happens until it is started. With
    /// [`JobBuilder::copies`], or on several nodes, each child gets the same input.
    ///
    /// An input that has no encoding, or one that passes
    /// [`limits::SPEC_BYTES`](crate::limits::SPEC_BYTES) with the rest of the submission, is an
    /// error of the start (an input of a map may be longer); so is a task that the session's own
    /// node knows with other types ([`ErrorCode::TaskTypes`](crate::ErrorCode::TaskTypes)). On
    /// another node it is that child's failure ([`Reason::TaskTypes`](crate::Reason::TaskTypes)).
    pub fn run<F: TaskFn>(&self, _task: F, input: F::Input) -> JobBuilder<F::Output> {
        match encode_value(&input) {
            Ok(input) => self.task_spec(F::NAME, Some(F::TYPES), input),
            Err(error) => JobBuilder::new(self.clone(), Err(error.into())),
        }
    }

    /// A job that calls a task once for each input, spread over the job's nodes, as
    /// [`Session::task_map`] does: inputs are pulled one by one, after the start, by a future of
    /// the runtime that started the job. A temporary session ([`Client::temporary`]) takes them as
    /// it needs them, within [`limits::INPUT_WINDOW_BYTES`](crate::limits::INPUT_WINDOW_BYTES) of
    /// its children. A persistent one, as `default` is, stores them as they come, on the node's
    /// disk, up to [`limits::STORED_INPUT_BYTES`](crate::limits::STORED_INPUT_BYTES), so
    /// that the job needs this program no more (`docs/semantics.md`, section 3.1); its children
    /// read that store as places free. In neither are there more children at once than may be in
    /// progress: one comes to be when its input is read. An input is at most
    /// [`limits::VALUE_BYTES`](crate::limits::VALUE_BYTES) long, encoded; a longer one ends the
    /// input as lost, and so the job's results with
    /// [`ResultError::InputLost`](crate::ResultError::InputLost). Inputs that take time to come
    /// belong into [`Session::map_stream`].
    ///
    /// [`Client::temporary`]: crate::Client::temporary
    pub fn map<F, I>(&self, task: F, inputs: I) -> JobBuilder<F::Output>
    where
        F: TaskFn,
        I: IntoIterator<Item = F::Input, IntoIter: Send + 'static>,
    {
        self.map_stream(task, futures_util::stream::iter(inputs))
    }

    /// The same with inputs that come over time. The stream is polled when the node asks for more.
    pub fn map_stream<F, S>(&self, _task: F, inputs: S) -> JobBuilder<F::Output>
    where
        F: TaskFn,
        S: Stream<Item = F::Input> + Send + 'static,
    {
        let items = inputs.map(|input| encode_value(&input));
        self.task_spec(F::NAME, Some(F::TYPES), Bytes::new()).map_encoded(items)
    }

    fn task_spec<T>(&self, name: &str, types: Option<TaskTypes>, input: Bytes) -> JobBuilder<T> {
        let body = BodySpec::Task { name: name.to_owned(), input, types, run_in: RunIn::Thread };
        JobBuilder::new(self.clone(), Ok(JobSpec::new(name, body)))
    }

    /// Starts a job that takes no input and is no map. Returns when the node has accepted it,
    /// before its work ends. In a temporary session the spec's `hosting` counts as
    /// [`Hosting::Temporary`]. The same key with the same spec gives the same job, however often it
    /// is sent; without a key the submission is one of its own.
    ///
    /// # Errors
    /// [`RequestError::Misused`] when the spec takes input, or is a map; [`RequestError::Refused`]
    /// before any job exists (`docs/semantics.md`, section 3.1), as far as the session's node can
    /// tell:
    /// * [`Usage`](crate::ErrorCode::Usage): an empty command, a submission of more than
    ///   [`limits::SPEC_BYTES`](crate::limits::SPEC_BYTES), more children than
    ///   [`limits::CHILDREN_PER_JOB`](crate::limits::CHILDREN_PER_JOB), choices that do not go
    ///   together;
    /// * [`UnknownNode`](crate::ErrorCode::UnknownNode), [`NoNodes`](crate::ErrorCode::NoNodes),
    ///   [`BadDirectory`](crate::ErrorCode::BadDirectory),
    ///   [`NoGuardian`](crate::ErrorCode::NoGuardian);
    /// * [`UnknownTask`](crate::ErrorCode::UnknownTask),
    ///   [`TaskTypes`](crate::ErrorCode::TaskTypes),
    ///   [`NoBackground`](crate::ErrorCode::NoBackground);
    /// * [`KeyReused`](crate::ErrorCode::KeyReused) for a key of another submission;
    /// * [`Limit`](crate::ErrorCode::Limit) beyond
    ///   [`limits::JOBS_PER_SESSION`](crate::limits::JOBS_PER_SESSION) or
    ///   [`limits::KEYS_PER_SESSION`](crate::limits::KEYS_PER_SESSION).
    ///
    /// # Cancel safety
    /// A start whose future is dropped may have happened. Repeat it with the same key.
    pub async fn start(
        &self,
        spec: JobSpec,
        key: Option<IdempotencyKey>,
    ) -> Result<JobView, RequestError> {
        match feed_of(&spec)? {
            None => Ok(self.submit(spec, key).await?.0),
            Some(_) => Err(Misuse::InputMissing.into()),
        }
    }

    /// Starts a job whose children read input ([`InputSpec::Stream`]).
    ///
    /// # Errors
    /// As for [`Session::start`]; [`RequestError::Misused`] when the spec takes no input, or is a
    /// map.
    ///
    /// # Cancel safety
    /// As for [`Session::start`]; the input of a job that was started counts as lost.
    pub async fn start_with_input(
        &self,
        spec: JobSpec,
        key: Option<IdempotencyKey>,
    ) -> Result<(JobView, InputSender), RequestError> {
        match feed_of(&spec)? {
            Some(Feed::Bytes) => {
                let (view, end) = self.submit(spec, key).await?;
                Ok((view, InputSender::new(end)))
            }
            _ => Err(Misuse::InputSurplus.into()),
        }
    }

    /// Starts a job whose only child has a terminal ([`InputSpec::Terminal`]): its standard streams
    /// are one pseudo terminal of that size. What it writes there is its output.
    ///
    /// # Errors
    /// As for [`Session::start`]; [`Usage`](crate::ErrorCode::Usage) for more children than one, a
    /// function, and children that start again; [`RequestError::Misused`] when the spec has no
    /// terminal, or is a map.
    ///
    /// # Cancel safety
    /// As for [`Session::start_with_input`].
    pub async fn start_on_terminal(
        &self,
        spec: JobSpec,
        key: Option<IdempotencyKey>,
    ) -> Result<(JobView, TerminalSender), RequestError> {
        match feed_of(&spec)? {
            Some(Feed::Terminal) => {
                let (view, end) = self.submit(spec, key).await?;
                Ok((view, TerminalSender::new(end)))
            }
            _ => Err(Misuse::NoTerminal.into()),
        }
    }

    /// Starts a map ([`Fan::Spread`] or [`Fan::Each`]), whose items follow: of a function its
    /// inputs, each MessagePack with field names.
    ///
    /// # Errors
    /// As for [`Session::start`]; [`RequestError::Misused`] when the spec is no map, or takes other
    /// input.
    ///
    /// # Cancel safety
    /// As for [`Session::start_with_input`].
    pub async fn start_map(
        &self,
        spec: JobSpec,
        key: Option<IdempotencyKey>,
    ) -> Result<(JobView, ItemSender), RequestError> {
        match feed_of(&spec)? {
            Some(Feed::Items) => {
                let (view, end) = self.submit(spec, key).await?;
                Ok((view, ItemSender::new(end)))
            }
            _ => Err(Misuse::NoMap.into()),
        }
    }

    async fn submit(
        &self,
        mut spec: JobSpec,
        key: Option<IdempotencyKey>,
    ) -> Result<(JobView, ClientEnd), RequestError> {
        if self.view_at_start().is_some_and(|view| view.temporary) {
            spec.hosting = Hosting::Temporary;
        }
        let key = key.unwrap_or_else(|| Uuid::now_v7().into());
        let ask = Ask::Start { key, spec: Box::new(spec) };
        let Some(remote) = self.lasting().filter(|_| repeat(&ask) == Repeat::Whole) else {
            return started(self.open(ask).await?).await;
        };
        let firm = self.firm(remote).await?;
        loop {
            let over = remote.present();
            let asked = async { started(self.open_in(firm.clone(), ask.clone()).await?).await };
            match asked.await {
                // The key makes it the same start.
                Err(error) if is_loss(&error) => remote.again(over, error).await?,
                done => return done,
            }
        }
    }
}

async fn started(mut end: ClientEnd) -> Result<(JobView, ClientEnd), RequestError> {
    match answer(&mut end.receiver).await? {
        Answer::Started(view) => Ok((*view, end)),
        _ => Err(RequestError::Unexpected),
    }
}

/// What a client must send after a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Feed {
    Bytes,
    Terminal,
    Items,
}

const fn feed_of(spec: &JobSpec) -> Result<Option<Feed>, Misuse> {
    match (&spec.fan, &spec.input) {
        (Fan::PerNode { .. }, InputSpec::None | InputSpec::Open { .. }) => Ok(None),
        (Fan::PerNode { .. }, InputSpec::Stream) => Ok(Some(Feed::Bytes)),
        (Fan::PerNode { .. }, InputSpec::Terminal(_)) => Ok(Some(Feed::Terminal)),
        (Fan::Spread | Fan::Each, InputSpec::None | InputSpec::Open { .. }) => {
            Ok(Some(Feed::Items))
        }
        (Fan::Spread | Fan::Each, InputSpec::Stream | InputSpec::Terminal(_)) => {
            Err(Misuse::InputOfMap)
        }
    }
}
