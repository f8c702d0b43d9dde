//! A job's records, and its functions' values, as streams.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use sortie_model::Stream as RecordStream;
use sortie_wire::session_proto::Failure;

use crate::error::{RequestError, ValueError};
use crate::job::received::{Batch, Memory, Received, Recent};
use crate::job::results::Missing;
use crate::receiver::{ReceiveItem, Receiver};

/// What a receive brought next, and the receiver back.
type Brought = (Box<Receiver>, Result<Option<ReceiveItem>, RequestError>);
/// A record, or what went wrong.
type Next = Result<Received, RequestError>;
type Asked<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A job's records in order of arrival; see [`Job::stream`](crate::Job::stream). Ends when the job
/// is settled, or after its first error.
#[must_use = "a stream does nothing until it is polled"]
pub struct JobStream {
    memory: Arc<Memory>,
    stash: std::vec::IntoIter<Received>,
    front: Option<(u64, Batch)>,
    recent: Recent,
    step: Step,
    /// What went wrong while records were fetched ahead.
    fault: Option<RequestError>,
    /// Complete once the stream has ended.
    missing: Missing,
}

enum Step {
    Opening(Asked<Result<Receiver, RequestError>>),
    Ready(Box<Receiver>),
    Waiting(Asked<Brought>),
    Over,
}

impl JobStream {
    /// A stream of what an earlier receive left and what one brings, once it is `open`; nothing is
    /// asked before the first poll.
    pub(super) fn new<F>(memory: Arc<Memory>, stash: Vec<Received>, open: F) -> Self
    where
        F: Future<Output = Result<Receiver, RequestError>> + Send + 'static,
    {
        Self {
            memory,
            stash: stash.into_iter(),
            front: None,
            recent: Recent::default(),
            step: Step::Opening(Box::pin(open)),
            fault: None,
            missing: Missing::default(),
        }
    }

    /// The reasons of failed children, in child order; known once the stream has ended, at most
    /// [`limits::FAILURES_SHOWN`](crate::limits::FAILURES_SHOWN).
    pub fn failures(&self) -> &[Failure] {
        &self.missing.failures
    }

    /// The next record, without an import: what `StreamExt::next` gives.
    ///
    /// # Errors
    /// [`RequestError`], as the last item; [`RequestError::Deadlock`] when the job is blocked.
    ///
    /// # Cancel safety
    /// Cancel safe: no record is lost.
    pub async fn next(&mut self) -> Option<Result<Received, RequestError>> {
        StreamExt::next(self).await
    }

    /// Asks for the next item; that the records in front were handed out acknowledges them.
    fn advance(&mut self, mut receiver: Box<Receiver>) {
        if let Some((number, _)) = self.front.take() {
            receiver.acknowledge(number);
        }
        self.step = Step::Waiting(Box::pin(async move {
            let item = receiver.next_as_it_is().await;
            (receiver, item)
        }));
    }

    /// Takes an item in. An error is the stream's last item.
    fn accept(
        &mut self,
        receiver: Box<Receiver>,
        item: Option<ReceiveItem>,
    ) -> Result<(), RequestError> {
        match item {
            None => {
                // Everything was acknowledged, and the node has heard it.
                self.recent = Recent::default();
                return Ok(());
            }
            Some(ReceiveItem::Records { number, source, mut records }) => {
                self.memory.drop_seen(source.child, &mut records);
                self.recent.add(source.child, &records);
                self.front = Some((number, Batch::new(&source, records)));
            }
            Some(ReceiveItem::Settled { .. } | ReceiveItem::Asked { .. }) => {}
            Some(ReceiveItem::End(end)) => {
                self.missing = Missing::of(&end);
                end.about_one()?;
            }
        }
        self.step = Step::Ready(receiver);
        Ok(())
    }
}

impl JobStream {
    /// Fetches the first records that are not there yet, without handing any out.
    pub(super) fn poll_ahead(&mut self, cx: &mut Context<'_>) {
        while self.front.is_none() && self.fault.is_none() && !matches!(self.step, Step::Over) {
            match self.poll_step(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => self.fault = Some(error),
                Poll::Pending => return,
            }
        }
    }

