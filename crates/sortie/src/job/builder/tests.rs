use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use sortie_model::limits;
use sortie_model::spec::OsBytes;
use sortie_wire::ErrorCode;
use sortie_wire::session_proto::SessionRef;

use super::*;
use crate::Command;
use crate::receiver::tests::soon;
use crate::route::Route;

fn session() -> Session {
    Session::new(Route::Nowhere, SessionRef::Default)
}

fn sum() -> JobBuilder {
    session().job(Command::new("sha256sum").arg("{}"))
}

fn words(spec: &JobSpec) -> Vec<&[u8]> {
    match &spec.body {
        BodySpec::Command { words } => words.iter().map(OsBytes::as_bytes).collect(),
        other => panic!("a command, not {other:?}"),
    }
}

fn nodes(job: JobBuilder) -> (String, Option<String>) {
    match job.spec.expect("a spec").placement {
        Placement::Here => ("here".to_owned(), None),
        Placement::Nodes { on, exclude } => {
            (on.as_str().to_owned(), exclude.map(|exclude| exclude.as_str().to_owned()))
        }
    }
}

#[test]
fn a_command_without_choices_is_a_spec_with_the_defaults() {
    let job = sum();
    let spec = job.spec().expect("a spec");
    assert_eq!(words(spec), [&b"sha256sum"[..], b"{}"]);
    assert_eq!(*spec, JobSpec::new("sha256sum {}", spec.body.clone()));
}

#[test]
fn every_choice_is_in_the_spec() {
    let job = sum()
        .throttle(8)
        .copies(3)
        .timeout(Duration::from_secs(1))
        .grace(Duration::from_secs(2))
        .connect_timeout(Duration::from_secs(3))
        .max_fails(MaxFails::Percent(5))
        .output_limit(4)
        .init("true")
        .directory("/tmp")
        .env("A", "1")
        .env("A", "2")
        .inherit_env([("HOME", "/")])
        .name("sums")
        .expect("a name")
        .key("k")
        .expect("a key");
    assert_eq!(job.key.as_ref().map(IdempotencyKey::as_str), Some("k"));
    let spec = job.spec.expect("a spec");
    let three = NonZeroU32::new(3).expect("not zero");
    let eight = NonZeroU32::new(8).expect("not zero");
    assert_eq!(spec.throttle, Throttle::AtMost(eight));
    assert_eq!(spec.fan, Fan::PerNode { copies: three });
    assert_eq!(spec.timeout, Some(Duration::from_secs(1)));
    assert_eq!(spec.grace, Duration::from_secs(2));
    assert_eq!(spec.connect_timeout, Duration::from_secs(3));
    assert_eq!(spec.max_fails, MaxFails::Percent(5));
    assert_eq!(spec.output_limit, Some(4));
    assert_eq!(spec.init.as_deref(), Some("true"));
    assert_eq!(spec.directory.as_ref().map(OsBytes::as_bytes), Some(&b"/tmp"[..]));
    let pair = |name: &str, value: &str| {
        (OsBytes::try_from(name).expect("no NUL"), OsBytes::try_from(value).expect("no NUL"))
    };
    assert_eq!(spec.environment.set, [pair("A", "1"), pair("A", "2")]);
    assert_eq!(spec.environment.inherited, Some(vec![pair("HOME", "/")]));
    assert_eq!(spec.name.as_ref().map(|name| name.as_str()), Some("sums"));
}

#[test]
fn zero_counts_as_one() {
    let spec = sum().throttle(0).copies(0).spec.expect("a spec");
    assert_eq!(spec.throttle, Throttle::AtMost(NonZeroU32::MIN));
    assert_eq!(spec.fan, Fan::PerNode { copies: NonZeroU32::MIN });
    assert_eq!(sum().unthrottled().spec.expect("a spec").throttle, Throttle::Unlimited);
}

#[test]
fn nodes_and_exclusions_come_in_any_order() {
    let parsed = "an expression";
    assert_eq!(nodes(sum()), ("here".to_owned(), None));
    let expected = ("a,b".to_owned(), Some("b".to_owned()));
    assert_eq!(nodes(sum().on("a,b").expect(parsed).exclude("b").expect(parsed)), expected);
    assert_eq!(nodes(sum().exclude("b").expect(parsed).on("a,b").expect(parsed)), expected);
    let all_but = nodes(sum().exclude("b").expect(parsed));
    assert_eq!(all_but, ("*".to_owned(), Some("b".to_owned())));
    assert!(sum().on("node[").is_err());
}

