//! Clusters for the scenarios: an owner, and executing nodes in processes of their own.

use std::convert::Infallible;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sortie::{Client, HomePaths, Node, NodeBuilder, NodeState, Session, TaskContext};
use tempfile::TempDir;

use crate::measure;
use crate::program::{Outcome, runtime};

/// How long a dial may take.
const DIAL: Duration = Duration::from_secs(5);
/// How long a node may take to end before it is killed.
const END: Duration = Duration::from_secs(5);

/// A node in a process of its own, with a home of its own. Dropping it ends the node.
#[derive(Debug)]
pub struct NodeProcess {
    process: Child,
    home: TempDir,
}

impl NodeProcess {
    /// Starts a node and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start(name: &str) -> Outcome<Self> {
        let home = tempfile::tempdir()?;
        let process = Command::new(std::env::current_exe()?)
            .arg("node")
            .arg(home.path())
            .arg(name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut node = Self { process, home };
        let mut line = String::new();
        if let Some(out) = node.process.stdout.take() {
            BufReader::new(out).read_line(&mut line)?;
        }
        if line.trim_end() != READY {
            return Err(format!("node {name} did not start").into());
        }
        Ok(node)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Its home.
    pub fn paths(&self) -> HomePaths {
        HomePaths::within(self.home.path())
    }

    /// A connection to it as its owner.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn client(&self) -> Outcome<Client> {
        Ok(Client::connect_home(&self.paths(), DIAL).await?)
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let until = Instant::now() + END;
        while matches!(self.process.try_wait(), Ok(None)) {
            if Instant::now() > until {
                // It hangs; its guardian ends what it left.
                let _ = self.process.kill();
                let _ = self.process.wait();
                return;
            }
            // tidy: waits because the end of a process can only be polled with a time limit
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// What a node prints when it is ready.
const READY: &str = "ready";

/// Is a node until its standard input ends: `node HOME NAME`.
pub(crate) fn play_node(words: &[String]) -> Outcome<()> {
    let [_, home, name] = words else { return Err("node HOME NAME".into()) };
    let runtime = runtime()?;
    runtime.block_on(async {
        let builder = Node::builder(name.as_str()).home(HomePaths::within(home));
        let node = with_tasks(builder).start().await?;
        let mut out = std::io::stdout();
        writeln!(out, "{READY}")?;
        out.flush()?;
        let input = tokio::task::spawn_blocking(|| {
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
        });
        tokio::select! {
            _ = input => node.shut_down().await,
            () = node.ended() => {}
        }
        Ok(())
    })
}

/// A text of 100 bytes, for scenarios about small records.
pub const SMALL: &str = "one hundred bytes of text, which is what a line of a log tends to have, \
                         and what small records hold.";

/// The functions of the scenarios: `answer` gives its input back, `hold` runs until it is told to
/// stop, `records` emits so many small records.
pub fn with_tasks(builder: NodeBuilder) -> NodeBuilder {
    builder
        .task("answer", |_: TaskContext, n: u64| async move { Ok::<_, Infallible>(n) })
        .task("hold-or-fail", |context: TaskContext, one_in: u32| async move {
            if context.ordinal().0.is_multiple_of(one_in) {
                return Err(std::io::Error::other("as it was told"));
            }
            context.cancelled().await;
            Ok(())
        })
        .task("hold", |context: TaskContext, (): ()| async move {
            context.cancelled().await;
            Ok::<_, Infallible>(())
        })
        .task("records", |context: TaskContext, count: u64| async move {
            for _ in 0..count {
                context.emit(SMALL).await?;
            }
            Ok::<_, sortie::EmitError>(())
        })
}

#[derive(Debug)]
enum Owner {
    /// In this process, as a program that embeds the library.
    Here { node: Node, _home: TempDir },
    /// In a process of its own, so that its memory can be told from ours.
    Apart(NodeProcess),
}

/// An owner and executing nodes `a`, `b`, … that have joined it by token.
#[derive(Debug)]
pub struct Cluster {
    client: Client,
    executors: Vec<NodeProcess>,
    owner: Owner,
}

impl Cluster {
    /// With the owner in this process.
    ///
    /// # Errors
    /// When a node does not start or join.
    pub async fn start(executors: usize) -> Outcome<Self> {
        let home = tempfile::tempdir()?;
        let builder = Node::builder("owner").home(HomePaths::within(home.path()));
        let node = with_tasks(builder).start().await?;
        Self::assemble(node.client(), Owner::Here { node, _home: home }, executors).await
    }

    /// With the owner in a process of its own.
    ///
    /// # Errors
    /// When a node does not start or join.
    pub async fn start_apart(executors: usize) -> Outcome<Self> {
        let owner = NodeProcess::start("owner")?;
        Self::assemble(owner.client().await?, Owner::Apart(owner), executors).await
    }

    async fn assemble(client: Client, owner: Owner, executors: usize) -> Outcome<Self> {
        let mut cluster = Self { client, executors: Vec::new(), owner };
        cluster.client.cluster_init(None).await?;
        for number in 0..executors {
            let name = char::from(b'a' + u8::try_from(number % 26)?);
            let node = NodeProcess::start(&name.to_string())?;
            let offer = cluster.client.cluster_token().await?;
            let member = node.client().await?;
            member.cluster_join(offer.address, offer.token).await?;
            cluster.executors.push(node);
        }
        measure::until("links to all nodes", async || {
            let nodes = cluster.client.nodes(None).await?;
            let alive = nodes.iter().filter(|node| node.state == NodeState::Alive).count();
            Ok((alive > executors).then_some(()))
        })
        .await?;
        Ok(cluster)
    }

    /// The owner's session.
    pub fn session(&self) -> Session {
        self.client.session()
    }

    /// A client of the owner.
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// The names of the executing nodes as a node expression.
    pub fn everywhere(&self) -> String {
        let names = (b'a'..=b'z').map(char::from).take(self.executors.len());
        names.map(String::from).collect::<Vec<_>>().join(",")
    }

    /// The process of the owner.
    pub fn owner_pid(&self) -> u32 {
        match &self.owner {
            Owner::Here { .. } => std::process::id(),
            Owner::Apart(node) => node.pid(),
        }
    }

    /// The processes of the executing nodes.
    pub fn executor_pids(&self) -> impl Iterator<Item = u32> {
        self.executors.iter().map(NodeProcess::pid)
    }

    /// All of them.
    pub fn pids(&self) -> Vec<u32> {
        self.executor_pids().chain([self.owner_pid()]).collect()
    }

    /// Ends the owner orderly; the executing nodes end when they are dropped.
    pub async fn end(self) {
        if let Owner::Here { node, .. } = &self.owner {
            node.shut_down().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_small_text_is_as_long_as_it_says() {
        assert_eq!(SMALL.len(), 100);
    }
}
