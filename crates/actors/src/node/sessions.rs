//! The sessions of a node.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use ractor::Actor;
use sortie_engine::hold::Hold;
use sortie_model::record::OutputRule;
use sortie_model::{NodeId, SessionId, SessionInstance, SessionName, limits};
use sortie_store::journal::Change;
use sortie_wire::session_proto::{SessionOptions, SessionRef};
use sortie_wire::{ErrorCode, RemoteError};

use crate::data::durable::{Durable, session_entry};
use crate::data::nested::Above;
use crate::data::session::{SessionIdentity, SessionShared};
use crate::data::stay::Asker;
use crate::host::{HostActor, HostArguments, Owner};
use crate::node::NodeShared;
use crate::session::{SessionActor, SessionMessage};

/// The sessions that live on a node.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    all: RwLock<HashMap<SessionInstance, Arc<SessionShared>>>,
    last: AtomicU32,
}

impl Sessions {
    pub(crate) fn find(&self, instance: SessionInstance) -> Option<Arc<SessionShared>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).get(&instance).cloned()
    }

    fn count(&self) -> usize {
        self.all.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Every session, by ascending number.
    pub(crate) fn all(&self) -> Vec<Arc<SessionShared>> {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        let mut sessions: Vec<_> = all.values().cloned().collect();
        sessions.sort_by_key(|session| session.identity.id);
        sessions
    }
}

/// A session to be opened.
struct Opening<'a> {
    /// Without one it is temporary.
    name: Option<&'a str>,
    owner: &'a str,
    /// The child that it belongs to.
    above: Option<Above>,
    /// Who holds it, where somebody has to, and what is kept of its output.
    hold: Option<(Hold, OutputRule)>,
}

pub(super) const DEFAULT: &str = "default";

impl NodeShared {
    pub(crate) fn session(&self, instance: SessionInstance) -> Option<Arc<SessionShared>> {
        self.sessions.find(instance)
    }

    /// Its user, from within its process or a child of it: they are one client, the node itself.
    pub(crate) fn asker(&self) -> Asker {
        Asker { name: self.user.clone(), key: self.me.id }
    }

    /// The session that a request is about.
    ///
    /// # Errors
    /// [`ErrorCode::NoSession`].
    pub(crate) fn session_named(
        &self,
        which: &SessionRef,
    ) -> Result<Arc<SessionShared>, RemoteError> {
        let all = self.sessions.all();
        let found = match which {
            SessionRef::Default => all.into_iter().find(|one| one.identity.name == DEFAULT),
            SessionRef::Instance(instance) | SessionRef::Held { instance, .. } => {
                self.sessions.find(*instance)
            }
            // Only a worker says so, and its node knows what it means.
            SessionRef::Above => None,
            SessionRef::Named(name) => {
                let mut named = all.into_iter().filter(|one| one.identity.is_called(name));
                let first = named.next();
                if named.next().is_some() {
                    let text = format!("several sessions are called `{name}`; use a number");
                    let error = RemoteError::new(ErrorCode::Usage, text);
                    return Err(error.hint("`sortie session get` shows their numbers"));
                }
                first
            }
        };
        found.ok_or_else(|| {
            let what = match which {
                SessionRef::Named(name) => format!("no session `{name}` on {}", self.me.name()),
                _ => "the session has ended".to_owned(),
            };
            RemoteError::new(ErrorCode::NoSession, what).hint("`sortie session get` lists them")
        })
    }

    /// Opens the session of the node's user, unless it outlived the node.
    ///
    /// # Errors
    /// As for [`Self::open_session`].
    pub(crate) async fn open_default_session(self: &Arc<Self>) -> Result<(), RemoteError> {
        if self.session_named(&SessionRef::Default).is_ok() {
            return Ok(());
        }
        let opening = Opening { name: Some(DEFAULT), owner: &self.user, above: None, hold: None };
        self.open_session(opening).await.map(|_| ())
    }

    /// Opens a temporary session of that user.
    ///
    /// # Errors
    /// As for [`Self::open_session`].
    pub(crate) async fn open_temporary(
        self: &Arc<Self>,
        owner: &str,
    ) -> Result<Arc<SessionShared>, RemoteError> {
        self.open_session(Opening { name: None, owner, above: None, hold: None }).await
    }

