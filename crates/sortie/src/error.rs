//! Why a request failed.

use std::io;
use std::sync::Arc;

use sortie_actors::AboveError;
use sortie_actors::data::exchange::ExchangeError;
use sortie_exec::task::{ShapeError, note_of, read_value};
use sortie_model::reason::ReachStep;
use sortie_model::spec::NulByte;
use sortie_model::{Deadlock, Reason};
use sortie_wire::session_proto::{Failure, Trouble};
use sortie_wire::{DecodeError, ErrorCode, RemoteError};

use crate::home::{Holder, HomeError};

/// Why a request to a node failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The node refused, or could not do it. Nothing was done, unless the code says that a request
    /// which was open had to end: then it may have been carried out ([`ErrorCode::SessionTaken`],
    /// [`ErrorCode::ShuttingDown`]).
    #[error(transparent)]
    Refused(#[from] RemoteError),
    /// The connection to the node, or the node itself, is gone. Whether the request was carried out
    /// is unknown; a start that is repeated with the same key starts nothing twice.
    #[error("the connection to the node was lost")]
    Lost,
    /// The connection broke before, and cannot be made again. Nothing was done.
    #[error(transparent)]
    Unreachable(#[from] ConnectError),
    /// What is waited for is blocked on input that nobody has given (`docs/semantics.md`, section
    /// 2.3). What was received before stays received.
    #[error("{0}")]
    Deadlock(Deadlock),
    /// The job takes no more input: all of its children are finished or have closed theirs.
    #[error("the job takes no more input")]
    InputClosed,
    /// The call does not fit the job's spec. Nothing was sent.
    #[error(transparent)]
    Misused(#[from] Misuse),
    /// The node answered with what was not asked for.
    #[error("the node gave an answer that does not belong to the request")]
    Unexpected,
    /// The node sent what cannot be read.
    #[error("the node sent a message that cannot be read")]
    Malformed(#[source] DecodeError),
    /// The request passes [`limits::FRAME_BYTES`](sortie_model::limits::FRAME_BYTES). Nothing was
    /// sent.
    #[error("the request is larger than {} bytes", sortie_model::limits::FRAME_BYTES)]
    TooLarge,
}

/// A call that does not fit the spec it was made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misuse {
    /// The spec takes input, or is a map, and the call gives none.
    #[error("the job takes input: start it with `start_with_input` or `start_on_terminal`")]
    InputMissing,
    /// The spec takes no input, and the call gives some.
    #[error("the job takes no input: start it with `start`")]
    InputSurplus,
    /// The spec has no terminal, and the call would type at it.
    #[error("the job has no terminal: its input is not `InputSpec::Terminal`")]
    NoTerminal,
    /// A map's items are its input; it cannot take another.
    #[error("a map's items are its input; it takes no other")]
    InputOfMap,
    /// An item of a map is longer than [`limits::VALUE_BYTES`](sortie_model::limits::VALUE_BYTES).
    #[error("an item of a map is longer than {} bytes", sortie_model::limits::VALUE_BYTES)]
    ItemTooLong,
    /// A line of a map's list is longer than
    /// [`limits::MAP_LINE_BYTES`](sortie_model::limits::MAP_LINE_BYTES).
    #[error("a line of the list is longer than {} bytes", sortie_model::limits::MAP_LINE_BYTES)]
    LineTooLong,
    /// The spec is no map, and the call gives items. So has a map whose builder was told
    /// [`copies`](crate::JobBuilder::copies) afterwards.
    #[error("the job is no map: it takes no items")]
    NoMap,
    /// A function's inputs are values, and the map gives raw items.
    #[error("a function's map takes values: make it with `Session::task_map`")]
    RawItemsForTask,
}

impl RequestError {
    /// The number under which the error is known everywhere; errors of the connection itself count
    /// as [`ErrorCode::Unreachable`].
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Refused(error) => error.code,
            Self::Lost => ErrorCode::Unreachable,
            Self::Unreachable(error) => error.code(),
            Self::Deadlock(_) => ErrorCode::Deadlock,
            Self::InputClosed => ErrorCode::Gone,
            Self::Misused(_) => ErrorCode::Usage,
            Self::Unexpected | Self::Malformed(_) => ErrorCode::Version,
            Self::TooLarge => ErrorCode::Limit,
        }
    }

    /// What to do about it, if the node knows.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Refused(error) => error.hint.as_deref(),
            _ => None,
        }
    }

    /// Whether the same request may succeed later or on another connection.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Refused(error) => error.code.is_retryable(),
            Self::Lost => true,
            Self::Unreachable(error) => error.is_retryable(),
            _ => false,
        }
    }

    /// The first trouble of an answer about one job: for that job it is the whole answer.
    pub(crate) fn of_troubles(troubles: Vec<Trouble>) -> Self {
        match troubles.into_iter().next() {
            Some(trouble) => Self::Refused(trouble.error),
            None => Self::Unexpected,
        }
    }
}

