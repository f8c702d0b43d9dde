//! The end of a run: everything is healed, everything ends, and everything is received.

use std::time::Duration;

use sortie_model::spec::StopSpec;
use sortie_wire::session_proto::{Answer, Ask};

use crate::simulation::client::{self, Odd, Reading};
use crate::simulation::family::Told;
use crate::simulation::{Broken, Promise, Simulation};

/// Virtual time in which nodes find each other again.
const CALM: Duration = Duration::from_secs(40);
/// Virtual time in which what was stopped ends: the longest grace, for each child of the longest
/// job that is stopped in order, and a lease for what is lost.
const ENDS_WITHIN: Duration = Duration::from_secs(120);

impl Simulation<'_> {
    pub(super) async fn finale(&mut self) -> Result<(), Broken> {
        self.trace.push("the end: all is healed".to_owned());
        self.set_weather(Duration::ZERO, 0.0);
        while let Some((one, other)) = self.sight.cuts.keys().next().copied() {
            self.rejoin(one, other);
        }
        while self.up().len() < self.cluster.len() {
            self.restart().await?;
        }
        self.sight.feeders.clear();
        while !self.sight.temporaries.is_empty() {
            self.end_temporary();
        }
        self.let_pass(CALM).await?;
        for number in self.up() {
            self.tell_all(number, Told::Perhaps);
            let ask = Ask::Stop {
                selection: client::select("all")?,
                how: StopSpec::default(),
                wait: false,
            };
            match client::ask(self.node(number)?, ask).await? {
                Answer::Entries(_) => {}
                other => return Err(Odd(format!("a stop is answered with {other:?}")).into()),
            }
        }
        self.come_to_rest().await?;
        (1..=self.cluster.len()).for_each(|number| self.tell_all(number, Told::Yes));
        self.let_pass(ENDS_WITHIN).await?;
        for number in self.up() {
            self.everything_ended(number)?;
            self.everything_is_received(number).await?;
        }
        Ok(())
    }

    async fn let_pass(&mut self, time: Duration) -> Result<(), Broken> {
        self.cluster.advance(time).await;
        self.audit().await?;
        self.check().await.map(|_| ())
    }

    fn tell_all(&mut self, number: usize, told: Told) {
        let Some(node) = self.sight.node_mut(number) else { return };
        node.jobs.values_mut().for_each(|job| job.family.tell(None, told));
    }

    fn everything_ended(&self, number: usize) -> Result<(), Broken> {
        let Some(node) = self.sight.node(number) else { return Ok(()) };
        for child in node.jobs.values().flat_map(|job| job.children.values()) {
            let unfinished = child.view.as_ref().filter(|view| !view.state.is_finished());
            if let Some(view) = unfinished {
                let text = format!("node{number}, child {} is {:?} for ever", view.id, view.state);
                return Err(Broken(Promise::P2, text));
            }
        }
        Ok(())
    }

    async fn everything_is_received(&mut self, number: usize) -> Result<(), Broken> {
        let all = client::select("all")?;
        let received = client::receive(self.node(number)?, all, Reading::Takes).await?;
        self.take_in(number, &received)?;
        let Some(node) = self.sight.node(number) else { return Ok(()) };
        for (id, child) in node.jobs.values().flat_map(|job| &job.children) {
            let (stored, taken) = (child.log.len() as u64, child.taken);
            if stored != taken || child.stored.is_some_and(|stored| stored != taken) {
                let text = format!("node{number}, child {id}: {taken} of {stored} were taken");
                return Err(Broken(Promise::P4, text));
            }
        }
        Ok(())
    }
}
