use std::collections::BTreeSet;

use proptest::prelude::*;
use sortie_wire::message_proto::Posted;

use super::*;
use crate::inbox::Inbox;

const FIRST: ChildIncarnation = ChildIncarnation(0);
const SEND: MessageKind = MessageKind::Send;
const CALL: MessageKind = MessageKind::Call;

fn opened(post: &mut Post, accepted: u64, taken: u64) -> Vec<PostEffect> {
    let mut effects = Vec::new();
    let word = (InboxWord::Open { accepted, taken }, Bytes::new());
    post.on_word((FIRST, 1), word, &mut effects).expect("a true word");
    effects
}

fn numbers(post: &mut Post, connection: u64) -> Vec<u64> {
    std::iter::from_fn(|| post.next(connection)).map(|sending| sending.number).collect()
}

#[test]
fn senders_wait_for_an_inbox_and_for_room_in_it() {
    let mut post = Post::default();
    let most = limits::INBOX_MESSAGES as u64;
    for _ in 0..limits::SENDERS_PER_CHILD {
        post.enter(SEND, Bytes::new()).expect("a place");
    }
    assert_eq!(post.enter(SEND, Bytes::new()), Err(TooManySenders));
    assert_eq!(post.next(1), None);
    assert_eq!(opened(&mut post, 0, 0), []);
    assert_eq!(post.next(2), None, "another connection");
    assert_eq!(numbers(&mut post, 1).len() as u64, most);
    post.enter(SEND, Bytes::new()).expect("a place");
    assert_eq!(opened(&mut post, most, 0).len() as u64, most);
    assert_eq!(post.next(1), None);
    opened(&mut post, most, 1);
    assert_eq!(numbers(&mut post, 1), [most + 1]);
}

#[test]
fn bytes_and_calls_are_bounded_as_well() {
    let mut post = Post::default();
    let longest = Bytes::from(vec![0; limits::MESSAGE_BYTES]);
    for _ in 0..limits::SENDERS_PER_CHILD {
        post.enter(SEND, longest.clone()).expect("a place");
    }
    opened(&mut post, 0, 0);
    assert_eq!(numbers(&mut post, 1).len(), limits::INBOX_BYTES / limits::MESSAGE_BYTES);

    let mut post = Post::default();
    for _ in 0..=limits::CALLS_PER_CHILD {
        post.enter(CALL, Bytes::new()).expect("a place");
    }
    opened(&mut post, 0, 0);
    assert_eq!(numbers(&mut post, 1).len(), limits::CALLS_PER_CHILD);
    let word = InboxWord::Answer { number: 1, how: AnswerKind::Value };
    let mut effects = Vec::new();
    post.on_word((FIRST, 1), (word, Bytes::new()), &mut effects).expect("a true word");
    assert_eq!(effects.len(), 2, "accepted and answered");
    assert_eq!(numbers(&mut post, 1).len(), 1);
}

#[test]
fn an_inbox_that_claims_what_it_was_not_sent_lies() {
    let mut post = Post::default();
    post.enter(SEND, Bytes::new()).expect("a place");
    opened(&mut post, 0, 0);
    numbers(&mut post, 1);
    let mut check = |word| {
        assert_eq!(post.on_word((FIRST, 1), (word, Bytes::new()), &mut Vec::new()), Err(FalseWord));
    };
    check(InboxWord::Open { accepted: 2, taken: 0 });
    check(InboxWord::Open { accepted: 0, taken: 1 });
    check(InboxWord::Closed { accepted: 2 });
    check(InboxWord::Answer { number: 2, how: AnswerKind::Value });
}

