//! Live values: handed over as they are within their process, encoded for everybody else.
#![expect(clippy::expect_used, reason = "a test fails by panicking, also in what its cases share")]

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize, Serializer};
use sortie::{
    ChildResult, Client, EmitError, HomePaths, Job, Live, Node, ResultError, Session, TaskContext,
    ValueError, Weight,
};
use sortie_tests::{PATIENCE, dropped_after, soon};

/// A value that counts how often it is encoded.
#[derive(Debug, Deserialize)]
struct Counted {
    name: String,
}

static ENCODED: Mutex<Option<HashMap<String, usize>>> = Mutex::new(None);
static MADE: Mutex<Option<HashMap<String, Live<Counted>>>> = Mutex::new(None);

fn in_map<V, R>(
    map: &Mutex<Option<HashMap<String, V>>>,
    act: impl FnOnce(&mut HashMap<String, V>) -> R,
) -> R {
    act(map.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default())
}

impl Serialize for Counted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Named<'a> {
            name: &'a str,
        }
        in_map(&ENCODED, |encoded| *encoded.entry(self.name.clone()).or_default() += 1);
        if self.name.contains("stubborn") {
            return Err(serde::ser::Error::custom("it does not want to"));
        }
        Named { name: &self.name }.serialize(serializer)
    }
}

impl Weight for Counted {
    fn weight(&self) -> usize {
        size_of::<Self>() + self.name.capacity()
    }
}

fn make(name: String) -> Live<Counted> {
    let made = Live::new(Counted { name: name.clone() });
    in_map(&MADE, |all| all.insert(name, made.clone()));
    made
}

fn encoded(name: &str) -> usize {
    in_map(&ENCODED, |encoded| encoded.get(name).copied().unwrap_or(0))
}

/// Whether this is the value that the function made, not a copy of it.
fn is_made(value: &Live<Counted>) -> bool {
    in_map(&MADE, |made| made.get(&value.name).is_some_and(|made| made.is_same(value)))
}

fn check_same(values: &[Live<Counted>], names: &[&str]) {
    let given: Vec<_> = values.iter().map(|value| value.name.as_str()).collect();
    assert_eq!(given, names);
    assert!(values.iter().all(is_made), "a value was copied");
    assert!(names.iter().all(|name| encoded(name) == 0), "a value was encoded");
}

#[sortie::task]
async fn named(name: String) -> Result<Live<Counted>, Infallible> {
    Ok(make(name))
}

/// Three values: two emitted, one returned.
#[sortie::task]
async fn three(context: TaskContext, name: String) -> Result<Live<Counted>, EmitError> {
    for at in ["1", "2"] {
        context.emit_live(make(format!("{name} {at}"))).await?;
    }
    Ok(make(format!("{name} 3")))
}

struct Cluster {
    a: Node,
    _b: Node,
    client: Client,
    _home: tempfile::TempDir,
}

/// Two nodes, and a client of the first that asks over a link.
async fn cluster() -> Cluster {
    let home = tempfile::tempdir().expect("a directory");
    let paths = HomePaths::within(home.path());
    let a = Node::builder("a").without_processes().home(paths.clone()).register(named);
    let a = a.register(three).start().await.expect("a node");
    let b = Node::builder("b").without_processes().register(named).register(three);
    let b = b.join(&a).start().await.expect("a node");
    let client = Client::connect_home(&paths, PATIENCE).await.expect("a client");
    Cluster { a, _b: b, client, _home: home }
}

