use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use sortie_engine::untold::Reached;
use sortie_model::{Body, ChildIncarnation, NodeId, Seq, Stream, Timestamp, limits};
use sortie_wire::host_proto::{ChildOutcome, ChildPosition, OpenQuestion, Verdict};
use uuid::Uuid;

use super::*;
use crate::data::credit::PerNode;

const JOB: JobInstance = JobInstance(Uuid::from_u128(7));
const KEY: ChildKey = ChildKey { job: JOB, ordinal: Ordinal(0) };
const SESSIONS: usize = 80;
const NODE: NodeId = NodeId([1; 16]);

/// How children's records leave.
#[derive(Clone, Copy)]
enum Way {
    Shared,
    Own,
}

impl Way {
    const fn bound(self) -> usize {
        match self {
            Self::Shared => limits::LINK_SHARED_CREDIT_BYTES,
            Self::Own => limits::LINK_CREDIT_BYTES - limits::LINK_SHARED_CREDIT_BYTES,
        }
    }

    /// What one record has: so much that the sessions want far more than the bound.
    const fn body(self) -> usize {
        match self {
            Self::Shared => 8 * limits::KIB,
            Self::Own => limits::RECORD_BYTES,
        }
    }
}

struct Session {
    outbox: Arc<Outbox>,
    bulk: Arc<Bulk>,
    written: AtomicUsize,
}

impl Session {
    fn new(number: usize, credit: &Arc<OwnerCredit>) -> Arc<Self> {
        let session = SessionInstance(Uuid::from_u128(number as u128));
        let outbox = Outbox::new((NODE, session), credit, None);
        let bulk = outbox.open_bulk(KEY, None);
        Arc::new(Self { outbox, bulk, written: AtomicUsize::new(0) })
    }

    /// Writes without an end, as fast as it may.
    async fn write(self: Arc<Self>, way: Way) {
        let bytes = Bytes::from(vec![0; way.body()]);
        loop {
            let (mut held, mut written) = (None, false);
            while !written {
                let seq = Seq(self.written.load(Relaxed) as u64);
                let body = Body::Bytes(bytes.clone());
                let record = Record { seq, stream: Stream::Output, time: Timestamp(0), body };
                let refused = match way {
                    Way::Shared => self.outbox.try_record((JOB, Ordinal(0)), record, &mut held),
                    Way::Own => self.bulk.try_record(record, &mut held),
                };
                written = refused.is_ok();
                if !written {
                    held = Some(match way {
                        Way::Shared => self.outbox.wait_for_room(bytes.len()).await,
                        Way::Own => self.bulk.wait_for_room(bytes.len()).await,
                    });
                }
            }
            self.written.fetch_add(1, Relaxed);
        }
    }

    fn held(&self) -> usize {
        self.outbox.state().held.bytes() + self.bulk.held()
    }

    /// The owner stores everything.
    fn store(&self) {
        let mut state = self.outbox.state();
        shared::take_pending(&mut state);
        let reports = state.last_number;
        drop(state);
        let (next, credit) = (Seq(self.written.load(Relaxed) as u64), u32::MAX);
        let children = vec![ChildPosition { job: JOB, ordinal: Ordinal(0), next, credit }];
        self.outbox.acknowledge(&Acknowledge { session: self.outbox.session, reports, children });
    }
}

