//! What is being killed of another node's jobs. The next life of that node's child must find
//! nothing of the one before (`docs/semantics.md`, section 5.1), so what it starts waits for that.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

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
    open: Vec<watch::Receiver<()>>,
    /// Whether anything ran that was killed.
    killed: bool,
}

impl Dying {
    /// A host was told to end, and has not said yet what it kills.
    pub(crate) fn note_host(&self, owner: NodeId, heard: &Alive) {
        self.note(owner, heard, false);
    }

    /// What ran for a job is being killed.
    pub(crate) fn note_job(&self, owner: NodeId, job: &Alive) {
        self.note(owner, job, true);
    }

    fn note(&self, owner: NodeId, what: &Alive, killed: bool) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_owner = all.entry(owner).or_default();
        of_owner.open.retain(is_open);
        of_owner.open.push(what.0.subscribe());
        of_owner.killed |= killed;
    }

    /// Resolves when all is over that was noted of the owner by now, and says whether anything was
    /// ever killed.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn over(&self, owner: NodeId) -> bool {
        let noted = || {
            let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.get(&owner).map(|of_owner| {
                let open = of_owner.open.iter().filter(|one| is_open(one)).cloned();
                (open.collect::<Vec<_>>(), of_owner.killed)
            })
        };
        // Hosts that hear of their end note their jobs meanwhile.
        while let Some((open, killed)) = noted() {
            if open.is_empty() {
                return killed;
            }
            for mut one in open {
                while one.changed().await.is_ok() {}
            }
        }
        false
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
    async fn what_is_noted_meanwhile_is_waited_for_and_others_are_not() {
        let dying = Dying::default();
        assert!(!dying.over(OWNER).await, "there was nothing");
        let (host, child, other) = (Alive::default(), Alive::default(), Alive::default());
        dying.note_host(OWNER, &host);
        dying.note_job(NodeId([2; 16]), &other);
        let mut over = Box::pin(dying.over(OWNER));
        assert!(by_now(&mut over).await.is_none());
        dying.note_job(OWNER, &child);
        drop(host);
        let mut second = Box::pin(dying.over(OWNER));
        for one in [&mut over, &mut second] {
            assert!(by_now(one).await.is_none(), "the host's child is there");
        }
        drop(child);
        assert_eq!((by_now(&mut over).await, by_now(&mut second).await), (Some(true), Some(true)));
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
