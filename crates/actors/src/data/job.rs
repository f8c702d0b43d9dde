//! What the data plane and the readers share of one job: its rows, its mailboxes, its news.

mod facts;
mod input;
mod kept;
pub(crate) use kept::Said;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
use std::time::Duration;

use ractor::{ActorCell, ActorRef};
use sortie_engine::mailbox::Tally;
use sortie_engine::parent_job::quota::cut;
use sortie_engine::parent_job::{JobIdentity, MailboxFacts, ParentJob};
use sortie_model::spec::Hosting;
use sortie_model::{ChildView, JobView, NodeId, Ordinal, Record, State, Stream, limits};
use sortie_wire::host_proto::{ChildAsk, ChildEnd, ChildMotion, ChildStart};

use crate::data::checkpoints::Checkpoints;
use crate::data::durable::Durable;
use crate::data::durable::committing::Committing;
use crate::data::input_log::InputLog;
use crate::data::mailboxes::{AppendError, JobMailboxes, TryAppend};
use crate::data::session::SessionShared;
use crate::parent_job::ParentJobMessage;

/// One job. Only its actor changes the rows; everybody may read them.
#[derive(Debug)]
pub(crate) struct JobShared {
    pub(crate) identity: JobIdentity,
    pub(crate) mailboxes: Arc<JobMailboxes>,
    pub(crate) input: Option<Arc<InputLog>>,
    /// The given name, and what was submitted: read without a lock.
    name: Option<String>,
    command: String,
    rows: RwLock<ParentJob>,
    pub(crate) here: NodeId,
    /// Held while it is kept how far its readers are.
    pub(crate) committing: tokio::sync::Mutex<()>,
    /// Where it is kept, if it outlives its node.
    pub(crate) durable: Option<Arc<Durable>>,
    /// Whether children may start again after an end.
    supervised: bool,
    with_errors: AtomicBool,
    /// It is finished, and the journal says that something of it is unread.
    said_unread: AtomicBool,
    reported: Mutex<Reported>,
    actor: OnceLock<ActorRef<ParentJobMessage>>,
    /// Of its functions, wherever they run if it outlives its node, else on this node.
    pub(crate) checkpoints: Arc<Checkpoints>,
    /// Keeps what its output policy drops, while it has an actor.
    drops: Mutex<Option<Committing>>,
}

/// What children reported beside their records: first what began, then what asks, then what was
/// suspended or goes on, then what ended.
#[derive(Debug, Default)]
pub(crate) struct ChildReports {
    pub(crate) started: Vec<ChildStart>,
    pub(crate) asked: Vec<ChildAsk>,
    pub(crate) moved: Vec<ChildMotion>,
    pub(crate) ended: Vec<ChildEnd>,
}

impl ChildReports {
    pub(crate) fn is_empty(&self) -> bool {
        let words = self.asked.is_empty() && self.moved.is_empty();
        words && self.started.is_empty() && self.ended.is_empty()
    }
}

/// What children on this node reported and the actor has not looked at.
#[derive(Debug, Default)]
struct Reported {
    started: Vec<ChildStart>,
    /// The last word of each.
    asked: BTreeMap<Ordinal, ChildAsk>,
    moved: BTreeMap<Ordinal, ChildMotion>,
    ended: Vec<ChildEnd>,
    announced: bool,
}

impl JobShared {
    pub(crate) fn new(
        rows: ParentJob,
        mailboxes: Arc<JobMailboxes>,
        input: Option<Arc<InputLog>>,
        session: &SessionShared,
    ) -> Arc<Self> {
        Arc::new(Self {
            identity: rows.identity().clone(),
            mailboxes,
            input,
            name: rows.spec().name.as_ref().map(ToString::to_string),
            command: rows.spec().command.clone(),
            here: session.node.me.id,
            committing: tokio::sync::Mutex::default(),
            drops: Mutex::default(),
            checkpoints: Arc::default(),
            durable: session.durable.clone().filter(|_| rows.spec().hosting == Hosting::Persistent),
            supervised: rows.is_supervised(),
            rows: RwLock::new(rows),
            with_errors: AtomicBool::new(false),
            said_unread: AtomicBool::new(false),
            reported: Mutex::default(),
            actor: OnceLock::new(),
        })
    }

    pub(crate) fn rows(&self) -> RwLockReadGuard<'_, ParentJob> {
        self.rows.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the job outlives its node, and its children elsewhere their owner's silence.
    pub(crate) const fn hosting(&self) -> Hosting {
        match self.durable {
            Some(_) => Hosting::Persistent,
            None => Hosting::Temporary,
        }
    }

