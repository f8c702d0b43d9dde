//! A session: starts its jobs one by one, removes them, ends. Its actor supervises the parent jobs;
//! its decisions are `sortie_engine::session`'s.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use sortie_engine::hold::HoldRefused;
use sortie_engine::nest::NestRefused;
use sortie_engine::parent_job::{JobIdentity, ParentJob};
use sortie_engine::placement::known_children;
use sortie_engine::select::JobFacts;
use sortie_engine::session::{StartDecision, StartRefused};
use sortie_model::spec::{Fan, Hosting, InputSpec, StopSpec};
use sortie_model::{EntryId, IdempotencyKey, JobInstance, JobSpec, NodeId, NodeName, Ordinal};
use sortie_store::journal::{self, Change, JobPlan, NewJob, SpecDigest};
use sortie_wire::codec::TooLarge;
use sortie_wire::host_proto::ChildSet;
use sortie_wire::session_proto::Event;
use sortie_wire::{ErrorCode, RemoteError};
use tokio::sync::oneshot;

use crate::data::durable::{Durable, Kept, first_children, job_entry, job_facts, output};
use crate::data::input_log::{InputLog, Pace};
use crate::data::job::JobShared;
use crate::data::mailboxes::JobMailboxes;
use crate::data::map_feed::{self, MapFeed};
use crate::data::nested;
use crate::data::session::SessionShared;
use crate::data::stay::{self, Stay};
use crate::host::HostMessage;
use crate::node::hosts::dying::Alive;
use crate::parent_job::{ParentJobActor, ParentJobArguments, ParentJobMessage};
use crate::serve::wait;

/// A start whose nodes are known.
#[derive(Debug)]
pub(crate) struct StartOrder {
    pub(crate) key: IdempotencyKey,
    pub(crate) spec: Box<JobSpec>,
    pub(crate) nodes: Vec<(NodeName, NodeId)>,
    pub(crate) pace: Pace,
}

/// A job that a start found or made.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) job: Arc<JobShared>,
    /// Whether the key's job was there before: then no input is taken.
    pub(crate) again: bool,
}

/// What a session is told.
#[derive(Debug)]
pub(crate) enum SessionMessage {
    /// Remove a finished job; answers whether it was there.
    Remove(EntryId, RpcReplyPort<bool>),
    /// Look whether it was idle for too long.
    Idle,
    /// The session is over.
    End,
}

/// The actor; its state is what everybody shares.
pub(crate) struct SessionActor;

impl Actor for SessionActor {
    type Msg = SessionMessage;
    type State = Arc<SessionShared>;
    type Arguments = Arc<SessionShared>;

    async fn pre_start(
        &self,
        _: ActorRef<SessionMessage>,
        session: Arc<SessionShared>,
    ) -> Result<Arc<SessionShared>, ActorProcessingErr> {
        Ok(session)
    }

