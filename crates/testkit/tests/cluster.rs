//! What a simulated cluster does, told by its nodes.

#![expect(clippy::expect_used, reason = "a test that cannot go on says why")]

use std::time::Duration;

use sortie_actors::data::exchange::{ClientEnd, ToClient};
use sortie_exec::registry::Registry;
use sortie_exec::task::{TaskContext, encode_value, typed};
use sortie_model::selector::{Query, Selection};
use sortie_model::spec::{BodySpec, Placement, RunIn};
use sortie_model::view::{EntryView, NodeState};
use sortie_model::{ChildView, IdempotencyKey, JobSpec, Reason, State};
use sortie_testkit::{Cluster, ClusterBuilder, ClusterError};
use sortie_wire::session_proto::{Answer, Ask, Request, SessionRef};

const SECOND: Duration = Duration::from_secs(1);

/// A cluster whose nodes have one function: it sleeps for so many milliseconds.
fn sleepers(nodes: usize) -> ClusterBuilder {
    Cluster::builder().nodes(nodes).tasks(|_| {
        let mut registry = Registry::default();
        let sleep = |_: TaskContext, millis: u64| async move {
            // tidy: waits because that is the child's work, in virtual time.
            tokio::time::sleep(Duration::from_millis(millis)).await;
            Ok::<_, std::fmt::Error>(())
        };
        registry.add("sleep", typed(sleep)).expect("the name is free");
        registry
    })
}

async fn ask(cluster: &Cluster, node: usize, ask: Ask) -> Answer {
    let request = Request { session: SessionRef::Default, ask };
    let ClientEnd { sender: _sender, mut receiver } = cluster.node(node).expect("up").open(request);
    match receiver.next().await.expect("the node answers") {
        Some(ToClient::Answer(answer)) => answer,
        other => panic!("an answer, not {other:?}"),
    }
}

/// Starts a child on each of the nodes, from `node1`.
async fn start(cluster: &Cluster, on: &str, sleep: Duration) {
    start_job(cluster, (on, 5 * SECOND), sleep).await;
}

/// The same, where the first connection to a node may take that long.
async fn start_within(cluster: &Cluster, on: &str, connect: Duration) {
    start_job(cluster, (on, connect), SECOND).await;
}

async fn start_job(cluster: &Cluster, (on, connect): (&str, Duration), sleep: Duration) {
    let input = encode_value(&(sleep.as_millis() as u64)).expect("small");
    let body =
        BodySpec::Task { name: "sleep".to_owned(), input, types: None, run_in: RunIn::Thread };
    let mut spec = JobSpec::new("sleep", body);
    spec.placement = Placement::Nodes { on: on.parse().expect("nodes"), exclude: None };
    spec.connect_timeout = connect;
    let key = IdempotencyKey::try_from(format!("key{}", cluster.elapsed().as_nanos()));
    let start = Ask::Start { key: key.expect("a key"), spec: Box::new(spec) };
    assert!(matches!(ask(cluster, 1, start).await, Answer::Started(_)));
}

async fn children(cluster: &Cluster) -> Vec<ChildView> {
    let selection = Selection::default();
    let query = Query { selection, children: true, ..Query::default() };
    let Answer::Entries(entries) = ask(cluster, 1, Ask::Get(Box::new(query))).await else {
        panic!("entries")
    };
    let children = entries.entries.into_iter().filter_map(|entry| match entry {
        EntryView::Child(child) => Some(child),
        EntryView::Job(_) => None,
    });
    children.collect()
}

async fn states(cluster: &Cluster) -> Vec<State> {
    children(cluster).await.iter().map(|child| child.state).collect()
}

async fn sights(cluster: &Cluster, node: usize) -> Vec<NodeState> {
    match ask(cluster, node, Ask::Nodes { expression: None }).await {
        Answer::Nodes(views) => views.iter().map(|view| view.state).collect(),
        other => panic!("nodes, not {other:?}"),
    }
}

#[test]
fn children_run_on_every_node_and_an_hour_takes_no_time() {
    let began = std::time::Instant::now();
    let done = sleepers(3).run(async |cluster| {
        start(cluster, "node[1-3]", 3_600 * SECOND).await;
        cluster.advance(SECOND).await;
        assert_eq!(states(cluster).await, [State::Running; 3]);
        cluster.advance(3_600 * SECOND).await;
        assert_eq!(states(cluster).await, [State::Completed; 3]);
    });
    done.expect("a cluster");
    assert!(began.elapsed() < 60 * SECOND);
}

