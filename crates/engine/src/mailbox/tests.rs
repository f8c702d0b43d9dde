//! Claims one by one, then random histories against a slow, obvious model.

use proptest::prelude::*;
use sortie_model::limits::{CHILD_CREDIT_BYTES, RECORD_OVERHEAD_BYTES};

use super::*;

fn mailbox() -> Mailbox {
    Mailbox::new(u64::MAX, OutputPolicy::Block)
}

fn append(mailbox: &mut Mailbox, records: &[(Stream, u64)]) {
    let mut new = PerStream::default();
    for (stream, bytes) in records {
        let tally: &mut Tally = new.of_mut(*stream);
        *tally = tally.with_record(*bytes);
    }
    mailbox.append(&new);
}

/// Takes up to `records` of each stream, all of them with bodies of `bytes`.
fn offer(mailbox: &mut Mailbox, streams: StreamSet, records: u64, bytes: u64) -> OfferId {
    let mut taken = mailbox.available(streams);
    for stream in Stream::ALL {
        let piece = taken.of_mut(stream);
        let count = piece.tally().records.min(records);
        piece.to = piece.from.plus(Tally { records: count, bytes: count * bytes });
    }
    mailbox.offer(&taken).unwrap()
}

const OUTPUT: StreamSet = StreamSet::EMPTY.with(Stream::Output);

#[test]
fn a_repeated_prefix_is_known_and_a_gap_is_refused() {
    let mut mailbox = mailbox();
    append(&mut mailbox, &[(Stream::Output, 1); 5]);
    assert_eq!(mailbox.known_prefix(Seq(3), 4), Ok(2));
    assert_eq!(mailbox.known_prefix(Seq(0), 4), Ok(4));
    assert_eq!(mailbox.known_prefix(Seq(5), 4), Ok(0));
    let gap = AppendRefused::Gap { expected: Seq(5), first: Seq(6) };
    assert_eq!(mailbox.known_prefix(Seq(6), 1), Err(gap));
}

#[test]
fn nothing_new_is_accepted_after_the_end() {
    let mut mailbox = mailbox();
    append(&mut mailbox, &[(Stream::Output, 1)]);
    mailbox.close();
    assert_eq!(mailbox.known_prefix(Seq(0), 1), Ok(1), "a repetition is no new record");
    assert_eq!(mailbox.known_prefix(Seq(0), 2), Err(AppendRefused::Closed));
}

#[test]
fn what_is_on_offer_is_unread_until_it_is_acknowledged() {
    let mut mailbox = mailbox();
    append(&mut mailbox, &[(Stream::Output, 10), (Stream::Error, 5)]);
    assert_eq!(mailbox.on_offer(StreamSet::ALL), 0);
    let id = offer(&mut mailbox, OUTPUT, 9, 10);
    assert_eq!(mailbox.unread(), Tally { records: 2, bytes: 15 });
    let errors = StreamSet::EMPTY.with(Stream::Error);
    assert_eq!([OUTPUT, errors, StreamSet::ALL].map(|it| mailbox.on_offer(it)), [1, 0, 1]);
    assert!(!mailbox.has_available(OUTPUT) && mailbox.has_available(StreamSet::ALL));
    let freed = mailbox.acknowledge(id).unwrap();
    assert_eq!(freed.len(), 1);
    assert_eq!(mailbox.unread(), Tally { records: 1, bytes: 5 });
    assert_eq!(mailbox.acknowledge(id), None, "once");
}

#[test]
fn a_withdrawn_offer_comes_again_first() {
    let mut mailbox = mailbox();
    append(&mut mailbox, &[(Stream::Output, 1); 10]);
    let first = offer(&mut mailbox, OUTPUT, 3, 1);
    let second = offer(&mut mailbox, OUTPUT, 3, 1);
    assert!(mailbox.withdraw(first) && !mailbox.withdraw(first));
    let again = *mailbox.available(OUTPUT).of(Stream::Output);
    assert_eq!((again.from.records, again.to.records), (0, 3));
    assert!(mailbox.has_available_after_first(Stream::Output));
    assert!(mailbox.withdraw(second));
    let all = *mailbox.available(OUTPUT).of(Stream::Output);
    assert_eq!((all.from.records, all.to.records), (0, 10), "adjoining stretches are one again");
}

