//! From a connection with a proven peer to a link: hello, acknowledgement or refusal. A client whom
//! the server rejects sees its TLS handshake succeed all the same; only the acknowledgement says
//! that the link is up.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use sortie_model::{Incarnation, Timestamp, limits};
use sortie_wire::close::{CloseCode, StreamCode};
use sortie_wire::frame::write_message;
use sortie_wire::link_proto::{Hello, HelloAck, HelloRefused};
use sortie_wire::permit::Role;
use sortie_wire::version::SPOKEN;
use sortie_wire::{DecodeError, ErrorCode, Frame, Message, RemoteError};
use tokio::time::Instant;

use crate::control::ControlReceiver;
use crate::endpoint::LinkPlace;
use crate::error::{CloseReason, Side};
use crate::frames::{FrameFault, FrameReader};
use crate::link::{Greeted, Link, PeerFacts};
use crate::transport::{Connection, RawSend, StreamFault};
use crate::trust::Peer;

/// How long a refused side may take to read why.
const REFUSAL_READ: Duration = Duration::from_secs(1);

/// What this side says of itself in a hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalFacts {
    /// Its life.
    pub incarnation: Incarnation,
    /// Its program's version, for people.
    pub program: String,
    /// Where it can be dialled, `host:port`, if it is a node.
    pub address: Option<String>,
}

/// Why a connection did not become a link.
#[derive(Debug)]
pub(crate) enum GreetFault {
    /// The connection broke.
    Broken(CloseReason),
    /// The other side refused.
    Refused(RemoteError),
    /// The other side's word and certificate differ.
    Impostor,
    /// This side refused.
    WeRefused(ErrorCode),
    /// The other side does not keep to the protocol.
    Protocol,
}

/// Whether this side takes one more link.
pub(crate) enum Room {
    Place(LinkPlace),
    Full,
    Closing,
}

/// The dialling side.
pub(crate) async fn greet(
    connection: Connection,
    our_role: Role,
    peer: Peer,
    local: &LocalFacts,
) -> Result<(Link, ControlReceiver), GreetFault> {
    let (mut send, receive) = connection.open_bi().await.map_err(GreetFault::Broken)?;
    send.prioritise(i32::MAX);
    let hello = Hello {
        versions: SPOKEN,
        incarnation: local.incarnation,
        program: local.program.clone(),
        clock: now(),
        address: local.address.clone(),
    };
    let greeted = Instant::now();
    write(&mut send, &hello, &connection).await?;
    let mut receive = FrameReader::new(receive, limits::HELLO_FRAME_BYTES);
    let frame = next(&mut receive, &connection).await?;
    if frame.kind == HelloRefused::KIND {
        let refused: HelloRefused = opened(&frame, &connection)?;
        connection.close(CloseCode::DONE, "");
        return Err(GreetFault::Refused(refused.error));
    }
    let ack: HelloAck = opened(&frame, &connection)?;
    let is_peer = matches!(&peer, Peer::Node { id, name } if *id == ack.node && *name == ack.name);
    if !is_peer || !(SPOKEN.min..=SPOKEN.max).contains(&ack.version) {
        connection.close(CloseCode::GARBAGE, "the acknowledgement is not the certificate's");
        return Err(GreetFault::Impostor);
    }
    let facts = PeerFacts {
        incarnation: ack.incarnation,
        program: ack.program,
        version: ack.version,
        clock_skew: ack.clock.saturating_sub(now()),
        address: None,
        seen_at: connection.remote(),
        dialled: Side::Here,
    };
    let place = None;
    Ok(Link::up(Greeted { our_role, peer, facts, connection, send, receive, place, greeted }))
}

