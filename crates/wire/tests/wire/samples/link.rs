use sortie_model::Incarnation;
use sortie_wire::ErrorCode;
use sortie_wire::link_proto::{
    Heartbeat, Hello, HelloAck, HelloRefused, Member, MemberUpdate, Roster,
};
use sortie_wire::version::VersionRange;

use super::words::{error, node_id, node_name, pairs, text};
use super::{Sample, plain};

fn member(first: u8, name: &str) -> Member {
    Member {
        node: node_id(first),
        name: node_name(name),
        address: text("10.0.0.1:4433"),
        labels: pairs(&[("gpu", "h100"), ("rack", "r1")]),
    }
}

pub(super) fn samples() -> Vec<Sample> {
    let hello = Hello {
        versions: VersionRange { min: 1, max: 3 },
        incarnation: Incarnation(1_700_000_000_000_001),
        program: text("0.1.0"),
        clock: 1_700_000_000_000_002,
        address: Some(text("10.0.0.2:4433")),
    };
    let ack = HelloAck {
        version: 1,
        node: node_id(1),
        name: node_name("a"),
        incarnation: Incarnation(1_700_000_000_000_003),
        program: text("0.1.1"),
        clock: -1,
    };
    let roster = Roster {
        version: 300,
        authority: node_id(1),
        members: vec![member(1, "a"), member(2, "b")],
    };
    let update = MemberUpdate {
        address: text("[::1]:4433"),
        labels: pairs(&[("rack", "r2")]),
        roster_version: 299,
    };
    vec![
        plain("of a user", Hello { address: None, ..hello.clone() }),
        plain("of a node", hello),
        plain("accepted", ack),
        plain("refused", HelloRefused { error: error(ErrorCode::Version) }),
        plain("small", Heartbeat { number: 7, heard: 0 }),
        plain("large", Heartbeat { number: u64::MAX, heard: 1 << 40 }),
        plain("two members", roster),
        plain("a new address", update),
    ]
}
