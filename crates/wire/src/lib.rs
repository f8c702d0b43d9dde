//! What travels between nodes, clients and the guardian: messages, frames, versions, one codec.
//!
//! No I/O happens here. Kinds are numbers that are never reused; no type on the wire is recursive;
//! every length is checked before anything is allocated. `docs/protocol.md` lists every message.

pub mod close;
pub mod codec;
pub mod frame;
pub mod guardian_proto;
pub mod host_proto;
pub mod join_proto;
pub mod link_proto;
pub mod map_items;
pub mod message_proto;
pub mod permit;
pub mod record_run;
pub mod remote_error;
pub mod session_proto;
pub mod terminal_items;
pub mod version;
pub mod worker_proto;

pub use codec::{DecodeError, TooLarge, decode, encode};
pub use frame::{Frame, Kind, Message};
pub use remote_error::{ErrorCode, RemoteError};
