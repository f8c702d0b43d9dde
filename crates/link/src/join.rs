//! Becoming a member: the joining node trusts the CA that its token names and nobody else, then
//! shows the token's secret and gets its certificates.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Weak;
use std::time::Duration;

use bytes::Bytes;
use quinn::VarInt;
use sortie_model::{NodeId, NodeName, limits};
use sortie_wire::close::CloseCode;
use sortie_wire::codec::TooLarge;
use sortie_wire::frame::{PREFIX_BYTES, write_message};
use sortie_wire::join_proto::{JoinAnswer, JoinGrant, JoinRequest, JoinToken};
use sortie_wire::permit::Role;
use sortie_wire::version::SPOKEN;
use sortie_wire::{ErrorCode, Message, RemoteError};
use tokio::time::{Instant, timeout, timeout_at};

use crate::authority::{AuthorityError, CertificateAuthority, PublicKey, Validity, fingerprint};
use crate::dial::{Attempt, dial_error};
use crate::endpoint::{Arrival, Inner};
use crate::error::{AnswerFault, DialError, JoinError, StreamError};
use crate::frames::{FrameFault, FrameReader};
use crate::handshake::GreetFault;
use crate::identity::{Identity, NodeKey};
use crate::listen::{QuicNet, UnderWay};
use crate::tls::{self, Verdict};
use crate::transport::quic::{QuicConnection, shown};
use crate::transport::{Connection, RawSend, StreamFault};
use crate::trust::{ANY_NODE, Peer};

/// How long the answer of a join may take to be read.
const ANSWER_READ: Duration = Duration::from_secs(2);

/// What a joining node says of itself.
#[derive(Debug)]
pub struct JoinPlea<'a> {
    /// The name it wants.
    pub name: &'a NodeName,
    /// Where the others reach it, `host:port`.
    pub address: &'a str,
    /// Its labels, sorted by key.
    pub labels: &'a [(String, String)],
    /// The name of the user that owns it: 1 to 64 bytes.
    pub user: &'a str,
    /// Its own key.
    pub node_key: &'a NodeKey,
    /// Its user's key.
    pub user_key: &'a NodeKey,
}

/// What a node has once it is a member.
#[derive(Debug)]
pub struct Joined {
    /// Its identity in the new cluster.
    pub node: Identity,
    /// Its user's identity in the new cluster.
    pub user: Identity,
    /// The node that holds the CA and sends the roster.
    pub authority_node: NodeId,
}

/// Joins the cluster whose CA the token names, through its node at `address` (`host:port`).
///
/// The secret leaves this process only after the other side has shown a certificate of that CA.
///
/// # Errors
/// [`JoinError`]; nothing changed then, unless the answer was lost on its way back: then the token
/// is used up.
///
/// # Cancel safety
/// Dropping the future gives the join up, with the same proviso.
pub async fn join(
    address: &str,
    token: &JoinToken,
    plea: &JoinPlea<'_>,
    wait: Duration,
) -> Result<Joined, JoinError> {
    let began = Instant::now();
    let message = request(token, plea)?;
    let net = QuicNet::default();
    let verdict = Verdict::default();
    let config = tls::joining_client(token.authority, &verdict)
        .map_err(|source| DialError::Identity { address: address.to_owned(), source })?;
    // Like a user it is let in as a stranger and is opened no streams.
    let (server, role) = (ANY_NODE.to_owned(), Role::User);
    let attempt = Attempt { net: &net, address, config, verdict, server, role };
    let (connection, _) = attempt.connect(began, wait).await?;
    let connection = QuicConnection::new(connection);
    net.remember(&connection);
    let talk = ask(Connection::Quic(connection), message);
    let answer = match timeout_at(began + wait, talk).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(fault)) => return Err(join_error(address, fault, &attempt.verdict)),
        Err(_) => {
            return Err(DialError::NoAnswer { address: address.to_owned(), waited: wait }.into());
        }
    };
    net.close(CloseCode::SHUTDOWN, "").await;
    match answer {
        JoinAnswer::Granted(grant) => joined(*grant, token, plea)
            .map_err(|fault| JoinError::Answer { address: address.to_owned(), fault }),
        JoinAnswer::Refused(error) => {
            Err(DialError::Refused { address: address.to_owned(), error }.into())
        }
    }
}