#[test]
fn what_may_have_arrived_fails_with_its_life_and_what_did_not_goes_to_the_next() {
    let mut post = Post::default();
    let sent = post.enter(SEND, Bytes::new()).expect("a place");
    opened(&mut post, 0, 0);
    numbers(&mut post, 1);
    let waiting = post.enter(SEND, Bytes::new()).expect("a place");
    let mut effects = Vec::new();
    post.on_over(FIRST, Over::NodeLost, &mut effects);
    let maybe = Undelivered::NodeLost { arrived: Arrived::Maybe };
    assert_eq!(effects, [PostEffect::Failed(sent, maybe)]);
    assert_eq!(opened(&mut post, 0, 0), [], "a late word");
    assert_eq!(post.next(1), None);
    let word = (InboxWord::Open { accepted: 0, taken: 0 }, Bytes::new());
    post.on_word((ChildIncarnation(1), 1), word, &mut effects).expect("a true word");
    assert_eq!(numbers(&mut post, 1), [1]);
    let word = (InboxWord::Closed { accepted: 0 }, Bytes::new());
    post.on_word((ChildIncarnation(1), 1), word, &mut effects).expect("a true word");
    effects.clear();
    post.on_over(ChildIncarnation(1), Over::Ended, &mut effects);
    assert_eq!(effects, []);
    post.on_end(Over::Ended, &mut effects);
    let no = Undelivered::Ended { arrived: Arrived::No };
    assert_eq!(effects, [PostEffect::Failed(waiting, no)]);
}

/// A step of a random history.
#[derive(Debug, Clone)]
enum Step {
    Enter { call: bool, length: usize },
    Abandon(usize),
    ToInbox(usize),
    ToOwner(usize),
    Take,
    Answer,
    Break { carried: usize },
    End { heard: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let few = 0..4_usize;
    prop_oneof![
        4 => (any::<bool>(), prop_oneof![9 => 4..8_usize, 1 => Just(limits::MESSAGE_BYTES)])
            .prop_map(|(call, length)| Step::Enter { call, length }),
        1 => any::<usize>().prop_map(Step::Abandon),
        4 => few.clone().prop_map(Step::ToInbox),
        4 => few.clone().prop_map(Step::ToOwner),
        4 => Just(Step::Take),
        2 => Just(Step::Answer),
        1 => few.prop_map(|carried| Step::Break { carried }),
        1 => any::<bool>().prop_map(|heard| Step::End { heard }),
    ]
}

/// A child, its owner, and what is between them.
#[derive(Default)]
struct World {
    post: Post,
    inbox: Inbox,
    life: u32,
    connection: u64,
    to_inbox: Vec<Sending>,
    acks: Vec<Posted>,
    to_owner: Vec<(InboxWord, Bytes)>,
    tickets: Vec<(Ticket, MessageKind)>,
    abandoned: BTreeSet<Ticket>,
    taken: Vec<u32>,
    open_calls: Vec<u64>,
    effects: Vec<PostEffect>,
}

fn id_of(message: &Bytes) -> u32 {
    u32::from_le_bytes(*message.first_chunk().expect("an id"))
}

impl World {
    fn life(&self) -> ChildIncarnation {
        ChildIncarnation(self.life)
    }

    fn enter(&mut self, call: bool, length: usize) {
        let kind = if call { CALL } else { SEND };
        let mut message = (self.tickets.len() as u32).to_le_bytes().to_vec();
        message.resize(length, 0);
        if let Ok(ticket) = self.post.enter(kind, message.into()) {
            self.tickets.push((ticket, kind));
        }
    }

    fn carry_to_inbox(&mut self, most: usize) {
        self.to_inbox.extend(std::iter::from_fn(|| self.post.next(self.connection)));
        for _ in 0..most.min(self.to_inbox.len()) {
            let Sending { incarnation, number, kind, message } = self.to_inbox.remove(0);
            if incarnation == self.life() {
                let what = Posted::Message { number, kind };
                self.inbox.on_posted(what, message).expect("it keeps to the rules");
            }
        }
        for ack in self.acks.drain(..) {
            self.inbox.on_posted(ack, Bytes::new()).expect("it keeps to the rules");
        }
    }

    fn carry_to_owner(&mut self, most: usize) {
        self.to_owner.extend(self.inbox.words());
        for _ in 0..most.min(self.to_owner.len()) {
            let said = self.to_owner.remove(0);
            match said.0 {
                InboxWord::Answer { number, .. } => self.acks.push(Posted::Answered { number }),
                InboxWord::Closed { .. } => self.acks.push(Posted::Closed),
                InboxWord::Open { .. } => {}
            }
            let from = (self.life(), self.connection);
            self.post.on_word(from, said, &mut self.effects).expect("a true word");
        }
    }

    fn take(&mut self) {
        if let Some(taken) = self.inbox.take() {
            self.taken.push(id_of(&taken.message));
            if taken.kind == CALL {
                self.open_calls.push(taken.number);
            }
        }
    }

