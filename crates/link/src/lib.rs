//! Links between nodes: QUIC with mutual TLS, a hello, a control stream, and streams of frames.
//!
//! An [`Endpoint`] listens and dials. A [`Link`] is up once both sides have proven who they are and
//! the hello was acknowledged; from then on its certificate's role decides which messages may pass
//! (`sortie_wire::permit`). This crate knows frames, not jobs.
//!
//! [`CertificateAuthority`] is the private CA of a cluster, [`join()`] how a node gets into it, and
//! [`memory`] the same network within one process, for tests.

mod authority;
mod backoff;
mod control;
mod dial;
mod endpoint;
mod error;
mod frames;
mod handshake;
mod identity;
mod join;
mod link;
mod listen;
pub mod memory;
mod pem;
mod streams;
mod tls;
mod transport;
mod trust;

pub use authority::{AuthorityError, BACKDATED, CertificateAuthority, LIFE, PublicKey, Validity};
pub use backoff::Backoff;
pub use control::ControlReceiver;
pub use endpoint::{Arrival, Arrivals, Endpoint};
pub use error::{
    AnswerFault, BindError, CloseReason, DialError, Expect, JoinError, SendError, Side,
    StreamError, TlsError, TrustFault,
};
pub use handshake::LocalFacts;
pub use identity::{Identity, IdentityError, NodeKey};
pub use join::{JoinExchange, JoinPlea, Joined, join};
pub use link::{Link, PeerFacts};
pub use pem::BadPem;
pub use sortie_wire::close::{CloseCode, StreamCode};
pub use sortie_wire::join_proto::{BadToken, JoinSecret, JoinToken};
pub use streams::{Finished, FrameReceiver, FrameSender};
pub use transport::LinkStats;
pub use trust::{CertificateFault, Peer};

#[cfg(test)]
mod tests;
