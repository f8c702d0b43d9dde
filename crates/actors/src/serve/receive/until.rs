//! A receive that goes on until its entries are settled.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use sortie_engine::receive::{Candidates, Part};
use sortie_engine::wait::{Course, Until, course};
use sortie_model::record::StreamSet;
use sortie_model::{EntryId, Ordinal, Question, State, limits};
use sortie_wire::session_proto::{Delivery, ReceiveMode, ReceiveSpec, WaitCount};
use tokio::time::Instant;

use super::queue::Queue;
use super::room::LOOK;
use super::target::Target;
use super::{Broken, Receive, check};
use crate::data::exchange::ToClient;
use crate::data::window::Child;
use crate::serve::wait::Watched;

/// Batches after which the states are looked at again, however much there is to deliver.
const BATCHES_AT_ONCE: usize = 64;
/// Delivers what is there and what comes, in order of arrival. Answers the place of the entry that
/// is blocked, if that is why it ends.
pub(super) async fn deliver(
    receive: &mut Receive<'_>,
    mut watched: Watched,
    (until, spec): (Until, &ReceiveSpec),
) -> Result<Option<usize>, Broken> {
    let stay = receive.stay;
    let mut changes = stay.session().changes();
    let mut flow = Flow::new(receive);
    if let Some(count) = spec.tail {
        flow.start_at_tails(count).await?;
    }
    let mut patience = Patience::of(spec);
    loop {
        // Marked as seen before the states are read, and these before the mailboxes: a state can be
        // seen only when all output before it is stored, so what it ends is found below.
        changes.mark();
        let not_back = flow.receive.children_not_back();
        flow.receive.room.set_not_back(not_back);
        watched.look();
        let course = match course(&watched.states, WaitCount::All, until) {
            Course::Blocked(_) if spec.answers => Course::Waiting,
            course => course,
        };
        let news = if spec.events { flow.news(until) } else { Vec::new() };
        let asked = if spec.answers { flow.questions() } else { Vec::new() };
        flow.receive.window.check()?;
        check(stay)?;
        if course != Course::Waiting {
            flow.look_at_all();
        }
        let drained = flow.drain().await?;
        flow.ask(asked).await?;
        flow.tell(news).await?;
        match course {
            _ if !drained => {}
            Course::Over => {
                if !flow.is_elsewhere(&mut patience).await? {
                    return Ok(None);
                }
            }
            Course::Blocked(place) => return Ok(Some(place)),
            Course::Waiting => {
                flow.receive.outlet.flush().await?;
                tokio::select! {
                    biased;
                    () = changes.changed() => {}
                    Some(place) = flow.waits.next() => flow.fired(place),
                }
            }
        }
    }
}

/// For how long a receive that takes everything waits at its end for what another reader has in
/// hand: that one may be dead, and then it comes here.
enum Patience {
    /// Not at all: it reads only, or does not take everything.
    None,
    Whole,
    Until(Instant),
}

impl Patience {
    fn of(spec: &ReceiveSpec) -> Self {
        let takes = matches!(spec.mode, ReceiveMode::TakeUntil { .. });
        if takes && spec.streams == StreamSet::ALL { Self::Whole } else { Self::None }
    }
}

/// The targets of a receive, and what is to be looked at next.
struct Flow<'r, 'a> {
    receive: &'r mut Receive<'a>,
    queues: Vec<Queue>,
    /// Targets that may have something, in turn.
    turn: VecDeque<usize>,
    /// The news of the other ones.
    waits: FuturesUnordered<BoxFuture<'static, usize>>,
}

/// What settled in one target: its children, then itself.
struct News {
    place: usize,
    children: Vec<(Ordinal, State)>,
    job: Option<State>,
}

