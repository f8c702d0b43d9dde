//! The nouns that samples are made of.

use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use sortie_model::spec::{OsBytes, WindowSize};
use sortie_model::{JobInstance, NodeId, NodeName, SessionInstance, Timestamp};
use sortie_wire::{ErrorCode, RemoteError};
use uuid::Uuid;

pub(crate) const TIME: Timestamp = Timestamp(1_700_000_000_123_456);

pub(crate) fn node_id(first: u8) -> NodeId {
    let mut id = [0; 16];
    id.iter_mut().zip(first..).for_each(|(slot, byte)| *slot = byte);
    NodeId(id)
}

pub(crate) fn node_name(name: &str) -> NodeName {
    name.parse().unwrap()
}

pub(crate) fn job() -> JobInstance {
    JobInstance(Uuid::from_u128(0x0189_0a5d_ac96_774b_bcce_b302_099a_8057))
}

pub(crate) fn session() -> SessionInstance {
    SessionInstance(Uuid::from_u128(0x0189_0a5d_ac96_774b_bcce_b302_099a_8001))
}

pub(crate) fn os(text: &'static [u8]) -> OsBytes {
    OsBytes::try_from(Bytes::from_static(text)).unwrap()
}

pub(crate) fn window() -> WindowSize {
    WindowSize { rows: 24, columns: 300, width: 0, height: 70 }
}

pub(crate) fn text(text: &str) -> String {
    text.to_owned()
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::new(seconds, 250_000_000)
}

pub(crate) fn at_least_one(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

pub(crate) fn error(code: ErrorCode) -> RemoteError {
    RemoteError::new(code, "no node is called `zz`").hint("`sortie node get` lists them")
}

pub(crate) fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| (text(key), text(value))).collect()
}
