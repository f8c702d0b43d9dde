//! What was delivered and not acknowledged.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sortie_model::Record;
use sortie_model::limits::{RECEIVE_OFFERS, RECEIVE_WINDOW_BYTES, RECORD_OVERHEAD_BYTES};
use tokio::sync::Notify;

use super::reading::Child;
use crate::data::mailboxes::{JobMailboxes, Offer};

/// The deliveries of one receive that its reader has not acknowledged, bounded in bytes and in
/// number per child. Dropping it withdraws them: they are offered again.
#[derive(Debug, Default)]
pub(super) struct Window {
    held: Mutex<Held>,
    eased: Notify,
}

#[derive(Debug, Default)]
struct Held {
    deliveries: VecDeque<Delivered>,
    per_child: HashMap<Child, u32>,
    bytes: u64,
    last: u64,
}

/// One delivery.
#[derive(Debug)]
struct Delivered {
    number: u64,
    child: Child,
    bytes: u64,
    mailboxes: Arc<JobMailboxes>,
    offer: Offer,
}

impl Window {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a delivery of that child may be held.
    pub(super) async fn room(&self, child: Child) {
        self.until(|held| {
            let offers = held.per_child.get(&child).copied().unwrap_or(0);
            offers < RECEIVE_OFFERS && held.bytes < RECEIVE_WINDOW_BYTES
        })
        .await;
    }

    /// Waits until everything is acknowledged.
    pub(super) async fn emptied(&self) {
        self.until(|held| held.deliveries.is_empty()).await;
    }

    async fn until(&self, test: impl Fn(&Held) -> bool) {
        loop {
            let mut eased = pin!(self.eased.notified());
            eased.as_mut().enable();
            if test(&self.held()) {
                return;
            }
            eased.await;
        }
    }

    /// Holds an offer until it is acknowledged; answers its number.
    pub(super) fn hold(
        &self,
        child: Child,
        (mailboxes, records): (&Arc<JobMailboxes>, &[Record]),
        offer: Offer,
    ) -> u64 {
        let bytes = records.iter().map(|record| record.body.len() as u64);
        let overhead = records.len() as u64 * RECORD_OVERHEAD_BYTES;
        // A delivery has a weight also when its records have none.
        let bytes = bytes.sum::<u64>() + overhead + size_of::<Delivered>() as u64;
        let mut held = self.held();
        held.last += 1;
        held.bytes += bytes;
        *held.per_child.entry(child).or_default() += 1;
        let number = held.last;
        let mailboxes = Arc::clone(mailboxes);
        held.deliveries.push_back(Delivered { number, child, bytes, mailboxes, offer });
        number
    }

    /// The reader has everything up to that delivery: it is freed.
    pub(super) fn acknowledge(&self, number: u64) {
        let freed: Vec<Delivered> = {
            let mut held = self.held();
            let count = held.deliveries.partition_point(|delivery| delivery.number <= number);
            let freed: Vec<_> = held.deliveries.drain(..count).collect();
            for delivery in &freed {
                held.bytes -= delivery.bytes;
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
        self.eased.notify_waiters();
    }
}
