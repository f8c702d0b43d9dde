use std::sync::Arc;

use bytes::Bytes;
use sortie_link::CloseCode;
use sortie_model::{ChildKey, JobInstance, NodeId, Ordinal, SessionInstance, limits};
use sortie_wire::frame::Message;
use sortie_wire::host_proto::{InputPosition, InputProgress, InputRead, InputStream};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::feed::{FalsePosition, InputFeeds, InputTraffic};
use super::inlet::{Inlet, InputPorts};
use crate::data::credit::PerNode;
use crate::data::input_log::{InputLog, Pace, Piece};
use crate::data::linked::{Ends, linked};
use crate::data::outbox::Outbox;

const JOB: JobInstance = JobInstance(Uuid::from_u128(7));
const SESSION: SessionInstance = SessionInstance(Uuid::from_u128(1));

/// An owner with one input, and a node whose children read it.
struct House {
    log: Arc<InputLog>,
    traffic: Arc<InputTraffic>,
    feeds: Arc<InputFeeds>,
    ports: Arc<InputPorts>,
    outbox: Arc<Outbox>,
    _directory: tempfile::TempDir,
}

impl House {
    fn new(readers: u64, pace: Pace) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let traffic: Arc<InputTraffic> = Arc::default();
        Self {
            log: InputLog::new(directory.path(), pace, readers),
            feeds: InputFeeds::new(SESSION, Arc::clone(&traffic)),
            traffic,
            ports: Arc::default(),
            outbox: Outbox::new(
                (NodeId([1; 16]), SESSION),
                &PerNode::default().of(NodeId([1; 16])),
                None,
            ),
            _directory: directory,
        }
    }

    fn child(&self, ordinal: u32) -> Inlet {
        self.ports.open(ChildKey { job: JOB, ordinal: Ordinal(ordinal) }, 0, &self.outbox)
    }

    fn told(&self, ends: &Ends, read: Vec<InputPosition>) -> Result<(), FalsePosition> {
        let log = || Some(Arc::clone(&self.log));
        read.into_iter().try_for_each(|position| self.feeds.on_read(&ends.here, position, log))
    }

    /// Carries words and input over a link until it breaks.
    async fn carry(&self, ends: &mut Ends) {
        let (here, there) = (ends.here.clone(), ends.there.clone());
        let mut streams = JoinSet::new();
        loop {
            tokio::select! {
                frame = ends.here_control.next() => match frame {
                    Some(frame) if frame.kind == InputRead::KIND => {
                        let read: InputRead = frame.open().expect("positions");
                        let log = || Some(Arc::clone(&self.log));
                        for position in read.children {
                            self.feeds.on_read(&here, position, log).expect("true positions");
                        }
                    }
                    Some(_) => {}
                    None => return,
                },
                stream = there.accept_uni() => {
                    let Ok(mut stream) = stream else { return };
                    let ports = Arc::clone(&self.ports);
                    streams.spawn(async move {
                        let Ok(Some(first)) = stream.next().await else { return };
                        if let Ok(InputStream { ordinal, .. }) = first.open() {
                            ports.take_in(ordinal, &mut stream).await;
                        }
                    });
                }
            }
        }
    }

    /// A new connection, on which the node names its children as a resume makes it do.
    async fn connect(&self) -> Ends {
        let ends = linked().await;
        self.outbox.attach(&ends.there, None);
        self.told(&ends, self.ports.positions(JOB)).expect("true positions");
        self.feeds.on_all_named(&ends.here);
        ends
    }
}

fn bytes(from: usize, length: usize) -> Vec<u8> {
    (from..from + length).map(|at| (at / 3 % 251) as u8).collect()
}

async fn read_all(mut child: Inlet) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        match child.next().await {
            Piece::Bytes(bytes) => all.extend_from_slice(&bytes),
            Piece::End => return all,
            Piece::Lost => panic!("lost after {} bytes", all.len()),
        }
    }
}

async fn write(house: &House, length: usize) {
    for from in (0..length).step_by(100_000) {
        let piece = bytes(from, 100_000.min(length - from));
        house.log.write(Bytes::from(piece)).await.expect("it is stored");
    }
    house.log.finish();
}

#[tokio::test]
async fn a_child_reads_on_where_it_was_when_the_connection_broke() {
    const LENGTH: usize = 6_000_000;
    let house = House::new(1, Pace::Readers);
    let mut child = house.child(0);
    let (mut got, mut connections) = (Vec::new(), 0);
    let reading = async {
        loop {
            let mut ends = house.connect().await;
            connections += 1;
            let link = ends.here.clone();
            let carry = house.carry(&mut ends);
            tokio::pin!(carry);
            while got.len() < connections * 700_000 {
                let piece = tokio::select! {
                    piece = child.next() => piece,
                    () = &mut carry => panic!("the link is up"),
                };
                match piece {
                    Piece::Bytes(bytes) => got.extend_from_slice(&bytes),
                    Piece::End => return,
                    Piece::Lost => panic!("lost after {} bytes", got.len()),
                }
            }
            link.close(CloseCode::SILENT, "cut");
        }
    };
    tokio::join!(write(&house, LENGTH), reading);
    assert!(got == bytes(0, LENGTH), "{} bytes", got.len());
    assert!(connections > 5, "{connections}");
}

