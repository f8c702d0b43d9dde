//! Where a session stands with one executing node: which connection carries it, what was told, what
//! was stored and must be acknowledged.

mod owed;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sortie_link::{CloseCode, Link};
use sortie_model::spec::Hosting;
use sortie_model::{ChildKey, Incarnation, JobInstance, NodeId, SessionInstance, limits};
use sortie_wire::frame::Message;
use sortie_wire::host_proto::{
    Acknowledge, ChildBatch, ChildPosition, EndSession, ForgetJob, HostSpec, Resume, StartChildren,
};
use sortie_wire::version::CHECKPOINTS;
use tokio::sync::Notify;

use crate::data::attachment::owed::Owed;
pub(crate) use crate::data::attachment::told::Begun;
use crate::data::input::feed::{InputFeeds, InputTraffic};

/// One session on one other node.
#[derive(Debug)]
pub(crate) struct Attachment {
    session: SessionInstance,
    node: NodeId,
    state: Mutex<State>,
    stored: Notify,
    /// The inputs of its children there.
    pub(crate) inputs: Arc<InputFeeds>,
}

/// How a session stands with a node after a new connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Attached {
    /// It can be told things at once.
    Ready,
    /// It must first say which jobs it still knows.
    Asked,
    /// The session is over, and it was told so.
    Over,
}

/// Whether numbers may be missing between a child's records, without anybody's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Gaps {
    /// The node executed them in one life.
    #[default]
    False,
    /// What the node itself said may have gone with an earlier life of it.
    True,
}

/// Which life of a node answers what was asked of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// The one that was told.
    Same,
    /// Another one, after that.
    Later,
}

/// That, and which jobs it knows of those that it was asked about.
type Answer = (Life, BTreeSet<JobInstance>);

/// A node answers a resume that is not outstanding, or about jobs that it was not asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it answers what it was not asked")]
pub(crate) struct NotAsked;

/// Whether a child's end is stored as well as its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Yes,
    No,
}

#[derive(Debug, Default)]
struct State {
    link: Option<Link>,
    /// The node's life when it was told things.
    life: Option<Incarnation>,
    /// Whether what is asked now was told to an earlier life of the node, or by one of ours.
    later: bool,
    /// Whether the node may be told things: it has answered the resume, or needed none.
    ready: bool,
    /// The jobs of a resume that went over the present connection and was not answered yet.
    asked: Option<BTreeSet<JobInstance>>,
    /// Jobs that were over while the answer was outstanding: the node is told after it.
    over: Vec<JobInstance>,
    /// Jobs that the node was ever told of and may still execute, and how.
    told: BTreeMap<JobInstance, Hosting>,
    /// Jobs that have yet to hear what became of their children there, and how many such words are
    /// on their way: what such a job started now would be taken for what was lost before.
    unheard: BTreeMap<JobInstance, u32>,
    /// Jobs that are woken in a while, since not all that they had to say found room.
    waiting: BTreeSet<JobInstance>,
    /// Jobs whose spec went over the present connection.
    specified: BTreeSet<JobInstance>,
    /// The last report of the shared stream that is stored.
    reports: u64,
    /// Unended children with a stream of their own: up to where they are stored.
    positions: BTreeMap<ChildKey, ChildPosition>,
    /// Positions that were not acknowledged yet, those of ended children included.
    fresh: BTreeMap<ChildKey, ChildPosition>,
    fresh_reports: bool,
    /// Whether the session is over: on a later connection that is all there is to say.
    ended: bool,
    gaps: Gaps,
    /// Something that outlives silence is over, and the node is not known to have heard so.
    owes: Option<Owed>,
}

impl State {
    fn is_carried_by(&self, link: &Link) -> bool {
        self.link.as_ref().map(Link::id) == Some(link.id())
    }

    fn is_up(&self) -> bool {
        self.link.as_ref().is_some_and(|link| !link.is_closed())
    }

    fn must_hear(&mut self, job: JobInstance) {
        *self.unheard.entry(job).or_default() += 1;
    }
}