fn request(token: &JoinToken, plea: &JoinPlea<'_>) -> Result<Vec<u8>, JoinError> {
    let request = JoinRequest {
        versions: SPOKEN,
        secret: token.secret,
        name: plea.name.clone(),
        address: plea.address.to_owned(),
        labels: plea.labels.to_vec(),
        user: plea.user.to_owned(),
        node_request: plea.node_key.signing_request()?.into(),
        user_request: plea.user_key.signing_request()?.into(),
    };
    Ok(bounded(&request)?)
}

fn bounded<M: Message>(message: &M) -> Result<Vec<u8>, TooLarge> {
    let mut bytes = Vec::new();
    write_message(message, &mut bytes)?;
    if bytes.len() > limits::JOIN_FRAME_BYTES + PREFIX_BYTES { Err(TooLarge) } else { Ok(bytes) }
}

async fn ask(connection: Connection, message: Vec<u8>) -> Result<JoinAnswer, AnswerFault> {
    let closed = |reason| AnswerFault::Stream(StreamError::Closed(reason));
    let (mut send, receive) = connection.open_bi().await.map_err(closed)?;
    send.write(&mut [Bytes::from(message)]).await.map_err(stream_fault)?;
    send.finish().map_err(stream_fault)?;
    let mut receive = FrameReader::new(receive, limits::JOIN_FRAME_BYTES);
    match receive.next().await {
        Ok(Some(frame)) => Ok(frame.open()?),
        Ok(None) | Err(FrameFault::Truncated) => Err(AnswerFault::Stream(StreamError::Truncated)),
        Err(FrameFault::Stream(fault)) => Err(stream_fault(fault)),
        Err(FrameFault::Decode(error)) => Err(error.into()),
    }
}

fn stream_fault(fault: StreamFault) -> AnswerFault {
    AnswerFault::Stream(match fault {
        StreamFault::Closed(reason) => StreamError::Closed(reason),
        StreamFault::Reset(code) => StreamError::Reset(code),
        StreamFault::Stopped(code) => StreamError::Stopped(code),
        StreamFault::Ended => StreamError::Ended,
    })
}

fn join_error(address: &str, fault: AnswerFault, verdict: &Verdict) -> JoinError {
    match fault {
        AnswerFault::Stream(StreamError::Closed(reason)) => {
            dial_error(address, GreetFault::Broken(reason), verdict).into()
        }
        fault => JoinError::Answer { address: address.to_owned(), fault },
    }
}

/// Believes an answer only when it is of the token's CA, for our keys, and in our roles.
fn joined(grant: JoinGrant, token: &JoinToken, plea: &JoinPlea<'_>) -> Result<Joined, AnswerFault> {
    if fingerprint(&grant.authority) != token.authority {
        return Err(AnswerFault::OtherAuthority);
    }
    let identity = |leaf: &Bytes, key| {
        Identity::new(leaf.to_vec(), grant.authority.to_vec(), key)
            .map_err(|_| AnswerFault::OtherCertificates)
    };
    let node = identity(&grant.node, plea.node_key)?;
    let user = identity(&grant.user, plea.user_key)?;
    let as_asked = matches!(node.peer(), Peer::Node { name, .. } if name == plea.name)
        && matches!(user.peer(), Peer::User { .. });
    if as_asked {
        Ok(Joined { node, user, authority_node: grant.authority_node })
    } else {
        Err(AnswerFault::OtherCertificates)
    }
}

/// A node that asks to join, at the node that may let it. It has proven only that it holds the keys
/// of its requests; the secret is still to be judged.
///
/// Dropping it refuses without a word.
pub struct JoinExchange {
    request: Box<JoinRequest>,
    node_key: PublicKey,
    user_key: PublicKey,
    from: SocketAddr,
    connection: Connection,
    send: RawSend,
    _under_way: UnderWay,
}

impl JoinExchange {
    /// What it asks for.
    pub fn request(&self) -> &JoinRequest {
        &self.request
    }

    /// Its identity, should it become a member.
    pub fn node_id(&self) -> NodeId {
        self.node_key.node_id()
    }

    /// Its address as seen from here.
    pub const fn from(&self) -> SocketAddr {
        self.from
    }

