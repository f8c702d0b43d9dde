//! The random operations: what clients do, and what happens to nodes and network.

use std::num::NonZeroU32;
use std::time::Duration;

use sortie_exec::task::encode_value;
use sortie_model::spec::{BodySpec, Fan, MaxFails, Placement, RunIn, StopSpec, Throttle};
use sortie_model::{EntryId, IdempotencyKey, JobSpec};
use sortie_wire::session_proto::{Answer, Ask, Request, SessionRef, WaitCount, WaitSpec};
use tokio::time::Instant;

use crate::simulation::client::{self, Input, Odd, Reading};
use crate::simulation::ledger::{Ending, Plan, TASK};
use crate::simulation::seen::JobSeen;
use crate::simulation::{Broken, Promise, Simulation};

/// Jobs that a node is given before some are removed.
const JOBS: usize = 12;

impl Simulation<'_> {
    /// Does one operation, and says what it was.
    pub(super) async fn act(&mut self) -> Result<String, Broken> {
        let Some(number) = self.pick_up() else { return self.restart().await };
        match self.chance.below(100) {
            0..24 => self.start(number).await,
            24..26 => self.start_temporarily(number).await,
            26..31 => self.start_again(number).await,
            31..42 => self.stop(number).await,
            42..52 => self.receive(number, Reading::Takes).await,
            52..57 => self.receive(number, Reading::Keeps).await,
            57..63 => self.receive_and_die(number).await,
            63..66 => self.wait(number).await,
            66 => Ok(self.end_temporary()),
            67..75 => self.remove(number).await,
            75..77 => self.throttle(number).await,
            77..79 => self.look(number).await,
            79..81 => self.kill(number).await,
            81..86 => self.restart().await,
            86..89 => Ok(self.partition()),
            89..91 => Ok(self.partition_one_way()),
            91..97 => Ok(self.heal()),
            _ => Ok(self.change_weather()),
        }
    }

    fn pick_up(&mut self) -> Option<usize> {
        let up: Vec<usize> = self.up();
        self.chance.pick(&up).copied()
    }

    /// The nodes that are up.
    pub(super) fn up(&self) -> Vec<usize> {
        let all = 1..=self.cluster.len();
        all.filter(|number| self.cluster.is_up(*number) == Some(true)).collect()
    }

    /// Two nodes.
    fn pair(&mut self) -> (usize, usize) {
        let nodes = self.cluster.len() as u64;
        let one = self.chance.below(nodes);
        let other = (one + 1 + self.chance.below(nodes.saturating_sub(1))) % nodes.max(1);
        (one as usize + 1, other as usize + 1)
    }

    fn millis(&mut self, least: u64, most: u64) -> Duration {
        self.chance.duration(Duration::from_millis(least)..=Duration::from_millis(most))
    }

    /// The number of a job of the node, if it has one.
    fn pick_job(&mut self, number: usize) -> Option<EntryId> {
        let ids: Vec<EntryId> = self.sight.node(number)?.jobs.keys().copied().collect();
        self.chance.pick(&ids).copied()
    }

    /// The number of a job or of a child.
    fn pick_entry(&mut self, number: usize) -> Option<EntryId> {
        let job = self.pick_job(number)?;
        if !self.chance.one_in(3) {
            return Some(job);
        }
        let children = &self.sight.node(number)?.jobs.get(&job)?.children;
        let ids: Vec<EntryId> = children.keys().copied().collect();
        self.chance.pick(&ids).copied()
    }

    fn plan(&mut self) -> Plan {
        self.sight.tags += 1;
        let ending = match self.chance.below(10) {
            0..5 => Ending::Completes,
            5 => Ending::Fails,
            6 => Ending::Panics,
            7..9 => Ending::Waits,
            _ => Ending::Ignores,
        };
        let most = if self.chance.one_in(8) { 60 } else { 6 };
        let values = self.chance.below(most) as u32;
        let longest = if self.chance.one_in(4) { 4_000 } else { 300 };
        Plan { tag: self.sight.tags, values, pause: self.millis(0, longest), ending }
    }

    fn placement(&mut self) -> Result<Placement, Odd> {
        let nodes = self.cluster.len();
        let on = match self.chance.below(4) {
            0 => return Ok(Placement::Here),
            1 => format!("node{}", self.pair().0),
            2 => {
                let (one, other) = self.pair();
                format!("node{one},node{other}")
            }
            _ => format!("node[1-{nodes}]"),
        };
        let on = on.parse().map_err(|error| Odd(format!("{on}: {error}")))?;
        Ok(Placement::Nodes { on, exclude: None })
    }

    fn spec(&mut self, plan: Plan) -> Result<(JobSpec, Input), Odd> {
        let input = encode_value(&plan.travelling()).map_err(|error| Odd(error.to_string()))?;
        let body = BodySpec::Task {
            name: TASK.to_owned(),
            input: input.clone(),
            types: None,
            run_in: RunIn::Thread,
        };
        let mut spec = JobSpec::new(TASK, body);
        spec.placement = self.placement()?;
        spec.grace = self.millis(0, 3_000);
        spec.connect_timeout = self.millis(500, 6_000);
        spec.throttle = match self.chance.below(3) {
            0 => Throttle::default(),
            1 => Throttle::Unlimited,
            _ => Throttle::AtMost(self.count(4)),
        };
        if self.chance.one_in(8) {
            spec.timeout = Some(self.millis(100, 5_000));
        }
        if self.chance.one_in(8) {
            spec.max_fails = MaxFails::Count(self.chance.below(2) as u32);
        }
        if !self.chance.one_in(3) {
            spec.fan = Fan::PerNode { copies: self.count(3) };
            return Ok((spec, Input::None));
        }
        spec.fan = if self.chance.one_in(3) { Fan::Each } else { Fan::Spread };
        let items = vec![input.to_vec(); self.chance.below(7) as usize];
        let whole = !self.chance.one_in(6);
        Ok((spec, if whole { Input::Whole(items) } else { Input::CutOff(items) }))
    }

    /// 1 to `most`.
    fn count(&mut self, most: u64) -> NonZeroU32 {
        NonZeroU32::new(self.chance.below(most) as u32 + 1).unwrap_or(NonZeroU32::MIN)
    }

    async fn start(&mut self, number: usize) -> Result<String, Broken> {
        if self.sight.node(number).is_some_and(|node| node.jobs.len() >= JOBS) {
            return self.remove(number).await;
        }
        let plan = self.plan();
        let (spec, input) = self.spec(plan)?;
        let key = key_of(plan.tag)?;
        let life = self.cluster.life(number).map_err(|error| Odd(error.to_string()))?;
        self.sight.owners.insert(plan.tag, life);
        let ask = Ask::Start { key: key.clone(), spec: Box::new(spec.clone()) };
        let started = client::start(self.node(number)?, ask, &input).await?;
        let view = started.map_err(|refusal| Odd(format!("a start is refused: {refusal:?}")))?;
        let expected = matches!(spec.fan, Fan::PerNode { .. }).then(|| view.tally.total());
        let said = format!("node{number} starts {} as tag {}: {:?}", view.id, plan.tag, spec.fan);
        let (tag, children) = (plan.tag, std::collections::BTreeMap::new());
        let job = JobSeen { tag, key, spec, expected, children, end: None };
        if let Some(node) = self.sight.node_mut(number) {
            node.jobs.insert(view.id, job);
        }
        Ok(format!("{said} {:?} {plan:?}", input_words(&input)))
    }

    /// A job in a session that ends with its client.
    async fn start_temporarily(&mut self, number: usize) -> Result<String, Broken> {
        let plan = self.plan();
        let (spec, input) = self.spec(plan)?;
        let key = key_of(plan.tag)?;
        let life = self.cluster.life(number).map_err(|error| Odd(error.to_string()))?;
        self.sight.owners.insert(plan.tag, life);
        let temporary = client::open_temporary(self.node(number)?).await?;
        let session = SessionRef::Instance(temporary.instance);
        let ask = Ask::Start { key, spec: Box::new(spec) };
        let started =
            client::start_in(self.node(number)?, Request { session, ask }, &input).await?;
        started.map_err(|refusal| Odd(format!("a start is refused: {refusal:?}")))?;
        self.sight.temporaries.push((number, plan.tag, temporary));
        Ok(format!("node{number} starts tag {} in a temporary session {plan:?}", plan.tag))
    }

    /// The client of a temporary session goes away.
    pub(super) fn end_temporary(&mut self) -> String {
        let open = self.sight.temporaries.len() as u64;
        if open == 0 {
            return "nothing".to_owned();
        }
        let place = self.chance.below(open) as usize;
        let (number, tag, _ended) = self.sight.temporaries.swap_remove(place);
        self.sight.over.insert(tag, Instant::now());
        format!("node{number} ends the temporary session of tag {tag}")
    }

    /// The same start request once more: the same job.
    async fn start_again(&mut self, number: usize) -> Result<String, Broken> {
        let Some(id) = self.pick_job(number) else { return Ok("nothing".to_owned()) };
        let job = self.sight.node(number).and_then(|node| node.jobs.get(&id));
        let Some(JobSeen { key, spec, .. }) = job else { return Ok("nothing".to_owned()) };
        let ask = Ask::Start { key: key.clone(), spec: Box::new(spec.clone()) };
        let said = format!("node{number} is asked again to start {id}");
        match client::start(self.node(number)?, ask, &Input::None).await? {
            Ok(view) if view.id == id => Ok(said),
            other => Err(Broken(Promise::P1, format!("{said}: {other:?}"))),
        }
    }

    async fn stop(&mut self, number: usize) -> Result<String, Broken> {
        let Some(id) = self.pick_entry(number) else { return Ok("nothing".to_owned()) };
        let how = match self.chance.below(3) {
            0 => StopSpec::NOW,
            1 => StopSpec::default(),
            _ => StopSpec { grace: Some(self.millis(0, 2_000)), ..StopSpec::default() },
        };
        let (wait, selection) = (self.chance.one_in(4), client::select(&id.to_string())?);
        let said = format!("node{number} stops {id} {:?} wait {wait}", how.grace);
        match client::ask(self.node(number)?, Ask::Stop { selection, how, wait }).await? {
            Answer::Entries(_) => Ok(said),
            other => Err(Odd(format!("{said}: {other:?}")).into()),
        }
    }

    async fn receive(&mut self, number: usize, reading: Reading) -> Result<String, Broken> {
        let everything = self.chance.one_in(4);
        let entry = self.pick_entry(number).filter(|_| !everything);
        let word = entry.map_or_else(|| "all".to_owned(), |id| id.to_string());
        let received = client::receive(self.node(number)?, client::select(&word)?, reading).await?;
        let records = self.take_in(number, &received)?;
        Ok(format!("node{number} receives {word} {reading:?}: {records} records"))
    }

    async fn receive_and_die(&mut self, number: usize) -> Result<String, Broken> {
        let deliveries = self.chance.below(3) as u32;
        self.receive(number, Reading::Dies(deliveries)).await
    }

    async fn wait(&mut self, number: usize) -> Result<String, Broken> {
        let Some(id) = self.pick_entry(number) else { return Ok("nothing".to_owned()) };
        let spec = WaitSpec {
            selection: client::select(&id.to_string())?,
            count: WaitCount::All,
            finished: self.chance.one_in(2),
            timeout: Some(self.millis(0, 2_000)),
        };
        let said = format!("node{number} waits for {id}");
        match client::ask(self.node(number)?, Ask::Wait(spec)).await? {
            Answer::Waited { entries, timed_out } => {
                self.compare(number, &entries.entries)?;
                Ok(format!("{said}: timed out {timed_out}"))
            }
            other => Err(Odd(format!("{said}: {other:?}")).into()),
        }
    }

    async fn remove(&mut self, number: usize) -> Result<String, Broken> {
        let Some(id) = self.pick_job(number) else { return Ok("nothing".to_owned()) };
        let (selection, force) = (client::select(&id.to_string())?, self.chance.one_in(3));
        let ask = Ask::Remove { selection, force };
        let said = format!("node{number} removes {id} force {force}");
        match client::ask(self.node(number)?, ask).await? {
            Answer::Entries(entries) => {
                let gone = entries.troubles.is_empty();
                if let (true, Some(node)) = (gone, self.sight.node_mut(number)) {
                    node.jobs.remove(&id);
                }
                Ok(format!("{said}: {gone}"))
            }
            other => Err(Odd(format!("{said}: {other:?}")).into()),
        }
    }

    async fn throttle(&mut self, number: usize) -> Result<String, Broken> {
        let Some(id) = self.pick_job(number) else { return Ok("nothing".to_owned()) };
        let throttle = Throttle::AtMost(self.count(5));
        let selection = client::select(&id.to_string())?;
        client::ask(self.node(number)?, Ask::SetThrottle { selection, throttle }).await?;
        Ok(format!("node{number} throttles {id}: {throttle:?}"))
    }

    async fn kill(&mut self, number: usize) -> Result<String, Broken> {
        let life = self.cluster.life(number).map_err(|error| Odd(error.to_string()))?;
        self.ledger.life_ends(life);
        self.cluster.kill(number).await.map_err(|error| Odd(error.to_string()))?;
        if let Some(node) = self.sight.node_mut(number) {
            node.jobs.clear();
        }
        self.sight.temporaries.retain(|(node, ..)| *node != number);
        Ok(format!("node{number} is killed"))
    }

    /// Starts a node again that was killed.
    pub(super) async fn restart(&mut self) -> Result<String, Broken> {
        let all = 1..=self.cluster.len();
        let down: Vec<usize> = all.filter(|n| self.cluster.is_up(*n) == Some(false)).collect();
        let Some(number) = self.chance.pick(&down).copied() else { return Ok("nothing".into()) };
        self.cluster.restart(number).await.map_err(|error| Odd(error.to_string()))?;
        Ok(format!("node{number} is started again"))
    }

    fn partition(&mut self) -> String {
        let (one, other) = self.pair();
        self.cluster.partition(one, other);
        for way in [(one, other), (other, one)] {
            self.sight.cuts.entry(way).or_insert_with(Instant::now);
        }
        format!("node{one} and node{other} are parted")
    }

    fn partition_one_way(&mut self) -> String {
        let (from, to) = self.pair();
        self.cluster.partition_one_way(from, to);
        self.sight.cuts.entry((from, to)).or_insert_with(Instant::now);
        format!("node{to} does not hear node{from}")
    }

    fn heal(&mut self) -> String {
        let cut: Vec<(usize, usize)> = self.sight.cuts.keys().copied().collect();
        let Some((one, other)) = self.chance.pick(&cut).copied() else { return "nothing".into() };
        self.rejoin(one, other);
        format!("node{one} and node{other} are healed")
    }

    pub(super) fn rejoin(&mut self, one: usize, other: usize) {
        self.cluster.heal(one, other);
        self.sight.cuts.remove(&(one, other));
        self.sight.cuts.remove(&(other, one));
    }

    fn change_weather(&mut self) -> String {
        let most = match self.chance.below(4) {
            0 => Duration::ZERO,
            1 => Duration::from_millis(5),
            2 => Duration::from_millis(200),
            _ => Duration::from_millis(1_500),
        };
        let loss = match self.chance.below(4) {
            0 => 0.05,
            1 => 0.3,
            _ => 0.0,
        };
        self.set_weather(most, loss);
        format!("packets take up to {most:?}, {loss} of them are dropped")
    }

    pub(super) fn set_weather(&mut self, most: Duration, loss: f64) {
        // What is on its way arrives as it was decided before.
        let late = Instant::now() + self.sight.latest;
        self.sight.settled = Some(self.sight.settled.map_or(late, |known| known.max(late)));
        self.sight.latest =
            if loss > 0.0 { sortie_model::limits::LINK_IDLE } else { most.saturating_mul(2) };
        self.cluster.delay(most / 4..=most);
        self.cluster.drop(loss);
    }
}

fn key_of(tag: u64) -> Result<IdempotencyKey, Odd> {
    IdempotencyKey::try_from(format!("key{tag}")).map_err(|error| Odd(error.to_string()))
}

fn input_words(input: &Input) -> String {
    match input {
        Input::None => "no input".to_owned(),
        Input::Whole(items) => format!("{} items", items.len()),
        Input::CutOff(items) => format!("{} items and no end", items.len()),
    }
}
