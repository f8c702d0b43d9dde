use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use sortie_model::{Body, ChildIncarnation, NodeId, Seq, Stream, Timestamp};
use sortie_wire::host_proto::{ChildPosition, OpenQuestion};
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
        let bulk = outbox.open_bulk(KEY);
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
        sent.iter().flat_map(|report| &report.head.asked).map(|ask| ask.ordinal.0).collect();
    assert_eq!(asked, (0..children as u32).collect::<Vec<_>>());
    let frames = sent.iter().map(|report| sortie_wire::codec::encoded_length(report.head.as_ref()));
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
        ChildMotion { ordinal, incarnation, number, motion: sortie_model::Motion::Suspended }
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
    assert_eq!(sent.iter().map(|report| report.head.moved.len()).collect::<Vec<_>>(), [0]);
    let children = limits::FRAME_ITEMS as u32 + 1;
    (1..children).for_each(|child| outbox.moved(JOB, moved(child, 1)));
    assert!(take().is_empty());
    let (reports, none) = (limits::REPORTS_AHEAD as u64, Vec::new());
    outbox.acknowledge(&Acknowledge { session: outbox.session, reports, children: none });
    let sent = take();
    let words: Vec<_> = sent.iter().flat_map(|report| report.head.moved.clone()).collect();
    let last = moved(0, 2 * limits::REPORTS_AHEAD as u64 - 1);
    assert_eq!((words.len(), words.first()), (children as usize, Some(&last)));
    assert!(sent.iter().all(|report| report.head.moved.len() <= limits::FRAME_ITEMS));
}