#[tokio::test]
async fn children_that_do_not_read_keep_no_other_from_its_input_and_the_link_bounded() {
    const LENGTH: usize = 3_000_000;
    const STALLED: u32 = 300;
    let house = House::new(u64::from(STALLED) + 1, Pace::Store);
    write(&house, LENGTH).await;
    let stalled: Vec<_> = (0..STALLED).map(|ordinal| house.child(ordinal)).collect();
    let mut ends = house.connect().await;
    let bound = (limits::LINK_INPUT_BYTES + stalled.len() * limits::INPUT_LEAST_BYTES) as u64;
    let carried = async {
        tokio::select! {
            () = house.carry(&mut ends) => panic!("the link is up"),
            got = async {
                // As much as they may have is on its way to the others first.
                while house.traffic.unread() < limits::LINK_INPUT_BYTES as u64 * 9 / 10 {
                    tokio::task::yield_now().await;
                }
                read_all(house.child(STALLED)).await
            } => got,
        }
    };
    let got = tokio::time::timeout(std::time::Duration::from_secs(60), carried).await;
    assert!(got.expect("it gets its input") == bytes(0, LENGTH));
    assert!(house.traffic.unread() <= bound, "{}", house.traffic.unread());
    drop(stalled);
    house.feeds.clear();
}

#[tokio::test]
async fn a_child_that_reads_no_more_holds_nobody_up() {
    const LENGTH: usize = 4_000_000;
    let house = House::new(2, Pace::Readers);
    let (closes, reads) = (house.child(0), house.child(1));
    let mut ends = house.connect().await;
    let both = async {
        let first = tokio::join!(write(&house, LENGTH), read_all(reads), async {
            let mut closes = closes;
            closes.next().await
        });
        first.1
    };
    let got = tokio::select! {
        () = house.carry(&mut ends) => panic!("the link is up"),
        got = tokio::time::timeout(std::time::Duration::from_secs(60), both) => got,
    };
    assert!(got.expect("the other one gets all") == bytes(0, LENGTH));
}

#[tokio::test]
async fn a_child_that_was_closed_is_not_fed_again_and_a_false_position_is_refused() {
    let house = House::new(1, Pace::Store);
    write(&house, 1_000).await;
    let ends = linked().await;
    let say = |read| {
        let position = InputPosition { job: JOB, ordinal: Ordinal(0), read };
        house.told(&ends, vec![position])
    };
    assert_eq!(say(InputProgress::UpTo(0)), Ok(()));
    assert_eq!(say(InputProgress::UpTo(1_001)), Err(FalsePosition));
    assert_eq!(say(InputProgress::Closed), Ok(()));
    assert_eq!(say(InputProgress::UpTo(0)), Ok(()), "it is not listened to");
    let gone = async {
        while house.log.readers_now() > 0 {
            tokio::task::yield_now().await;
        }
    };
    let gone = tokio::time::timeout(std::time::Duration::from_secs(60), gone).await;
    assert!(gone.is_ok(), "the log waits for it no more");
}

#[tokio::test]
async fn an_answer_to_a_resume_that_comes_behind_a_newer_word_takes_nothing_back() {
    let house = House::new(1, Pace::Store);
    house.log.write(Bytes::from(bytes(0, 1_000))).await.expect("there is room");
    let position = |read| {
        let read = InputProgress::UpTo(read);
        vec![InputPosition { job: JOB, ordinal: Ordinal(0), read }]
    };
    let mut child = house.child(0);
    let mut first = house.connect().await;
    let link = first.here.clone();
    let carry = house.carry(&mut first);
    tokio::pin!(carry);
    tokio::select! {
        () = &mut carry => panic!("the link is up"),
        piece = child.next() => assert_eq!(piece, Piece::Bytes(Bytes::from(bytes(0, 1_000)))),
    }
    link.close(CloseCode::SILENT, "cut");
    carry.await;
    let second = linked().await;
    assert_eq!(house.told(&second, position(1_000)), Ok(()));
    assert_eq!(house.told(&second, position(0)), Ok(()), "the older word");
    house.feeds.on_all_named(&second.here);
    assert_eq!(house.log.readers_now(), 1, "it still reads");
}

#[tokio::test]
async fn a_child_that_ended_without_reading_is_waited_for_by_nobody() {
    let house = House::new(2, Pace::Readers);
    let mut reader = house.log.reader(Ordinal(0));
    house.log.child_ended(Ordinal(1));
    house.log.write(Bytes::from(bytes(0, 1_000))).await.expect("there is room");
    assert_eq!(reader.next().await, Piece::Bytes(Bytes::from(bytes(0, 1_000))));
    assert_eq!(house.log.kept(), 0, "what was read is free");
}

#[tokio::test]
async fn a_child_that_has_all_of_its_input_holds_no_credit() {
    let house = House::new(1, Pace::Store);
    write(&house, 1_000).await;
    let mut child = house.child(0);
    let mut ends = house.connect().await;
    let done = async {
        while !matches!(child.next().await, Piece::End) {}
        while house.traffic.unread() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = house.carry(&mut ends) => panic!("the link is up"),
        done = tokio::time::timeout(std::time::Duration::from_secs(60), done) => {
            assert!(done.is_ok(), "{} bytes are held", house.traffic.unread());
        }
    }
    drop(child);
}

#[tokio::test]
async fn input_whose_client_died_is_lost_behind_what_came() {
    let house = House::new(1, Pace::Store);
    house.log.write(Bytes::from_static(b"some")).await.expect("it is stored");
    house.log.lose();
    let mut child = house.child(0);
    let mut ends = house.connect().await;
    let got = tokio::select! {
        () = house.carry(&mut ends) => panic!("the link is up"),
        got = async { (child.next().await, child.next().await) } => got,
    };
    assert_eq!(got, (Piece::Bytes(Bytes::from_static(b"some")), Piece::Lost));
    drop(child);
    assert_eq!(house.ports.positions(JOB), []);
}
