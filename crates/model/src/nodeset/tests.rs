use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// Members and groups as a test writes them: `name` or `name key=value …`.
#[derive(Default)]
struct Farm {
    members: Vec<(NodeName, Vec<(String, String)>)>,
    groups: BTreeMap<String, Vec<String>>,
}

impl Farm {
    fn of(members: &[&str]) -> Self {
        let member = |line: &&str| {
            let mut words = line.split(' ');
            let name = words.next().unwrap().parse().unwrap();
            let labels = words.map(|word| word.split_once('=').unwrap());
            (name, labels.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
        };
        Self { members: members.iter().map(member).collect(), groups: BTreeMap::new() }
    }

    fn group(mut self, name: &str, expressions: &[&str]) -> Self {
        let expressions = expressions.iter().map(|&text| text.to_owned()).collect();
        self.groups.insert(name.to_owned(), expressions);
        self
    }
}

impl Universe for Farm {
    fn members(&self) -> Vec<MemberRef<'_>> {
        self.members.iter().map(|(name, labels)| MemberRef { name, labels }).collect()
    }

    fn group(&self, name: &str) -> Option<&[String]> {
        self.groups.get(name).map(Vec::as_slice)
    }
}

fn farm() -> Farm {
    Farm::of(&[
        "b rack=r1",
        "a rack=r1 gpu=h100",
        "node10",
        "node01 os=linux",
        "node02 os=linux gpu=a100",
        "node2",
        "c.example",
    ])
    .group("racked", &["rack=*"])
    .group("mixed", &["node02", "@racked & !a"])
    .group("none", &[])
    .group("loop", &["a", "@pool"])
    .group("pool", &["@loop"])
    .group("gone", &["a,zz"])
    .group("broken", &["a,,b"])
}

#[track_caller]
fn check(text: &str, expected: &str) {
    let expr: NodeExpr = text.parse().unwrap();
    let nodes = expr.evaluate(&farm()).unwrap();
    let nodes: Vec<_> = nodes.iter().map(NodeName::as_str).collect();
    assert_eq!(nodes.join(" "), expected, "{text}");
}

#[track_caller]
fn check_bad(text: &str, expected: &str) {
    let error = text.parse::<NodeExpr>().unwrap_err();
    assert_eq!(error.to_string(), expected, "{text}");
}

#[track_caller]
fn check_unresolved(text: &str, expected: &EvaluateError) {
    let error = text.parse::<NodeExpr>().unwrap().evaluate(&farm()).unwrap_err();
    assert_eq!(&error, expected, "{text}");
}

#[test]
fn names_come_once_in_order_of_first_mention() {
    check("b,a", "b a");
    check("a,b,a", "a b");
    check(" a , b ", "a b");
    check("node02,*", "node02 a b c.example node01 node2 node10");
}

#[test]
fn globs_and_all_come_in_natural_order() {
    check("*", "a b c.example node01 node2 node02 node10");
    check("node*", "node01 node2 node02 node10");
    check("node?", "node2");
    check("[a-b]", "a b");
    check("[!a-b]*", "c.example node01 node2 node02 node10");
    check("zz*", "");
}

#[test]
fn ranges_write_names_out_and_keep_their_zeros() {
    check("node[01-02]", "node01 node02");
    check("node[02,01]", "node01 node02");
    check("node[2,10]", "node2 node10");
    check("node[02-10/8]", "node02 node10");
    check("node[0-0][1,2]", "node01 node02");
    check("node[0-1]*", "node01 node02 node10");
}

#[test]
fn not_binds_before_and_before_or() {
    check("!a", "b c.example node01 node2 node02 node10");
    check("!!a", "a");
    check("node* & !node0*", "node2 node10");
    check("!node*&!a", "b c.example");
    check("b,node*&node?", "b node2");
    check("a&b", "");
    check("a,!a&b", "a b");
    check("node10,node2 & node*", "node10 node2");
    check("node[2,10]&*", "node2 node10");
}