    async fn handle(
        &self,
        myself: ActorRef<SessionMessage>,
        message: SessionMessage,
        session: &mut Arc<SessionShared>,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SessionMessage::Remove(id, reply) => {
                let _ = reply.send(remove(session, id).await);
            }
            SessionMessage::Idle => session.on_idle_look(),
            SessionMessage::End => {
                // A start that is under way is done first; the next one sees that it is over.
                let _no_start = session.starting.lock().await;
                end(session);
                myself.stop(None);
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<SessionMessage>,
        event: SupervisionEvent,
        _: &mut Arc<SessionShared>,
    ) -> Result<(), ActorProcessingErr> {
        // A parent job that ends has finished; one that fails is a fault of ours, and its rows
        // stay.
        if let SupervisionEvent::ActorFailed(_, error) = event {
            tracing::error!(%error, "a parent job failed");
        }
        Ok(())
    }
}

/// Starts a job, one after the other; what its acceptance decided is carried out when this returns.
/// Runs where it is asked for: a hop to the actor and one to the job's cost a fifth of the time
/// that a short function elsewhere takes.
///
/// # Errors
/// [`RemoteError`]; no job was made then.
pub(crate) async fn start(stay: &Stay, order: StartOrder) -> Result<Started, RemoteError> {
    let session = stay.session();
    let one_by_one = session.starting.lock().await;
    // Only now: who takes the session over has waited for the starts that are under way.
    stay.check()?;
    let supervisor = open_for_starts(session)?;
    let StartOrder { key, spec, nodes, pace } = order;
    let known = known_children(&spec.fan, nodes.len() as u32).unwrap_or(0);
    let durable = session.durable.as_ref().filter(|_| spec.hosting == Hosting::Persistent);
    let digests = || Ok::<_, TooLarge>([SpecDigest::of(&spec)?, SpecDigest::of_all(&spec)?]);
    let digests = durable.map(|_| digests()).transpose();
    let digests = digests.map_err(|error| RemoteError::new(ErrorCode::Limit, error.to_string()))?;
    let (decision, below) = decide(session, key.clone(), &spec, known)?;
    let id = match decision {
        StartDecision::New(id) => id,
        StartDecision::Same(id) => return again(session, id).await,
    };
    let spec = below.unwrap_or(spec);
    let identity = JobIdentity {
        id,
        instance: JobInstance(session.node.world.fresh_id()),
        session: session.identity.id,
        created: session.node.world.now(),
    };
    let input = input_of(session, &spec, (identity.instance, known), pace);
    let (instance, mut effects) = (identity.instance, Vec::new());
    let mut rows = ParentJob::accept(identity, *spec, nodes, &mut effects);
    if let (Some(durable), Some(digests)) = (durable, digests)
        && let Some(before) = keep(session, durable, (key, digests), &mut rows).await?
    {
        return again(session, before).await;
    }
    let feed = rows.is_open().then(MapFeed::new);
    let kept = durable.map(|_| job_facts(&rows, false, false));
    let job = JobShared::new(rows, mailboxes_of(session, durable, instance), input, session);
    let mut arguments = ParentJobArguments::new(&job, session);
    (arguments.feed, arguments.kept) = (feed.clone(), kept);
    let (own, supervisor) = (arguments.clone(), supervisor.get_cell());
    let spawned = ParentJobActor::spawn_linked(None, ParentJobActor, own, supervisor).await;
    let (actor, _) = spawned.map_err(|_| wait::ended(session))?;
    job.set_actor(actor.clone());
    // The job is seen from here on, by readers, stops and reports; its actor listens to them once
    // what was decided is done.
    let (begun, gate) = oneshot::channel();
    job.tell(ParentJobMessage::After(gate));
    {
        let mut table = session.table_mut();
        session.announce(Event::Accepted { job: id });
        table.insert(id, instance, Arc::clone(&job));
    }
    arguments.perform(effects);
    // An actor that was killed meanwhile listens to nobody.
    let _ = begun.send(());
    if job.rows().state().is_finished() {
        // It had nothing to do from the start, so nothing will be reported.
        actor.stop(None);
    }
    drop(one_by_one);
    // What was sent leaves this machine before anything else is done: its way is the longest one.
    tokio::task::yield_now().await;
    if let (Some(feed), Some(log)) = (feed, &job.input) {
        let (session, job) = (Arc::clone(session), Arc::clone(&job));
        tokio::spawn(map_feed::run(feed, log.reader(Ordinal(0)), session, job));
    }
    Ok(Started { job, again: false })
}

/// A job that its key has already.
async fn again(session: &SessionShared, id: EntryId) -> Result<Started, RemoteError> {
    let gone = || RemoteError::new(ErrorCode::Gone, "the key's job was removed");
    let job = session.bring(id).await?.ok_or_else(gone)?;
    Ok(Started { job, again: true })
}

fn mailboxes_of(
    session: &SessionShared,
    durable: Option<&Arc<Durable>>,
    job: JobInstance,
) -> Arc<JobMailboxes> {
    let (node, rule) = (&session.node, session.identity.output);
    match durable {
        Some(durable) => output::mailboxes(node, durable.store(), (job, rule)),
        None => JobMailboxes::with_rule(Arc::clone(&node.pool), rule),
    }
}

/// Keeps a new job before it is answered, unless its key has one: then it says which.
///
/// # Errors
/// [`RemoteError`]; the job's key is free.
async fn keep(
    session: &SessionShared,
    durable: &Durable,
    key: (IdempotencyKey, [SpecDigest; 2]),
    rows: &mut ParentJob,
) -> Result<Option<EntryId>, RemoteError> {
    rows.note_touched();
    let kept = durable.start(new_job(session, key, rows)).await;
    if !matches!(kept, Ok(journal::Started::New)) {
        session.table_mut().withdraw(rows.identity().id);
    }
    match kept? {
        journal::Started::New => Ok(None),
        journal::Started::Same(before) => Ok(Some(before)),
    }
}

/// A job as it is kept before it is answered.
fn new_job(
    session: &SessionShared,
    (key, [digest, of_all]): (IdempotencyKey, [SpecDigest; 2]),
    rows: &ParentJob,
) -> NewJob {
    let nodes: Vec<_> = rows.nodes().map(|(id, name)| (name.clone(), id)).collect();
    NewJob {
        session: session.identity.instance,
        key,
        entry: job_entry(rows),
        plan: JobPlan { spec: rows.spec().clone(), nodes },
        digest,
        of_all,
        children: first_children(rows),
        next_id: session.table().next_id(),
    }
}

/// Who supervises a new job, unless the session takes none.
fn open_for_starts(session: &SessionShared) -> Result<&ActorRef<SessionMessage>, RemoteError> {
    let supervisor = session.actor().filter(|_| !session.is_over());
    let supervisor = supervisor.ok_or_else(|| wait::ended(session))?;
    match &session.identity.above {
        _ if !session.refuses_starts() => Ok(supervisor),
        None => Err(stay::refusal(session, HoldRefused::Over)),
        Some(_) => Err(nested::refusal(NestRefused::Stopping)),
    }
}

/// What the start becomes, and its spec with what is set in the session, if anything is.
fn decide(
    session: &SessionShared,
    key: IdempotencyKey,
    spec: &JobSpec,
    known: u64,
) -> Result<(StartDecision, Option<Box<JobSpec>>), RemoteError> {
    let now = session.node.uptime();
    let same = session.table_mut().same(&key, spec, now);
    if let Some(id) = same.map_err(|refused| refusal(&refused))? {
        return Ok((StartDecision::Same(id), None));
    }
    // Between the two looks at the key: one that has its job asks for nothing more, and a start
    // that is refused leaves its key free.
    let below = session.scope().below(spec);
    let below = below.map_err(|error| RemoteError::new(ErrorCode::Limit, error.to_string()))?;
    let decision = session.table_mut().on_start(key, spec, known, now);
    Ok((decision.map_err(|refused| refusal(&refused))?, below))
}

/// Where the input of the job goes, if it takes any.
fn input_of(
    session: &SessionShared,
    spec: &JobSpec,
    (job, known): (JobInstance, u64),
    pace: Pace,
) -> Option<Arc<InputLog>> {
    let map = !matches!(spec.fan, Fan::PerNode { .. });
    let readers = if map { 1 } else { known };
    let takes = map || spec.input.is_fed();
    // What is typed at a terminal is for whoever listens now.
    let lasts = map || spec.input == InputSpec::Stream;
    let lasts = lasts && spec.hosting == Hosting::Persistent;
    takes.then(|| match session.durable.as_ref().filter(|_| lasts) {
        Some(durable) => InputLog::lasting(durable.store().inputs().begin(job), readers),
        None => InputLog::new(&session.node.input_directory, pace, readers),
    })
}

pub(crate) fn refusal(refused: &StartRefused) -> RemoteError {
    let text = refused.to_string();
    match refused {
        StartRefused::KeyReused { job, .. } => RemoteError::new(ErrorCode::KeyReused, text)
            .hint(format!("`sortie explain {job}` shows that one; another needs another key")),
        StartRefused::Keys | StartRefused::Jobs => RemoteError::new(ErrorCode::Limit, text),
    }
}

async fn remove(session: &SessionShared, id: EntryId) -> bool {
    let _brings_none = session.bring_none().await;
    let job = session.table().job(id).cloned();
    let Some(job) = job else { return remove_archived(session, id).await };
    if !job.rows().state().is_finished() {
        return false;
    }
    if let Some(durable) = &job.durable
        && !forget(session, durable, id).await
    {
        return false;
    }
    session.table_mut().remove(id, job.identity.instance, session.node.uptime());
    job.mailboxes.remove_all();
    if let Some(log) = &job.input {
        log.close();
    }
    session.announce(Event::Removed { job: id });
    true
}

/// The same for one that is not in memory.
async fn remove_archived(session: &SessionShared, id: EntryId) -> bool {
    let instance = session.table().archived(id).map(|row| row.instance());
    let (Some(instance), Some(durable)) = (instance, &session.durable) else { return false };
    if !forget(session, durable, id).await {
        return false;
    }
    session.table_mut().remove_archived(id);
    output::remove(durable.store(), vec![instance]);
    session.announce(Event::Removed { job: id });
    true
}

/// Says whether the journal forgot the job: or else it would be back with the next node, without
/// what it said.
async fn forget(session: &SessionShared, durable: &Durable, id: EntryId) -> bool {
    let (jobs, at) = (vec![id], session.node.world.now());
    let session = session.identity.instance;
    durable.keep(vec![Change::JobsRemoved { session, jobs, at }]).await == Kept::Yes
}

/// Everything of the session ends: jobs are stopped at once, hosts kill what is left, and nothing
/// is kept.
fn end(session: &SessionShared) {
    for job in session.jobs() {
        let by = "the end of its session".to_owned();
        job.tell(ParentJobMessage::Stop { children: ChildSet::All, how: StopSpec::NOW, by });
        // What outlives the node stays on its disk.
        if session.durable.is_some() && session.node.is_ending() {
            continue;
        }
        job.mailboxes.remove_all();
        if let Some(log) = &job.input {
            log.close();
        }
    }
    if let Some(durable) = session.durable.as_ref().filter(|_| !session.node.is_ending()) {
        let table = session.table();
        let left = table.all_archived().map(|(_, row)| row.instance());
        output::remove(durable.store(), left.collect());
    }
    session.tell_host(HostMessage::Over(Alive::default()));
    for attachment in session.attached_nodes() {
        attachment.end();
    }
}
