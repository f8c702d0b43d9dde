use proptest::prelude::*;
use sortie_model::State::{Completed, Disconnected, Failed, Running};
use sortie_model::selector::Selection;
use sortie_model::{Stream, Timestamp};

use super::*;

fn spec(mode: ReceiveMode) -> ReceiveSpec {
    ReceiveSpec::new(Selection::default(), mode)
}

#[track_caller]
fn refused(spec: &ReceiveSpec) {
    let code = check(spec).map_err(|error| error.code);
    assert_eq!(code, Err(ErrorCode::Usage), "{spec:?}");
}

const UNTIL: ReceiveMode = ReceiveMode::TakeUntil { finished: false };

#[test]
fn tail_and_since_only_read() {
    for mode in [ReceiveMode::Take, UNTIL] {
        refused(&ReceiveSpec { tail: Some(3), ..spec(mode) });
        refused(&ReceiveSpec { since: Some(Timestamp(0)), ..spec(mode) });
    }
    for mode in [ReceiveMode::Keep, ReceiveMode::Follow] {
        let both = ReceiveSpec { tail: Some(3), since: Some(Timestamp(0)), ..spec(mode) };
        assert_eq!(check(&both), Ok(()));
    }
}

#[test]
fn events_and_removal_need_a_receive_that_waits() {
    for mode in [ReceiveMode::Take, ReceiveMode::Keep] {
        refused(&ReceiveSpec { events: true, ..spec(mode) });
        refused(&ReceiveSpec { auto_remove: true, ..spec(mode) });
    }
    refused(&ReceiveSpec { auto_remove: true, ..spec(ReceiveMode::Follow) });
    assert_eq!(check(&ReceiveSpec { events: true, auto_remove: true, ..spec(UNTIL) }), Ok(()));
    assert_eq!(check(&ReceiveSpec { events: true, ..spec(ReceiveMode::Follow) }), Ok(()));
}

#[test]
fn nothing_is_removed_that_was_not_asked_for() {
    let output = StreamSet::EMPTY.with(Stream::Output);
    refused(&ReceiveSpec { auto_remove: true, streams: output, ..spec(UNTIL) });
    refused(&ReceiveSpec { streams: StreamSet::EMPTY, ..spec(ReceiveMode::Take) });
    assert_eq!(check(&ReceiveSpec { streams: output, ..spec(UNTIL) }), Ok(()));
}

#[test]
fn a_job_is_read_once_and_its_children_in_child_order() {
    let (a, b) = (EntryId(1), EntryId(9));
    let places = [
        Place::Child(b, Ordinal(4)),
        Place::Child(a, Ordinal(0)),
        Place::Child(b, Ordinal(2)),
        Place::Job(a),
        Place::Child(a, Ordinal(3)),
        Place::Child(b, Ordinal(4)),
    ];
    let expected = vec![(b, Part::Children(vec![Ordinal(2), Ordinal(4)])), (a, Part::Whole)];
    assert_eq!(parts(&places), expected);
    assert_eq!(parts(&[]), []);
}

#[test]
fn what_other_readers_hold_is_what_is_on_offer_and_not_ours() {
    let job = EntryId(7);
    let check = |part: &Part, on_offer: &[(u32, u64)], own: &[(u32, u64)]| {
        let on_offer = on_offer.iter().map(|(child, records)| (Ordinal(*child), *records));
        let own = own.iter().map(|(child, records)| (Ordinal(*child), *records)).collect();
        with_others((job, part), on_offer, &own)
    };
    let some = Part::Children(vec![Ordinal(0), Ordinal(3), Ordinal(4)]);
    let (offered, own) = ([(0, 5), (3, 2), (4, 9)], [(0, 5), (4, 1), (8, 1)]);
    assert_eq!(check(&Part::Whole, &offered, &own), [(Place::Job(job), 10)]);
    let of_children = [(Place::Child(job, Ordinal(3)), 2), (Place::Child(job, Ordinal(4)), 8)];
    assert_eq!(check(&some, &offered, &own), of_children);
    // What is all ours is nothing to tell, and neither is what was withdrawn meanwhile.
    for part in [&Part::Whole, &some] {
        assert_eq!(check(part, &offered, &offered), []);
        assert_eq!(check(part, &[(0, 1)], &own), []);
        assert_eq!(check(part, &[], &[]), []);
    }
}