#[test]
fn a_later_acknowledgement_frees_a_gap_that_grows_together() {
    let mut mailbox = mailbox();
    append(&mut mailbox, &[(Stream::Output, 1); 9]);
    let [first, second, third] = [0; 3].map(|_| offer(&mut mailbox, OUTPUT, 3, 1));
    let gap = |freed: Vec<Freed>| (freed[0].gap.from.records, freed[0].gap.to.records);
    assert_eq!(gap(mailbox.acknowledge(second).unwrap()), (3, 6));
    assert_eq!(gap(mailbox.acknowledge(first).unwrap()), (0, 6));
    assert_eq!(gap(mailbox.acknowledge(third).unwrap()), (0, 9));
}

#[test]
fn a_reader_that_keeps_skips_what_was_freed() {
    let mut mailbox = mailbox();
    append(&mut mailbox, &[(Stream::Output, 1); 9]);
    let [_first, second, third] = [0; 3].map(|_| offer(&mut mailbox, OUTPUT, 3, 1));
    mailbox.acknowledge(second).unwrap();
    let range = |piece: Piece| (piece.from.records, piece.to.records);
    let at = |mailbox: &Mailbox, records| {
        range(mailbox.unread_from(Stream::Output, Tally { records, bytes: records }))
    };
    assert_eq!(at(&mailbox, 0), (0, 3));
    assert_eq!(at(&mailbox, 2), (2, 3));
    assert_eq!(at(&mailbox, 4), (6, 9));
    assert!(mailbox.withdraw(third));
    append(&mut mailbox, &[(Stream::Output, 1)]);
    assert_eq!(at(&mailbox, 3), (6, 10));
    assert_eq!(at(&mailbox, 10), (10, 10));
}

#[test]
fn the_places_of_offers_are_bounded() {
    let mut mailbox = mailbox();
    append(&mut mailbox, &[(Stream::Output, 0); 64]);
    let offers = [0; OFFERS_PER_MAILBOX].map(|_| offer(&mut mailbox, OUTPUT, 1, 0));
    let taken = mailbox.available(OUTPUT);
    assert_eq!(mailbox.offer(&taken), Err(OfferRefused::NoPlace));
    mailbox.acknowledge(offers[7]).unwrap();
    assert!(mailbox.offer(&taken).is_ok());
}

#[test]
fn the_quota_acts_by_policy() {
    let one = Tally { records: 1, bytes: 1_000 };
    let quota = one.weight();
    let full = |policy| {
        let mut mailbox = Mailbox::new(quota, policy);
        assert_eq!(mailbox.admission(one), Admission::Store);
        append(&mut mailbox, &[(Stream::Output, 1_000)]);
        assert_eq!(mailbox.room(), 0);
        mailbox
    };
    assert_eq!(full(OutputPolicy::Fail).admission(one), Admission::Fail);
    let make_room = Admission::MakeRoom { weight: 1_000 + RECORD_OVERHEAD_BYTES };
    assert_eq!(full(OutputPolicy::DropOldest).admission(one), make_room);
    let block = full(OutputPolicy::Block);
    assert_eq!(block.admission(one), Admission::Store, "it was under way when the quota was met");
    let more = Tally { records: 1, bytes: CHILD_CREDIT_BYTES as u64 };
    assert_eq!(block.admission(more), Admission::Pause);
}

#[test]
fn what_is_dropped_is_counted_and_what_is_on_offer_is_not_dropped() {
    let mut mailbox = Mailbox::new(0, OutputPolicy::DropOldest);
    append(&mut mailbox, &[(Stream::Output, 7); 4]);
    let held = offer(&mut mailbox, OUTPUT, 1, 7);
    let mut drop = mailbox.available(StreamSet::ALL);
    let piece = drop.of_mut(Stream::Output);
    assert_eq!(piece.from.records, 1);
    piece.to = piece.from.plus(Tally { records: 2, bytes: 14 });
    let freed = mailbox.drop_oldest(&drop).unwrap();
    assert_eq!(freed[0].piece, *drop.of(Stream::Output));
    assert_eq!(mailbox.dropped(), Tally { records: 2, bytes: 14 });
    assert_eq!(mailbox.unread().records, 2);
    assert!(mailbox.withdraw(held));
}

#[test]
fn errors_are_remembered_after_they_were_taken() {
    let mut mailbox = mailbox();
    assert!(!mailbox.with_errors());
    append(&mut mailbox, &[(Stream::Error, 1)]);
    let id = offer(&mut mailbox, StreamSet::ALL, 1, 1);
    mailbox.acknowledge(id).unwrap();
    assert!(mailbox.with_errors() && !mailbox.has_unread());
}

