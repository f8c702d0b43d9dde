//! Monitoring.

use std::time::Duration;

use sortie_actors::data::exchange::{ClientEnd, ToClient};
use sortie_model::restart::{Intensity, RestartType};
use sortie_model::spec::StopSpec;
use sortie_model::{EntryId, JobSpec, Reason, State};
use sortie_wire::ErrorCode;
use sortie_wire::session_proto::{Answer, Ask, EndNotice, Event};

use crate::harness::{House, Work, select, soon};

async fn monitor(house: &House, words: &str) -> ClientEnd {
    let mut end = house.open_request(Ask::Monitor { selection: select(words) });
    let first = soon(end.receiver.next()).await.expect("the node answers");
    assert_eq!(first, Some(ToClient::Answer(Answer::Done)));
    end
}

async fn next(end: &mut ClientEnd) -> Option<EndNotice> {
    match soon(end.receiver.next()).await.expect("the node answers") {
        Some(ToClient::Happening(happening)) => match happening.event {
            Event::Ended(notice) => Some(notice),
            other => panic!("an end, not {other:?}"),
        },
        None => None,
        other => panic!("a happening, not {other:?}"),
    }
}

/// Which life of which entry ended, and how.
async fn short(end: &mut ClientEnd) -> Option<(u64, u32, Option<State>)> {
    next(end).await.map(|notice| (notice.id.0, notice.incarnation.0, notice.state))
}

fn permanent(work: Work, restarts: u32) -> JobSpec {
    let mut spec = House::spec(1, work);
    spec.restart.restart = RestartType::Permanent;
    let hour = Duration::from_secs(3600);
    spec.restart.intensity = Intensity::new(restarts, hour).expect("within the bounds");
    spec
}

#[tokio::test]
async fn each_end_is_told_once_at_once_where_it_came_before_the_monitor() {
    let house = House::open().await;
    house.start(3, Work::gated(1, 0)).await;
    let mut early = monitor(&house, "1").await;
    house.let_pass(1);
    let second = (3, 0, Some(State::Completed));
    assert_eq!(short(&mut early).await, Some(second));
    let (mut late, mut one) = (monitor(&house, "1").await, monitor(&house, "3").await);
    assert_eq!(short(&mut late).await, Some(second));
    assert_eq!((short(&mut one).await, short(&mut one).await), (Some(second), None));
    house.let_pass(0);
    assert_eq!(short(&mut late).await, Some((2, 0, Some(State::Completed))));
    house.let_pass(2);
    for end in [&mut early, &mut late] {
        let mut rest = Vec::new();
        while let Some(notice) = short(end).await {
            rest.push(notice);
        }
        assert_eq!(rest.pop(), Some((1, 0, Some(State::Completed))), "the job is the last");
        assert_eq!(rest.last(), Some(&(4, 0, Some(State::Completed))));
    }
}

#[tokio::test]
async fn every_life_of_a_child_has_a_notice() {
    let house = House::open().await;
    house.start_spec(permanent(Work { fails: true, ..Work::gated(1, 0) }, 9)).await;
    let mut end = monitor(&house, "1").await;
    for life in 0..3 {
        house.let_pass(0);
        let notice = next(&mut end).await.expect("a notice");
        assert_eq!((notice.id, notice.job), (EntryId(2), EntryId(1)));
        assert_eq!((notice.incarnation.0, notice.state), (life, Some(State::Failed)));
        assert!(matches!(notice.reason, Some(Reason::Error { .. })), "{notice:?}");
    }
    let mut late = monitor(&house, "2").await;
    let stop = Ask::Stop { selection: select("1"), how: StopSpec::NOW, wait: true };
    house.ask(stop).await;
    let stopped = Some((2, 3, Some(State::Stopped)));
    assert_eq!((short(&mut end).await, short(&mut late).await), (stopped, stopped));
    assert_eq!(short(&mut end).await, Some((1, 0, Some(State::Stopped))));
    assert_eq!((short(&mut end).await, short(&mut late).await), (None, None));
}

#[tokio::test]
async fn a_reader_that_stalls_has_every_life_once_but_not_how_all_of_them_ended() {
    const LIVES: u32 = 6_000;
    let house = House::open().await;
    house.start_spec(permanent(Work::gated(1, 0), LIVES)).await;
    let mut end = monitor(&house, "1").await;
    for _ in 0..=LIVES {
        house.let_pass(0);
    }
    assert_eq!(house.until_finished(EntryId(1)).await, State::Failed);
    let mut lives = Vec::new();
    while let Some(notice) = next(&mut end).await {
        lives.push(notice);
    }
    let job = lives.pop().expect("the job's own");
    assert_eq!((job.ordinal, job.state), (None, Some(State::Failed)));
    let numbers: Vec<u32> = lives.iter().map(|notice| notice.incarnation.0).collect();
    assert_eq!(numbers, (0..=LIVES).collect::<Vec<_>>());
    assert!(lives.iter().any(|notice| notice.state.is_none()), "no reader was ever slow");
    let last = lives.pop().and_then(|notice| notice.reason);
    assert!(matches!(last, Some(Reason::RestartLimit { .. })), "{last:?}");
}

#[tokio::test]
async fn what_is_not_there_cannot_be_monitored() {
    let house = House::open().await;
    let mut end = house.open_request(Ask::Monitor { selection: select("7") });
    match soon(end.receiver.next()).await.expect("the node answers") {
        Some(ToClient::Answer(Answer::Refused(error))) => {
            assert_eq!(error.code, ErrorCode::NotFound);
        }
        other => panic!("a refusal, not {other:?}"),
    }
}
