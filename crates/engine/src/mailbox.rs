//! What one mailbox has, what is offered to whom, and what is free (`docs/semantics.md`,
//! sections 1.3 and 3.3).
//!
//! Headers only: the ledger knows how many records and bytes each stream got and up to where each
//! stream was offered and acknowledged. It never sees a record, so its size depends on the offers
//! in flight, not on what is unread.

mod admission;
mod ledger;
mod taken;
mod tally;
#[cfg(test)]
mod tests;

use sortie_model::limits::OFFERS_PER_MAILBOX;
use sortie_model::record::StreamSet;
use sortie_model::{Seq, Stream};

use ledger::StreamLedger;

use crate::broken::{Rule, is_broken};
pub use admission::Admission;
pub use sortie_model::record::OutputPolicy;
pub use taken::TakenCursor;
pub use tally::{PerStream, Piece, Tally};

/// Why records are refused; nothing of the batch was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendRefused {
    /// Records before this batch are missing.
    #[error("record {} is missing before record {}", expected.0, first.0)]
    Gap {
        /// The number that has to come next.
        expected: Seq,
        /// The number that came.
        first: Seq,
    },
    /// The child has ended.
    #[error("the mailbox is closed: its child has ended")]
    Closed,
}

/// How many of `count` records from `first` on a mailbox has already that expects `next`.
///
/// # Errors
/// As for [`Mailbox::known_prefix`].
pub const fn known_prefix(
    next: Seq,
    closed: bool,
    first: Seq,
    count: u64,
) -> Result<u64, AppendRefused> {
    if first.0 > next.0 {
        return Err(AppendRefused::Gap { expected: next, first });
    }
    let known = next.0 - first.0;
    if known >= count {
        return Ok(count);
    }
    if closed { Err(AppendRefused::Closed) } else { Ok(known) }
}

/// An offer's number in its mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OfferId(pub u64);

/// Why an offer cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OfferRefused {
    /// All [`OFFERS_PER_MAILBOX`] places are taken.
    #[error("{OFFERS_PER_MAILBOX} offers of this mailbox wait for their acknowledgement")]
    NoPlace,
    /// More than what may be offered now.
    #[error("the offer is no prefix of what may be offered")]
    NotAPrefix,
}

/// A stretch of a stream that nobody needs any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freed {
    /// The stream.
    pub stream: Stream,
    /// What became free.
    pub piece: Piece,
    /// The same with the free stretches that adjoin it.
    pub gap: Piece,
}

#[derive(Debug, Clone)]
struct InFlight {
    id: OfferId,
    pieces: PerStream<Piece>,
}

/// The ledger of one mailbox.
#[derive(Debug, Clone)]
pub struct Mailbox {
    next: Seq,
    closed: bool,
    cut: bool,
    ending: bool,
    made: bool,
    quota: u64,
    policy: OutputPolicy,
    streams: PerStream<StreamLedger>,
    unread: Tally,
    dropped: Tally,
    in_flight: Vec<InFlight>,
    next_offer: u64,
    /// Records of the error stream were passed over.
    had_errors: bool,
}

impl Mailbox {
    /// An empty, open mailbox. `quota` counts [`Tally::weight`].
    pub fn new(quota: u64, policy: OutputPolicy) -> Self {
        Self {
            next: Seq(0),
            closed: false,
            cut: false,
            ending: false,
            made: false,
            quota,
            policy,
            streams: PerStream::default(),
            unread: Tally::ZERO,
            dropped: Tally::ZERO,
            in_flight: Vec::new(),
            next_offer: 0,
            had_errors: false,
        }
    }

    /// An empty, open mailbox whose earlier records are all free: `before` counts them.
    pub fn continued(quota: u64, policy: OutputPolicy, before: &PerStream<Tally>) -> Self {
        let mut mailbox = Self::new(quota, policy);
        for (stream, place) in before.iter() {
            *mailbox.streams.of_mut(stream) = StreamLedger::starting_at(*place);
            mailbox.next = mailbox.next.after(place.records);
        }
        mailbox
    }

    /// The number that the next record must have.
    pub const fn next(&self) -> Seq {
        self.next
    }

