//! A receive that goes on when its connection breaks (`docs/semantics.md`, section 4.3).
//!
//! Behind a reconnection another receive of the same entries begins, whose deliveries are numbered
//! on behind those that were handed out. What comes again and was seen is left out; it is
//! acknowledged with the delivery that it came in, and so only by a caller who has written out
//! everything before.

use std::sync::Arc;

use sortie_actors::data::exchange::ClientEnd;
use sortie_engine::seen::{Memory, Seen};
use sortie_model::selector::{Selection, Selector};
use sortie_model::view::EntryView;
use sortie_model::{EntryId, Record};
use sortie_wire::ErrorCode;
use sortie_wire::session_proto::{Ask, ReceiveMode, ReceiveSpec, SessionRef};

use crate::error::RequestError;
use crate::receiver::{ReceiveEnd, ReceiveItem, Receiver};
use crate::route::Remote;
use crate::route::again::{Over, is_loss};
use crate::session::Session;

/// What a receive needs to go on.
#[derive(Debug)]
pub(crate) struct Again {
    session: Session,
    remote: Arc<Remote>,
    firm: SessionRef,
    spec: ReceiveSpec,
    seen: Seen,
    over: Over,
    /// Whether the connection broke and the next receive has not begun.
    broken: bool,
    /// The connection that broke, until there is another one.
    lost: Option<Over>,
    /// Whether only the last lines were asked for: what comes before those that were shown of a
    /// child is left out.
    from_tail: bool,
    /// Deliveries of earlier receives have numbers up to this one.
    base: u64,
    /// The highest number that was handed out.
    last: u64,
    /// Jobs that are to be removed once everything of them is received.
    finished: Vec<Selector>,
}

impl Again {
    /// A receive that has not begun. Its session and selection must mean the same ones later.
    pub(crate) fn new(
        session: &Session,
        remote: &Arc<Remote>,
        (firm, spec): (SessionRef, ReceiveSpec),
    ) -> Box<Self> {
        Box::new(Self {
            session: session.clone(),
            remote: Arc::clone(remote),
            over: remote.present(),
            from_tail: spec.tail.is_some(),
            firm,
            spec,
            seen: Seen::default(),
            broken: false,
            lost: None,
            base: 0,
            last: 0,
            finished: Vec::new(),
        })
    }

    /// Begins the receive, or the next one.
    ///
    /// # Errors
    /// [`RequestError`]; a loss only where no connection came up in time.
    ///
    /// # Cancel safety
    /// Cancel safe: the next call goes on.
    pub(crate) async fn open(&mut self) -> Result<ClientEnd, RequestError> {
        loop {
            if let Some(over) = self.lost {
                self.remote.again(over, RequestError::Lost).await?;
                self.lost = None;
            }
            self.over = self.remote.present();
            let ask = Ask::Receive(Box::new(self.spec.clone()));
            match self.session.open_in(self.firm.clone(), ask).await {
                Err(error) if is_loss(&error) => self.lost = Some(self.over),
                opened => {
                    self.broken = false;
                    return opened;
                }
            }
        }
    }

    /// The connection broke: from here on another receive begins.
    pub(super) fn break_off(&mut self) {
        if !self.broken {
            (self.broken, self.lost) = (true, Some(self.over));
            (self.base, self.spec.tail) = (self.last, None);
        }
    }

    /// The receive was concluded so, with so much acknowledged, at its end or before: whether it is
    /// to be settled.
    pub(super) fn is_to_settle(
        &mut self,
        concluded: &Result<(), RequestError>,
        (acknowledged, over): (u64, bool),
    ) -> bool {
        // What was handed out and not acknowledged is to come again.
        if !self.can_go_on() || acknowledged < self.last {
            return false;
        }
        match concluded {
            Err(error) if is_loss(error) => self.break_off(),
            // What was acknowledged before the connection broke may not have come once more.
            Ok(()) if self.base > 0 && !over => self.broken = true,
            _ => return false,
        }
        true
    }

    pub(super) const fn is_broken(&self) -> bool {
        self.broken
    }

    /// Whether the receive can go on: it knows all that it has seen.
    pub(super) fn can_go_on(&self) -> bool {
        self.seen.memory() == Memory::Complete
    }

    /// The number below which deliveries belong to receives before.
    pub(super) const fn base(&self) -> u64 {
        self.base
    }

