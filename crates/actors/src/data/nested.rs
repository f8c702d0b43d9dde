//! The session of a running child for jobs of its own; its decisions are `sortie_engine::nest`'s.

use std::fmt;
use std::sync::{Arc, Weak};

use sortie_engine::nest::{Closing, NestRefused, Opened, StopBelow};
use sortie_engine::parent_job::ParentJob;
use sortie_model::spec::StopSpec;
use sortie_model::view::ChildPlace;
use sortie_model::{EntryId, Ordinal, Reason, SessionId, SessionInstance};
use sortie_wire::host_proto::ChildSet;
use sortie_wire::{ErrorCode, RemoteError};

use crate::data::port::ChildPort;
use crate::data::session::SessionShared;
use crate::node::NodeHandle;
use crate::parent_job::ParentJobMessage;

/// The child that a session belongs to.
#[derive(Debug, Clone)]
pub(crate) struct Above {
    /// Which child.
    pub(crate) place: ChildPlace,
    /// The level of the session's jobs.
    pub(crate) level: u32,
    child: Weak<ChildPort>,
}

impl Above {
    /// A job of the session has finished. Told by who holds its rows, before anybody else can see
    /// that: the child may be about to ask, and to end with what it finds.
    pub(crate) fn on_job_finished(&self, rows: &ParentJob) {
        let Some(child) = self.child.upgrade() else { return };
        let failure = || {
            let children = (0..rows.children()).map(Ordinal);
            let mut failed =
                children.filter_map(|child| Some((child, rows.child_failure(child)?.0)));
            let cause = failed.next().map_or_else(String::new, |(child, reason)| {
                let id = rows.child_id(child).map_or(0, |id| id.0);
                format!("child {id} {reason}")
            });
            Reason::Escalated { job: rows.identity().id, cause }
        };
        let escalation = rows.spec().escalation;
        let fails = child.nest().on_job_finished(escalation, rows.state(), failure);
        if fails {
            child.wake();
        }
    }
}

/// What hangs below a running child.
pub(crate) type Below = Arc<SessionShared>;

/// Who stopped a job, as people are shown.
const BY: &str = "the end of the child that started it";

/// The node that a function runs on, for the function's own use: what
/// [`TaskPort::reach`](sortie_exec::task::TaskPort::reach) gives inside a node.
pub struct TaskNode {
    port: Arc<ChildPort>,
}

impl fmt::Debug for TaskNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskNode").finish_non_exhaustive()
    }
}

impl TaskNode {
    pub(crate) const fn new(port: Arc<ChildPort>) -> Self {
        Self { port }
    }

    pub(crate) const fn port(&self) -> &Arc<ChildPort> {
        &self.port
    }

    /// The node, and the child's session on it, which is opened on first use. It ends with the
    /// child.
    ///
    /// # Errors
    /// [`ErrorCode::Limit`] where the tree is too deep or the node has too many sessions,
    /// [`ErrorCode::NoSession`] once the child was told to stop.
    ///
    /// # Cancel safety
    /// Cancel safe: what was opened is found again, or ends with the child.
    pub async fn session(&self) -> Result<(NodeHandle, SessionInstance), RemoteError> {
        let session = self.port.open_below().await?;
        let handle = NodeHandle::of(Arc::clone(&self.port.job().host_node));
        Ok((handle, session.identity.instance))
    }
}

async fn open(
    port: &Arc<ChildPort>,
    node: &Arc<crate::node::NodeShared>,
) -> Result<Below, RemoteError> {
    let level = port.nest().level_below();
    let above = Above { place: port.place(), level, child: Arc::downgrade(port) };
    let session = node.open_nested(above).await?;
    let opened = port.nest().on_opened(Arc::clone(&session));
    match opened {
        Opened::Used(session) => Ok(session),
        Opened::Surplus(first) => {
            node.end_session(&session);
            Ok(first)
        }
        Opened::Refused(refused) => {
            node.end_session(&session);
            Err(refusal(refused))
        }
    }
}

