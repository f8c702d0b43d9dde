//! Functions as children: on other daemons by the thousand, and in one process.

use std::convert::Infallible;
use std::path::Path;
use std::time::{Duration, Instant};

use sortie::{
    Client, HomePaths, Node, ReceiveItem, ReceiveMode, ReceiveSpec, Selection, Selector, Session,
    State, StreamSet,
};
use sortie_tests::{Home, join_all};

fn two_daemons() -> [Home; 3] {
    let program = Path::new(env!("CARGO_BIN_EXE_task-node"));
    let homes = ["a", "b", "c"].map(|name| Home::running_program(program, name));
    join_all(&[&homes[0], &homes[1], &homes[2]]);
    homes
}

async fn session(home: &Home) -> Session {
    let paths = HomePaths::within(home.path());
    let client = Client::connect_home(&paths, Duration::from_secs(30)).await;
    client.unwrap_or_else(|error| panic!("no running node: {error}")).session()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_functions_on_two_other_nodes_stop_at_once() {
    let homes = two_daemons();
    let session = session(&homes[0]).await;
    let job = session.task("wait", &()).expect("an input").copies(5_000).on("b,c").expect("nodes");
    let job = job.unthrottled().start().await.expect("a start");
    let running = async {
        loop {
            let view = job.view().await.expect("a job");
            if view.tally.of(State::Running) == 10_000 {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), running).await.expect("all run");
    let view = job.stop().await.expect("a stop");
    assert_eq!((view.state, view.tally.of(State::Stopped)), (State::Stopped, 10_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_children_give_each_its_result_while_the_node_answers() {
    let homes = two_daemons();
    let session = session(&homes[0]).await;
    let job = session.task("echo", &7_u64).expect("an input").copies(50_000).on("b,c");
    let job = job.expect("nodes").unthrottled().start().await.expect("a start");
    let selection = Selection::of([Selector::Id(job.id())]);
    let mode = ReceiveMode::TakeUntil { finished: true };
    let mut receiver = session.receive(ReceiveSpec::new(selection, mode)).await.expect("a reader");
    let (mut records, mut slowest) = (0_u32, Duration::ZERO);
    while let Some(item) = receiver.next().await.expect("an item") {
        if let ReceiveItem::Records { number, records: some, .. } = item {
            if records.is_multiple_of(10_000) {
                let asked = Instant::now();
                job.view().await.expect("a job");
                slowest = slowest.max(asked.elapsed());
            }
            records += some.len() as u32;
            receiver.acknowledge(number);
        }
    }
    assert_eq!(records, 100_000);
    assert!(slowest < Duration::from_secs(5), "an answer took {slowest:?}");
    assert_eq!(job.view().await.expect("a job").tally.of(State::Completed), 100_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_blocks_its_thread_holds_up_neither_its_node_nor_others() {
    let homes = two_daemons();
    let session = session(&homes[0]).await;
    let free = homes[0].path().join("free");
    let block = |node: &str| session.task("block", &free).expect("an input").on(node);
    let mut blocked = Vec::new();
    for node in ["a", "b"] {
        blocked.push(block(node).expect("a node").start().await.expect("a start"));
    }
    for job in &blocked {
        while job.view().await.expect("a job").tally.of(State::Running) == 0 {
            tokio::task::yield_now().await;
        }
    }
    for node in ["a", "b"] {
        let other = session.task("echo", &7_u64).expect("an input").on(node).expect("a node");
        let other = other.start().await.expect("a start");
        assert_eq!(other.wait().await.expect("an end").state, State::Completed, "on {node}");
    }
    std::fs::write(&free, "").expect("a file");
    for job in blocked {
        assert_eq!(job.wait().await.expect("an end").state, State::Completed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_fails_its_child_only_and_an_unknown_function_is_refused() {
    let fallible = |_, n: u64| async move {
        assert!(n != 3, "three is too much");
        Ok::<_, Infallible>(n)
    };
    let a = Node::builder("a").without_processes().task("odd", fallible).start().await;
    let a = a.expect("a node");
    let b = Node::builder("b").without_processes().task("odd", fallible).join(&a).start().await;
    let _b = b.expect("a node");
    let job = a.session().task_map("odd", 0_u64..6).on("a,b").expect("nodes").start().await;
    let job = job.expect("a start");
    let view = job.wait().await.expect("an end");
    assert_eq!((view.state, view.tally.of(State::Failed)), (State::Failed, 1));
    let children = job.children().await.expect("children");
    let reason = children.iter().find_map(|child| child.reason.clone()).expect("a reason");
    assert!(reason.to_string().contains("three is too much"), "{reason}");
    let unknown = a.session().task("nothing", &()).expect("an input").start().await;
    let unknown = unknown.expect_err("a refusal").to_string();
    assert!(unknown.contains("nothing"), "{unknown}");
    let there = a.session().task("nothing", &()).expect("an input").on("b").expect("nodes");
    let view = there.start().await.expect("a start").wait().await.expect("an end");
    assert_eq!(view.state, State::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_reader_of_one_child_delays_no_other_child() {
    let flood = |context: sortie::TaskContext, n: u64| async move {
        let line = "x".repeat(1000);
        for _ in 0..n {
            context.emit(&line).await?;
        }
        Ok::<_, sortie::EmitError>(())
    };
    let a = Node::builder("a").without_processes().task("flood", flood).start().await;
    let a = a.expect("a node");
    let b = Node::builder("b").without_processes().task("flood", flood).join(&a).start().await;
    let _b = b.expect("a node");
    let session = a.session();
    let noisy = session.task("flood", &20_000_u64).expect("an input").on("b").expect("nodes");
    let noisy = noisy.start().await.expect("a start");
    let selection = Selection::of([Selector::Id(noisy.id())]);
    let mode = ReceiveMode::TakeUntil { finished: true };
    let mut stalled = session.receive(ReceiveSpec::new(selection, mode)).await.expect("a reader");
    let first = stalled.next().await.expect("an item");
    assert!(matches!(first, Some(ReceiveItem::Records { .. })));
    // Nobody reads on from here; another child's work and results go their way.
    let quick = session.task("flood", &2_000_u64).expect("an input").on("b").expect("nodes");
    let quick = quick.start().await.expect("a start");
    let mut lines = quick.values::<String>();
    let mut count = 0;
    while let Some(line) = lines.next().await {
        assert_eq!(line.expect("a line").len(), 1000);
        count += 1;
    }
    assert_eq!(count, 2_000);
    drop(stalled);
    let mut rest = noisy.values::<String>();
    let mut count = 0;
    while let Some(line) = rest.next().await {
        line.expect("a line");
        count += 1;
    }
    assert_eq!(count, 20_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_is_gone_and_what_is_kept_stays() {
    let node = Node::builder("a")
        .without_processes()
        .task("echo", |_, n: u64| async move { Ok::<_, Infallible>(n) })
        .start()
        .await
        .expect("a node");
    let job = node.session().task("echo", &5_u64).expect("an input").start().await;
    let job = job.expect("a start");
    job.wait().await.expect("an end");
    assert_eq!(job.receive_keep().await.expect("records").len(), 1);
    assert!(job.view().await.expect("a job").has_more_data);
    assert_eq!(job.receive().await.expect("records").len(), 1);
    assert_eq!(job.receive().await.expect("records").len(), 0);
    assert!(!job.view().await.expect("a job").has_more_data);
    let spec = ReceiveSpec {
        streams: StreamSet::ALL,
        ..ReceiveSpec::new(Selection::of([Selector::Id(job.id())]), ReceiveMode::Keep)
    };
    let mut receiver = node.session().receive(spec).await.expect("a reader");
    assert!(matches!(receiver.next().await.expect("an item"), Some(ReceiveItem::End(_))));
    job.remove().await.expect("a removal");
    assert!(job.view().await.is_err());
}
