//! What a node that wants to join and the node that holds the CA say to each other (kinds 300 to
//! 399), and the token that lets them.
//!
//! The join has an ALPN name of its own. The joining node has no certificate yet: it accepts the
//! server only when the CA in its chain has the hash that the token names, and only then sends the
//! token's secret. One bidirectional stream carries one [`JoinRequest`] and one [`JoinAnswer`].

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sortie_model::{NodeId, NodeName};

use crate::frame::{Kind, Message};
use crate::link_proto::kinds;
use crate::remote_error::RemoteError;
use crate::version::VersionRange;

/// The secret of a join token. Its debug form hides it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct JoinSecret(pub [u8; Self::BYTES]);

impl JoinSecret {
    /// Its size in bytes.
    pub const BYTES: usize = 16;
}

impl fmt::Debug for JoinSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinSecret(..)")
    }
}

/// What `cluster token` prints: a secret that works once, and whom to show it to.
///
/// As text it is one word of 80 letters and digits: secret, hash and a check sum in base 32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JoinToken {
    /// Proves to the CA's node that the join was invited.
    pub secret: JoinSecret,
    /// SHA-256 of the CA's certificate: proves to the joining node whom it talks to.
    pub authority: [u8; 32],
}

/// A text that is no join token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// Not as long as a token.
    #[error("a join token has {} letters and digits, this text has {found}", JoinToken::TEXT_BYTES)]
    Length {
        /// How many bytes it has.
        found: usize,
    },
    /// Not a token's letters, or not in a token's order.
    #[error("this join token was cut or mistyped: paste it as it was printed")]
    Mistyped,
}

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

impl JoinToken {
    const RAW_BYTES: usize = JoinSecret::BYTES + 32 + 2;
    const TEXT_BYTES: usize = Self::RAW_BYTES / 5 * 8;

    fn raw(&self) -> [u8; Self::RAW_BYTES] {
        let mut raw = [0; Self::RAW_BYTES];
        let body = self.secret.0.iter().chain(&self.authority).copied();
        raw.iter_mut().zip(body).for_each(|(to, byte)| *to = byte);
        let sum = check_sum(self.secret.0.iter().chain(&self.authority).copied());
        raw.iter_mut().rev().zip(sum.to_le_bytes()).for_each(|(to, byte)| *to = byte);
        raw
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for group in self.raw().chunks(5) {
            let bits = group.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
            for place in (0..8).rev() {
                let letter = ALPHABET.get((bits >> (5 * place)) as usize & 31);
                write!(f, "{}", char::from(letter.copied().unwrap_or(b'a')))?;
            }
        }
        Ok(())
    }
}

impl FromStr for JoinToken {
    type Err = BadToken;

    fn from_str(text: &str) -> Result<Self, BadToken> {
        let text = text.trim().as_bytes();
        if text.len() != Self::TEXT_BYTES {
            return Err(BadToken::Length { found: text.len() });
        }
        let mut raw = [0; Self::RAW_BYTES];
        for (slots, letters) in raw.chunks_mut(5).zip(text.chunks(8)) {
            let mut bits = 0_u64;
            for letter in letters {
                let letter = letter.to_ascii_lowercase();
                let value = ALPHABET.iter().position(|known| *known == letter);
                bits = bits << 5 | value.ok_or(BadToken::Mistyped)? as u64;
            }
            let bytes = bits.to_be_bytes();
            slots.iter_mut().zip(bytes.iter().skip(3)).for_each(|(to, byte)| *to = *byte);
        }
        let mut token = Self { secret: JoinSecret([0; 16]), authority: [0; 32] };
        let slots = token.secret.0.iter_mut().chain(&mut token.authority);
        slots.zip(raw).for_each(|(to, byte)| *to = byte);
        if token.raw() == raw { Ok(token) } else { Err(BadToken::Mistyped) }
    }
}

/// CRC-16/CCITT: finds a mistyped letter; it keeps no secret.
fn check_sum(bytes: impl Iterator<Item = u8>) -> u16 {
    bytes.fold(0xffff, |mut sum, byte| {
        sum ^= u16::from(byte) << 8;
        for _ in 0..8 {
            sum = if sum & 0x8000 == 0 { sum << 1 } else { sum << 1 ^ 0x1021 };
        }
        sum
    })
}

/// Joining node to the CA's node: the only message it sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// The versions it speaks.
    pub versions: VersionRange,
    /// The token's secret.
    pub secret: JoinSecret,
    /// The name it wants.
    pub name: NodeName,
    /// Where the others reach it, `host:port`.
    pub address: String,
    /// Its labels, sorted by key.
    pub labels: Vec<(String, String)>,
    /// The name of the user that owns it, for people.
    pub user: String,
    /// Signing request of the node's key, DER. Only its public key is believed.
    pub node_request: Bytes,
    /// Signing request of the user's key, DER. Only its public key is believed.
    pub user_request: Bytes,
}

/// What a node gets when it may join. Certificates are DER.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinGrant {
    /// The CA's certificate.
    pub authority: Bytes,
    /// The node's certificate.
    pub node: Bytes,
    /// The user's certificate.
    pub user: Bytes,
    /// The node that holds the CA: it sends the roster once it is linked.
    pub authority_node: NodeId,
}

/// The answer, after which the connection closes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinAnswer {
    /// It is a member.
    Granted(Box<JoinGrant>),
    /// It is not; nothing changed.
    Refused(RemoteError),
}

kinds! { JoinRequest = 300, JoinAnswer = 301 }

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        let mut secret = [0; 16];
        secret.iter_mut().zip(1..).for_each(|(slot, byte)| *slot = byte);
        JoinToken { secret: JoinSecret(secret), authority: [0xa5; 32] }
    }

    #[test]
    fn a_token_reads_back_what_it_prints() {
        let text = token().to_string();
        assert_eq!(text.len(), 80);
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_eq!(text.parse(), Ok(token()));
        assert_eq!(format!(" {}\n", text.to_uppercase()).parse(), Ok(token()));
    }

    #[test]
    fn a_token_that_was_cut_or_mistyped_says_so() {
        let text = token().to_string();
        assert_eq!(text[1..].parse::<JoinToken>(), Err(BadToken::Length { found: 79 }));
        for at in 0..text.len() {
            let mut wrong = text.clone().into_bytes();
            wrong[at] = if wrong[at] == b'a' { b'b' } else { b'a' };
            let wrong = String::from_utf8(wrong).unwrap();
            assert_eq!(wrong.parse::<JoinToken>(), Err(BadToken::Mistyped), "letter {at}");
        }
        assert_eq!("0".repeat(80).parse::<JoinToken>(), Err(BadToken::Mistyped));
    }

    #[test]
    fn a_secret_is_not_in_debug_output() {
        assert!(!format!("{:?}", token()).contains("1, 2, 3"));
    }
}
