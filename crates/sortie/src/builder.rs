//! How a node is put together.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use sortie_actors::{Keeper, Network, NoKeeper, NodeConfig, NodeHandle, NodeKeys, SystemWorld};
use sortie_exec::registry::Registry;
use sortie_exec::task::{TaskContext, TaskError, TaskOutput, typed};
use sortie_exec::{LaunchOptions, NodeBasics};
use sortie_link::{CertificateAuthority, NodeKey};
use sortie_model::NodeName;
use sortie_wire::link_proto::{Member, Roster};

use crate::home::{Home, HomeKeeper, HomePaths};
use crate::node::{Node, NodeStartError, Refusal};
use crate::task::TaskFn;

/// A node to be started. Nothing happens before [`NodeBuilder::start`], and dropping a builder does
/// nothing.
#[derive(Debug)]
pub struct NodeBuilder {
    name: Option<String>,
    listen: Option<SocketAddr>,
    advertise: Option<String>,
    labels: BTreeMap<String, String>,
    tasks: Registry,
    fault: Option<NodeStartError>,
    processes: bool,
    functions: FunctionThreads,
    home: Option<HomePaths>,
    user: String,
    join: Option<Node>,
    directory: Option<PathBuf>,
}

/// On which threads a node's functions run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FunctionThreads {
    /// The node's.
    Shared,
    /// Theirs.
    Own,
}

/// What a node is made from, with or without a home.
struct Parts {
    name: NodeName,
    identity: sortie_link::Identity,
    keys: NodeKeys,
    authority: Option<CertificateAuthority>,
    roster: Option<Roster>,
    port: u16,
    advertise: Option<String>,
    labels: BTreeMap<String, String>,
    keeper: Arc<dyn Keeper>,
    home: Option<Arc<HomeKeeper>>,
    /// Where sessions are that outlive the node.
    store: Option<PathBuf>,
    /// Where the logs of detached processes are.
    detached: Option<PathBuf>,
}

impl NodeBuilder {
    pub(crate) fn new(name: Option<String>) -> Self {
        Self {
            name,
            listen: None,
            advertise: None,
            labels: BTreeMap::new(),
            tasks: Registry::default(),
            fault: None,
            processes: true,
            functions: FunctionThreads::Shared,
            home: None,
            user: "owner".to_owned(),
            join: None,
            directory: None,
        }
    }

    /// Registers a function under a name; jobs on this node can then run it. Its input and output
    /// travel as MessagePack with field names, each at most
    /// [`limits::VALUE_BYTES`](crate::limits::VALUE_BYTES); a panic in it fails its child only. Two
    /// of the same name are an error of the start ([`NodeStartError::TaskName`]). It does not run
    /// in the background: functions that do are given to [`init_with`](crate::init_with), and every
    /// node knows them. Its error is a [`TaskError`], which `Box<dyn Error>` is not.
    #[must_use]
    pub fn task<F, Fut, I, O, E>(mut self, name: &str, function: F) -> Self
    where
        F: Fn(TaskContext, I) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, E>> + Send + 'static,
        I: DeserializeOwned + 'static,
        O: TaskOutput,
        E: TaskError,
    {
        if let Err(taken) = self.tasks.add(name, typed(function)) {
            self.fault.get_or_insert(NodeStartError::TaskName(taken.0));
        }
        self
    }

    /// Registers a function that has the attribute [`task`](crate::task), under its own name. Two
    /// of the same name are an error of the start. A job that means a task of that name with other
    /// types is refused (`docs/semantics.md`, section 3.6).
    #[must_use]
    pub fn register<F: TaskFn>(mut self, task: F) -> Self {
        let function = typed(move |context, input| task.call(context, input));
        if let Err(taken) = self.tasks.add_typed(F::NAME, function, F::TYPES) {
            self.fault.get_or_insert(NodeStartError::TaskName(taken.0));
        }
        self
    }

    /// Registers every function of a registry, beside those of [`NodeBuilder::task`] and
    /// [`NodeBuilder::register`]. Two of the same name are an error of the start.
    #[must_use]
    pub fn registry(mut self, registry: &crate::registry::Registry) -> Self {
        if let Err(taken) = registry.add_to(&mut self.tasks) {
            self.fault.get_or_insert(NodeStartError::TaskName(taken.0));
        }
        self
    }