fn all(states: &[State], until: Until) -> Candidates<'static> {
    let met = states.iter().filter(|state| until.is_met_by(**state)).count() as u64;
    Candidates::All { children: states.len() as u32, met }
}

fn news(once: &mut SettledOnce, states: &[State], until: Until) -> Vec<u32> {
    let state = |ordinal: Ordinal| states.get(ordinal.0 as usize).copied();
    let news = once.children((all(states, until), &[]), until, state);
    news.into_iter().map(|(ordinal, _)| ordinal.0).collect()
}

#[test]
fn each_child_is_told_once() {
    let mut once = SettledOnce::default();
    let until = Until::Settled;
    assert_eq!(news(&mut once, &[Running, Failed, Running], until), [1]);
    assert_eq!(news(&mut once, &[Running, Failed, Running], until), [] as [u32; 0]);
    assert_eq!(news(&mut once, &[Completed, Failed, Disconnected], until), [0, 2]);
    assert_eq!(news(&mut once, &[Completed, Failed, Completed, Completed], until), [3]);
    assert_eq!(once.parent(Failed, until, &[]), Some(Failed));
    assert_eq!(once.parent(Failed, until, &[]), None);
}

#[test]
fn who_waits_for_the_finish_is_not_told_of_a_disconnection() {
    let mut once = SettledOnce::default();
    let until = Until::Finished;
    assert_eq!(news(&mut once, &[Disconnected, Completed], until), [1]);
    assert_eq!(once.parent(Disconnected, until, &[]), None);
    assert_eq!(news(&mut once, &[Failed, Completed], until), [0]);
    assert_eq!(once.parent(Failed, until, &[]), Some(Failed));
}

#[test]
fn selected_children_are_told_alone() {
    let mut once = SettledOnce::default();
    let some = [Ordinal(1), Ordinal(70)];
    let state = |ordinal: Ordinal| (ordinal.0 == 70).then_some(Completed);
    let told = once.children((Candidates::Some(&some), &[]), Until::Settled, state);
    assert_eq!(told, [(Ordinal(70), Completed)]);
}

#[test]
fn an_end_is_told_when_all_before_it_is_back() {
    let (mut once, until) = (SettledOnce::default(), Until::Settled);
    let states = [Failed; 3];
    let mut look = |not_back: &[Ordinal]| {
        let state = |ordinal: Ordinal| states.get(ordinal.0 as usize).copied();
        let children = once.children((all(&states, until), not_back), until, state);
        let children: Vec<_> = children.into_iter().map(|(ordinal, _)| ordinal.0).collect();
        (children, once.parent(Failed, until, not_back).is_some())
    };
    assert_eq!(look(&[Ordinal(0), Ordinal(2)]), (vec![1], false));
    assert_eq!(look(&[Ordinal(2)]), (vec![0], false));
    assert_eq!(look(&[]), (vec![2], true));
    assert_eq!(look(&[]), (vec![], false));
}

proptest! {
    #[test]
    fn children_that_only_finish_are_all_told_at_the_latest_with_their_parent(
        order in Just((0..200_usize).collect::<Vec<_>>()).prop_shuffle(),
        every in 1..40_usize,
    ) {
        let mut states = vec![Running; order.len()];
        let mut once = SettledOnce::default();
        let mut told = Vec::new();
        for some in order.chunks(every) {
            some.iter().for_each(|place| states[*place] = Completed);
            told.extend(news(&mut once, &states, Until::Settled));
            let met = states.iter().filter(|state| **state == Completed).count();
            prop_assert_eq!(told.len(), met);
        }
        told.sort_unstable();
        prop_assert_eq!(told, (0..200).collect::<Vec<u32>>());
        prop_assert_eq!(once.first, 200);
    }
}
