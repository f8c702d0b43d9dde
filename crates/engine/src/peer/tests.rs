//! Tests of one peer; two of them over a bad network are in [`network`].

mod network;

use super::*;

const fn at(seconds: u64) -> Uptime {
    Duration::from_secs(seconds)
}

#[test]
fn a_node_that_never_answers_is_unreachable_once_the_wait_is_over() {
    let mut peer = Peer::default();
    let mut effects = Vec::new();
    peer.on_wanted(at(5), Keep::WhileUsed, at(0), &mut effects);
    peer.on_dial_failed(ReachStep::Connect, at(1), &mut effects);
    assert_eq!(effects, [PeerEffect::Dial { attempt: 0 }, PeerEffect::Dial { attempt: 1 }]);
    effects.clear();
    peer.on_dial_failed(ReachStep::Connect, at(6), &mut effects);
    assert_eq!(effects, [PeerEffect::Unreachable(ReachStep::Connect)]);
    peer.on_wanted(at(5), Keep::WhileUsed, at(7), &mut effects);
    assert_eq!(effects.last(), Some(&PeerEffect::Dial { attempt: 0 }));
}

#[test]
fn who_cannot_prove_who_he_is_is_not_dialled_again() {
    let mut peer = Peer::default();
    let mut effects = Vec::new();
    peer.on_wanted(at(5), Keep::WhileUsed, at(0), &mut effects);
    effects.clear();
    peer.on_dial_failed(ReachStep::Authenticate, at(1), &mut effects);
    assert_eq!(effects, [PeerEffect::Unreachable(ReachStep::Authenticate)]);
}

const fn beat(number: u64, heard: u64) -> Heartbeat {
    Heartbeat { number, heard }
}

#[test]
fn silence_ends_the_lease_before_the_owner_says_lost() {
    let mut peer = Peer::default();
    let mut effects = Vec::new();
    peer.on_up(at(0), at(0), &mut effects);
    peer.on_tick(Some(at(7)), at(7), &mut effects);
    assert_eq!((effects.as_slice(), peer.state(at(7))), (&[][..], NodeState::Suspect));
    peer.on_tick(Some(at(8)), at(8), &mut effects);
    peer.on_tick(Some(at(9)), at(9), &mut effects);
    assert_eq!(effects, [PeerEffect::LeaseOver]);
    peer.on_tick(Some(at(12)), at(12), &mut effects);
    assert_eq!(effects, [PeerEffect::LeaseOver, PeerEffect::Lost]);
}

#[test]
fn the_lease_counts_from_when_the_newest_heartbeat_was_sent_that_the_owner_heard() {
    let mut peer = Peer::default();
    let mut effects = Vec::new();
    peer.on_up(at(0), at(0), &mut effects);
    assert_eq!(peer.lease_until(), Some(at(8)));
    assert_eq!((peer.beat(at(1)), peer.beat(at(2))), (beat(1, 0), beat(2, 0)));
    // The owner is heard all the time, and hears nothing: that proves nothing.
    assert_eq!(peer.on_beat(beat(2, 0), at(3), &mut effects), Ok(()));
    assert_eq!((peer.lease_until(), peer.beat(at(3))), (Some(at(8)), beat(3, 2)));
    assert_eq!(peer.on_beat(beat(3, 2), at(6), &mut effects), Ok(()));
    assert_eq!(peer.lease_until(), Some(at(10)));
    peer.on_tick(Some(at(0)), at(10), &mut effects);
    assert_eq!((effects.as_slice(), peer.lease_until()), (&[PeerEffect::LeaseOver][..], None));
    // What is over stays over on this connection.
    assert_eq!(peer.on_beat(beat(4, 3), at(10), &mut effects), Ok(()));
    assert_eq!((peer.lease_until(), peer.state(at(10))), (None, NodeState::Alive));
    peer.on_up(at(11), at(12), &mut effects);
    assert_eq!(peer.lease_until(), Some(at(19)));
}