impl From<ExchangeError> for RequestError {
    fn from(error: ExchangeError) -> Self {
        match error {
            ExchangeError::Malformed(error) => Self::Malformed(error),
            ExchangeError::TooLarge => Self::TooLarge,
            _ => Self::Lost,
        }
    }
}

impl From<AboveError> for RequestError {
    fn from(error: AboveError) -> Self {
        match error {
            AboveError::Refused(error) => Self::Refused(error),
            AboveError::Exchange(error) => error.into(),
            _ => Self::Lost,
        }
    }
}

/// Why a node could not be connected to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No node runs with that home, or it is not ready yet.
    #[error("no node runs with this home")]
    NotRunning,
    /// The home's own node is there and says nothing: it hangs, or a signal stopped it.
    #[error(
        "this home's node{} is there and does not answer: it hangs, or was stopped by a signal",
        .process.map_or_else(String::new, |process| format!(" (process {process})"))
    )]
    Unresponsive {
        /// Its process id, if its home says it.
        process: Option<u32>,
    },
    /// The home's files cannot be read.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The node did not answer in time, is not the one that was expected, or turned us away.
    #[error(transparent)]
    Dial(DialFault),
}

/// What went wrong on the way to a node. Its message names the address and the step.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct DialFault(sortie_link::DialError);

impl From<sortie_link::DialError> for ConnectError {
    fn from(error: sortie_link::DialError) -> Self {
        Self::Dial(DialFault(error))
    }
}

impl ConnectError {
    /// The same of a home's own node, where it was dialled at the address that the home announces:
    /// no firewall lies in between, and the home says whether a node is there at all.
    pub(crate) fn of_home(self, holder: impl FnOnce() -> io::Result<Holder>) -> Self {
        use sortie_link::DialError::{NoAnswer, NothingListens, Refused};

        match &self {
            Self::Dial(DialFault(Refused { .. })) => self,
            Self::Dial(DialFault(NothingListens { .. })) => Self::NotRunning,
            Self::Dial(DialFault(fault)) => match (holder(), fault) {
                // Somebody else has the port of a node that was killed.
                (Ok(Holder::Nobody), _) => Self::NotRunning,
                (Ok(Holder::Process(process)), NoAnswer { .. }) => Self::Unresponsive { process },
                _ => self,
            },
            _ => self,
        }
    }

    /// Whether the host itself said that nothing listens at the address: no node runs there, or it
    /// listens elsewhere. Silence says less.
    pub const fn nothing_listens(&self) -> bool {
        matches!(self, Self::Dial(DialFault(sortie_link::DialError::NothingListens { .. })))
    }

    /// Which step towards the node failed; none when nothing was dialled.
    pub const fn step(&self) -> Option<ReachStep> {
        match self {
            Self::Dial(fault) => Some(fault.0.step()),
            Self::Unresponsive { .. } => Some(ReachStep::Connect),
            Self::NotRunning | Self::Home(_) => None,
        }
    }

    /// The number under which the error is known everywhere.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::NotRunning | Self::Unresponsive { .. } => ErrorCode::Unreachable,
            Self::Home(_) => ErrorCode::Storage,
            Self::Dial(DialFault(sortie_link::DialError::Refused { error, .. })) => error.code,
            Self::Dial(_) => ErrorCode::Unreachable,
        }
    }

    /// Whether the same connection may succeed later.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::NotRunning | Self::Unresponsive { .. } => true,
            Self::Home(error) => error.is_retryable(),
            Self::Dial(fault) => fault.0.is_retryable(),
        }
    }
}

/// Why a job could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The node refused, or could not be asked.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// A word of the command, a variable or the directory has a NUL byte.
    #[error(transparent)]
    Nul(#[from] NulByte),
    /// The function's input has no encoding, or one that is too long.
    #[error(transparent)]
    Input(#[from] EncodeError),
}

impl StartError {
    /// The number under which the error is known everywhere.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Request(error) => error.code(),
            Self::Nul(_) | Self::Input(_) => ErrorCode::Usage,
        }
    }

    /// Whether the same start may succeed later or on another connection.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Request(error) => error.is_retryable(),
            Self::Nul(_) | Self::Input(_) => false,
        }
    }
}

impl From<Misuse> for StartError {
    fn from(misuse: Misuse) -> Self {
        Self::Request(misuse.into())
    }
}

/// Why a child's question was not answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// The answer has no encoding, or one of more than
    /// [`limits::VALUE_BYTES`](sortie_model::limits::VALUE_BYTES).
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The node refused it, or could not be asked; an answer of more than
    /// [`limits::ANSWER_BYTES`](sortie_model::limits::ANSWER_BYTES) is refused with
    /// [`ErrorCode::Limit`].
    #[error(transparent)]
    Request(#[from] RequestError),
}