impl<'r, 'a> Flow<'r, 'a> {
    fn new(receive: &'r mut Receive<'a>) -> Self {
        let queues = receive.targets.iter().map(Queue::new);
        let queues: Vec<_> = queues.collect();
        let turn = (0..queues.len()).collect();
        Self { receive, queues, turn, waits: FuturesUnordered::new() }
    }

    async fn start_at_tails(&mut self, count: u32) -> Result<(), Broken> {
        for place in 0..self.queues.len() {
            let next = |this: &Self, from: Ordinal| {
                this.receive.targets.get(place)?.next_unread(from, Ordinal(u32::MAX))
            };
            let mut found = next(self, Ordinal(0));
            while let Some(ordinal) = found {
                self.receive.start_at_tail((place, ordinal), count).await?;
                found = next(self, Ordinal(ordinal.0.saturating_add(1)));
            }
        }
        Ok(())
    }

    /// Delivers what is there, a batch of each child in turn. False when it broke off.
    async fn drain(&mut self) -> Result<bool, Broken> {
        while let Some(Some(place)) = self.waits.next().now_or_never() {
            self.fired(place);
        }
        for _ in 0..BATCHES_AT_ONCE {
            let Some(place) = self.turn.pop_front() else { return Ok(true) };
            let Some((version, ordinal)) = self.next_child(place) else { continue };
            let Some(ordinal) = ordinal else {
                self.rest(place, version);
                continue;
            };
            let delivered = self.receive.deliver((place, ordinal)).await?;
            if let Some(queue) = self.queues.get_mut(place).filter(|_| delivered.more) {
                queue.put(ordinal);
            }
            self.turn.push_back(place);
        }
        Ok(false)
    }

    /// The next child of a target, and the version of its mailboxes from before the look.
    fn next_child(&mut self, place: usize) -> Option<(u64, Option<Ordinal>)> {
        let target = self.receive.targets.get(place)?;
        let queue = self.queues.get_mut(place)?;
        let mut version = target.job.mailboxes.version();
        while let Some(ordinal) = queue.lookout.next_child(&mut version) {
            if target.wants(ordinal) {
                queue.put(ordinal);
                break;
            }
        }
        Some((version, queue.take()))
    }

    /// The target has nothing; it comes back when that changes.
    fn rest(&mut self, place: usize, version: u64) {
        let (Some(queue), Some(target)) =
            (self.queues.get_mut(place), self.receive.targets.get(place))
        else {
            return;
        };
        queue.in_turn = false;
        let mailboxes = Arc::clone(&target.job.mailboxes);
        if !queue.waits && !mailboxes.is_removed() {
            queue.waits = true;
            self.waits.push(Box::pin(async move {
                mailboxes.changed(version).await;
                place
            }));
        }
    }

    /// A target's mailboxes changed.
    fn fired(&mut self, place: usize) {
        if let Some(queue) = self.queues.get_mut(place) {
            queue.waits = false;
        }
        self.look_at(place);
    }

    /// Everything was delivered that is not in another reader's hand, or has yet to come back from
    /// the disk. Says whether something is, and was waited for: it may be here now.
    async fn is_elsewhere(&mut self, patience: &mut Patience) -> Result<bool, Broken> {
        if !self.receive.room.is_all_back() {
            // What is back since the look may be behind what was delivered.
            let is_back = self.receive.children_not_back().is_empty();
            return Ok(is_back || self.receive.waits_for_room().await?);
        }
        let until = match patience {
            Patience::None => return Ok(false),
            Patience::Until(until) => *until,
            Patience::Whole => Instant::now() + limits::LOST_AFTER,
        };
        let there = self.receive.targets.iter().filter(|it| !it.job.mailboxes.is_removed());
        let unread: u64 = there.map(Target::unread).sum();
        // What the reader itself has not confirmed may be all.
        if unread <= self.receive.window.records() || Instant::now() >= until {
            return Ok(false);
        }
        self.receive.outlet.flush().await?;
        *patience = Patience::Until(until);
        tokio::time::sleep(LOOK).await;
        Ok(true)
    }

