use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

fn id(number: u8) -> NodeId {
    NodeId([number; 16])
}

fn member(number: u8, name: &str) -> Member {
    let address = format!("10.0.0.{number}:4433");
    Member { node: id(number), name: name.parse().unwrap(), address, labels: Vec::new() }
}

fn labels(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// Node 1 `a` holds the CA; 2 `n10` and 3 `n9` joined.
fn cluster() -> Membership {
    let mut membership = Membership::alone(member(1, "a")).unwrap();
    membership.admit(member(2, "n10")).unwrap();
    membership.admit(member(3, "n9")).unwrap();
    membership
}

/// The same, as node 3 has it.
fn copy() -> Membership {
    Membership::restore(id(3), cluster().roster().clone()).unwrap()
}

fn names(membership: &Membership) -> Vec<&str> {
    membership.members().iter().map(|member| member.name.as_str()).collect()
}

#[test]
fn a_home_begins_as_a_cluster_of_one_that_holds_its_ca() {
    let membership = Membership::alone(member(1, "a")).unwrap();
    assert!(membership.is_alone() && membership.is_authority());
    assert_eq!(membership.roster().version, 1);
}

#[test]
fn each_admission_raises_the_version_and_says_who_joined() {
    let mut membership = Membership::alone(member(1, "a")).unwrap();
    let changes = membership.admit(member(2, "b")).unwrap();
    assert_eq!(changes, Changes { joined: vec![id(2)], ..Changes::default() });
    assert_eq!(membership.roster().version, 2);
    assert!(!membership.is_alone());
}

#[test]
fn members_are_in_natural_order_and_found_by_name_and_identity() {
    let membership = cluster();
    assert_eq!(names(&membership), ["a", "n9", "n10"]);
    for known in membership.members() {
        assert_eq!(membership.by_id(known.node), Some(known));
        assert_eq!(membership.by_name(&known.name), Some(known));
    }
    assert_eq!(membership.by_name(&"n1".parse().unwrap()), None);
    assert_eq!(membership.by_id(id(9)), None);
}

#[test]
fn a_name_that_is_taken_is_refused_and_the_same_node_may_come_back() {
    let mut membership = cluster();
    let before = membership.roster().clone();
    let taken = membership.admit(member(4, "n9")).unwrap_err();
    assert_eq!(taken.to_remote().code, ErrorCode::NameTaken);
    assert_eq!(membership.admit(member(3, "n9")), Ok(Changes::default()));
    assert_eq!(membership.roster(), &before);
    let changes = membership.admit(member(3, "n11")).unwrap();
    assert_eq!(changes, Changes { changed: vec![id(3)], ..Changes::default() });
    assert_eq!(names(&membership), ["a", "n10", "n11"]);
}

#[test]
fn only_the_authority_changes_the_roster_and_never_loses_itself() {
    let name = "n10".parse().unwrap();
    assert_eq!(copy().admit(member(4, "x")), Err(ChangeRefused::NotAuthority));
    assert_eq!(copy().remove(&name), Err(ChangeRefused::NotAuthority));
    let mut membership = cluster();
    assert_eq!(membership.remove(&"a".parse().unwrap()), Err(ChangeRefused::IsAuthority));
    let changes = membership.remove(&name).unwrap();
    assert_eq!(changes, Changes { left: vec![id(2)], ..Changes::default() });
    let unknown = membership.remove(&name).unwrap_err();
    assert_eq!(unknown.to_remote().code, ErrorCode::UnknownNode);
}

#[test]
fn labels_are_set_and_taken_away_one_by_one() {
    let mut membership = cluster();
    let name = "n9".parse().unwrap();
    membership.set_labels(&name, &labels(&[("rack", "r1"), ("gpu", "h100")])).unwrap();
    membership.set_labels(&name, &labels(&[("rack", "r2"), ("gpu", ""), ("none", "")])).unwrap();
    let member = membership.by_name(&name).unwrap();
    assert_eq!(member.labels, labels(&[("rack", "r2")]));
}

#[test]
fn a_member_says_where_it_is_now() {
    let mut membership = cluster();
    let version = membership.roster().version;
    let update = |address: &str| MemberUpdate {
        address: address.to_owned(),
        labels: labels(&[("b", "1"), ("a", "2"), ("b", "3")]),
        roster_version: version,
    };
    let changes = membership.on_update(id(2), update("[::1]:99")).unwrap();
    assert_eq!(changes, Changes { changed: vec![id(2)], ..Changes::default() });
    let known = membership.by_id(id(2)).unwrap();
    assert_eq!(known.address, "[::1]:99");
    assert_eq!(known.labels, labels(&[("a", "2"), ("b", "3")]));
    assert_eq!(membership.roster().version, version + 1);
    assert_eq!(membership.on_update(id(2), update("[::1]:99")), Ok(Changes::default()));
    assert_eq!(membership.roster().version, version + 1);
    assert!(membership.on_update(id(9), update("h:1")).is_err());
}

#[test]
fn an_address_or_a_label_that_cannot_be_used_is_refused() {
    let mut membership = cluster();
    for address in ["", "host", ":1", "host:", "host:0", "host:65536", "host:+1", "::1:1", "a b:1"]
    {
        let odd = Member { address: address.to_owned(), ..member(4, "x") };
        let bad = BadMember::Address(address.to_owned());
        assert_eq!(membership.admit(odd), Err(ChangeRefused::BadMember(bad)), "{address}");
    }
    for pair in [("", "v"), ("a b", "v"), ("é", "v"), ("k", "a,b"), ("k", "a&b"), ("k", "\u{1b}")]
    {
        let odd = Member { labels: labels(&[pair]), ..member(4, "x") };
        assert!(matches!(membership.admit(odd), Err(ChangeRefused::BadMember(_))), "{pair:?}");
    }
    let many = (0..=limits::LABELS_PER_NODE).map(|key| (key.to_string(), "v".to_owned()));
    let odd = Member { labels: many.collect(), ..member(4, "x") };
    assert_eq!(membership.admit(odd), Err(ChangeRefused::BadMember(BadMember::Labels)));
}

#[test]
fn a_newer_roster_from_the_authority_replaces_the_old_one() {
    let (mut here, mut there) = (copy(), cluster());
    there.admit(member(4, "x")).unwrap();
    there.remove(&"n10".parse().unwrap()).unwrap();
    let received = here.on_roster(id(1), there.roster().clone()).unwrap();
    let changes = Changes { joined: vec![id(4)], left: vec![id(2)], changed: Vec::new() };
    assert_eq!(received, Received::Replaced(changes));
    assert_eq!(here.roster(), there.roster());
    assert_eq!(here.on_roster(id(1), there.roster().clone()), Ok(Received::Known));
    assert_eq!(here.on_roster(id(1), cluster().roster().clone()), Ok(Received::Known));
    assert_eq!(here.roster(), there.roster());
}

#[test]
fn a_roster_from_anyone_else_is_refused() {
    let mut here = copy();
    let newer = Roster { version: 99, ..here.roster().clone() };
    assert_eq!(here.on_roster(id(2), newer.clone()), Err(RosterRefused::NotFromAuthority));
    let usurper = Roster { authority: id(2), ..newer };
    for sender in [1, 2] {
        let refused = here.on_roster(id(sender), usurper.clone());
        assert_eq!(refused, Err(RosterRefused::NotFromAuthority));
    }
    assert_eq!(here.roster(), cluster().roster());
}

#[test]
fn a_roster_that_contradicts_itself_is_refused() {
    let mut here = copy();
    let before = here.roster().clone();
    let with = |members: Vec<Member>| Roster { version: 99, authority: id(1), members };
    for members in [
        vec![],
        vec![member(2, "b")],
        vec![member(1, "a"), member(2, "a")],
        vec![member(1, "a"), member(1, "b")],
    ] {
        let refused = here.on_roster(id(1), with(members));
        assert_eq!(refused, Err(RosterRefused::Contradiction));
    }
    let odd = Member { address: "nowhere".to_owned(), ..member(2, "b") };
    let refused = here.on_roster(id(1), with(vec![member(1, "a"), odd]));
    assert!(matches!(refused, Err(RosterRefused::BadMember(_))));
    assert_eq!(here.roster(), &before);
}

#[test]
fn a_node_that_was_removed_learns_it_from_the_roster() {
    let (mut here, mut there) = (copy(), cluster());
    there.remove(&"n9".parse().unwrap()).unwrap();
    let received = here.on_roster(id(1), there.roster().clone()).unwrap();
    let changes = Changes { left: vec![id(3)], ..Changes::default() };
    assert_eq!(received, Received::Removed(changes));
}

#[test]
fn expressions_are_evaluated_over_members_labels_and_groups() {
    let mut membership = cluster();
    membership.set_labels(&"n9".parse().unwrap(), &labels(&[("rack", "r1")])).unwrap();
    let groups = BTreeMap::from([("all-n".to_owned(), vec!["n*".to_owned()])]);
    let cluster = Cluster { membership: &membership, groups: &groups };
    let expr: sortie_model::nodeset::NodeExpr = "rack=r1,@all-n".parse().unwrap();
    let nodes = expr.evaluate(&cluster).unwrap();
    assert_eq!(nodes.iter().map(NodeName::as_str).collect::<Vec<_>>(), ["n9", "n10"]);
}

proptest! {
    /// Rosters arrive late, twice and out of order; whoever applies the rules ends with the newest.
    #[test]
    fn a_copy_ends_with_the_newest_roster_it_got(
        steps in prop::collection::vec((2..7_u8, 0..5_u8, any::<bool>()), 0..20),
        arrivals in prop::collection::vec(any::<prop::sample::Index>(), 0..30),
    ) {
        let mut there = cluster();
        let mut sent = vec![there.roster().clone()];
        for (node, name, joins) in steps {
            let name = format!("n{name}");
            let _ = if joins {
                there.admit(member(node, &name))
            } else {
                there.remove(&name.parse().unwrap())
            };
            let nodes: HashSet<_> = there.members().iter().map(|member| member.node).collect();
            prop_assert_eq!(nodes.len(), there.members().len());
            let names = names(&there);
            prop_assert!(names.is_sorted_by(|a, b| natural_cmp(a, b).is_lt()));
            sent.push(there.roster().clone());
        }
        let mut here = copy();
        let mut newest = here.roster().clone();
        for arrival in arrivals {
            let roster = &sent[arrival.index(sent.len())];
            here.on_roster(id(1), roster.clone()).unwrap();
            if roster.version > newest.version {
                newest = roster.clone();
            }
            prop_assert_eq!(here.roster(), &newest);
        }
    }
}