    /// How many records at the front of a batch are here already.
    ///
    /// # Errors
    /// [`AppendRefused::Gap`] when records before the batch are missing, [`AppendRefused::Closed`]
    /// when the batch has new records and the mailbox is closed.
    pub const fn known_prefix(&self, first: Seq, count: u64) -> Result<u64, AppendRefused> {
        known_prefix(self.next, self.closed, first, count)
    }

    /// Records new records, whose known prefix was cut off before.
    pub fn append(&mut self, new: &PerStream<Tally>) {
        let mut sum = Tally::ZERO;
        for (stream, tally) in new.iter() {
            self.streams.of_mut(stream).append(*tally);
            sum = sum.plus(*tally);
        }
        self.next = self.next.after(sum.records);
        self.unread = self.unread.plus(sum);
    }

    /// The child has ended: no record is accepted after. Closing twice is the same as once.
    pub const fn close(&mut self) {
        self.closed = true;
    }

    /// Whether the child has ended.
    pub const fn is_closed(&self) -> bool {
        self.closed
    }

    /// Records that were neither acknowledged nor dropped, those on offer included.
    pub const fn unread(&self) -> Tally {
        self.unread
    }

    /// Whether any record was neither acknowledged nor dropped.
    pub const fn has_unread(&self) -> bool {
        self.unread.records > 0
    }

    /// What the policy dropped so far.
    pub const fn dropped(&self) -> Tally {
        self.dropped
    }

    /// Whether the error stream ever got a record.
    pub const fn with_errors(&self) -> bool {
        self.had_errors || self.streams.of(Stream::Error).end().records > 0
    }

    /// What may still come before the quota, in units of [`Tally::weight`].
    pub const fn room(&self) -> u64 {
        self.quota.saturating_sub(self.unread.weight())
    }

    /// Whether one more offer may be made.
    pub const fn has_place(&self) -> bool {
        self.in_flight.len() < OFFERS_PER_MAILBOX
    }

    /// How many records of these streams are on offer.
    pub fn on_offer(&self, streams: StreamSet) -> u64 {
        let pieces = self.in_flight.iter().flat_map(|offer| offer.pieces.iter());
        let of_these = pieces.filter(|(stream, _)| streams.contains(*stream));
        of_these.map(|(_, piece)| piece.tally().records).sum()
    }

    /// Whether any of these streams has records that are not on offer.
    pub fn has_available(&self, streams: StreamSet) -> bool {
        streams.iter().any(|stream| !self.streams.of(stream).first_available().is_empty())
    }

    /// What an offer of these streams may take a prefix of: for each its first stretch that is not
    /// on offer. Withdrawn stretches come before what was never offered.
    pub fn available(&self, streams: StreamSet) -> PerStream<Piece> {
        let mut pieces = PerStream::default();
        for stream in streams.iter() {
            *pieces.of_mut(stream) = self.streams.of(stream).first_available();
        }
        pieces
    }

    /// Whether a stream has records after its first available stretch that are not on offer.
    pub fn has_available_after_first(&self, stream: Stream) -> bool {
        self.streams.of(stream).has_second_available()
    }

    /// Puts a prefix of what is [`available`](Self::available) on offer: of each stream up to
    /// `to`; what is equal to the stretch's start takes nothing.
    ///
    /// # Errors
    /// [`OfferRefused`]; nothing has changed then.
    pub fn offer(&mut self, taken: &PerStream<Piece>) -> Result<OfferId, OfferRefused> {
        if !self.has_place() {
            return Err(OfferRefused::NoPlace);
        }
        self.offer_beyond_places(taken)
    }

    fn offer_beyond_places(&mut self, taken: &PerStream<Piece>) -> Result<OfferId, OfferRefused> {
        let fits = |(stream, piece): (Stream, &Piece)| {
            piece.is_empty() || self.streams.of(stream).first_available().has_prefix(*piece)
        };
        if !taken.iter().all(fits) {
            return Err(OfferRefused::NotAPrefix);
        }
        for (stream, piece) in taken.iter().filter(|(_, piece)| !piece.is_empty()) {
            self.streams.of_mut(stream).take(*piece);
        }
        let id = OfferId(self.next_offer);
        self.next_offer += 1;
        self.in_flight.push(InFlight { id, pieces: *taken });
        Ok(id)
    }