    /// Where to listen (UDP). Port 0 is the home's last port, or any free one where there is none.
    /// Default: loopback, with port 0.
    #[must_use]
    pub const fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = Some(address);
        self
    }

    /// Where the other nodes reach this one, `host:port`; anything else is an error of the start.
    /// Default: what the home remembers, else where it listens.
    #[must_use]
    pub fn advertise(mut self, address: impl Into<String>) -> Self {
        self.advertise = Some(address.into());
        self
    }

    /// Labels the node for node expressions (`key=value`), beside the labels that its home
    /// remembers: at most [`limits::LABELS_PER_NODE`](crate::limits::LABELS_PER_NODE) in all. The
    /// later of two with one key counts. What no expression could name is an error of the start.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Hosts no process children, also in a program whose `main` begins with
    /// [`init`](crate::init). Where it does not begin so, no node hosts any.
    #[must_use]
    pub const fn without_processes(mut self) -> Self {
        self.processes = false;
        self
    }

    /// Runs the node's functions on threads of their own, which all such nodes of this process
    /// share: as many as there are processors, and at least two. Then a function that computes for
    /// long or blocks its thread holds up other functions at most, not the node; and each function
    /// costs two changes of thread, about 30 us in all. The nodes of the command line do so.
    ///
    /// Otherwise functions run in the runtime in which the node was started, as futures that must
    /// not block it: where all of its threads are blocked for
    /// [`limits::LEASE`](crate::limits::LEASE), children that it runs for other nodes end, and
    /// after [`limits::LOST_AFTER`](crate::limits::LOST_AFTER) it is lost to them
    /// (`docs/semantics.md`, section 4).
    #[must_use]
    pub const fn own_threads_for_functions(mut self) -> Self {
        self.functions = FunctionThreads::Own;
        self
    }

    /// Keeps identity, port, advertised address, roster and labels in a home, made on first use. It
    /// is in use until [`Node::shut_down`] or the end of the last handle on the node. Without a
    /// home the node is a stranger in its next life.
    #[must_use]
    pub fn home(mut self, paths: HomePaths) -> Self {
        self.home = Some(paths);
        self
    }

    /// The name of the node's user, as jobs and sessions show it. Default: `owner`.
    #[must_use]
    pub fn user(mut self, name: impl Into<String>) -> Self {
        self.user = name.into();
        self
    }

    /// Makes it a member of the cluster of a node in this process that holds its CA. For nodes
    /// without a home: one with a home keeps the identity in it, and its start is refused
    /// ([`NodeStartError::HomeJoins`]). It joins by
    /// [`Client::cluster_join`](crate::Client::cluster_join).
    #[must_use]
    pub fn join(mut self, node: &Node) -> Self {
        self.join = Some(node.clone());
        self
    }

    /// Where mailboxes and stored input spill to, in a directory of the node's name. Default: the
    /// home's state directory, else the system's temporary one.
    #[must_use]
    pub fn spill_to(mut self, directory: PathBuf) -> Self {
        self.directory = Some(directory);
        self
    }

    /// Starts the node in the present tokio runtime, in which it then lives until
    /// [`Node::shut_down`] or the runtime's end; dropping the handle ends nothing.
    ///
    /// # Errors
    /// [`NodeStartError`]; nothing is left running, but a home that was made stays.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the node does not come to be: what of it runs already ends. A
    /// home that was made stays.
    pub async fn start(mut self) -> Result<Node, NodeStartError> {
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        if self.home.is_some() && self.join.is_some() {
            return Err(NodeStartError::HomeJoins);
        }
        crate::program::add_to(&mut self.tasks)
            .map_err(|taken| NodeStartError::TaskName(taken.0))?;
        let basics = NodeBasics {
            node_home: self.home.as_ref().and_then(HomePaths::as_one_folder),
            ..NodeBasics::of_this_user()
        };
        let parts = match self.home.take() {
            Some(paths) => self.at_home(paths)?,
            None => self.homeless()?,
        };
        let listen = match self.listen {
            Some(listen) if listen.port() == 0 => SocketAddr::new(listen.ip(), parts.port),
            Some(listen) => listen,
            None => SocketAddr::from((Ipv4Addr::LOCALHOST, parts.port)),
        };
        let temporary = std::env::temp_dir().join(format!("sortie-{}", std::process::id()));
        let directory = self.directory.unwrap_or(temporary).join(parts.name.as_str());
        // In a program that did not get ready for it a process is an error of its start.
        let hosts_processes = self.processes && sortie_exec::guardian::is_initialised();
        let config = NodeConfig {
            name: parts.name,
            identity: parts.identity,
            keys: parts.keys,
            authority: parts.authority,
            network: Network::Quic(listen),
            advertise: self.advertise.or(parts.advertise),
            labels: parts
                .labels
                .into_iter()
                .chain(self.labels)
                .collect::<BTreeMap<_, _>>()
                .into_iter()
                .collect(),
            roster: parts.roster,
            functions: match self.functions {
                // Threads for none would only cost a node's start.
                FunctionThreads::Own if !self.tasks.is_empty() => crate::threads::for_functions(),
                FunctionThreads::Own | FunctionThreads::Shared => None,
            },
            registry: self.tasks,
            guardian: hosts_processes.then(|| LaunchOptions {
                keep: parts.store.as_ref().map(|store| store.join("processes")),
                ..LaunchOptions::default()
            }),
            directory,
            store: parts.store,
            detached: parts.detached,
            user: self.user,
            basics,
            keeper: parts.keeper,
            world: Arc::new(SystemWorld),
        };
        let handle = NodeHandle::start(config).await.map_err(NodeStartError::from_node)?;
        if let Err(error) = make_known(&handle, self.join.as_ref(), parts.home.as_deref()) {
            // Nobody asked for the end of what an earlier node of this home left running.
            handle.leave().await;
            return Err(error);
        }
        Ok(Node::new(handle, parts.home))
    }

    fn at_home(&mut self, paths: HomePaths) -> Result<Parts, NodeStartError> {
        let name = self.name.take().map(|name| name.parse()).transpose()?;
        self.directory.get_or_insert_with(|| paths.state.join("spill"));
        let (store, detached) = (Some(paths.sessions()), Some(paths.detached()));
        let home = Home::create_or_open(paths, name, &self.user)?;
        let identities = home.identities();
        let authority =
            identities.authority().map(|ca| CertificateAuthority::from_pem(&ca.to_pem()));
        let (roster, settings) = (home.roster()?, home.settings().clone());
        let parts = (
            identities.name().clone(),
            identities.node().clone(),
            NodeKeys { node: identities.node_key()?, user: identities.user_key()? },
            authority.transpose().map_err(NodeStartError::identity)?,
        );
        let keeper = Arc::new(HomeKeeper::new(home));
        let (name, identity, keys, authority) = parts;
        Ok(Parts {
            name,
            identity,
            keys,
            authority,
            roster,
            port: settings.port.unwrap_or(0),
            advertise: settings.advertise,
            labels: settings.labels,
            keeper: Arc::clone(&keeper) as Arc<dyn Keeper>,
            home: Some(keeper),
            store,
            detached,
        })
    }

    fn homeless(&mut self) -> Result<Parts, NodeStartError> {
        let name: NodeName = self.name.take().unwrap_or_else(|| "node".to_owned()).parse()?;
        let made = || {
            let keys = NodeKeys { node: NodeKey::generate()?, user: NodeKey::generate()? };
            Ok::<_, sortie_link::AuthorityError>((keys, CertificateAuthority::create()?))
        };
        let (keys, own) = made().map_err(NodeStartError::identity)?;
        let cluster = self.join.as_ref().map(Node::authority).transpose()?;
        let signer = cluster.as_deref().unwrap_or(&own);
        let identity = signer.identify_node(&keys.node, &name).map_err(NodeStartError::identity)?;
        let roster = self.join.as_ref().map(|node| roster_with(node, &name, &keys));
        let authority = if self.join.is_some() { None } else { Some(own) };
        Ok(Parts {
            name,
            identity,
            keys,
            authority,
            roster,
            port: 0,
            advertise: None,
            labels: BTreeMap::new(),
            keeper: Arc::new(NoKeeper),
            home: None,
            store: None,
            detached: None,
        })
    }
}

/// Tells the cluster of a node that runs, and whoever looks for it in its home.
fn make_known(
    handle: &NodeHandle,
    join: Option<&Node>,
    home: Option<&HomeKeeper>,
) -> Result<(), NodeStartError> {
    if let (Some(cluster), Some(member)) = (join, handle.member()) {
        let admitted = cluster.handle().admit(member);
        admitted.map_err(|error| NodeStartError::Refused(Refusal(error)))?;
    }
    if let Some(home) = home {
        home.announce(handle.local_addr())?;
    }
    Ok(())
}

/// The cluster's roster with the new node in it, so that both know each other from the start.
fn roster_with(node: &Node, name: &NodeName, keys: &NodeKeys) -> Roster {
    let mut roster = node.handle().roster();
    // Its own row is put right when it listens; the version stays, so that the CA's next one
    // counts.
    let own = keys.node.node_id();
    roster.members.retain(|member| member.node != own);
    let address = "127.0.0.1:1".to_owned();
    roster.members.push(Member { node: own, name: name.clone(), address, labels: Vec::new() });
    roster
}
