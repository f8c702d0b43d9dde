//! Which messages a certificate's role may send, and where. The certificate decides, never the
//! hello: `user` certificates speak the session protocol, `node` certificates the host protocol and
//! the two requests of the session protocol that a running child has.
//!
//! The hello and its answers are not listed: they belong to the handshake and to no link that is
//! up.

use crate::frame::{Kind, Message};
use crate::host_proto::{
    Acknowledge, AnswerChild, Checkpoints, EndSession, ForgetJob, InputPiece, InputRead,
    InputStream, Report, ReportStream, Resume, Resumed, StartChildren, StopChildren,
    SuspendChildren,
};
use crate::link_proto::{Heartbeat, MemberUpdate, Roster};
use crate::message_proto::{FromChild, MessageStream, ToChild};
use crate::session_proto::{Acknowledged, Answer, Ask, Delivery, Happening, InputData, Request};

/// What a certificate makes of its holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// A member of the cluster.
    Node,
    /// A person or program that opens sessions.
    User,
}

/// Where on a link a frame travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// The control stream.
    Control,
    /// A unidirectional stream.
    Uni,
    /// A bidirectional stream other than the control stream.
    Bi,
}

/// Whether the holder of a `from` certificate may send that kind to the holder of a `to`
/// certificate on that lane. A kind that this version does not know is never allowed.
pub fn allowed(from: Role, to: Role, lane: Lane, kind: Kind) -> bool {
    kinds_of(from, to, lane).contains(&kind)
}

/// Whether a function may ask that of the session that its child belongs to. It comes from a node,
/// whose certificate opens no session: so nothing that starts, stops, reads or removes.
pub const fn child_may_ask(ask: &Ask) -> bool {
    matches!(ask, Ask::Send(_) | Ask::Monitor { .. })
}

fn kinds_of(from: Role, to: Role, lane: Lane) -> &'static [Kind] {
    match (from, to, lane) {
        (Role::Node, Role::Node, Lane::Control) => NODES_CONTROL,
        (Role::Node, Role::Node, Lane::Uni) => NODES_UNI,
        (Role::Node, Role::Node, Lane::Bi) => NODES_BI,
        (Role::User, Role::Node, Lane::Bi) => USER_BI,
        (Role::Node, Role::User, Lane::Bi) => SERVING_NODE_BI,
        (Role::User, Role::Node, Lane::Control) | (Role::Node, Role::User, Lane::Control) => {
            SESSION_CONTROL
        }
        (Role::Node, Role::User, Lane::Uni)
        | (Role::User, Role::Node, Lane::Uni)
        | (Role::User, Role::User, _) => &[],
    }
}

const NODES_CONTROL: &[Kind] = &[
    Heartbeat::KIND,
    Roster::KIND,
    MemberUpdate::KIND,
    StartChildren::KIND,
    StopChildren::KIND,
    ForgetJob::KIND,
    EndSession::KIND,
    Acknowledge::KIND,
    Resume::KIND,
    Resumed::KIND,
    InputRead::KIND,
    AnswerChild::KIND,
    SuspendChildren::KIND,
];
const NODES_UNI: &[Kind] = &[
    ReportStream::KIND,
    Report::KIND,
    Checkpoints::KIND,
    InputStream::KIND,
    InputPiece::KIND,
    MessageStream::KIND,
    ToChild::KIND,
    FromChild::KIND,
];
/// What [children may ask](child_may_ask), and the answers to that.
const NODES_BI: &[Kind] = &[Request::KIND, Answer::KIND, Happening::KIND];
const SESSION_CONTROL: &[Kind] = &[Heartbeat::KIND];
const USER_BI: &[Kind] = &[Request::KIND, Acknowledged::KIND, InputData::KIND];
const SERVING_NODE_BI: &[Kind] = &[Answer::KIND, Delivery::KIND, Happening::KIND];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link_proto::Hello;

    fn check(from: Role, to: Role, lane: Lane, kind: Kind, expected: bool) {
        assert_eq!(allowed(from, to, lane, kind), expected, "{from:?} to {to:?}, {lane:?} {kind}");
    }

    #[test]
    fn a_user_speaks_only_the_session_protocol() {
        check(Role::User, Role::Node, Lane::Bi, Request::KIND, true);
        check(Role::Node, Role::User, Lane::Bi, Answer::KIND, true);
        check(Role::User, Role::Node, Lane::Control, Heartbeat::KIND, true);
        check(Role::User, Role::Node, Lane::Control, StartChildren::KIND, false);
        check(Role::User, Role::Node, Lane::Control, Roster::KIND, false);
        check(Role::User, Role::Node, Lane::Uni, Report::KIND, false);
    }

    #[test]
    fn a_node_speaks_the_host_protocol_to_a_node_and_asks_for_its_children() {
        check(Role::Node, Role::Node, Lane::Control, StartChildren::KIND, true);
        check(Role::Node, Role::Node, Lane::Uni, Report::KIND, true);
        check(Role::Node, Role::Node, Lane::Bi, Delivery::KIND, false);
        check(Role::Node, Role::Node, Lane::Bi, InputData::KIND, false);
        check(Role::Node, Role::Node, Lane::Control, Request::KIND, false);
        check(Role::Node, Role::Node, Lane::Bi, Request::KIND, true);
        check(Role::Node, Role::Node, Lane::Uni, Heartbeat::KIND, false);
    }

    #[test]
    fn the_hello_and_unknown_kinds_are_allowed_nowhere() {
        for from in [Role::Node, Role::User] {
            for to in [Role::Node, Role::User] {
                for lane in [Lane::Control, Lane::Uni, Lane::Bi] {
                    check(from, to, lane, Hello::KIND, false);
                    check(from, to, lane, Kind::MAX, false);
                }
            }
        }
        assert!(!allowed(Role::User, Role::User, Lane::Control, Heartbeat::KIND));
    }
}
