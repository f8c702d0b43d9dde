//! Making trees stand still, and letting them go on: by the control group's freezer, or by
//! `SIGSTOP` and `SIGCONT` to every process.

use std::collections::HashSet;

use rustix::process::Signal;
use sortie_exec::sys::proc_table::Life;
use sortie_wire::guardian_proto::ChildNumber;

use crate::tree::{Forest, Mains, Tree};

impl Forest {
    /// Makes every process of these trees stand still, and says for each, in their order, whether
    /// all do. To be repeated until then: the kernel takes its time, and processes may just have
    /// been made.
    pub(crate) fn suspend(&self, trees: &mut [&mut Tree], mains: &Mains) -> Vec<bool> {
        match self {
            Self::Groups(groups) => {
                let freeze = |tree: &mut &mut Tree| match tree {
                    Tree::Group(group) => groups.freeze(group).is_ok() && groups.is_frozen(group),
                    Tree::Marked { .. } => true,
                };
                trees.iter_mut().map(freeze).collect()
            }
            Self::Parentage { .. } => {
                let trees: Vec<&Tree> = trees.iter().map(|tree| &**tree).collect();
                let (mut moving, mut awake) = (HashSet::new(), HashSet::new());
                for (owner, entry) in self.census(&trees, mains) {
                    match entry.life {
                        Life::Alive => moving.insert(owner) | awake.insert(owner),
                        // Whatever it waits for, it does nothing of its own once it was told.
                        // It may be for a process that it made, which stands still.
                        Life::Uninterruptible => awake.insert(owner),
                        Life::Stopped | Life::Ended => continue,
                    };
                }
                let is_in = |some: &HashSet<ChildNumber>, tree: &Tree| {
                    tree.number().is_some_and(|number| some.contains(&number))
                };
                let targets = trees.iter().filter(|tree| is_in(&awake, tree));
                let targets: Vec<_> = targets.map(|tree| (*tree, Signal::STOP)).collect();
                self.signal_marked(&targets, mains);
                trees.iter().map(|tree| !is_in(&moving, tree)).collect()
            }
        }
    }

    /// Lets every process of these trees go on.
    pub(crate) fn resume(&self, trees: &[&Tree], mains: &Mains) {
        match self {
            Self::Groups(groups) => {
                for tree in trees {
                    if let Tree::Group(group) = tree {
                        // Fails only for a group that is gone, and with it its processes.
                        let _ = groups.thaw(group);
                    }
                }
            }
            Self::Parentage { .. } => {
                let targets: Vec<_> = trees.iter().map(|tree| (*tree, Signal::CONT)).collect();
                self.signal_marked(&targets, mains);
            }
        }
    }
}