async fn check(way: Way) {
    let credits: PerNode<OwnerCredit> = PerNode::default();
    let owner = NodeId([1; 16]);
    let sessions: Vec<_> =
        (0..SESSIONS).map(|number| Session::new(number, &credits.of(owner))).collect();
    let writers: Vec<_> =
        sessions.iter().map(|session| tokio::spawn(Arc::clone(session).write(way))).collect();
    let all = async {
        // The last session got nothing while the others filled the link, and has its turn now.
        while sessions.iter().any(|session| session.written.load(Relaxed) < 50) {
            tokio::task::yield_now().await;
            let held: usize = sessions.iter().map(|session| session.held()).sum();
            assert!(held <= way.bound(), "{held} bytes");
            sessions.iter().for_each(|session| session.store());
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all).await.expect("nobody starves");
    writers.iter().for_each(tokio::task::JoinHandle::abort);
    for writer in writers {
        assert!(writer.await.expect_err("it has no end").is_cancelled());
    }
    sessions.iter().for_each(|session| session.outbox.close());
    let mut none = None;
    let part = match way {
        Way::Shared => &sessions[0].outbox.credit.shared,
        Way::Own => &sessions[0].outbox.credit.own,
    };
    assert!(part.claim(&mut none, way.bound()).is_some(), "everything was given back");
}

#[tokio::test]
async fn many_sessions_share_what_their_link_may_hold_of_small_results() {
    check(Way::Shared).await;
}

#[tokio::test]
async fn many_sessions_share_what_their_link_may_hold_of_large_results() {
    check(Way::Own).await;
}

#[tokio::test]
async fn large_results_leave_room_for_small_ones() {
    let credits: PerNode<OwnerCredit> = PerNode::default();
    let owner = NodeId([1; 16]);
    let credit = credits.of(owner);
    let mut none = None;
    let _all = credit.own.claim(&mut none, usize::MAX).expect("nobody else is there");
    let session = Session::new(0, &credits.of(owner));
    let writer = tokio::spawn(Arc::clone(&session).write(Way::Shared));
    let written = async {
        while session.written.load(Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), written).await.expect("it is not kept waiting");
    writer.abort();
}

/// The reports among what is to be sent.
fn reports_of(sent: &[Sent]) -> impl Iterator<Item = &Report> {
    sent.iter().filter_map(|sent| match &sent.head {
        Head::Report(report) => Some(report.as_ref()),
        Head::Checkpoints(_) => None,
    })
}

#[tokio::test]
async fn a_host_that_begins_anew_numbers_its_reports_behind_those_that_are_stored() {
    let (link, _kept) = crate::data::attachment::tests::link().await;
    let credit: Arc<OwnerCredit> = PerNode::default().of(NodeId([1; 16]));
    let outbox = Outbox::new((NODE, SessionInstance(Uuid::from_u128(1))), &credit, None);
    for (reports, number) in [(7, 8), (u64::MAX, u64::MAX)] {
        let resume =
            Resume { session: outbox.session, reports, children: Vec::new(), jobs: Vec::new() };
        outbox.attach(&link, Some(&resume));
        let incarnation = ChildIncarnation(0);
        outbox.started(JOB, ChildStart { ordinal: Ordinal(0), incarnation, time: Timestamp(0) });
        let sent = shared::take_pending(&mut outbox.state());
        assert_eq!(sent.iter().map(|sent| sent.number).collect::<Vec<_>>(), [number]);
    }
}

#[tokio::test]
async fn questions_that_gather_are_cut_into_reports_that_fit_and_give_their_credit_back() {
    let credit: Arc<OwnerCredit> = PerNode::default().of(NodeId([1; 16]));
    let outbox = Outbox::new((NODE, SessionInstance(Uuid::from_u128(1))), &credit, None);
    let children = 2 * limits::FRAME_BYTES / (4 * limits::PROMPT_BYTES);
    for child in 0..children as u32 {
        let prompt = "x".repeat(limits::PROMPT_BYTES);
        let held = outbox.wait_for_question(ask_bytes(prompt.len())).await;
        let number = sortie_model::QuestionNumber(1);
        let ask = ChildAsk {
            ordinal: Ordinal(child),
            incarnation: ChildIncarnation(0),
            number,
            open: Some(OpenQuestion { prompt, time: Timestamp(0) }),
            taken: sortie_model::QuestionNumber::NONE,
        };
        outbox.asked(JOB, ask, Some(held));
    }
    let sent = shared::take_pending(&mut outbox.state());
    assert!(sent.len() > 1, "one report is too large for a frame");
    let asked: Vec<u32> =
        reports_of(&sent).flat_map(|report| &report.asked).map(|ask| ask.ordinal.0).collect();
    assert_eq!(asked, (0..children as u32).collect::<Vec<_>>());
    let frames = reports_of(&sent).map(sortie_wire::codec::encoded_length);
    assert!(frames.into_iter().all(|length| length.expect("it fits") < limits::FRAME_BYTES / 2));
    let (reports, children) = (sent.len() as u64, Vec::new());
    outbox.acknowledge(&Acknowledge { session: outbox.session, reports, children });
    let all = credit.shared.claim(&mut None, limits::LINK_SHARED_CREDIT_BYTES);
    assert!(all.is_some(), "everything was given back");
}

#[tokio::test]
async fn words_about_suspensions_wait_for_an_owner_that_stores_nothing_one_for_each_child() {
    let credit: Arc<OwnerCredit> = PerNode::default().of(NodeId([1; 16]));
    let outbox = Outbox::new((NODE, SessionInstance(Uuid::from_u128(1))), &credit, None);
    let moved = |child, number| {
        let (ordinal, incarnation) = (Ordinal(child), ChildIncarnation(0));
        ChildMotion { ordinal, incarnation, number, motion: Motion::Suspended }
    };
    let take = || shared::take_pending(&mut outbox.state());
    for number in 0..2 * limits::REPORTS_AHEAD as u64 {
        outbox.moved(JOB, moved(0, number));
        assert_eq!(take().len(), usize::from(number < limits::REPORTS_AHEAD as u64));
    }
    // What has credit, or comes once, is not kept waiting.
    let incarnation = ChildIncarnation(0);
    outbox.started(JOB, ChildStart { ordinal: Ordinal(0), incarnation, time: Timestamp(0) });
    let sent = take();
    assert_eq!(reports_of(&sent).map(|report| report.moved.len()).collect::<Vec<_>>(), [0]);
    let children = limits::FRAME_ITEMS as u32 + 1;
    (1..children).for_each(|child| outbox.moved(JOB, moved(child, 1)));
    assert!(take().is_empty());
    let (reports, none) = (limits::REPORTS_AHEAD as u64, Vec::new());
    outbox.acknowledge(&Acknowledge { session: outbox.session, reports, children: none });
    let sent = take();
    let words: Vec<_> = reports_of(&sent).flat_map(|report| report.moved.clone()).collect();
    let last = moved(0, 2 * limits::REPORTS_AHEAD as u64 - 1);
    assert_eq!((words.len(), words.first()), (children as usize, Some(&last)));
    assert!(reports_of(&sent).all(|report| report.moved.len() <= limits::FRAME_ITEMS));
}

/// An outbox whose owner wants to know of checkpoints, or not, and the credit of its owner.
fn telling(tells: bool) -> (Arc<Outbox>, Arc<OwnerCredit>) {
    let credit: Arc<OwnerCredit> = PerNode::default().of(NodeId([1; 16]));
    let outbox = Outbox::new((NODE, SessionInstance(Uuid::from_u128(1))), &credit, None);
    outbox.state().tells_checkpoints = tells;
    (outbox, credit)
}

fn record(seq: u64) -> Record {
    let body = Body::Bytes(Bytes::from_static(b"x"));
    Record { seq: Seq(seq), stream: Stream::Output, time: Timestamp(0), body }
}

fn reached(next: u64, length: usize) -> Reached {
    let value = Bytes::from(vec![7; length]);
    Reached { incarnation: ChildIncarnation(0), next: Seq(next), value }
}

fn still(ordinal: u32) -> ChildMotion {
    let (ordinal, incarnation) = (Ordinal(ordinal), ChildIncarnation(0));
    ChildMotion { ordinal, incarnation, number: 1, motion: Motion::Suspended }
}

/// What is to be sent now: the numbers of records, checkpoints, words about suspensions and ends.
fn sent(outbox: &Outbox) -> Vec<(usize, usize, usize, usize)> {
    let sent = shared::take_pending(&mut outbox.state());
    let of = sent.iter().map(|sent| match &sent.head {
        Head::Report(report) => (report.records.len(), 0, report.moved.len(), report.ended.len()),
        Head::Checkpoints(told) => {
            let lengths = told.reached.iter().map(|head| head.length as usize);
            assert!(lengths.eq(sent.payload.iter().map(Bytes::len)));
            (0, told.reached.len(), 0, 0)
        }
    });
    of.collect()
}

fn acknowledge(outbox: &Outbox, children: Vec<ChildPosition>) {
    let reports = outbox.state().last_number;
    outbox.acknowledge(&Acknowledge { session: outbox.session, reports, children });
}

#[tokio::test]
async fn a_checkpoint_goes_behind_what_was_said_before_it_and_ahead_of_what_it_holds_back() {
    let (outbox, _credit) = telling(true);
    outbox.try_record((JOB, Ordinal(0)), record(0), &mut None).expect("room");
    outbox.reached(KEY, reached(1, 5));
    assert_eq!(sent(&outbox), [(1, 0, 0, 0)], "of one that runs it waits");
    outbox.try_record((JOB, Ordinal(0)), record(1), &mut None).expect("room");
    outbox.reached(KEY, reached(2, 5));
    outbox.moved(JOB, still(0));
    assert_eq!(sent(&outbox), [(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0)]);
    outbox.reached(KEY, reached(2, 5));
    outbox.ended(JOB, end(0, 2));
    assert_eq!(sent(&outbox), [(0, 1, 0, 0), (0, 0, 0, 1)]);
    // Of a life that is over nothing is told again.
    let (link, _kept) = crate::data::attachment::tests::link().await;
    let session = outbox.session;
    let resume = Resume { session, reports: 0, children: Vec::new(), jobs: vec![JOB] };
    outbox.attach(&link, Some(&resume));
    assert!(outbox.state().tells_checkpoints && !outbox.state().untold.is_waiting());
    // What nobody wants any more takes no room.
    outbox.forget(JOB);
    outbox.reached(KEY, reached(0, limits::CHECKPOINT_BYTES));
    outbox.moved(JOB, still(0));
    assert_eq!(sent(&outbox), [(0, 1, 0, 0), (0, 0, 1, 0)]);
}

#[tokio::test]
async fn checkpoints_on_their_way_are_bounded_and_words_about_their_children_wait_with_them() {
    let (outbox, _credit) = telling(true);
    let children = 2 * (limits::CHECKPOINTS_AHEAD_BYTES / limits::CHECKPOINT_BYTES) as u32;
    for child in 0..children {
        let key = ChildKey { job: JOB, ordinal: Ordinal(child) };
        outbox.reached(key, reached(0, limits::CHECKPOINT_BYTES));
        outbox.moved(JOB, still(child));
    }
    let mut told = 0;
    while told < children as usize {
        let [(0, some, 0, 0), (0, 0, words, 0)] = sent(&outbox)[..] else { panic!("both") };
        assert!(
            some == words && some * limits::CHECKPOINT_BYTES <= limits::CHECKPOINTS_AHEAD_BYTES
        );
        assert_eq!(sent(&outbox), [], "there is no room");
        told += some;
        acknowledge(&outbox, Vec::new());
    }
    assert_eq!(told, children as usize);
}

fn end(ordinal: u32, next: u64) -> ChildEnd {
    let (begin_time, outcome) = (None, ChildOutcome::of(Verdict::Stopped));
    let (incarnation, end, end_time) = (ChildIncarnation(0), Seq(next), Timestamp(0));
    ChildEnd { ordinal: Ordinal(ordinal), incarnation, end, begin_time, end_time, outcome }
}

#[tokio::test]
async fn an_end_waits_for_the_checkpoint_before_it_that_finds_no_room() {
    let (outbox, _credit) = telling(true);
    let children = 2 * (limits::CHECKPOINTS_AHEAD_BYTES / limits::CHECKPOINT_BYTES) as u32;
    for child in 0..children {
        let key = ChildKey { job: JOB, ordinal: Ordinal(child) };
        outbox.reached(key, reached(0, limits::CHECKPOINT_BYTES));
        outbox.ended(JOB, end(child, 0));
    }
    let mut told = 0;
    while told < children as usize {
        let [(0, some, 0, 0), (0, 0, 0, ends)] = sent(&outbox)[..] else { panic!("both") };
        assert_eq!(some, ends);
        assert_eq!(sent(&outbox), [], "there is no room");
        told += some;
        acknowledge(&outbox, Vec::new());
    }
    assert_eq!(told, children as usize);
}

#[tokio::test]
async fn an_end_on_a_stream_of_its_own_waits_until_the_checkpoint_before_it_is_stored() {
    let (outbox, _credit) = telling(true);
    let bulk = outbox.open_bulk(KEY, None);
    bulk.try_record(record(0), &mut None).expect("room");
    bulk.sends();
    outbox.reached(KEY, reached(1, 5));
    outbox.ended_apart(KEY, &bulk, end(0, 1));
    assert_eq!((sent(&outbox), bulk.has_ended()), (vec![], false));
    let (next, credit) = (Seq(1), u32::MAX);
    let position = ChildPosition { job: JOB, ordinal: Ordinal(0), next, credit };
    acknowledge(&outbox, vec![position]);
    assert_eq!((sent(&outbox), bulk.has_ended()), (vec![(0, 1, 0, 0)], false));
    acknowledge(&outbox, Vec::new());
    assert!(bulk.has_ended());
    // One that has none waits for nothing.
    let other = ChildKey { job: JOB, ordinal: Ordinal(1) };
    let bulk = outbox.open_bulk(other, None);
    outbox.ended_apart(other, &bulk, end(1, 0));
    assert!(bulk.has_ended());
    // What nobody wants any more is not kept.
    let third = ChildKey { job: JOB, ordinal: Ordinal(2) };
    let bulk = outbox.open_bulk(third, None);
    outbox.reached(third, reached(0, 5));
    outbox.ended_apart(third, &bulk, end(2, 0));
    assert!(!bulk.has_ended());
    outbox.forget(JOB);
    assert!(outbox.state().ends.is_empty());
}

#[tokio::test]
async fn a_checkpoint_waits_for_the_output_before_it_that_has_a_stream_of_its_own() {
    let (outbox, _credit) = telling(true);
    let bulk = outbox.open_bulk(KEY, None);
    bulk.try_record(record(0), &mut None).expect("room");
    bulk.sends();
    outbox.reached(KEY, reached(1, 5));
    outbox.moved(JOB, still(0));
    assert_eq!(sent(&outbox), [(0, 0, 1, 0)], "that it stands still is so, all the same");
    let (next, credit) = (Seq(1), u32::MAX);
    let position = ChildPosition { job: JOB, ordinal: Ordinal(0), next, credit };
    acknowledge(&outbox, vec![position]);
    assert_eq!(sent(&outbox), [(0, 1, 0, 0)]);
}

#[tokio::test]
async fn an_owner_of_an_earlier_version_hears_nothing_of_checkpoints() {
    let (outbox, _credit) = telling(false);
    outbox.reached(KEY, reached(0, 5));
    outbox.moved(JOB, still(0));
    assert_eq!(sent(&outbox), [(0, 0, 1, 0)]);
}
