//! `receive`: records go out in batches, and are freed when their reader has confirmed them.
//!
//! Two things go on side by side: one delivers, the other hears acknowledgements. What was
//! delivered and not acknowledged is held in a [`Window`]; when the client is gone the window goes
//! too, and what it held is offered again to the next reader. When the client parts from the
//! session the window is withdrawn at once, also from a client that reads nothing: what it confirms
//! afterwards frees nothing, and it is never told a clean end.

mod groups;
mod now;
mod others;
mod outlet;
mod queue;
mod reading;
mod room;
mod target;
mod until;

use std::collections::HashSet;
use std::pin::pin;
use std::sync::{Arc, OnceLock};

use sortie_engine::receive::{self as rule, Part, parts};
use sortie_engine::session::Place;
use sortie_model::nodeset::NodeExpr;
use sortie_model::{EntryId, NodeName, Seq};
use sortie_wire::session_proto::{Delivery, ReceiveMode, ReceiveSpec, Trouble};
use sortie_wire::{ErrorCode, RemoteError};

use crate::data::durable::committing::Committing;
use crate::data::exchange::{ExchangeError, ServerEnd, ServerReceiver, ToClient, ToServer};
use crate::data::job::JobShared;
use crate::data::mailboxes::ReadError;
use crate::data::session::SessionShared;
use crate::data::stay::Stay;
use crate::data::window::{Child, Window, Withdrawn};
use crate::serve::{get, remove, wait};
use groups::{Groups, groups};
use outlet::Outlet;
use reading::{NotRead, Reading};
use room::Room;
use target::{Failures, Target};

/// Why a receive breaks off.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    #[error(transparent)]
    Refused(#[from] RemoteError),
    #[error(transparent)]
    Withdrawn(#[from] Withdrawn),
}

/// How the delivery of a receive is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    /// Everything was delivered.
    Delivered,
    /// The client wants no more.
    ClientEnded,
    /// The client wants no more, and has parted from the session.
    ClientParted,
}

/// Serves one receive to its end.
pub(super) async fn receive(
    stay: &Stay,
    spec: ReceiveSpec,
    end: ServerEnd,
) -> Result<(), ExchangeError> {
    let ServerEnd { sender, mut receiver } = end;
    let mut outlet = Outlet::new(sender);
    // Dropped before the outlet: who sees the end finds everything free or on offer again.
    let window = match stay.open_window() {
        Ok(window) => window,
        Err(error) => return refuse(outlet, error).await,
    };
    let committing = Committing::of(taken_from(stay.session(), &spec).await);
    let way = outlet.way();
    let to_remove = OnceLock::new();
    let over = {
        let held = (&window, &committing);
        let mut deliver = pin!(deliver(stay, &spec, &mut outlet, (held, &to_remove)));
        tokio::select! {
            biased;
            gone = hear(&mut receiver, &window) => {
                gone?;
                if window.check().is_ok() {
                    if way.close() {
                        // It fails once the message is sent, or because the client is gone.
                        let _ = deliver.await;
                    }
                    Over::ClientEnded
                } else {
                    // It counts on what it confirmed, and is told that it must not. What is being
                    // sent is sent to its end before: behind a part of a message nothing is
                    // understood.
                    deliver.await?;
                    Over::ClientParted
                }
            }
            delivered = &mut deliver => {
                delivered?;
                Over::Delivered
            }
        }
    };
    if over == Over::ClientEnded {
        drop(window);
        // That our side ends tells it that all it confirmed is free, and stays so.
        outlet.renew();
        return conclude(committing, outlet, (stay, None)).await;
    }
    // What the client has in hand it may still confirm. That we end our side tells it that all it
    // confirmed is free.
    let confirmed = tokio::select! {
        biased;
        gone = hear(&mut receiver, &window), if over == Over::Delivered => {
            gone?;
            window.check()
        }
        emptied = window.emptied() => emptied,
    };
    drop(window);
    match confirmed {
        Ok(()) => conclude(committing, outlet, (stay, to_remove.get())).await,
        Err(Withdrawn) => refuse(outlet, stay.parted().await).await,
    }
}

/// Ends it, once it is noted what was confirmed, and what was read is removed; refuses it where
/// that cannot be noted.
async fn conclude(
    committing: Committing,
    outlet: Outlet,
    (stay, to_remove): (&Stay, Option<&Vec<EntryId>>),
) -> Result<(), ExchangeError> {
    match committing.finish().await.of_confirmation() {
        Ok(()) => {
            remove_read(stay.session(), to_remove).await;
            outlet.finish().await
        }
        Err(error) => refuse(outlet, error).await,
    }
}

