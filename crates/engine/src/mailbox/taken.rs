//! How far the readers of a mailbox that outlives its node have taken each of its streams.

use std::ops::Range;

use sortie_model::{Seq, Stream};

use super::{Mailbox, PerStream, Tally};

/// For each stream the number after the last record of those that were all taken, from the first
/// on: what an acknowledgement adds, or a drop. What is acknowledged before what comes before it,
/// since another reader has that in hand, is known apart; it has a place for each stretch that is
/// on offer or was withdrawn, so there are about as many as
/// [`OFFERS_PER_MAILBOX`](sortie_model::limits::OFFERS_PER_MAILBOX).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TakenCursor {
    streams: PerStream<Option<Box<StreamTaken>>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct StreamTaken {
    /// All records before this place were taken ...
    place: u64,
    /// ... and this is the number after the last of them.
    seq: Seq,
    /// Stretches behind it that were taken, ascending and apart, each with the number of its first
    /// record and the one after its last.
    later: Vec<(Range<u64>, Range<Seq>)>,
}

impl TakenCursor {
    /// A mailbox that begins after what was taken before: its places count what came since.
    pub fn starting_after(taken: &PerStream<Seq>) -> Self {
        let mut cursor = Self::default();
        for (stream, seq) in taken.iter().filter(|(_, seq)| seq.0 > 0) {
            let stream_taken = StreamTaken { seq: *seq, ..StreamTaken::default() };
            *cursor.streams.of_mut(stream) = Some(Box::new(stream_taken));
        }
        cursor
    }

    /// The records of a stream at these places were taken, from the number of the first of them to
    /// the one after the last. Says whether that is new.
    pub fn take(&mut self, stream: Stream, places: Range<u64>, numbers: Range<Seq>) -> bool {
        self.streams.of_mut(stream).get_or_insert_default().take(places, numbers)
    }

    /// All records of a stream below that number were taken.
    pub fn raise(&mut self, stream: Stream, end: Seq) {
        let mine = self.streams.of_mut(stream).get_or_insert_default();
        mine.seq = mine.seq.max(end);
    }

    /// How far each stream was taken; 0 where nothing was.
    pub fn taken(&self) -> PerStream<Seq> {
        let mut taken = PerStream::default();
        for (stream, mine) in self.streams.iter() {
            *taken.of_mut(stream) = mine.as_deref().map_or(Seq(0), |mine| mine.seq);
        }
        taken
    }

    /// What was taken before what comes before it was, as numbers of records.
    pub fn apart(&self) -> impl Iterator<Item = (Stream, Range<Seq>)> {
        let known =
            self.streams.iter().filter_map(|(stream, mine)| Some((stream, mine.as_deref()?)));
        known.flat_map(|(stream, mine)| {
            mine.later.iter().map(move |(_, numbers)| (stream, numbers.clone()))
        })
    }
}

impl StreamTaken {
    fn take(&mut self, places: Range<u64>, numbers: Range<Seq>) -> bool {
        if places.is_empty() || places.end <= self.place {
            return false;
        }
        let at = self.later.partition_point(|(other, _)| other.start < places.start);
        self.later.insert(at, (places, numbers));
        self.later.dedup_by(|later, earlier| {
            let adjoins = later.0.start <= earlier.0.end;
            if adjoins && later.0.end > earlier.0.end {
                (earlier.0.end, earlier.1.end) = (later.0.end, later.1.end);
            }
            adjoins
        });
        if let Some((first, numbers)) = self.later.first()
            && first.start <= self.place
        {
            (self.place, self.seq) = (first.end, self.seq.max(numbers.end));
            self.later.remove(0);
        }
        true
    }
}

impl Mailbox {
    /// The next record has this number, unless a higher one is next: the records between were
    /// taken before this mailbox was made.
    pub fn skip_to(&mut self, next: Seq) {
        self.next = self.next.max(next);
    }

    /// So much was dropped before this mailbox was made.
    pub const fn note_dropped(&mut self, before: Tally) {
        self.dropped = self.dropped.plus(before);
    }

    /// It was cut before this mailbox was made: the child fails, and nothing more is stored.
    pub const fn note_cut(&mut self) {
        self.cut = true;
    }

