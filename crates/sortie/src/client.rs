//! A client: a connection to a node, and the verbs that are about the node rather than a session.

use std::sync::Arc;
use std::time::Duration;

use sortie_actors::NodeHandle;
use sortie_model::nodeset::NodeExpr;
use sortie_model::{NodeId, NodeName, NodeView, SessionView};
use sortie_wire::session_proto::{Answer, Ask, SessionOptions, SessionRef};

use crate::answer::{Busy, Diagnosis, JoinOffer, Pong};
use crate::error::{ConnectError, RequestError};
use crate::home::{HomeError, HomePaths};
use crate::reconnect::Reconnect;
use crate::route::{Remote, Route, Whose};
use crate::session::Session;

/// A user of a cluster, with the key that proves it. The certificate comes from the cluster's CA.
///
/// Cheap to clone. Its debug form hides the key.
#[derive(Debug, Clone)]
pub struct UserIdentity {
    pub(crate) identity: Arc<sortie_link::Identity>,
}

impl UserIdentity {
    /// The identity of a home's owner: reads two small files.
    ///
    /// # Errors
    /// [`HomeError::Read`] when the home holds none, [`HomeError::Exposed`] when others can read
    /// it, [`HomeError::Damaged`] when a file holds something else.
    pub fn of_home(paths: &HomePaths) -> Result<Self, HomeError> {
        let (identity, _) = paths.client_side()?;
        Ok(Self { identity: Arc::new(identity) })
    }
}

/// A connection to a node, in this process or another one.
///
/// Cheap to clone; clones share one connection. It is closed when the last clone, and the last
/// handle on a session that came from it, is dropped: temporary sessions then end, `default` does
/// not notice, and the idle time of the others begins (`docs/semantics.md`, sections 4 and 4.1). A
/// connection that broke is made again by the next request, within the same time-out; what was
/// under way ends with [`RequestError::Lost`], unless it is a [`Client::reconnecting`] one.
#[derive(Debug, Clone)]
pub struct Client {
    route: Route,
}

impl Client {
    /// A client of a node in this process.
    pub(crate) const fn of_node(node: NodeHandle) -> Self {
        Self { route: Route::Local(node) }
    }

    /// Connects to the node that runs with a home, as the home's owner. Reads three small files and
    /// dials once, on this machine, for `timeout` in all; it is that node or an error. Must be
    /// called within a tokio runtime; one thread is enough.
    ///
    /// # Errors
    /// [`ConnectError::NotRunning`] when no node is ready in that home, also where one was killed
    /// and left its address; [`ConnectError::Unresponsive`] when one is there and says nothing;
    /// [`ConnectError::Home`] when its files cannot be read; [`ConnectError::Dial`] as for
    /// [`Client::connect`].
    ///
    /// # Cancel safety
    /// Cancel safe: the dial is given up.
    pub async fn connect_home(paths: &HomePaths, timeout: Duration) -> Result<Self, ConnectError> {
        // Before its address is read: who takes the home later was not dialled.
        let before = paths.last_holder();
        let address = paths.announced()?.ok_or(ConnectError::NotRunning)?;
        if !paths.has_identity() {
            return Err(ConnectError::NotRunning);
        }
        let (identity, node) = paths.client_side()?;
        let identity = UserIdentity { identity: Arc::new(identity) };
        let whose = (Some(node), Whose::Home(paths.clone()));
        let remote = Remote::connect(&address, &identity, whose, timeout).await;
        let remote = remote.map_err(|error| error.of_home(|| paths.holder(before)))?;
        Ok(Self { route: Route::Link(Arc::new(remote)) })
    }

    /// Connects to the node at `host:port` as that user. With `node` it must be that one, else it
    /// may be any node of the user's cluster. The dial, from the look-up of the name to the node's
    /// answer, takes `timeout` at most. Must be called within a tokio runtime. Children that were
    /// started there without nodes show that node's name as their location, not `localhost`.
    ///
    /// # Errors
    /// [`ConnectError::Dial`]; its [`step`](ConnectError::step) says how far it came.
    ///
    /// # Cancel safety
    /// Cancel safe: the dial is given up.
    pub async fn connect(
        address: &str,
        identity: &UserIdentity,
        node: Option<NodeId>,
        timeout: Duration,
    ) -> Result<Self, ConnectError> {
        let whose = (node, Whose::Elsewhere);
        let remote = Remote::connect(address, identity, whose, timeout).await?;
        Ok(Self { route: Route::Link(Arc::new(remote)) })
    }

