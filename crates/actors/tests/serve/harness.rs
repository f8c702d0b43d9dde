//! A node with one function, whose children end when the test says so.

use std::collections::BTreeMap;
use std::future::Future;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sortie_actors::data::exchange::{ClientEnd, ToClient, ToServer};
use sortie_actors::{Network, NoKeeper, NodeConfig, NodeHandle, NodeKeys, SystemWorld, TaskNode};
use sortie_exec::NodeBasics;
use sortie_exec::registry::Registry;
use sortie_exec::task::{TaskContext, encode_value, typed};
use sortie_link::{
    CertificateAuthority, ControlReceiver, Endpoint, Expect, Identity, Link, LocalFacts, NodeKey,
};
use sortie_model::selector::{Query, Selection};
use sortie_model::spec::{BodySpec, Fan, RunIn, Throttle};
use sortie_model::view::EntryView;
use sortie_model::{
    ChildKey, EntryId, IdempotencyKey, Incarnation, JobInstance, JobSpec, JobView, Ordinal, Record,
    State, limits,
};
use sortie_wire::link_proto::Heartbeat;
use sortie_wire::message_proto::MessageKind;
use sortie_wire::session_proto::{
    Answer, Ask, Delivery, Entries, Failure, MessageSpec, ReceiveMode, ReceiveSpec, Request,
    SessionRef,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinHandle;
use uuid::Uuid;

/// How long anything that should happen may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// Children that can be held by a gate.
const GATES: usize = 8;
const STORE: &str = "sessions";

pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it happens in time")
}

/// What each child does: emits the numbers below `count`, waits at its gate before the number
/// `gate`, and fails at the end if it is told to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    pub(crate) count: u64,
    pub(crate) gate: u64,
    pub(crate) fails: bool,
    /// Bytes that each value has besides its number.
    pub(crate) filler: usize,
}

impl Work {
    /// Emits so many values and completes.
    pub(crate) const fn of(count: u64) -> Self {
        Self { count, gate: u64::MAX, fails: false, filler: 0 }
    }

    /// The same, with a halt at the gate before the value of that number.
    pub(crate) const fn gated(count: u64, gate: u64) -> Self {
        Self { count, gate, fails: false, filler: 0 }
    }

    /// Says why on its error stream, and fails.
    pub(crate) const FAILS: Self = Self { count: 0, gate: u64::MAX, fails: true, filler: 0 };
}

pub(crate) struct House {
    pub(crate) node: NodeHandle,
    gates: Arc<Vec<Semaphore>>,
    /// What came of what children asked above them.
    above: Mutex<UnboundedReceiver<String>>,
    user: Identity,
    /// The identity of one more node of the cluster.
    pub(crate) other: Identity,
    keys: AtomicU32,
    directory: tempfile::TempDir,
}

impl House {
    pub(crate) async fn open() -> Self {
        Self::open_with(false).await
    }

    /// The same, whose session `default` outlives it, in its [store](Self::store).
    pub(crate) async fn lasting() -> Self {
        Self::open_with(true).await
    }

