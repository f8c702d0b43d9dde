//! What the journal has of a job whose input is stored.

use bytes::BytesMut;
use sortie_actors::data::exchange::{ToClient, ToServer};
use sortie_exec::task::encode_value;
use sortie_model::spec::Fan;
use sortie_model::{EntryId, IdempotencyKey};
use sortie_store::Store;
use sortie_store::journal::{InputState, JobFacts, JournalBounds};
use sortie_wire::map_items;
use sortie_wire::session_proto::{Answer, Ask};

use crate::harness::{House, Work, answer, soon};

/// A job of one line and a child that waits at its gate; its input is stored.
async fn start(house: &House) -> EntryId {
    let mut spec = House::spec(1, Work::of(0));
    spec.fan = Fan::Spread;
    let key = IdempotencyKey::try_from("fed".to_owned()).expect("a key");
    let mut end = house.open_request(Ask::Start { key, spec: Box::new(spec) });
    let Answer::Started(view) = answer(&mut end).await else { panic!("a job") };
    let mut items = BytesMut::new();
    let waits = encode_value(&(0_u64, 0_u64, false, 0_usize)).expect("it is small");
    map_items::append(&waits, &mut items).expect("it is small");
    let input = ToServer::Input { bytes: items.freeze(), last: true };
    end.sender.send(input).await.expect("the node is there");
    let stored = soon(end.receiver.next()).await.expect("the node answers");
    assert_eq!(stored, Some(ToClient::Answer(Answer::InputStored)));
    view.id
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
async fn of_a_job_that_is_over_no_input_is_kept() {
    let house = House::lasting().await;
    let job = start(&house).await;
    let files = house.store().join("input").read_dir().expect("a directory");
    assert_eq!(files.count(), 1, "while it goes on");
    house.let_pass(0);
    house.until_finished(job).await;
    house.node.shut_down().await;
    let (facts, files) = kept(&house, job);
    assert!(facts.finished().is_some(), "{facts:?}");
    assert_eq!((facts.input, files), (InputState::Nothing, 0));
}
