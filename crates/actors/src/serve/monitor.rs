//! `monitor`: the end of each life of children, each once. What was told is counted by
//! `sortie_engine::notices`.

use std::sync::Arc;

use sortie_engine::notices::{EndNotices, Life, LifeEnd, Untold};
use sortie_engine::receive::{Part, parts};
use sortie_engine::select::Selected;
use sortie_model::selector::Selection;
use sortie_model::{ChildIncarnation, Ordinal, Timestamp, limits};
use sortie_wire::RemoteError;
use sortie_wire::session_proto::{Answer, EndNotice, Event, Happening};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;

use crate::data::exchange::{ExchangeError, ServerEnd, ServerSender, ToClient};
use crate::data::job::JobShared;
use crate::data::session::SessionShared;
use crate::data::stay::Stay;
use crate::serve::wait;

/// Tells the ends of what is selected, those of what has ended at once, until nothing of it can end
/// any more.
pub(super) async fn monitor(
    stay: &Stay,
    selection: Selection,
    end: ServerEnd,
) -> Result<(), ExchangeError> {
    let ServerEnd { mut sender, mut receiver } = end;
    let session = stay.session();
    // Before anything is looked at, so that no end falls between.
    let mut events = session.events();
    let mut all = match monitored(session, &selection).await {
        Ok(all) => all,
        Err(error) => return sender.finish_with(Answer::Refused(error)).await,
    };
    let mut changes = session.changes();
    let tell = async {
        sender.send(ToClient::Answer(Answer::Done)).await?;
        let mut sight = Sight::Blurred;
        loop {
            // Marked as seen before the look: what happens after that wakes us.
            changes.mark();
            if let Err(error) = stay.check() {
                return sender.finish_with(Answer::Refused(error)).await;
            }
            let over = session.is_over();
            if sight == Sight::Blurred {
                for one in &mut all {
                    one.look(session, &mut sender).await?;
                }
            }
            sight = hear(&mut events, &mut all, &mut sender).await?;
            if sight == Sight::Blurred {
                continue;
            }
            for one in all.extract_if(.., |one| one.is_over()) {
                sender.send_all(one.own_end(session)).await?;
            }
            if all.is_empty() {
                return sender.finish().await;
            }
            if over {
                return sender.finish_with(Answer::Refused(wait::ended(session))).await;
            }
            changes.changed().await;
        }
    };
    tokio::select! {
        biased;
        told = tell => told,
        // Who monitors says nothing: whatever comes means that it has gone.
        _ = receiver.next() => Ok(()),
    }
}

/// Whether every word of the session was heard since the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sight {
    Clear,
    Blurred,
}

/// One job, or children of it, and what was told of them.
struct Monitored {
    job: Arc<JobShared>,
    part: Part,
    notices: EndNotices,
    /// Whether the job was seen to have finished, after the ends of all of its children.
    finished: bool,
}

async fn monitored(
    session: &SessionShared,
    selection: &Selection,
) -> Result<Vec<Monitored>, RemoteError> {
    let Selected { places, troubles } = session.select(selection).await;
    if let Some(trouble) = troubles.into_iter().next() {
        return Err(trouble.error);
    }
    let mut all = Vec::new();
    for (id, part) in parts(&places) {
        let Some(job) = session.bring(id).await? else { continue };
        let mut notices = EndNotices::default();
        {
            let rows = job.rows();
            let lives = (0..rows.children()).map(Ordinal);
            let lives = lives.filter(|_| rows.may_live_again());
            lives.for_each(|child| {
                notices.begin_at(
                    child,
                    rows.life(child).map_or(ChildIncarnation(0), |life| life.incarnation),
                );
            });
        }
        all.push(Monitored { job, part, notices, finished: false });
    }
    Ok(all)
}

/// Tells what has gathered.
async fn hear(
    events: &mut Receiver<Happening>,
    all: &mut [Monitored],
    sender: &mut ServerSender,
) -> Result<Sight, ExchangeError> {
    loop {
        match events.try_recv() {
            Ok(Happening { time, event }) => {
                let told = all.iter_mut().flat_map(|one| one.hear(&event, time));
                let told: Vec<ToClient> = told.collect();
                if !told.is_empty() {
                    sender.send_all(told).await?;
                }
            }
            Err(TryRecvError::Lagged(_)) => return Ok(Sight::Blurred),
            Err(TryRecvError::Empty | TryRecvError::Closed) => return Ok(Sight::Clear),
        }
    }
}