#[test]
fn who_stood_still_answers_at_once_what_came_meanwhile() {
    let mut peer = Peer::default();
    let mut effects = Vec::new();
    peer.on_up(at(0), at(0), &mut effects);
    peer.beat(at(1));
    for (number, answers) in [(1, 0), (2, 0), (3, 1)] {
        assert_eq!(peer.on_beat(beat(number, 0), at(6), &mut effects), Ok(()));
        assert_eq!(effects, vec![PeerEffect::Beat; answers]);
    }
    assert_eq!(peer.beat(at(6)), beat(2, 3));
    effects.clear();
    for number in [4, 5] {
        assert_eq!(peer.on_beat(beat(number, 2), at(6), &mut effects), Ok(()));
    }
    assert_eq!(effects, [], "answers cause no answers");
    // A new connection owes nothing.
    peer.on_up(at(7), at(7), &mut effects);
    assert_eq!(peer.on_beat(beat(1, 0), at(7), &mut effects), Ok(()));
    assert_eq!(effects, []);
}

#[test]
fn an_answer_that_comes_when_the_lease_is_over_does_not_bring_it_back() {
    let mut peer = Peer::default();
    let mut effects = Vec::new();
    peer.on_up(at(0), at(0), &mut effects);
    assert_eq!(peer.beat(at(7)), beat(1, 0));
    assert_eq!(peer.on_beat(beat(1, 1), at(9), &mut effects), Ok(()));
    assert_eq!((effects.as_slice(), peer.lease_until()), (&[PeerEffect::LeaseOver][..], None));
}

#[test]
fn a_new_connection_prolongs_a_lease_only_once_the_owner_has_spoken_on_it() {
    let mut peer = Peer::default();
    let mut effects = Vec::new();
    peer.on_up(at(0), at(0), &mut effects);
    assert_eq!(peer.beat(at(1)), beat(1, 0));
    peer.on_closed(false, at(2), &mut effects);
    peer.on_up(at(5), at(6), &mut effects);
    assert_eq!(peer.lease_until(), Some(at(8)));
    assert_eq!(peer.on_beat(beat(1, 0), at(7), &mut effects), Ok(()));
    assert_eq!(peer.lease_until(), Some(at(13)));
    // Numbers begin anew: what the former connection carried is no answer.
    let false_echo = peer.on_beat(beat(2, 1), at(7), &mut effects);
    assert!(false_echo.is_err(), "{false_echo:?}");
}

#[test]
fn of_two_connections_that_nothing_was_heard_on_the_earlier_greeting_counts() {
    let mut peer = Peer::default();
    let mut effects = Vec::new();
    // We answer an old dial of the owner's, which it may never know, and then our own, which was
    // under way for longer, comes through.
    peer.on_up(at(21), at(21), &mut effects);
    peer.on_up(at(18), at(21), &mut effects);
    assert_eq!((peer.lease_until(), effects.as_slice()), (Some(at(26)), &[][..]));
}

#[test]
fn heartbeats_that_nobody_answers_are_forgotten_at_their_bound() {
    let mut peer = Peer::default();
    let mut effects = Vec::new();
    peer.on_up(at(0), at(0), &mut effects);
    let many = limits::HEARTBEATS_UNHEARD as u64 + 1;
    let beats = (1..=many).map(|number| peer.beat(Duration::from_millis(number)));
    assert_eq!(beats.last(), Some(beat(many, 0)));
    assert_eq!(peer.on_beat(beat(1, 1), at(1), &mut effects), Ok(()));
    assert_eq!(peer.lease_until(), Some(at(8)), "the first is forgotten");
    assert_eq!(peer.on_beat(beat(2, 2), at(1), &mut effects), Ok(()));
    assert_eq!(peer.lease_until(), Some(at(8) + Duration::from_millis(2)));
}

