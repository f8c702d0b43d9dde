//! What can go wrong on the way to a link, on it, and on its streams. People read these sentences:
//! each says what happened, where, and what to look at.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use sortie_model::NodeId;
use sortie_model::reason::ReachStep;
use sortie_wire::close::{CloseCode, StreamCode};
use sortie_wire::codec::TooLarge;
use sortie_wire::remote_error::ErrorCode;
use sortie_wire::{DecodeError, RemoteError};

use crate::trust::CertificateFault;

/// Which side of a link did something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// This process.
    Here,
    /// The other one.
    There,
}

/// Why a link is down.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// This side closed it.
    #[error("closed here: {text}")]
    Here {
        /// Why, as a number.
        code: CloseCode,
        /// Why, for people.
        text: String,
    },
    /// The other side closed it.
    #[error("closed by the other side: {code}{}{text}", if text.is_empty() { "" } else { ": " })]
    There {
        /// Why, as a number.
        code: CloseCode,
        /// Why, for people: at most 256 bytes, without control characters.
        text: String,
    },
    /// Nothing came for the idle time, not even an answer to a keep-alive.
    #[error("the other side is silent")]
    Silent,
    /// The other side does not know the connection: it was started again.
    #[error("the other side was started again")]
    Restarted,
    /// The other side has too many handshakes under way.
    #[error("the other side is busy with other connections")]
    Busy,
    /// The TLS handshake failed.
    #[error("the TLS handshake failed with alert {alert}: {text}")]
    Tls {
        /// Who refused.
        by: Side,
        /// The alert's number in TLS.
        alert: u8,
        /// What the TLS library says.
        text: String,
    },
    /// The QUIC library gave up.
    #[error("a transport fault: {text}")]
    Fault {
        /// What it says.
        text: String,
    },
}

/// A socket cannot be used to listen or dial.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The address is in use, not ours, or not permitted.
    #[error("cannot listen at UDP {address}: {source}")]
    Socket {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// The identity cannot be used for TLS.
    #[error("cannot listen: {0}")]
    Identity(#[from] TlsError),
    /// Only nodes listen.
    #[error("cannot listen: the certificate is a user's, not a node's")]
    NotANode,
}

/// An identity that the TLS library refuses.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("the identity cannot be used: {0}")]
pub struct TlsError(#[from] pub(crate) rustls::Error);

/// Why the other side's certificate, or ours, was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrustFault {
    /// Its certificate is from another CA.
    #[error("it belongs to another cluster: its certificate is not from our CA")]
    OtherAuthority,
    /// It is a node of the cluster, but not the one that was meant.
    #[error("it is not the node that was meant")]
    OtherNode,
    /// Its certificate begins in our future.
    #[error(
        "its certificate is not yet valid: the clocks differ by at least {}; set the clock here \
         or there", Seconds(*.by)
    )]
    NotYetValid {
        /// By how much, at least.
        by: Duration,
    },
    /// Its certificate ended in our past.
    #[error(
        "its certificate expired {} ago: renew it, or set the clock here or there", Seconds(*.by)
    )]
    Expired {
        /// How long ago.
        by: Duration,
    },
    /// Its certificate is ours but says nothing usable.
    #[error("its certificate cannot be used: {0}")]
    Certificate(#[from] CertificateFault),
    /// It is a node and we expected one, but its word and its certificate differ.
    #[error("it calls itself something else than its certificate does")]
    Impostor,
    /// It did not accept our certificate, because that is from another CA.
    #[error("it does not accept our certificate: it belongs to another cluster")]
    WeAreStrangers,
    /// It did not accept our certificate, because of its dates.
    #[error(
        "it does not accept the dates of our certificate: see whether the clock is right here \
         and there"
    )]
    OurDates,
    /// It is no node, or speaks no version of the protocol that we know.
    #[error("it does not speak our protocol")]
    OtherProtocol,
    /// Anything else that TLS says.
    #[error("{0}")]
    Tls(String),
}

/// A dial gave no link.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The address is no `host:port`.
    #[error("`{address}` is no address: an address is `host:port`")]
    Address {
        /// What was given.
        address: String,
    },
    /// The host's name gave no address.
    #[error("cannot resolve `{address}`: {source}")]
    Resolve {
        /// What was given.
        address: String,
        /// The resolver's error.
        source: io::Error,
    },
    /// No socket can reach it.
    #[error("cannot reach UDP {address}: {source}")]
    Socket {
        /// What was dialled.
        address: String,
        /// The system's error.
        source: io::Error,
    },
    /// Its host says that nothing listens there.
    #[error("nothing listens at UDP {address}: is the node running there?")]
    NothingListens {
        /// What was dialled.
        address: String,
    },
    /// No answer came in time.
    #[error(
        "nothing answers at UDP {address} within {}: {}", Seconds(*.waited), why_silent(address)
    )]
    NoAnswer {
        /// What was dialled.
        address: String,
        /// How long was waited.
        waited: Duration,
    },
    /// One side could not prove who it is.
    #[error("{address} cannot be trusted, or does not trust us: {fault}")]
    Trust {
        /// What was dialled.
        address: String,
        /// Why not.
        fault: TrustFault,
    },
    /// It knows us and refused.
    #[error("{address} refused: {error}")]
    Refused {
        /// What was dialled.
        address: String,
        /// Why.
        error: RemoteError,
    },
    /// The connection broke before the link was up.
    #[error("{address} broke off the connection: {reason}")]
    Broken {
        /// What was dialled.
        address: String,
        /// How.
        reason: CloseReason,
    },
    /// Our own identity cannot be used.
    #[error("cannot dial {address}: {source}")]
    Identity {
        /// What was dialled.
        address: String,
        /// Why.
        source: TlsError,
    },
    /// This endpoint was closed.
    #[error("cannot dial {address}: this node shuts down")]
    Closing {
        /// What was dialled.
        address: String,
    },
}

