//! Keeping hold of every process that a child makes, and killing them all.
//!
//! With control groups the kernel keeps the books. Without, a process belongs to a child if it is
//! below the child's main process, or in its session or group, or was started with the child's mark
//! in its environment. Orphans come to us, the subreaper, so that all of them stay below us: what
//! cannot be attributed to a child is killed when no child runs, and at the latest with us.

mod suspend;

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use bytes::Bytes;
use rustix::io::Errno;
use rustix::process::{Pid, Signal};
use sortie_exec::sys::control_group::{Group, GroupDirectory, Population};
use sortie_exec::sys::marks::{self, TREE_VARIABLE};
use sortie_exec::sys::proc_table::{self, Entry, Life};
use sortie_exec::sys::processes::Held;
use sortie_exec::sys::spawn::Spawner;
use sortie_model::spec::OsBytes;
use sortie_wire::guardian_proto::{ChildNumber, Containment, ContainmentChoice};

/// Rounds in which processes that were just made are looked for. A tree that grows faster than it
/// can be signalled this often is met again by the next kill.
const ROUNDS: u32 = 32;

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
    Marked { number: ChildNumber, main: Main },
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
    pub(crate) fn plant(&mut self, number: ChildNumber) -> io::Result<Tree> {
        match self {
            Self::Groups(groups) => groups.take().map(Tree::Group),
            Self::Parentage { .. } => Ok(Tree::Marked { number, main: Main::None }),
        }
    }

    /// With what a process begins inside the tree.
    pub(crate) fn entrance(&self, tree: &Tree) -> Result<Option<OwnedFd>, Errno> {
        match (self, tree) {
            (Self::Groups(groups), Tree::Group(group)) => groups.open(group).map(Some),
            _ => Ok(None),
        }
    }

    /// The variable to add to the environment of the tree's processes.
    pub(crate) fn mark(&self, tree: &Tree) -> Option<OsBytes> {
        let (Self::Parentage { own }, Tree::Marked { number, .. }) = (self, tree) else {
            return None;
        };
        let mark = format!("{TREE_VARIABLE}={}-{}", own.as_raw_nonzero(), number.0);
        OsBytes::try_from(mark.as_str()).ok()
    }

    /// How many processes each of these trees has, in their order.
    pub(crate) fn count(&self, trees: &[&Tree], mains: &Mains) -> Vec<u32> {
        match self {
            Self::Groups(groups) => trees.iter().map(|tree| count_in_group(groups, tree)).collect(),
            Self::Parentage { .. } => {
                // Every orphan is our own child, so without any an ended child has left nothing.
                let orphans = proc_table::own_children()
                    .is_none_or(|children| children.iter().any(|pid| !mains.contains_key(pid)));
                let census = if orphans || trees.iter().any(|tree| tree.has_running_main()) {
                    self.census(trees, mains)
                } else {
                    Vec::new()
                };
                let count = |tree: &&Tree| {
                    census.iter().filter(|(owner, _)| Some(*owner) == tree.number()).count()
                };
                trees.iter().map(|tree| u32::try_from(count(tree)).unwrap_or(u32::MAX)).collect()
            }
        }
    }

    /// Whether nothing at all is left of each of these trees, in their order.
    pub(crate) fn population(&self, trees: &[&Tree], mains: &Mains) -> Vec<Population> {
        match self {
            Self::Groups(groups) => {
                let population = |tree: &&Tree| match tree {
                    Tree::Group(group) => groups.population(group),
                    Tree::Marked { .. } => Population::Empty,
                };
                trees.iter().map(population).collect()
            }
            Self::Parentage { .. } => {
                let of = |count| match count {
                    0 => Population::Empty,
                    _ => Population::Populated,
                };
                self.count(trees, mains).into_iter().map(of).collect()
            }
        }
    }

    /// Sends each tree's signal to all of its processes once, those included that are made
    /// meanwhile.
    pub(crate) fn signal(&self, targets: &[(&Tree, Signal)], mains: &Mains) {
        match self {
            Self::Groups(groups) => {
                for (tree, signal) in targets {
                    if let Tree::Group(group) = tree {
                        signal_group(groups, group, *signal);
                    }
                }
            }
            Self::Parentage { .. } => self.signal_marked(targets, mains),
        }
    }

    /// Kills every process of the trees. To be repeated until they are empty.
    pub(crate) fn kill(&self, trees: &mut [&mut Tree], mains: &Mains) {
        match self {
            Self::Groups(groups) => {
                for tree in trees {
                    if let Tree::Group(group) = tree
                        && groups.kill(group).is_err()
                    {
                        signal_group(groups, group, Signal::KILL);
                    }
                }
            }
            Self::Parentage { .. } => {
                let targets: Vec<_> = trees.iter().map(|tree| (&**tree, Signal::KILL)).collect();
                self.signal_marked(&targets, mains);
            }
        }
    }

    /// Takes a tree back that is empty.
    pub(crate) fn retire(&mut self, tree: Tree) {
        if let (Self::Groups(groups), Tree::Group(group)) = (self, tree) {
            groups.give_back(group);
        }
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
            if entry.life != Life::Ended {
                signal_entry(&entry, Signal::KILL);
            }
        }
        population
    }

    /// Removes what we have made, when everything is dead.
    pub(crate) fn remove(self) {
        if let Self::Groups(groups) = self {
            groups.remove();
        }
    }

    fn signal_marked(&self, targets: &[(&Tree, Signal)], mains: &Mains) {
        let trees: Vec<_> = targets.iter().map(|(tree, _)| *tree).collect();
        let signals: HashMap<_, _> =
            targets.iter().filter_map(|(tree, signal)| Some((tree.number()?, *signal))).collect();
        let mut told = HashSet::new();
        for _ in 0..ROUNDS {
            let mut news = 0;
            for (owner, entry) in self.census(&trees, mains) {
                if told.insert((entry.pid, entry.start)) {
                    news += 1;
                    if let Some(signal) = signals.get(&owner) {
                        signal_entry(&entry, *signal);
                    }
                }
            }
            if news == 0 {
                return;
            }
        }
    }

    /// The living processes of these trees, each with its owner.
    fn census(&self, trees: &[&Tree], mains: &Mains) -> Vec<(ChildNumber, Entry)> {
        let Self::Parentage { own } = self else { return Vec::new() };
        let wanted: HashSet<_> = trees.iter().filter_map(|tree| tree.number()).collect();
        let leaders: HashMap<_, _> = trees.iter().filter_map(|tree| tree.leader(mains)).collect();
        let mut owners: HashMap<i32, ChildNumber> = HashMap::new();
        let mut members = Vec::new();
        // Parents come before their children.
        for entry in proc_table::descendants(*own) {
            let owner = mains
                .get(&entry.pid)
                .or_else(|| owners.get(&entry.parent))
                .or_else(|| leaders.get(&entry.session))
                .or_else(|| leaders.get(&entry.group))
                .copied()
                .or_else(|| marked_owner(*own, entry.pid));
            if let Some(owner) = owner {
                owners.insert(entry.pid.as_raw_nonzero().get(), owner);
                if entry.life != Life::Ended && wanted.contains(&owner) {
                    members.push((owner, entry));
                }
            }
        }
        members
    }
}