#[test]
fn a_killed_node_is_lost_within_fifteen_seconds_and_its_children_with_it() {
    let done = sleepers(3).run(async |cluster| {
        start(cluster, "node2", 60 * SECOND).await;
        cluster.advance(SECOND).await;
        cluster.kill(2).await.expect("it is up");
        assert!(matches!(cluster.node(2), Err(ClusterError::Down(2))));
        cluster.advance(3 * SECOND).await;
        assert_eq!(states(cluster).await, [State::Running]);
        cluster.advance(12 * SECOND).await;
        let lost = children(cluster).await;
        assert!(matches!(lost[0].reason, Some(Reason::NodeLost { .. })), "{:?}", lost[0].reason);
        assert_eq!(sights(cluster, 1).await[1], NodeState::Lost);
        cluster.restart(2).await.expect("it is down");
        cluster.advance(10 * SECOND).await;
        assert_eq!(sights(cluster, 1).await, [NodeState::Alive; 3]);
        start(cluster, "node2", SECOND).await;
        cluster.advance(2 * SECOND).await;
        assert_eq!(states(cluster).await, [State::Failed, State::Completed]);
    });
    done.expect("a cluster");
}

#[test]
fn a_short_partition_is_healed_without_a_trace() {
    let done = sleepers(2).run(async |cluster| {
        start(cluster, "node2", 10 * SECOND).await;
        cluster.advance(SECOND).await;
        cluster.partition(1, 2);
        cluster.advance(4 * SECOND).await;
        cluster.heal(1, 2);
        cluster.advance(7 * SECOND).await;
        assert_eq!(states(cluster).await, [State::Completed]);
    });
    done.expect("a cluster");
}

#[test]
fn who_waits_long_for_a_node_holds_nobody_who_waits_shortly() {
    let done = sleepers(2).run(async |cluster| {
        cluster.kill(2).await.expect("it is up");
        cluster.advance(20 * SECOND).await;
        start_within(cluster, "node2", 3_600 * SECOND).await;
        cluster.advance(SECOND).await;
        start_within(cluster, "node2", 2 * SECOND).await;
        cluster.advance(3 * SECOND).await;
        assert_eq!(states(cluster).await, [State::NotStarted, State::Failed]);
        cluster.restart(2).await.expect("it is down");
        cluster.advance(30 * SECOND).await;
        assert_eq!(states(cluster).await, [State::Completed, State::Failed]);
    });
    done.expect("a cluster");
}

#[test]
fn who_is_not_heard_ends_what_it_runs_although_it_hears() {
    let done = sleepers(2).run(async |cluster| {
        start(cluster, "node2", 60 * SECOND).await;
        cluster.advance(SECOND).await;
        cluster.partition_one_way(2, 1);
        cluster.advance(15 * SECOND).await;
        let lost = children(cluster).await;
        assert!(matches!(lost[0].reason, Some(Reason::NodeLost { .. })), "{:?}", lost[0].reason);
        cluster.heal(2, 1);
        cluster.advance(60 * SECOND).await;
        assert_eq!(states(cluster).await, [State::Failed]);
    });
    done.expect("a cluster");
}

#[test]
fn what_was_sent_to_a_node_that_fell_silent_is_not_called_unreachable() {
    let done = sleepers(2).run(async |cluster| {
        start(cluster, "node2", SECOND).await;
        cluster.advance(3 * SECOND).await;
        // The start arrives, and no word that it did.
        cluster.partition_one_way(2, 1);
        start(cluster, "node2", SECOND).await;
        // Here node1 has given the link up, and node2 not yet.
        cluster.advance(9 * SECOND).await;
        start_within(cluster, "node2", SECOND / 2).await;
        cluster.advance(2 * SECOND).await;
        let reasons = |children: Vec<ChildView>| children.into_iter().map(|child| child.reason);
        let mut now = reasons(children(cluster).await).skip(1);
        assert_eq!(now.next().flatten(), None, "nobody knows yet");
        assert!(matches!(now.next().flatten(), Some(Reason::Unreachable { .. })));
        cluster.advance(5 * SECOND).await;
        let lost = reasons(children(cluster).await).nth(1).flatten();
        assert_eq!(lost, Some(Reason::StartUncertain));
    });
    done.expect("a cluster");
}

