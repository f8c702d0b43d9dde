//! A job whose input is stored: what the journal has of it, and what a start says that is repeated
//! by its key.

use bytes::BytesMut;
use sortie_actors::data::exchange::{ClientEnd, ToServer};
use sortie_exec::task::encode_value;
use sortie_model::spec::Fan;
use sortie_model::{EntryId, IdempotencyKey, limits};
use sortie_store::journal::{InputState, JobFacts, JournalBounds};
use sortie_store::{InputMark, Store};
use sortie_wire::session_proto::{Answer, Ask};
use sortie_wire::{ErrorCode, map_items};

use crate::harness::{House, Work, answer};

fn start_of(key: &str) -> Ask {
    let mut spec = House::spec(1, Work::of(0));
    spec.fan = Fan::Spread;
    let key = IdempotencyKey::try_from(key.to_owned()).expect("a key");
    Ask::Start { key, spec: Box::new(spec) }
}

/// Asks for a job of lines, by its key.
async fn ask(house: &House) -> (EntryId, ClientEnd) {
    let mut end = house.open_request(start_of("fed"));
    let Answer::Started(view) = answer(&mut end).await else { panic!("a job") };
    (view.id, end)
}

/// Sends it a line, whose child waits at its gate.
async fn feed(end: &mut ClientEnd, last: bool) {
    let mut items = BytesMut::new();
    let waits = encode_value(&(0_u64, 0_u64, false, 0_usize)).expect("it is small");
    map_items::append(&waits, &mut items).expect("it is small");
    let input = ToServer::Input { bytes: items.freeze(), last };
    end.sender.send(input).await.expect("the node is there");
}

/// A job of one line, whose input is stored.
async fn start(house: &House) -> EntryId {
    let (job, mut end) = ask(house).await;
    feed(&mut end, true).await;
    assert_eq!(answer(&mut end).await, Answer::InputStored);
    job
}

/// The job in the journal of a house that is gone, and how many inputs its next node leaves there.
fn kept(house: &House, job: EntryId) -> (JobFacts, usize) {
    let store = Store::open(&house.store(), JournalBounds::default()).expect("a store");
    let journal = store.journal();
    let session = journal.sessions().expect("readable").remove(0);
    let (_, entry) = journal.job(session.instance, job).expect("readable").expect("a job");
    store.remove_left_inputs().expect("a disk that works");
    (entry.facts, store.inputs().jobs().expect("a directory").count())
}

#[tokio::test]
async fn of_a_map_that_is_over_the_lines_stay_until_it_is_removed() {
    let house = House::lasting().await;
    let job = start(&house).await;
    let files = house.store().join("input").read_dir().expect("a directory");
    assert_eq!(files.count(), 1, "while it goes on");
    house.let_pass(0);
    house.until_finished(job).await;
    house.node.shut_down().await;
    let (facts, files) = kept(&house, job);
    assert!(facts.finished().is_some(), "{facts:?}");
    assert!(matches!(facts.input, InputState::Whole(_)), "{facts:?}");
    assert_eq!(files, 1, "the next node leaves it there");
}

#[test]
fn of_what_is_over_no_more_stays_than_what_its_children_were_told() {
    let whole = |bytes| InputState::Whole(InputMark { bytes, sum: 1 });
    assert_eq!(whole(limits::MAP_KEPT_BYTES).behind_its_end(true), whole(limits::MAP_KEPT_BYTES));
    for gone in [
        whole(limits::MAP_KEPT_BYTES + 1).behind_its_end(true),
        whole(1).behind_its_end(false),
        InputState::Begun(InputMark { bytes: 1, sum: 1 }).behind_its_end(true),
    ] {
        assert_eq!(gone, InputState::Nothing);
    }
}

#[tokio::test]
async fn a_start_that_is_repeated_by_its_key_ends_with_the_input_of_the_first_one() {
    let house = House::lasting().await;
    let (job, mut first) = ask(&house).await;
    feed(&mut first, false).await;
    let (again, mut second) = ask(&house).await;
    assert_eq!(again, job);
    feed(&mut first, true).await;
    for end in [&mut first, &mut second] {
        assert_eq!(answer(end).await, Answer::InputStored);
    }
    house.node.shut_down().await;
}

#[tokio::test]
async fn a_start_is_not_repeated_by_its_key_where_only_a_part_of_its_input_came() {
    let house = House::lasting().await;
    let (job, mut first) = ask(&house).await;
    feed(&mut first, false).await;
    let (_, mut second) = ask(&house).await;
    drop(first);
    let Answer::Refused(error) = answer(&mut second).await else { panic!("it came in part") };
    assert_eq!(error.code, ErrorCode::KeyReused, "{error:?}");
    // Nor once it is over, and its input is no more.
    house.let_pass(0);
    house.until_finished(job).await;
    let (again, mut third) = ask(&house).await;
    assert_eq!(again, job);
    assert_eq!(answer(&mut third).await, Answer::Refused(error));
    house.node.shut_down().await;
}
