//! Keys that follow from a seed, for simulations only.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sortie_link::{BadPem, NodeKey};

use crate::chance::Chance;

/// What stands before the 32 secret bytes of an Ed25519 key in PKCS #8 (RFC 8410, section 7).
const BEFORE_SECRET: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// The next key of that chance. It is as secret as the seed: not at all.
pub(crate) fn key(chance: &mut Chance) -> Result<NodeKey, BadPem> {
    let mut der = BEFORE_SECRET.to_vec();
    for _ in 0..4 {
        der.extend(chance.next().to_le_bytes());
    }
    let body = STANDARD.encode(der);
    NodeKey::from_pem(&format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_keys() {
        let ids = |seed| {
            let mut chance = Chance::new(seed);
            [(); 2].map(|()| key(&mut chance).expect("a key").node_id())
        };
        assert_eq!(ids(1), ids(1));
        assert_ne!(ids(1), ids(2));
        assert_ne!(ids(1)[0], ids(1)[1]);
    }
}
