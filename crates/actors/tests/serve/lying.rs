//! Another node of the cluster that says what is not so.

mod asking;

use sortie_link::{
    Arrival, Arrivals, CloseCode, CloseReason, ControlReceiver, Endpoint, Expect, FrameSender,
    Link, LocalFacts,
};
use sortie_model::spec::{BodySpec, Hosting, InputSpec, Placement, RunIn};
use sortie_model::{
    ChildIncarnation, Incarnation, JobInstance, JobSpec, JobView, Ordinal, QuestionNumber, Seq,
    SessionInstance, State, limits,
};
use sortie_wire::frame::{Frame, Message, open_head};
use sortie_wire::host_proto::{
    AnswerChild, CheckpointHead, Checkpoints, ChildAgain, ChildBatch, ChildFrom, EndSession,
    HostSpec, ReportStream, Resume, Resumed, StartChildren,
};
use sortie_wire::link_proto::{Heartbeat, Member};
use sortie_wire::message_proto::{
    AnswerKind, ChildLife, FromChild, InboxWord, MessageFlow, MessageKind, MessageStream, Posted,
    ToChild,
};
use uuid::Uuid;

use crate::harness::{House, Work, soon};

/// A node of the house's cluster whose words the test chooses.
struct Liar {
    endpoint: Endpoint,
    arrivals: Arrivals,
}

/// A connection between the house and the liar, as the liar has it.
struct Tie {
    link: Link,
    control: ControlReceiver,
    /// Heartbeats that it has sent, and the newest that it has heard.
    said: u64,
    heard: u64,
}

impl Liar {
    fn of(house: &House) -> Self {
        let liar = Self::in_life(house, 1);
        let endpoint = &liar.endpoint;
        house
            .node
            .admit(Member {
                node: house.other.peer().key(),
                name: "other".parse().expect("a name"),
                address: endpoint.local_addr().to_string(),
                labels: Vec::new(),
            })
            .expect("there is room");
        liar
    }

    fn in_life(house: &House, life: u64) -> Self {
        let (incarnation, program) = (Incarnation(life), "test".to_owned());
        let facts = LocalFacts { incarnation, program, address: None };
        let any = ([127, 0, 0, 1], 0).into();
        let (endpoint, arrivals) =
            Endpoint::bind(any, house.other.clone(), facts).expect("a free port");
        Self { endpoint, arrivals }
    }

    async fn dial(&self, house: &House) -> Tie {
        let (address, expect) =
            (house.node.local_addr().to_string(), Expect::Node(house.node.id()));
        let dialled = self.endpoint.dial(&address, expect, limits::HANDSHAKE_TIME).await;
        let (link, control) = dialled.expect("the house answers");
        Tie { link, control, said: 0, heard: 0 }
    }

    /// The connection that the house makes because it wants something.
    async fn dialled(&mut self) -> Tie {
        match soon(self.arrivals.next()).await {
            Some(Arrival::Link(link, control)) => Tie { link, control, said: 0, heard: 0 },
            _ => panic!("a link"),
        }
    }
}

/// Starts so many children on the liar.
async fn start_there(house: &House, children: u32) -> JobView {
    let on = "other".parse().expect("a name");
    let placement = Placement::Nodes { on, exclude: None };
    house.start_spec(JobSpec { placement, ..House::spec(children, Work::of(0)) }).await
}

impl Tie {
    fn say<M: Message>(&self, message: &M) {
        self.link.send(message).expect("room in the queue");
    }

    /// The next message of that kind; others are passed over. Heartbeats are answered: the house
    /// may need longer than its patience with who is silent.
    async fn hear<M: Message>(&mut self) -> M {
        loop {
            let frame: Frame = soon(self.control.next()).await.expect("the link is up");
            if frame.kind == M::KIND {
                return frame.open().expect("it can be read");
            }
            if frame.kind == Heartbeat::KIND {
                let Heartbeat { number, .. } = frame.open().expect("it can be read");
                self.say(&Heartbeat { number, heard: number });
            }
        }
    }

    /// Lets the house take in what was said so far, and answers its newest heartbeat: a lease that
    /// ends on a busy machine would end what runs.
    async fn beat(&mut self) {
        self.said += 1;
        let session = SessionInstance(Uuid::from_u128(1));
        self.say(&Resume { session, reports: 0, children: Vec::new(), jobs: Vec::new() });
        let heard = loop {
            let frame: Frame = soon(self.control.next()).await.expect("the link is up");
            match frame.kind {
                Heartbeat::KIND => {
                    self.heard = frame.open::<Heartbeat>().expect("it can be read").number;
                }
                Resumed::KIND => break self.heard,
                _ => {}
            }
        };
        self.say(&Heartbeat { number: self.said, heard });
    }

