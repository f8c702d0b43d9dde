//! A process that outlives its node: its number of the next record is the guardian's to say.

use bytes::Bytes;
use sortie_model::spec::InputSpec;
use sortie_model::{Record, Timestamp};
use sortie_wire::guardian_proto::Keep;

use crate::data::port::{ChildPort, Target};

impl ChildPort {
    /// The child began then, if that is known, in an earlier life of this node.
    pub(crate) fn began_before(&self, begin: Option<Timestamp>) {
        self.state().begin = begin;
    }

    /// How its process outlives this node, if it does. One at a terminal does not: this node is
    /// that terminal's other side.
    pub(crate) fn keep(&self) -> Option<Keep> {
        if matches!(self.shared.spec.input, InputSpec::Terminal(_)) {
            return None;
        }
        let Target::Here(job) = &self.shared.target else { return None };
        job.durable.as_ref()?;
        Some(Keep {
            child: self.key(),
            incarnation: self.incarnation,
            first: self.state().next,
            drain: self.shared.spec.drain,
            note: Bytes::new(),
        })
    }

    /// Stores what a kept process wrote: it has its number and its time already, and may be here.
    pub(crate) async fn store_kept(&self, record: Record) {
        let Target::Here(job) = &self.shared.target else { return };
        if self.shared.is_discarded() {
            return;
        }
        let next = record.seq.after(1);
        job.store_again(self.ordinal, record).await;
        let mut state = self.state();
        state.next = state.next.max(next);
    }
}