async fn started(session: &Session, name: &str) -> Job<Live<Counted>> {
    session.run(three, name.to_owned()).start().await.expect("a start")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_typed_reader_in_the_process_gets_the_very_value() {
    let Cluster { a, .. } = cluster().await;
    let session = a.session();

    let values = soon(started(&session, "awaited").await).await.expect("results");
    check_same(&values, &["awaited 1", "awaited 2", "awaited 3"]);

    let mut results = started(&session, "results").await.results();
    let mut values = Vec::new();
    while let Some(result) = soon(results.next()).await {
        values.push(result.expect("a result").value);
    }
    check_same(&values, &["results 1", "results 2", "results 3"]);

    let mut results = started(&session, "ordered").await.results().in_order();
    let mut values = Vec::new();
    while let Some(result) = soon(results.next()).await {
        values.push(result.expect("a result").value);
    }
    check_same(&values, &["ordered 1", "ordered 2", "ordered 3"]);

    let job = started(&session, "values").await;
    let mut stream = job.values::<Live<Counted>>();
    let mut values = Vec::new();
    while let Some(value) = soon(stream.next()).await {
        values.push(value.expect("a value"));
    }
    check_same(&values, &["values 1", "values 2", "values 3"]);

    let names = ["first", "second", "third"];
    let job = session.map(named, names.map(str::to_owned)).start().await.expect("a start");
    check_same(&soon(job).await.expect("results"), &names);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_reader_leaves_the_values_as_they_are() {
    let Cluster { a, .. } = cluster().await;
    let job = started(&a.session(), "dropped").await;
    soon(job.wait()).await.expect("an end");
    for polls in 0..20 {
        let mut results = job.results();
        drop(soon(dropped_after(polls, results.next())).await);
        let ended = soon(dropped_after(polls, job.clone().into_future())).await;
        if let Some(values) = ended {
            // Only the first stream hands out, and what it does is gone.
            let values = values.expect("results");
            assert!(values.iter().all(is_made));
            break;
        }
    }
    for name in ["dropped 1", "dropped 2", "dropped 3"] {
        assert_eq!(encoded(name), 0, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_readers_share_the_values_and_get_each_once() {
    let Cluster { a, .. } = cluster().await;
    let names: Vec<_> = (0..500).map(|n| format!("shared {n:03}")).collect();
    let job = a.session().map(named, names.clone()).start().await.expect("a start");
    let other = a.session().find(sortie::Selector::Id(job.id())).await.expect("the job");
    let read = |job: Job<Live<Counted>>| async move {
        let mut results = job.results();
        let mut values = Vec::new();
        while let Some(result) = results.next().await {
            values.push(result.expect("a result").value);
        }
        values
    };
    let (mut one, two) = soon(async { tokio::join!(read(job), read(other.typed())) }).await;
    one.extend(two);
    one.sort_by(|one, two| one.name.cmp(&two.name));
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    check_same(&one, &names);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_over_a_link_or_as_another_type_gets_an_encoding() {
    let Cluster { a, client, .. } = cluster().await;
    let job = started(&a.session(), "linked").await;
    let far = client.session().find(sortie::Selector::Id(job.id())).await.expect("the job");
    let values = soon(far.typed::<Live<Counted>>()).await.expect("results");
    assert_eq!(values.len(), 3);
    for (value, name) in values.iter().zip(["linked 1", "linked 2", "linked 3"]) {
        assert_eq!((value.name.as_str(), encoded(name)), (name, 1));
        assert!(!is_made(value), "a value came over a link as it was");
    }

    let job = started(&a.session(), "plain").await;
    let values = soon(job.typed::<Counted>()).await.expect("results");
    assert_eq!((values[2].name.as_str(), encoded("plain 3")), ("plain 3", 1));

    let job = started(&a.session(), "untyped").await;
    soon(job.wait()).await.expect("an end");
    let kept = job.receive_keep().await.expect("records");
    assert!(kept.iter().all(|received| matches!(received.record.body, sortie::Body::Value(_))));
    assert_eq!(encoded("untyped 1"), 1);
    let mut stream = job.stream();
    let first = soon(stream.next()).await.expect("a record").expect("a record");
    assert_eq!(first.value::<Counted>().expect("a value").name, "untyped 1");
    drop(stream);
    let taken = job.receive().await.expect("records");
    assert!(taken.iter().all(|received| matches!(received.record.body, sortie::Body::Value(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_from_another_node_is_encoded_there_and_read_as_one_of_its_own() {
    let Cluster { a, .. } = cluster().await;
    let job = a.session().run(three, "remote".to_owned()).on("b").expect("a node");
    let values = soon(job.start().await.expect("a start")).await.expect("results");
    assert_eq!(values.len(), 3);
    assert!(!values.iter().any(is_made));
    assert_eq!([1, 2, 3].map(|n| encoded(&format!("remote {n}"))), [1, 1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_cannot_be_encoded_is_one_only_for_who_needs_no_encoding() {
    let Cluster { a, client, .. } = cluster().await;
    let run = |name: &str| a.session().run(named, name.to_owned()).start();
    let values = soon(run("stubborn here").await.expect("a start")).await.expect("results");
    assert_eq!(values[0].name, "stubborn here");

    let job = run("stubborn there").await.expect("a start");
    let far = client.session().find(sortie::Selector::Id(job.id())).await.expect("the job");
    let error = soon(far.typed::<Live<Counted>>()).await.expect_err("it cannot come");
    let ResultError::Value { source: ValueError::NotEncoded { why }, .. } = error else {
        panic!("{error:?}")
    };
    assert!(why.contains("it does not want to"), "{why}");

    // Where it has to leave at once, its child fails instead, as any whose value has no encoding.
    let job = a.session().run(named, "stubborn away".to_owned()).on("b").expect("a node");
    let error = soon(job.start().await.expect("a start")).await.expect_err("it has no form");
    assert!(matches!(error, ResultError::ChildFailed(_)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_memory_may_hold_is_encoded_once_each_and_nothing_is_lost() {
    /// Weighs as much as a thousand of them may in a mailbox.
    #[derive(Debug, Serialize, Deserialize)]
    struct Heavy(u64);
    impl Weight for Heavy {
        fn weight(&self) -> usize {
            1_000
        }
    }
    let node = Node::builder("a").without_processes();
    let node = node.task("heavy", |context: TaskContext, count: u64| async move {
        for n in 0..count {
            context.emit_live(Live::new(Heavy(n))).await?;
        }
        Ok::<(), EmitError>(())
    });
    let node = node.start().await.expect("a node");
    let job = node.session().task("heavy", &5_000_u64).expect("a count").start().await;
    let job = job.expect("a start").typed::<Live<Heavy>>();
    soon(job.wait()).await.expect("an end");
    let mut results = job.results();
    let mut expected = 0;
    while let Some(result) = soon(results.next()).await {
        let ChildResult { value, .. } = result.expect("a result");
        assert_eq!(value.0, expected);
        expected += 1;
    }
    assert_eq!(expected, 5_000);
}