    /// The next record, with a live value as it is.
    pub(super) fn poll_as_it_is(&mut self, cx: &mut Context<'_>) -> Poll<Option<Next>> {
        loop {
            if let Some(received) = self.stash.next() {
                return Poll::Ready(Some(Ok(received)));
            }
            if let Some((_, batch)) = &mut self.front
                && let Some(received) = batch.next()
            {
                return Poll::Ready(Some(Ok(received)));
            }
            if let Some(fault) = self.fault.take() {
                return Poll::Ready(Some(Err(fault)));
            }
            if matches!(self.step, Step::Over) {
                return Poll::Ready(None);
            }
            if let Err(error) = ready!(self.poll_step(cx)) {
                return Poll::Ready(Some(Err(error)));
            }
        }
    }

    /// What the stream's end said of missing results.
    pub(super) fn take_end(&mut self) -> Missing {
        std::mem::take(&mut self.missing)
    }

    /// One step towards the next records. After an error there is none.
    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RequestError>> {
        match std::mem::replace(&mut self.step, Step::Over) {
            Step::Opening(mut opening) => match opening.as_mut().poll(cx) {
                Poll::Ready(Ok(receiver)) => self.step = Step::Ready(Box::new(receiver)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.step = Step::Opening(opening);
                    return Poll::Pending;
                }
            },
            Step::Ready(receiver) => self.advance(receiver),
            Step::Waiting(mut waiting) => match waiting.as_mut().poll(cx) {
                Poll::Ready((receiver, item)) => {
                    return Poll::Ready(item.and_then(|item| self.accept(receiver, item)));
                }
                Poll::Pending => {
                    self.step = Step::Waiting(waiting);
                    return Poll::Pending;
                }
            },
            Step::Over => {}
        }
        Poll::Ready(Ok(()))
    }
}

impl Stream for JobStream {
    type Item = Result<Received, RequestError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let received = ready!(self.get_mut().poll_as_it_is(cx));
        Poll::Ready(received.map(|received| received.map(Received::encoded)))
    }
}

impl Drop for JobStream {
    fn drop(&mut self) {
        if let Some((_, batch)) = &self.front {
            self.recent.cut(batch.len());
        }
        self.memory.remember(&mut self.recent);
        let left: Vec<Received> = self.stash.by_ref().collect();
        if !left.is_empty() {
            self.memory.stash(left);
        }
    }
}

impl std::fmt::Debug for JobStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobStream")
            .field("failures", &self.missing.failures)
            .finish_non_exhaustive()
    }
}

/// The values that a job's functions give, in order of arrival; see
/// [`Job::values`](crate::Job::values).
#[must_use = "a stream does nothing until it is polled"]
pub struct Values<T> {
    records: JobStream,
    failures: Option<std::vec::IntoIter<Failure>>,
    value: PhantomData<fn() -> T>,
}

impl<T> Values<T> {
    pub(super) const fn new(records: JobStream) -> Self {
        Self { records, failures: None, value: PhantomData }
    }
}

impl<T: DeserializeOwned + 'static> Values<T> {
    /// The next value, without an import: what `StreamExt::next` gives.
    ///
    /// # Errors
    /// [`ValueError`]: what cannot be decoded, in its place; failed children at the end, at most
    /// [`limits::FAILURES_SHOWN`](crate::limits::FAILURES_SHOWN).
    ///
    /// # Cancel safety
    /// Cancel safe: no value is lost.
    pub async fn next(&mut self) -> Option<Result<T, ValueError>> {
        StreamExt::next(self).await
    }
}

impl<T: DeserializeOwned + 'static> Stream for Values<T> {
    type Item = Result<T, ValueError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(failures) = &mut this.failures {
                return Poll::Ready(
                    failures.next().map(|failure| Err(ValueError::ChildFailed(failure))),
                );
            }
            match ready!(this.records.poll_as_it_is(cx)) {
                Some(Ok(received)) if received.record.stream == RecordStream::Output => {
                    return Poll::Ready(Some(received.value_or_handle()));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => {
                    let failures = std::mem::take(&mut this.records.missing.failures);
                    this.failures = Some(failures.into_iter());
                }
            }
        }
    }
}

impl<T> std::fmt::Debug for Values<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Values").field(&self.records).finish()
    }
}

#[cfg(test)]
mod tests;
