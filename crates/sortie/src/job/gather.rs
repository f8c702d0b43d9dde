//! Awaiting a job: all of its results, or why there are not all.

use std::future::{Future, IntoFuture};
use std::pin::Pin;

use serde::de::DeserializeOwned;

use crate::job::Job;
use crate::job::received::Collected;
use crate::job::results::{Missing, ResultError, Shortfall, read, receive_spec};
use crate::receiver::ReceiveItem;

impl<T: DeserializeOwned + 'static> IntoFuture for Job<T> {
    type Output = Result<Vec<T>, ResultError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    /// Awaits the job's results: all of them in child order, or the first failure in child order.
    /// What it costs, and what dropping the future does, is said at [`Job`].
    ///
    /// # Cancel safety
    /// Nothing is lost: what the future took comes first with the next call on a clone of the
    /// handle.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(gather(self))
    }
}

async fn gather<T: DeserializeOwned + 'static>(job: Job<T>) -> Result<Vec<T>, ResultError> {
    let mut receiver = job.open(receive_spec(job.selection())).await?;
    let mut taken = Collected::new(&job.memory, job.memory.take_output_stash());
    let mut shortfall = Shortfall::default();
    while let Some(item) = receiver.next_as_it_is().await? {
        match item {
            ReceiveItem::Records { number, source, records } => {
                taken.add(&source, records);
                receiver.acknowledge(number);
            }
            ReceiveItem::End(end) => {
                shortfall = Shortfall::of_job(Missing::of(&end), &job.memory);
                end.about_one()?;
            }
            ReceiveItem::Settled { .. } | ReceiveItem::Asked { .. } => {}
        }
    }
    if let Some(error) = shortfall.next() {
        return Err(error);
    }
    let records = taken.in_child_order().iter().cloned();
    let values = records.map(|received| read(received).map(|result| result.value));
    let values = values.collect::<Result<Vec<T>, ResultError>>()?;
    taken.hand_over();
    Ok(values)
}
