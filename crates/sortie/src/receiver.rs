//! Receiving: batches of records as they come, and their acknowledgement.

pub(crate) mod again;
mod departures;
mod ending;

use std::sync::Arc;

use futures_util::FutureExt;
use sortie_actors::data::exchange::{ClientEnd, ClientSender, ToClient, ToServer};
use sortie_model::view::EntryView;
use sortie_model::{Deadlock, EntryId, Question, Record, State};
use sortie_wire::session_proto::{Answer, Delivery, Entries, Failure, Source};

use tokio::runtime::Handle;

use crate::error::RequestError;
use crate::receiver::again::{Again, Taken};
use crate::receiver::departures::Departure;
use crate::receiver::ending::{Ending, refusal};
use crate::route::again::is_loss;

pub(crate) use departures::Departures;

/// Deliveries that may be marked as written out before the node is told, while more are ready. Less
/// than the offers that a mailbox can have in flight, so waiting never starves the node of room.
pub(crate) const UNCONFIRMED_DELIVERIES: u64 = 8;

/// What a receive brings.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReceiveItem {
    /// Records of one child, in order: at most
    /// [`limits::BATCH_RECORDS`](crate::limits::BATCH_RECORDS) of them and about
    /// [`limits::BATCH_BYTES`](crate::limits::BATCH_BYTES). None at all where they came before the
    /// connection broke ([`Client::reconnecting`](crate::Client::reconnecting)), and are to be
    /// acknowledged once more.
    Records {
        /// What to give to [`Receiver::acknowledge`]; 0 needs none.
        number: u64,
        /// From which child.
        source: Source,
        /// The records.
        records: Vec<Record>,
    },
    /// An entry settled; only when the receive asked for events.
    Settled {
        /// The job or the child.
        id: EntryId,
        /// Its state.
        state: State,
    },
    /// A child asks; only when the receive asked for questions
    /// ([`ReceiveSpec::answers`](crate::ReceiveSpec)). Its records before the question came before.
    Asked {
        /// Which child.
        source: Source,
        /// What.
        question: Question,
    },
    /// The receive is over. Nothing follows.
    End(ReceiveEnd),
}

impl ReceiveItem {
    /// Whether it brings no records, where it is about records.
    fn is_empty(&self) -> bool {
        matches!(self, Self::Records { records, .. } if records.is_empty())
    }

    fn encoded(self) -> Self {
        match self {
            Self::Records { number, source, records } => {
                let records = records.into_iter().map(Record::encoded).collect();
                Self::Records { number, source, records }
            }
            other => other,
        }
    }
}

/// How a receive ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReceiveEnd {
    /// Reasons of failed children, in child order, also when nothing was left to read; at most
    /// [`limits::FAILURES_SHOWN`](crate::limits::FAILURES_SHOWN). How many there are stands in the
    /// job's tally.
    pub failures: Vec<Failure>,
    /// The entries at the end, as for `get`, and the selectors that named nothing.
    /// Where other readers have records of one in hand and a receive that takes passes them by, its
    /// notes say how many.
    pub entries: Entries,
    /// The blocked job or child that ended a waiting receive, if one did, and who asks.
    pub deadlock: Option<Deadlock>,
}

impl ReceiveEnd {
    /// How many children of the entries were stopped; none when nothing was. A map that was told to
    /// stop counts also without one: some of its inputs may never have had a child.
    pub(crate) fn stopped(&self) -> Option<u64> {
        let stopped = self.entries.entries.iter().map(|entry| match entry {
            EntryView::Job(job) => {
                let children = job.tally.of(State::Stopped);
                (children > 0 || job.stopped_by.is_some()).then_some(children)
            }
            EntryView::Child(child) => (child.state == State::Stopped).then_some(1),
        });
        stopped.flatten().reduce(|one, other| one + other)
    }

    /// Whether the input of one of the entries broke off, and none of its children failed.
    pub(crate) fn lacks_children(&self) -> bool {
        let lacks =
            |entry: &EntryView| matches!(entry, EntryView::Job(job) if job.lacks_children());
        self.entries.entries.iter().any(lacks)
    }

    /// What the end of a receive means when it was about one job: its troubles are the whole
    /// answer.
    pub(crate) fn about_one(self) -> Result<(), RequestError> {
        match (self.deadlock, self.entries.troubles) {
            (Some(deadlock), _) => Err(RequestError::Deadlock(deadlock)),
            (None, troubles) if !troubles.is_empty() => Err(RequestError::of_troubles(troubles)),
            _ => Ok(()),
        }
    }
}

