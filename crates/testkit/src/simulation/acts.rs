//! The random operations: what clients do, and what happens to nodes.

use std::time::Duration;

use sortie_model::EntryId;
use sortie_model::spec::{StopSpec, Throttle};
use sortie_wire::session_proto::{Answer, Ask, WaitCount, WaitSpec};
use tokio::time::Instant;

use crate::simulation::client::{self, Batch, Odd, Reading};
use crate::simulation::family::Told;
use crate::simulation::{Acts, Broken, Simulation};

impl Simulation<'_> {
    /// Does one operation, and says what it was.
    pub(super) async fn act(&mut self) -> Result<String, Broken> {
        let Some(number) = self.pick_up() else { return self.restart().await };
        let kinds = match self.acts {
            Acts::Usual => 106,
            Acts::Rough => 110,
        };
        match self.chance.below(kinds) {
            0..22 => self.start(number).await,
            22..24 => self.start_temporarily(number).await,
            24..29 => self.start_again(number).await,
            29..31 => self.follow(number),
            31 => self.watch(number).await,
            32..42 => self.stop(number).await,
            42..50 => self.receive(number, Reading::Takes).await,
            50..52 => self.receive_both(number).await,
            52..57 => self.receive(number, Reading::Keeps).await,
            57..63 => self.receive_and_die(number).await,
            63..66 => self.wait(number).await,
            66 => Ok(self.end_temporary()),
            67..75 => self.remove(number).await,
            75..78 => self.throttle(number).await,
            78..80 => self.look(number).await,
            80..84 => self.feed().await,
            84..86 => self.kill(number).await,
            86..91 => self.restart().await,
            91..94 => Ok(self.partition()),
            94..96 => Ok(self.partition_one_way()),
            96..102 => Ok(self.heal()),
            102..106 => Ok(self.change_weather()),
            106..108 => self.flap().await,
            _ => self.set_clock().await,
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
    pub(super) fn pair(&mut self) -> (usize, usize) {
        let nodes = self.cluster.len() as u64;
        let one = self.chance.below(nodes);
        let other = (one + 1 + self.chance.below(nodes.saturating_sub(1))) % nodes.max(1);
        (one as usize + 1, other as usize + 1)
    }

    pub(super) fn millis(&mut self, least: u64, most: u64) -> Duration {
        self.chance.duration(Duration::from_millis(least)..=Duration::from_millis(most))
    }

    /// The number of a job of the node, if it has one.
    pub(super) fn pick_job(&mut self, number: usize) -> Option<EntryId> {
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

    async fn stop(&mut self, number: usize) -> Result<String, Broken> {
        let Some(id) = self.pick_entry(number) else { return Ok("nothing".to_owned()) };
        let how = match self.chance.below(3) {
            0 => StopSpec::NOW,
            1 => StopSpec::default(),
            _ => StopSpec { grace: Some(self.millis(0, 2_000)), ..StopSpec::default() },
        };
        let supervised = self.tell(number, id, Told::Perhaps)?;
        if how.grace == Some(Duration::ZERO) {
            self.at_once(number, id);
        }
        let wait = self.chance.one_in(4) && !supervised;
        let selection = client::select(&id.to_string())?;
        let said = format!("node{number} stops {id} {:?} wait {wait}", how.grace);
        match client::ask(self.node(number)?, Ask::Stop { selection, how, wait }).await? {
            Answer::Entries(_) => {}
            other => return Err(Odd(format!("{said}: {other:?}")).into()),
        }
        if supervised {
            self.come_to_rest().await?;
        }
        self.tell(number, id, Told::Yes)?;
        Ok(said)
    }

    /// Somebody stops a job or a child. Says whether its children may start again.
    fn tell(&mut self, number: usize, id: EntryId, told: Told) -> Result<bool, Broken> {
        self.listen()?;
        let node = self.sight.node_mut(number);
        let Some((job, child)) = node.and_then(|node| node.job_of(id)) else { return Ok(false) };
        job.family.tell(child, told);
        Ok(job.is_supervised())
    }

    fn at_once(&mut self, number: usize, id: EntryId) {
        if let Some((job, None)) = self.sight.node_mut(number).and_then(|node| node.job_of(id)) {
            job.family.tell_at_once();
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

    /// Two readers take at once: each record goes to one of them.
    async fn receive_both(&mut self, number: usize) -> Result<String, Broken> {
        let entry = self.pick_entry(number);
        let word = entry.map_or_else(|| "all".to_owned(), |id| id.to_string());
        let (node, selection) = (self.node(number)?, client::select(&word)?);
        let (one, other) = tokio::join!(
            client::receive(node, selection.clone(), Reading::Takes),
            client::receive(node, selection, Reading::Takes),
        );
        let (mut both, other) = (one?, other?);
        both.batches.extend(other.batches);
        let first = |batch: &Batch| batch.records.first().map(|record| record.seq.0);
        both.batches.sort_by_key(|batch| (batch.source.child, first(batch)));
        let records = self.take_in(number, &both)?;
        Ok(format!("node{number} receives {word} twice at once: {records} records"))
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
                self.come_to_rest().await?;
                let job = self.sight.node_mut(number).and_then(|node| node.job_of(id));
                if let (Some((job, child)), false) = (job, timed_out) {
                    job.family.claim(child);
                }
                Ok(format!("{said}: timed out {timed_out}"))
            }
            other => Err(Odd(format!("{said}: {other:?}")).into()),
        }
    }

    pub(super) async fn remove(&mut self, number: usize) -> Result<String, Broken> {
        let Some(id) = self.pick_job(number) else { return Ok("nothing".to_owned()) };
        let (selection, force) = (client::select(&id.to_string())?, self.chance.one_in(3));
        let ask = Ask::Remove { selection, force };
        let said = format!("node{number} removes {id} force {force}");
        if force {
            self.tell(number, id, Told::Perhaps)?;
        }
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
        let throttle = match self.chance.below(6) {
            0 => Throttle::Unlimited,
            1 => Throttle::default(),
            _ => Throttle::AtMost(self.count(5)),
        };
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
            node.watcher = None;
        }
        self.listeners.forget(number);
        self.sight.temporaries.retain(|(node, ..)| *node != number);
        self.sight.feeders.retain(|(node, ..)| *node != number);
        Ok(format!("node{number} is killed"))
    }

    /// Starts a node again that was killed.
    pub(super) async fn restart(&mut self) -> Result<String, Broken> {
        let all = 1..=self.cluster.len();
        let down: Vec<usize> = all.filter(|n| self.cluster.is_up(*n) == Some(false)).collect();
        let Some(number) = self.chance.pick(&down).copied() else { return Ok("nothing".into()) };
        self.cluster.restart(number).await.map_err(|error| Odd(error.to_string()))?;
        self.watch_all(number)?;
        Ok(format!("node{number} is started again"))
    }
}
