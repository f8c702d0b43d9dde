//! Dropped futures: each verb's is dropped at every await point, and afterwards everything works
//! and nothing is lost.
#![expect(clippy::expect_used, reason = "a test fails by panicking, also in what its cases share")]

use std::convert::Infallible;

use serde::{Deserialize, Serialize};
use sortie::{
    Client, Embedded, EmitError, HomePaths, Job, JobScope, Live, Node, Query, Selection, Selector,
    Session, State, Stream, TaskContext, Throttle, Weight,
};
use sortie_tests::{PATIENCE, at_every_point, dropped_after, soon};

#[sortie::task]
async fn count_up(context: TaskContext, to: u64) -> Result<u64, EmitError> {
    for n in 1..to {
        context.emit(&n).await?;
    }
    Ok(to)
}

/// A value that fills a mailbox's memory with a few of its kind.
#[derive(Serialize, Deserialize)]
struct Large {
    number: u64,
    filler: String,
}

impl Large {
    fn new(number: u64) -> Self {
        Self { number, filler: "x".repeat(20_000) }
    }
}

impl Weight for Large {
    fn weight(&self) -> usize {
        size_of::<Self>() + self.filler.capacity()
    }
}

/// Drops what each call gives at its first await point, and makes the call again if that was before
/// its end.
#[sortie::task]
async fn emit_hesitantly(context: TaskContext, to: u64) -> Result<Large, EmitError> {
    for number in 0..to {
        let value = Large::new(number);
        match dropped_after(1, context.emit(&value)).await {
            Some(emitted) => emitted?,
            None => context.emit(&value).await?,
        }
        let live = Live::new(value);
        match dropped_after(1, context.emit_live(live.clone())).await {
            Some(emitted) => emitted?,
            None => context.emit_live(live).await?,
        }
        let text = number.to_string();
        if dropped_after(1, context.warn(&text)).await.is_none() {
            context.warn(&text).await;
        }
    }
    Ok(Large::new(to))
}

#[sortie::task]
async fn wait_for_stop(context: TaskContext, (): ()) -> Result<(), Infallible> {
    context.cancelled().await;
    Ok(())
}

/// A node with a home and one beside it, and the session of the first: from within its process, and
/// over a link.
struct Cluster {
    sessions: [Session; 2],
    _home: tempfile::TempDir,
}

impl Cluster {
    async fn start() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let paths = HomePaths::within(home.path());
        let a = Node::builder("a").without_processes().home(paths.clone()).register(count_up);
        let a = a.register(emit_hesitantly).register(wait_for_stop);
        let a = a.start().await.expect("a node");
        let b = Node::builder("b").without_processes().register(count_up).register(wait_for_stop);
        let b = b.register(emit_hesitantly);
        b.join(&a).start().await.expect("a node");
        let client = Client::connect_home(&paths, PATIENCE).await.expect("a client");
        Self { sessions: [a.session(), client.session()], _home: home }
    }
}

/// A finished job of 3 children with 1, 2 and 3 values.
async fn counted(session: &Session) -> Job<u64> {
    let job = session.map(count_up, 1..=3).on("a,b").expect("nodes").start().await;
    let job = job.expect("a start");
    soon(job.wait()).await.expect("an end");
    job
}

const VALUES: [u64; 6] = [1, 1, 2, 1, 2, 3];