#[test]
fn a_continued_mailbox_goes_on_where_the_earlier_one_ended() {
    let mut before = PerStream::default();
    *before.of_mut(Stream::Error) = Tally { records: 3, bytes: 30 };
    let mut mailbox = Mailbox::continued(100, OutputPolicy::Block, &before);
    assert_eq!((mailbox.next(), mailbox.unread(), mailbox.room()), (Seq(3), Tally::ZERO, 100));
    assert!(mailbox.with_errors() && !mailbox.has_available(StreamSet::ALL));
    append(&mut mailbox, &[(Stream::Error, 5)]);
    let all = mailbox.unread_from(Stream::Error, Tally::ZERO);
    assert_eq!((all.from.records, all.to), (3, Tally { records: 4, bytes: 35 }));
}

/// What every record's fate is, record by record.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Unoffered,
    Offered(OfferId),
    Freed,
}

#[derive(Debug, Default)]
struct Model {
    records: Vec<(Stream, u64, Fate)>,
}

impl Model {
    fn of(&self, stream: Stream) -> impl Iterator<Item = &(Stream, u64, Fate)> {
        self.records.iter().filter(move |record| record.0 == stream)
    }

    fn set(&mut self, was: Fate, is: Fate) {
        self.records.iter_mut().filter(|record| record.2 == was).for_each(|record| record.2 = is);
    }

    fn unread(&self) -> Tally {
        let live = self.records.iter().filter(|record| record.2 != Fate::Freed);
        live.fold(Tally::ZERO, |sum, record| sum.with_record(record.1))
    }

    fn tally_before(&self, stream: Stream, index: u64) -> Tally {
        self.of(stream).take(index as usize).fold(Tally::ZERO, |sum, r| sum.with_record(r.1))
    }

    fn first_stretch(&self, stream: Stream, from: u64, wanted: fn(Fate) -> bool) -> Piece {
        let fates: Vec<_> = self.of(stream).map(|record| record.2).collect();
        let start = (from as usize..fates.len()).find(|at| wanted(fates[*at]));
        let start = start.unwrap_or(fates.len());
        let end = (start..fates.len()).find(|at| !wanted(fates[*at])).unwrap_or(fates.len());
        Piece {
            from: self.tally_before(stream, start as u64),
            to: self.tally_before(stream, end as u64),
        }
    }