    /// What is new of an item; none where nothing is and nothing is to be acknowledged.
    pub(super) fn pass(&mut self, item: ReceiveItem) -> Option<ReceiveItem> {
        match item {
            ReceiveItem::Records { number, source, mut records } => {
                self.leave_out_seen(source.child, &mut records);
                if number == 0 {
                    let item = ReceiveItem::Records { number, source, records };
                    return Some(item).filter(|item| !item.is_empty());
                }
                let number = self.base.saturating_add(number);
                self.last = self.last.max(number);
                Some(ReceiveItem::Records { number, source, records })
            }
            ReceiveItem::Settled { id, state } => {
                let is_new = match self.can_go_on() {
                    true => self.seen.is_settled_now(id),
                    false => !self.seen.has_settled(id),
                };
                is_new.then_some(ReceiveItem::Settled { id, state })
            }
            ReceiveItem::End(end) => {
                self.note_end(&end);
                Some(ReceiveItem::End(end))
            }
            asked @ ReceiveItem::Asked { .. } => Some(asked),
        }
    }

    fn leave_out_seen(&mut self, child: EntryId, records: &mut Vec<Record>) {
        // What cannot be remembered cannot come again, but what was may still be coming.
        let remembers = self.can_go_on();
        let shown = self.seen.first(child).filter(|_| self.from_tail && remembers);
        records.retain(|record| {
            let left_out = shown.is_some_and(|first| record.seq < first);
            let is_new = match remembers {
                true => self.seen.is_new(child, record),
                false => !self.seen.has(child, record),
            };
            !left_out && is_new
        });
    }

    fn note_end(&mut self, end: &ReceiveEnd) {
        let troubles = &end.entries.troubles;
        if self.spec.auto_remove && end.deadlock.is_none() {
            let jobs = end.entries.entries.iter().filter_map(|entry| match entry {
                EntryView::Job(job) if job.state.is_finished() => {
                    // What the node itself would not remove is another reader's.
                    let number = job.id.to_string();
                    let troubled = troubles.iter().any(|trouble| trouble.about == number);
                    (!troubled).then_some(job.instance.0)
                }
                _ => None,
            });
            self.finished = jobs.map(Selector::Instance).collect();
        }
    }

    /// The connection broke before the node had noted what was acknowledged last: it is taken again
    /// and acknowledged, without being handed out.
    ///
    /// # Errors
    /// [`RequestError`]: no connection came up in time, or another client has the session.
    ///
    /// # Cancel safety
    /// Cancel safe: the next call goes on.
    pub(super) async fn settle(&mut self) -> Result<Taken, RequestError> {
        if matches!(self.spec.mode, ReceiveMode::Keep | ReceiveMode::Follow) {
            return Ok(Taken::All);
        }
        let spec = ReceiveSpec::new(self.spec.selection.clone(), ReceiveMode::Take);
        self.spec = ReceiveSpec { streams: self.spec.streams, on: self.spec.on.take(), ..spec };
        let taken = loop {
            let taken = match self.open().await {
                Ok(end) => {
                    // It is not over before all is taken.
                    self.broken = true;
                    self.take_seen(Receiver::new(end)).await
                }
                Err(error) => return Err(error),
            };
            match taken {
                Err(error) if is_loss(&error) => self.lost = Some(self.over),
                Err(error) if has_another(&error) => return Err(error),
                // What is gone with its session, or was removed, does not come again.
                taken => break taken.unwrap_or(Taken::All),
            }
        };
        if !self.finished.is_empty() {
            let selection = Selection::of(self.finished.clone());
            let remove = Ask::Remove { selection, force: false };
            // It may have been done before the connection broke.
            let _ = self.session.ask_in(self.firm.clone(), remove).await;
        }
        Ok(taken)
    }

    /// Acknowledges what was seen, up to what was not; what comes in one delivery with that stays.
    async fn take_seen(&self, mut receiver: Receiver) -> Result<Taken, RequestError> {
        while let Some(item) = receiver.next().await? {
            let ReceiveItem::Records { number, source, records } = item else { continue };
            let seen = |record: &Record| self.seen.has(source.child, record);
            if !records.iter().all(seen) {
                receiver.finish().await?;
                return Ok(if records.iter().any(seen) { Taken::Some } else { Taken::All });
            }
            receiver.acknowledge(number);
        }
        receiver.finish().await.map(|()| Taken::All)
    }
}

/// How much was taken of what was handed out and may not have been noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    All,
    /// Some came in one delivery with what is new, and stays with that.
    Some,
}

/// Whether another client has the session: what was written counts for nothing.
fn has_another(error: &RequestError) -> bool {
    matches!(error.code(), ErrorCode::SessionTaken | ErrorCode::SessionBusy)
}
