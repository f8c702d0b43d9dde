//! What a member may look like, whoever says so.

use std::collections::HashSet;

use sortie_model::limits;
use sortie_model::nodeset::natural_cmp;
use sortie_wire::link_proto::{Member, Roster};

use super::RosterRefused;

/// Why a node cannot be a member as it describes itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadMember {
    /// The address is not `host:port`.
    #[error("`{0}` is no address; write it as `host:port` or `[::1]:port`")]
    Address(String),
    /// Too many labels.
    #[error("a node has at most {} labels", limits::LABELS_PER_NODE)]
    Labels,
    /// A label's key that no node expression could name.
    #[error("`{0}` is no label key: it has 1 to 255 letters, digits, `-`, `_`, `.`, `/`")]
    LabelKey(String),
    /// A label's value that no node expression could name.
    #[error(
        "the value of the label `{0}` has 1 to 255 bytes, without control characters, `,` or `&`"
    )]
    LabelValue(String),
}

/// The member with its labels sorted, the last of equal keys kept.
pub(super) fn checked(mut member: Member) -> Result<Member, BadMember> {
    if !is_address(&member.address) {
        let shown = member.address.chars().filter(|shown| !shown.is_control()).take(255).collect();
        return Err(BadMember::Address(shown));
    }
    if member.labels.len() > limits::LABELS_PER_NODE {
        return Err(BadMember::Labels);
    }
    let short = |text: &str| (1..=limits::ENTRY_NAME_BYTES).contains(&text.len());
    for (key, value) in &member.labels {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
        if !short(key) || !key.bytes().all(plain) {
            let shown = key.chars().filter(|shown| !shown.is_control()).take(255).collect();
            return Err(BadMember::LabelKey(shown));
        }
        let odd = |found: char| found.is_control() || matches!(found, ',' | '&');
        if !short(value) || value.contains(odd) {
            return Err(BadMember::LabelValue(key.clone()));
        }
    }
    member.labels.reverse();
    member.labels.sort_by(|a, b| a.0.cmp(&b.0));
    member.labels.dedup_by(|later, kept| later.0 == kept.0);
    Ok(member)
}

fn is_address(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else { return false };
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let host_is_good = match bracketed {
        Some(host) => {
            let plain = |byte: u8| byte.is_ascii_hexdigit() || b":.".contains(&byte);
            (2..=45).contains(&host.len()) && host.bytes().all(plain)
        }
        None => (1..=253).contains(&host.len()) && host.bytes().all(plain),
    };
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    host_is_good && digits && port.parse::<u16>().is_ok_and(|port| port > 0)
}

pub(super) fn checked_roster(mut roster: Roster) -> Result<Roster, RosterRefused> {
    if roster.members.len() > limits::MEMBERS {
        return Err(RosterRefused::TooMany);
    }
    let members = roster.members.into_iter().map(checked);
    roster.members = members.collect::<Result<_, _>>()?;
    let names: HashSet<_> = roster.members.iter().map(|member| &member.name).collect();
    let nodes: HashSet<_> = roster.members.iter().map(|member| member.node).collect();
    let count = roster.members.len();
    if names.len() != count || nodes.len() != count || !nodes.contains(&roster.authority) {
        return Err(RosterRefused::Contradiction);
    }
    sort(&mut roster.members);
    Ok(roster)
}

pub(super) fn sort(members: &mut [Member]) {
    members.sort_by(|a, b| natural_cmp(a.name.as_str(), b.name.as_str()));
}
