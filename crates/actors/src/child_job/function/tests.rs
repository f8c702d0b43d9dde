use std::time::Duration;

use sortie_model::spec::{EnvironmentSpec, Hosting, InputSpec, RunIn};
use sortie_model::{ChildIncarnation, Ordinal, Seq};

use super::*;

fn spec(template: bool) -> HostSpec {
    HostSpec {
        body: BodySpec::Task {
            name: "double".to_owned(),
            input: Bytes::from_static(b"submitted"),
            types: None,
            run_in: RunIn::default(),
        },
        template,
        input: InputSpec::None,
        timeout: None,
        grace: Duration::ZERO,
        drain: Duration::ZERO,
        output_limit: None,
        init: None,
        directory: None,
        environment: EnvironmentSpec::default(),
        hosting: Hosting::Persistent,
        session: 1,
        job: 1,
        owner_node: "owner".parse().expect("a good name"),
        level: 0,
    }
}

#[test]
fn a_child_of_a_map_whose_item_is_lost_is_given_nothing_else() {
    let without = Start {
        ordinal: Ordinal(0),
        id: 2,
        incarnation: ChildIncarnation(0),
        next: Seq(0),
        item: None,
    };
    let with = Start { item: Some((1, Bytes::from_static(b"item"))), ..without.clone() };
    let (one, map) = (spec(false), spec(true));
    assert_eq!(input_of(&one, &without), Ok(&Bytes::from_static(b"submitted")));
    assert_eq!(input_of(&map, &with), Ok(&Bytes::from_static(b"item")));
    assert_eq!(input_of(&map, &without), Err(Reason::InputLost));
}
