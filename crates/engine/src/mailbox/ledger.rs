//! One stream of a mailbox: up to where it was offered, and what came back.

use super::{Piece, Tally};

/// A stream's cursor. What is neither here nor on offer was acknowledged or dropped.
///
/// Its size is bounded: a withdrawn stretch splits only while everything before it is on offer, so
/// there are at most about as many stretches as offers may be in flight.
#[derive(Debug, Clone, Default)]
pub(super) struct StreamLedger {
    end: Tally,
    /// From here on nothing was ever offered, or all of it came back.
    fresh: Tally,
    /// Withdrawn stretches before `fresh`, ascending, never adjoining each other or `fresh`.
    returned: Vec<Piece>,
}

impl StreamLedger {
    pub(super) const fn starting_at(place: Tally) -> Self {
        Self { end: place, fresh: place, returned: Vec::new() }
    }

    pub(super) const fn end(&self) -> Tally {
        self.end
    }

    pub(super) const fn append(&mut self, new: Tally) {
        self.end = self.end.plus(new);
    }

    const fn fresh_piece(&self) -> Piece {
        Piece { from: self.fresh, to: self.end }
    }

    pub(super) fn first_available(&self) -> Piece {
        self.returned.first().copied().unwrap_or_else(|| self.fresh_piece())
    }

    pub(super) fn has_second_available(&self) -> bool {
        self.all_available().filter(|piece| !piece.is_empty()).nth(1).is_some()
    }

    pub(super) fn all_available(&self) -> impl Iterator<Item = Piece> {
        self.returned.iter().copied().chain([self.fresh_piece()])
    }

    /// `piece` is a prefix of the first available stretch.
    pub(super) fn take(&mut self, piece: Piece) {
        match self.returned.first_mut() {
            None => self.fresh = piece.to,
            Some(first) if first.to == piece.to => {
                self.returned.remove(0);
            }
            Some(first) => first.from = piece.to,
        }
    }

    pub(super) fn give_back(&mut self, piece: Piece) {
        let place = self.returned.partition_point(|other| other.from < piece.from);
        self.returned.insert(place, piece);
        self.returned.dedup_by(|later, earlier| {
            let adjoins = earlier.to == later.from;
            if adjoins {
                earlier.to = later.to;
            }
            adjoins
        });
        if let Some(last) = self.returned.pop_if(|last| last.to == self.fresh) {
            self.fresh = last.from;
        }
    }
}
