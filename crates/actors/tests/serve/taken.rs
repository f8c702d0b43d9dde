//! Sessions that another client takes over while something is under way in them.

use std::future::Future;
use std::sync::mpsc;

use sortie_actors::data::exchange::{self, ClientEnd, ToServer};
use sortie_model::spec::{BodySpec, Fan, OsBytes, Placement};
use sortie_model::{ChildKey, EntryId, IdempotencyKey, JobSpec, JobView, Ordinal, limits};
use sortie_wire::ErrorCode;
use sortie_wire::message_proto::MessageKind;
use sortie_wire::session_proto::{
    Answer, Ask, Delivery, MessageSpec, ReceiveMode, ReceiveSpec, Request, ScopeChange,
    SessionOptions, SessionRef, WaitCount, WaitSpec,
};

use crate::harness::{Connection, Got, House, Item, Reader, Work, answer, select, soon};

const TAKE: ReceiveMode = ReceiveMode::Take;
const UNTIL: ReceiveMode = ReceiveMode::TakeUntil { finished: false };

/// A session that this process holds, and another client of its owner.
struct Taken {
    house: House,
    /// The holder's handle.
    first: SessionRef,
    second: Connection,
}

impl Taken {
    async fn open() -> Self {
        let house = House::open().await;
        let second = house.connect().await;
        let Answer::Session(view) = house.ask(Ask::OpenSession(SessionOptions::default())).await
        else {
            panic!("a session")
        };
        let first = SessionRef::Held { instance: view.instance, epoch: view.epoch };
        Self { house, first, second }
    }

    /// Asks as the first holder.
    fn open_first(&self, ask: Ask) -> ClientEnd {
        self.house.node.open(Request { session: self.first.clone(), ask })
    }

    async fn ask_first(&self, ask: Ask) -> Answer {
        answer(&mut self.open_first(ask)).await
    }

    async fn start(&self, key: &str, spec: JobSpec) -> Answer {
        self.ask_first(start(key, spec)).await
    }

    /// Starts a job of one child.
    async fn job(&self, key: &str, work: Work) -> JobView {
        job(self.start(key, House::spec(1, work)).await)
    }

    async fn until_finished(&self, id: EntryId) {
        let selection = select(&id.to_string());
        let wait = WaitSpec { selection, count: WaitCount::All, finished: true, timeout: None };
        assert!(matches!(self.ask_first(Ask::Wait(wait)).await, Answer::Waited { .. }));
    }

    fn receive_first(&self, mode: ReceiveMode) -> Reader {
        let spec = ReceiveSpec::new(select("1"), mode);
        Reader { end: self.open_first(Ask::Receive(Box::new(spec))) }
    }

    fn instance(&self) -> SessionRef {
        match self.first {
            SessionRef::Held { instance, .. } => SessionRef::Instance(instance),
            _ => panic!("it is held"),
        }
    }

    async fn open_second(&self, ask: Ask) -> ClientEnd {
        self.second.open(Request { session: self.instance(), ask }).await
    }

    async fn receive_second(&self, mode: ReceiveMode) -> Got {
        let spec = ReceiveSpec::new(select("1"), mode);
        Reader { end: self.open_second(Ask::Receive(Box::new(spec))).await }.rest().await
    }

    /// The second client takes the session over, and is in it as long as the end is there.
    async fn take(&self) -> ClientEnd {
        let mut end = self.open_second(Ask::Connect { take: true }).await;
        assert!(matches!(answer(&mut end).await, Answer::Session(_)));
        end
    }

    /// How many jobs the second client finds.
    async fn jobs(&self) -> usize {
        match answer(&mut self.open_second(Ask::Get(Box::default())).await).await {
            Answer::Entries(entries) => entries.entries.len(),
            other => panic!("entries, not {other:?}"),
        }
    }
}

fn start(key: &str, spec: JobSpec) -> Ask {
    let key = IdempotencyKey::try_from(key.to_owned()).expect("a key");
    Ask::Start { key, spec: Box::new(spec) }
}

fn job(answer: Answer) -> JobView {
    match answer {
        Answer::Started(view) => *view,
        other => panic!("a job, not {other:?}"),
    }
}

fn refused(answer: Answer) -> ErrorCode {
    match answer {
        Answer::Refused(error) => error.code,
        other => panic!("a refusal, not {other:?}"),
    }
}

