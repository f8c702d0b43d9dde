//! What comes over a link that is up: control frames, streams of reports and input, requests.

use std::sync::Arc;

use ractor::ActorRef;
use sortie_link::{CloseCode, CloseReason, ControlReceiver, FrameReceiver, Link};
use sortie_model::{NodeId, SessionInstance, limits};
use sortie_wire::DecodeError;
use sortie_wire::frame::{Frame, Message};
use sortie_wire::host_proto::{
    Acknowledge, AnswerChild, EndSession, ForgetJob, InputRead, InputStream, ReportStream, Resume,
    Resumed, StartChildren, StopChildren, SuspendChildren,
};
use sortie_wire::link_proto::{Heartbeat, MemberUpdate, Roster};
use sortie_wire::message_proto::MessageStream;
use sortie_wire::session_proto::Ask;
use tokio::sync::Semaphore;

use crate::data::exchange::ServerEnd;
use crate::data::input::inlet;
use crate::data::messages::carry;
use crate::data::reports::{self, Parts};
use crate::data::stay::Asker;
use crate::host::HostMessage;
use crate::node::NodeShared;
use crate::peer::PeerMessage;
use crate::serve;

/// Serves a link to another node until it ends.
pub(crate) fn serve_node(
    node: &Arc<NodeShared>,
    peer: NodeId,
    (link, control): (&Link, ControlReceiver),
    actor: &ActorRef<PeerMessage>,
) {
    tokio::spawn(read_control(Arc::clone(node), peer, (link.clone(), control), actor.clone()));
    tokio::spawn(read_streams(Arc::clone(node), peer, link.clone()));
    tokio::spawn(read_requests(Arc::clone(node), peer, link.clone()));
}

async fn read_control(
    node: Arc<NodeShared>,
    peer: NodeId,
    (link, mut control): (Link, ControlReceiver),
    actor: ActorRef<PeerMessage>,
) {
    while let Some(frame) = control.next().await {
        if let Err(error) = dispatch(&node, peer, (&link, frame), &actor).await {
            link.close(CloseCode::GARBAGE, &error.to_string());
            break;
        }
    }
    let code = match link.closed().await {
        CloseReason::Here { code, .. } | CloseReason::There { code, .. } => code,
        _ => CloseCode::SILENT,
    };
    let _ = actor.cast(PeerMessage::Closed(link.id(), code));
}

async fn dispatch(
    node: &Arc<NodeShared>,
    peer: NodeId,
    (link, frame): (&Link, Frame),
    actor: &ActorRef<PeerMessage>,
) -> Result<(), DecodeError> {
    let host = |session, message| {
        if let Some(host) = node.host(session, peer) {
            let _ = host.cast(message);
        }
    };
    match frame.kind {
        Heartbeat::KIND => {
            let _ = actor.cast(PeerMessage::Beat(link.id(), frame.open()?));
        }
        StartChildren::KIND => {
            let start: StartChildren = frame.open()?;
            if link.is_closed() || !node.lease_runs(peer) {
                // It may have lain here while this program was frozen, and its owner given it up.
                // On the next connection the owner says what it still wants.
                link.close(CloseCode::SILENT, "silent for too long");
                return Ok(());
            }
            node.start_hosted(start, peer, link).await;
        }
        StopChildren::KIND
        | SuspendChildren::KIND
        | AnswerChild::KIND
        | ForgetJob::KIND
        | Acknowledge::KIND => {
            let (session, message) = to_host(frame)?;
            host(session, message);
        }
        EndSession::KIND => {
            let EndSession { session } = frame.open()?;
            node.end_host(session, peer);
        }
        // What an older connection asks is over, and would undo what the present one said.
        Resume::KIND if link.is_closed() => {}
        Resume::KIND => {
            let resume: Resume = frame.open()?;
            if let Some(host) = node.host_to_resume(resume.session, peer, link).await {
                let _ = host.cast(HostMessage::Resume(link.clone(), resume));
            }
        }
        Resumed::KIND => {
            let _ = actor.cast(PeerMessage::Resumed(link.id(), frame.open()?));
        }
        InputRead::KIND => {
            let InputRead { session, children } = frame.open()?;
            let session = node.session(session);
            let read = session.map_or(Ok(()), |it| it.on_input_read((peer, link), children));
            read.unwrap_or_else(|error| link.close(CloseCode::GARBAGE, &error.to_string()));
        }
        Roster::KIND => node.on_roster(peer, frame.open()?),
        MemberUpdate::KIND => node.on_member_update(peer, frame.open()?),
        kind => return Err(DecodeError::Unexpected { kind }),
    }
    Ok(())
}

/// What an owner tells a host that there is.
fn to_host(frame: Frame) -> Result<(SessionInstance, HostMessage), DecodeError> {
    Ok(match frame.kind {
        StopChildren::KIND => {
            let stop: StopChildren = frame.open()?;
            (stop.session, HostMessage::Stop(stop))
        }
        SuspendChildren::KIND => {
            let suspend: SuspendChildren = frame.open()?;
            (suspend.session, HostMessage::Suspend(suspend))
        }
        AnswerChild::KIND => {
            let answer = answer_of(frame)?;
            (answer.session, HostMessage::Answer(answer))
        }
        ForgetJob::KIND => {
            let forget: ForgetJob = frame.open()?;
            (forget.session, HostMessage::Forget(forget))
        }
        _ => {
            let acknowledge: Acknowledge = frame.open()?;
            (acknowledge.session, HostMessage::Acknowledge(acknowledge))
        }
    })
}