    /// Waits until the house closes the connection because of what was said, and says with which
    /// words.
    async fn called_garbage(self) -> String {
        match soon(self.link.closed()).await {
            CloseReason::There { code: CloseCode::GARBAGE, text } => text,
            other => panic!("closed as garbage, not {other:?}"),
        }
    }
}

/// What the liar wants executed: a function that the house has, unless another body is said.
fn start(session: u128, children: u32) -> StartChildren {
    let range = ChildBatch::Range { first: Ordinal(0), step: 1, count: children, id_base: 2 };
    let JobSpec { body, timeout, grace, drain, output_limit, environment, .. } =
        House::spec(1, Work::of(0));
    StartChildren {
        session: SessionInstance(Uuid::from_u128(session)),
        job: JobInstance(Uuid::from_u128(1)),
        spec: Some(Box::new(HostSpec {
            body,
            template: false,
            input: InputSpec::None,
            timeout,
            grace,
            drain,
            output_limit,
            init: None,
            directory: None,
            environment,
            hosting: Hosting::Temporary,
            session: 1,
            job: 1,
            owner_node: "other".parse().expect("a name"),
            level: 0,
        })),
        children: range,
    }
}

/// The life of the first child of what the liar wants executed.
fn first_life(job: JobInstance) -> ChildLife {
    ChildLife { job, ordinal: Ordinal(0), incarnation: ChildIncarnation(0) }
}

impl Tie {
    /// A stream that carries messages in that direction.
    async fn messages(&self, session: SessionInstance, flow: MessageFlow) -> FrameSender {
        let mut stream = soon(self.link.open_uni(0)).await.expect("a stream");
        stream.send(&MessageStream { session, flow }).await.expect("the link is up");
        stream
    }

    /// Waits until the house says that an inbox is open.
    async fn until_inbox_is_open(&self) {
        loop {
            let mut stream = soon(self.link.accept_uni()).await.expect("a stream");
            let first = soon(stream.next()).await.expect("the link is up").expect("a frame");
            if first.kind == MessageStream::KIND {
                let word = soon(stream.next()).await.expect("the link is up").expect("a frame");
                let (word, _) = open_head::<FromChild>(word).expect("it can be read");
                assert_eq!(word.what, InboxWord::Open { accepted: 0, taken: 0 });
                return;
            }
        }
    }
}

#[tokio::test]
async fn messages_that_no_honest_owner_sends_close_the_connection() {
    let message = |number, kind| Posted::Message { number, kind };
    let one = |number, kind, length| vec![(message(number, kind), vec![0; length])];
    let many = |kind, count: usize, length| {
        let all = (1..=count as u64).map(move |number| (message(number, kind), vec![0; length]));
        all.collect::<Vec<_>>()
    };
    let bad = [
        (one(2, MessageKind::Send, 1), "leaves others out"),
        (one(1, MessageKind::Send, limits::MESSAGE_BYTES + 1), "cannot be read"),
        (one(1, MessageKind::Send, 1 << 20), "longer than"),
        (many(MessageKind::Send, limits::INBOX_MESSAGES + 1, 1), "has room for"),
        (many(MessageKind::Send, 17, limits::MESSAGE_BYTES), "has room for"),
        (many(MessageKind::Call, limits::CALLS_PER_CHILD + 1, 1), "calls to answer"),
    ];
    for (number, (frames, complaint)) in bad.into_iter().enumerate() {
        // One that has closed a connection dials by itself.
        let house = House::open().await;
        let tie = Liar::of(&house).dial(&house).await;
        let mut start = start(number as u128 + 1, 1);
        if let Some(BodySpec::Task { name, .. }) = start.spec.as_mut().map(|spec| &mut spec.body) {
            *name = "hoard".to_owned();
        }
        tie.say(&start);
        tie.until_inbox_is_open().await;
        let mut stream = tie.messages(start.session, MessageFlow::ToChildren).await;
        for (what, payload) in frames {
            let head = ToChild { child: first_life(start.job), what };
            if stream.send_with_payload(&head, vec![payload.into()]).await.is_err() {
                break;
            }
        }
        let text = tie.called_garbage().await;
        assert!(text.contains(complaint), "{text}");
    }
}