impl Attachment {
    pub(crate) fn new(
        session: SessionInstance,
        node: NodeId,
        traffic: Arc<InputTraffic>,
    ) -> Arc<Self> {
        let (state, stored) = (Mutex::default(), Notify::new());
        Arc::new(Self { session, node, state, stored, inputs: InputFeeds::new(session, traffic) })
    }

    pub(crate) const fn node(&self) -> NodeId {
        self.node
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the node to start children.
    pub(crate) fn send_start(
        &self,
        (job, hosting): (JobInstance, Hosting),
        children: ChildBatch,
        spec: impl Fn() -> Option<Box<HostSpec>>,
    ) -> Begun {
        let mut state = self.state();
        let Some(link) = state.link.clone().filter(|link| state.ready && !link.is_closed()) else {
            return Begun::No;
        };
        if state.unheard.contains_key(&job) {
            return Begun::No;
        }
        let children = match children {
            ChildBatch::From(_) if link.facts().version < CHECKPOINTS => {
                children.split_checkpoints().0
            }
            ChildBatch::From(_) if link.waiting_bytes() > limits::CONTROL_CHECKPOINTS_BYTES => {
                let first = state.waiting.insert(job);
                return if first { Begun::Later } else { Begun::Waits };
            }
            children => children,
        };
        let fresh = !state.specified.contains(&job);
        let spec = if fresh { spec() } else { None };
        let start = StartChildren { session: self.session, job, spec, children };
        // A connection that breaks now is followed by a resume, after which it is said again.
        if link.send(&start).is_err() {
            return Begun::No;
        }
        state.told.insert(job, hosting);
        state.specified.insert(job);
        Begun::Yes
    }

    /// Tells the node something, if there is a connection; what the rows remember is said again
    /// after a reconnection.
    pub(crate) fn send<M: Message>(&self, message: &M) {
        let state = self.state();
        if let (Some(link), true) = (&state.link, state.ready) {
            let _ = link.send(message);
        }
    }

    /// A connection is up. Of a node in a new life the answered jobs are lost: they must hear so,
    /// and say that they have [heard](Self::heard).
    pub(crate) fn attach(self: &Arc<Self>, link: &Link) -> (Attached, BTreeSet<JobInstance>) {
        let mut state = self.state();
        let owed = state.owes.take().map(|_| Owed::word(Some(link.id())));
        if state.ended {
            say(link, &EndSession { session: self.session });
            state.owes = owed;
            return (Attached::Over, BTreeSet::new());
        }
        let life = link.facts().incarnation;
        let mut lost = BTreeSet::new();
        if state.life.replace(life).is_some_and(|before| before != life) {
            lost = state.forget_temporary();
            lost.iter().for_each(|job| {
                self.inputs.forget(*job);
                state.must_hear(*job);
            });
            (state.later, state.gaps) = (true, Gaps::True);
        }
        state.life = Some(life);
        state.link = Some(link.clone());
        state.specified.clear();
        state.over.clear();
        state.asked = None;
        state.ready = state.told.is_empty() && state.reports == 0 && owed.is_none();
        // The resume is the word: what it does not name is over.
        state.owes = owed;
        let ready = state.ready;
        if !ready {
            state.asked = Some(state.told.keys().copied().collect());
            let resume = Resume {
                session: self.session,
                reports: state.reports,
                // Who has room is found out anew: nobody would tell a child that paused.
                children: state.positions.values().map(|at| at.unpaused()).collect(),
                jobs: state.told.keys().copied().collect(),
            };
            say(link, &resume);
        }
        drop(state);
        tokio::spawn(acknowledge(Arc::clone(self), link.clone()));
        (if ready { Attached::Ready } else { Attached::Asked }, lost)
    }

    /// The node answered the resume over that connection; `unknown` are jobs that it does not know.
    /// They must be told so, and say that they have [heard](Self::heard). Says in which life the
    /// node was told of them, and which it knows.
    ///
    /// # Errors
    /// [`NotAsked`]; nothing of it is believed then.
    pub(crate) fn resumed(&self, link: &Link, unknown: &[JobInstance]) -> Result<Answer, NotAsked> {
        let mut state = self.state();
        if !state.is_carried_by(link) {
            return Err(NotAsked);
        }
        let mut known = state.asked.take().ok_or(NotAsked)?;
        if !unknown.iter().all(|job| known.remove(job)) {
            return Err(NotAsked);
        }
        state.ready = true;
        for job in std::mem::take(&mut state.over) {
            say(link, &ForgetJob { session: self.session, job });
        }
        if state.owes == Some(Owed::word(None)) {
            state.owes = Some(Owed::word(Some(link.id())));
        }
        for job in unknown {
            if state.told.remove(job).is_some() {
                state.must_hear(*job);
            }
            state.specified.remove(job);
            state.positions.retain(|key, _| key.job != *job);
            state.fresh.retain(|key, _| key.job != *job);
        }
        let later = std::mem::take(&mut state.later);
        Ok((if later { Life::Later } else { Life::Same }, known))
    }

    /// Whether the node can be told things.
    pub(crate) fn is_ready(&self) -> bool {
        self.state().ready
    }

    pub(crate) fn gaps(&self) -> Gaps {
        self.state().gaps
    }

    /// Whether that connection carries the session now: reports of an older one are not believed,
    /// their numbers belong to a past that may be over.
    pub(crate) fn is_current(&self, link: &Link) -> bool {
        self.state().is_carried_by(link)
    }

    /// The last report of the shared stream that is stored; an older one is a repetition.
    pub(crate) fn reports(&self) -> u64 {
        self.state().reports
    }

    /// A report of the shared stream is stored.
    pub(crate) fn stored_report(&self, link: &Link, number: u64) {
        let mut state = self.state();
        if !state.is_carried_by(link) {
            return;
        }
        state.reports = state.reports.max(number);
        state.fresh_reports = true;
        drop(state);
        self.stored.notify_one();
    }

    /// Records of a child's own stream are stored. After its end there is nothing to resume: a
    /// node that misses the acknowledgement sends the end again, and it is acknowledged again.
    pub(crate) fn stored_child(&self, link: &Link, position: ChildPosition, ended: Ended) {
        let mut state = self.state();
        if !state.is_carried_by(link) {
            return;
        }
        let key = ChildKey { job: position.job, ordinal: position.ordinal };
        let is_further = |known: &ChildPosition| known.next > position.next;
        if [state.positions.get(&key), state.fresh.get(&key)].into_iter().flatten().any(is_further)
        {
            // The child lives again already.
            return;
        }
        match ended {
            // A job that was forgotten meanwhile is not resumed.
            Ended::No if state.told.contains_key(&key.job) => state.positions.insert(key, position),
            Ended::No | Ended::Yes => state.positions.remove(&key),
        };
        state.fresh.insert(key, position);
        drop(state);
        self.stored.notify_one();
    }

    pub(crate) fn distrust(&self) {
        if let Some(link) = &self.state().link {
            link.close(CloseCode::GARBAGE, "a report names a child that does not run there");
        }
    }

    /// Acknowledges at once what is stored; says whether there was anything.
    fn flush(&self) -> bool {
        let mut state = self.state();
        let fresh = std::mem::take(&mut state.fresh);
        if !std::mem::take(&mut state.fresh_reports) && fresh.is_empty() {
            return false;
        }
        let children = fresh.into_values().collect();
        let acknowledge = Acknowledge { session: self.session, reports: state.reports, children };
        if let Some(link) = &state.link {
            say(link, &acknowledge);
        }
        true
    }
}

/// Sends what nothing else makes up for: where that fails the connection ends, and the next one
/// begins with a resume.
pub(crate) fn say<M: Message>(link: &Link, message: &M) {
    if let Err(error) = link.send(message) {
        link.close(CloseCode::DONE, &error.to_string());
    }
}

/// Acknowledges what is stored, all that gathered in one message, until the connection ends.
async fn acknowledge(attachment: Arc<Attachment>, link: Link) {
    loop {
        tokio::select! {
            biased;
            () = attachment.stored.notified() => {}
            _ = link.closed() => {
                // The wake-up may have been meant for the connection that came after.
                attachment.stored.notify_one();
                return;
            }
        }
        if attachment.state().link.as_ref().map(Link::id) != Some(link.id()) {
            attachment.stored.notify_one();
            return;
        }
        attachment.flush();
    }
}

#[cfg(test)]
pub(crate) mod tests;