    /// For the job's actor only: it is the one writer.
    pub(crate) fn rows_mut(&self) -> RwLockWriteGuard<'_, ParentJob> {
        self.rows.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_actor(self: &Arc<Self>, actor: ActorRef<ParentJobMessage>) {
        // Set once, right after the spawn; a second set cannot happen.
        let _ = self.actor.set(actor);
        *self.drops() = Committing::of_drops(self);
    }

    fn drops(&self) -> MutexGuard<'_, Option<Committing>> {
        self.drops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its actor has ended, and nothing of it is dropped any more: what was is kept when this
    /// returns.
    pub(crate) async fn drops_ended(&self) {
        let drops = self.drops().take();
        if drops.is_some() {
            self.commit_cursors().await;
        }
    }

    /// The job's actor, if it has one: also one that has ended by now.
    pub(crate) fn actor(&self) -> Option<ActorCell> {
        self.actor.get().map(ActorRef::get_cell)
    }

    /// Tells the job's actor; a finished job has none, and then there is nothing to tell.
    pub(crate) fn tell(&self, message: ParentJobMessage) {
        if let Some(actor) = self.actor.get() {
            let _ = actor.cast(message);
        }
    }

    /// Has the actor woken at that time of the node's clock.
    pub(crate) fn wake_after(&self, wait: Duration) {
        self.tell_after(wait, || ParentJobMessage::Wake);
    }

    /// Has the actor tell that node in a while what found no room.
    pub(crate) fn say_again(&self, node: NodeId) {
        self.tell_after(limits::CHECKPOINT_PAUSE, move || ParentJobMessage::SayAgain(node));
    }

    /// Tells the actor that in a while, if there is one.
    pub(crate) fn tell_after(
        &self,
        wait: Duration,
        message: impl FnOnce() -> ParentJobMessage + Send + 'static,
    ) {
        if let Some(actor) = self.actor.get() {
            actor.send_after(wait, message);
        }
    }

    /// Whether a child that was found to be, or to have been, on the node is there now: only one
    /// that may start again can have moved.
    pub(crate) fn takes_reports_from(&self, ordinal: Ordinal, node: NodeId) -> bool {
        !self.supervised || self.rows().runs_on(ordinal, node)
    }

    /// A child ended: its mailbox takes nothing more, unless another incarnation may follow. Then
    /// the job's actor closes it.
    pub(crate) fn close_at_end(&self, ordinal: Ordinal) {
        if !self.supervised {
            self.mailboxes.close(ordinal);
        }
    }

    /// A child whose output passed its quota has failed, where that is the policy. Its end comes
    /// behind all of its records, so nothing can come between.
    pub(crate) fn judge(&self, end: &mut ChildEnd) {
        if self.mailboxes.may_cut() && self.mailboxes.summary(end.ordinal).cut {
            cut(&mut end.outcome);
        }
    }

    /// A child on this node began or ended. One message covers what gathers meanwhile.
    pub(crate) fn reported(&self, start: Option<ChildStart>, mut end: Option<ChildEnd>) {
        if let Some(end) = &mut end {
            self.judge(end);
            self.close_at_end(end.ordinal);
        }
        self.gather(|reported| {
            reported.started.extend(start);
            reported.ended.extend(end);
        });
    }

    /// A child on this node asks, or asks no more.
    pub(crate) fn asked(&self, ask: ChildAsk) {
        self.gather(|reported| {
            reported.asked.insert(ask.ordinal, ask);
        });
    }

    /// A child on this node does what it was told to.
    pub(crate) fn moved(&self, moved: ChildMotion) {
        self.gather(|reported| {
            reported.moved.insert(moved.ordinal, moved);
        });
    }

    fn gather(&self, add: impl FnOnce(&mut Reported)) {
        let announce = {
            let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
            add(&mut reported);
            !std::mem::replace(&mut reported.announced, true)
        };
        if announce {
            self.tell(ParentJobMessage::ReportedHere);
        }
    }

    /// What gathered since the last call.
    pub(crate) fn take_reported(&self) -> (NodeId, ChildReports) {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        let Reported { started, asked, moved, ended, .. } = std::mem::take(&mut *reported);
        let (asked, moved) = (asked.into_values().collect(), moved.into_values().collect());
        (self.here, ChildReports { started, asked, moved, ended })
    }

    /// Stores a record of a child on this node, if that needs no wait. A record that can never be
    /// stored is dropped: its job was removed.
    pub(crate) fn try_store(&self, ordinal: Ordinal, record: Record) -> Result<(), Record> {
        self.note_streams([record.stream]);
        match self.mailboxes.try_append(ordinal, record.seq, vec![record]) {
            Ok(TryAppend::Done(_)) => Ok(()),
            Ok(TryAppend::WouldSpill(records)) | Err(AppendError::Full { records, .. }) => {
                records.into_iter().next().map_or(Ok(()), Err)
            }
            Err(AppendError::OverQuota { .. }) => {
                self.tell(ParentJobMessage::OverQuota(ordinal));
                Ok(())
            }
            Err(_) => Ok(()),
        }
    }

