//! The test kit, as users have it.

use std::convert::Infallible;
use std::time::Duration;

use sortie::answer::Busy;
use sortie::testkit::{Clients, ClusterBuilder, ClusterError, SimulationError, cluster};
use sortie::{ErrorCode, RequestError, Session, SessionOptions, State, TaskContext};

const SECOND: Duration = Duration::from_secs(1);

fn naps() -> ClusterBuilder {
    cluster().task("nap", |_: TaskContext, seconds: u64| async move {
        // tidy: waits because that is the child's work, in virtual time.
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        Ok::<_, Infallible>(seconds)
    })
}

#[test]
fn a_job_on_three_simulated_nodes_survives_a_cut_that_is_short() {
    let ended = naps().nodes(3).seed(1).run(async |cluster| {
        let session = cluster.client(1).expect("it is up").session();
        let job = session.task("nap", &60_u64).expect("an input").on("node[1-3]").expect("nodes");
        let job = job.start().await.expect("a start");
        cluster.advance(2 * SECOND).await;
        cluster.partition(1, 3);
        cluster.advance(4 * SECOND).await;
        cluster.heal(1, 3);
        let view = job.wait().await.expect("an end");
        (view.state, view.tally.of(State::Completed))
    });
    assert_eq!(ended.expect("a cluster"), (State::Completed, 3));
}

#[test]
fn a_node_that_is_killed_has_no_clients_until_it_is_started_again() {
    let ended = naps().nodes(2).run(async |cluster| {
        cluster.kill(2).await.expect("it is up");
        assert!(matches!(cluster.client(2), Err(ClusterError::Down(2))));
        cluster.restart(2).await.expect("it is down");
        let session = cluster.client(2).expect("it is up").session();
        let job = session.task("nap", &1_u64).expect("an input").on("node1").expect("nodes");
        job.start().await.expect("a start").wait().await.expect("an end").state
    });
    assert_eq!(ended.expect("a cluster"), State::Completed);
}

#[test]
fn two_functions_of_one_name_are_refused() {
    let twice = naps().task("nap", |_: TaskContext, (): ()| async { Ok::<_, Infallible>(()) });
    let refused = twice.run(async |_| ());
    assert!(matches!(refused, Err(SimulationError::TaskName(name)) if name == "nap"));
}

const MINUTE: Duration = Duration::from_secs(60);

/// Whether the session is over.
async fn is_over(session: &Session) -> bool {
    match session.scope().await {
        Ok(_) => false,
        Err(RequestError::Refused(error)) => {
            assert_eq!(error.code, ErrorCode::NoSession, "{error}");
            true
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_session_that_nobody_comes_to_is_closed_after_its_time_with_its_jobs() {
    let ended = naps().nodes(1).run(async |cluster| {
        let client = cluster.client(1).expect("it is up");
        let options =
            SessionOptions { idle_timeout: Some(10 * MINUTE), ..SessionOptions::default() };
        let session = client.open_session(options).await.expect("a session");
        let name = session.view_at_start().expect("it was opened").name.clone();
        let job = session.task("nap", &36_000_u64).expect("an input").start().await;
        let job = job.expect("a start");
        // A handle is somebody who is there.
        cluster.advance(30 * MINUTE).await;
        assert!(!is_over(&session).await);
        drop((session, job));
        // So is whoever looks in before the time is over.
        let named = client.session_named(&name);
        for _ in 0..3 {
            cluster.advance(9 * MINUTE).await;
            assert!(!is_over(&named).await);
        }
        cluster.advance(9 * MINUTE).await;
        let back = client.connect_session(&name, Busy::Refuse).await.expect("it is its own");
        drop(back);
        cluster.advance(9 * MINUTE).await;
        assert!(client.sessions().await.expect("an answer").iter().any(|one| one.name == name));
        cluster.advance(2 * MINUTE).await;
        is_over(&named).await
    });
    assert!(ended.expect("a cluster"));
}
