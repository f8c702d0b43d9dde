//! `sortie node`: run a node, look at nodes, end one.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;
use sortie::{ConnectError, HomePaths, Node, NodeStartError, Registry};

use crate::args::nodes::{
    NodeGetArgs, NodeLabelsArgs, NodePingArgs, NodeRunArgs, NodeStopArgs, NodeVerb,
};
use crate::args::read::expression;
use crate::connect::{Connection, connect_to};
use crate::exit::Cause;
use crate::failure::Failure;
use crate::logging::{Unasked, log_to_stderr};
use crate::own_node::{self, LEFT_RUNNING, eprintln_quietly};
use crate::render::json::SCHEMA;
use crate::render::out::print;
use crate::render::sheet::Format;
use crate::render::{listing, yaml};
use crate::signals::Interrupts;
use crate::verbs::{multi_thread, show};

/// What runs on after a node has shut down gets this long.
const LAST_BREATH: Duration = Duration::from_secs(1);
/// How long `node stop` waits until the node has left its home.
const STOP_TIME: Duration = Duration::from_secs(15);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// `sortie node run`: the daemon, in the foreground.
pub(super) fn run(args: NodeRunArgs, registry: &Registry) -> Result<u8, Failure> {
    if args.background {
        own_node::detach();
    }
    log_to_stderr(Unasked::Warnings);
    let runtime = multi_thread()?;
    let done = runtime.block_on(serve(args, registry));
    runtime.shutdown_timeout(LAST_BREATH);
    done
}

async fn serve(args: NodeRunArgs, registry: &Registry) -> Result<u8, Failure> {
    let paths = match &args.home {
        Some(folder) => own_node::home_at(folder)?,
        None => own_node::home_paths()?,
    };
    let mut builder = match args.name {
        Some(name) => Node::builder(name),
        None => Node::unnamed(),
    };
    builder = builder.home(paths.clone()).user(user_name()).registry(registry);
    // Functions of a user's program may block: the node answers all the same.
    builder = builder.own_threads_for_functions();
    if let Some(listen) = &args.listen {
        builder = builder.listen(resolve(listen).await?);
    }
    if let Some(advertise) = args.advertise {
        builder = builder.advertise(advertise);
    }
    for (key, value) in args.labels {
        builder = builder.label(key, value);
    }
    let mut interrupts = Interrupts::listen()?;
    let node = tokio::select! {
        node = builder.start() => node.map_err(|error| not_started(error, &paths))?,
        () = interrupts.next() => return Err(Failure::interrupted("interrupted")),
    };
    let address = node.local_addr();
    eprintln_quietly(&format!("sortie: node {} is ready at {address}", node.name()));
    tokio::select! {
        () = interrupts.next() => {}
        () = node.ended() => {}
    }
    tokio::select! {
        () = node.shut_down() => Ok(0),
        () = interrupts.next() => Err(Failure::interrupted("interrupted while shutting down")),
    }
}

/// Why the node does not start, and how what an earlier one left can be ended.
fn not_started(error: NodeStartError, paths: &HomePaths) -> Failure {
    let failure = Failure::from(error);
    if failure.hint.is_none() && paths.keeps_processes() {
        return failure.hint(LEFT_RUNNING);
    }
    failure
}

async fn resolve(address: &str) -> Result<SocketAddr, Failure> {
    let found = tokio::net::lookup_host(address).await;
    let found = found.map_err(|error| {
        Failure::usage(format_args!("cannot listen at `{address}` (resolve): {error}"))
            .hint("an address is host:port; port 0 is any free one")
    });
    let missing = || Failure::usage(format_args!("`{address}` resolves to no address"));
    found?.next().ok_or_else(missing)
}

