//! A reader's queue of children with something to read.

use std::sync::Arc;

use sortie_model::Ordinal;

use super::index::ReaderId;
use super::{JobMailboxes, lock};

/// One reader's queue of children with something to read. Several readers see every child each.
///
/// A child may turn up although another reader has taken its records meanwhile, or they are of
/// other streams; it turns up again for records that came after it was returned. Dropping the queue
/// frees its place.
#[derive(Debug)]
pub struct Ready {
    job: Arc<JobMailboxes>,
    id: ReaderId,
    /// Children from here on may have had records before the queue was made.
    first_look: Option<Ordinal>,
}

impl Ready {
    pub(super) fn new(job: Arc<JobMailboxes>) -> Self {
        let id = lock(&job.index).add_reader();
        Self { job, id, first_look: Some(Ordinal(0)) }
    }

    /// The next child, or none: then await [`JobMailboxes::changed`] with the version that was read
    /// before this call.
    pub fn next_child(&mut self) -> Option<Ordinal> {
        let mut index = lock(&self.job.index);
        if let Some(from) = self.first_look {
            let found = index.next_unread(from);
            self.first_look = found.and_then(|ordinal| ordinal.0.checked_add(1)).map(Ordinal);
            if found.is_some() {
                return found;
            }
        }
        index.next_arrival(self.id)
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        lock(&self.job.index).remove_reader(self.id);
    }
}
