//! How a node joins a cluster, and how others join this one.

use std::sync::{Arc, PoisonError};

use sortie_engine::roster::Membership;
use sortie_link::{DialError, JoinError, JoinExchange, JoinPlea, JoinToken, Joined, join};
use sortie_model::limits;
use sortie_wire::link_proto::{Member, Roster};
use sortie_wire::{ErrorCode, RemoteError};

use crate::node::NodeShared;
use crate::node::cluster::refused;

impl NodeShared {
    /// A node asks to join this cluster.
    pub(crate) async fn on_join(self: Arc<Self>, exchange: JoinExchange) {
        let request = exchange.request().clone();
        let authority = self.authority.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(authority) = authority.filter(|_| self.membership().is_authority()) else {
            let holder = self.member(self.membership().roster().authority);
            let holder = holder.map_or_else(
                || "another one".to_owned(),
                |member| format!("{} at {}", member.name, member.address),
            );
            let text = format!("{} takes nobody in: the CA is held by {holder}", self.me.name());
            let error = RemoteError::new(ErrorCode::NoAuthority, text);
            return exchange.refuse(error.hint("join there")).await;
        };
        let tokens = || self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let redeemed = tokens().redeem(&request.secret, self.uptime());
        if let Err(error) = redeemed {
            return exchange.refuse(error.to_remote()).await;
        }
        let member = Member {
            node: exchange.node_id(),
            name: request.name.clone(),
            address: request.address.clone(),
            labels: request.labels.clone(),
        };
        if let Err(error) = self.admit(member) {
            tokens().give_back(&request.secret);
            return exchange.refuse(error).await;
        }
        if let Err(error) = exchange.grant(&authority, self.me.id).await {
            tracing::warn!(%error, "a join failed");
        }
    }

    /// Joins another cluster.
    pub(crate) async fn join(
        self: &Arc<Self>,
        address: &str,
        token: &str,
    ) -> Result<(), RemoteError> {
        self.must_be_alone()?;
        let token: JoinToken = token.parse().map_err(|error: sortie_link::BadToken| {
            RemoteError::new(ErrorCode::Usage, error.to_string())
        })?;
        let own = self.member(self.me.id);
        let own = own.ok_or_else(|| RemoteError::new(ErrorCode::Internal, "no own member"))?;
        let plea = JoinPlea {
            name: &own.name,
            address: &own.address,
            labels: &own.labels,
            user: &self.user,
            node_key: &self.keys.node,
            user_key: &self.keys.user,
        };
        let joined = join(address, &token, &plea, limits::CONNECT_TIME).await;
        let joined = joined.map_err(|error| join_refused(&error))?;
        self.keeper.joined(&joined).map_err(|error| refused(&error))?;
        let mut rosters = self.rosters.subscribe();
        self.adopt(own, address, joined)?;
        // The roster comes with the link to the node that holds the CA. Without it the node is a
        // member all the same, and shows that node by its identity until then.
        let _ = tokio::time::timeout(limits::CONNECT_TIME, rosters.changed()).await;
        Ok(())
    }

    fn must_be_alone(&self) -> Result<(), RemoteError> {
        if !self.membership().is_alone() {
            let text = "this node is in a cluster with other members already";
            let error = RemoteError::new(ErrorCode::NotAlone, text);
            return Err(error.hint("`sortie node get` lists them"));
        }
        let unfinished: u64 = self.sessions.all().iter().map(|one| one.unfinished()).sum();
        if unfinished > 0 {
            let jobs = if unfinished == 1 { "job" } else { "jobs" };
            let text = format!("this node has {unfinished} unfinished {jobs}");
            let error = RemoteError::new(ErrorCode::NotAlone, text);
            return Err(error.hint("wait for them or stop them, then join again"));
        }
        Ok(())
    }

    fn adopt(
        self: &Arc<Self>,
        own: Member,
        address: &str,
        joined: Joined,
    ) -> Result<(), RemoteError> {
        let fingerprint = joined.node.fingerprint();
        let replaced = self.endpoint.replace_identity(joined.node);
        replaced.map_err(|error| RemoteError::new(ErrorCode::Internal, error.to_string()))?;
        *self.fingerprint.write().unwrap_or_else(PoisonError::into_inner) = fingerprint;
        *self.authority.write().unwrap_or_else(PoisonError::into_inner) = None;
        // Until its roster comes, the node with the CA is known by where it was found.
        let authority = joined.authority_node;
        let name = format!("node-{authority}").parse();
        let name = name.map_err(|_| RemoteError::new(ErrorCode::Internal, "no name"))?;
        let address = address.to_owned();
        let found = Member { node: authority, name, address, labels: Vec::new() };
        let roster = Roster { version: 0, authority, members: vec![found, own] };
        let membership = Membership::restore(self.me.id, roster);
        let membership =
            membership.map_err(|error| RemoteError::new(ErrorCode::Internal, error.to_string()))?;
        self.change(|known| *known = membership);
        self.seek_authority();
        Ok(())
    }
}

fn join_refused(error: &JoinError) -> RemoteError {
    match error {
        JoinError::Dial(DialError::Refused { error, .. }) => error.clone(),
        JoinError::Dial(error) => {
            let mut remote = error.to_remote();
            remote.message = format!("{}: {}", error.step(), remote.message);
            remote
        }
        error => RemoteError::new(ErrorCode::Unreachable, error.to_string()),
    }
}