    fn take(&mut self, stream: Stream, piece: Piece, fate: Fate) {
        let mine = self.records.iter_mut().filter(|record| record.0 == stream);
        let (from, to) = (piece.from.records as usize, piece.to.records as usize);
        for record in mine.skip(from).take(to - from) {
            assert_eq!(record.2, Fate::Unoffered);
            record.2 = fate;
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<(Stream, u64)>),
    Offer(u8, u64),
    Acknowledge(usize),
    Withdraw(usize),
    Drop(u64),
    Keep(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let stream = (0_u8..3).prop_map(|index| Stream::from_index(index).unwrap());
    let step = prop_oneof![
        prop::collection::vec((stream, 0_u64..9), 0..12).prop_map(Step::Append),
        (0_u8..8, 0_u64..6).prop_map(|(streams, count)| Step::Offer(streams, count)),
        (0_usize..20).prop_map(Step::Acknowledge),
        (0_usize..20).prop_map(Step::Withdraw),
        (0_u64..4).prop_map(Step::Drop),
        (0_u64..40).prop_map(Step::Keep),
    ];
    prop::collection::vec(step, 0..120)
}

fn prefix_of(mailbox: &Mailbox, model: &Model, streams: StreamSet, count: u64) -> PerStream<Piece> {
    let mut taken = mailbox.available(streams);
    for stream in Stream::ALL {
        let piece = taken.of_mut(stream);
        let to = (piece.from.records + count).min(piece.to.records);
        piece.to = model.tally_before(stream, to);
    }
    taken
}

fn check_freed(model: &Model, freed: &[Freed]) {
    for freed in freed {
        let (from, to) = (freed.gap.from.records as usize, freed.gap.to.records as usize);
        let fates: Vec<_> = model.of(freed.stream).map(|record| record.2).collect();
        assert!(fates[from..to].iter().all(|fate| *fate == Fate::Freed));
        assert!(from == 0 || fates[from - 1] != Fate::Freed, "the gap is as wide as it can be");
        assert!(to == fates.len() || fates[to] != Fate::Freed);
    }
}

fn perform(mailbox: &mut Mailbox, model: &mut Model, offers: &mut Vec<OfferId>, step: &Step) {
    match step {
        Step::Append(records) => {
            append(mailbox, records);
            model.records.extend(records.iter().map(|(s, b)| (*s, *b, Fate::Unoffered)));
        }
        Step::Offer(bits, count) => {
            let streams = Stream::ALL.into_iter().filter(|s| bits >> s.index() & 1 == 1);
            let streams = streams.fold(StreamSet::EMPTY, StreamSet::with);
            let taken = prefix_of(mailbox, model, streams, *count);
            let made = mailbox.offer(&taken);
            assert_eq!(made.is_ok(), offers.len() < OFFERS_PER_MAILBOX);
            let Ok(id) = made else { return };
            taken.iter().for_each(|(stream, piece)| model.take(stream, *piece, Fate::Offered(id)));
            offers.push(id);
        }
        Step::Acknowledge(which) if *which < offers.len() => {
            let id = offers.remove(*which);
            model.set(Fate::Offered(id), Fate::Freed);
            check_freed(model, &mailbox.acknowledge(id).unwrap());
        }
        Step::Withdraw(which) if *which < offers.len() => {
            let id = offers.remove(*which);
            model.set(Fate::Offered(id), Fate::Unoffered);
            assert!(mailbox.withdraw(id));
        }
        Step::Drop(count) => {
            let taken = prefix_of(mailbox, model, StreamSet::ALL, *count);
            taken.iter().for_each(|(stream, piece)| model.take(stream, *piece, Fate::Freed));
            check_freed(model, &mailbox.drop_oldest(&taken).unwrap());
        }
        Step::Keep(from) => {
            for stream in Stream::ALL {
                let place = model.tally_before(stream, *from);
                let expected = model.first_stretch(stream, *from, |fate| fate != Fate::Freed);
                assert_eq!(mailbox.unread_from(stream, place), expected);
                let before = mailbox.unread_before(stream, place);
                let last = model.of(stream).take(*from as usize).collect::<Vec<_>>();
                let last = last.iter().rposition(|record| record.2 != Fate::Freed);
                assert_eq!(before.is_empty(), last.is_none());
                assert_eq!(before.to.records, last.map_or(0, |last| last as u64 + 1));
            }
        }
        Step::Acknowledge(_) | Step::Withdraw(_) => {}
    }
}

proptest! {
    #[test]
    fn any_history_agrees_with_the_model(steps in steps()) {
        let (mut mailbox, mut model, mut offers) = (mailbox(), Model::default(), Vec::new());
        for step in &steps {
            perform(&mut mailbox, &mut model, &mut offers, step);
            prop_assert_eq!(mailbox.unread(), model.unread());
            prop_assert_eq!(mailbox.next(), Seq(model.records.len() as u64));
            for (stream, piece) in mailbox.available(StreamSet::ALL).iter() {
                let expected = model.first_stretch(stream, 0, |fate| fate == Fate::Unoffered);
                prop_assert_eq!(*piece, expected);
                let more = model.first_stretch(stream, piece.to.records, |f| f == Fate::Unoffered);
                prop_assert_eq!(mailbox.has_available_after_first(stream), !more.is_empty());
            }
        }
    }
}

#[test]
fn while_its_child_is_stopped_a_mailbox_takes_a_little_more_and_then_nothing() {
    use sortie_model::limits::STOP_OUTPUT_BYTES;
    const QUOTA: u64 = 1_000_000;
    let mut mailbox = Mailbox::new(QUOTA, OutputPolicy::Block);
    let weighs = |weight: u64| Tally { records: 0, bytes: weight };
    let mut all = PerStream::<Tally>::default();
    *all.of_mut(Stream::Output) = weighs(QUOTA);
    mailbox.append(&all);
    let more = weighs(CHILD_CREDIT_BYTES as u64 + 1);
    assert_eq!((mailbox.admission(more), mailbox.blocks()), (Admission::Pause, true));
    mailbox.set_ending(true);
    assert_eq!((mailbox.admission(more), mailbox.blocks()), (Admission::Store, false));
    let too_much = Tally { records: 1, bytes: STOP_OUTPUT_BYTES as u64 };
    assert_eq!(mailbox.admission(too_much), Admission::Skip);
    mailbox.set_made(true);
    assert_eq!(mailbox.admission(too_much), Admission::Store, "its process had ended before");
    mailbox.set_made(false);
    let next = mailbox.next();
    mailbox.skip(too_much);
    assert_eq!((mailbox.dropped(), mailbox.next()), (too_much, next.after(1)));
    mailbox.set_ending(false);
    assert_eq!(mailbox.admission(more), Admission::Pause, "its next life begins");
}