fn user_name() -> String {
    let named = ["USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    named
        .filter(|name| !name.is_empty() && !name.contains(char::is_control))
        .unwrap_or_else(|| format!("uid{}", rustix::process::getuid().as_raw()))
}

/// The verbs that ask a node something.
pub(super) async fn ask(verb: NodeVerb, registry: &Registry) -> Result<u8, Failure> {
    match verb {
        NodeVerb::Run(args) => serve(*args, registry).await,
        NodeVerb::Stop(args) if args.keep => leave(args.node.as_deref()).await,
        NodeVerb::Stop(args) => stop(*args).await,
        NodeVerb::Restart(_) => restart().await,
        NodeVerb::Get(args) => get(*args).await,
        NodeVerb::Ping(args) => ping(*args).await,
        NodeVerb::Labels(args) => labels(*args).await,
    }
}

async fn stop(args: NodeStopArgs) -> Result<u8, Failure> {
    let paths = own_node::home_paths()?;
    if let Some(target) = &args.node {
        connect_to(&paths, target).await?.stop_node().await?;
        return Ok(0);
    }
    match own_node::connect_running(&paths).await {
        Ok(client) => client.stop_node().await?,
        // What a node that was killed left running ends with the next one.
        Err(ConnectError::NotRunning) if paths.keeps_processes() => {
            match own_node::connect(&paths).await {
                Ok(client) => client.stop_node().await?,
                Err(failure) => return end_processes(&paths, &failure).await,
            }
        }
        Err(ConnectError::NotRunning) => {
            eprintln_quietly("sortie: no node of yours runs");
            return Ok(0);
        }
        Err(error) => return Err(error.into()),
    }
    wait_until_gone(&paths).await
}

/// Ends a node, and lets run on what outlives it.
async fn leave(target: Option<&str>) -> Result<u8, Failure> {
    let paths = own_node::home_paths()?;
    if let Some(target) = target {
        connect_to(&paths, target).await?.leave_node().await?;
        return Ok(0);
    }
    match own_node::connect_running(&paths).await {
        Ok(client) => {
            client.leave_node().await.map_err(|error| not_asked(error.into(), &paths))?;
            wait_until_gone(&paths).await
        }
        Err(ConnectError::NotRunning) => {
            eprintln_quietly("sortie: no node of yours runs");
            Ok(0)
        }
        Err(error) => Err(error.into()),
    }
}

/// What to do about a node that hangs up: one of before there was such a request.
fn not_asked(failure: Failure, paths: &HomePaths) -> Failure {
    match paths.last_holder() {
        Some(process) if failure.cause == Cause::NodeLost => failure.hint(format!(
            "a node of an older version cannot be asked that: after `kill -9 {process}` the next \
             command starts one of this version, and jobs of its sessions run on"
        )),
        _ => failure,
    }
}

/// Replaces our own node by one of this program.
async fn restart() -> Result<u8, Failure> {
    leave(None).await?;
    own_node::connect(&own_node::home_paths()?).await?.close().await;
    Ok(0)
}

/// Ends what a node that was killed left running, where no node of the home starts.
async fn end_processes(paths: &HomePaths, failure: &Failure) -> Result<u8, Failure> {
    paths.end_processes().await?;
    eprintln_quietly(&format!("sortie: {}", failure.message));
    eprintln_quietly("sortie: the processes of its sessions were ended; what they said is kept");
    Ok(0)
}

/// Waits until the home is free, so that what follows finds no node half gone.
async fn wait_until_gone(paths: &HomePaths) -> Result<u8, Failure> {
    let begun = Instant::now();
    while paths.announced().is_ok_and(|address| address.is_some()) {
        if begun.elapsed() > STOP_TIME {
            return Err(Failure::internal("the node agreed to stop and has not ended yet"));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(0)
}

async fn get(args: NodeGetArgs) -> Result<u8, Failure> {
    let expression = expression(&args.expression)?;
    let connection = Connection::open(&args.reach).await?;
    let nodes = connection.client().nodes(expression.clone()).await?;
    connection.close().await;
    if let Some(expression) = expression.filter(|_| nodes.is_empty()) {
        Failure::no_node(expression.as_str()).report(args.look.error_style());
    }
    show(&listing::nodes(&nodes), &args.look)?;
    Ok(0)
}

async fn ping(args: NodePingArgs) -> Result<u8, Failure> {
    let connection = Connection::open(&args.reach).await?;
    let begun = Instant::now();
    let pong = connection.client().ping(args.target).await?;
    // Of the node that we ask itself, the way between us and it counts.
    let round_trip = pong.round_trip.unwrap_or_else(|| begun.elapsed());
    connection.close().await;
    let seconds = round_trip.as_secs_f64();
    let document = json!({ "schema": SCHEMA, "node": pong.node.as_str(), "round_trip": seconds });
    print(&match args.look.format() {
        Some(Format::Json | Format::Ndjson) => format!("{document}\n"),
        Some(Format::Yaml) => yaml::to_yaml(&document),
        _ => format!("{} answered in {:.2} ms\n", pong.node, seconds * 1e3),
    })?;
    Ok(0)
}

async fn labels(args: NodeLabelsArgs) -> Result<u8, Failure> {
    let connection = Connection::open(&args.reach).await?;
    let client = connection.client();
    let nodes = if args.labels.is_empty() {
        client.nodes(Some(sortie::NodeExpr::node(&args.target))).await?
    } else {
        client.set_labels(args.target, args.labels).await?
    };
    connection.close().await;
    show(&listing::nodes(&nodes), &args.look)?;
    Ok(0)
}
