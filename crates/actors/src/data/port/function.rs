//! A running child as its function reaches it.

use std::any::Any;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;

use bytes::Bytes;
use sortie_exec::environment::variables;
use sortie_exec::inbox::InboxPort;
use sortie_exec::task::{BoxFuture, NoAnswer, Staying, TaskPort};
use sortie_model::{Body, NodeName, Ordinal, Stream};

use crate::child_job::process::surroundings;
use crate::data::messages::gate::FunctionEnd;
use crate::data::nested::TaskNode;
use crate::data::port::{ChildPort, Target};

impl TaskPort for ChildPort {
    fn try_write(&self, stream: Stream, body: Body) -> Result<(), Body> {
        self.try_record(stream, body)
    }

    fn write(&self, stream: Stream, body: Body) -> BoxFuture<'_, ()> {
        Box::pin(self.record(stream, body))
    }

    fn staying(&self) -> Staying {
        match self.shared.target {
            Target::Here(_) => Staying::Here,
            Target::There(_) => Staying::Leaves,
        }
    }

    fn cancelled(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.token.fired())
    }

    fn is_cancelled(&self) -> bool {
        self.was_told_to_stop()
    }

    fn reach(self: Arc<Self>) -> Option<Arc<dyn Any + Send + Sync>> {
        Some(Arc::new(TaskNode::new(self)))
    }

    fn ask(&self, prompt: String) -> BoxFuture<'_, Result<Bytes, NoAnswer>> {
        Box::pin(self.ask_owner(prompt))
    }

    fn checkpoint(&self, value: Bytes) -> BoxFuture<'_, ()> {
        self.keep_checkpoint(value);
        Box::pin(self.stand_still())
    }

    fn resumed_from(&self) -> Option<Bytes> {
        self.last_checkpoint()
    }

    fn environment(&self) -> BTreeMap<OsString, OsString> {
        variables(&surroundings(self.job(), self.id()).0)
    }

    fn ordinal(&self) -> Ordinal {
        self.ordinal
    }

    fn node(&self) -> &NodeName {
        &self.shared.node
    }

    fn inbox(&self) -> Option<Box<dyn InboxPort>> {
        Some(Box::new(FunctionEnd(self.open_inbox()?)))
    }
}
