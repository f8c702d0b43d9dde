//! Scopes: jobs that cannot outlive the code that started them.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::{FutureExt, StreamExt, stream};
use sortie_wire::ErrorCode;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::error::{RequestError, StartError};
use crate::job::{Job, JobBuilder};
use crate::session::Session;

/// Jobs of a scope that are stopped at once.
const STOPS_AT_ONCE: usize = 64;

/// Runs `body` with a scope, and ends the scope when the body has ended in whatever way: jobs that
/// were started in it and are not finished are stopped, with their grace, and awaited, as
/// [`Job::stop`] does (`docs/semantics.md`, section 3.6). A body that wants their results awaits
/// them before it ends.
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
/// # let node = Node::builder("a").register(double).start().await?;
/// let sum = sortie::scope(&node.session(), async |scope| {
///     let ones = scope.start(scope.session().map(double, [1, 2, 3])).await?;
///     let tens = scope.start(scope.session().map(double, [10, 20, 30])).await?;
///     // If the first fails, the second is stopped before `scope` returns.
///     let values: Vec<u64> = [ones.await?, tens.await?].concat();
///     Ok::<u64, Box<dyn std::error::Error>>(values.iter().sum())
/// })
/// .await?;
/// assert_eq!(sum, 132);
/// # Ok(())
/// # }
/// ```
///
/// A job that cannot be stopped, because its session's node is gone, is written to the log;
/// [`JobScope::close`] gives it as an error.
///
/// # Panics
/// When the body panics: after the scope has ended, with the body's panic.
///
/// # Cancel safety
/// A dropped future is an end of the scope, too, but nobody waits for it: what it can and cannot do
/// is said at [`JobScope`].
pub async fn scope<R, F>(session: &Session, body: F) -> R
where
    F: AsyncFnOnce(&JobScope) -> R,
{
    let scope = JobScope::new(session);
    let outcome = AssertUnwindSafe(body(&scope)).catch_unwind().await;
    if let Err(error) = scope.close().await {
        warn(&error);
    }
    match outcome {
        Ok(value) => value,
        Err(panic) => resume_unwind(panic),
    }
}

/// A scope for jobs: those that are started in it ([`JobScope::start`]) cannot outlive it. It keeps
/// a handle on each of them until it ends. Made by [`scope`], or by hand and ended by
/// [`JobScope::close`].
///
/// Dropping it, or a future that holds it, stops its jobs, too, by a future of the runtime in which
/// they were started; nobody waits for that. So it cannot do it when that runtime ends in the same
/// moment: jobs in this process end with it, those of a session on a node elsewhere run on. Where
/// that matters, start them in a temporary session
/// ([`Client::temporary`](crate::Client::temporary)) or await [`JobScope::close`].
#[derive(Debug)]
pub struct JobScope {
    session: Session,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// A start has ended.
    started: Notify,
}

#[derive(Debug, Default)]
struct State {
    jobs: Vec<Job>,
    /// Starts under way. They are carried out to their end, so that no job escapes.
    starting: usize,
    /// Where a dropped scope stops its jobs.
    runtime: Option<Handle>,
}

impl JobScope {
    /// A scope without jobs.
    pub fn new(session: &Session) -> Self {
        Self { session: session.clone(), shared: Arc::default() }
    }

    /// The session that the scope was made for. Jobs of others can be started in it as well.
    pub const fn session(&self) -> &Session {
        &self.session
    }

    /// Starts a job in the scope.
    ///
    /// # Errors
    /// [`StartError`], as for [`JobBuilder::start`].
    ///
    /// # Cancel safety
    /// A start whose future is dropped is carried out all the same, and its job ends with the
    /// scope.
    pub async fn start<T: 'static>(&self, job: JobBuilder<T>) -> Result<Job<T>, StartError> {
        let starting = Starting::new(&self.shared);
        let start = tokio::spawn(async move {
            let started = job.start().await;
            if let Ok(job) = &started {
                starting.adopt(job.typed());
            }
            started
        });
        match start.await {
            Ok(started) => started,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                // The runtime ends.
                Err(_) => Err(RequestError::Lost.into()),
            },
        }
    }

    /// Ends the scope: stops the jobs that are not finished, with their grace, and waits until they
    /// are, for each as long as [`Job::stop`] does.
    ///
    /// # Errors
    /// The first [`RequestError`] of a job that could not be stopped; the others were told all the
    /// same.
    ///
    /// # Cancel safety
    /// A dropped future goes on as a dropped scope does.
    pub async fn close(self) -> Result<(), RequestError> {
        end(&self.shared).await
    }
}

impl Drop for JobScope {
    fn drop(&mut self) {
        let runtime = {
            let state = self.shared.lock();
            let has_jobs = state.starting > 0 || !state.jobs.is_empty();
            state.runtime.clone().filter(|_| has_jobs)
        };
        if let Some(runtime) = runtime {
            let shared = Arc::clone(&self.shared);
            runtime.spawn(async move {
                if let Err(error) = end(&shared).await {
                    warn(&error);
                }
            });
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic cannot leave the state half changed: every change is one call.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One start under way.
struct Starting(Arc<Shared>);

impl Starting {
    fn new(shared: &Arc<Shared>) -> Self {
        let mut state = shared.lock();
        state.starting += 1;
        state.runtime = Handle::try_current().ok();
        Self(Arc::clone(shared))
    }

    fn adopt(&self, job: Job) {
        self.0.lock().jobs.push(job);
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        self.0.lock().starting -= 1;
        self.0.started.notify_waiters();
    }
}

/// Stops what was started. Until all is stopped the jobs stay in the list, so that a dropped future
/// leaves them to the next one.
async fn end(shared: &Shared) -> Result<(), RequestError> {
    loop {
        let started = shared.started.notified();
        tokio::pin!(started);
        started.as_mut().enable();
        if shared.lock().starting == 0 {
            break;
        }
        started.await;
    }
    let jobs = shared.lock().jobs.clone();
    let stops = stream::iter(jobs).map(|job| async move { job.stop().await });
    let mut stops = stops.buffer_unordered(STOPS_AT_ONCE);
    let mut outcome = Ok(());
    while let Some(stopped) = stops.next().await {
        match stopped {
            Ok(_) => {}
            // It was finished and removed.
            Err(RequestError::Refused(error)) if error.code == ErrorCode::NotFound => {}
            Err(error) => outcome = outcome.and(Err(error)),
        }
    }
    shared.lock().jobs.clear();
    outcome
}

fn warn(error: &RequestError) {
    let error: &dyn std::error::Error = error;
    tracing::warn!(error, "a job outlives its scope");
}