/// The jobs in memory from which it takes, where that outlives the node; none where nothing does.
async fn taken_from(session: &SessionShared, spec: &ReceiveSpec) -> Option<Vec<Arc<JobShared>>> {
    if session.durable.is_none() || !takes(spec) {
        return None;
    }
    let parts = parts(&session.select(&spec.selection).await.places);
    let table = session.table();
    Some(parts.into_iter().filter_map(|(id, _)| table.job(id).cloned()).collect())
}

const fn takes(spec: &ReceiveSpec) -> bool {
    matches!(spec.mode, ReceiveMode::Take | ReceiveMode::TakeUntil { .. })
}

/// Delivers everything, up to the end of the receive, or up to the client's parting.
async fn deliver(
    stay: &Stay,
    spec: &ReceiveSpec,
    outlet: &mut Outlet,
    (held, to_remove): ((&Window, &Committing), &OnceLock<Vec<EntryId>>),
) -> Result<(), ExchangeError> {
    let last = match run(stay, spec, outlet, (held, to_remove)).await {
        Ok(end) => end,
        Err(Broken::Refused(error)) => Delivery::Refused(error),
        // The caller says it.
        Err(Broken::Withdrawn(_)) => return outlet.flush().await,
        Err(Broken::Exchange(error)) => return Err(error),
    };
    outlet.push(ToClient::Delivery(last)).await?;
    outlet.flush().await
}

async fn refuse(mut outlet: Outlet, error: RemoteError) -> Result<(), ExchangeError> {
    outlet.push(ToClient::Delivery(Delivery::Refused(error))).await?;
    outlet.flush().await?;
    outlet.finish().await
}

/// Frees what the client confirms, until it has ended its side or is gone.
async fn hear(receiver: &mut ServerReceiver, window: &Window) -> Result<(), ExchangeError> {
    while let Some(message) = receiver.next().await? {
        // A receive takes no input; what comes of it is left unread.
        if let ToServer::Acknowledged(number) = message {
            window.acknowledge(number);
        }
    }
    Ok(())
}

/// Delivers everything but the end, which it returns; and says what is to be removed once the
/// reader has confirmed it. A reader may confirm only when it knows the end.
async fn run(
    stay: &Stay,
    spec: &ReceiveSpec,
    outlet: &mut Outlet,
    ((window, committing), to_remove): ((&Window, &Committing), &OnceLock<Vec<EntryId>>),
) -> Result<Delivery, Broken> {
    rule::check(spec)?;
    let session = stay.session();
    let on = spec.on.as_ref().map(|on| locations(session, on)).transpose()?.map(Arc::new);
    let selected = session.select(&spec.selection).await;
    let parts = parts(&selected.places);
    let held = (window, committing);
    let mut all = Groups {
        stay,
        spec,
        on,
        held,
        failures: Failures::default(),
        in_hand: Vec::new(),
        not_back: Vec::new(),
    };
    let mut blocked = None;
    for group in groups(session, &parts, spec) {
        blocked = all.deliver(group, outlet).await?;
    }
    // What a session that ended dropped was not read: this is no end.
    check(stay)?;
    let deadlock = blocked.and_then(|place| wait::deadlock(session, place));
    let Groups { failures, in_hand, not_back, .. } = all;
    // At the moment at which it is looked who else has something.
    let removes = spec.auto_remove && deadlock.is_none();
    let jobs = removes.then(|| read_jobs(session, &parts, window));
    let mut entries = get::listed(session, selected).await?;
    others::note(session, &mut entries, &in_hand);
    entries.troubles.extend(room::troubles(session, spec, &not_back));
    if let Some((read, mut left)) = jobs {
        left.retain(|id| !not_back.contains(&Place::Job(*id)));
        entries.troubles.extend(left.into_iter().map(still_unread));
        // Set once, here.
        let _ = to_remove.set(read);
    }
    Ok(Delivery::End { failures: failures.into_all(), entries, deadlock })
}

/// Whether the client may go on, and the session is there.
fn check(stay: &Stay) -> Result<(), Broken> {
    stay.check()?;
    if stay.session().is_over() {
        return Err(wait::ended(stay.session()).into());
    }
    Ok(())
}

