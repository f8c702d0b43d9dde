//! Watchers of ends, which live beside the operations: all that happens on a node, what happens to
//! one job, and how its entries settle.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sortie_actors::NodeHandle;
use sortie_actors::data::exchange::{ClientEnd, ToClient};
use sortie_model::selector::Selection;
use sortie_model::{EntryId, State};
use sortie_wire::session_proto::{
    Ask, Delivery, Event, ReceiveMode, ReceiveSpec, Request, SessionRef,
};
use tokio::time::Instant;

use crate::simulation::client;
use crate::simulation::seen::{ChildSeen, JobSeen};
use crate::simulation::{Broken, Promise, Simulation};

/// Messages of one stream, with the moments at which they came. Listens until it is dropped.
pub(super) struct Listener {
    heard: Arc<Mutex<Vec<(Instant, ToClient)>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Listener {
    fn new(node: &NodeHandle, ask: Ask) -> Self {
        let ClientEnd { sender, mut receiver } =
            node.open(Request { session: SessionRef::Default, ask });
        let heard = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&heard);
        let task = tokio::spawn(async move {
            let _sender = sender;
            while let Ok(Some(message)) = receiver.next().await {
                lock(&into).push((Instant::now(), message));
            }
        });
        Self { heard, task }
    }

    fn take(&self) -> Vec<(Instant, ToClient)> {
        std::mem::take(&mut *lock(&self.heard))
    }

