//! Records of a child on its job's own node that go by way of the disk.

use sortie_model::{Body, Record, Stream};

use crate::data::job::JobShared;
use crate::data::port::ChildPort;

impl ChildPort {
    /// Stores a record here by way of the disk; gives it back when another one was first.
    pub(super) async fn store(&self, job: &JobShared, stream: Stream, body: Body) -> Option<Body> {
        let stored = self.stored.notified();
        tokio::pin!(stored);
        stored.as_mut().enable();
        let taken = {
            let mut state = self.state();
            (!std::mem::replace(&mut state.storing, true)).then_some(state.next)
        };
        let Some(seq) = taken else {
            stored.await;
            return Some(body);
        };
        let _turn = Turn(self);
        let length = body.len();
        let time = self.shared.world.now();
        job.store(self.ordinal, Record { seq, stream, time, body }).await;
        let mut state = self.state();
        state.next = seq.after(1);
        state.inline += length;
        state.room = state.room.saturating_sub(length as u64);
        None
    }
}

/// Whose record is on its way to the disk; gives the turn away when dropped.
struct Turn<'a>(&'a ChildPort);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.state().storing = false;
        self.0.stored.notify_waiters();
    }
}
