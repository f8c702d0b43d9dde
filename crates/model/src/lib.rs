//! The nouns of Sortie: ids, states, reasons, specs, views and limits.
//!
//! This crate does no I/O and depends on nothing of ours. Everything that two floors must agree on
//! is spelled here once; `docs/semantics.md` says what each word promises.

pub mod detached;
pub mod facts;
pub mod id;
pub mod limits;
pub mod name;
pub mod nodeset;
pub mod note;
pub mod quantity;
pub mod question;
pub mod reason;
pub mod record;
pub mod restart;
pub mod selector;
pub mod shell_quote;
pub mod spec;
pub mod state;
pub mod timestamp;
pub mod view;

pub use id::{
    Bound, ChildIncarnation, ChildInstance, ChildKey, EntryId, IdempotencyKey, Incarnation,
    JobInstance, NodeId, Ordinal, Seq, SessionId, SessionInstance,
};
pub use name::{JobName, NodeName, SessionName};
pub use question::{Deadlock, Question, QuestionNumber};
pub use reason::Reason;
pub use record::{Body, Record, Stream};
pub use restart::RestartSpec;
pub use spec::JobSpec;
pub use state::{Motion, State};
pub use timestamp::Timestamp;
pub use view::{ChildView, JobView, NodeView, SessionView};
