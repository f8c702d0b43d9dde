//! Why a link or one of its streams is given up: numbers that travel in QUIC's own closing frames
//! and are never reused.

use std::fmt;

/// Why a connection was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CloseCode(pub u32);

impl CloseCode {
    /// Nothing more to say.
    pub const DONE: Self = Self(0);
    /// The program ends.
    pub const SHUTDOWN: Self = Self(1);
    /// A newer connection, or the peer's later life, takes its place.
    pub const REPLACED: Self = Self(2);
    /// Both sides dialled at once and the other connection stays.
    pub const DUPLICATE: Self = Self(3);
    /// Bytes that are no frame, or a body that cannot be read.
    pub const GARBAGE: Self = Self(4);
    /// A frame that this side's certificate does not permit.
    pub const FORBIDDEN: Self = Self(5);
    /// Control frames piled up because they were not read.
    pub const TOO_SLOW: Self = Self(6);
    /// No client certificate.
    pub const NO_CERTIFICATE: Self = Self(7);
    /// No hello within the handshake's time.
    pub const NO_HELLO: Self = Self(8);
    /// The hello was refused; the refusal itself came as a message.
    pub const REFUSED: Self = Self(9);
    /// Not heard of for too long.
    pub const SILENT: Self = Self(10);
    /// The peer was removed from the cluster, or its identity was.
    pub const REMOVED: Self = Self(11);
    /// The program ends, and what outlives it waits for its next life.
    pub const RETURNS: Self = Self(12);

    /// The sentence for people.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::DONE => "nothing more to say",
            Self::SHUTDOWN => "it shuts down",
            Self::REPLACED => "another connection took its place",
            Self::DUPLICATE => "both sides dialled at once",
            Self::GARBAGE => "a message could not be read",
            Self::FORBIDDEN => "a message was not allowed",
            Self::TOO_SLOW => "control messages were not read in time",
            Self::NO_CERTIFICATE => "no certificate was shown",
            Self::NO_HELLO => "no hello came in time",
            Self::REFUSED => "the hello was refused",
            Self::SILENT => "silent for too long",
            Self::REMOVED => "removed from the cluster",
            Self::RETURNS => "its next life takes its place",
            _ => "a reason this version does not know",
        }
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code {})", self.sentence(), self.0)
    }
}

/// Why one direction of a stream was given up: in a reset by the sender, in a stop by the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamCode(pub u32);

impl StreamCode {
    /// The sender or receiver was dropped before its end.
    pub const DROPPED: Self = Self(1);
    /// The request, or what it was for, is no longer wanted.
    pub const ABANDONED: Self = Self(2);
    /// The session is gone.
    pub const NO_SESSION: Self = Self(3);
    /// Frames that cannot be read.
    pub const GARBAGE: Self = Self(4);
    /// A fault of the side that gave up.
    pub const FAULT: Self = Self(5);
}

impl fmt::Display for StreamCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::DROPPED => f.write_str("dropped before its end"),
            Self::ABANDONED => f.write_str("no longer wanted"),
            Self::NO_SESSION => f.write_str("its session is gone"),
            Self::GARBAGE => f.write_str("it could not be read"),
            Self::FAULT => f.write_str("a fault of the other side"),
            Self(code) => write!(f, "code {code}"),
        }
    }
}
