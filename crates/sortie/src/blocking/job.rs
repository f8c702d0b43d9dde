//! A job, and its results as an iterator.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sortie_model::selector::Selector;
use sortie_model::{EntryId, JobInstance, JobView, QuestionNumber};

use crate::blocking::runtime::{Background, CallError};
use crate::error::{AnswerError, RequestError, encode_value};
use crate::job::{ChildQuestion, ChildResult, Received, ResultError, Untyped};

/// A job; see [`crate::Job`]. Cheap to clone, and dropping one stops nothing, but for the last
/// handle of a temporary session.
#[derive(Debug)]
pub struct Job<T = Untyped> {
    background: Background,
    job: crate::Job<T>,
}

impl<T> Clone for Job<T> {
    fn clone(&self) -> Self {
        Self::new(self.background.clone(), self.job.clone())
    }
}

impl<T> Job<T> {
    pub(super) const fn new(background: Background, job: crate::Job<T>) -> Self {
        Self { background, job }
    }

    /// The job's number in its session, for people.
    pub const fn id(&self) -> EntryId {
        self.job.id()
    }

    /// The job's identity.
    pub const fn instance(&self) -> JobInstance {
        self.job.instance()
    }

    /// The same job, with results that are read as another type; see [`crate::Job::typed`].
    pub fn typed<U>(&self) -> Job<U> {
        Job::new(self.background.clone(), self.job.typed())
    }

    /// The job as its session shows it now.
    ///
    /// # Errors
    /// [`CallError`]; [`RequestError`] as for [`crate::Job::view`].
    pub fn view(&self) -> Result<JobView, CallError<RequestError>> {
        let job = self.untyped();
        self.background.wait(async move { job.view().await })
    }

    /// Waits until the job is settled; see [`crate::Job::wait`].
    ///
    /// # Errors
    /// [`CallError`].
    pub fn wait(&self) -> Result<JobView, CallError<RequestError>> {
        let job = self.untyped();
        self.background.wait(async move { job.wait().await })
    }

    /// The same for at most `timeout`; none when the time ran out, and the job runs on. Zero is a
    /// poll.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn wait_timeout(
        &self,
        timeout: Duration,
    ) -> Result<Option<JobView>, CallError<RequestError>> {
        let job = self.untyped();
        self.background.wait(async move { job.wait_timeout(timeout).await })
    }

    /// Takes the records that are there now; see [`crate::Job::receive`].
    ///
    /// # Errors
    /// [`CallError`].
    pub fn receive(&self) -> Result<Vec<Received>, CallError<RequestError>> {
        let job = self.untyped();
        self.background.wait(async move { job.receive().await })
    }

    /// What the job's children ask and nobody has answered; see [`crate::Job::questions`].
    ///
    /// # Errors
    /// [`CallError`].
    pub fn questions(&self) -> Result<Vec<ChildQuestion>, CallError<RequestError>> {
        let job = self.untyped();
        self.background.wait(async move { job.questions().await })
    }

    /// Answers that question and no other one; see [`crate::Job::answer_question`].
    ///
    /// # Errors
    /// [`CallError`]; [`AnswerError`] as there.
    pub fn answer_question<A>(
        &self,
        question: &ChildQuestion,
        answer: &A,
    ) -> Result<(), CallError<AnswerError>>
    where
        A: Serialize + ?Sized,
    {
        let (child, number) = (Selector::Id(question.child), Some(question.question.number));
        self.send(child, number, answer)
    }

    /// Answers whatever the child asks now; see [`crate::Job::answer`].
    ///
    /// # Errors
    /// As for [`Job::answer_question`].
    pub fn answer<A>(&self, child: EntryId, answer: &A) -> Result<(), CallError<AnswerError>>
    where
        A: Serialize + ?Sized,
    {
        self.send(Selector::Id(child), None, answer)
    }

    fn send<A>(
        &self,
        child: Selector,
        number: Option<QuestionNumber>,
        answer: &A,
    ) -> Result<(), CallError<AnswerError>>
    where
        A: Serialize + ?Sized,
    {
        let answer = encode_value(answer).map_err(|error| CallError::Failed(error.into()))?;
        let session = self.job.session().clone();
        self.background.wait(async move { session.answer_encoded(child, number, answer).await })
    }

    /// Stops the job on every node and waits until it is finished; see [`crate::Job::stop`].
    ///
    /// # Errors
    /// [`CallError`].
    pub fn stop(&self) -> Result<JobView, CallError<RequestError>> {
        let job = self.untyped();
        self.background.wait(async move { job.stop().await })
    }

    /// Suspends the job on every node; see [`crate::Job::suspend`].
    ///
    /// # Errors
    /// [`CallError`].
    pub fn suspend(&self) -> Result<JobView, CallError<RequestError>> {
        let job = self.untyped();
        self.background.wait(async move { job.suspend().await })
    }

    /// Lets the suspended job go on; see [`crate::Job::resume`].
    ///
    /// # Errors
    /// [`CallError`].
    pub fn resume(&self) -> Result<JobView, CallError<RequestError>> {
        let job = self.untyped();
        self.background.wait(async move { job.resume().await })
    }

    /// Removes the finished job with everything of it; see [`crate::Job::remove`].
    ///
    /// # Errors
    /// [`CallError`].
    pub fn remove(&self) -> Result<(), CallError<RequestError>> {
        let job = self.untyped();
        self.background.wait(async move { job.remove().await })
    }

    fn untyped(&self) -> crate::Job {
        self.job.typed()
    }
}

