//! What a running function may ask of the session that its child belongs to.
#![expect(clippy::expect_used, reason = "a test fails by panicking, also in what its cases share")]

use std::convert::Infallible;
use std::sync::{LazyLock, Mutex};

use sortie::{
    Arrived, Client, ErrorCode, HomePaths, JobInstance, Node, Ordinal, Selection, SendError,
    Session, State, StopSpec, TaskContext, TaskSession,
};
use sortie_tests::{PATIENCE, soon};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

type Channel<T> = (UnboundedSender<T>, Mutex<Option<UnboundedReceiver<T>>>);

/// Handles that functions gave away, which outlive them.
static GIVEN: LazyLock<Channel<Session>> = LazyLock::new(|| {
    let (sender, receiver) = unbounded_channel();
    (sender, Mutex::new(Some(receiver)))
});

/// Gives its handle away and waits for its stop.
#[sortie::task]
async fn gives(context: TaskContext, (): ()) -> Result<(), sortie::RequestError> {
    let above = context.session_above()?;
    GIVEN.0.send(above).expect("the test takes it");
    context.cancelled().await;
    Ok(())
}

/// Emits what it is told.
#[sortie::task]
async fn listens(context: TaskContext, (): ()) -> Result<u64, Infallible> {
    let mut inbox = context.inbox::<u64>().expect("it is the first time");
    let mut sum = 0;
    while let Some(message) = inbox.next().await {
        sum += message.value;
        if message.call.is_call() {
            message.reply(&sum).expect("it is small");
        }
    }
    Ok(sum)
}

fn refused(result: Result<(), SendError>) -> ErrorCode {
    match result {
        Err(SendError::Request(error)) => error.code(),
        other => panic!("a refusal, not {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_reaches_its_siblings_and_can_do_nothing_else() {
    let home = tempfile::tempdir().expect("a directory");
    let paths = HomePaths::within(home.path());
    let a = Node::builder("a").without_processes().home(paths.clone());
    let a = a.register(gives).register(listens).start().await.expect("a node");
    let b = Node::builder("b").without_processes().register(gives).register(listens);
    let _b = b.join(&a).start().await.expect("a node");
    let session = Client::connect_home(&paths, PATIENCE).await.expect("a client").session();
    let mut given = GIVEN.1.lock().expect("one test takes it").take().expect("once");
    for (own, others) in [("a", "a"), ("a", "b"), ("b", "a"), ("b", "b")] {
        let giver = session.run(gives, ()).on(own).expect("a node").start().await;
        let giver = giver.expect("a start");
        let above = soon(given.recv()).await.expect("a handle");
        let listener = session.run(listens, ()).on(others).expect("a node").start().await;
        let listener = listener.expect("a start");
        let sibling = above.child(listener.instance(), Ordinal(0));
        for number in 0..100 {
            soon(sibling.send(&number)).await.expect("it is taken");
        }
        assert_eq!(soon(sibling.call::<u64, u64>(&50)).await.expect("an answer"), 5_000);

        let stop = soon(above.stop(Selection::default(), StopSpec::NOW, Default::default())).await;
        assert_eq!(stop.expect_err("a refusal").code(), ErrorCode::Denied);
        let shown = soon(above.get(sortie::Query::default())).await;
        assert_eq!(shown.expect_err("a refusal").code(), ErrorCode::Denied);
        assert_eq!(
            soon(sibling.bind_to(&giver)).await.expect_err("a refusal").code(),
            ErrorCode::Denied
        );
        let nobody = above.child(JobInstance(giver.instance().child(Ordinal(0)).0), Ordinal(0));
        assert_eq!(refused(soon(nobody.send(&1_u64)).await), ErrorCode::NotFound);

        let mut monitor = soon(sibling.monitor()).await.expect("an answer");
        soon(listener.stop()).await.expect("a stop");
        let notice = soon(monitor.next()).await.expect("an answer").expect("a notice");
        assert_eq!((notice.incarnation.0, notice.ordinal), (0, Some(Ordinal(0))));
        assert_eq!(notice.state, Some(State::Stopped));
        assert!(soon(monitor.next()).await.expect("an answer").is_none());
        let late = soon(sibling.send(&1_u64)).await;
        assert!(matches!(late, Err(SendError::Ended { arrived: Arrived::No })), "{late:?}");

        soon(giver.stop()).await.expect("a stop");
        let after = soon(sibling.send(&1_u64)).await;
        assert_eq!(refused(after), ErrorCode::NoSession, "the function has ended");
    }
}
