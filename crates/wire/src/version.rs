//! Protocol versions. Version N talks to N-1; a hello names the range a program speaks.

use serde::{Deserialize, Serialize};

/// The ALPN name of the link protocol.
pub const ALPN_LINK: &[u8] = b"sortie/1";
/// The ALPN name of the join, spoken before a node has a certificate.
pub const ALPN_JOIN: &[u8] = b"sortie-join/1";
/// The versions that this program speaks.
pub const SPOKEN: VersionRange = VersionRange { min: 1, max: 2 };
/// From this version on nodes tell each other checkpoints of functions.
pub const CHECKPOINTS: u16 = 2;
/// From this version on a node knows standard inputs that are left open.
pub const OPEN_INPUT: u16 = 2;
/// From this version on a node detaches processes.
pub const DETACH: u16 = 2;

/// An inclusive range of protocol versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRange {
    /// The oldest.
    pub min: u16,
    /// The newest.
    pub max: u16,
}

impl VersionRange {
    /// The newest version that both speak.
    pub fn agree(self, other: Self) -> Option<u16> {
        let newest = self.max.min(other.max);
        (newest >= self.min.max(other.min)).then_some(newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_programs_agree_on_the_newest_common_version() {
        let range = |min, max| VersionRange { min, max };
        assert_eq!(range(1, 3).agree(range(2, 5)), Some(3));
        assert_eq!(range(2, 5).agree(range(1, 3)), Some(3));
        assert_eq!(range(1, 1).agree(range(2, 2)), None);
    }
}
