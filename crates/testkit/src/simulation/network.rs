//! What happens to the network and to wall clocks.

use std::time::Duration;

use tokio::time::Instant;

use crate::simulation::client::Odd;
use crate::simulation::{Broken, Simulation};

impl Simulation<'_> {
    pub(super) fn partition(&mut self) -> String {
        let (one, other) = self.pair();
        self.cluster.partition(one, other);
        for way in [(one, other), (other, one)] {
            self.sight.cuts.entry(way).or_insert_with(Instant::now);
        }
        format!("node{one} and node{other} are parted")
    }

    pub(super) fn partition_one_way(&mut self) -> String {
        let (from, to) = self.pair();
        self.cluster.partition_one_way(from, to);
        self.sight.cuts.entry((from, to)).or_insert_with(Instant::now);
        format!("node{to} does not hear node{from}")
    }

    pub(super) fn heal(&mut self) -> String {
        let cut: Vec<(usize, usize)> = self.sight.cuts.keys().copied().collect();
        let Some((one, other)) = self.chance.pick(&cut).copied() else { return "nothing".into() };
        self.rejoin(one, other);
        format!("node{one} and node{other} are healed")
    }

    /// Two nodes lose and find each other several times.
    pub(super) async fn flap(&mut self) -> Result<String, Broken> {
        let (one, other) = self.pair();
        for _ in 0..self.count(5).get() {
            self.cluster.partition(one, other);
            let apart = self.millis(0, 4_000);
            self.cluster.advance(apart).await;
            self.rejoin(one, other);
            let together = self.millis(0, 1_000);
            self.cluster.advance(together).await;
        }
        Ok(format!("node{one} and node{other} lose each other again and again"))
    }

    pub(super) fn rejoin(&mut self, one: usize, other: usize) {
        self.cluster.heal(one, other);
        self.sight.cuts.remove(&(one, other));
        self.sight.cuts.remove(&(other, one));
    }

    pub(super) fn change_weather(&mut self) -> String {
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

    /// A node's wall clock is set anew, forwards or backwards.
    pub(super) async fn set_clock(&mut self) -> Result<String, Broken> {
        // What ended so far is judged by the clock that stamped it.
        self.check().await?;
        let number = self.pair().0;
        let most = match self.chance.below(4) {
            0 => 0,
            1 => 2_000,
            2 => 60_000,
            _ => 3_600_000,
        };
        let ahead = self.millis(0, most);
        self.cluster.set_clock(number, ahead).map_err(|error| Odd(error.to_string()))?;
        Ok(format!("the wall clock of node{number} is set {ahead:?} ahead"))
    }
}