    /// The same client, whose requests go on when its connection breaks, where that does no harm
    /// (`docs/semantics.md`, section 4.3): it dials the node until it answers, for
    /// [`limits::RECONNECT_TIME`](crate::limits::RECONNECT_TIME) unless said otherwise, and what
    /// reads or waits goes on behind what it has handed out, nothing lost and nothing twice. That
    /// is: [`Session::wait`], [`Session::receive`] and the streams of jobs,
    /// [`Session::watch`], the queries, a [`Session::stop`] that waits, and a start without input,
    /// by its key. Everything else, and everything in a temporary session, ends with
    /// [`RequestError::Lost`] as ever. So does what was asked of a node that was stopped.
    ///
    /// Clones, and what came from this client before, go on in the same way; the first call counts.
    /// Of a node in this process it changes nothing.
    #[must_use]
    pub fn reconnecting(self, how: Reconnect) -> Self {
        if let Route::Link(remote) = &self.route {
            remote.go_on(how);
        }
        self
    }

    /// Closes the connection so that the node knows at once, and waits until it can, at most
    /// [`limits::CLOSE_TIME`](crate::limits::CLOSE_TIME); a program that just ends leaves it to
    /// notice the silence. What is under way on clones and sessions is lost. For a node in this
    /// process it does nothing.
    ///
    /// # Cancel safety
    /// A dropped call may leave the node to notice the silence.
    pub async fn close(self) {
        if let Route::Link(remote) = &self.route {
            remote.close().await;
        }
    }

    /// The user's session `default` on this node, which ends with the node. Asks nothing.
    pub fn session(&self) -> Session {
        Session::new(self.route.clone(), SessionRef::Default)
    }

    /// The one session with that name, number or identity. It is looked up by every request; that
    /// there is none, or more than one, is each request's error. A session that somebody has to
    /// hold is held by the first request that may ([`Client::connect_session`] holds it for as long
    /// as there is a handle).
    pub fn session_named(&self, name: &str) -> Session {
        Session::new(self.route.clone(), SessionRef::Named(name.to_owned()))
    }

    /// Opens a temporary session: it ends, its jobs are stopped and their results dropped, when the
    /// last handle on it or its jobs is dropped, or this program ends.
    ///
    /// # Errors
    /// [`RequestError`].
    ///
    /// # Cancel safety
    /// Cancel safe: a session that was opened ends at once.
    pub async fn temporary(&self) -> Result<Session, RequestError> {
        Session::open_temporary(self.route.clone()).await
    }

    /// Opens a session that outlives this program, on this node, and holds it (`docs/semantics.md`,
    /// section 4.1). It ends when it is closed ([`Session::close`]), when it was idle for too long,
    /// or with its node. Its idle time runs while its holder has neither a handle from here nor a
    /// request open.
    ///
    /// # Errors
    /// [`RequestError::Refused`]: with [`ErrorCode::Limit`](crate::ErrorCode::Limit) beyond
    /// [`limits::SESSIONS_PER_NODE`](crate::limits::SESSIONS_PER_NODE); with
    /// [`ErrorCode::Usage`](crate::ErrorCode::Usage) when the idle time is not
    /// [`limits::SESSION_IDLE_LEAST`](crate::limits::SESSION_IDLE_LEAST) to
    /// [`limits::SESSION_IDLE_MOST`](crate::limits::SESSION_IDLE_MOST), or the name is `default`.
    ///
    /// # Cancel safety
    /// A dropped call may have opened a session, which then is idle.
    pub async fn open_session(&self, options: SessionOptions) -> Result<Session, RequestError> {
        Session::open_held(self.route.clone(), options).await
    }