    /// The reader has the records: they are free. None when the offer is not in flight.
    pub fn acknowledge(&mut self, id: OfferId) -> Option<Vec<Freed>> {
        if is_broken(Rule::P4) {
            return self.withdraw(id).then(Vec::new);
        }
        let offer = self.remove(id)?;
        let sum = offer.pieces.iter().fold(Tally::ZERO, |sum, (_, piece)| sum.plus(piece.tally()));
        self.unread = self.unread.minus(sum);
        let pieces = offer.pieces.iter().filter(|(_, piece)| !piece.is_empty());
        Some(
            pieces
                .map(|(stream, piece)| Freed {
                    stream,
                    piece: *piece,
                    gap: self.gap_around(stream, *piece),
                })
                .collect(),
        )
    }

    /// The reader died: its records are offered again first, under the same numbers. Returns
    /// whether the offer was in flight.
    pub fn withdraw(&mut self, id: OfferId) -> bool {
        let Some(offer) = self.remove(id) else { return false };
        if is_broken(Rule::P6) {
            return true;
        }
        for (stream, piece) in offer.pieces.iter().filter(|(_, piece)| !piece.is_empty()) {
            self.streams.of_mut(stream).give_back(*piece);
        }
        true
    }

    /// Drops a prefix of what is available, as [`Admission::MakeRoom`] asks for, and counts it.
    ///
    /// # Errors
    /// [`OfferRefused::NotAPrefix`]; nothing has changed then.
    pub fn drop_oldest(&mut self, dropped: &PerStream<Piece>) -> Result<Vec<Freed>, OfferRefused> {
        let id = self.offer_beyond_places(dropped)?;
        let sum = dropped.iter().fold(Tally::ZERO, |sum, (_, piece)| sum.plus(piece.tally()));
        self.dropped = self.dropped.plus(sum);
        Ok(self.acknowledge(id).unwrap_or_default())
    }

    /// The first stretch of a stream at or after `place` that is unread, on offer or not. Empty,
    /// and at the stream's end, when there is none.
    pub fn unread_from(&self, stream: Stream, place: Tally) -> Piece {
        let ledger = self.streams.of(stream);
        let mut found = Piece { from: ledger.end(), to: ledger.end() };
        let mut from = place;
        // Adjoining stretches read as one; each step either ends or consumes one of them.
        while let Some(next) = self.live(stream).filter(|piece| piece.reaches_beyond(from)).min() {
            if found.is_empty() {
                found = Piece { from: next.from.max(from), to: next.to };
            } else if next.from == found.to {
                found.to = next.to;
            } else {
                break;
            }
            from = found.to;
        }
        found
    }

    /// The last stretch of a stream before `place` that is unread, on offer or not. Empty when
    /// there is none. Stretches that adjoin it may come as another one.
    pub fn unread_before(&self, stream: Stream, place: Tally) -> Piece {
        let before = self.live(stream).filter(|piece| piece.from.records < place.records);
        let Some(last) = before.max() else { return Piece::default() };
        Piece { from: last.from, to: last.to.min(place) }
    }

    /// How much a stream ever got.
    pub const fn end(&self, stream: Stream) -> Tally {
        self.streams.of(stream).end()
    }

    fn live(&self, stream: Stream) -> impl Iterator<Item = Piece> {
        let offered = self.in_flight.iter().map(move |offer| *offer.pieces.of(stream));
        offered.chain(self.streams.of(stream).all_available()).filter(|piece| !piece.is_empty())
    }

    fn gap_around(&self, stream: Stream, piece: Piece) -> Piece {
        let mut gap = Piece { from: Tally::ZERO, to: self.end(stream) };
        for live in self.live(stream) {
            if live.to.records <= piece.from.records {
                gap.from = gap.from.max(live.to);
            } else {
                gap.to = gap.to.min(live.from);
            }
        }
        gap
    }

    fn remove(&mut self, id: OfferId) -> Option<InFlight> {
        let place = self.in_flight.iter().position(|offer| offer.id == id)?;
        Some(self.in_flight.swap_remove(place))
    }
}
