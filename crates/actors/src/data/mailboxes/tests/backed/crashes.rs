//! Random histories over several lives of a daemon, against a list of records: nothing that was
//! stored or that its child still has is lost, and nothing comes again that the journal knows was
//! taken.

use super::super::history::Random;
use super::*;

const SEEDS: u64 = 12;
const LIVES: u64 = 4;
const CHILDREN: u32 = 4;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Unread,
    Acknowledged,
}

#[derive(Default)]
struct Model {
    records: Vec<(Record, Fate)>,
    /// The child, and all it wrote that was not stored, is in the daemon's hands alone.
    ended: bool,
}

struct History {
    random: Random,
    models: Vec<Model>,
    offers: Vec<Offer>,
    committed: Vec<Cursor>,
}

impl History {
    fn child(&mut self) -> Ordinal {
        Ordinal(self.random.below(u64::from(CHILDREN)) as u32)
    }

    fn model(&mut self, child: Ordinal) -> &mut Model {
        &mut self.models[child.0 as usize]
    }

    fn new_records(&mut self, child: Ordinal) -> Vec<Record> {
        let first = self.model(child).records.len() as u64;
        let large = self.random.below(3) == 0 && child.0 > 0;
        let mut records = Vec::new();
        for seq in first..first + self.random.below(4) {
            let stream = [Stream::Output, Stream::Error][self.random.below(2) as usize];
            let most = if large { 12_000 } else { 200 };
            let body = Body::Bytes(pattern(seq, self.random.below(most) as usize).into());
            records.push(Record { seq: Seq(seq), stream, time: Timestamp(seq as i64), body });
        }
        records
    }

    fn act(&mut self, life: &Life) {
        let child = self.child();
        match self.random.below(12) {
            0..4 if !self.model(child).ended => {
                let records = self.new_records(child);
                life.add(child, records.clone());
                let new = records.into_iter().map(|record| (record, Fate::Unread));
                self.model(child).records.extend(new);
            }
            4..6 => {
                let streams = self.random.streams();
                let records = 1 + self.random.below(5) as usize;
                let most = Most { records, ..Most::default() };
                let held = self.offers.iter().filter(|offer| offer.ordinal() == child).count();
                if held < sortie_model::limits::OFFERS_PER_MAILBOX {
                    let job = life.job();
                    let offer = life.run(async { job.offer(child, streams, most).await }).unwrap();
                    self.offers.extend(offer);
                }
            }
            6..9 if !self.offers.is_empty() => {
                let place = self.random.below(self.offers.len() as u64) as usize;
                let offer = self.offers.swap_remove(place);
                if self.random.below(4) > 0 {
                    let model = &mut self.models[offer.ordinal().0 as usize];
                    for record in &offer.records {
                        let (stored, fate) = &mut model.records[record.seq.0 as usize];
                        assert_eq!((&*stored, *fate), (record, Fate::Unread), "once, as it was");
                        *fate = Fate::Acknowledged;
                    }
                    life.job().acknowledge(offer);
                }
            }
            9 => {
                for (child, cursor) in life.commit_cursors() {
                    self.committed[child.0 as usize].merge(&cursor);
                }
            }
            10 if !self.model(child).ended && self.random.below(3) == 0 => {
                life.end(child);
                self.model(child).ended = true;
            }
            _ => {}
        }
    }

    /// A new life has what was stored, gets the rest from children that run, and has nothing that
    /// the journal says was taken.
    fn begin(&mut self, life: &Life, told: &[Seq]) {
        for number in 0..CHILDREN {
            let (child, place) = (Ordinal(number), number as usize);
            let ended = self.models[place].ended;
            life.restore(child, ended).unwrap();
            let next = life.job().summary(child).next;
            assert!(next >= told[place], "what was said to be stored is here");
            let job = life.job();
            if !ended {
                for (record, _) in &self.models[place].records[told[place].0 as usize..] {
                    let again = record.clone();
                    life.run(async { job.append_again(child, again).await }).unwrap();
                }
            }
            let end = Seq(self.models[place].records.len() as u64);
            let next = job.summary(child).next;
            assert!(next == end || (ended && next < end), "numbers go on where they were");
            self.check(child, &life.kept(child));
        }
    }

    fn check(&mut self, child: Ordinal, kept: &[Record]) {
        let committed = self.committed[child.0 as usize].clone();
        let mut kept = kept.iter().peekable();
        for (record, fate) in &mut self.model(child).records {
            let is_here = kept.next_if(|next| *next == record).is_some();
            if committed.has_taken(record.stream, record.seq) {
                assert!(!is_here, "{record:?} was taken, and the journal knows it");
                assert_eq!(*fate, Fate::Acknowledged, "{record:?} of {child:?} was not taken");
            } else if *fate == Fate::Unread {
                assert!(is_here, "{record:?} of {child:?} is lost");
            }
            *fate = if is_here { Fate::Unread } else { Fate::Acknowledged };
        }
        assert_eq!(kept.next(), None, "nothing else, and in order");
    }
}

fn history(seed: u64, machine_fails: bool) {
    let disk = TestDisk::new();
    let mut history = History {
        random: Random(seed),
        models: (0..CHILDREN).map(|_| Model::default()).collect(),
        offers: Vec::new(),
        committed: vec![Cursor::default(); CHILDREN as usize],
    };
    let mut told = vec![Seq(0); CHILDREN as usize];
    for _ in 0..LIVES {
        let life = Life::begin(&disk);
        history.begin(&life, &told);
        for _ in 0..60 {
            history.act(&life);
        }
        // The daemon ends in the middle of everything.
        history.offers.clear();
        for (number, told) in (0..CHILDREN).zip(&mut told) {
            *told = life.told.of(Ordinal(number)).max(*told);
        }
        drop(life);
        if machine_fails {
            disk.forget_unsynced();
        }
    }
    let life = Life::begin(&disk);
    history.begin(&life, &told);
}

#[test]
fn a_daemon_that_is_killed_at_any_time_loses_nothing_and_repeats_nothing() {
    (1..=SEEDS).for_each(|seed| history(seed * 7_919, false));
}

#[test]
fn a_machine_that_fails_at_any_time_loses_nothing_that_was_stored() {
    (1..=SEEDS).for_each(|seed| history(seed * 104_729, true));
}