    /// Makes both certificates, with the name that was asked for, and sends them. `authority_node`
    /// is the node that holds the CA. Waits until the other side has the answer or is gone, for two
    /// seconds at most.
    ///
    /// # Errors
    /// [`AuthorityError`] when the certificates could not be made: the node was then refused.
    /// Whether the answer arrived cannot be known.
    pub async fn grant(
        self,
        authority: &CertificateAuthority,
        authority_node: NodeId,
    ) -> Result<(), AuthorityError> {
        let validity = Validity::long_from(std::time::SystemTime::now());
        let made = || {
            Ok(JoinGrant {
                authority: authority.certificate_der().to_vec().into(),
                node: authority.issue_node(&self.node_key, &self.request.name, validity)?.into(),
                user: authority.issue_user(&self.user_key, &self.request.user, validity)?.into(),
                authority_node,
            })
        };
        match made() {
            Ok(grant) => {
                self.answer(JoinAnswer::Granted(Box::new(grant))).await;
                Ok(())
            }
            Err(error) => {
                let error: AuthorityError = error;
                self.refuse(RemoteError::new(ErrorCode::Usage, error.to_string())).await;
                Err(error)
            }
        }
    }

    /// Says why not.
    pub async fn refuse(self, error: RemoteError) {
        self.answer(JoinAnswer::Refused(error)).await;
    }

    async fn answer(mut self, answer: JoinAnswer) {
        send_answer(&mut self.send, &answer, &self.connection).await;
    }
}

impl Drop for JoinExchange {
    fn drop(&mut self) {
        self.connection.close(CloseCode::DONE, "");
    }
}

impl fmt::Debug for JoinExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinExchange({} from {})", self.request.name, self.from)
    }
}

async fn send_answer(send: &mut RawSend, answer: &JoinAnswer, connection: &Connection) {
    let Ok(bytes) = bounded(answer) else { return };
    let sending = async {
        send.write(&mut [Bytes::from(bytes)]).await.ok()?;
        send.finish().ok()?;
        // The other side closes once it has read the answer; an early close could overtake it.
        connection.closed().await;
        Some(())
    };
    let _ = timeout(ANSWER_READ, sending).await;
}

/// Reads the request of a joining node and passes it on. The caller bounds the time.
pub(crate) async fn receive(
    connection: quinn::Connection,
    inner: Weak<Inner>,
    under_way: UnderWay,
) {
    let from = connection.remote_address();
    let quic = connection.clone();
    let connection = Connection::Quic(QuicConnection::new(connection));
    let Ok((mut send, receive)) = connection.accept_bi().await else { return };
    let mut receive = FrameReader::new(receive, limits::JOIN_FRAME_BYTES);
    let request = match receive.next().await {
        Ok(Some(frame)) => frame.open::<JoinRequest>().ok().map(Box::new),
        _ => None,
    };
    let Some(request) = request else {
        quic.close(VarInt::from_u32(CloseCode::GARBAGE.0), b"");
        return;
    };
    let keys = checked(&request);
    let (node_key, user_key) = match keys {
        Ok(keys) => keys,
        Err(error) => {
            tracing::debug!(%from, %error, "a join makes no sense");
            send_answer(&mut send, &JoinAnswer::Refused(error), &connection).await;
            return connection.close(CloseCode::REFUSED, "");
        }
    };
    let exchange =
        JoinExchange { request, node_key, user_key, from, connection, send, _under_way: under_way };
    let Some(inner) = inner.upgrade() else { return };
    if let Some(arrivals) = inner.arrivals() {
        // A failed send drops the exchange, which closes the connection.
        let _ = arrivals.send(Arrival::Join(exchange)).await;
    }
}

fn checked(request: &JoinRequest) -> Result<(PublicKey, PublicKey), RemoteError> {
    if SPOKEN.agree(request.versions).is_none() {
        return Err(RemoteError::new(ErrorCode::Version, "no common protocol version"));
    }
    let usage = |text: &str| RemoteError::new(ErrorCode::Usage, text);
    if request.labels.len() > limits::LABELS_PER_NODE {
        return Err(usage("the node has too many labels"));
    }
    if shown(request.address.as_bytes()) != request.address {
        return Err(usage("the node's address is no address"));
    }
    let key = |der: &[u8]| PublicKey::of_request(der).map_err(|error| usage(&error.to_string()));
    Ok((key(&request.node_request)?, key(&request.user_request)?))
}
