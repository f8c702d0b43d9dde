use bytes::Bytes;
use sortie_wire::ErrorCode;
use sortie_wire::join_proto::{JoinAnswer, JoinGrant, JoinRequest, JoinSecret};
use sortie_wire::version::VersionRange;

use super::words::{error, node_id, node_name, pairs, text};
use super::{Sample, plain};

pub(super) fn samples() -> Vec<Sample> {
    let request = JoinRequest {
        versions: VersionRange { min: 1, max: 1 },
        secret: JoinSecret([0xa5; JoinSecret::BYTES]),
        name: node_name("b"),
        address: text("10.0.0.2:4433"),
        labels: pairs(&[("rack", "r1")]),
        user: text("ada"),
        node_request: Bytes::from_static(b"\x30\x01"),
        user_request: Bytes::from_static(b"\x30\x02"),
    };
    let grant = JoinGrant {
        authority: Bytes::from_static(b"\x30\x03"),
        node: Bytes::from_static(b"\x30\x04"),
        user: Bytes::from_static(b"\x30\x05"),
        authority_node: node_id(1),
    };
    vec![
        plain("whole", request),
        plain("granted", JoinAnswer::Granted(Box::new(grant))),
        plain("refused", JoinAnswer::Refused(error(ErrorCode::TokenUsed))),
    ]
}