#[tokio::test]
async fn an_inbox_that_claims_what_it_was_not_sent_is_not_believed() {
    let house = House::open().await;
    let mut liar = Liar::of(&house);
    let job = start_there(&house, 1).await;
    let mut known = None;
    for what in [
        InboxWord::Open { accepted: 1, taken: 0 },
        InboxWord::Closed { accepted: 7 },
        InboxWord::Answer { number: 1, how: AnswerKind::Value },
    ] {
        let mut tie = liar.dialled().await;
        let (session, instance) = match known {
            None => {
                let start: StartChildren = tie.hear().await;
                (start.session, start.job)
            }
            Some((session, instance)) => {
                let Resume { .. } = tie.hear().await;
                let (unknown, inputs) = (Vec::new(), Vec::new());
                tie.say(&Resumed { session, unknown, expired: false, inputs, remembers: false });
                (session, instance)
            }
        };
        known = Some((session, instance));
        let mut stream = tie.messages(session, MessageFlow::FromChildren).await;
        // What is no child of this node is not heard.
        let nobody = ChildLife { ordinal: Ordinal(9), ..first_life(instance) };
        // From its first word on it is known what it was sent; before, an earlier life of the house
        // may have sent it something.
        let (child, begun) = (first_life(instance), InboxWord::Open { accepted: 0, taken: 0 });
        let first = FromChild { child, what: begun };
        stream.send_with_payload(&first, Vec::new()).await.expect("sent");
        for child in [nobody, first_life(instance)] {
            stream.send_with_payload(&FromChild { child, what }, Vec::new()).await.expect("sent");
        }
        let text = tie.called_garbage().await;
        assert!(text.contains("claims"), "{text}");
    }
    assert_eq!(house.job(job.id).await.state, State::Running);
}

#[tokio::test]
async fn checkpoints_that_no_honest_node_sends_close_the_connection() {
    let bad = [
        (9, 3, 3, "does not run on"),
        (0, 3, 4, "cannot be read"),
        (0, limits::CHECKPOINT_BYTES + 1, limits::CHECKPOINT_BYTES + 1, "a checkpoint of more"),
    ];
    for (ordinal, length, sent, complaint) in bad {
        // One that has closed a connection dials by itself.
        let house = House::open().await;
        let mut liar = Liar::of(&house);
        start_there(&house, 1).await;
        let mut tie = liar.dialled().await;
        let StartChildren { session, job, .. } = tie.hear().await;
        let mut stream = soon(tie.link.open_uni(0)).await.expect("a stream");
        stream.send(&ReportStream { session, child: None }).await.expect("the link is up");
        let (ordinal, incarnation) = (Ordinal(ordinal), ChildIncarnation(0));
        let length = length as u32;
        let reached = vec![CheckpointHead { ordinal, incarnation, next: Seq(0), length }];
        let told = Checkpoints { number: 1, job, reached };
        stream.send_with_payload(&told, vec![vec![7; sent].into()]).await.expect("sent");
        let text = tie.called_garbage().await;
        assert!(text.contains(complaint), "{text}");
    }
}

#[tokio::test]
async fn a_start_with_a_checkpoint_that_is_too_long_closes_the_connection() {
    let house = House::open().await;
    let tie = Liar::of(&house).dial(&house).await;
    let again = ChildAgain {
        ordinal: Ordinal(0),
        id: 2,
        incarnation: ChildIncarnation(1),
        next: Seq(0),
        item: None,
    };
    let value = vec![7; limits::CHECKPOINT_BYTES + 1].into();
    let from = Some((ChildIncarnation(0), value));
    tie.say(&StartChildren {
        children: ChildBatch::From(vec![ChildFrom { again, from }]),
        ..start(1, 1)
    });
    let text = tie.called_garbage().await;
    assert!(text.contains("a checkpoint of more"), "{text}");
}

#[tokio::test]
async fn a_heartbeat_comes_at_once_and_says_what_was_heard() {
    let house = House::open().await;
    let mut tie = Liar::of(&house).dial(&house).await;
    assert_eq!(tie.hear::<Heartbeat>().await, Heartbeat { number: 1, heard: 0 });
    tie.say(&Heartbeat { number: 5, heard: 1 });
    while tie.hear::<Heartbeat>().await.heard != 5 {}
}

#[tokio::test]
async fn an_answer_to_a_heartbeat_that_was_never_sent_closes_the_connection() {
    let house = House::open().await;
    let tie = Liar::of(&house).dial(&house).await;
    tie.say(&Heartbeat { number: 1, heard: 1_000_000 });
    let text = tie.called_garbage().await;
    assert!(text.contains("1000000"), "{text}");
}

#[tokio::test]
async fn an_answer_to_a_resume_that_nobody_sent_is_not_believed() {
    let house = House::open().await;
    let mut liar = Liar::of(&house);
    let job = start_there(&house, 1).await;
    let mut tie = liar.dialled().await;
    let StartChildren { session, job: instance, .. } = tie.hear().await;
    tie.say(&Resumed {
        session,
        unknown: vec![instance],
        expired: true,
        inputs: Vec::new(),
        remembers: false,
    });
    tie.called_garbage().await;
    assert_eq!(house.job(job.id).await.state, State::Running);

    // On the next connection it is asked, and its answer counts.
    let mut tie = liar.dialled().await;
    let Resume { jobs, .. } = tie.hear().await;
    assert_eq!(jobs, [instance]);
    tie.say(&Resumed {
        session,
        unknown: vec![instance],
        expired: true,
        inputs: Vec::new(),
        remembers: false,
    });
    assert_eq!(house.until_finished(job.id).await, State::Failed);
}

