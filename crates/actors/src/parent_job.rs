//! The executive of one submission: a shell around `sortie_engine::parent_job`.

mod finding;
mod keep;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use sortie_engine::parent_job::{
    Effects, FalseReport, JobEffect, Memory, NotAsking, ParentJob, QuestionKey, StopOrder, Unknown,
    Unmoved,
};
use sortie_model::reason::ReachStep;
use sortie_model::spec::{StopSpec, Throttle};
use sortie_model::{EntryId, Motion, NodeId, Ordinal, QuestionNumber, State, Timestamp};
use sortie_store::journal::JobFacts;
use sortie_wire::host_proto::ChildSet;
use tokio::sync::oneshot;

use crate::data::durable::Kept;
use crate::data::job::{ChildReports, JobShared, Said};
use crate::data::map_feed::MapFeed;
use crate::data::session::{News, SessionShared};

/// What a parent job is told.
#[derive(Debug)]
pub(crate) enum ParentJobMessage {
    /// Listen to what follows only after this. Dropping the other end lets it go on, too.
    After(oneshot::Receiver<()>),
    /// Children on this node reported: see [`JobShared::take_reported`].
    ReportedHere,
    /// Children on another node reported.
    Reported {
        /// Which node, by its certificate.
        node: NodeId,
        /// What they reported.
        reports: ChildReports,
    },
    /// Bring a child the answer to its question.
    Answer {
        /// Which child; which of its questions, or the open one.
        to: (Ordinal, Option<QuestionNumber>),
        /// The answer.
        answer: Bytes,
        /// Whether it is on its way.
        reply: oneshot::Sender<Result<QuestionKey, NotAsking>>,
    },
    /// Items of the map were read.
    Items {
        /// The items.
        items: Vec<Bytes>,
        /// The number of the first one's first child.
        first_id: EntryId,
    },
    /// More of the input is on the disk: say when the journal knows it.
    InputStored(oneshot::Sender<Kept>),
    /// The map's input is at its end.
    InputEnd,
    /// The client died before the end of its input.
    InputLost,
    /// Stop children.
    Stop {
        /// Which.
        children: ChildSet,
        /// How.
        how: StopSpec,
        /// Who says so.
        by: String,
    },
    /// A child's output passed its quota, and its mailbox takes nothing more.
    OverQuota(Ordinal),
    /// Tell children to stand still, or to go on.
    Move {
        /// Which.
        children: ChildSet,
        /// What they are to do.
        motion: Motion,
        /// To what of it that does not apply.
        reply: oneshot::Sender<Vec<Unmoved>>,
    },
    /// The wait before a restart may be over.
    Wake,
    /// Try again to keep what the disk did not take.
    KeepAgain,
    /// Change the throttle.
    Throttle(Throttle),
    /// A node could not be reached.
    Unreachable(NodeId, ReachStep),
    /// A node is lost.
    Lost(NodeId, Timestamp),
    /// A node's version does not know what the job asks for.
    TooOld(NodeId),
    /// A node has been silent for so long that its children are not waited for.
    Disconnected(NodeId),
    /// A node does not know the job.
    Unknown((NodeId, Unknown), Timestamp),
    /// A node is there, for the first time or again; and how well it knows what it was told in an
    /// earlier life, or by an earlier one of ours, if it was.
    Reachable(NodeId, Option<Memory>),
    /// What was to be said to a node found no room a while ago.
    SayAgain(NodeId),
    /// The node itself is: the job outlived it, and of its children on the node these run.
    Recovered(Finding),
    /// Say so when all that came before is done, and how it is kept.
    Say(oneshot::Sender<Said>),
}

/// What a parent job begins with.
#[derive(Clone)]
pub(crate) struct ParentJobArguments {
    pub(crate) job: Arc<JobShared>,
    pub(crate) session: Arc<SessionShared>,
    /// Where a map's items come from.
    pub(crate) feed: Option<MapFeed>,
    /// What was kept of the job last; none if it is not known, or nothing is kept.
    pub(crate) kept: Option<JobFacts>,
    /// Children of which the disk did not take what they are now.
    pub(crate) unkept: BTreeSet<Ordinal>,
    /// Those of them whose end waits for their output, which the disk did not take in time.
    pub(crate) late: BTreeSet<Ordinal>,
    /// Children of which the disk did not take what an ended life said: they may live again.
    pub(crate) unsaid: BTreeSet<Ordinal>,
    /// It was asked for to try that again.
    pub(crate) keeps_again: bool,
    /// How what was decided last is kept.
    pub(crate) word: Kept,
}

impl ParentJobMessage {
    /// The node of whose children it says what became of them.
    const fn about(&self) -> Option<NodeId> {
        match self {
            Self::Unreachable(node, _) | Self::Lost(node, _) | Self::Unknown((node, _), _) => {
                Some(*node)
            }
            _ => None,
        }
    }
}