impl AnswerError {
    /// The number under which the error is known everywhere.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Encode(_) => ErrorCode::Usage,
            Self::Request(error) => error.code(),
        }
    }

    /// Whether the same answer may be taken later or on another connection.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Encode(_) => false,
            Self::Request(error) => error.is_retryable(),
        }
    }
}

/// A value that has no encoding: its `Serialize` failed, or it is larger than
/// [`limits::VALUE_BYTES`](sortie_model::limits::VALUE_BYTES).
#[derive(Debug, Clone, thiserror::Error)]
#[error("the value cannot be encoded")]
pub struct EncodeError(#[source] EncodeFault);

#[derive(Debug, Clone, thiserror::Error)]
enum EncodeFault {
    #[error(transparent)]
    Shape(Arc<rmp_serde::encode::Error>),
    #[error("it has {size} bytes; at most {} are allowed", sortie_model::limits::VALUE_BYTES)]
    Size { size: usize },
}

impl EncodeError {
    /// Always false: the same value has no encoding later either.
    pub const fn is_retryable(&self) -> bool {
        false
    }
}

/// The one form in which inputs, outputs and errors of functions travel: MessagePack with field
/// names (`docs/semantics.md`, section 1.3).
pub(crate) fn encode_value<T>(value: &T) -> Result<bytes::Bytes, EncodeError>
where
    T: serde::Serialize + ?Sized,
{
    let encoded = rmp_serde::to_vec_named(value)
        .map_err(|error| EncodeError(EncodeFault::Shape(Arc::new(error))))?;
    if encoded.len() > sortie_model::limits::VALUE_BYTES {
        return Err(EncodeError(EncodeFault::Size { size: encoded.len() }));
    }
    Ok(encoded.into())
}

/// Why a record, or a stream of values, gives no value of the wanted type.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// The record carries a process's bytes, not a value.
    #[error("the record carries bytes of a process, not a value")]
    NotAValue,
    /// The value is of another shape.
    #[error("the value does not have the wanted type")]
    Shape(#[source] ShapeError),
    /// The value was live ([`Live`](crate::Live)) until it had to be encoded, and that failed: the
    /// value is lost.
    #[error("the value could not be encoded: {why}")]
    NotEncoded {
        /// What its encoding met.
        why: String,
    },
    /// The records could not be received.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The child failed, so its values may not be all there should be.
    #[error("child {} failed: {}", .0.child, .0.reason)]
    ChildFailed(Failure),
}

impl ValueError {
    /// Whether the same call, or the same work, may succeed later or elsewhere.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Request(error) => error.is_retryable(),
            Self::ChildFailed(failure) => failure.reason.is_retryable(),
            Self::NotAValue | Self::Shape(_) | Self::NotEncoded { .. } => false,
        }
    }

    /// Why the child failed, if that is what happened.
    pub const fn reason(&self) -> Option<&Reason> {
        match self {
            Self::ChildFailed(failure) => Some(&failure.reason),
            _ => None,
        }
    }
}

/// Reads a value that a function gave.
pub(crate) fn decode_value<T>(bytes: &[u8]) -> Result<T, ValueError>
where
    T: serde::de::DeserializeOwned,
{
    if let Some(why) = note_of(bytes) {
        return Err(ValueError::NotEncoded { why: why.to_owned() });
    }
    read_value(bytes).map_err(ValueError::Shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_keeps_the_code_and_the_hint_that_the_node_gave() {
        let error = RemoteError::new(ErrorCode::Limit, "too many jobs").hint("remove some");
        let error = RequestError::from(error);
        assert_eq!(error.code(), ErrorCode::Limit);
        assert_eq!(error.hint(), Some("remove some"));
        assert_eq!(error.to_string(), "too many jobs");
        assert!(error.is_retryable());
        let refused = RequestError::from(RemoteError::new(ErrorCode::Denied, "no"));
        assert!(!refused.is_retryable());
    }

    #[test]
    fn a_lost_exchange_is_retryable_and_garbage_is_not() {
        assert!(RequestError::from(ExchangeError::Gone).is_retryable());
        let garbage = ExchangeError::Malformed(DecodeError::Malformed { kind: 201 });
        let garbage = RequestError::from(garbage);
        assert!(matches!(garbage, RequestError::Malformed(_)));
        assert!(!garbage.is_retryable());
    }

    #[test]
    fn a_value_reads_back_and_one_of_another_shape_says_so() {
        let bytes = encode_value(&("name", 7_u8)).expect("a tuple has an encoding");
        assert_eq!(decode_value::<(String, u8)>(&bytes).expect("same shape"), ("name".into(), 7));
        assert!(matches!(decode_value::<u64>(&bytes), Err(ValueError::Shape(_))));
    }

    #[test]
    fn a_value_past_the_limit_is_refused_before_it_travels() {
        let huge = "x".repeat(sortie_model::limits::VALUE_BYTES);
        assert!(encode_value(&huge).is_err());
    }
}
