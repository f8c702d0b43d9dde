//! How an entry lies in a table: a version, a checksum over key and entry, the entry.

use serde::Serialize;
use serde::de::DeserializeOwned;
use sortie_wire::{TooLarge, codec};

/// The version of every entry that this program writes. A later one reads this one.
const VERSION: u8 = 1;
const HEAD: usize = 5;

/// The bytes of an entry.
pub(crate) fn seal<T: Serialize>(key: &[u8], entry: &T) -> Result<Vec<u8>, TooLarge> {
    let mut bytes = vec![VERSION; HEAD];
    codec::encode_into(entry, &mut bytes)?;
    let sum = checksum(key, bytes.get(HEAD..).unwrap_or_default());
    bytes.iter_mut().skip(1).zip(sum.to_le_bytes()).for_each(|(to, from)| *to = from);
    Ok(bytes)
}

/// The entry, if these are the bytes of one under that key.
pub(crate) fn unseal<T: DeserializeOwned>(key: &[u8], bytes: &[u8]) -> Option<T> {
    let (head, entry) = bytes.split_first_chunk::<HEAD>()?;
    let [VERSION, sum @ ..] = *head else { return None };
    if u32::from_le_bytes(sum) != checksum(key, entry) {
        return None;
    }
    codec::decode(0, entry).ok()
}

fn checksum(key: &[u8], entry: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(&[VERSION]), key), entry)
}