impl Tree {
    /// Notes how it is with the tree's main process.
    pub(crate) const fn set_main(&mut self, now: Main) {
        if let Self::Marked { main, .. } = self {
            *main = now;
        }
    }

    const fn has_running_main(&self) -> bool {
        matches!(self, Self::Marked { main: Main::Ours(_), .. })
    }

    const fn number(&self) -> Option<ChildNumber> {
        match self {
            Self::Group(_) => None,
            Self::Marked { number, .. } => Some(*number),
        }
    }

    /// The id of the session and of the process group with which the tree began.
    fn leader(&self, mains: &Mains) -> Option<(i32, ChildNumber)> {
        let Self::Marked { number, main } = self else { return None };
        let leader = match *main {
            Main::None => None,
            Main::Ours(pid) => Some(pid),
            // Once the id is another child's, nothing is left of our session.
            Main::Collected(pid) => Some(pid).filter(|pid| !mains.contains_key(pid)),
        };
        leader.map(|pid| (pid.as_raw_nonzero().get(), *number))
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

fn count_in_group(groups: &GroupDirectory, tree: &Tree) -> u32 {
    let Tree::Group(group) = tree else { return 0 };
    if groups.population(group) == Population::Empty {
        return 0;
    }
    // A process that is ending still populates the group, but is not listed.
    u32::try_from(groups.processes(group).len()).unwrap_or(u32::MAX)
}

fn signal_group(groups: &GroupDirectory, group: &Group, signal: Signal) {
    let mut told = HashSet::new();
    for _ in 0..ROUNDS {
        let new: Vec<_> = groups.processes(group).difference(&told).copied().collect();
        if new.is_empty() {
            return;
        }
        let held: Vec<_> =
            new.iter().filter_map(|pid| Held::open(*pid).map(|held| (*pid, held))).collect();
        // What is a member now, after it was held, was not replaced by another process.
        let members = groups.processes(group);
        for (pid, held) in held {
            if members.contains(&pid) {
                held.signal(signal);
            }
        }
        told.extend(new);
    }
}

fn signal_entry(entry: &Entry, signal: Signal) {
    if let Some(held) = Held::open(entry.pid)
        && proc_table::entry(entry.pid).is_some_and(|now| now.start == entry.start)
    {
        held.signal(signal);
    }
}

/// The child whose mark a process carries.
fn marked_owner(own: Pid, pid: Pid) -> Option<ChildNumber> {
    let (guardian, number) = marks::owner(pid)?;
    (guardian == own.as_raw_nonzero().get()).then_some(ChildNumber(number))
}
