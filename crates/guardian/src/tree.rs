//! Keeping hold of every process that a child makes, and killing them all.
//!
//! With control groups the kernel keeps the books. Without, a process belongs to a child if it is
//! below the child's main process, or in its session or group, or was started with the child's mark
//! in its environment. Orphans come to us, the subreaper, so that all of them stay below us: what
//! cannot be attributed to a child is killed when no child runs, and at the latest with us.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use bytes::Bytes;
use rustix::io::Errno;
use rustix::process::{Pid, Signal};
use sortie_exec::sys::control_group::{Group, GroupDirectory, Population};
use sortie_exec::sys::proc_table::{self, Entry, Life};
use sortie_exec::sys::processes::Held;
use sortie_exec::sys::spawn::Spawner;
use sortie_model::spec::OsBytes;
use sortie_wire::guardian_proto::{ChildNumber, Containment, ContainmentChoice};

/// Rounds in which processes that were just made are looked for. A tree that grows faster than it
/// can be signalled this often is met again by the next kill.
const ROUNDS: u32 = 32;
/// The variable that marks a child's processes where there are no control groups.
const MARK: &str = "SORTIE_TREE";

/// All children's trees.
#[derive(Debug)]
pub(crate) enum Forest {
    Groups(GroupDirectory),
    Parentage { own: Pid },
}

/// One child's tree.
#[derive(Debug)]
pub(crate) enum Tree {
    Group(Group),
    Marked { mark: OsBytes, main: Main },
}

/// A tree's main process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Main {
    /// There is none yet.
    None,
    /// It was not collected: its id is its own.
    Ours(Pid),
    /// It was collected: its id still names its session and its group, as long as they exist.
    Collected(Pid),
}

/// The main processes of all children that were not collected.
pub(crate) type Mains = HashMap<Pid, ChildNumber>;

impl Forest {
    /// Control groups if we may choose them and they work, else parentage.
    pub(crate) fn new(choice: ContainmentChoice, spawner: &mut Spawner) -> Self {
        let groups = match choice {
            ContainmentChoice::Best => working_groups(spawner),
            ContainmentChoice::Parentage => None,
        };
        groups.map_or_else(|| Self::Parentage { own: rustix::process::getpid() }, Self::Groups)
    }

    pub(crate) fn containment(&self) -> Containment {
        let Self::Groups(groups) = self else { return Containment::Parentage };
        let path = Bytes::copy_from_slice(groups.path().as_os_str().as_bytes());
        match OsBytes::try_from(path) {
            Ok(directory) => Containment::ControlGroup { directory },
            // A path that the kernel gave us has no NUL byte.
            Err(_) => Containment::Parentage,
        }
    }

    /// A tree for a child that is about to start.
    pub(crate) fn plant(&mut self, child: ChildNumber) -> io::Result<Tree> {
        match self {
            Self::Groups(groups) => groups.take().map(Tree::Group),
            Self::Parentage { own } => {
                let mark = format!("{MARK}={}-{}", own.as_raw_nonzero(), child.0);
                let mark = OsBytes::try_from(mark.as_str())
                    .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
                Ok(Tree::Marked { mark, main: Main::None })
            }
        }
    }

    /// With what a process begins inside the tree.
    pub(crate) fn entrance(&self, tree: &Tree) -> Result<Option<OwnedFd>, Errno> {
        match (self, tree) {
            (Self::Groups(groups), Tree::Group(group)) => groups.open(group).map(Some),
            _ => Ok(None),
        }
    }

    /// Whether the tree has processes. `mains` are the main processes of all children.
    pub(crate) fn population(&self, tree: &Tree, mains: &Mains) -> Population {
        let members = match (self, tree) {
            (Self::Groups(groups), Tree::Group(group)) => {
                if groups.population(group) == Population::Empty {
                    return Population::Empty;
                }
                // A process that is ending still counts there, but is not listed.
                groups.processes(group).len()
            }
            _ => {
                // Every orphan is our own child, so without any the ended child left nothing.
                let orphans = proc_table::own_children()
                    .is_none_or(|children| children.iter().any(|pid| !mains.contains_key(pid)));
                if !orphans && !tree.has_running_main() {
                    return Population::Empty;
                }
                self.members(tree, mains).len()
            }
        };
        if members == 0 { Population::Empty } else { Population::Populated }
    }