#[test]
fn a_late_word_of_a_nodes_former_life_does_not_replace_the_present_one() {
    let ms = Duration::from_millis;
    let done = sleepers(2).run(async |cluster| {
        cluster.kill(2).await.expect("it is up");
        cluster.delay(ms(1_500)..=ms(1_500));
        cluster.restart(2).await.expect("it is down");
        // Its dial takes two journeys; then its hello is on the way.
        cluster.advance(ms(3_500)).await;
        cluster.kill(2).await.expect("it is up");
        cluster.delay(ms(0)..=ms(0));
        cluster.restart(2).await.expect("it is down");
        cluster.advance(ms(100)).await;
        start(cluster, "node2", 5 * SECOND).await;
        cluster.advance(ms(100)).await;
        assert_eq!(states(cluster).await, [State::Running]);
        cluster.advance(10 * SECOND).await;
        assert_eq!(states(cluster).await, [State::Completed]);
    });
    done.expect("a cluster");
}

#[test]
fn a_wall_clock_that_jumps_moves_no_time_limit_and_no_later_life() {
    let done = sleepers(2).run(async |cluster| {
        let behind = |cluster: &Cluster| {
            let [one, other] = [1, 2].map(|number| cluster.now(number).expect("a node").0);
            one - other
        };
        cluster.set_clock(2, 3_600 * SECOND).expect("a node");
        assert_eq!(behind(cluster), -3_600_000_000);
        start(cluster, "node2", 5 * SECOND).await;
        cluster.advance(SECOND).await;
        cluster.set_clock(1, 7_200 * SECOND).expect("a node");
        cluster.advance(SECOND).await;
        cluster.set_clock(1, Duration::ZERO).expect("a node");
        assert_eq!(states(cluster).await, [State::Running]);
        cluster.advance(4 * SECOND).await;
        assert_eq!(states(cluster).await, [State::Completed]);
        // A later life that begins at an earlier time of day.
        cluster.kill(2).await.expect("it is up");
        cluster.set_clock(2, Duration::ZERO).expect("a node");
        cluster.restart(2).await.expect("it is down");
        cluster.advance(20 * SECOND).await;
        start(cluster, "node2", SECOND).await;
        cluster.advance(2 * SECOND).await;
        assert_eq!(states(cluster).await, [State::Completed; 2]);
        assert!(matches!(cluster.set_clock(3, SECOND), Err(ClusterError::NoNode(3))));
    });
    done.expect("a cluster");
}

#[test]
fn delayed_and_dropped_packets_arrive_in_the_end() {
    let ms = Duration::from_millis;
    let builder = sleepers(3).seed(5).delay(ms(20)..=ms(120)).drop(0.1);
    let done = builder.run(async |cluster| {
        for _ in 0..20 {
            start(cluster, "node[2-3]", ms(300)).await;
            cluster.advance(SECOND).await;
        }
        cluster.advance(60 * SECOND).await;
        let states = states(cluster).await;
        assert_eq!(states.len(), 40);
        assert!(states.iter().all(|state| *state == State::Completed), "{states:?}");
    });
    done.expect("a cluster");
}

#[test]
fn a_cluster_says_what_it_cannot_do() {
    let sized = |nodes| Cluster::builder().nodes(nodes).run(async |cluster| cluster.len());
    assert!(matches!(sized(0), Err(ClusterError::Size)));
    assert!(matches!(sized(65), Err(ClusterError::Size)));
    let done = Cluster::builder().nodes(2).run(async |cluster| {
        assert!(matches!(cluster.kill(3).await, Err(ClusterError::NoNode(3))));
        assert!(matches!(cluster.kill(0).await, Err(ClusterError::NoNode(0))));
        assert!(matches!(cluster.restart(1).await, Err(ClusterError::Up(1))));
        cluster.kill(1).await.expect("it is up");
        assert_eq!((cluster.is_up(1), cluster.is_up(2)), (Some(false), Some(true)));
    });
    done.expect("a cluster");
}
