//! An owner and an executing node over a network that is cut and slow in each direction by itself,
//! while each of the two may be frozen for a while.
//!
//! A connection is reliable and keeps its order: what is cut off waits and comes later. Each side
//! may take its time between the end of a handshake and looking at the new connection.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const STEP: u64 = 100;
const SECONDS: usize = 60;
const DIAL_TIME: u64 = 5_000;

const fn ms(at: u64) -> Uptime {
    Duration::from_millis(at)
}

/// What happens in one second.
#[derive(Debug, Clone)]
struct Second {
    /// Whether nothing leaves the owner, and nothing the executing node.
    cut: [bool; 2],
    frozen: [bool; 2],
    /// Whether that side gives the connection up, which the other may not hear.
    breaks: [bool; 2],
    /// How long a message of that second takes, in milliseconds.
    delay: [u64; 2],
    /// How long a side takes to look at a new connection, in milliseconds.
    lag: u64,
    /// Whether ticks go before messages.
    tick_first: bool,
}

#[derive(Debug, Clone, Copy)]
enum Word {
    Hello,
    Ack,
    Beat(Heartbeat),
    /// Start a child: sent after the owner said lost so many times.
    Start(u32),
    Close,
}

#[derive(Debug, Clone, Copy)]
struct Message {
    link: u64,
    word: Word,
    arrives: u64,
}

#[derive(Debug, Default)]
struct Side {
    peer: Peer,
    link: Option<u64>,
    /// A dial under way: its connection and since when.
    dialling: Option<(u64, u64)>,
    /// When to dial next.
    dial_at: Option<u64>,
    /// A connection that is up and not looked at yet: when it greeted, and until when that takes.
    fresh: Option<(u64, u64, u64)>,
    /// It was frozen and has not ticked since.
    overdue: bool,
    lost: u32,
    told: bool,
    /// At the executing node: the owner's child runs.
    runs: bool,
}

struct World {
    sides: [Side; 2],
    /// On their way to each side, in order.
    ways: [VecDeque<Message>; 2],
    links: u64,
    now: u64,
    started: u32,
}

impl World {
    fn new() -> Self {
        let mut sides = [Side::default(), Side::default()];
        sides[0].dial_at = Some(0);
        Self { sides, ways: [VecDeque::new(), VecDeque::new()], links: 0, now: 0, started: 0 }
    }

    fn send(&mut self, from: usize, link: u64, word: Word, second: &Second) {
        let arrives = self.now + second.delay[from];
        self.ways[1 - from].push_back(Message { link, word, arrives });
    }

    fn close(&mut self, side: usize, second: &Second) {
        if let Some(link) = self.sides[side].link.take() {
            self.send(side, link, Word::Close, second);
        }
    }

    fn perform(&mut self, side: usize, effects: Vec<PeerEffect>, second: &Second) {
        for effect in effects {
            match effect {
                PeerEffect::Dial { .. } => self.sides[side].dial_at = Some(self.now + 200),
                PeerEffect::Unreachable(_) | PeerEffect::Disconnected => {}
                PeerEffect::Beat => {
                    if let Some(link) = self.sides[side].link {
                        let beat = self.sides[side].peer.beat(ms(self.now));
                        self.send(side, link, Word::Beat(beat), second);
                    }
                }
                PeerEffect::LeaseOver => {
                    self.sides[side].runs = false;
                    self.close(side, second);
                }
                PeerEffect::Lost | PeerEffect::Gone => {
                    self.close(side, second);
                    self.sides[side].lost += 1;
                    self.sides[side].told = false;
                }
            }
        }
    }

    fn up(&mut self, side: usize, second: &Second) {
        let now = self.now;
        let Some((link, greeted, until)) = self.sides[side].fresh else { return };
        if now < until {
            return;
        }
        self.sides[side].fresh = None;
        let mut effects = Vec::new();
        self.sides[side].peer.on_up(ms(greeted), ms(now), &mut effects);
        self.perform(side, effects, second);
        if second.tick_first {
            // Otherwise the other side may use the old one for a while.
            self.close(side, second);
        }
        self.sides[side].link = Some(link);
        let beat = self.sides[side].peer.beat(ms(now));
        self.send(side, link, Word::Beat(beat), second);
        if side == 0 && !std::mem::replace(&mut self.sides[0].told, true) {
            let lost = self.sides[0].lost;
            self.send(0, link, Word::Start(lost), second);
        }
    }