    fn reconnect(&mut self, carried: usize) {
        self.carry_to_inbox(carried);
        self.carry_to_owner(carried);
        self.to_inbox.clear();
        self.to_owner.clear();
        self.acks.clear();
        self.connection += 1;
        self.inbox.tell_again();
    }

    /// The life ends; `heard` says whether its last words come first.
    fn end(&mut self, heard: bool) {
        if heard {
            self.inbox.end();
            for _ in 0..100 {
                self.carry_to_owner(usize::MAX);
                self.carry_to_inbox(usize::MAX);
            }
            assert!(self.inbox.is_settled());
        }
        self.to_inbox.clear();
        self.to_owner.clear();
        self.acks.clear();
        self.open_calls.clear();
        let why = if heard { Over::Ended } else { Over::NodeLost };
        self.post.on_over(self.life(), why, &mut self.effects);
        self.inbox = Inbox::default();
        self.life += 1;
    }

    fn perform(&mut self, step: Step) {
        match step {
            Step::Enter { call, length } => self.enter(call, length),
            Step::Abandon(which) => {
                if !self.tickets.is_empty() {
                    let (ticket, _) = self.tickets[which % self.tickets.len()];
                    self.abandoned.insert(ticket);
                    self.post.abandon(ticket);
                }
            }
            Step::ToInbox(most) => self.carry_to_inbox(most),
            Step::ToOwner(most) => self.carry_to_owner(most),
            Step::Take => self.take(),
            Step::Answer => {
                if let Some(number) = self.open_calls.pop() {
                    self.inbox.answer(number, (AnswerKind::Value, Bytes::new()));
                }
            }
            Step::Break { carried } => self.reconnect(carried),
            Step::End { heard } => self.end(heard),
        }
    }