    /// How many processes the tree has.
    pub(crate) fn count(&self, tree: &Tree, mains: &Mains) -> u32 {
        let count = match (self, tree) {
            (Self::Groups(groups), Tree::Group(group)) => groups.processes(group).len(),
            _ => self.members(tree, mains).len(),
        };
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Sends a signal to every process of the tree once, those included that are made meanwhile.
    pub(crate) fn signal(&self, tree: &Tree, signal: Signal, mains: &Mains) {
        let mut told = HashSet::new();
        for _ in 0..ROUNDS {
            let found = self.process_ids(tree, mains);
            let new: Vec<_> = found.difference(&told).copied().collect();
            if new.is_empty() {
                return;
            }
            let held: Vec<_> =
                new.iter().filter_map(|pid| Held::open(*pid).map(|held| (*pid, held))).collect();
            // What is a member now, after it was held, was not replaced by another process.
            let members = self.process_ids(tree, mains);
            for (pid, held) in held {
                if members.contains(&pid) {
                    held.signal(signal);
                }
            }
            told.extend(new);
        }
    }

    /// Kills every process of the tree. To be repeated until it is empty.
    pub(crate) fn kill(&self, tree: &Tree, mains: &Mains) {
        match (self, tree) {
            (Self::Groups(groups), Tree::Group(group)) => {
                if groups.kill(group).is_err() {
                    self.signal(tree, Signal::KILL, mains);
                }
            }
            _ => self.signal(tree, Signal::KILL, mains),
        }
    }

    /// Takes a tree back that is empty.
    pub(crate) fn retire(&mut self, tree: Tree) {
        if let (Self::Groups(groups), Tree::Group(group)) = (self, tree) {
            groups.give_back(group);
        }
    }

    /// Kills whatever is below us. To be repeated until it returns that nothing is left, collecting
    /// ended processes in between.
    pub(crate) fn kill_everything(&self) -> Population {
        let mut population = Population::Empty;
        if let Self::Groups(groups) = self {
            let _ = groups.kill_all();
            population = groups.population_of_all();
        }
        for entry in proc_table::descendants(rustix::process::getpid()) {
            // Ended ones count until they are collected: their own children may not be ours yet.
            population = Population::Populated;
            if entry.life == Life::Alive {
                signal_entry(&entry, Signal::KILL);
            }
        }
        population
    }

    /// Kills, where there are no control groups, what no child's tree accounts for. To be called
    /// when no child is left.
    pub(crate) fn kill_unaccounted(&self) {
        if let Self::Parentage { own } = self
            && proc_table::own_children().is_none_or(|children| !children.is_empty())
        {
            for entry in proc_table::descendants(*own) {
                signal_entry(&entry, Signal::KILL);
            }
        }
    }

    /// Removes what we have made, when everything is dead.
    pub(crate) fn remove(self) {
        if let Self::Groups(groups) = self {
            groups.remove();
        }
    }

    fn process_ids(&self, tree: &Tree, mains: &Mains) -> HashSet<Pid> {
        match (self, tree) {
            (Self::Groups(groups), Tree::Group(group)) => groups.processes(group),
            _ => self.members(tree, mains).into_iter().map(|entry| entry.pid).collect(),
        }
    }

    /// The living processes of a marked tree.
    fn members(&self, tree: &Tree, mains: &Mains) -> Vec<Entry> {
        let (Self::Parentage { own }, Tree::Marked { mark, main }) = (self, tree) else {
            return Vec::new();
        };
        let (process, leader) = match *main {
            Main::None => (None, None),
            Main::Ours(pid) => (Some(pid), Some(pid)),
            // Once the id is another child's, nothing is left of our session.
            Main::Collected(pid) => (None, Some(pid).filter(|pid| !mains.contains_key(pid))),
        };
        let leader = leader.map(|pid| pid.as_raw_nonzero().get());
        let mut pids = HashSet::new();
        let mut members = Vec::new();
        // Parents come before their children.
        for entry in proc_table::descendants(*own) {
            let is_foreign_main = mains.contains_key(&entry.pid) && Some(entry.pid) != process;
            let is_member = !is_foreign_main
                && (Some(entry.pid) == process
                    || pids.contains(&entry.parent)
                    || Some(entry.session) == leader
                    || Some(entry.group) == leader
                    || proc_table::has_variable(entry.pid, mark.as_bytes()));
            if is_member {
                pids.insert(entry.pid.as_raw_nonzero().get());
                if entry.life == Life::Alive {
                    members.push(entry);
                }
            }
        }
        members
    }
}

impl Tree {
    /// The variable to add to the environment of the tree's processes.
    pub(crate) const fn mark(&self) -> Option<&OsBytes> {
        match self {
            Self::Group(_) => None,
            Self::Marked { mark, .. } => Some(mark),
        }
    }

    /// Notes how it is with the tree's main process.
    pub(crate) const fn set_main(&mut self, now: Main) {
        if let Self::Marked { main, .. } = self {
            *main = now;
        }
    }

    fn has_running_main(&self) -> bool {
        matches!(self, Self::Marked { main: Main::Ours(_), .. })
    }
}

fn working_groups(spawner: &mut Spawner) -> Option<GroupDirectory> {
    let mut groups = GroupDirectory::create().ok()?;
    let group = groups.take().ok()?;
    let works = groups.open(&group).is_ok_and(|descriptor| spawner.can_enter(descriptor.as_fd()));
    groups.give_back(group);
    if works {
        Some(groups)
    } else {
        groups.remove();
        None
    }
}

fn signal_entry(entry: &Entry, signal: Signal) {
    if let Some(held) = Held::open(entry.pid)
        && proc_table::entry(entry.pid).is_some_and(|now| now.start == entry.start)
    {
        held.signal(signal);
    }
}