    fn hear(
        &mut self,
        side: usize,
        message: Message,
        second: &Second,
    ) -> Result<(), TestCaseError> {
        let (now, mine) = (self.now, self.sides[side].link == Some(message.link));
        let mut effects = Vec::new();
        match message.word {
            Word::Hello => {
                self.send(side, message.link, Word::Ack, second);
                self.sides[side].fresh = Some((message.link, now, now + second.lag));
            }
            Word::Ack => {
                let dialling = self.sides[side].dialling;
                if let Some((link, greeted)) = dialling.filter(|(link, _)| *link == message.link) {
                    self.sides[side].dialling = None;
                    self.sides[side].fresh = Some((link, greeted, now + second.lag));
                }
            }
            Word::Beat(beat) if mine => {
                let heard = self.sides[side].peer.on_beat(beat, ms(now), &mut effects);
                prop_assert_eq!(heard, Ok(()));
            }
            Word::Start(lost) if mine => {
                let until = self.sides[1].peer.lease_until();
                if until.is_some_and(|until| ms(now) < until) {
                    prop_assert_eq!(lost, self.sides[0].lost, "started after it was called lost");
                    self.sides[1].runs = true;
                    self.started += 1;
                } else {
                    self.close(side, second);
                    self.sides[side].peer.on_closed(false, ms(now), &mut effects);
                }
            }
            Word::Close if mine => {
                self.sides[side].link = None;
                self.sides[side].peer.on_closed(false, ms(now), &mut effects);
            }
            Word::Beat(_) | Word::Start(_) | Word::Close => {}
        }
        self.perform(side, effects, second);
        Ok(())
    }

    fn hear_all(&mut self, side: usize, second: &Second) -> Result<(), TestCaseError> {
        if second.cut[1 - side] {
            return Ok(());
        }
        // In order on each connection, so the first that is late keeps those behind it waiting.
        let mut late: Vec<u64> = Vec::new();
        let waiting = std::mem::take(&mut self.ways[side]);
        let mut looked_at = VecDeque::new();
        for message in waiting {
            let fresh = self.sides[side].fresh.is_some_and(|(link, ..)| link == message.link);
            if message.arrives > self.now || late.contains(&message.link) || fresh {
                late.push(message.link);
                looked_at.push_back(message);
            } else {
                self.hear(side, message, second)?;
                self.up(side, second);
            }
        }
        looked_at.append(&mut self.ways[side]);
        self.ways[side] = looked_at;
        Ok(())
    }

    fn tick(&mut self, side: usize, second: &Second) {
        let (now, mut effects) = (self.now, Vec::new());
        self.sides[side].overdue = false;
        if let Some(link) = self.sides[side].link {
            let beat = self.sides[side].peer.beat(ms(now));
            self.send(side, link, Word::Beat(beat), second);
        }
        self.sides[side].peer.on_tick(None, ms(now), &mut effects);
        // The owner is judged first: what it says now must be true before the other acts.
        self.perform(side, effects, second);
        if self.sides[side].link.is_none() && self.sides[side].lost > 0 {
            // Somebody still wants it.
            let mut effects = Vec::new();
            self.sides[side].peer.on_wanted(at(5), Keep::WhileUsed, ms(now), &mut effects);
            self.perform(side, effects, second);
        }
    }

    fn dial(&mut self, side: usize, second: &Second) {
        let (now, mut effects) = (self.now, Vec::new());
        if let Some((_, since)) = self.sides[side].dialling
            && now >= since + DIAL_TIME
        {
            self.sides[side].dialling = None;
            self.sides[side].peer.on_dial_failed(ReachStep::Connect, ms(now), &mut effects);
        }
        self.perform(side, effects, second);
        let side_now = &mut self.sides[side];
        if side_now.dial_at.is_some_and(|dial| now >= dial) && side_now.dialling.is_none() {
            side_now.dial_at = None;
            if side_now.link.is_none() {
                self.links += 1;
                side_now.dialling = Some((self.links, now));
                let link = self.links;
                self.send(side, link, Word::Hello, second);
            }
        }
    }

