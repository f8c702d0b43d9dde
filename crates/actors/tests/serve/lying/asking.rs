//! What children on another node ask of the session that they belong to, and what passes for it.

use sortie_actors::data::exchange::{ClientEnd, ToClient};
use sortie_link::{FrameReceiver, FrameSender};
use sortie_model::detached::DetachSpec;
use sortie_model::spec::{BodySpec, EnvironmentSpec, StopSpec};
use sortie_model::{ChildKey, SessionView};
use sortie_wire::ErrorCode;
use sortie_wire::message_proto::MessageKind;
use sortie_wire::session_proto::{Answer, Ask, MessageSpec, Request, SessionRef};

use super::*;
use crate::harness::select;

/// The answer to what the liar asks on a stream of its own.
async fn ask(tie: &Tie, session: SessionRef, ask: Ask) -> Answer {
    let (sender, receiver) = soon(tie.link.open_bi()).await.expect("a stream");
    let end = ClientEnd::away(sender, receiver, &Request { session, ask }).await;
    match soon(end.expect("the link is up").receiver.next()).await.expect("the link is up") {
        Some(ToClient::Answer(answer)) => answer,
        other => panic!("an answer, not {other:?}"),
    }
}

fn refusal(answer: Answer) -> ErrorCode {
    match answer {
        Answer::Refused(error) => error.code,
        other => panic!("a refusal, not {other:?}"),
    }
}

fn send_to(job: JobInstance) -> Ask {
    let child = ChildKey { job, ordinal: Ordinal(0) };
    Ask::Send(MessageSpec { child, kind: MessageKind::Send, message: vec![7].into() })
}

fn detached() -> DetachSpec {
    let words = vec!["true".try_into().expect("no NUL")];
    let environment = EnvironmentSpec::default();
    DetachSpec { body: BodySpec::Command { words }, directory: None, environment }
}

#[tokio::test]
async fn a_node_asks_only_while_it_may_execute_children_of_the_session_and_only_what_these_may() {
    let house = House::open().await;
    let mut liar = Liar::of(&house);
    let Answer::Sessions(sessions) = house.ask(Ask::Sessions).await else { panic!("sessions") };
    let [SessionView { instance, .. }] = sessions[..] else { panic!("one session: {sessions:?}") };
    let session = || SessionRef::Instance(instance);
    let mut spec = House::spec(1, Work::of(0));
    if let BodySpec::Task { name, .. } = &mut spec.body {
        *name = "hoard".to_owned();
    }
    let hoard = house.start_spec(spec).await.instance;

    let mut tie = liar.dial(&house).await;
    assert_eq!(refusal(ask(&tie, session(), send_to(hoard)).await), ErrorCode::NoSession);
    let unknown = SessionRef::Instance(SessionInstance(Uuid::from_u128(1)));
    assert_eq!(refusal(ask(&tie, unknown, send_to(hoard)).await), ErrorCode::NoSession);

    let job = start_there(&house, 1).await;
    let StartChildren { .. } = tie.hear().await;
    assert_eq!(ask(&tie, session(), send_to(hoard)).await, Answer::Accepted);
    let monitor = Ask::Monitor { selection: select("1") };
    assert_eq!(ask(&tie, session(), monitor.clone()).await, Answer::Done);
    for other in [SessionRef::Default, SessionRef::Named("default".to_owned())] {
        assert_eq!(refusal(ask(&tie, other, monitor.clone()).await), ErrorCode::NoSession);
    }
    let everything = select("1");
    let refused = [
        Ask::Get(Box::default()),
        Ask::Stop { selection: everything.clone(), how: StopSpec::NOW, wait: false },
        Ask::Remove { selection: everything.clone(), force: true },
        Ask::Watch { selection: everything },
        Ask::OpenTemporary,
        Ask::StopNode,
        Ask::LeaveNode,
        Ask::ClusterToken,
        Ask::Detach(Box::new(detached())),
    ];
    for one in refused {
        assert_eq!(refusal(ask(&tie, session(), one).await), ErrorCode::Denied);
    }
    assert_eq!(house.job(job.id).await.state, State::Running, "nothing of it was done");

    // When it executes nothing of the session any more, it asks no more.
    tie.link.close(CloseCode::DONE, "");
    tie = liar.dialled().await;
    let Resume { session: resumed, jobs, .. } = tie.hear().await;
    assert_eq!(jobs, [job.instance]);
    tie.say(&Resumed {
        session: resumed,
        unknown: jobs,
        expired: true,
        inputs: Vec::new(),
        remembers: false,
    });
    assert_eq!(house.until_finished(job.id).await, State::Failed);
    assert_eq!(refusal(ask(&tie, session(), send_to(hoard)).await), ErrorCode::NoSession);
}

/// What the child that runs here for the liar asks, once it may.
async fn asked(house: &House, tie: &Tie) -> (Request, FrameSender, FrameReceiver) {
    house.let_pass(0);
    let (sender, mut receiver) = soon(tie.link.accept_bi()).await.expect("a stream");
    let frame = soon(receiver.next()).await.expect("the link is up").expect("a frame");
    (frame.open().expect("it can be read"), sender, receiver)
}

#[tokio::test]
async fn a_child_whose_owner_goes_hears_of_it_and_reaches_it_again() {
    let house = House::open().await;
    let liar = Liar::of(&house);
    let tie = liar.dial(&house).await;
    let mut start = start(1, 1);
    if let Some(BodySpec::Task { name, .. }) = start.spec.as_mut().map(|spec| &mut spec.body) {
        *name = "ask_above".to_owned();
    }
    let (session, job) = (start.session, start.job);
    tie.say(&start);
    let (request, mut answers, _requests) = asked(&house, &tie).await;
    assert_eq!(request.session, SessionRef::Instance(session));
    assert!(matches!(request.ask, Ask::Send(_)), "{request:?}");
    answers.send(&Answer::Accepted).await.expect("the link is up");
    assert_eq!(house.heard_above().await, "Accepted");

    let (_, _answers, _requests) = asked(&house, &tie).await;
    tie.link.close(CloseCode::DONE, "");
    assert_eq!(house.heard_above().await, "the connection to the node was lost");
    house.let_pass(0);
    let heard = house.heard_above().await;
    assert_eq!(heard, "there is no connection to the node of the child's session");

    let mut tie = liar.dial(&house).await;
    tie.say(&Resume { session, reports: 0, children: Vec::new(), jobs: vec![job] });
    assert_eq!(tie.hear::<Resumed>().await.unknown, []);
    let (again, mut answers, _requests) = asked(&house, &tie).await;
    assert_eq!(again, request);
    answers.send(&Answer::Accepted).await.expect("the link is up");
    assert_eq!(house.heard_above().await, "Accepted");
}

#[tokio::test]
async fn an_owner_that_answers_what_was_not_asked_closes_the_connection() {
    let house = House::open().await;
    let tie = Liar::of(&house).dial(&house).await;
    let mut start = start(1, 1);
    if let Some(BodySpec::Task { name, .. }) = start.spec.as_mut().map(|spec| &mut spec.body) {
        *name = "ask_above".to_owned();
    }
    tie.say(&start);
    let (_, mut answers, _requests) = asked(&house, &tie).await;
    let delivery = sortie_wire::session_proto::Delivery::Settled {
        id: sortie_model::EntryId(1),
        state: State::Completed,
    };
    answers.send_with_payload(&delivery, Vec::new()).await.expect("the link is up");
    match soon(tie.link.closed()).await {
        CloseReason::There { code: CloseCode::FORBIDDEN, .. } => {}
        other => panic!("forbidden, not {other:?}"),
    }
}