/// What refuses a receive, behind whatever was on its way.
async fn refused_in_the_end(reader: &mut Reader) -> ErrorCode {
    loop {
        match reader.next().await {
            Ok(_) => {}
            Err(last) => match *last {
                Delivery::Refused(error) => return error.code,
                other => panic!("a refusal, not {other:?}"),
            },
        }
    }
}

fn numbers(got: &Got) -> Vec<u64> {
    got.per_child().into_values().flatten().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_confirms_nothing_loses_its_full_window_to_the_next_holder() {
    const RECORDS: u64 = 6_000;
    let taken = Taken::open().await;
    taken.job("a", Work { filler: 4_000, ..Work::of(RECORDS) }).await;
    let mut old = taken.receive_first(UNTIL);
    // It has as many deliveries in hand as it may: the next one waits for a confirmation.
    for _ in 0..limits::RECEIVE_OFFERS {
        old.next().await.expect("records");
    }
    let _here = taken.take().await;
    let got = taken.receive_second(UNTIL).await;
    assert_eq!(numbers(&got), (0..RECORDS).collect::<Vec<_>>());
    assert_eq!(refused_in_the_end(&mut old).await, ErrorCode::SessionTaken);
}

#[tokio::test]
async fn a_reader_that_reads_nothing_withholds_nothing_from_the_next_holder() {
    const RECORDS: u64 = 6_000;
    let taken = Taken::open().await;
    taken.job("a", Work { filler: 4_000, ..Work::of(RECORDS) }).await;
    let mut old = taken.receive_first(UNTIL);
    old.next().await.expect("records");
    let _here = taken.take().await;
    let got = taken.receive_second(UNTIL).await;
    assert_eq!(numbers(&got), (0..RECORDS).collect::<Vec<_>>());
    assert_eq!(refused_in_the_end(&mut old).await, ErrorCode::SessionTaken);
}

#[tokio::test]
async fn what_is_confirmed_too_late_is_found_at_once_by_the_next_holder_and_is_no_clean_end() {
    let taken = Taken::open().await;
    taken.job("a", Work::of(3)).await;
    let mut old = taken.receive_first(UNTIL);
    let mut number = 0;
    let end = loop {
        match old.next().await {
            Ok((delivery, _)) => number = delivery,
            Err(end) => break end,
        }
    };
    assert!(matches!(*end, Delivery::End { .. }), "{end:?}");
    // The client writes it out, and is too late.
    let _here = taken.take().await;
    assert_eq!(numbers(&taken.receive_second(TAKE).await), [0, 1, 2]);
    // It may have been told already, and nobody may hear it any more.
    let _ = old.end.sender.send(ToServer::Acknowledged(number)).await;
    assert_eq!(refused_in_the_end(&mut old).await, ErrorCode::SessionTaken);
}

#[tokio::test]
async fn a_receive_that_is_given_up_hears_that_its_confirmations_came_too_late() {
    let taken = Taken::open().await;
    let job = taken.job("a", Work { filler: 4_000, ..Work::of(6_000) }).await;
    taken.until_finished(job.id).await;
    let mut old = taken.receive_first(UNTIL);
    // There is so much more that the node is sending some of it.
    let Ok((number, Item::Records(..))) = old.next().await else { panic!("records") };
    let _here = taken.take().await;
    // It may have been told already, and nobody may hear it any more.
    let _ = old.end.sender.send(ToServer::Acknowledged(number)).await;
    let ClientEnd { sender, receiver } = old.end;
    soon(sender.finish()).await.expect("in this process");
    let (sender, _) = exchange::local();
    let mut old = Reader { end: ClientEnd { sender: sender.sender, receiver } };
    assert_eq!(refused_in_the_end(&mut old).await, ErrorCode::SessionTaken);
}

#[tokio::test]
async fn a_takeover_ends_the_input_of_a_start() {
    let taken = Taken::open().await;
    let mut spec = House::spec(1, Work::of(1));
    spec.fan = Fan::Spread;
    let mut feeding = taken.open_first(start("a", spec));
    job(answer(&mut feeding).await);
    let _here = taken.take().await;
    assert_eq!(refused(answer(&mut feeding).await), ErrorCode::SessionTaken);
}

#[tokio::test]
async fn a_takeover_ends_a_call_that_waits() {
    let taken = Taken::open().await;
    let mut spec = House::spec(1, Work::of(1));
    if let BodySpec::Task { name, .. } = &mut spec.body {
        *name = "hoard".to_owned();
    }
    let job = job(taken.start("a", spec).await).instance;
    let child = ChildKey { job, ordinal: Ordinal(0) };
    let message = MessageSpec { child, kind: MessageKind::Call, message: vec![7].into() };
    let mut call = taken.open_first(Ask::Send(message));
    assert_eq!(answer(&mut call).await, Answer::Accepted);
    let _here = taken.take().await;
    assert_eq!(refused(answer(&mut call).await), ErrorCode::SessionTaken);
}

/// Runs on a runtime with one thread for what blocks.
fn on_one_blocking_thread(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().max_blocking_threads(1).build();
    runtime.expect("a runtime").block_on(test);
}

#[test]
fn a_start_that_was_not_accepted_before_the_takeover_makes_no_job() {
    on_one_blocking_thread(async {
        let taken = Taken::open().await;
        let mut spec = House::spec(1, Work::of(1));
        spec.body = BodySpec::Command { words: vec![OsBytes::try_from("true").expect("a word")] };
        spec.directory = Some(OsBytes::try_from("/").expect("a path"));
        let on = "solo".parse().expect("an expression");
        spec.placement = Placement::Nodes { on, exclude: None };
        // The look at the directory needs the thread that this one holds.
        let (release, held) = mpsc::channel::<()>();
        let holding = tokio::task::spawn_blocking(move || held.recv());
        let mut starting = taken.open_first(start("a", spec));
        // Requests are served in the order in which they are made: this answer is behind the start.
        let get = Ask::Get(Box::default());
        assert!(matches!(taken.ask_first(get).await, Answer::Entries(_)));
        let _here = taken.take().await;
        release.send(()).expect("it waits");
        soon(holding).await.expect("it ends").expect("a word");
        assert_eq!(refused(answer(&mut starting).await), ErrorCode::SessionTaken);
        assert_eq!(taken.jobs().await, 0);
    });
}

#[tokio::test]
async fn a_repeated_start_finds_its_job_whatever_was_set_since() {
    let taken = Taken::open().await;
    let mut spec = House::spec(1, Work::of(0));
    let variable = |name: &str, length: usize| {
        let of = |text: &str| OsBytes::try_from(text).expect("no NUL");
        (of(name), of(&"x".repeat(length)))
    };
    // With it alone the submission is as long as it may be; with what is set it is too long.
    spec.environment.set = vec![variable("A", limits::SPEC_BYTES - 64 * limits::KIB)];
    let first = job(taken.start("a", spec.clone()).await);
    let set = vec![variable("B", 128 * limits::KIB)];
    let change = ScopeChange { set, ..ScopeChange::default() };
    assert!(matches!(taken.ask_first(Ask::Scope(change)).await, Answer::Scope(_)));
    assert_eq!(job(taken.start("a", spec.clone()).await).id, first.id);
    assert_eq!(refused(taken.start("b", spec.clone()).await), ErrorCode::Limit);
    let unset = vec![OsBytes::try_from("B").expect("no NUL")];
    let change = ScopeChange { unset, ..ScopeChange::default() };
    assert!(matches!(taken.ask_first(Ask::Scope(change)).await, Answer::Scope(_)));
    let second = job(taken.start("b", spec).await);
    assert_ne!(second.id, first.id, "the refused start had left its key free");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handles_take_no_place_of_other_requests_and_too_many_are_refused() {
    let taken = Taken::open().await;
    let mut here = vec![taken.take().await];
    while here.len() < limits::PRESENCES_PER_LINK {
        let mut end = taken.open_second(Ask::Connect { take: false }).await;
        assert!(matches!(answer(&mut end).await, Answer::Session(_)));
        here.push(end);
    }
    assert_eq!(taken.jobs().await, 0);
    for ask in [Ask::Connect { take: false }, Ask::OpenTemporary] {
        let surplus = answer(&mut taken.open_second(ask).await).await;
        assert_eq!(refused(surplus), ErrorCode::Limit);
    }
    here.pop();
    let again = async {
        // The place is free once the node has seen that the handle is gone.
        while let Answer::Refused(_) =
            answer(&mut taken.open_second(Ask::Connect { take: false }).await).await
        {}
    };
    soon(again).await;
}