#[test]
fn labels_and_groups_name_what_carries_them() {
    check("rack=r1", "a b");
    check("gpu=?100", "a node02");
    check("gpu=*", "a node02");
    check("gpu=[!h]*", "node02");
    check("rack=r[1-3]", "a b");
    check("rack=none", "");
    check("tier=1", "");
    check("@racked", "a b");
    check("@mixed", "node02 b");
    check("@none", "");
    check("!@racked & os=linux", "node01 node02");
}

#[test]
fn a_name_written_out_that_is_no_member_is_an_error() {
    let unknown = |name: &str| EvaluateError::UnknownNode { name: name.to_owned() };
    check_unresolved("a,zz", &unknown("zz"));
    check_unresolved("*&!zz", &unknown("zz"));
    check_unresolved("node[01-04]", &unknown("node03"));
    check_unresolved("A", &unknown("A"));
}

#[test]
fn a_group_that_cannot_be_resolved_is_an_error() {
    let (name, group) = ("zz".to_owned(), "gone".to_owned());
    check_unresolved("@gone", &EvaluateError::UnknownNodeInGroup { name, group });
    check_unresolved("*&!@typo", &EvaluateError::UnknownGroup { name: "typo".to_owned() });
    check_unresolved("@loop", &EvaluateError::GroupCycle { group: "loop".to_owned() });
    let error = BadNodeExpr::Missing { at: 2 };
    check_unresolved("@broken", &EvaluateError::BadGroup { group: "broken".to_owned(), error });
}

#[test]
fn groups_nest_only_so_deep_and_are_evaluated_once() {
    let mut farm = Farm::of(&["a"]).group("g0", &["a"]);
    for level in 1..=limits::EXPRESSION_DEPTH {
        let below = format!("@g{}", level - 1);
        // Without memory of what is done this doubles at every level.
        farm = farm.group(&format!("g{level}"), &[&below, &below]);
    }
    let top = |level: usize| format!("@g{level}").parse::<NodeExpr>().unwrap().evaluate(&farm);
    assert_eq!(top(limits::EXPRESSION_DEPTH - 1).unwrap().len(), 1);
    let group = "g0".to_owned();
    assert_eq!(top(limits::EXPRESSION_DEPTH), Err(EvaluateError::GroupDepth { group }));
}

#[test]
fn exclusion_keeps_the_order() {
    let expr: NodeExpr = "node*,a,b".parse().unwrap();
    let exclude: NodeExpr = "node?,a".parse().unwrap();
    let nodes = expr.evaluate_without(Some(&exclude), &farm()).unwrap();
    let nodes: Vec<_> = nodes.iter().map(NodeName::as_str).collect();
    assert_eq!(nodes, ["node01", "node02", "node10", "b"]);
}

#[test]
fn an_error_says_where_and_what_to_do() {
    let missing = |at: usize| {
        format!(
            "a node name is missing at byte {at}; write a name, a glob, `@group` or `label=value`"
        )
    };
    check_bad("", &missing(0));
    check_bad("a,,b", &missing(2));
    check_bad("a,", &missing(2));
    check_bad("a&", &missing(2));
    check_bad("!", &missing(1));
    check_bad("@", &missing(1));
    check_bad("=r1", &missing(0));
    check_bad("rack=", &missing(5));
    check_bad("a b", "' ' at byte 1 is not part of a node name; separate names by `,`");
    check_bad("a,\u{1b}", "'\\u{1b}' at byte 2 is not part of a node name; separate names by `,`");
    check_bad("(a)", "'(' at byte 0 is not part of a node name; separate names by `,`");
    check_bad("a,n[1-2", "the `[` at byte 3 is not closed; write `]` behind the range");
    check_bad("n[9-1]", "the range at byte 1 runs backwards; write the smaller number first");
    let range = |at: usize| {
        format!(
            "the range at byte {at} cannot be read; write it as `[1-9]`, `[01-20/2]` or `[1,4-6]`"
        )
    };
    for bad in ["n[]", "n[1-]", "n[-1]", "n[1-9/0]", "n[1-010]", "n[1,]", "n[1 2]"] {
        check_bad(bad, &range(1));
    }
    check_bad(&format!("n[{}]", "9".repeat(30)), &range(1));
    check_bad(
        "rack=r[10-12]",
        "the brackets at byte 6 are not a class of characters; name the values with `,`",
    );
}