    /// One step of one side. Afterwards the promise is looked at.
    fn step(&mut self, side: usize, second: &Second) -> Result<(), TestCaseError> {
        if second.frozen[side] {
            self.sides[side].overdue = true;
            return Ok(());
        }
        let lost = self.sides[0].lost;
        let ticks = self.now % 1_000 == 300 * side as u64 || self.sides[side].overdue;
        if ticks && second.tick_first {
            self.tick(side, second);
        }
        if second.breaks[side] && self.now.is_multiple_of(1_000) && self.sides[side].link.is_some()
        {
            let mut effects = Vec::new();
            self.close(side, second);
            self.sides[side].peer.on_closed(false, ms(self.now), &mut effects);
            self.perform(side, effects, second);
        }
        self.up(side, second);
        self.dial(side, second);
        self.hear_all(side, second)?;
        if ticks && !second.tick_first {
            self.tick(side, second);
        }
        if self.sides[0].lost > lost && self.sides[1].runs {
            let margin = limits::LOST_AFTER - limits::LEASE;
            let over = self.sides[1].peer.lease_until().map(|until| until + margin);
            let over = over.is_some_and(|over| over <= ms(self.now));
            prop_assert!(over, "lost while the lease runs, at {} ms", self.now);
            // Who is frozen says nothing, and notices as soon as it is not any more.
            let frozen = second.frozen[1] || self.sides[1].overdue;
            prop_assert!(frozen, "lost while the child runs, at {} ms", self.now);
        }
        Ok(())
    }

    fn run(&mut self, seconds: &[Second]) -> Result<(), TestCaseError> {
        for (index, second) in (0u64..).zip(seconds) {
            for step in 0..1_000 / STEP {
                self.now = index * 1_000 + step * STEP;
                self.step(0, second)?;
                self.step(1, second)?;
            }
        }
        Ok(())
    }
}

const GOOD: Second = Second {
    cut: [false; 2],
    frozen: [false; 2],
    breaks: [false; 2],
    delay: [10; 2],
    lag: 0,
    tick_first: true,
};

/// Stretches of seconds that are alike, since what matters takes several.
fn seconds() -> impl Strategy<Value = Vec<Second>> {
    let side = || prop::array::uniform2(prop::bool::weighted(0.3));
    let rare = || prop::array::uniform2(prop::bool::weighted(0.1));
    let delay = prop::array::uniform2(prop_oneof![4 => 0..50_u64, 1 => 0..4_000_u64]);
    let lag = prop_oneof![4 => Just(0), 1 => 0..3_000_u64];
    let second = (side(), rare(), rare(), delay, lag, any::<bool>());
    let second = second.prop_map(|(cut, frozen, breaks, delay, lag, tick_first)| Second {
        cut,
        frozen,
        breaks,
        delay,
        lag,
        tick_first,
    });
    let stretch = (second, 1..16_usize).prop_map(|(second, long)| vec![second; long]);
    prop::collection::vec(stretch, 8..20).prop_map(|stretches| {
        let mut seconds = vec![GOOD; 2];
        seconds.extend(stretches.into_iter().flatten());
        seconds.truncate(SECONDS);
        seconds
    })
}

#[test]
fn over_a_good_network_a_lease_never_ends() {
    let mut world = World::new();
    world.run(&vec![GOOD; SECONDS]).unwrap();
    assert_eq!((world.started, world.sides[0].lost, world.sides[1].runs), (1, 0, true));
}

#[test]
fn a_child_ends_before_its_owner_says_lost_also_when_only_its_own_words_are_cut_off() {
    let mut world = World::new();
    let deaf = Second { cut: [false, true], ..GOOD };
    world.run(&[vec![GOOD; 2], vec![deaf; 20]].concat()).unwrap();
    assert_eq!((world.started, world.sides[0].lost, world.sides[1].runs), (1, 1, false));
}

#[test]
fn a_network_that_comes_back_within_some_seconds_ends_nothing() {
    for cut in [[true, false], [false, true], [true, true]] {
        let mut world = World::new();
        let bad = Second { cut, ..GOOD };
        let seconds = [vec![GOOD; 3], vec![bad; 5], vec![GOOD; 5]].concat();
        world.run(&seconds).unwrap();
        assert_eq!((world.started, world.sides[0].lost, world.sides[1].runs), (1, 0, true));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever is cut, slow or frozen: when the owner says lost, the lease was over before.
    #[test]
    fn an_owner_says_lost_only_after_the_lease_is_over(seconds in seconds()) {
        World::new().run(&seconds)?;
    }
}