impl<T: DeserializeOwned + Send + 'static> Job<T> {
    /// Waits until the job is finished, and gives all of its results in child order, or the first
    /// failure; as awaiting [`crate::Job`] does.
    ///
    /// # Errors
    /// [`CallError`]; [`ResultError`] when there are not all results.
    pub fn join(&self) -> Result<Vec<T>, CallError<ResultError>> {
        let job = self.job.clone();
        self.background.wait(async move { job.await })
    }

    /// The results as they come, each with its child; see [`crate::Job::results`]. Dropping the
    /// iterator stops nothing and loses nothing.
    pub fn results(&self) -> Results<T> {
        let results = Order::Arrival(self.job.results());
        Results { background: self.background.clone(), results: Some(results) }
    }
}

/// An iterator over a job's results. Ends when the job is finished, or after an error that is not
/// about one child.
#[derive(Debug)]
#[must_use = "an iterator does nothing until it is asked"]
pub struct Results<T> {
    background: Background,
    results: Option<Order<T>>,
}

#[derive(Debug)]
enum Order<T> {
    Arrival(crate::Results<T>),
    Children(crate::ResultsInOrder<T>),
}

impl<T: DeserializeOwned + Send + 'static> Results<T> {
    /// The same results in child order, which is the order of a map's inputs; see
    /// [`crate::Results::in_order`].
    pub fn in_order(mut self) -> Self {
        let results = self.results.take();
        self.results = self.background.within(|| match results? {
            Order::Arrival(results) => Some(Order::Children(results.in_order())),
            in_order @ Order::Children(_) => Some(in_order),
        });
        self
    }
}

impl<T> Drop for Results<T> {
    fn drop(&mut self) {
        let results = self.results.take();
        self.background.within(|| drop(results));
    }
}

impl<T: DeserializeOwned + Send + 'static> Iterator for Results<T> {
    type Item = Result<ChildResult<T>, CallError<ResultError>>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut results = self.results.take()?;
        // The stream goes to the thread and comes back with its item.
        let taken = self.background.wait(async move {
            let item = match &mut results {
                Order::Arrival(results) => results.next().await,
                Order::Children(results) => results.next().await,
            };
            Ok::<_, ResultError>((results, item))
        });
        match taken {
            Ok((results, item)) => {
                self.results = item.is_some().then_some(results);
                item.map(|item| item.map_err(CallError::Failed))
            }
            Err(error) => Some(Err(error)),
        }
    }
}