#[test]
fn every_bound_is_an_error_of_its_own() {
    let parse = |text: &str| text.parse::<NodeExpr>().unwrap_err();
    assert_eq!(parse(&"a".repeat(limits::EXPRESSION_BYTES + 1)), BadNodeExpr::TooLong);
    assert_eq!(parse("n[1-65537]"), BadNodeExpr::TooMany { at: 0 });
    assert_eq!(parse("n[1-999][1-999]"), BadNodeExpr::TooMany { at: 0 });
    assert_eq!(parse("n[0-999999999999999999]"), BadNodeExpr::TooMany { at: 0 });
    assert_eq!(parse("n[1-2000]*"), BadNodeExpr::TooManyPatterns { at: 0 });
    assert_eq!(parse(&"!".repeat(limits::EXPRESSION_DEPTH + 2)), BadNodeExpr::TooDeep { at: 0 });
    assert_eq!(
        parse(&"[1]".repeat(5_000)),
        BadNodeExpr::TooManyRanges { at: 3 * limits::EXPRESSION_DEPTH }
    );
    assert!("n[1-65536]".parse::<NodeExpr>().is_ok());
}

#[test]
fn the_text_is_what_travels() {
    let expr: NodeExpr = "a,b".parse().unwrap();
    let json = serde_json::to_string(&expr).unwrap();
    assert_eq!(json, "\"a,b\"");
    assert_eq!(serde_json::from_str::<NodeExpr>(&json).unwrap(), expr);
    assert!(serde_json::from_str::<NodeExpr>("\"a,\"").is_err());
    assert_eq!(NodeExpr::all().as_str().parse(), Ok(NodeExpr::all()));
}

#[test]
fn a_node_alone_is_that_node() {
    let expr = NodeExpr::node(&"b".parse().unwrap());
    assert_eq!(expr.evaluate(&farm()).unwrap(), ["b".parse().unwrap()]);
}

/// The obvious model over a universe of ten digits: an operand is a predicate and an order.
fn slow(text: &str) -> Vec<usize> {
    let holds = |operand: &str, node: usize| {
        let name = operand.trim_start_matches('!');
        let negated = (operand.len() - name.len()) % 2 == 1;
        (name == "*" || name == node.to_string()) != negated
    };
    let mut order = Vec::new();
    for intersection in text.split(',') {
        let operands: Vec<_> = intersection.split('&').collect();
        let matching = (0..10).filter(|&node| operands.iter().all(|text| holds(text, node)));
        order.extend(matching);
    }
    let mut seen = BTreeSet::new();
    order.retain(|node| seen.insert(*node));
    order
}

fn operand() -> impl Strategy<Value = String> {
    (0..3_usize, prop_oneof![Just("*".to_owned()), (0..10_u8).prop_map(|it| it.to_string())])
        .prop_map(|(negations, name)| "!".repeat(negations) + &name)
}

proptest! {
    #[test]
    fn evaluation_agrees_with_the_obvious_model(
        terms in prop::collection::vec(prop::collection::vec(operand(), 1..4), 1..5)
    ) {
        let text = terms.iter().map(|term| term.join("&")).collect::<Vec<_>>().join(",");
        let digits: Vec<_> = (0..10).map(|digit: u8| digit.to_string()).collect();
        let farm = Farm::of(&digits.iter().map(String::as_str).collect::<Vec<_>>());
        let nodes = text.parse::<NodeExpr>().unwrap().evaluate(&farm).unwrap();
        let nodes: Vec<usize> = nodes.iter().map(|name| name.as_str().parse().unwrap()).collect();
        prop_assert_eq!(nodes, slow(&text));
    }

    #[test]
    fn no_text_panics(text in "[a-c0-9\\[\\]*?!&,@=/ .-]{0,24}") {
        if let Ok(expr) = text.parse::<NodeExpr>() {
            let _ = expr.evaluate(&farm());
        }
    }

    #[test]
    fn no_foreign_text_panics(text in ".{0,40}") {
        let _ = text.parse::<NodeExpr>();
    }
}
