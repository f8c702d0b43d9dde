//! Watching.

use sortie_actors::data::exchange::{ClientEnd, ToClient};
use sortie_model::{EntryId, State};
use sortie_wire::ErrorCode;
use sortie_wire::session_proto::{Answer, Ask, Event};

use crate::harness::{House, Work, select, soon};

async fn watch(house: &House, words: &str) -> ClientEnd {
    let mut end = house.open_request(Ask::Watch { selection: select(words) });
    let first = soon(end.receiver.next()).await.expect("the node answers");
    assert_eq!(first, Some(ToClient::Answer(Answer::Done)));
    end
}

async fn next(end: &mut ClientEnd) -> Option<Event> {
    match soon(end.receiver.next()).await.expect("the node answers") {
        Some(ToClient::Happening(happening)) => Some(happening.event),
        None => None,
        other => panic!("a happening, not {other:?}"),
    }
}

/// The state changes up to the end of that job.
async fn until_over(end: &mut ClientEnd, over: EntryId) -> Vec<(u64, State)> {
    let mut changes = Vec::new();
    loop {
        if let Some(Event::Changed { id, state, .. }) = next(end).await {
            changes.push((id.0, state));
            if id == over && state.is_finished() {
                return changes;
            }
        }
    }
}

#[tokio::test]
async fn a_watcher_of_everything_hears_of_jobs_to_come() {
    let house = House::open().await;
    let mut end = watch(&house, "").await;
    house.start(2, Work::of(1)).await;
    assert_eq!(next(&mut end).await, Some(Event::Accepted { job: EntryId(1) }));
    let mut changes = until_over(&mut end, EntryId(1)).await;
    assert_eq!(changes.pop(), Some((1, State::Completed)));
    let done: Vec<_> = changes.iter().filter(|(_, state)| state.is_finished()).collect();
    assert_eq!(done.len(), 2, "the children's ends come before their parent's: {changes:?}");
}

#[tokio::test]
async fn a_watcher_of_one_job_hears_of_nothing_else() {
    let house = House::open().await;
    house.start(1, Work::gated(1, 0)).await;
    house.start(1, Work::of(1)).await;
    house.until_finished(EntryId(3)).await;
    let mut end = watch(&house, "1").await;
    house.start(1, Work::of(1)).await;
    house.until_finished(EntryId(5)).await;
    house.let_pass(0);
    let changes = until_over(&mut end, EntryId(1)).await;
    assert!(changes.iter().all(|(id, _)| *id <= 2), "{changes:?}");
}

#[tokio::test]
async fn a_glob_names_jobs_to_come() {
    let house = House::open().await;
    let mut end = watch(&house, "web*").await;
    house.start(1, Work::of(1)).await;
    house.until_finished(EntryId(1)).await;
    let mut spec = House::spec(1, Work::of(1));
    spec.name = Some("web1".parse().expect("a name"));
    house.start_spec(spec).await;
    assert_eq!(next(&mut end).await, Some(Event::Accepted { job: EntryId(3) }));
}

#[tokio::test]
async fn an_unknown_job_cannot_be_watched_and_a_watch_ends_with_its_session() {
    let house = House::open().await;
    let refused = house.ask(Ask::Watch { selection: select("7") }).await;
    assert!(matches!(refused, Answer::Refused(error) if error.code == ErrorCode::NotFound));
    let mut end = watch(&house, "").await;
    house.node.shut_down().await;
    let over = loop {
        match soon(end.receiver.next()).await.expect("the node answers") {
            Some(ToClient::Happening(_)) => {}
            Some(ToClient::Answer(Answer::Refused(error))) => break error.code,
            other => panic!("a happening or the reason of the end, not {other:?}"),
        }
    };
    assert_eq!(over, ErrorCode::ShuttingDown);
}