/// A refusal in the words of the session protocol.
pub(crate) fn refusal(refused: NestRefused) -> RemoteError {
    let code = match refused {
        NestRefused::TooDeep => ErrorCode::Limit,
        NestRefused::Stopping | NestRefused::Over | NestRefused::NotItsOwn => ErrorCode::NoSession,
    };
    RemoteError::new(code, refused.to_string())
}

impl ChildPort {
    /// The child's session for its own jobs, opened on first use. Cancel safe.
    pub(crate) async fn open_below(self: &Arc<Self>) -> Result<Below, RemoteError> {
        if let Some(open) = self.nest().on_use().map_err(refusal)? {
            return Ok(open);
        }
        let (port, node) = (Arc::clone(self), Arc::clone(&self.job().host_node));
        // By itself, so that a caller who gives up leaves no session that nobody knows.
        let runtime = node.runtime.clone();
        let opening = runtime.spawn(async move { open(&port, &node).await });
        opening.await.map_err(|_| self.job().host_node.shuts_down())?
    }

    /// Which child this is, as the session of its own jobs shows it.
    fn place(&self) -> ChildPlace {
        let spec = &self.job().spec;
        ChildPlace {
            node: spec.owner_node.clone(),
            session: SessionId(spec.session),
            job: EntryId(spec.job),
            child: EntryId(self.id()),
            incarnation: self.incarnation(),
        }
    }

    /// Resolves once a job of the child takes it along, with the reason.
    pub(crate) async fn escalated(&self) -> Reason {
        loop {
            let news = self.news();
            tokio::pin!(news);
            news.as_mut().enable();
            if let Some(reason) = self.nest().failure() {
                return reason.clone();
            }
            news.await;
        }
    }

    /// What is below the child is told to stop as the child is.
    pub(crate) fn stop_below(&self, how: StopSpec) {
        let below = self.nest().on_stop(how, self.job().host_node.uptime());
        // Whoever waits for what is below may have less time now.
        self.wake();
        if let Some((session, how)) = below {
            self.tell_below(session, how);
        }
    }

    fn tell_below(&self, session: Below, how: StopBelow) {
        session.refuse_starts();
        let runtime = &self.job().host_node.runtime;
        runtime.spawn(async move { stop_jobs(&session, how).await });
    }

    /// The child has ended by itself: what is below it is told to stop, unless it was. Gives what
    /// there is to wait for.
    pub(crate) fn end_below(&self) -> Option<Below> {
        let closing = self.nest().on_end(self.job().host_node.uptime());
        let Closing { below, how } = closing?;
        if let Some(how) = how {
            self.tell_below(Arc::clone(&below), how);
        }
        Some(below)
    }

    /// Resolves once what is below the child, and was told to stop, has ended or had its time to.
    pub(crate) async fn close(&self, below: Below) {
        // What was being started is seen after this.
        drop(below.starting.lock().await);
        let mut changes = below.changes();
        // A session that is over tells of nothing more.
        let has_ended =
            || below.is_over() || below.jobs().iter().all(|job| job.rows().state().is_finished());
        while !has_ended() {
            tokio::select! {
                biased;
                () = changes.changed() => {}
                () = self.time_is_over() => break,
            }
        }
        self.kill_below();
    }

    /// Resolves when what is below the child had its time to end.
    async fn time_is_over(&self) {
        loop {
            let news = self.news();
            tokio::pin!(news);
            news.as_mut().enable();
            let over_at = self.nest().over_at().unwrap_or_default();
            let left = over_at.saturating_sub(self.job().host_node.uptime());
            if left.is_zero() {
                return;
            }
            let _ = tokio::time::timeout(left, news).await;
        }
    }

    /// Ends the child's session at once, if it has one.
    pub(crate) fn kill_below(&self) {
        let below = self.nest().on_over();
        if let Some(session) = below {
            self.job().host_node.end_session(&session);
        }
    }
}

/// Stops every job of a session; one that is being started is among them.
async fn stop_jobs(session: &SessionShared, how: StopBelow) {
    let _no_start = session.starting.lock().await;
    for job in session.jobs() {
        let how = how.of_job(job.rows().spec().grace);
        job.tell(ParentJobMessage::Stop { children: ChildSet::All, how, by: BY.to_owned() });
    }
}