#[test]
fn words_keep_any_byte_but_nul_is_an_error_of_the_start() {
    let bytes = OsString::from_vec(vec![0xff, b' ', b'\n']);
    let spec = Command::new("echo").arg(&bytes).into_spec().expect("no NUL");
    assert_eq!(words(&spec), [&b"echo"[..], b"\xff \n"]);
    let nul = |job: JobBuilder| matches!(job.spec, Err(StartError::Nul(_)));
    assert!(nul(session().job(Command::new("echo").arg("a\0b"))));
    assert!(nul(session().job(Command::new("a\0b"))));
    assert!(nul(sum().env("A", "\0")));
    assert!(nul(sum().directory("\0").throttle(3)));
    assert!(nul(sum().inherit_env([("\0", "")])));
}

#[test]
fn a_script_is_shown_as_one_and_keeps_its_arguments() {
    let script = Command::script("exit 3\n").arg("a b");
    let spec = script.clone().into_spec().expect("no NUL");
    assert_eq!(spec.command, "script 'a b'");
    let BodySpec::Script { text, arguments } = spec.body else { panic!("a script") };
    assert_eq!((text.as_ref(), arguments.len()), (&b"exit 3\n"[..], 1));
    assert_eq!(script.shown_as("./x.sh").into_spec().expect("no NUL").command, "./x.sh");
}

#[test]
fn a_task_carries_its_input_with_field_names() {
    #[derive(serde::Serialize)]
    struct Input {
        count: u8,
    }
    let job = session().task("work", &Input { count: 7 }).expect("it has an encoding");
    let spec = job.spec.expect("a spec");
    assert_eq!(spec.command, "work");
    let BodySpec::Task { name, input, .. } = spec.body else { panic!("a task") };
    assert_eq!((name.as_str(), input.as_ref()), ("work", &b"\x81\xa5count\x07"[..]));
    let huge = "x".repeat(limits::VALUE_BYTES);
    assert!(session().task("work", &huge).is_err());
}

#[test]
fn a_map_is_spread_unless_every_node_gets_each_item() {
    assert_eq!(sum().map(["a", "b"]).spec.expect("a spec").fan, Fan::Spread);
    assert_eq!(sum().map(["a", "b"]).each().spec.expect("a spec").fan, Fan::Each);
    assert_eq!(session().task_map("work", 0..3_u8).spec.expect("a spec").fan, Fan::Spread);
}

#[tokio::test]
async fn what_does_not_fit_together_is_an_error_before_anything_is_sent() {
    let misuse = |error: StartError| match error {
        StartError::Request(RequestError::Misused(misuse)) => misuse,
        other => panic!("a misuse, not {other:?}"),
    };
    let error = soon(sum().map(["a"]).start_with_input()).await.expect_err("two inputs");
    assert_eq!(misuse(error), Misuse::InputOfMap);
    let raw = session().task("work", &()).expect("an encoding").map(["a"]);
    assert_eq!(misuse(soon(raw.start()).await.expect_err("raw")), Misuse::RawItemsForTask);
    let error = soon(sum().each().start()).await.expect_err("no items");
    assert_eq!(misuse(error), Misuse::InputMissing);
}

#[tokio::test]
async fn a_lost_node_is_an_error_that_may_be_tried_again() {
    let error = soon(sum().start()).await.expect_err("there is no node");
    assert!(error.is_retryable());
    assert_eq!(error.code(), ErrorCode::Unreachable);
}

#[tokio::test]
async fn items_are_fed_in_order_and_an_item_without_encoding_loses_the_input() {
    use sortie_actors::data::exchange::{self, ToClient, ToServer};
    use sortie_wire::map_items;
    use sortie_wire::session_proto::Answer;

    let feed_of = |items: Vec<Result<Bytes, EncodeError>>| {
        let (client, server) = exchange::local();
        let items: Encoded = Box::new(stream::iter(items));
        let feeding = async move { feed(items, ItemSender::new(client), &Memory::default()).await };
        (tokio::spawn(feeding), server)
    };

    let (feeding, mut server) =
        feed_of((0..300_u16).map(|n| crate::error::encode_value(&n)).collect());
    let mut fed = 0;
    while let Some(ToServer::Input { mut bytes, last }) =
        soon(server.receiver.next()).await.expect("it can be read")
    {
        while let Some(item) = map_items::take(&mut bytes).expect("whole items") {
            assert_eq!(crate::error::decode_value::<u16>(&item).expect("a number"), fed);
            fed += 1;
        }
        if last {
            break;
        }
    }
    assert_eq!(fed, 300);
    server.sender.send(ToClient::Answer(Answer::InputStored)).await.expect("it waits");
    soon(feeding).await.expect("it ends").expect("all was stored");

    let huge = crate::error::encode_value(&"x".repeat(limits::VALUE_BYTES));
    let (feeding, mut server) = feed_of(vec![crate::error::encode_value(&1), huge]);
    while let Some(message) = soon(server.receiver.next()).await.expect("it can be read") {
        assert!(!matches!(message, ToServer::Input { last: true, .. }));
    }
    assert!(soon(feeding).await.expect("it ends").is_err());
}