pub(crate) use finding::Finding;

/// The actor.
pub(crate) struct ParentJobActor;

impl Actor for ParentJobActor {
    type Msg = ParentJobMessage;
    type State = ParentJobArguments;
    type Arguments = ParentJobArguments;

    async fn pre_start(
        &self,
        _: ActorRef<ParentJobMessage>,
        arguments: ParentJobArguments,
    ) -> Result<ParentJobArguments, ActorProcessingErr> {
        Ok(arguments)
    }

    async fn handle(
        &self,
        myself: ActorRef<ParentJobMessage>,
        message: ParentJobMessage,
        state: &mut ParentJobArguments,
    ) -> Result<(), ActorProcessingErr> {
        if let ParentJobMessage::After(begun) = message {
            let _ = begun.await;
            return Ok(());
        }
        if let ParentJobMessage::Say(done) = message {
            let _ = done.send(Said { all: state.is_kept(), word: state.word });
            return Ok(());
        }
        let message = match message {
            ParentJobMessage::InputStored(done) => {
                let kept = state.keep_and_perform(Effects::new(), None).await;
                let _ = done.send(kept);
                state.stop_if_over(&myself);
                return Ok(());
            }
            ParentJobMessage::KeepAgain => {
                state.keeps_again = false;
                state.keep_and_perform(Effects::new(), None).await;
                state.stop_if_over(&myself);
                return Ok(());
            }
            ParentJobMessage::SayAgain(node) => {
                if !state.session.attachment(node).says_again(state.job.identity.instance) {
                    return Ok(());
                }
                ParentJobMessage::Reachable(node, None)
            }
            message => message,
        };
        let about = message.about();
        let decided = state.decide(message);
        let kept = state.keep_and_perform(decided, about).await;
        if kept != Kept::Never || !state.session.node.is_ending() {
            state.stop_if_over(&myself);
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _: ActorRef<ParentJobMessage>,
        state: &mut ParentJobArguments,
    ) -> Result<(), ActorProcessingErr> {
        // What the journal does not have stays in memory.
        if state.kept.as_ref().is_some_and(|facts| facts.finished().is_some()) {
            state.session.forget_on_hosts(&state.job);
            state.job.drops_ended().await;
            state.job.end_input();
            state.session.put_some_away(&state.job);
        }
        Ok(())
    }
}

/// Applies what a node reported, in its order.
fn apply(
    rows: &mut ParentJob,
    (node, reports): (NodeId, ChildReports),
    now: Timestamp,
    effects: &mut Effects,
) -> Result<(), FalseReport> {
    let ChildReports { started, asked, moved, ended } = reports;
    if asked.is_empty() && moved.is_empty() {
        return rows.on_report(node, &started, ended, effects);
    }
    rows.on_report(node, &started, Vec::new(), effects)?;
    rows.on_asked(node, asked, now, effects)?;
    rows.on_moved(node, &moved, now, effects)?;
    rows.on_report(node, &[], ended, effects)
}

impl ParentJobArguments {
    pub(crate) fn new(job: &Arc<JobShared>, session: &Arc<SessionShared>) -> Self {
        Self {
            job: Arc::clone(job),
            session: Arc::clone(session),
            feed: None,
            kept: None,
            unkept: BTreeSet::new(),
            late: BTreeSet::new(),
            unsaid: BTreeSet::new(),
            keeps_again: false,
            word: Kept::Yes,
        }
    }

    /// Whether the disk has all, also what children said.
    fn is_kept(&self) -> bool {
        self.unkept.is_empty() && !self.keeps_again
    }

    /// One whose last word the disk did not take stays and says it again.
    fn stop_if_over(&self, myself: &ActorRef<ParentJobMessage>) {
        if self.is_kept() && self.job.rows().state().is_finished() {
            myself.stop(None);
        }
    }