impl DialError {
    /// Which step towards the node failed.
    pub const fn step(&self) -> ReachStep {
        match self {
            Self::Address { .. } | Self::Resolve { .. } => ReachStep::Resolve,
            Self::Trust { .. } | Self::Identity { .. } => ReachStep::Authenticate,
            Self::Refused { .. } => ReachStep::Authorise,
            Self::Socket { .. }
            | Self::NothingListens { .. }
            | Self::NoAnswer { .. }
            | Self::Broken { .. }
            | Self::Closing { .. } => ReachStep::Connect,
        }
    }

    /// Whether the other side prefers the link that it dialled itself, which then comes as an
    /// arrival: nothing failed.
    pub fn is_duplicate(&self) -> bool {
        matches!(
            self,
            Self::Broken { reason: CloseReason::There { code: CloseCode::DUPLICATE, .. }, .. }
        )
    }

    /// Whether the same dial may succeed later.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Refused { error, .. } => error.code.is_retryable(),
            Self::Address { .. } | Self::Identity { .. } | Self::Closing { .. } => false,
            Self::Trust { fault, .. } => matches!(
                fault,
                TrustFault::NotYetValid { .. } | TrustFault::Expired { .. } | TrustFault::OurDates
            ),
            _ => true,
        }
    }

    /// The error as it crosses to a client.
    pub fn to_remote(&self) -> RemoteError {
        match self {
            Self::Refused { error, .. } => error.clone(),
            other => RemoteError::new(ErrorCode::Unreachable, other.to_string()),
        }
    }
}

/// A control message was not queued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The link is down.
    #[error("the link is down: {0}")]
    Closed(CloseReason),
    /// The message's encoding passes the frame limit; the link is untouched.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// So much waits to be written that the link was closed.
    #[error("the other side reads too slowly, so the link was closed")]
    TooSlow,
}

/// A stream cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The link is down.
    #[error("the link is down: {0}")]
    Closed(CloseReason),
    /// The sender gave the stream up: what was read is a part only.
    #[error("the sender gave the stream up: {0}")]
    Reset(StreamCode),
    /// The receiver wants no more.
    #[error("the receiver wants no more of the stream: {0}")]
    Stopped(StreamCode),
    /// The stream ended within a frame.
    #[error("the stream ended within a frame")]
    Truncated,
    /// A frame that is too long or not allowed here; the link was closed.
    #[error("the other side broke the protocol: {0}")]
    Protocol(#[from] DecodeError),
    /// The message's encoding passes the frame limit; the stream is untouched.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// An earlier send was dropped half done, or the stream was finished or reset.
    #[error("the stream was ended, or an earlier send was dropped half done")]
    Ended,
}

/// A join did not happen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The node could not be reached or did not prove that its CA is the token's.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The answer is no answer, or its certificates are not what was asked for.
    #[error("{address} gave an answer that cannot be used: {fault}")]
    Answer {
        /// What was dialled.
        address: String,
        /// What is wrong with it.
        fault: AnswerFault,
    },
    /// No key could be made or used.
    #[error(transparent)]
    Key(#[from] crate::authority::AuthorityError),
    /// The request has too many labels or too long texts for one message.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

/// What is wrong with the answer to a join.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerFault {
    /// It cannot be read.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// Its body is malformed.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Its CA is not the token's.
    #[error("its CA is not the one that the token names")]
    OtherAuthority,
    /// Its certificates are not for our keys, name or roles.
    #[error("its certificates are not for what was asked")]
    OtherCertificates,
}

/// Which peer a dial expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Expect {
    /// That node and no other.
    Node(NodeId),
    /// Any node of our CA.
    AnyNode,
}

/// What to ask about an address at which nothing answers. On one machine no firewall is asked for.
fn why_silent(address: &str) -> &'static str {
    let here = address.parse().is_ok_and(|address: SocketAddr| address.ip().is_loopback());
    if here {
        "does the node there hang, or has another program its port?"
    } else {
        "does the node run there and not hang, and does every firewall let UDP through to that \
         port?"
    }
}

pub(crate) struct Seconds(pub(crate) Duration);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.0.as_secs();
        match seconds {
            0..10 => write!(f, "{:.1} s", self.0.as_secs_f64()),
            10..600 => write!(f, "{seconds} s"),
            600..36_000 => write!(f, "{} min", seconds / 60),
            36_000..864_000 => write!(f, "{} h", seconds / 3600),
            _ => write!(f, "{} days", seconds / 86_400),
        }
    }
}