    /// Connects to the one session with that name, number or identity, and holds it. A handle from
    /// here carries the session's epoch: once another client took the session over, its requests
    /// are refused with [`ErrorCode::SessionTaken`](crate::ErrorCode::SessionTaken), the open ones
    /// included. What this client holds already stays its own.
    ///
    /// # Errors
    /// [`RequestError::Refused`]: with [`ErrorCode::SessionBusy`](crate::ErrorCode::SessionBusy)
    /// when another client holds it and `busy` refuses; with
    /// [`ErrorCode::NoSession`](crate::ErrorCode::NoSession); with
    /// [`ErrorCode::Denied`](crate::ErrorCode::Denied) when it is another user's; with
    /// [`ErrorCode::Usage`](crate::ErrorCode::Usage) for `default`, temporary sessions and those of
    /// children, which nobody holds.
    ///
    /// # Cancel safety
    /// A dropped call may have been carried out; it can be repeated.
    pub async fn connect_session(&self, name: &str, busy: Busy) -> Result<Session, RequestError> {
        let which = SessionRef::Named(name.to_owned());
        Session::connect(self.route.clone(), which, busy).await
    }

    /// The sessions of the node, and how they stand with this client.
    ///
    /// # Errors
    /// [`RequestError`].
    ///
    /// # Cancel safety
    /// Cancel safe: it changes nothing.
    pub async fn sessions(&self) -> Result<Vec<SessionView>, RequestError> {
        match self.ask(Ask::Sessions).await? {
            Answer::Sessions(sessions) => Ok(sessions),
            _ => Err(RequestError::Unexpected),
        }
    }

    /// The members of the cluster, as this node knows them: those that the expression names, or
    /// all. Those that it has no link to are dialled, side by side, for 2 s at most.
    ///
    /// # Errors
    /// [`RequestError`]; an unknown name has
    /// [`ErrorCode::UnknownNode`](crate::ErrorCode::UnknownNode), a mistake in the groups
    /// [`ErrorCode::Usage`](crate::ErrorCode::Usage).
    ///
    /// # Cancel safety
    /// Cancel safe: it changes nothing.
    pub async fn nodes(&self, expression: Option<NodeExpr>) -> Result<Vec<NodeView>, RequestError> {
        self.members(Ask::Nodes { expression }).await
    }

    /// Asks a node for a sign of life, through this one; this one itself without a name. One that
    /// this one has no link to is dialled, for
    /// [`limits::CONNECT_TIME`](crate::limits::CONNECT_TIME) at most.
    ///
    /// # Errors
    /// [`RequestError`]; a node that cannot be reached has
    /// [`ErrorCode::Unreachable`](crate::ErrorCode::Unreachable), an unknown name
    /// [`ErrorCode::UnknownNode`](crate::ErrorCode::UnknownNode).
    ///
    /// # Cancel safety
    /// Cancel safe: it changes nothing.
    pub async fn ping(&self, node: Option<NodeName>) -> Result<Pong, RequestError> {
        match self.ask(Ask::Ping { node }).await? {
            Answer::Pong { node, round_trip } => Ok(Pong { node, round_trip }),
            _ => Err(RequestError::Unexpected),
        }
    }

    /// Shuts this node down, with all sessions and children on it. Returns when it has agreed,
    /// before that is done.
    ///
    /// # Errors
    /// [`RequestError`].
    ///
    /// # Cancel safety
    /// A dropped call may have been carried out; it can be repeated.
    pub async fn stop_node(&self) -> Result<(), RequestError> {
        match self.ask(Ask::StopNode).await? {
            Answer::Done => Ok(()),
            _ => Err(RequestError::Unexpected),
        }
    }

    /// Ends this node as its death would, but in good order: sessions that outlive it, their jobs
    /// and processes run on, and the next node of its home takes them up (`docs/semantics.md`,
    /// section 4.2); everything else ends. Clients that go on ([`Client::reconnecting`]) wait for
    /// that node. Returns when it has agreed, before that is done.
    ///
    /// # Errors
    /// [`RequestError`]; [`ErrorCode::Usage`](crate::ErrorCode::Usage) from a node without a home.
    ///
    /// # Cancel safety
    /// A dropped call may have been carried out; it can be repeated.
    pub async fn leave_node(&self) -> Result<(), RequestError> {
        match self.ask(Ask::LeaveNode).await? {
            Answer::Done => Ok(()),
            _ => Err(RequestError::Unexpected),
        }
    }