/// One group of a receive under way.
struct Receive<'a> {
    stay: &'a Stay,
    targets: Vec<Target>,
    reading: Reading<'a>,
    room: Room,
    window: &'a Window,
    outlet: &'a mut Outlet,
}

/// What one read of a child came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Delivered {
    /// The last record's number; none when there was none.
    last: Option<Seq>,
    /// Whether the child has more now.
    more: bool,
}

impl Receive<'_> {
    /// Delivers one batch of a child, if it has one.
    async fn deliver(&mut self, (place, ordinal): Child) -> Result<Delivered, Broken> {
        self.window.check()?;
        let Some(target) = self.targets.get(place) else { return Ok(Delivered::default()) };
        // Before anything is taken: what is taken is delivered.
        let Some(source) = target.source(ordinal) else { return Ok(Delivered::default()) };
        let read = self.reading.read(target, (place, ordinal));
        let batch = match self.outlet.meanwhile(read).await? {
            Ok(batch) => batch,
            Err(error) => return unreadable(error),
        };
        if !batch.records.is_empty() {
            let (number, records) = (batch.number, batch.records);
            self.room.note_batch();
            self.outlet.push(ToClient::Records { number, source, records }).await?;
        }
        Ok(Delivered { last: batch.last, more: batch.more })
    }

    /// The next records of a child are the last `count` lines of what it has now.
    async fn start_at_tail(&mut self, child: Child, count: u32) -> Result<(), Broken> {
        let Some(target) = self.targets.get(child.0) else { return Ok(()) };
        let found = self.reading.start_at_tail(target, child, u64::from(count));
        if let Err(error) = self.outlet.meanwhile(found).await? {
            unreadable(error.into())?;
        }
        Ok(())
    }
}

/// A job that was removed meanwhile has nothing more.
fn unreadable(error: NotRead) -> Result<Delivered, Broken> {
    match error {
        NotRead::Mailbox(ReadError::Removed) => Ok(Delivered::default()),
        NotRead::Withdrawn(error) => Err(error.into()),
        NotRead::Mailbox(error) => {
            Err(RemoteError::new(ErrorCode::Storage, error.to_string()).into())
        }
    }
}

/// How the children on these nodes show where they are.
fn locations(session: &SessionShared, on: &NodeExpr) -> Result<HashSet<String>, RemoteError> {
    let names = session.node.names_of(on)?;
    let here = session.node.me.name();
    let localhost = names.contains(&here).then(|| NodeName::LOCALHOST.to_owned());
    Ok(names.into_iter().map(String::from).chain(localhost).collect())
}

/// The entries whose ends are the end of the receive: a job's end is its children's, too.
fn ends(targets: &[Target]) -> Vec<Place> {
    let ends = targets.iter().flat_map(|target| {
        let id = target.job.identity.id;
        match &target.part {
            Part::Whole => vec![Place::Job(id)],
            Part::Children(some) => some.iter().map(|it| Place::Child(id, *it)).collect(),
        }
    });
    ends.collect()
}

/// The jobs that are finished and of which nothing is left but what is in the window; and those of
/// which another reader has something.
fn read_jobs(
    session: &SessionShared,
    parts: &[(EntryId, Part)],
    window: &Window,
) -> (Vec<EntryId>, Vec<EntryId>) {
    let table = session.table();
    let whole = parts.iter().filter(|(_, part)| *part == Part::Whole).map(|(id, _)| *id);
    let finished = whole.filter(|id| table.facts(*id).is_some_and(|it| it.state().is_finished()));
    finished.partition(|id| match table.job(*id) {
        Some(job) => job.mailboxes.unread().records <= window.records_of(&job.mailboxes),
        None => table.facts(*id).is_some_and(|job| !job.has_more_data()),
    })
}

/// Removes the jobs of which nothing is left.
async fn remove_read(session: &SessionShared, read: Option<&Vec<EntryId>>) {
    for id in read.into_iter().flatten() {
        let is_read = session.table().facts(*id).is_some_and(|job| !job.has_more_data());
        if is_read {
            // Somebody else may have been faster; gone is gone.
            let _ = remove::drop_job(session, *id).await;
        }
    }
}

fn still_unread(id: EntryId) -> Trouble {
    let text = format!("job {id} was not removed: another reader has records of it");
    let error = RemoteError::new(ErrorCode::NotFinished, text);
    Trouble {
        about: id.to_string(),
        error: error.hint(format!("`sortie receive {id}` takes what comes back")),
    }
}
