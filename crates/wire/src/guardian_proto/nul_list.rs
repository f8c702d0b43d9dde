//! Lists of words as a new process takes them.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use sortie_model::spec::OsBytes;

/// Byte strings without NUL, each ended by one: what an argument vector points into.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Bytes", into = "Bytes")]
pub struct NulList(Bytes);

/// A list whose last item is not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a list of words does not end in a NUL byte")]
pub struct Unended;

impl NulList {
    /// A list of words.
    pub fn of_words<'a>(words: impl IntoIterator<Item = &'a OsBytes>) -> Self {
        let mut bytes = BytesMut::new();
        for word in words {
            bytes.put_slice(word.as_bytes());
            bytes.put_u8(0);
        }
        Self(bytes.freeze())
    }

    /// A list of variables, each as `NAME=VALUE`.
    pub fn of_variables<'a>(
        variables: impl IntoIterator<Item = (&'a OsBytes, &'a OsBytes)>,
    ) -> Self {
        let mut bytes = BytesMut::new();
        for (name, value) in variables {
            bytes.put_slice(name.as_bytes());
            bytes.put_u8(b'=');
            bytes.put_slice(value.as_bytes());
            bytes.put_u8(0);
        }
        Self(bytes.freeze())
    }

    /// This list with one item more.
    #[must_use]
    pub fn with(&self, item: &OsBytes) -> Self {
        let mut bytes = BytesMut::with_capacity(self.0.len() + item.as_bytes().len() + 1);
        bytes.put_slice(&self.0);
        bytes.put_slice(item.as_bytes());
        bytes.put_u8(0);
        Self(bytes.freeze())
    }

    /// The items, one after the other, each with its NUL. Empty, or ends in NUL.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The items without their NUL, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0
            .split_inclusive(|byte| *byte == 0)
            .map(|item| item.strip_suffix(&[0]).unwrap_or(item))
    }

    /// Whether the list has no items.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryFrom<Bytes> for NulList {
    type Error = Unended;

    fn try_from(bytes: Bytes) -> Result<Self, Unended> {
        match bytes.last() {
            None | Some(0) => Ok(Self(bytes)),
            Some(_) => Err(Unended),
        }
    }
}

impl From<NulList> for Bytes {
    fn from(list: NulList) -> Self {
        list.0
    }
}
