//! What a receive delivered and its reader has not acknowledged, and what becomes of it when the
//! reader parts from the session.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use sortie_model::limits::{RECEIVE_OFFERS, RECEIVE_WINDOW_BYTES, RECORD_OVERHEAD_BYTES};
use sortie_model::{Ordinal, Record};
use tokio::sync::Notify;

use crate::data::mailboxes::{JobMailboxes, Offer};

/// A child by its target's place and its own among its siblings.
pub(crate) type Child = (usize, Ordinal);

/// The deliveries of one receive that its reader has not acknowledged, bounded in bytes and in
/// number per child. Dropping it withdraws them: they are offered again.
#[derive(Debug, Default)]
pub(crate) struct Window(Arc<Inner>);

/// The reader parted from the session: nothing more is delivered to it, and nothing it says counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the reader parted from the session")]
pub(crate) struct Withdrawn;

/// The open windows of a session, by the epoch of their readers.
#[derive(Debug, Default)]
pub(crate) struct Windows(Mutex<Vec<(u64, Weak<Inner>)>>);

impl Windows {
    fn open(&self) -> MutexGuard<'_, Vec<(u64, Weak<Inner>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, epoch: u64, window: &Window) {
        let mut open = self.open();
        open.retain(|(_, window)| window.strong_count() > 0);
        open.push((epoch, Arc::downgrade(&window.0)));
    }

    /// Withdraws what readers of other epochs hold; it is on offer when this returns.
    pub(crate) fn withdraw_all_but(&self, epoch: u64) {
        let past: Vec<_> = self.open().extract_if(.., |(of, _)| *of != epoch).collect();
        past.iter().filter_map(|(_, window)| window.upgrade()).for_each(|it| it.withdraw());
    }
}

#[derive(Debug, Default)]
struct Inner {
    held: Mutex<Held>,
    eased: Notify,
}

#[derive(Debug, Default)]
struct Held {
    deliveries: VecDeque<Delivered>,
    per_child: HashMap<Child, u32>,
    bytes: u64,
    records: u64,
    last: u64,
    withdrawn: bool,
}

/// One delivery.
#[derive(Debug)]
struct Delivered {
    number: u64,
    child: Child,
    bytes: u64,
    records: u64,
    mailboxes: Arc<JobMailboxes>,
    offer: Offer,
}

impl Inner {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn withdraw(&self) {
        let mut held = self.held();
        held.withdrawn = true;
        held.per_child.clear();
        (held.bytes, held.records) = (0, 0);
        // Under the lock: whoever finds it withdrawn finds everything on offer.
        held.deliveries.clear();
        drop(held);
        self.eased.notify_waiters();
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.0.withdraw();
    }
}

impl Window {
    /// Whether what the reader says still counts.
    ///
    /// # Errors
    /// [`Withdrawn`].
    pub(crate) fn check(&self) -> Result<(), Withdrawn> {
        if self.0.held().withdrawn { Err(Withdrawn) } else { Ok(()) }
    }

    /// Waits until a delivery of that child may be held.
    ///
    /// # Errors
    /// [`Withdrawn`].
    pub(crate) async fn room(&self, child: Child) -> Result<(), Withdrawn> {
        self.until(|held| {
            let offers = held.per_child.get(&child).copied().unwrap_or(0);
            offers < RECEIVE_OFFERS && held.bytes < RECEIVE_WINDOW_BYTES
        })
        .await
    }

    /// How many records it holds.
    pub(crate) fn records(&self) -> u64 {
        self.0.held().records
    }

    /// How many of them are of that job.
    pub(crate) fn records_of(&self, mailboxes: &Arc<JobMailboxes>) -> u64 {
        let held = self.0.held();
        let of_job = held.deliveries.iter().filter(|it| Arc::ptr_eq(&it.mailboxes, mailboxes));
        of_job.map(|delivery| delivery.records).sum()
    }

    /// How many of them each child of that job has.
    pub(crate) fn records_by_child(&self, mailboxes: &Arc<JobMailboxes>) -> HashMap<Ordinal, u64> {
        let held = self.0.held();
        let mut by_child = HashMap::new();
        for delivery in held.deliveries.iter().filter(|it| Arc::ptr_eq(&it.mailboxes, mailboxes)) {
            *by_child.entry(delivery.child.1).or_default() += delivery.records;
        }
        by_child
    }

    /// Waits until everything is acknowledged.
    ///
    /// # Errors
    /// [`Withdrawn`].
    pub(crate) async fn emptied(&self) -> Result<(), Withdrawn> {
        self.until(|held| held.deliveries.is_empty()).await
    }

    async fn until(&self, test: impl Fn(&Held) -> bool) -> Result<(), Withdrawn> {
        loop {
            let mut eased = pin!(self.0.eased.notified());
            eased.as_mut().enable();
            {
                let held = self.0.held();
                if held.withdrawn {
                    return Err(Withdrawn);
                }
                if test(&held) {
                    return Ok(());
                }
            }
            eased.await;
        }
    }

    /// Holds an offer until it is acknowledged; answers its number.
    ///
    /// # Errors
    /// [`Withdrawn`]; it is offered again.
    pub(crate) fn hold(
        &self,
        child: Child,
        (mailboxes, records): (&Arc<JobMailboxes>, &[Record]),
        offer: Offer,
    ) -> Result<u64, Withdrawn> {
        let bytes = records.iter().map(|record| record.body.len() as u64);
        let records = records.len() as u64;
        let overhead = records * RECORD_OVERHEAD_BYTES;
        // A delivery has a weight also when its records have none.
        let bytes = bytes.sum::<u64>() + overhead + size_of::<Delivered>() as u64;
        let mut held = self.0.held();
        if held.withdrawn {
            return Err(Withdrawn);
        }
        held.last += 1;
        held.bytes += bytes;
        held.records += records;
        *held.per_child.entry(child).or_default() += 1;
        let number = held.last;
        let mailboxes = Arc::clone(mailboxes);
        let delivered = Delivered { number, child, bytes, records, mailboxes, offer };
        held.deliveries.push_back(delivered);
        Ok(number)
    }

    /// The reader has everything up to that delivery: it is freed.
    pub(crate) fn acknowledge(&self, number: u64) {
        let freed: Vec<Delivered> = {
            let mut held = self.0.held();
            let count = held.deliveries.partition_point(|delivery| delivery.number <= number);
            let freed: Vec<_> = held.deliveries.drain(..count).collect();
            for delivery in &freed {
                held.bytes -= delivery.bytes;
                held.records -= delivery.records;
                if let Some(offers) = held.per_child.get_mut(&delivery.child) {
                    *offers -= 1;
                    if *offers == 0 {
                        held.per_child.remove(&delivery.child);
                    }
                }
            }
            freed
        };
        for delivery in freed {
            delivery.mailboxes.acknowledge(delivery.offer);
        }
        self.0.eased.notify_waiters();
    }
}