fn answer_of(frame: Frame) -> Result<AnswerChild, DecodeError> {
    let answer: AnswerChild = frame.open()?;
    let (length, limit) = (answer.answer.len(), limits::ANSWER_BYTES);
    if length > limit { Err(DecodeError::TooLong { length, limit }) } else { Ok(answer) }
}

async fn read_streams(node: Arc<NodeShared>, peer: NodeId, link: Link) {
    while let Ok(stream) = link.accept_uni().await {
        tokio::spawn(read_stream(Arc::clone(&node), peer, link.clone(), stream));
    }
}

async fn read_stream(node: Arc<NodeShared>, peer: NodeId, link: Link, mut stream: FrameReceiver) {
    let Ok(Some(first)) = stream.next().await else { return };
    match first.kind {
        ReportStream::KIND => reports::read(node, link, peer, Parts { first, stream }).await,
        InputStream::KIND => inlet::receive(node, (link, peer), first, stream).await,
        MessageStream::KIND => carry::receive(node, (link, peer), first, stream).await,
        _ => link.close(CloseCode::FORBIDDEN, "a stream begins with a message of another kind"),
    }
}

/// Serves what children that run on another node ask of sessions here: each request has a stream of
/// its own. None waits for another one: one that the link has no place for is refused.
async fn read_requests(node: Arc<NodeShared>, peer: NodeId, link: Link) {
    let monitors = Arc::new(Semaphore::new(limits::REQUESTS_PER_LINK));
    let messages = Arc::new(Semaphore::new(limits::MESSAGES_PER_LINK));
    while let Ok((sender, receiver)) = link.accept_bi().await {
        let (node, messages, monitors) =
            (Arc::clone(&node), Arc::clone(&messages), Arc::clone(&monitors));
        tokio::spawn(async move {
            // A stream that does not begin with a request was given up or is garbage, and ends.
            let Ok((request, end)) = ServerEnd::accept(sender, receiver).await else { return };
            let places = if matches!(request.ask, Ask::Send(_)) { messages } else { monitors };
            let Ok(_place) = places.try_acquire_owned() else {
                return serve::above::refuse_surplus(end).await;
            };
            serve::above::serve(node, peer, request, end).await;
        });
    }
}

/// Serves a user's link until it ends: every request has a stream of its own.
pub(crate) async fn serve_user(
    node: Arc<NodeShared>,
    user: Asker,
    (link, control): (Link, ControlReceiver),
) {
    tokio::spawn(beat(link.clone(), control));
    let places = Arc::new(Semaphore::new(limits::REQUESTS_PER_LINK));
    let messages = Arc::new(Semaphore::new(limits::MESSAGES_PER_LINK));
    let presences = Arc::new(Semaphore::new(limits::PRESENCES_PER_LINK));
    while let Ok((sender, receiver)) = link.accept_bi().await {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let (node, user) = (Arc::clone(&node), user.clone());
        let (messages, presences) = (Arc::clone(&messages), Arc::clone(&presences));
        tokio::spawn(async move {
            // A stream that does not begin with a request was given up or is garbage, and ends.
            let Ok((request, end)) = ServerEnd::accept(sender, receiver).await else { return };
            let own = match request.ask {
                Ask::Send(_) => Some(messages),
                Ask::Connect { .. } | Ask::OpenTemporary => Some(presences),
                _ => None,
            };
            let _place = if let Some(own) = own {
                // It may stay for long, and must keep no other request from being served.
                drop(place);
                let Ok(place) = own.try_acquire_owned() else {
                    return serve::refuse_surplus(&request.ask, end).await;
                };
                place
            } else {
                place
            };
            serve::serve(node, user, request, end).await;
        });
    }
}

/// Tells a user's program twice a second that this node is there, and reads that it is, until the
/// link ends.
async fn beat(link: Link, mut control: ControlReceiver) {
    let mut turn = tokio::time::interval(limits::HEARTBEAT);
    let (mut number, mut heard) = (0, 0);
    loop {
        tokio::select! {
            biased;
            frame = control.next() => match frame.map(|frame| frame.open::<Heartbeat>()) {
                Some(Ok(beat)) => heard = beat.number.max(heard),
                Some(Err(error)) => link.close(CloseCode::GARBAGE, &error.to_string()),
                None => return,
            },
            _ = turn.tick() => {
                if link.silence() > limits::LEASE {
                    // Its program was killed or is frozen: what it held goes back at once.
                    link.close(CloseCode::SILENT, "silent for too long");
                    return;
                }
                number += 1;
                if link.send(&Heartbeat { number, heard }).is_err() {
                    return;
                }
            }
        }
    }
}
