//! Cuts a stream of bytes into frames, with one copy and no allocation that the peer could inflate.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};
use sortie_model::limits;
use sortie_wire::frame::{PREFIX_BYTES, read_prefix};
use sortie_wire::{DecodeError, Frame, Kind};

use crate::transport::{RawReceive, StreamFault};

/// Chunks that one read takes at most: a datagram each, so a read takes the lock once per 32.
const CHUNKS_PER_READ: usize = 32;
/// What a frame's body is given before its bytes are there.
const BODY_AHEAD_BYTES: usize = limits::MIB;

/// Why there is no next frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FrameFault {
    Stream(StreamFault),
    /// The stream ended within a frame.
    Truncated,
    /// A frame longer than allowed.
    Decode(DecodeError),
}

/// Reads frames off a stream.
pub(crate) struct FrameReader {
    raw: RawReceive,
    chunks: VecDeque<Bytes>,
    held: usize,
    partial: Option<Partial>,
    limit: usize,
}

/// A frame whose body is not all there.
struct Partial {
    kind: Kind,
    body: BytesMut,
    length: usize,
}

impl FrameReader {
    pub(crate) fn new(raw: RawReceive, limit: usize) -> Self {
        Self { raw, chunks: VecDeque::new(), held: 0, partial: None, limit }
    }

    pub(crate) const fn allow(&mut self, limit: usize) {
        self.limit = limit;
    }

    pub(crate) fn stop(&mut self, code: sortie_wire::close::StreamCode) {
        self.raw.stop(code);
    }

    /// The next frame; none at the clean end. Cancel safe: what was read stays.
    pub(crate) async fn next(&mut self) -> Result<Option<Frame>, FrameFault> {
        loop {
            if let Some(frame) = self.take().map_err(FrameFault::Decode)? {
                return Ok(Some(frame));
            }
            let mut chunks = [const { Bytes::new() }; CHUNKS_PER_READ];
            let read = self.raw.read(&mut chunks).await.map_err(FrameFault::Stream)?;
            let Some(count) = read else {
                let between = self.held == 0 && self.partial.is_none();
                return if between { Ok(None) } else { Err(FrameFault::Truncated) };
            };
            for chunk in chunks.into_iter().take(count) {
                self.held += chunk.len();
                self.chunks.push_back(chunk);
            }
        }
    }

    fn take(&mut self) -> Result<Option<Frame>, DecodeError> {
        if self.partial.is_none() {
            if self.held < PREFIX_BYTES {
                return Ok(None);
            }
            let mut prefix = [0; PREFIX_BYTES];
            self.move_into(&mut prefix);
            let (kind, length) = read_prefix(prefix, self.limit)?;
            let body = BytesMut::with_capacity(length.min(BODY_AHEAD_BYTES));
            self.partial = Some(Partial { kind, body, length });
        }
        let Some(mut partial) = self.partial.take() else { return Ok(None) };
        while partial.body.len() < partial.length {
            let Some(chunk) = self.chunks.front_mut() else {
                self.partial = Some(partial);
                return Ok(None);
            };
            let count = chunk.len().min(partial.length - partial.body.len());
            partial.body.extend_from_slice(chunk.get(..count).unwrap_or_default());
            self.used(count);
        }
        Ok(Some(Frame { kind: partial.kind, body: partial.body.freeze() }))
    }

    fn move_into(&mut self, to: &mut [u8]) {
        let mut done = 0;
        while let Some(rest) = to.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let Some(chunk) = self.chunks.front_mut() else { return };
            let count = chunk.len().min(rest.len());
            rest.iter_mut().zip(chunk.iter()).for_each(|(to, byte)| *to = *byte);
            done += count;
            self.used(count);
        }
    }

    /// The first `count` bytes of the first chunk are used.
    fn used(&mut self, count: usize) {
        self.held -= count;
        if let Some(chunk) = self.chunks.front_mut() {
            chunk.advance(count);
            if chunk.is_empty() {
                self.chunks.pop_front();
            }
        }
    }
}