    /// Remembers whether any error stream is not empty.
    pub(crate) fn note_streams(&self, streams: impl IntoIterator<Item = Stream>) {
        if !self.with_errors.load(Ordering::Relaxed) {
            let any = streams.into_iter().any(|stream| stream == Stream::Error);
            self.with_errors.fetch_or(any, Ordering::Relaxed);
        }
    }

    /// Whether any error stream is not empty.
    pub(crate) fn with_errors(&self) -> bool {
        self.with_errors.load(Ordering::Relaxed)
    }

    /// What the journal says of a finished job: whether anything of it is unread.
    pub(crate) fn say_unread(&self, unread: bool) {
        self.said_unread.store(unread, Ordering::Relaxed);
    }

    /// Whether the journal is to be told that nothing of a finished job is unread any more.
    pub(crate) fn was_emptied(&self) -> bool {
        self.said_unread.load(Ordering::Relaxed) && self.mailboxes.unread().records == 0
    }

    /// Stores a record of a child on this node, waiting for the disk and for room.
    pub(crate) async fn store(&self, ordinal: Ordinal, record: Record) {
        let first = record.seq;
        let mut records = vec![record];
        loop {
            match self.mailboxes.append(ordinal, first, records).await {
                Err(AppendError::Full { records: back, .. }) => {
                    self.room(ordinal).await;
                    records = back;
                }
                Err(AppendError::OverQuota { .. }) => {
                    return self.tell(ParentJobMessage::OverQuota(ordinal));
                }
                _ => return,
            }
        }
    }

    /// The same for a record that may be here already, or was taken before the node began anew.
    pub(crate) async fn store_again(&self, ordinal: Ordinal, record: Record) {
        self.note_streams([record.stream]);
        let mut record = record;
        loop {
            match self.mailboxes.append_again(ordinal, record).await {
                Err(AppendError::Full { records, .. }) => {
                    self.room(ordinal).await;
                    let Some(back) = records.into_iter().next() else { return };
                    record = back;
                }
                Err(AppendError::OverQuota { .. }) => {
                    return self.tell(ParentJobMessage::OverQuota(ordinal));
                }
                Err(error @ AppendError::Gap { .. }) => {
                    let (job, child) = (self.identity.instance, ordinal.0);
                    tracing::error!(%error, %job, child, "output of a child cannot be stored");
                    return;
                }
                _ => return,
            }
        }
    }

    /// Waits until the child's mailbox has room again. That of a child that is being stopped makes
    /// some: its end comes behind its output, and must not wait for a reader.
    pub(crate) async fn room(&self, ordinal: Ordinal) {
        let state = self.rows().child_state(ordinal);
        if state == Some(State::Stopping) {
            self.mailboxes.set_ending(ordinal, true);
        }
        self.mailboxes.room(ordinal).await;
    }

    /// The job as its session shows it.
    pub(crate) fn view(&self, ids: bool) -> JobView {
        let unread = self.mailboxes.unread().records > 0;
        let with_errors = self.with_errors.load(Ordering::Relaxed);
        let mut view = self.rows().view(unread, with_errors, ids);
        view.paused = self.mailboxes.paused();
        view.notes.extend(dropped(self.mailboxes.dropped()));
        view
    }

    /// A child as its session shows it.
    pub(crate) fn child_view(&self, ordinal: Ordinal) -> Option<ChildView> {
        let facts = self.facts(ordinal);
        self.rows().child_view(ordinal, facts)
    }

    fn facts(&self, ordinal: Ordinal) -> MailboxFacts {
        let summary = self.mailboxes.summary(ordinal);
        let mut notes = Vec::from_iter(dropped(summary.dropped));
        let paused = summary.full.filter(|_| !summary.closed).map(|because| because.to_string());
        if let Some(because) = &paused {
            notes.push(format!("output paused: {because}"));
        }
        if self.rows().is_parked(ordinal) {
            notes.push("its node ended since: a resume goes on from its last checkpoint".into());
        }
        MailboxFacts {
            unread: summary.unread.records > 0,
            unread_bytes: summary.unread.bytes,
            with_errors: summary.with_errors,
            progress: None,
            dropped_records: summary.dropped.records,
            dropped_bytes: summary.dropped.bytes,
            paused,
            notes,
        }
    }
}

/// What there is to say of output that the policy dropped.
pub(crate) fn dropped(what: Tally) -> Option<String> {
    let Tally { records, bytes } = what;
    (records > 0).then(|| format!("{records} records ({bytes} bytes) of output were dropped"))
}
