//! Children of other nodes' sessions that an earlier life of this node left.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ractor::Actor;
use sortie_engine::child_job::expected;
use sortie_engine::host::Start;
use sortie_model::{ChildKey, JobInstance, NodeId, SessionInstance};
use sortie_wire::host_proto::HostedNote;

use crate::child_job::Survivor;
use crate::host::{Adoption, HostActor, HostArguments, HostMessage, Owner};
use crate::node::NodeShared;
use crate::node::hosts::{Had, Hosted};
use crate::node::recover::Left;

/// No link has this number.
const NO_LINK: u64 = 0;

impl NodeShared {
    /// Whether a process of a job that outlives its owner's silence, if it ever began here, is
    /// known.
    pub(crate) fn remembers(&self) -> bool {
        self.past.remembers.load(Ordering::Relaxed)
    }

    /// Goes on with what an earlier life of this node ran for others. Their owners ask for it when
    /// they are connected; what they do not ask for ends then.
    pub(super) async fn adopt_hosted(self: &Arc<Self>, left: &mut Left) -> BTreeSet<NodeId> {
        self.past.remembers.store(left.knows_all, Ordering::Relaxed);
        let noted = left.children.iter().filter(|(_, child)| !child.note.is_empty());
        let noted: Vec<(ChildKey, Option<HostedNote>)> =
            noted.map(|(key, child)| (*key, HostedNote::from_bytes(&child.note))).collect();
        let mut hosts: BTreeMap<(SessionInstance, NodeId), BTreeMap<JobInstance, Adoption>> =
            BTreeMap::new();
        for (key, note) in noted {
            let Some(note) = note else {
                tracing::error!(child = ?key, "a child of another node is not known any more");
                continue; // It is killed with the rest.
            };
            let Some(adopted) = left.children.remove(&key) else { continue };
            let HostedNote { owner, session, job, id, spec } = note;
            let incarnation = adopted.incarnation;
            let next = expected(adopted.first, adopted.begins, incarnation);
            let start = Start { ordinal: key.ordinal, id, incarnation, next, item: None };
            let ended = adopted.ended.unwrap_or_else(|| self.world.now());
            let begin = Some(ended.earlier_by(adopted.running));
            let (partial, children) = (true, Vec::new());
            let adoptions = hosts.entry((session, owner)).or_default();
            let adoption =
                adoptions.entry(job).or_insert(Adoption { job, spec, partial, children });
            // What it was told meanwhile its owner says.
            let (stop, motion) = (None, adopted.motion);
            adoption.children.push(Survivor { start, begin, stop, motion, adopted });
        }
        let owners: BTreeSet<NodeId> = hosts.keys().map(|(_, owner)| *owner).collect();
        for (place, adoptions) in hosts {
            if self.host_of_before(place, adoptions.into_values()).await.is_none() {
                return BTreeSet::new();
            }
        }
        owners
    }

    /// A host whose owner was not heard yet in this life of the node. Whoever finds it asks it
    /// behind what it takes over.
    async fn host_of_before(
        self: &Arc<Self>,
        (session, owner): (SessionInstance, NodeId),
        adoptions: impl Iterator<Item = Adoption>,
    ) -> Option<()> {
        let node = Arc::clone(self);
        let arguments = HostArguments { node, session, owner: Owner::There(owner, None) };
        let (host, _) =
            HostActor::spawn_linked(None, HostActor, arguments, self.root()?).await.ok()?;
        for adoption in adoptions {
            // Who is gone takes what was told along.
            let _ = host.cast(HostMessage::Adopt(Box::new(adoption)));
        }
        let had = Had { persistent: true, ..Had::default() };
        self.put_host((session, owner), Hosted { host, link: NO_LINK, had });
        Some(())
    }
}