    fn decide(&self, message: ParentJobMessage) -> Effects {
        let (mut effects, mut distrusted) = (Effects::new(), None);
        let here = matches!(message, ParentJobMessage::ReportedHere);
        let reported = here.then(|| self.job.take_reported());
        let (mut rows, now) = (self.job.rows_mut(), self.session.node.world.now());
        rows.at(self.session.node.uptime());
        let reached = |child| self.job.keeps_checkpoint(child);
        match message {
            ParentJobMessage::After(_)
            | ParentJobMessage::Say(_)
            | ParentJobMessage::SayAgain(_)
            | ParentJobMessage::KeepAgain
            | ParentJobMessage::InputStored(_) => {}
            ParentJobMessage::Wake => rows.on_wake(now, &mut effects),
            ParentJobMessage::ReportedHere => {
                if let Some((here, reports)) = reported {
                    // This node reports to itself only what it was told to run.
                    let _ = apply(&mut rows, (here, reports), now, &mut effects);
                }
            }
            ParentJobMessage::Reported { node, reports } => {
                let applied = apply(&mut rows, (node, reports), now, &mut effects);
                distrusted = applied.is_err().then_some(node);
            }
            ParentJobMessage::Answer { to, answer, reply } => {
                // Who asked may be gone, here and below; it goes its way.
                let _ = reply.send(rows.on_answer(to, answer, now, &mut effects));
            }
            ParentJobMessage::Items { items, first_id } => {
                rows.on_items(items, first_id, now, &mut effects);
            }
            ParentJobMessage::InputEnd => rows.on_input_end(now, &mut effects),
            ParentJobMessage::InputLost => rows.on_input_lost(now, &mut effects),
            ParentJobMessage::Stop { children, how, by } => {
                rows.on_stop(StopOrder { children, how, by }, now, &mut effects);
            }
            ParentJobMessage::OverQuota(ordinal) => rows.on_over_quota(ordinal, now, &mut effects),
            ParentJobMessage::Move { children, motion, reply } => {
                let _ = reply.send(rows.on_move(children, motion, now, &mut effects));
            }
            ParentJobMessage::Throttle(throttle) => rows.set_throttle(throttle, now, &mut effects),
            ParentJobMessage::Unreachable(it, at) => rows.on_unreachable(it, at, now, &mut effects),
            ParentJobMessage::Unknown((node, said), since) => {
                rows.on_unknown((node, said, since), reached, now, &mut effects);
            }
            ParentJobMessage::Lost(node, since) => {
                rows.on_lost((node, since), reached, now, &mut effects);
            }
            ParentJobMessage::TooOld(it) => rows.on_too_old(it, now, &mut effects),
            ParentJobMessage::Disconnected(it) => rows.on_disconnected(it, now, &mut effects),
            ParentJobMessage::Reachable(node, later) => {
                if let Some(memory) = later {
                    rows.on_adopted((node, memory), now, &mut effects);
                    rows.forget_questions(node, &mut effects);
                }
                rows.on_reconnected(node, now, &mut effects);
            }
            ParentJobMessage::Recovered(finding) => {
                let found = |child, life| finding.of(&self.job, child, life);
                rows.on_recovered(self.session.node.me.id, found, now, &mut effects);
            }
        }
        self.tell_above(&rows, &effects);
        drop(rows);
        if let Some(node) = distrusted {
            self.session.distrust(node);
        }
        effects
    }

    /// The child that the job is below of hears that it has finished.
    fn tell_above(&self, rows: &ParentJob, effects: &Effects) {
        if let Some(above) = &self.session.identity.above
            && rows.state().is_finished()
            && effects.contains(&JobEffect::ParentChanged(rows.state()))
        {
            above.on_job_finished(rows);
        }
    }

    /// Carries out what was decided.
    pub(crate) fn perform(&self, effects: Effects) {
        let mut news = News::default();
        for effect in effects {
            match effect {
                JobEffect::Start { node, children } => {
                    self.session.start_on(&self.job, node, children);
                }
                JobEffect::StartAgain { node, children } => {
                    self.session.start_again_on(&self.job, node, &children);
                }
                JobEffect::Reach(node) => self.session.reach(&self.job, node),
                JobEffect::Wake(at) => {
                    self.job.wake_after(at.saturating_sub(self.session.node.uptime()));
                }
                JobEffect::Stop { node, children, how } => {
                    self.session.stop_on(&self.job, node, children, how);
                }
                JobEffect::Move { node, children, order } => {
                    self.session.suspend_on(&self.job, node, (children, order));
                }
                JobEffect::Close(ordinal) => {
                    self.job.mailboxes.close(ordinal);
                    news.settled.push(ordinal);
                }
                JobEffect::Want(count) => {
                    if let Some(feed) = &self.feed {
                        feed.want(count);
                    }
                }
                JobEffect::Unwanted => {
                    if let Some(feed) = &self.feed {
                        feed.close();
                    }
                }
                JobEffect::Changed(ordinal, incarnation, state, reason) => {
                    self.job.mailboxes.set_ending(ordinal, state == State::Stopping);
                    if let (None, Some(log), true) =
                        (&self.feed, &self.job.input, state.is_finished())
                    {
                        log.child_ended(ordinal);
                    }
                    self.session.posts.look(&self.job, ordinal);
                    news.children.push((ordinal, incarnation, state, reason));
                }
                JobEffect::Asked(_) => news.questions = true,
                JobEffect::Answer { node, key, answer } => {
                    self.session.answer_on(&self.job, node, (key, answer));
                }
                JobEffect::ParentChanged(state) => news.parent.push(state),
            }
        }
        self.session.publish(&self.job, &news);
    }
}
