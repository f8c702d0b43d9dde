//! Jobs, sessions and supervision over QUIC-linked nodes.

pub mod answer;
mod command;
mod error;
mod input;
mod job;
mod receiver;
mod route;
mod session;
mod watch;

pub use command::Command;
pub use error::{EncodeError, Misuse, RequestError, ShapeError, StartError, ValueError};
pub use input::{InputSender, ItemSender, ItemSplitter, Separator};
pub use job::{Job, JobBuilder, JobStream, Received, Values};
pub use receiver::{ReceiveEnd, ReceiveItem, Receiver};
pub use session::Session;
pub use watch::Happenings;

pub use sortie_model::limits;
pub use sortie_model::{
    ChildInstance, ChildView, EntryId, IdempotencyKey, JobInstance, JobSpec, JobView, NodeId,
    NodeView, Ordinal, Reason, Record, Seq, SessionId, SessionInstance, SessionView, State, Stream,
    Timestamp,
};
pub use sortie_wire::{DecodeError, ErrorCode, RemoteError};