/// A receive under way (`docs/semantics.md`, section 3.3).
///
/// Records of a taking receive are freed on the node once they are acknowledged, and only then.
/// Dropping a receiver frees nothing: what was not acknowledged, or acknowledged and not told to
/// the node yet ([`Receiver::acknowledge`]), comes again to the next receive under the same
/// sequence numbers. To keep the last acknowledgements, read up to the end or call
/// [`Receiver::finish`].
#[derive(Debug)]
pub struct Receiver {
    end: Option<ClientEnd>,
    /// Our side of it is over, and what the node says of that is still to come.
    ending: Option<Ending>,
    /// Who waits until the node has everything back that was not acknowledged.
    departures: Option<Arc<Departures>>,
    over: bool,
    /// What the caller acknowledged.
    marked: u64,
    /// What the node was told.
    confirmed: u64,
    /// A frame is being written to a link.
    confirming: bool,
    /// How it goes on when the connection breaks; none where it ends.
    again: Option<Box<Again>>,
}

impl Receiver {
    pub(crate) const fn new(end: ClientEnd) -> Self {
        Self {
            end: Some(end),
            ending: None,
            departures: None,
            over: false,
            marked: 0,
            confirmed: 0,
            confirming: false,
            again: None,
        }
    }

    /// The same; it goes on when the connection breaks.
    pub(crate) fn lasting(end: ClientEnd, again: Box<Again>) -> Self {
        let mut receiver = Self::new(end);
        receiver.again = Some(again);
        receiver
    }

    /// The same, known to those who receive from the same job when it is dropped.
    pub(crate) fn known_to(mut self, departures: &Arc<Departures>) -> Self {
        self.departures = Some(Arc::clone(departures));
        self
    }

    /// The next item; none once the receive is over.
    ///
    /// # Errors
    /// [`RequestError`] when the receive is refused, the connection is lost, or the client parts
    /// from the session ([`ErrorCode::SessionTaken`](crate::ErrorCode::SessionTaken)). After an
    /// error nothing more comes. That a waiting receive meets a blocked job is no error here:
    /// [`ReceiveEnd::deadlock`].
    ///
    /// # Cancel safety
    /// No record is lost. A call that is dropped while it waits for what became of the last
    /// acknowledgements is gone on with by the next. Over a link, a call that is dropped in the
    /// very moment in which it sends an acknowledgement ends the receive: the next call says
    /// [`RequestError::Lost`], and what was not acknowledged comes again to the next receive.
    pub async fn next(&mut self) -> Result<Option<ReceiveItem>, RequestError> {
        let item = self.next_as_it_is().await?;
        Ok(item.map(ReceiveItem::encoded))
    }

    /// The same, with live values as they are.
    pub(crate) async fn next_as_it_is(&mut self) -> Result<Option<ReceiveItem>, RequestError> {
        let item = self.go_on().await;
        if item.is_err() {
            (self.end, self.again) = (None, None);
        }
        item
    }

    /// The next item that is new, behind a reconnection if need be.
    async fn go_on(&mut self) -> Result<Option<ReceiveItem>, RequestError> {
        loop {
            let over = self.over;
            if let Some(again) = self.again.as_mut().filter(|again| again.is_broken() && !over) {
                self.end = Some(again.open().await?);
                (self.confirmed, self.confirming) = (again.base(), false);
            }
            let item = self.advance().await;
            match (item, &mut self.again) {
                (Err(error), Some(again)) if is_loss(&error) && again.can_go_on() => {
                    self.end = None;
                    again.break_off();
                }
                (Ok(Some(item)), Some(again)) => {
                    if let Some(item) = again.pass(item) {
                        return Ok(Some(item));
                    }
                }
                (item, _) => return item,
            }
        }
    }

    async fn advance(&mut self) -> Result<Option<ReceiveItem>, RequestError> {
        if self.over {
            self.conclude().await?;
            return Ok(None);
        }
        let Some(end) = &mut self.end else { return Ok(None) };
        let behind = self.marked.saturating_sub(self.confirmed);
        if behind < UNCONFIRMED_DELIVERIES
            && let Some(message) = end.receiver.next().now_or_never()
        {
            return self.read(message?.ok_or(RequestError::Lost)?).map(Some);
        }
        let message = match self.confirm_or_receive().await? {
            Some(message) => message,
            None => {
                let Some(end) = &mut self.end else { return Ok(None) };
                end.receiver.next().await?.ok_or(RequestError::Lost)?
            }
        };
        self.read(message).map(Some)
    }

    fn read(&mut self, message: ToClient) -> Result<ReceiveItem, RequestError> {
        match message {
            ToClient::Records { number, source, records } => {
                Ok(ReceiveItem::Records { number, source, records })
            }
            ToClient::Delivery(Delivery::Settled { id, state }) => {
                Ok(ReceiveItem::Settled { id, state })
            }
            ToClient::Delivery(Delivery::Asked { source, question }) => {
                Ok(ReceiveItem::Asked { source, question })
            }
            ToClient::Delivery(Delivery::End { failures, entries, deadlock }) => {
                self.over = true;
                Ok(ReceiveItem::End(ReceiveEnd { failures, entries, deadlock }))
            }
            ToClient::Delivery(Delivery::Refused(error))
            | ToClient::Answer(Answer::Refused(error)) => Err(error.into()),
            _ => Err(RequestError::Unexpected),
        }
    }

