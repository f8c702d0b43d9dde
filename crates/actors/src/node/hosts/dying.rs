//! What is being killed of another node's jobs. The next life of that node's child must find
//! nothing of the one before (`docs/semantics.md`, section 5.1), so what it starts waits for that.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sortie_model::NodeId;
use tokio::sync::watch;

/// Held by what others may have to outwait; it is over when all that hold it are dropped.
#[derive(Debug)]
pub(crate) struct Alive(watch::Sender<()>);

impl Default for Alive {
    fn default() -> Self {
        Self(watch::Sender::new(()))
    }
}

/// What is being killed, by whose it is.
#[derive(Debug, Default)]
pub(crate) struct Dying(Mutex<BTreeMap<NodeId, OfOwner>>);

/// What is being killed of one node's.
#[derive(Debug, Default)]
struct OfOwner {
    hosts: Vec<watch::Receiver<()>>,
    jobs: Vec<watch::Receiver<()>>,
    /// Whether anything ran that was killed.
    killed: bool,
}

/// Hosts that were told to end, as of a moment: only who comes later waits for them, so nobody
/// waits for himself.
#[derive(Debug)]
pub(crate) struct Ends(Vec<watch::Receiver<()>>);

impl Dying {
    /// A host was told to end, and has not said yet what it kills.
    pub(crate) fn note_host(&self, owner: NodeId, heard: &Alive) {
        let mut all = self.all();
        let hosts = &mut all.entry(owner).or_default().hosts;
        hosts.retain(is_open);
        hosts.push(heard.0.subscribe());
    }

    /// What ran for a job is being killed.
    pub(crate) fn note_job(&self, owner: NodeId, job: &Alive) {
        let mut all = self.all();
        let of_owner = all.entry(owner).or_default();
        of_owner.jobs.retain(is_open);
        of_owner.jobs.push(job.0.subscribe());
        of_owner.killed = true;
    }

    /// The owner's hosts that were told to end by now.
    pub(crate) fn ends(&self, owner: NodeId) -> Ends {
        Ends(self.all().get(&owner).map_or_else(Vec::new, |of_owner| of_owner.hosts.clone()))
    }

    /// Resolves when those hosts have ended, and then all jobs that were noted of the owner by
    /// then; says whether anything was killed.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn over(&self, owner: NodeId, ends: Ends) -> bool {
        outwait(ends.0).await;
        let noted = self.all().get(&owner).map(|of_owner| (of_owner.jobs.clone(), of_owner.killed));
        let (jobs, killed) = noted.unwrap_or_default();
        outwait(jobs).await;
        killed
    }

    /// What was noted of the owner's jobs was waited for, or for long enough: nobody waits for it
    /// again.
    pub(crate) fn waited(&self, owner: NodeId, all_are_dead: bool) {
        if let Some(of_owner) = self.all().get_mut(&owner) {
            of_owner.jobs.retain(|job| all_are_dead && is_open(job));
            of_owner.killed = !of_owner.jobs.is_empty();
        }
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<NodeId, OfOwner>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn outwait(all: Vec<watch::Receiver<()>>) {
    for mut one in all {
        while one.changed().await.is_ok() {}
    }
}

fn is_open(one: &watch::Receiver<()>) -> bool {
    one.has_changed().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: NodeId = NodeId([1; 16]);

    #[tokio::test]
    async fn what_hosts_kill_that_ended_before_is_waited_for_and_nothing_else() {
        let dying = Dying::default();
        assert!(!dying.over(OWNER, dying.ends(OWNER)).await, "there was nothing");
        let (host, job, other) = (Alive::default(), Alive::default(), Alive::default());
        dying.note_host(OWNER, &host);
        dying.note_job(NodeId([2; 16]), &other);
        let mut over = Box::pin(dying.over(OWNER, dying.ends(OWNER)));
        // Its own end, or that of one that began with it.
        let later = Alive::default();
        dying.note_host(OWNER, &later);
        assert!(by_now(&mut over).await.is_none());
        dying.note_job(OWNER, &job);
        drop(host);
        let mut second = Box::pin(dying.over(OWNER, dying.ends(NodeId([3; 16]))));
        for one in [&mut over, &mut second] {
            assert!(by_now(one).await.is_none(), "the host's job is there");
        }
        drop(job);
        assert_eq!((by_now(&mut over).await, by_now(&mut second).await), (Some(true), Some(true)));
        dying.waited(OWNER, true);
        drop(later);
        assert!(!dying.over(OWNER, dying.ends(OWNER)).await, "it was waited for");
        drop(other);
    }

    /// What the future says by now.
    async fn by_now<T>(future: &mut (impl Future<Output = T> + Unpin)) -> Option<T> {
        tokio::select! {
            biased;
            said = future => Some(said),
            () = std::future::ready(()) => None,
        }
    }
}