#[test]
fn a_cut_connection_keeps_counting_from_when_the_node_was_heard_last() {
    let mut peer = Peer::default();
    let mut effects = Vec::new();
    peer.on_up(at(0), at(0), &mut effects);
    peer.on_tick(Some(at(1)), at(7), &mut effects);
    peer.on_closed(false, at(7), &mut effects);
    assert_eq!(effects, [PeerEffect::Dial { attempt: 0 }]);
    peer.on_tick(None, at(18), &mut effects);
    assert_eq!(effects.last(), Some(&PeerEffect::Lost));
    effects.clear();
    peer.on_tick(None, at(30), &mut effects);
    assert_eq!(effects, []);
}

#[test]
fn a_goodbye_ends_what_ran_there_at_once() {
    let mut peer = Peer::default();
    let mut effects = Vec::new();
    peer.on_up(at(0), at(0), &mut effects);
    peer.on_closed(true, at(1), &mut effects);
    assert_eq!(effects, [PeerEffect::LeaseOver, PeerEffect::Gone]);
}

#[test]
fn a_node_that_is_kept_is_dialled_once_after_its_goodbye_and_is_lost_once() {
    let mut peer = Peer::default();
    let mut effects = Vec::new();
    peer.on_wanted(at(5), Keep::Always, at(0), &mut effects);
    peer.on_up(at(0), at(0), &mut effects);
    effects.clear();
    peer.on_closed(true, at(1), &mut effects);
    let gone = [PeerEffect::LeaseOver, PeerEffect::Gone, PeerEffect::Dial { attempt: 1 }];
    assert_eq!((effects.as_slice(), peer.state(at(1))), (&gone[..], NodeState::Lost));
    effects.clear();
    peer.on_tick(None, at(20), &mut effects);
    assert_eq!(effects, []);
}

#[test]
fn a_connection_that_is_closed_as_soon_as_it_is_up_is_not_dialled_as_fast() {
    let check = |lasted: u64, attempt: u32| {
        let mut peer = Peer::default();
        let mut effects = Vec::new();
        peer.on_up(at(10), at(10), &mut effects);
        peer.on_closed(false, at(10 + lasted), &mut effects);
        assert_eq!(effects, [PeerEffect::Dial { attempt }], "after {lasted} s");
    };
    check(0, 1);
    check(2, 1);
    check(3, 0);
}

#[test]
fn connections_that_do_not_last_are_dialled_more_slowly_each_time_until_one_lasts() {
    let mut peer = Peer::default();
    let mut effects = Vec::new();
    let mut connect = |from: u64, until: u64| {
        effects.clear();
        peer.on_up(at(from), at(from), &mut effects);
        peer.on_closed(false, at(until), &mut effects);
        effects.pop()
    };
    for attempt in 1..=20 {
        let now = u64::from(attempt);
        assert_eq!(connect(now, now), Some(PeerEffect::Dial { attempt }));
    }
    assert_eq!(connect(21, 24), Some(PeerEffect::Dial { attempt: 0 }));
    assert_eq!(connect(25, 25), Some(PeerEffect::Dial { attempt: 1 }));
}

#[test]
fn who_waits_for_a_node_waits_no_longer_than_it_said_and_others_wait_on() {
    let mut peer = Peer::default();
    let mut effects = Vec::new();
    peer.on_wanted(at(2), Keep::WhileUsed, at(0), &mut effects);
    peer.on_wanted(at(9), Keep::WhileUsed, at(1), &mut effects);
    assert_eq!(peer.on_wait_over(at(0)), Some(ReachStep::Connect));
    effects.clear();
    peer.on_dial_failed(ReachStep::Connect, at(5), &mut effects);
    assert_eq!(effects, [PeerEffect::Dial { attempt: 1 }]);
    effects.clear();
    assert_eq!(peer.on_wait_over(at(1)), Some(ReachStep::Connect));
    // The dial that ends behind the longest wait ends for nobody, and none follows.
    peer.on_dial_failed(ReachStep::Connect, at(10), &mut effects);
    assert_eq!(effects, [PeerEffect::Unreachable(ReachStep::Connect)]);
    assert_eq!(peer.on_wait_over(at(1)), None);
}