    /// Marks the records up to that delivery as written out; a number from before does nothing. The
    /// node is told by one of the next calls of [`Receiver::next`], after 8 deliveries and before
    /// it waits for anything, or by [`Receiver::finish`]. At
    /// [`limits::RECEIVE_WINDOW_BYTES`](crate::limits::RECEIVE_WINDOW_BYTES) that were not
    /// acknowledged, the node waits.
    pub fn acknowledge(&mut self, number: u64) {
        self.marked = self.marked.max(number);
    }

    /// Ends the receive: what was acknowledged is freed, the rest comes again to the next receive.
    ///
    /// # Errors
    /// [`RequestError`] when the connection is lost, when another client has taken the session over
    /// ([`SessionTaken`](crate::ErrorCode::SessionTaken)), or when the node's disk does not take
    /// what was acknowledged ([`Storage`](crate::ErrorCode::Storage)); then some of the
    /// acknowledged records may come again.
    ///
    /// # Cancel safety
    /// As for an error.
    pub async fn finish(mut self) -> Result<(), RequestError> {
        self.conclude().await
    }

    async fn conclude(&mut self) -> Result<(), RequestError> {
        let concluded = match &self.again {
            Some(again) if again.is_broken() => Err(RequestError::Lost),
            _ => self.conclude_here().await,
        };
        (self.end, self.ending) = (None, None);
        let at = (self.marked, self.over);
        let concluded = match self.again.as_mut() {
            Some(again) => match again.is_to_settle(&concluded, at) {
                true => match Box::pin(again.settle()).await {
                    // A receive that came to its end has its answer.
                    Ok(Taken::Some) if !self.over => Err(RequestError::Lost),
                    settled => settled.map(|_| ()),
                },
                false => concluded,
            },
            None => concluded,
        };
        self.again = None;
        concluded
    }

    async fn conclude_here(&mut self) -> Result<(), RequestError> {
        self.confirm().await?;
        if let Some(ClientEnd { sender, receiver }) = self.end.take() {
            self.ending = Some(Ending::new(receiver));
            sender.finish().await?;
        }
        match &mut self.ending {
            Some(ending) => ending.outcome().await,
            None => Ok(()),
        }
    }

    /// Tells the node what was acknowledged, or takes the next message if that is sooner: a node
    /// that waits until we read may not be reading either.
    async fn confirm_or_receive(&mut self) -> Result<Option<ToClient>, RequestError> {
        if self.marked <= self.confirmed {
            return Ok(None);
        }
        let Some(end) = &mut self.end else { return Ok(None) };
        if let ClientSender::Local(channel) = &mut end.sender {
            tokio::select! {
                biased;
                place = channel.reserve() => {
                    let place = place.map_err(|_| RequestError::Lost)?;
                    place.send(ToServer::Acknowledged(self.marked));
                    self.confirmed = self.marked;
                    return Ok(None);
                }
                message = end.receiver.next() => {
                    return message?.ok_or(RequestError::Lost).map(Some);
                }
            }
        }
        self.confirm().await.map(|()| None)
    }

    async fn confirm(&mut self) -> Result<(), RequestError> {
        let before = self.again.as_ref().map_or(0, |again| again.base());
        let Some(end) = &mut self.end else { return Ok(()) };
        if self.confirming {
            // An earlier call was dropped while it wrote: its frame may be cut.
            return Err(RequestError::Lost);
        }
        if self.marked > self.confirmed {
            self.confirming = matches!(end.sender, ClientSender::Away(_));
            let number = self.marked.saturating_sub(before);
            if let Err(error) = end.sender.send(ToServer::Acknowledged(number)).await {
                // The node hears no more: it is gone, or it has said why.
                let refused = refusal(&mut end.receiver).await;
                return Err(refused.map_or_else(|| error.into(), RequestError::from));
            }
            self.confirming = false;
            self.confirmed = self.marked;
        }
        Ok(())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let (end, ending) = (self.end.take(), self.ending.take());
        if end.is_none() && ending.is_none() {
            return;
        }
        // Where there is no runtime the end is dropped with the receiver, and nobody waits.
        if let (Some(departures), Ok(runtime)) = (self.departures.take(), Handle::try_current()) {
            let departure = Departure::new(departures);
            runtime.spawn(async move {
                ending::leave(end, ending).await;
                drop(departure);
            });
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