    /// Opens a session that outlives its clients, and that one holds.
    ///
    /// # Errors
    /// As for [`Self::open_session`]; [`ErrorCode::Usage`] for a time out of bounds.
    pub(crate) async fn open_held(
        self: &Arc<Self>,
        options: SessionOptions,
        by: &Asker,
    ) -> Result<Arc<SessionShared>, RemoteError> {
        let idle = options.idle_timeout.unwrap_or(limits::SESSION_IDLE);
        if !(limits::SESSION_IDLE_LEAST..=limits::SESSION_IDLE_MOST).contains(&idle) {
            let (least, most) = (limits::SESSION_IDLE_LEAST, limits::SESSION_IDLE_MOST);
            let days = most.as_secs() / (24 * 60 * 60);
            let text = format!("a session's idle time is {} s to {days} days", least.as_secs());
            return Err(RemoteError::new(ErrorCode::Usage, text));
        }
        let name = options.name.as_ref().map(SessionName::as_str);
        if name == Some(DEFAULT) {
            let text = "a session cannot be called `default`: every user's own is";
            return Err(RemoteError::new(ErrorCode::Usage, text));
        }
        let quotas = limits::MAILBOX_QUOTA_LEAST..=limits::MAILBOX_QUOTA_BYTES;
        if !quotas.contains(&options.output.quota) {
            let (least, most) = (quotas.start() >> 20, quotas.end() >> 30);
            let text = format!("the quota of a child's output is {least} MiB to {most} GiB");
            return Err(RemoteError::new(ErrorCode::Usage, text));
        }
        let hold = Some((Hold::new(by.key, idle, self.uptime()), options.output));
        let opening = Opening { name, owner: &by.name, above: None, hold };
        let session = self.open_session(opening).await?;
        session.look_after_idle();
        Ok(session)
    }

    /// Opens the session of a child that runs here.
    ///
    /// # Errors
    /// As for [`Self::open_session`].
    pub(crate) async fn open_nested(
        self: &Arc<Self>,
        above: Above,
    ) -> Result<Arc<SessionShared>, RemoteError> {
        // A host is not told whose the session is; on this node it is the node's user who may.
        let above = Some(above);
        self.open_session(Opening { name: None, owner: &self.user, above, hold: None }).await
    }

    /// Opens a session; without a name a temporary one.
    ///
    /// # Errors
    /// [`ErrorCode::Limit`] at the bound of sessions, [`ErrorCode::ShuttingDown`].
    async fn open_session(
        self: &Arc<Self>,
        opening: Opening<'_>,
    ) -> Result<Arc<SessionShared>, RemoteError> {
        let Opening { name, owner, above, hold } = opening;
        let (hold, output) = hold.unzip();
        if self.sessions.count() >= limits::SESSIONS_PER_NODE {
            let text = format!("this node has {} sessions already", limits::SESSIONS_PER_NODE);
            return Err(RemoteError::new(ErrorCode::Limit, text));
        }
        let id = SessionId(self.sessions.last.fetch_add(1, Ordering::Relaxed) + 1);
        let temporary = name.is_none() && hold.is_none();
        let identity = SessionIdentity {
            id,
            instance: SessionInstance(self.world.fresh_id()),
            name: name.map_or_else(|| format!("session{id}"), str::to_owned),
            owner: owner.to_owned(),
            temporary,
            created: self.world.now(),
            output: output.unwrap_or_default(),
            above,
        };
        let kept = self.store.as_ref().filter(|_| !temporary);
        let durable = kept.map(|store| Durable::new(store, identity.instance));
        let session = self.put_up(identity, hold, durable).await?;
        if let Some(durable) = &session.durable {
            let opened = Change::SessionOpened(Box::new(session_entry(&session)));
            if let Err(error) = durable.session(opened).await {
                self.end_session(&session);
                return Err(error);
            }
        }
        Ok(session)
    }

    /// Puts a session up: from here on it is found.
    ///
    /// # Errors
    /// [`ErrorCode::ShuttingDown`].
    pub(super) async fn put_up(
        self: &Arc<Self>,
        identity: SessionIdentity,
        hold: Option<Hold>,
        durable: Option<Arc<Durable>>,
    ) -> Result<Arc<SessionShared>, RemoteError> {
        self.sessions.last.fetch_max(identity.id.0, Ordering::Relaxed);
        let session = SessionShared::new(Arc::clone(self), identity, hold, durable);
        let over = || self.shuts_down();
        let root = self.root().ok_or_else(over)?;
        let spawned = SessionActor::spawn_linked(None, SessionActor, Arc::clone(&session), root);
        let (actor, _) = spawned.await.map_err(|_| over())?;
        let arguments = HostArguments {
            node: Arc::clone(self),
            session: session.identity.instance,
            owner: Owner::Here(Arc::clone(&session)),
        };
        let host = HostActor::spawn_linked(None, HostActor, arguments, actor.get_cell());
        let (host, _) = host.await.map_err(|_| over())?;
        session.set_actor(actor, host);
        let mut all = self.sessions.all.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(session.identity.instance, Arc::clone(&session));
        drop(all);
        Ok(session)
    }

    /// Children that run on a node for this node's sessions.
    pub(crate) fn running_on(&self, id: NodeId) -> u64 {
        let sessions = self.sessions.all();
        sessions.iter().map(|session| session.running_on(id)).sum()
    }

    /// Ends a session: everything of it stops and is freed.
    pub(crate) fn end_session(&self, session: &SessionShared) {
        if session.mark_over() {
            self.dismiss(session);
        }
    }

    /// The same for one that is marked as over.
    pub(super) fn dismiss(&self, session: &SessionShared) {
        let mut all = self.sessions.all.write().unwrap_or_else(PoisonError::into_inner);
        all.remove(&session.identity.instance);
        drop(all);
        if let Some(actor) = session.actor() {
            let _ = actor.cast(SessionMessage::End);
        }
    }
}
