//! `watch`: what happens to jobs and children, as it happens.

use std::collections::HashSet;

use sortie_engine::select::Selected;
use sortie_engine::session::Place;
use sortie_model::EntryId;
use sortie_model::selector::{Selection, Selector};
use sortie_wire::session_proto::{Answer, Event, Happening};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use crate::data::exchange::{ExchangeError, ServerEnd, ToClient};
use crate::data::session::SessionShared;
use crate::data::stay::Stay;
use crate::serve::{get, wait};

/// Tells a client what happens, until it abandons the request or the session is over, which is said
/// as to whoever waits in it.
pub(super) async fn watch(
    stay: &Stay,
    selection: Selection,
    end: ServerEnd,
) -> Result<(), ExchangeError> {
    let ServerEnd { mut sender, mut receiver } = end;
    let session = stay.session();
    // Before the selection is resolved, so that nothing falls between.
    let mut events = session.events();
    let mut changes = session.changes();
    let mut watched = Watched::of(session, selection).await;
    if let Some(error) = watched.refused.take() {
        return sender.finish_with(Answer::Refused(error)).await;
    }
    let tell = async {
        sender.send(ToClient::Answer(Answer::Done)).await?;
        loop {
            // Marked as seen before the look: an end of the session after that wakes us.
            changes.mark();
            if let Err(error) = stay.check() {
                return sender.finish_with(Answer::Refused(error)).await;
            }
            let over = session.is_over();
            let received = match events.try_recv() {
                Ok(happening) => Ok(happening),
                Err(TryRecvError::Lagged(count)) => Err(RecvError::Lagged(count)),
                Err(TryRecvError::Empty) if !over => tokio::select! {
                    biased;
                    received = events.recv() => received,
                    () = changes.changed() => continue,
                },
                Err(_) => break,
            };
            let happening = match received {
                Ok(happening) => happening,
                Err(RecvError::Lagged(count)) => {
                    let (time, event) = (session.node.world.now(), Event::Missed { count });
                    Happening { time, event }
                }
                Err(RecvError::Closed) => break,
            };
            if watched.concerns(session, &happening.event).await {
                sender.send(ToClient::Happening(happening)).await?;
            }
        }
        sender.finish_with(Answer::Refused(wait::ended(session))).await
    };
    tokio::select! {
        biased;
        told = tell => told,
        // A watcher says nothing: whatever comes means that it has gone.
        _ = receiver.next() => Ok(()),
    }
}

/// Which entries a watcher wants to hear of.
struct Watched {
    selection: Selection,
    /// None: everything, also what is to come.
    ids: Option<HashSet<EntryId>>,
    refused: Option<sortie_wire::RemoteError>,
}

impl Watched {
    async fn of(session: &SessionShared, selection: Selection) -> Self {
        if selection.is_empty() {
            return Self { selection, ids: None, refused: None };
        }
        let Selected { places, troubles } = session.select(&selection).await;
        let ids = places.iter().filter_map(|place| get::id_of(session, *place)).collect();
        let refused = troubles.into_iter().next().map(|trouble| trouble.error);
        Self { selection, ids: Some(ids), refused }
    }

    async fn concerns(&mut self, session: &SessionShared, event: &Event) -> bool {
        if let Event::Accepted { job } = event {
            self.meet(session, *job).await;
        }
        let Some(ids) = &self.ids else { return true };
        match event {
            Event::Ended(_) => false,
            Event::Accepted { job } | Event::Removed { job } => ids.contains(job),
            Event::Changed { id, job, .. } => ids.contains(id) || ids.contains(job),
            Event::Missed { .. } => true,
        }
    }

    /// A job that came later is watched, too, when a glob, a filter or `all` names it.
    async fn meet(&mut self, session: &SessionShared, job: EntryId) {
        let open = self.selection.selectors.is_empty()
            || self.selection.selectors.iter().any(|selector| match selector {
                Selector::All | Selector::Range(..) | Selector::Name(_) => true,
                Selector::Id(_) | Selector::Instance(_) | Selector::Last => false,
            });
        let Some(ids) = self.ids.as_mut().filter(|_| open) else { return };
        let selected = session.select(&self.selection).await;
        let named = selected.places.contains(&Place::Job(job));
        if named {
            ids.insert(job);
        }
    }
}