    /// What each sender was told, in order.
    fn told(&self, ticket: Ticket) -> Vec<&PostEffect> {
        let about = |effect: &&PostEffect| match effect {
            PostEffect::Accepted(it) | PostEffect::Answered(it, _) | PostEffect::Failed(it, _) => {
                *it == ticket
            }
        };
        self.effects.iter().filter(about).collect()
    }
}

proptest! {
    #[test]
    fn every_message_comes_once_and_in_order_and_each_sender_hears_what_is_true(
        steps in prop::collection::vec(step(), 0..200)
    ) {
        let mut world = World::default();
        for step in steps {
            world.perform(step);
        }
        // Everything that is in the inbox is taken, and the child ends for good.
        for _ in 0..1_000 {
            world.carry_to_inbox(usize::MAX);
            world.carry_to_owner(usize::MAX);
            world.take();
            if let Some(number) = world.open_calls.pop() {
                world.inbox.answer(number, (AnswerKind::Value, Bytes::new()));
            }
        }
        world.end(true);
        world.post.on_end(Over::Ended, &mut world.effects);
        prop_assert!(world.taken.is_sorted_by(|one, next| one < next), "{:?}", world.taken);
        for (id, (ticket, kind)) in world.tickets.iter().enumerate() {
            let came = world.taken.contains(&(id as u32));
            let told = world.told(*ticket);
            if world.abandoned.contains(ticket) {
                continue;
            }
            match (*kind, &told[..]) {
                (SEND, [PostEffect::Accepted(_)])
                | (CALL, [PostEffect::Accepted(_), PostEffect::Answered(..)]) => {
                    // The child may have been killed before it took it.
                    prop_assert!(came || world.life > 1);
                }
                (_, [PostEffect::Failed(_, why)]) => {
                    let no = matches!(why, Undelivered::Ended { arrived: Arrived::No }
                        | Undelivered::NodeLost { arrived: Arrived::No });
                    prop_assert!(!(no && came), "{why:?} and it came");
                }
                (CALL, [PostEffect::Accepted(_), PostEffect::Failed(..)]) => {}
                _ => prop_assert!(false, "{kind:?} was told {told:?}"),
            }
        }
    }
}

#[test]
fn nobody_waits_for_a_child_whose_node_is_lost_and_what_is_on_its_way_arrives_all_the_same() {
    let mut post = Post::default();
    opened(&mut post, 0, 0);
    let taken = post.enter(CALL, Bytes::new()).expect("a place");
    let flying = post.enter(CALL, Bytes::new()).expect("a place");
    assert_eq!(numbers(&mut post, 1), [1, 2]);
    opened(&mut post, 1, 1);
    let fails = |ticket, arrived| PostEffect::Failed(ticket, Undelivered::NodeLost { arrived });
    let mut effects = Vec::new();
    post.on_silent(&mut effects);
    let expected = [fails(flying, Arrived::Maybe), fails(taken, Arrived::Yes)];
    assert_eq!(effects, expected);
    let late = post.enter(SEND, Bytes::new()).expect("a place");
    effects.clear();
    post.on_silent(&mut effects);
    assert_eq!(effects, [fails(late, Arrived::No)]);
    // The node is back.
    let word = (InboxWord::Open { accepted: 1, taken: 1 }, Bytes::new());
    effects.clear();
    post.on_word((FIRST, 2), word, &mut effects).expect("a true word");
    assert_eq!((effects.as_slice(), numbers(&mut post, 2)), (&[][..], vec![2]));
}

#[test]
fn an_inbox_that_an_earlier_owner_wrote_to_goes_on_from_there() {
    let mut post = Post::default();
    post.enter(CALL, Bytes::new()).expect("a place");
    assert_eq!(opened(&mut post, 7, 5), []);
    assert_eq!(numbers(&mut post, 1), [8]);
    // What the earlier one was told is said again, and nobody here waits for it.
    let answer = |number| (InboxWord::Answer { number, how: AnswerKind::Value }, Bytes::new());
    let mut effects = Vec::new();
    post.on_word((FIRST, 1), answer(6), &mut effects).expect("a true word");
    assert_eq!(effects, []);
    post.on_word((FIRST, 1), answer(8), &mut effects).expect("a true word");
    assert_eq!(effects.len(), 2, "accepted and answered");
    assert_eq!(opened(&mut post, 8, 8), []);
}

#[test]
fn an_inbox_whose_first_word_claims_more_than_it_holds_lies() {
    let most = limits::INBOX_MESSAGES as u64;
    let first = |accepted, taken| {
        let word = (InboxWord::Open { accepted, taken }, Bytes::new());
        Post::default().on_word((FIRST, 1), word, &mut Vec::new())
    };
    assert_eq!(first(most + 9, 9), Ok(()));
    assert_eq!(first(most + 10, 9), Err(FalseWord));
    assert_eq!(first(8, 9), Err(FalseWord));
    assert_eq!(first(u64::MAX, u64::MAX), Err(FalseWord));
    let accepted = u64::MAX;
    let closed = (InboxWord::Closed { accepted }, Bytes::new());
    let word = Post::default().on_word((FIRST, 1), closed, &mut Vec::new());
    assert_eq!(word, Err(FalseWord));
}

#[test]
fn an_inbox_that_begins_anew_in_the_same_life_of_its_child_is_sent_nothing_twice() {
    let mut post = Post::default();
    let tickets = [SEND, CALL, CALL].map(|kind| post.enter(kind, Bytes::new()).expect("a place"));
    opened(&mut post, 0, 0);
    assert_eq!(numbers(&mut post, 1), [1, 2, 3]);
    opened(&mut post, 2, 2);
    let waits = post.enter(CALL, Bytes::new()).expect("a place");
    let mut effects = Vec::new();
    post.on_reborn(&mut effects);
    let lost = |ticket, arrived| PostEffect::Failed(ticket, Undelivered::NodeLost { arrived });
    effects.sort_by_key(|effect| format!("{effect:?}"));
    assert_eq!(effects, [lost(tickets[1], Arrived::Yes), lost(tickets[2], Arrived::Maybe)]);
    let word = (InboxWord::Open { accepted: 0, taken: 0 }, Bytes::new());
    post.on_word((FIRST, 2), word, &mut Vec::new()).expect("a true word");
    let sent = post.next(2).expect("what waited");
    assert_eq!((sent.number, sent.kind), (1, CALL));
    let word = (InboxWord::Open { accepted: 1, taken: 0 }, Bytes::new());
    let mut effects = Vec::new();
    post.on_word((FIRST, 2), word, &mut effects).expect("a true word");
    assert_eq!(effects, [PostEffect::Accepted(waits)]);
}