impl Monitored {
    fn concerns(&self, child: Ordinal) -> bool {
        match &self.part {
            Part::Whole => true,
            Part::Children(some) => some.binary_search(&child).is_ok(),
        }
    }

    fn hear(&mut self, event: &Event, time: Timestamp) -> Vec<ToClient> {
        let Event::Changed { id, job, ordinal, incarnation, state, reason, .. } = event else {
            return Vec::new();
        };
        let own = self.job.identity.id;
        if *job != own || !state.is_finished() {
            return Vec::new();
        }
        match ordinal {
            None => {
                self.finished |= *id == own;
                Vec::new()
            }
            Some(child) if self.concerns(*child) => {
                let untold = self.notices.on_end(*child, *incarnation);
                let end = LifeEnd { state: *state, reason: reason.clone(), time: Some(time) };
                self.tell(*child, untold, Some(end), time)
            }
            Some(_) => Vec::new(),
        }
    }

    /// Looks at every child, a few at a time.
    async fn look(
        &mut self,
        session: &SessionShared,
        sender: &mut ServerSender,
    ) -> Result<(), ExchangeError> {
        let finished = self.job.rows().state().is_finished();
        let mut from = 0;
        loop {
            let children: Vec<Ordinal> = match &self.part {
                Part::Whole => {
                    let rest = self.job.rows().children().saturating_sub(from);
                    let few = rest.min(limits::MONITOR_LOOK);
                    (from..from + few).map(Ordinal).collect()
                }
                Part::Children(some) => {
                    let rest = some.iter().skip(from as usize);
                    rest.take(limits::MONITOR_LOOK as usize).copied().collect()
                }
            };
            if children.is_empty() {
                break;
            }
            from += children.len() as u32;
            let now = session.node.world.now();
            let told = children.into_iter().flat_map(|child| self.see(child, now));
            let told: Vec<ToClient> = told.collect();
            if !told.is_empty() {
                sender.send_all(told).await?;
            }
        }
        self.finished |= finished;
        Ok(())
    }

    fn see(&mut self, child: Ordinal, now: Timestamp) -> Vec<ToClient> {
        let life = self.job.rows().life(child);
        match life {
            None => Vec::new(),
            Some(Life { incarnation, end: None }) => {
                let untold = self.notices.on_alive(child, incarnation);
                self.tell(child, untold, None, now)
            }
            Some(Life { incarnation, end }) => {
                let untold = self.notices.on_end(child, incarnation);
                self.tell(child, untold, end, now)
            }
        }
    }

    /// The notices of these lives; `end` is how the last of them ended.
    fn tell(
        &self,
        child: Ordinal,
        untold: Untold,
        end: Option<LifeEnd>,
        now: Timestamp,
    ) -> Vec<ToClient> {
        let Some(id) = self.job.rows().child_id(child) else { return Vec::new() };
        let last = untold.end.saturating_sub(1);
        let job = self.job.identity.id;
        let notices = untold.map(|life| {
            let end = end.as_ref().filter(|_| life == last);
            let notice = EndNotice {
                id,
                job,
                ordinal: Some(child),
                incarnation: ChildIncarnation(life),
                state: end.map(|end| end.state),
                reason: end.and_then(|end| end.reason.clone()),
            };
            happening(notice, end.and_then(|end| end.time).unwrap_or(now))
        });
        notices.collect()
    }

    /// Whether nothing of it can end any more, and all was told.
    fn is_over(&self) -> bool {
        match &self.part {
            Part::Whole => self.finished,
            Part::Children(some) => {
                let rows = self.job.rows();
                some.iter().all(|child| {
                    let told = rows
                        .life(*child)
                        .is_none_or(|life| self.notices.is_told(*child, life.incarnation));
                    told && rows.is_settled(*child)
                })
            }
        }
    }

    /// The notice of the job itself, where it was selected whole.
    fn own_end(&self, session: &SessionShared) -> Vec<ToClient> {
        let (rows, id) = (self.job.rows(), self.job.identity.id);
        if self.part != Part::Whole {
            return Vec::new();
        }
        let notice = EndNotice {
            id,
            job: id,
            ordinal: None,
            incarnation: ChildIncarnation(0),
            state: Some(rows.state()).filter(|state| state.is_finished()),
            reason: None,
        };
        let time = rows.end_time().unwrap_or_else(|| session.node.world.now());
        vec![happening(notice, time)]
    }
}

const fn happening(notice: EndNotice, time: Timestamp) -> ToClient {
    ToClient::Happening(Happening { time, event: Event::Ended(notice) })
}
