//! A running simulated cluster, and what can be done to it.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sortie_actors::{Network, NoKeeper, NodeConfig, NodeHandle, NodeKeys, World};
use sortie_exec::NodeBasics;
use sortie_link::memory::{MemoryNetwork, Weather};
use sortie_link::{CertificateAuthority, CloseCode, Identity};
use sortie_model::NodeName;
use sortie_wire::link_proto::{Member, Roster};

use crate::builder::{ClusterBuilder, NODES, Tasks};
use crate::chance::Chance;
use crate::error::ClusterError;
use crate::keys;
use crate::world::{NodeWorld, SimulatedWorld};

/// How long a restart takes, so that no two lives of a node begin in the same moment.
const RESTART: Duration = Duration::from_millis(1);
/// The user whose nodes they are.
const USER: &str = "owner";

/// One life of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Life {
    /// The node's number, from 1.
    pub node: usize,
    /// How many lives it had before this one.
    pub number: u32,
}

/// A cluster of nodes over a simulated network. Nodes are numbered from 1.
///
/// What is done to the network takes effect at once; what its nodes make of it shows as
/// [`advance`](Self::advance) lets time pass.
pub struct Cluster {
    network: MemoryNetwork,
    weather: Weather,
    world: Arc<SimulatedWorld>,
    tasks: Tasks,
    places: Vec<Place>,
    roster: Roster,
}

/// Where a node lives, whether it lives now or not.
struct Place {
    name: NodeName,
    identity: Identity,
    chance: Chance,
    world: Arc<NodeWorld>,
    authority: Option<String>,
    life: u32,
    node: Option<NodeHandle>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("nodes", &self.places.len())
            .field("weather", &self.weather)
            .finish_non_exhaustive()
    }
}