    /// The error stream had records before this mailbox was made.
    pub const fn note_errors(&mut self) {
        self.had_errors = true;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sortie_model::limits::OFFERS_PER_MAILBOX;
    use sortie_model::record::StreamSet;

    use super::*;
    use crate::mailbox::{OfferId, OutputPolicy, Piece, Tally};

    /// Numbers of records up to that one; where they begin is not looked at.
    fn upto(end: u64) -> Range<Seq> {
        Seq(end - 1)..Seq(end)
    }

    fn check(takes: &[(Range<u64>, u64)], moved: &[u64]) {
        let mut cursor = TakenCursor::default();
        for ((places, end), expected) in takes.iter().zip(moved) {
            cursor.take(Stream::Output, places.clone(), upto(*end));
            assert_eq!(cursor.taken().of(Stream::Output).0, *expected, "{takes:?} at {places:?}");
        }
    }

    #[test]
    fn what_comes_out_of_order_waits_until_the_gap_closes() {
        check(&[(0..2, 5), (2..3, 9)], &[5, 9]);
        check(&[(2..3, 9), (0..2, 5)], &[0, 9]);
        check(&[(4..6, 20), (2..3, 9), (0..2, 5), (3..4, 12)], &[0, 0, 9, 20]);
        check(&[(0..2, 5), (0..2, 5), (1..3, 7)], &[5, 5, 7]);
    }

    #[test]
    fn streams_are_apart_and_a_start_counts() {
        let mut taken = PerStream::default();
        *taken.of_mut(Stream::Error) = Seq(40);
        let mut cursor = TakenCursor::starting_after(&taken);
        assert_eq!(cursor.taken(), taken);
        assert!(cursor.take(Stream::Output, 0..1, upto(3)));
        assert!(cursor.take(Stream::Error, 1..2, upto(44)));
        assert_eq!(cursor.apart().collect::<Vec<_>>(), [(Stream::Error, upto(44))]);
        assert!(cursor.take(Stream::Error, 0..1, upto(42)));
        assert!(!cursor.take(Stream::Error, 0..1, upto(42)));
        assert_eq!((*cursor.taken().of(Stream::Error), cursor.apart().count()), (Seq(44), 0));
        cursor.raise(Stream::Error, Seq(50));
        cursor.raise(Stream::Error, Seq(45));
        assert_eq!(*cursor.taken().of(Stream::Error), Seq(50));
        assert_eq!(*cursor.taken().of(Stream::Output), Seq(3));
    }

    /// A record of the model: its stream, and whether it was taken.
    type Model = Vec<(Stream, bool)>;

    fn numbers_of(model: &Model, stream: Stream, piece: &Piece) -> Vec<usize> {
        let (from, to) = (piece.from.records as usize, piece.to.records as usize);
        let numbers = model.iter().enumerate().filter(|(_, (other, _))| *other == stream);
        numbers.map(|(number, _)| number).skip(from).take(to - from).collect()
    }

    fn expected(model: &Model, stream: Stream) -> u64 {
        let own = model.iter().enumerate().filter(|(_, (other, _))| *other == stream);
        let taken = own.take_while(|(_, (_, taken))| *taken);
        taken.last().map_or(0, |(number, _)| number as u64 + 1)
    }

    fn take(cursor: &mut TakenCursor, model: &mut Model, pieces: &PerStream<Piece>) {
        for (stream, piece) in pieces.iter().filter(|(_, piece)| !piece.is_empty()) {
            let numbers = numbers_of(model, stream, piece);
            let (first, last) = (numbers.first().expect("one"), numbers.last().expect("one"));
            let range = Seq(*first as u64)..Seq(*last as u64 + 1);
            cursor.take(stream, piece.from.records..piece.to.records, range);
            numbers.into_iter().for_each(|number| model[number].1 = true);
        }
    }

    /// At most so many records from the front of what is available, of each stream.
    fn prefix(mailbox: &Mailbox, most: u64) -> PerStream<Piece> {
        let mut pieces = mailbox.available(StreamSet::ALL);
        for (_, piece) in pieces.iter_mut() {
            let records = piece.tally().records.min(most);
            let bytes = piece.from.bytes + 3 * records;
            piece.to = Tally { records: piece.from.records + records, bytes };
        }
        pieces
    }

    proptest! {
        #[test]
        fn any_history_of_offers_agrees_with_a_list_of_records(
            acts in prop::collection::vec((0_u8..6, 0_u64..7), 1..120),
        ) {
            let mut mailbox = Mailbox::new(u64::MAX, OutputPolicy::DropOldest);
            let (mut cursor, mut model) = (TakenCursor::default(), Model::new());
            let mut offers: Vec<(OfferId, PerStream<Piece>)> = Vec::new();
            for (act, amount) in acts {
                match act {
                    0 | 1 => {
                        let mut new = PerStream::<Tally>::default();
                        for number in 0..amount {
                            let stream = Stream::from_index((number % 3) as u8).expect("one");
                            *new.of_mut(stream) = new.of(stream).with_record(3);
                            model.push((stream, false));
                        }
                        mailbox.append(&new);
                    }
                    2 | 3 => {
                        let pieces = prefix(&mailbox, amount);
                        if let Ok(id) = mailbox.offer(&pieces) {
                            offers.push((id, pieces));
                        }
                    }
                    4 if !offers.is_empty() => {
                        let (id, pieces) = offers.remove(amount as usize % offers.len());
                        if amount % 3 == 0 {
                            mailbox.withdraw(id);
                        } else {
                            mailbox.acknowledge(id).expect("it is in flight");
                            take(&mut cursor, &mut model, &pieces);
                        }
                    }
                    _ => {
                        let pieces = prefix(&mailbox, amount.min(2));
                        mailbox.drop_oldest(&pieces).expect("a prefix");
                        take(&mut cursor, &mut model, &pieces);
                    }
                }
                for stream in Stream::ALL {
                    prop_assert_eq!(cursor.taken().of(stream).0, expected(&model, stream));
                }
                // Both together say of each record whether it was taken.
                for (number, (stream, taken)) in model.iter().enumerate() {
                    let number = Seq(number as u64);
                    let apart = cursor
                        .apart()
                        .any(|(of, range)| of == *stream && range.contains(&number));
                    let said = apart || number < *cursor.taken().of(*stream);
                    prop_assert_eq!(said, *taken);
                }
                prop_assert!(cursor.apart().count() <= 3 * 2 * OFFERS_PER_MAILBOX);
            }
        }
    }

    #[test]
    fn a_mailbox_that_goes_on_after_others_were_taken_numbers_on() {
        let mut mailbox = Mailbox::new(1_000, OutputPolicy::Block);
        mailbox.skip_to(Seq(7));
        mailbox.note_errors();
        mailbox.skip_to(Seq(3));
        assert_eq!(mailbox.next(), Seq(7));
        assert!(mailbox.with_errors() && !mailbox.has_unread());
        let mut new = PerStream::<Tally>::default();
        *new.of_mut(Stream::Output) = Tally { records: 2, bytes: 9 };
        mailbox.append(&new);
        assert_eq!((mailbox.next(), mailbox.end(Stream::Output).records), (Seq(9), 2));
    }
}
