//! What selection and queries must know of a job.

use std::borrow::Cow;

use sortie_engine::select::JobFacts;
use sortie_model::{EntryId, JobInstance, Ordinal, State, Timestamp};

use crate::data::job::JobShared;

impl JobFacts for JobShared {
    fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    fn command(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.command)
    }

    fn instance(&self) -> JobInstance {
        self.identity.instance
    }

    fn state(&self) -> State {
        self.rows().state()
    }

    fn end_time(&self) -> Option<Timestamp> {
        self.rows().end_time()
    }

    fn has_more_data(&self) -> bool {
        !self.rows().state().is_finished() || self.mailboxes.unread().records > 0
    }

    fn children(&self) -> u32 {
        self.rows().children()
    }

    fn child_id(&self, child: Ordinal) -> Option<EntryId> {
        self.rows().child_id(child)
    }

    fn child_state(&self, child: Ordinal) -> Option<State> {
        self.rows().child_state(child)
    }

    fn child_end_time(&self, child: Ordinal) -> Option<Timestamp> {
        self.rows().child_end(child)
    }

    fn child_has_more_data(&self, child: Ordinal) -> bool {
        let state = self.rows().child_state(child);
        state.is_some_and(|state| !state.is_finished())
            || self.mailboxes.summary(child).unread.records > 0
    }
}