#[tokio::test(flavor = "multi_thread")]
async fn verbs_that_only_look_change_nothing() {
    let cluster = Cluster::start().await;
    for session in &cluster.sessions {
        let job = counted(session).await;
        let selector = || Selector::Id(job.id());
        at_every_point(|| job.view()).await.expect("a job");
        assert_eq!(at_every_point(|| job.children()).await.expect("children").len(), 3);
        assert_eq!(at_every_point(|| job.receive_keep()).await.expect("records").len(), 6);
        at_every_point(|| job.wait()).await.expect("a job");
        at_every_point(|| job.wait_timeout(PATIENCE)).await.expect("a job").expect("it is settled");
        at_every_point(|| job.events()).await.expect("a watch");
        at_every_point(|| job.set_throttle(Throttle::Unlimited)).await.expect("a job");
        at_every_point(|| session.get(Query::default())).await.expect("jobs");
        at_every_point(|| session.find(selector())).await.expect("a job");
        at_every_point(|| session.explain(selector())).await.expect("a job");
        at_every_point(|| session.watch(Selection::default())).await.expect("a watch");
        assert_eq!(soon(job).await.expect("everything is there"), VALUES);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receive_loses_nothing_and_gives_nothing_twice() {
    let cluster = Cluster::start().await;
    for session in &cluster.sessions {
        let job = counted(session).await;
        let records = at_every_point(|| job.receive()).await.expect("records");
        let mut values: Vec<_> =
            records.iter().map(|record| (record.ordinal, record.record.seq)).collect();
        values.sort_unstable();
        values.dedup();
        assert_eq!((records.len(), values.len()), (6, 6));
        assert!(soon(job.receive()).await.expect("records").is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_awaited_job_gives_all_results_to_who_waits_to_the_end() {
    let cluster = Cluster::start().await;
    for session in &cluster.sessions {
        let job = session.map(count_up, 1..=3).on("a,b").expect("nodes").start().await;
        let job = job.expect("a start");
        let values = at_every_point(|| job.clone().into_future()).await.expect("results");
        assert_eq!(values, VALUES);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_item_of_a_stream_is_asked_for_again_and_is_the_same() {
    let cluster = Cluster::start().await;
    for session in &cluster.sessions {
        let start = || async {
            let job = session.map(count_up, 1..=3).on("a,b").expect("nodes").start().await;
            job.expect("a start")
        };
        let mut results = start().await.results().in_order();
        let mut values = Vec::new();
        for polls in (0..4).cycle() {
            match soon(dropped_after(polls, results.next())).await {
                Some(Some(result)) => values.push(result.expect("a result").value),
                Some(None) => break,
                None => {}
            }
        }
        assert_eq!(values, VALUES);

        let mut results = start().await.results();
        let mut values = Vec::new();
        for polls in (0..4).cycle() {
            match soon(dropped_after(polls, results.next())).await {
                Some(Some(result)) => {
                    let result = result.expect("a result");
                    values.push((result.ordinal, result.value));
                }
                Some(None) => break,
                None => {}
            }
        }
        values.sort_unstable();
        assert_eq!(values.into_iter().map(|(_, value)| value).collect::<Vec<_>>(), VALUES);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_dropped_leaves_the_rest_to_the_next() {
    let cluster = Cluster::start().await;
    for session in &cluster.sessions {
        let job = counted(session).await;
        let mut values = Vec::new();
        for in_order in [false, true].into_iter().cycle() {
            let result = if in_order {
                soon(job.results().in_order().next()).await
            } else {
                soon(job.results().next()).await
            };
            let Some(result) = result else { break };
            let result = result.expect("a result");
            values.push((result.ordinal, result.value));
        }
        values.sort_unstable();
        assert_eq!(values.into_iter().map(|(_, value)| value).collect::<Vec<_>>(), VALUES);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_with_a_key_happens_once() {
    let cluster = Cluster::start().await;
    for (number, session) in cluster.sessions.iter().enumerate() {
        let key = format!("once-{number}");
        let start = || session.run(count_up, 3).key(&key).expect("a key").start();
        let job = at_every_point(start).await.expect("a start");
        assert_eq!(soon(job).await.expect("results"), [1, 2, 3]);
        assert_eq!(session.get(Query::default()).await.expect("jobs").entries.len(), number + 1);
        let unsent = session.run(count_up, 3);
        at_every_point(|| unsent.dry_run()).await.expect("a plan");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_is_not_taken_back_and_a_removal_happens_once() {
    let cluster = Cluster::start().await;
    for session in &cluster.sessions {
        let job = session.run(wait_for_stop, ()).on("a,b").expect("nodes").start().await;
        let job = job.expect("a start");
        let view = at_every_point(|| job.stop()).await.expect("a stop");
        assert_eq!(view.state, State::Stopped);
        for polls in 0.. {
            match soon(dropped_after(polls, job.remove())).await {
                None => {}
                Some(Ok(())) => break,
                // An earlier one was carried out.
                Some(Err(error)) => {
                    assert_eq!(error.code(), sortie::ErrorCode::NotFound, "{error}");
                    break;
                }
            }
        }
        assert!(session.get(Query::default()).await.expect("jobs").entries.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_ends_wherever_it_is_dropped() {
    let cluster = Cluster::start().await;
    for session in &cluster.sessions {
        at_every_point(|| async {
            let scope = JobScope::new(session);
            let job = session.run(wait_for_stop, ()).on("a,b").expect("nodes");
            scope.start(job).await.expect("a start");
            scope.close().await.expect("an end");
        })
        .await;
        let all_stopped = async {
            loop {
                let jobs = session.get(Query::default()).await.expect("jobs").entries;
                if jobs.iter().all(|job| job.state() == State::Stopped) {
                    return jobs.len();
                }
                tokio::task::yield_now().await;
            }
        };
        assert!(soon(all_stopped).await > 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_function_writes_is_there_once_however_often_it_hesitates() {
    const TO: u64 = 150;
    let cluster = Cluster::start().await;
    for (session, node) in
        cluster.sessions.iter().flat_map(|session| [(session, "a"), (session, "b")])
    {
        let job = session.run(emit_hesitantly, TO).on(node).expect("a node").start().await;
        let job = job.expect("a start");
        let (mut values, mut warnings) = (Vec::new(), Vec::new());
        let mut stream = job.stream();
        while let Some(received) = soon(stream.next()).await {
            let received = received.expect("a record");
            if received.record.stream == Stream::Warning {
                warnings.push(received.value::<String>().expect("a text"));
            } else {
                values.push(received.value::<Large>().expect("a value").number);
            }
        }
        let twice = (0..TO).flat_map(|number| [number, number]);
        assert_eq!(values, twice.chain([TO]).collect::<Vec<_>>(), "on {node}");
        assert_eq!(warnings, (0..TO).map(|number| number.to_string()).collect::<Vec<_>>());
    }
}

/// Waits until no more futures run than before.
async fn only(futures: usize) {
    let runtime = tokio::runtime::Handle::current();
    soon(async {
        while runtime.metrics().num_alive_tasks() > futures {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_node_whose_start_is_dropped_does_not_come_to_be() {
    let home = tempfile::tempdir().expect("a directory");
    let paths = HomePaths::within(home.path());
    let futures = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    for polls in 0.. {
        let builder = Node::builder("a").without_processes().home(paths.clone());
        let started = soon(dropped_after(polls, builder.start())).await;
        let Some(node) = started else {
            // Its port is the home's, so the next one would find it taken.
            only(futures).await;
            continue;
        };
        let node = node.expect("a node");
        soon(node.shut_down()).await;
        break;
    }
    for polls in 0.. {
        only(futures).await;
        if let Some(cluster) = soon(dropped_after(polls, Embedded::start(2))).await {
            soon(cluster.expect("a cluster").shut_down()).await;
            break;
        }
    }
    only(futures).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shut_down_that_is_dropped_goes_on() {
    for polls in 1.. {
        let node = Node::builder("a").without_processes().start().await.expect("a node");
        let ended = soon(dropped_after(polls, node.shut_down())).await;
        soon(node.ended()).await;
        soon(node.shut_down()).await;
        if ended.is_some() {
            break;
        }
    }
}