/// The side that was dialled. `local` names this side as its certificate does.
pub(crate) async fn answer(
    connection: Connection,
    peer: Peer,
    local: (&Peer, &LocalFacts),
    room: impl FnOnce() -> Room,
) -> Result<(Link, ControlReceiver), GreetFault> {
    let (mut send, receive) = connection.accept_bi().await.map_err(GreetFault::Broken)?;
    send.prioritise(i32::MAX);
    let mut receive = FrameReader::new(receive, limits::HELLO_FRAME_BYTES);
    let frame = next(&mut receive, &connection).await?;
    let hello: Hello = opened(&frame, &connection)?;
    let (Peer::Node { id, name }, facts) = local else {
        return refuse(send, &connection, only_nodes()).await;
    };
    let Some(version) = SPOKEN.agree(hello.versions) else {
        return refuse(send, &connection, no_version(&hello)).await;
    };
    let place = match room() {
        Room::Place(place) => place,
        Room::Full => return refuse(send, &connection, full()).await,
        Room::Closing => return refuse(send, &connection, closing()).await,
    };
    // The limits travel ahead of the acknowledgement, so that its reader finds them raised.
    connection.admit(peer.role());
    let ack = HelloAck {
        version,
        node: *id,
        name: name.clone(),
        incarnation: facts.incarnation,
        program: facts.program.clone(),
        clock: now(),
    };
    let greeted = Instant::now();
    write(&mut send, &ack, &connection).await?;
    let facts = PeerFacts {
        incarnation: hello.incarnation,
        program: hello.program,
        version,
        clock_skew: hello.clock.saturating_sub(ack.clock),
        address: hello.address,
        seen_at: connection.remote(),
        dialled: Side::There,
    };
    let place = Some(place);
    let our_role = Role::Node;
    Ok(Link::up(Greeted { our_role, peer, facts, connection, send, receive, place, greeted }))
}

fn only_nodes() -> RemoteError {
    RemoteError::new(ErrorCode::Usage, "only nodes take links")
}

fn no_version(hello: &Hello) -> RemoteError {
    let (theirs, ours) = (hello.versions, SPOKEN);
    let text = format!(
        "no common protocol version: it speaks {} to {}, this node {} to {}",
        theirs.min, theirs.max, ours.min, ours.max
    );
    RemoteError::new(ErrorCode::Version, text).hint("bring the older program up to date")
}

fn full() -> RemoteError {
    let text = format!("the node has {} links, which is its limit", limits::LINKS_PER_NODE);
    RemoteError::new(ErrorCode::Limit, text)
}

fn closing() -> RemoteError {
    RemoteError::new(ErrorCode::ShuttingDown, "the node shuts down")
}

async fn refuse<T>(
    mut send: RawSend,
    connection: &Connection,
    error: RemoteError,
) -> Result<T, GreetFault> {
    let code = error.code;
    write(&mut send, &HelloRefused { error }, connection).await?;
    // The other side closes once it has read the refusal; an early close could overtake it.
    if send.finish().is_ok() {
        let _ = tokio::time::timeout(REFUSAL_READ, connection.closed()).await;
    }
    connection.close(CloseCode::REFUSED, "");
    Err(GreetFault::WeRefused(code))
}

async fn write<M: Message>(
    send: &mut RawSend,
    message: &M,
    connection: &Connection,
) -> Result<(), GreetFault> {
    let mut bytes = Vec::new();
    let fits = write_message(message, &mut bytes).is_ok();
    if !fits || bytes.len() > limits::HELLO_FRAME_BYTES {
        connection.close(CloseCode::GARBAGE, "the hello would be too long");
        return Err(GreetFault::Protocol);
    }
    send.write(&mut [Bytes::from(bytes)]).await.map_err(|fault| broken(fault, connection))
}

async fn next(receive: &mut FrameReader, connection: &Connection) -> Result<Frame, GreetFault> {
    match receive.next().await {
        Ok(Some(frame)) => Ok(frame),
        Ok(None) | Err(FrameFault::Truncated) => {
            Err(broken(StreamFault::Reset(StreamCode::DROPPED), connection))
        }
        Err(FrameFault::Stream(fault)) => Err(broken(fault, connection)),
        Err(FrameFault::Decode(error)) => Err(garbage(&error, connection)),
    }
}

fn opened<M: Message>(frame: &Frame, connection: &Connection) -> Result<M, GreetFault> {
    frame.open().map_err(|error| garbage(&error, connection))
}

fn garbage(error: &DecodeError, connection: &Connection) -> GreetFault {
    connection.close(CloseCode::GARBAGE, &error.to_string());
    GreetFault::Protocol
}

fn broken(fault: StreamFault, connection: &Connection) -> GreetFault {
    match fault {
        StreamFault::Closed(reason) => GreetFault::Broken(reason),
        _ => {
            connection.close(CloseCode::GARBAGE, "the control stream was ended");
            GreetFault::Protocol
        }
    }
}

fn now() -> i64 {
    Timestamp::of(SystemTime::now()).0
}