    fn look_at_all(&mut self) {
        // Also where a look is under way: what it has passed may have got something since.
        self.queues.iter_mut().for_each(|queue| queue.lookout.begin_again());
        (0..self.queues.len()).for_each(|place| self.look_at(place));
    }

    fn look_at(&mut self, place: usize) {
        if let Some(queue) = self.queues.get_mut(place).filter(|queue| !queue.in_turn) {
            queue.in_turn = true;
            queue.lookout.begin_again();
            self.turn.push_back(place);
        }
    }

    /// What is asked and was not told so far.
    fn questions(&mut self) -> Vec<(Child, Question)> {
        let targets = self.receive.targets.iter().zip(&mut self.queues).enumerate();
        let asked = targets.flat_map(|(place, (target, queue))| {
            let rows = target.job.rows();
            let open = rows.asking().filter(|(ordinal, _)| target.wants_of(&rows, *ordinal));
            let open = open.filter_map(|(ordinal, _)| Some((ordinal, rows.question(ordinal)?)));
            let new = open.filter(|(ordinal, question)| queue.asked.is_new(*ordinal, question));
            new.map(|(ordinal, question)| ((place, ordinal), question)).collect::<Vec<_>>()
        });
        asked.collect()
    }

    /// Says what is asked, each question behind the records before it.
    async fn ask(&mut self, asked: Vec<(Child, Question)>) -> Result<(), Broken> {
        for ((place, ordinal), question) in asked {
            let source = self.receive.targets.get(place).and_then(|it| it.source(ordinal));
            let Some(source) = source else { continue };
            while self.receive.deliver((place, ordinal)).await?.more {}
            let delivery = Delivery::Asked { source, question };
            self.receive.outlet.push(ToClient::Delivery(delivery)).await?;
        }
        Ok(())
    }

    /// What has settled since the last look, and of which all was back then.
    fn news(&mut self, until: Until) -> Vec<News> {
        let room = &self.receive.room;
        let targets = self.receive.targets.iter().zip(&mut self.queues).enumerate();
        let news = targets.map(|(place, (target, queue))| {
            let rows = target.job.rows();
            let state = |ordinal| rows.awaited_state(ordinal);
            let over = until.is_met_by(rows.state());
            let met = match until {
                _ if over => u64::MAX,
                Until::Settled => rows.counts().settled(),
                Until::Finished => rows.counts().finished(),
            };
            let candidates = match &target.part {
                Part::Whole => Candidates::All { children: rows.children(), met },
                Part::Children(some) => Candidates::Some(some),
            };
            let not_back = room.not_back(place);
            let children = queue.told.children((candidates, &not_back), until, state);
            let whole = target.part == Part::Whole;
            let job = whole.then(|| queue.told.parent(rows.state(), until, &not_back)).flatten();
            News { place, children, job }
        });
        news.filter(|news| !news.children.is_empty() || news.job.is_some()).collect()
    }

    /// Says what settled, each child behind its last record.
    async fn tell(&mut self, news: Vec<News>) -> Result<(), Broken> {
        for News { place, children, job } in news {
            for (ordinal, state) in children {
                let Some(target) = self.receive.targets.get(place) else { continue };
                let Some(source) = target.source(ordinal).filter(|_| target.wants(ordinal)) else {
                    continue;
                };
                while self.receive.deliver((place, ordinal)).await?.more {}
                self.settled(source.child, state).await?;
            }
            let id = self.receive.targets.get(place).map(|target| target.job.identity.id);
            if let (Some(id), Some(state)) = (id, job) {
                self.settled(id, state).await?;
            }
        }
        Ok(())
    }

    async fn settled(&mut self, id: EntryId, state: State) -> Result<(), Broken> {
        let delivery = Delivery::Settled { id, state };
        Ok(self.receive.outlet.push(ToClient::Delivery(delivery)).await?)
    }
}
