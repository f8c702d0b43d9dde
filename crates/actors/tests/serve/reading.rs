//! `get` and `explain`.

use sortie_model::selector::{Query, Selector};
use sortie_model::spec::{BodySpec, RunIn, Throttle};
use sortie_model::view::EntryView;
use sortie_model::{EntryId, IdempotencyKey, JobSpec, State, limits};
use sortie_wire::ErrorCode;
use sortie_wire::session_proto::{Answer, Ask, Explanation};

use crate::harness::{House, Work, select};

fn ids(entries: &[EntryView]) -> Vec<u64> {
    entries.iter().map(|entry| entry.id().0).collect()
}

#[tokio::test]
async fn get_shows_parents_and_children_where_they_are_asked_for() {
    let house = House::open().await;
    house.start(2, Work::of(1)).await;
    house.start(1, Work::FAILS).await;
    house.until_finished(EntryId(1)).await;
    house.until_finished(EntryId(4)).await;
    let all = house.get(Query::default()).await;
    assert_eq!((ids(&all.entries), all.total), (vec![1, 4], 2));
    let failed = Query { child_states: vec![State::Failed], ..Query::default() };
    assert_eq!(ids(&house.get(failed).await.entries), [1, 4, 5]);
    let page = Query { children: true, limit: 2, offset: 1, ..Query::default() };
    let page = house.get(page).await;
    assert_eq!((ids(&page.entries), page.total), (vec![2, 3], 5));
    let one = house.get(Query { selection: select("1 99"), ..Query::default() }).await;
    assert_eq!(one.troubles[0].error.code, ErrorCode::NotFound);
    let [EntryView::Job(job)] = one.entries.as_slice() else { panic!("{:?}", one.entries) };
    assert_eq!(job.children, [EntryId(2), EntryId(3)]);
}

async fn explain(house: &House, word: &str) -> Explanation {
    let selector: Selector = word.parse().expect("a selector");
    match house.ask(Ask::Explain(selector)).await {
        Answer::Explanation(explanation) => *explanation,
        other => panic!("an explanation, not {other:?}"),
    }
}

#[tokio::test]
async fn an_explanation_shows_failed_children_first_with_their_last_errors() {
    let house = House::open().await;
    house.start(30, Work::FAILS).await;
    house.until_finished(EntryId(1)).await;
    let screen = explain(&house, "1").await;
    assert_eq!(screen.children.len(), limits::EXPLAIN_CHILDREN);
    assert!(screen.children.iter().all(|child| child.last_errors == [b"it broke".to_vec()]));
    assert_eq!(screen.because[0], "30 of 30 children failed: 30 error");
    assert_eq!(screen.history.last().map(|(state, _)| *state), Some(State::Failed));
    let child = explain(&house, "7").await;
    assert_eq!((child.job.id, child.children.len()), (EntryId(1), 1));
    assert_eq!(child.children[0].child.id, EntryId(7));
}

#[tokio::test]
async fn a_child_that_waits_is_told_behind_whom_and_why() {
    let house = House::open().await;
    let mut spec = House::spec(4, Work::gated(1, 0));
    spec.throttle = Throttle::AtMost(std::num::NonZeroU32::MIN);
    house.start_spec(spec).await;
    let child = explain(&house, "5").await;
    let expected = "2 children start before it: the throttle lets 1 run at once";
    assert_eq!(child.because, [expected]);
    let job = explain(&house, "1").await;
    assert_eq!(job.because, ["3 children wait for their turn: the throttle lets 1 run at once"]);
    assert!(job.next.contains(&"sortie stop 1".to_owned()));
}

#[tokio::test]
async fn a_throttle_is_refused_for_a_child_and_changed_for_its_job() {
    let house = House::open().await;
    let mut spec = House::spec(4, Work::gated(1, 0));
    spec.throttle = Throttle::AtMost(std::num::NonZeroU32::MIN);
    house.start_spec(spec).await;
    let throttle = Throttle::Unlimited;
    let ask = Ask::SetThrottle { selection: select("5"), throttle };
    let Answer::Entries(refused) = house.ask(ask).await else { panic!("entries") };
    assert_eq!(refused.entries, []);
    let [trouble] = refused.troubles.as_slice() else { panic!("{refused:?}") };
    assert_eq!((trouble.about.as_str(), trouble.error.code), ("5", ErrorCode::IsChild));
    let ask = Ask::SetThrottle { selection: select("1"), throttle };
    let Answer::Entries(done) = house.ask(ask).await else { panic!("entries") };
    assert_eq!((done.entries.len(), done.troubles.len()), (1, 0));
    // The last one does not wait for the others any more.
    house.let_pass(3);
    assert_eq!(house.until_finished(EntryId(5)).await, State::Completed);
}

#[tokio::test]
async fn what_is_not_there_cannot_be_explained() {
    let house = House::open().await;
    let selector: Selector = "nobody".parse().expect("a selector");
    let answer = house.ask(Ask::Explain(selector)).await;
    assert!(matches!(answer, Answer::Refused(error) if error.code == ErrorCode::NotFound));
}

#[tokio::test]
async fn a_submission_that_says_too_much_is_refused_before_any_job_exists() {
    let house = House::open().await;
    let input = vec![0; limits::SPEC_BYTES].into();
    let body =
        BodySpec::Task { name: "work".to_owned(), input, types: None, run_in: RunIn::Thread };
    let spec = Box::new(JobSpec { body, ..House::spec(1, Work::of(1)) });
    let key = IdempotencyKey::try_from("key".to_owned()).expect("a key");
    for ask in [Ask::DryRun { spec: spec.clone() }, Ask::Start { key, spec }] {
        let Answer::Refused(error) = house.ask(ask).await else { panic!("a refusal") };
        assert_eq!(error.code, ErrorCode::Usage);
        assert!(error.message.contains(&limits::SPEC_BYTES.to_string()), "{error}");
    }
    assert_eq!(house.get(Query::default()).await.total, 0);
    assert_eq!(house.start(1, Work::of(1)).await.id, EntryId(1), "no number was used");
}