#[test]
fn a_connection_that_came_up_meanwhile_ends_the_wait_for_it() {
    let mut peer = Peer::default();
    let mut effects = Vec::new();
    peer.on_wanted(at(5), Keep::WhileUsed, at(0), &mut effects);
    peer.on_up(at(2), at(2), &mut effects);
    peer.on_closed(false, at(4), &mut effects);
    assert_eq!(peer.on_wait_over(at(0)), None);
    assert_eq!(peer.on_wait_over(at(3)), Some(ReachStep::Connect));
}

#[test]
fn a_node_that_holds_what_outlives_silence_is_dialled_until_it_answers() {
    let mut peer = Peer::default();
    let mut effects = Vec::new();
    peer.on_up(at(0), at(0), &mut effects);
    peer.set_holds(Holds::Something, at(1), &mut effects);
    assert_eq!(effects, []);
    peer.on_tick(Some(at(12)), at(12), &mut effects);
    let lost = [PeerEffect::LeaseOver, PeerEffect::Lost, PeerEffect::Dial { attempt: 1 }];
    assert_eq!((effects.as_slice(), peer.state(at(12))), (&lost[..], NodeState::Lost));
    assert!(peer.is_known(), "what runs there may answer");
    effects.clear();
    peer.on_dial_failed(ReachStep::Connect, at(200), &mut effects);
    peer.on_tick(None, at(239), &mut effects);
    assert_eq!(effects, [PeerEffect::Dial { attempt: 2 }]);
    effects.clear();
    peer.on_tick(None, at(240), &mut effects);
    peer.on_tick(None, at(900), &mut effects);
    assert_eq!(effects, [PeerEffect::Disconnected], "once");
    effects.clear();
    peer.on_up(at(901), at(901), &mut effects);
    assert_eq!((effects.as_slice(), peer.state(at(901))), (&[][..], NodeState::Alive));
    peer.on_tick(Some(at(12)), at(913), &mut effects);
    assert_eq!(effects.get(..2), Some(&lost[..2]), "and so again");
}

#[test]
fn a_node_that_holds_nothing_any_more_is_given_up() {
    let mut peer = Peer::default();
    let mut effects = Vec::new();
    peer.on_up(at(0), at(0), &mut effects);
    peer.set_holds(Holds::Something, at(1), &mut effects);
    peer.on_tick(Some(at(12)), at(12), &mut effects);
    peer.set_holds(Holds::Nothing, at(20), &mut effects);
    effects.clear();
    peer.on_dial_failed(ReachStep::Connect, at(21), &mut effects);
    peer.on_tick(None, at(300), &mut effects);
    assert_eq!((effects.as_slice(), peer.is_known()), (&[][..], false));
}

#[test]
fn what_a_former_life_of_ours_left_there_is_asked_for_and_waited_for_from_now_on() {
    let mut peer = Peer::default();
    let mut effects = Vec::new();
    peer.set_holds(Holds::Something, at(5), &mut effects);
    assert_eq!(effects, [PeerEffect::Dial { attempt: 0 }]);
    assert_eq!((peer.state(at(5)), peer.is_known()), (NodeState::Lost, true));
    effects.clear();
    peer.on_tick(None, at(244), &mut effects);
    assert_eq!(effects, []);
    peer.on_tick(None, at(245), &mut effects);
    assert_eq!(effects, [PeerEffect::Disconnected]);
}

#[test]
fn a_goodbye_ends_what_outlives_silence_too() {
    let mut peer = Peer::default();
    let mut effects = Vec::new();
    peer.on_up(at(0), at(0), &mut effects);
    peer.set_holds(Holds::Something, at(1), &mut effects);
    peer.on_closed(true, at(2), &mut effects);
    assert_eq!(effects, [PeerEffect::LeaseOver, PeerEffect::Gone]);
    assert!(!peer.is_known());
}