#[tokio::test]
async fn a_range_that_no_honest_owner_sends_closes_the_connection() {
    // A house each: one that lost a connection dials, and its own would take the next one's place.
    for children in [limits::CHILDREN_PER_JOB, u32::MAX] {
        let house = House::open().await;
        let tie = Liar::of(&house).dial(&house).await;
        tie.say(&start(1, children));
        tie.called_garbage().await;
    }
    // What the house has room for is done, and reported on a stream.
    let house = House::open().await;
    let tie = Liar::of(&house).dial(&house).await;
    tie.say(&start(1, 3));
    let mut reports = soon(tie.link.accept_uni()).await.expect("a stream of reports");
    let first = soon(reports.next()).await.expect("the link is up").expect("a first frame");
    assert_eq!(first.kind, ReportStream::KIND);
}

#[tokio::test]
async fn a_spec_that_is_too_long_closes_the_connection() {
    let house = House::open().await;
    let tie = Liar::of(&house).dial(&house).await;
    let mut start = start(1, 1);
    let input = vec![0; limits::SPEC_BYTES + limits::HOST_SPEC_OVERHEAD_BYTES].into();
    let body =
        BodySpec::Task { name: "work".to_owned(), input, types: None, run_in: RunIn::Thread };
    start.spec.as_mut().expect("it has one").body = body;
    tie.say(&start);
    let text = tie.called_garbage().await;
    assert!(text.contains(&limits::SPEC_BYTES.to_string()), "{text}");
}

#[tokio::test]
async fn one_node_has_only_so_many_sessions_hosted() {
    let house = House::open().await;
    let mut tie = Liar::of(&house).dial(&house).await;
    let session = SessionInstance(Uuid::from_u128(1));
    let resume = Resume { session, reports: 0, children: Vec::new(), jobs: Vec::new() };
    for session in 1..=limits::SESSIONS_PER_NODE as u128 {
        tie.say(&start(session, 0));
        if session % 500 == 0 {
            tie.beat().await;
        }
    }
    // One that is known is no new one, and one that has ended makes room.
    tie.say(&start(1, 1));
    tie.say(&EndSession { session: SessionInstance(Uuid::from_u128(2)) });
    tie.say(&start(0, 1));
    tie.say(&resume);
    assert_eq!(tie.hear::<Resumed>().await.session, session, "all of it was taken in");
    tie.say(&start(u128::MAX, 1));
    match soon(tie.link.closed()).await {
        CloseReason::There { code: CloseCode::REFUSED, .. } => {}
        other => panic!("refused, not {other:?}"),
    }
}

#[tokio::test]
async fn the_end_of_a_session_here_says_nothing_about_what_its_owner_starts_later() {
    let house = House::open().await;
    let session = SessionInstance(Uuid::from_u128(1));
    let unknown = JobInstance(Uuid::from_u128(99));
    let resume = Resume { session, reports: 0, children: Vec::new(), jobs: vec![unknown] };
    let first = Liar::of(&house);
    let mut tie = first.dial(&house).await;
    tie.say(&start(1, 1));
    tie.say(&Resume { jobs: vec![start(1, 1).job], ..resume.clone() });
    assert_eq!(tie.hear::<Resumed>().await.unknown, []);
    // In its next life nothing of the former one runs here any more.
    let liar = Liar::in_life(&house, 2);
    let mut tie = liar.dial(&house).await;
    tie.say(&resume);
    assert!(tie.hear::<Resumed>().await.expired);
    tie.say(&resume);
    assert!(tie.hear::<Resumed>().await.expired, "until it has heard it");
    tie.say(&start(1, 1));
    tie.say(&resume);
    assert!(!tie.hear::<Resumed>().await.expired);
}

#[tokio::test]
async fn an_answer_longer_than_one_may_be_closes_the_connection() {
    let house = House::open().await;
    let tie = Liar::of(&house).dial(&house).await;
    let StartChildren { session, job, .. } = start(1, 1);
    let (ordinal, incarnation) = (Ordinal(0), ChildIncarnation(0));
    let answer = vec![0; limits::ANSWER_BYTES + 1].into();
    tie.say(&AnswerChild { session, job, ordinal, incarnation, number: QuestionNumber(1), answer });
    tie.called_garbage().await;
}