    async fn open_with(store: bool) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let gates: Vec<_> = (0..GATES).map(|_| Semaphore::new(0)).collect();
        let gates = Arc::new(gates);
        let mut registry = Registry::default();
        let held = Arc::clone(&gates);
        let function = move |context: TaskContext, input: (u64, u64, bool, usize)| {
            let (count, gate, fails, filler) = input;
            let gates = Arc::clone(&held);
            async move { work(context, Work { count, gate, fails, filler }, &gates).await }
        };
        registry.add("work", typed(function)).expect("the name is free");
        let hoard = |context: TaskContext, _: (u64, u64, bool, usize)| async move {
            let _inbox = context.inbox::<u64>();
            context.cancelled().await;
            Ok::<_, std::convert::Infallible>(())
        };
        registry.add("hoard", typed(hoard)).expect("the name is free");
        let (heard, above) = unbounded_channel();
        let held = Arc::clone(&gates);
        let asking = move |context: TaskContext, _: (u64, u64, bool, usize)| {
            ask_above(context, Arc::clone(&held), heard.clone())
        };
        registry.add("ask_above", typed(asking)).expect("the name is free");
        let keys = NodeKeys {
            node: NodeKey::generate().expect("a key"),
            user: NodeKey::generate().expect("a key"),
        };
        let authority = CertificateAuthority::create().expect("a CA");
        let name = "solo".parse().expect("a name");
        let identity = authority.identify_node(&keys.node, &name).expect("a certificate");
        let user = authority.identify_user(&keys.user, "ada").expect("a certificate");
        let (key, other) = (NodeKey::generate().expect("a key"), "other".parse());
        let other = authority.identify_node(&key, &other.expect("a name")).expect("a certificate");
        let config = NodeConfig {
            name,
            identity,
            keys,
            authority: Some(authority),
            network: Network::Quic(([127, 0, 0, 1], 0).into()),
            advertise: None,
            labels: Vec::new(),
            roster: None,
            registry,
            guardian: None,
            directory: directory.path().to_owned(),
            store: store.then(|| directory.path().join(STORE)),
            detached: None,
            user: "ada".to_owned(),
            basics: NodeBasics::of_this_user(),
            keeper: Arc::new(NoKeeper),
            world: Arc::new(SystemWorld),
            functions: None,
        };
        let node = NodeHandle::start(config).await.expect("the node starts");
        let (above, keys) = (Mutex::new(above), AtomicU32::new(0));
        Self { node, gates, above, user, other, keys, directory }
    }

    /// Where what outlives the node is.
    pub(crate) fn store(&self) -> PathBuf {
        self.directory.path().join(STORE)
    }

    /// What came of the next thing that a child asked above it.
    pub(crate) async fn heard_above(&self) -> String {
        soon(self.above.lock().await.recv()).await.expect("the node is there")
    }

    /// Lets that child of any job pass its gate once.
    pub(crate) fn let_pass(&self, ordinal: usize) {
        self.gates[ordinal].add_permits(1);
    }

    /// What a job of so many children does.
    pub(crate) fn spec(children: u32, work: Work) -> JobSpec {
        let input =
            encode_value(&(work.count, work.gate, work.fails, work.filler)).expect("it is small");
        let mut spec = JobSpec::new(
            "work",
            BodySpec::Task { name: "work".to_owned(), input, types: None, run_in: RunIn::Thread },
        );
        spec.fan = Fan::PerNode { copies: NonZeroU32::new(children).expect("not none") };
        spec.throttle = Throttle::Unlimited;
        spec
    }

    pub(crate) async fn start(&self, children: u32, work: Work) -> JobView {
        self.start_spec(Self::spec(children, work)).await
    }

    pub(crate) async fn start_spec(&self, spec: JobSpec) -> JobView {
        let number = self.keys.fetch_add(1, Ordering::Relaxed);
        let key = IdempotencyKey::try_from(format!("key{number}")).expect("a key");
        match self.ask(Ask::Start { key, spec: Box::new(spec) }).await {
            Answer::Started(view) => *view,
            other => panic!("a job, not {other:?}"),
        }
    }

    pub(crate) fn open_request(&self, ask: Ask) -> ClientEnd {
        self.node.open(Request { session: SessionRef::Default, ask })
    }

    /// A connection of the node's user, as another program would make it.
    pub(crate) async fn connect(&self) -> Connection {
        let facts =
            LocalFacts { incarnation: Incarnation(1), program: "test".to_owned(), address: None };
        let endpoint = Endpoint::client(self.user.clone(), facts);
        let address = self.node.local_addr().to_string();
        let expect = Expect::Node(self.node.id());
        let dialled = endpoint.dial(&address, expect, PATIENCE).await;
        let (link, control) = dialled.expect("the node answers");
        let beats = tokio::spawn(beat(link.clone(), control));
        Connection { link, beats, _endpoint: endpoint }
    }

    pub(crate) async fn ask(&self, ask: Ask) -> Answer {
        answer(&mut self.open_request(ask)).await
    }

    pub(crate) async fn get(&self, query: Query) -> Entries {
        match self.ask(Ask::Get(Box::new(query))).await {
            Answer::Entries(entries) => entries,
            other => panic!("entries, not {other:?}"),
        }
    }

    pub(crate) async fn job(&self, id: EntryId) -> JobView {
        let query = Query { selection: select(&id.to_string()), ..Query::default() };
        match self.get(query).await.entries.pop() {
            Some(EntryView::Job(view)) => view,
            other => panic!("a job, not {other:?}"),
        }
    }

    /// Waits until the job has so many unread records in the view of its only child.
    pub(crate) async fn until_stored(&self, job: EntryId, records: u64) {
        let all = async {
            loop {
                let kept =
                    self.receive(ReceiveSpec::new(select(&job.to_string()), ReceiveMode::Keep));
                if kept.rest().await.records() >= records as usize {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        soon(all).await;
    }

    /// Waits until the job is finished.
    pub(crate) async fn until_finished(&self, id: EntryId) -> State {
        let wait = sortie_wire::session_proto::WaitSpec {
            selection: select(&id.to_string()),
            count: sortie_wire::session_proto::WaitCount::All,
            finished: true,
            timeout: None,
        };
        match self.ask(Ask::Wait(wait)).await {
            Answer::Waited { entries, timed_out: false } => entries.entries[0].state(),
            other => panic!("the end, not {other:?}"),
        }
    }

    pub(crate) fn receive(&self, spec: ReceiveSpec) -> Reader {
        Reader { end: self.open_request(Ask::Receive(Box::new(spec))) }
    }

    /// Receives everything of a mode, and acknowledges it.
    pub(crate) async fn all(&self, word: &str, mode: ReceiveMode) -> Got {
        self.receive(ReceiveSpec::new(select(word), mode)).rest().await
    }
}

async fn work(
    context: TaskContext,
    work: Work,
    gates: &[Semaphore],
) -> Result<(), std::fmt::Error> {
    let filler = "x".repeat(work.filler);
    for number in 0..work.count {
        if number == work.gate {
            let gate = &gates[context.ordinal().0 as usize];
            gate.acquire().await.expect("gates stay open").forget();
        }
        context.emit(&(number, &filler)).await.map_err(|_| std::fmt::Error)?;
    }
    if work.gate != u64::MAX && work.gate >= work.count {
        let gate = &gates[context.ordinal().0 as usize];
        gate.acquire().await.expect("gates stay open").forget();
    }
    if work.fails {
        context.error("it broke").await;
        return Err(std::fmt::Error);
    }
    Ok(())
}

/// Sends something to a child of its session each time that its gate opens, and says what came of
/// it.
async fn ask_above(
    context: TaskContext,
    gates: Arc<Vec<Semaphore>>,
    heard: UnboundedSender<String>,
) -> Result<(), std::fmt::Error> {
    let node = context.reach().and_then(|reach| reach.downcast::<TaskNode>().ok());
    let (way, session) = node.ok_or(std::fmt::Error)?.above();
    let child = ChildKey { job: JobInstance(Uuid::from_u128(7)), ordinal: Ordinal(0) };
    let send = MessageSpec { child, kind: MessageKind::Send, message: vec![7].into() };
    loop {
        gates[context.ordinal().0 as usize].acquire().await.expect("gates stay open").forget();
        let (session, ask) = (SessionRef::Instance(session), Ask::Send(send.clone()));
        let heard_now = match way.open(Request { session, ask }).await {
            Ok(mut end) => match end.receiver.next().await {
                Ok(Some(ToClient::Answer(answer))) => format!("{answer:?}"),
                Ok(other) => format!("{other:?}"),
                Err(error) => error.to_string(),
            },
            Err(error) => error.to_string(),
        };
        heard.send(heard_now).map_err(|_| std::fmt::Error)?;
    }
}

/// The next message, which is an answer.
pub(crate) async fn answer(end: &mut ClientEnd) -> Answer {
    match soon(end.receiver.next()).await.expect("the node answers") {
        Some(ToClient::Answer(answer)) => answer,
        other => panic!("an answer, not {other:?}"),
    }
}

pub(crate) fn select(words: &str) -> Selection {
    Selection::parse(words.split(' ').filter(|word| !word.is_empty())).expect("selectors")
}

/// A connection over the network.
pub(crate) struct Connection {
    link: Link,
    beats: JoinHandle<()>,
    _endpoint: Endpoint,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.beats.abort();
    }
}

/// Says that this program is there, until the link ends: a slow machine may take longer for a test
/// than a node waits for a silent one.
async fn beat(link: Link, mut control: ControlReceiver) {
    let mut turn = tokio::time::interval(limits::HEARTBEAT);
    let (mut number, mut heard) = (0, 0);
    loop {
        tokio::select! {
            frame = control.next() => match frame.map(|frame| frame.open::<Heartbeat>()) {
                Some(Ok(beat)) => heard = beat.number.max(heard),
                _ => return,
            },
            _ = turn.tick() => {
                number += 1;
                if link.send(&Heartbeat { number, heard }).is_err() {
                    return;
                }
            }
        }
    }
}

impl Connection {
    pub(crate) async fn receive(&self, spec: ReceiveSpec) -> Reader {
        let ask = Ask::Receive(Box::new(spec));
        Reader { end: self.open(Request { session: SessionRef::Default, ask }).await }
    }

    pub(crate) async fn open(&self, request: Request) -> ClientEnd {
        let (sender, receiver) = soon(self.link.open_bi()).await.expect("a stream");
        let end = ClientEnd::away(sender, receiver, &request).await;
        end.expect("the node is there")
    }
}

/// A client that receives.
pub(crate) struct Reader {
    pub(crate) end: ClientEnd,
}

/// What a receive brought, in order.
#[derive(Debug, Default)]
pub(crate) struct Got {
    pub(crate) items: Vec<Item>,
    pub(crate) failures: Vec<Failure>,
    pub(crate) entries: Entries,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    Records(EntryId, Vec<Record>),
    Settled(EntryId, State),
}

impl Reader {
    /// The next item; none at the end, which is an error if it is a refusal.
    pub(crate) async fn next(&mut self) -> Result<(u64, Item), Box<Delivery>> {
        match soon(self.end.receiver.next()).await.expect("the node is there") {
            Some(ToClient::Records { number, source, records }) => {
                Ok((number, Item::Records(source.child, records)))
            }
            Some(ToClient::Delivery(Delivery::Settled { id, state })) => {
                Ok((0, Item::Settled(id, state)))
            }
            Some(ToClient::Delivery(end)) => Err(Box::new(end)),
            other => panic!("a delivery, not {other:?}"),
        }
    }

    pub(crate) async fn acknowledge(&mut self, number: u64) {
        self.end.sender.send(ToServer::Acknowledged(number)).await.expect("the node is there");
    }

    /// Everything up to the end, acknowledged as it comes.
    pub(crate) async fn rest(mut self) -> Got {
        let mut got = Got::default();
        loop {
            match self.next().await {
                Ok((number, item)) => {
                    got.items.push(item);
                    if number > 0 {
                        self.acknowledge(number).await;
                    }
                }
                Err(end) => match *end {
                    Delivery::End { failures, entries, .. } => {
                        let ClientEnd { sender, mut receiver } = self.end;
                        soon(sender.finish()).await.expect("the node is there");
                        let last = soon(receiver.next()).await;
                        assert_eq!(last.expect("a clean end"), None);
                        return Got { failures, entries, ..got };
                    }
                    other => panic!("the end, not {other:?}"),
                },
            }
        }
    }
}

impl Got {
    pub(crate) fn records(&self) -> usize {
        self.per_child().values().map(Vec::len).sum()
    }

    /// The numbers that each child's records carry, in the order in which they came.
    pub(crate) fn per_child(&self) -> BTreeMap<EntryId, Vec<u64>> {
        let mut numbers: BTreeMap<EntryId, Vec<u64>> = BTreeMap::new();
        for item in &self.items {
            if let Item::Records(child, records) = item {
                let seqs = records.iter().map(|record| record.seq.0);
                numbers.entry(*child).or_default().extend(seqs);
            }
        }
        numbers
    }

    pub(crate) fn settled(&self) -> Vec<(EntryId, State)> {
        let settled = self.items.iter().filter_map(|item| match item {
            Item::Settled(id, state) => Some((*id, *state)),
            Item::Records(..) => None,
        });
        settled.collect()
    }
}