impl Cluster {
    /// A cluster of three nodes, in calm weather, with seed 0, unless the builder is told
    /// otherwise.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder::default()
    }

    pub(crate) async fn start(builder: ClusterBuilder) -> Result<Self, ClusterError> {
        let ClusterBuilder { nodes, seed, weather, tasks } = builder;
        if !(1..=NODES).contains(&nodes) {
            return Err(ClusterError::Size);
        }
        let mut chance = Chance::new(seed);
        let network = MemoryNetwork::seeded(chance.next());
        network.set_weather(&weather);
        let authority = CertificateAuthority::create()?;
        let world = Arc::new(SimulatedWorld::new());
        let mut places = Vec::with_capacity(nodes);
        for number in 1..=nodes {
            let world = NodeWorld::new(&world);
            places.push(Place::new(number, (&authority, world), chance.fork())?);
        }
        let members: Vec<Member> = places.iter().map(Place::member).collect();
        let first = members.first().map(|member| member.node).ok_or(ClusterError::Size)?;
        let roster = Roster { version: 1, authority: first, members };
        let mut cluster = Self { network, weather, world, tasks, places, roster };
        for number in 1..=nodes {
            cluster.begin_life(number).await?;
        }
        Ok(cluster)
    }

    /// How many nodes there are, those that are down included.
    pub const fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are no nodes, which is never.
    pub const fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The node, to ask it as a client in its own process would.
    ///
    /// # Errors
    /// [`ClusterError::NoNode`] when there is no such node, [`ClusterError::Down`] while it is
    /// killed.
    pub fn node(&self, number: usize) -> Result<&NodeHandle, ClusterError> {
        self.place(number)?.node.as_ref().ok_or(ClusterError::Down(number))
    }

    /// The node's present life, or its last one while it is down.
    ///
    /// # Errors
    /// [`ClusterError::NoNode`].
    pub fn life(&self, number: usize) -> Result<Life, ClusterError> {
        Ok(Life { node: number, number: self.place(number)?.life })
    }

    /// Whether the node is up; none when there is no such node.
    pub fn is_up(&self, number: usize) -> Option<bool> {
        self.place(number).ok().map(|place| place.node.is_some())
    }

    /// How long the cluster exists, in virtual time.
    pub fn elapsed(&self) -> Duration {
        self.world.elapsed()
    }

    /// What the node's wall clock shows, whether the node is up or not.
    ///
    /// # Errors
    /// [`ClusterError::NoNode`].
    pub fn now(&self, number: usize) -> Result<sortie_model::Timestamp, ClusterError> {
        Ok(self.place(number)?.world.now())
    }

    /// Sets the node's wall clock so much ahead of virtual time, in whole milliseconds: more than
    /// before (at first none) is a jump forwards, less is one backwards. Time limits do not go by
    /// it.
    ///
    /// # Errors
    /// [`ClusterError::NoNode`].
    pub fn set_clock(&self, number: usize, ahead: Duration) -> Result<(), ClusterError> {
        self.place(number)?.world.set_ahead(ahead);
        Ok(())
    }

    /// Lets that much virtual time pass, with everything that happens in it.
    ///
    /// # Cancel safety
    /// Cancel safe: less time has passed then.
    pub async fn advance(&self, by: Duration) {
        tokio::time::sleep(by).await;
    }

    /// From now on nothing passes between the two nodes, and neither is told. What is on its way
    /// comes after the partition is healed, as does what is sent meanwhile on links that both sides
    /// still hold. A node that does not exist is cut off from nothing.
    pub fn partition(&self, one: usize, other: usize) {
        self.network.cut(&address(one), &address(other));
    }

    /// The same in one direction: what `from` sends does not arrive at `to`.
    pub fn partition_one_way(&self, from: usize, to: usize) {
        self.network.cut_one_way(&address(from), &address(to));
    }

    /// Everything passes again between the two nodes, in both directions. A link that only one of
    /// them still holds ends.
    pub fn heal(&self, one: usize, other: usize) {
        self.network.heal(&address(one), &address(other));
    }

    /// From now on each packet is on its way for a time of that range. Packets of one stream keep
    /// their order, those of different streams do not.
    pub fn delay(&mut self, range: RangeInclusive<Duration>) {
        self.weather.delay = range;
        self.network.set_weather(&self.weather);
    }

    /// From now on that part of the packets is dropped, from 0 to 1. Streams are reliable, so a
    /// dropped packet is one that is sent again and comes later, three times the longest delay (at
    /// least 50 ms) the first time and twice as long each further time. One that would take longer
    /// than 30 s takes its link along: both sides then find the other one silent.
    pub fn drop(&mut self, part: f64) {
        self.weather.loss = part;
        self.network.set_weather(&self.weather);
    }

    /// Ends a node as `kill -9` would: everything of it vanishes in this moment, without a goodbye.
    /// What it has sent still arrives, what is sent to it does not.
    ///
    /// # Errors
    /// [`ClusterError::NoNode`] when there is no such node, [`ClusterError::Down`] when it is
    /// killed already.
    ///
    /// # Cancel safety
    /// Not cancel safe: a part of the node may be left, which nobody hears.
    pub async fn kill(&mut self, number: usize) -> Result<(), ClusterError> {
        let place = self.place_mut(number)?;
        let node = place.node.take().ok_or(ClusterError::Down(number))?;
        // Once nothing leaves it any more nobody can tell how orderly it is taken down.
        self.network.vanish(&address(number));
        node.shut_down().await;
        Ok(())
    }

    /// Starts a node that was killed: the same identity and address, a new incarnation, and nothing
    /// of what it had in memory. Takes a millisecond.
    ///
    /// # Errors
    /// [`ClusterError::NoNode`] when there is no such node, [`ClusterError::Up`] when it lives; any
    /// other when it does not start.
    ///
    /// # Cancel safety
    /// Not cancel safe: the node may be up without its handle.
    pub async fn restart(&mut self, number: usize) -> Result<(), ClusterError> {
        let place = self.place_mut(number)?;
        if place.node.is_some() {
            return Err(ClusterError::Up(number));
        }
        place.life = place.life.saturating_add(1);
        self.advance(RESTART).await;
        self.begin_life(number).await
    }

    /// Links that were closed since this was asked last because one node accused the other: of
    /// bytes that cannot be read, of a claim that cannot be true, of words that it may not say.
    pub fn take_accusations(&self) -> Vec<String> {
        let closings = self.network.take_closings().into_iter();
        let accuses = |code: CloseCode| matches!(code, CloseCode::GARBAGE | CloseCode::FORBIDDEN);
        closings.filter(|(code, _)| accuses(*code)).map(|(_, text)| text).collect()
    }

    async fn begin_life(&mut self, number: usize) -> Result<(), ClusterError> {
        let network = self.network.clone();
        let (roster, life) = (self.roster.clone(), self.life(number)?);
        let registry = (self.tasks)(life);
        let place = self.place_mut(number)?;
        let authority = place.authority.as_deref().map(CertificateAuthority::from_pem);
        let config = NodeConfig {
            name: place.name.clone(),
            identity: place.identity.clone(),
            keys: place.keys()?,
            authority: authority.transpose()?,
            network: Network::Memory(network, address(number)),
            advertise: None,
            labels: Vec::new(),
            roster: Some(roster),
            registry,
            guardian: None,
            directory: PathBuf::from("/nonexistent/sortie-testkit"),
            store: None,
            detached: None,
            user: USER.to_owned(),
            basics: NodeBasics::of_this_user(),
            keeper: Arc::new(NoKeeper),
            world: Arc::clone(&place.world) as Arc<dyn World>,
            functions: None,
        };
        place.node = Some(NodeHandle::start(config).await?);
        Ok(())
    }

    fn place(&self, number: usize) -> Result<&Place, ClusterError> {
        let place = number.checked_sub(1).and_then(|index| self.places.get(index));
        place.ok_or(ClusterError::NoNode(number))
    }

    fn place_mut(&mut self, number: usize) -> Result<&mut Place, ClusterError> {
        let place = number.checked_sub(1).and_then(|index| self.places.get_mut(index));
        place.ok_or(ClusterError::NoNode(number))
    }
}

impl Place {
    fn new(
        number: usize,
        (authority, world): (&CertificateAuthority, Arc<NodeWorld>),
        chance: Chance,
    ) -> Result<Self, ClusterError> {
        let name: NodeName = name(number).parse().map_err(|_| ClusterError::NoNode(number))?;
        let key = keys::key(&mut chance.clone())?;
        let identity = authority.identify_node(&key, &name)?;
        let holds = number == 1;
        let authority = holds.then(|| authority.to_pem());
        Ok(Self { name, identity, chance, world, authority, life: 0, node: None })
    }

    fn member(&self) -> Member {
        let node = self.identity.peer().key();
        let (name, address) = (self.name.clone(), format!("{}:1", self.name));
        Member { node, name, address, labels: Vec::new() }
    }

    fn keys(&self) -> Result<NodeKeys, ClusterError> {
        let mut chance = self.chance.clone();
        Ok(NodeKeys { node: keys::key(&mut chance)?, user: keys::key(&mut chance)? })
    }
}

/// A node's address in the simulated network; ports mean nothing there.
fn address(number: usize) -> String {
    format!("{}:1", name(number))
}

fn name(number: usize) -> String {
    format!("node{number}")
}