    fn has_ended(&self) -> bool {
        self.task.is_finished()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(heard: &Mutex<Vec<(Instant, ToClient)>>) -> MutexGuard<'_, Vec<(Instant, ToClient)>> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A watcher of one job that came later, and what it must hear.
pub(super) struct LateWatcher {
    number: usize,
    job: EntryId,
    listener: Listener,
    heard: Vec<(EntryId, State)>,
    due: Vec<(EntryId, State)>,
}

/// A reader of one job until everything of it has settled, which is told so.
pub(super) struct Follower {
    number: usize,
    job: EntryId,
    listener: Listener,
    settled: BTreeMap<EntryId, State>,
}

/// Everybody who listens.
#[derive(Default)]
pub(super) struct Listeners {
    late: Vec<LateWatcher>,
    followers: Vec<Follower>,
}

/// Late watchers and followers at once, each kind.
const MOST: usize = 6;

impl Listeners {
    /// A node's life ends, and its streams with it.
    pub(super) fn forget(&mut self, number: usize) {
        self.late.retain(|watcher| watcher.number != number);
        self.followers.retain(|follower| follower.number != number);
    }
}

impl Simulation<'_> {
    /// Listens to everything that happens on a node from now on.
    pub(super) fn watch_all(&mut self, number: usize) -> Result<(), Broken> {
        let ask = Ask::Watch { selection: Selection::default() };
        let watcher = Some(Listener::new(self.node(number)?, ask));
        if let Some(node) = self.sight.node_mut(number) {
            node.watcher = watcher;
        }
        Ok(())
    }

    /// One more watcher of a job.
    pub(super) async fn watch(&mut self, number: usize) -> Result<String, Broken> {
        let Some(job) = self.pick_job(number) else { return Ok("nothing".to_owned()) };
        if self.listeners.late.len() >= MOST {
            self.listeners.late.remove(0);
        }
        let selection = client::select(&job.to_string())?;
        let listener = Listener::new(self.node(number)?, Ask::Watch { selection });
        // Both are there once nothing is on its way: from here they hear the same.
        self.come_to_rest().await?;
        if listener.has_ended() {
            return Ok(format!("node{number} watches {job}, which is gone"));
        }
        let heard = listener.take();
        if heard.iter().any(|(_, message)| matches!(message, ToClient::Happening(_))) {
            // Something happened on the way, and nobody knows since when it listened.
            return Ok(format!("node{number} watches {job}, too late"));
        }
        let (heard, due) = (Vec::new(), Vec::new());
        self.listeners.late.push(LateWatcher { number, job, listener, heard, due });
        Ok(format!("node{number} watches {job}"))
    }

    /// A reader that removes nothing and is told what settles.
    pub(super) fn follow(&mut self, number: usize) -> Result<String, Broken> {
        let Some(job) = self.pick_job(number) else { return Ok("nothing".to_owned()) };
        if self.listeners.followers.len() >= MOST {
            self.listeners.followers.remove(0);
        }
        let selection = client::select(&job.to_string())?;
        let spec = ReceiveSpec { events: true, ..ReceiveSpec::new(selection, ReceiveMode::Follow) };
        let listener = Listener::new(self.node(number)?, Ask::Receive(Box::new(spec)));
        let settled = BTreeMap::new();
        self.listeners.followers.push(Follower { number, job, listener, settled });
        Ok(format!("node{number} follows {job}"))
    }

    /// Lets what happens now happen, and looks at it.
    pub(super) async fn come_to_rest(&mut self) -> Result<(), Broken> {
        self.cluster.advance(std::time::Duration::from_millis(1)).await;
        self.listen()
    }

    /// Takes in what watchers heard.
    pub(super) fn listen(&mut self) -> Result<(), Broken> {
        for number in 1..=self.cluster.len() {
            let Some(node) = self.sight.node(number) else { continue };
            let heard = node.watcher.as_ref().map(Listener::take).unwrap_or_default();
            for (now, message) in heard {
                if let ToClient::Happening(happening) = message {
                    self.hear(number, (happening.event, now))?;
                }
            }
        }
        Ok(())
    }

    fn hear(&mut self, number: usize, (event, now): (Event, Instant)) -> Result<(), Broken> {
        let (id, job, ordinal, state, reason) = match event {
            Event::Changed { id, job, ordinal, state, reason, .. } => {
                (id, job, ordinal, state, reason)
            }
            Event::Missed { .. } => {
                self.sight.node_mut(number).into_iter().for_each(|node| node.look_away());
                self.listeners.late.retain(|watcher| watcher.number != number);
                return Ok(());
            }
            Event::Accepted { .. } | Event::Removed { .. } | Event::Ended(_) => return Ok(()),
        };
        for watcher in &mut self.listeners.late {
            if watcher.number == number && watcher.job == job {
                watcher.due.push((id, state));
            }
        }
        let seen = self.sight.node_mut(number).and_then(|node| node.jobs.get_mut(&job));
        let Some(JobSeen { tag, family, children, .. }) = seen.filter(|_| id != job) else {
            return Ok(());
        };
        family.hear((id, state), reason.as_ref(), now).map_err(|(promise, text)| {
            Broken(promise, format!("node{number}, job {job} (tag {tag}): {text}"))
        })?;
        let lost = super::checks::is_lost(reason.as_ref());
        if let Some(ordinal) = ordinal.filter(|_| lost) {
            // An item's child may be lost before a look at its node has shown it.
            children.entry(id).or_insert_with(|| ChildSeen::new(ordinal)).lost += 1;
        }
        if lost {
            self.sight.told_lost.push(((number, job, id), now));
        }
        Ok(())
    }

    /// Time went on: what watchers must have heard they have heard.
    pub(super) async fn audit(&mut self) -> Result<(), Broken> {
        self.come_to_rest().await?;
        for number in self.up() {
            let Some(node) = self.sight.node(number) else { continue };
            for (id, job) in &node.jobs {
                job.family.audit().map_err(|text| {
                    Broken(Promise::P15, format!("node{number}, job {id}: {text}"))
                })?;
                for (child, seen) in &job.children {
                    let Some(view) = &seen.view else { continue };
                    let (ends, lives) = (job.family.ends(*child), view.restarts);
                    if ends < lives + u32::from(view.state.is_finished()) {
                        let text = format!(
                            "node{number}, child {child}: {ends} end notices, {:?} after {lives} \
                             restarts",
                            view.state
                        );
                        return Err(Broken(Promise::P15, text));
                    }
                }
            }
        }
        self.audit_late()?;
        self.audit_followers()
    }

    fn audit_late(&mut self) -> Result<(), Broken> {
        for watcher in &mut self.listeners.late {
            for (_, message) in watcher.listener.take() {
                if let ToClient::Happening(happening) = message
                    && let Event::Changed { id, state, .. } = happening.event
                {
                    watcher.heard.push((id, state));
                }
            }
            if watcher.heard != watcher.due {
                let text = format!(
                    "node{}: two watchers of job {} heard {:?} and {:?}",
                    watcher.number, watcher.job, watcher.heard, watcher.due
                );
                return Err(Broken(Promise::P15, text));
            }
        }
        Ok(())
    }

    fn audit_followers(&mut self) -> Result<(), Broken> {
        for follower in &mut self.listeners.followers {
            for (_, message) in follower.listener.take() {
                follower.read(message).map_err(|(promise, text)| {
                    let Follower { number, job, .. } = follower;
                    Broken(promise, format!("node{number}, follower of job {job}: {text}"))
                })?;
            }
        }
        self.listeners.followers.retain(|follower| !follower.listener.has_ended());
        Ok(())
    }
}

impl Follower {
    fn read(&mut self, message: ToClient) -> Result<(), (Promise, String)> {
        match message {
            ToClient::Records { source, .. } if self.settled.contains_key(&source.child) => {
                Err((Promise::P5, format!("child {} settled before its records", source.child)))
            }
            ToClient::Delivery(Delivery::Settled { id, state }) => {
                if self.settled.insert(id, state).is_some() {
                    return Err((Promise::P15, format!("{id} settles twice")));
                }
                if id != self.job && self.settled.contains_key(&self.job) {
                    return Err((Promise::P15, format!("child {id} settles after its job")));
                }
                Ok(())
            }
            ToClient::Delivery(Delivery::End { entries, .. }) => {
                let told = |id: EntryId| self.settled.contains_key(&id);
                match entries.entries.iter().find(|entry| !told(entry.id())) {
                    Some(entry) => {
                        Err((Promise::P15, format!("nobody said that {} settled", entry.id())))
                    }
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}