    /// Sets labels of a node, at most [`limits::LABELS_PER_NODE`](crate::limits::LABELS_PER_NODE)
    /// in all; an empty value removes one. Returns the node as it is then. Only the node that holds
    /// the cluster's CA can do it, for any member.
    ///
    /// # Errors
    /// [`RequestError::Refused`]: with [`ErrorCode::NoAuthority`](crate::ErrorCode::NoAuthority)
    /// by another node; with [`ErrorCode::UnknownNode`](crate::ErrorCode::UnknownNode); with
    /// [`ErrorCode::Usage`](crate::ErrorCode::Usage) when a label cannot be used, or there are too
    /// many.
    ///
    /// # Cancel safety
    /// A dropped call may have been carried out; it can be repeated.
    pub async fn set_labels(
        &self,
        node: NodeName,
        labels: Vec<(String, String)>,
    ) -> Result<Vec<NodeView>, RequestError> {
        self.members(Ask::SetLabels { node, labels }).await
    }

    /// Makes this node reachable for others, at `advertise` (`host:port`) or where it listens, and
    /// gives a token with which one can join within
    /// [`limits::TOKEN_LIFE`](crate::limits::TOKEN_LIFE).
    ///
    /// # Errors
    /// As for [`Client::cluster_token`]; [`ErrorCode::Usage`](crate::ErrorCode::Usage) when
    /// `advertise` is no address.
    ///
    /// # Cancel safety
    /// A dropped call may have been carried out; its token then ages unused.
    pub async fn cluster_init(&self, advertise: Option<String>) -> Result<JoinOffer, RequestError> {
        self.offer(Ask::ClusterInit { advertise }).await
    }

    /// One token more: it lets one node in. At most [`limits::TOKENS`](crate::limits::TOKENS) are
    /// out at once.
    ///
    /// # Errors
    /// [`RequestError::Refused`]: with [`ErrorCode::NoAuthority`](crate::ErrorCode::NoAuthority)
    /// when this node does not hold the cluster's CA: ask the one that does; with
    /// [`ErrorCode::Limit`](crate::ErrorCode::Limit) when too many tokens are out.
    ///
    /// # Cancel safety
    /// A dropped call may have made a token, which then ages unused.
    pub async fn cluster_token(&self) -> Result<JoinOffer, RequestError> {
        self.offer(Ask::ClusterToken).await
    }

    /// Makes this node join another one's cluster, and gives the members. The node's and the user's
    /// certificates are replaced, so connect anew afterwards.
    ///
    /// # Errors
    /// [`RequestError`]; among its codes `token_wrong`, `token_used`, `token_expired`,
    /// `name_taken`, `not_alone`, `no_authority` when the member at `address` does not hold the CA,
    /// `unreachable`.
    ///
    /// # Cancel safety
    /// A dropped call may have been carried out: look with [`Client::nodes`] before a second one.
    pub async fn cluster_join(
        &self,
        address: String,
        token: String,
    ) -> Result<Vec<NodeView>, RequestError> {
        self.members(Ask::ClusterJoin { address, token }).await
    }

    /// What the node finds out about its own health. It dials the members that it has no link to,
    /// for [`limits::CONNECT_TIME`](crate::limits::CONNECT_TIME) at most.
    ///
    /// # Errors
    /// [`RequestError`].
    ///
    /// # Cancel safety
    /// Cancel safe: it changes nothing.
    pub async fn diagnose(&self) -> Result<Diagnosis, RequestError> {
        match self.ask(Ask::Diagnose).await? {
            Answer::Diagnosis(diagnosis) => Ok(*diagnosis),
            _ => Err(RequestError::Unexpected),
        }
    }

    pub(crate) async fn ask(&self, ask: Ask) -> Result<Answer, RequestError> {
        self.route.ask(SessionRef::Default, ask).await
    }

    async fn members(&self, ask: Ask) -> Result<Vec<NodeView>, RequestError> {
        match self.ask(ask).await? {
            Answer::Nodes(nodes) => Ok(nodes),
            _ => Err(RequestError::Unexpected),
        }
    }

    async fn offer(&self, ask: Ask) -> Result<JoinOffer, RequestError> {
        match self.ask(ask).await? {
            Answer::Token(offer) => Ok(offer),
            _ => Err(RequestError::Unexpected),
        }
    }
}
