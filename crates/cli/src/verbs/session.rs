//! `sortie session`: sessions that outlive commands are opened, listed, held, given free, closed.

use std::ffi::OsStr;
use std::time::Duration;

use futures_util::future::join_all;
use sortie::answer::Busy;
use sortie::{
    Availability, Client, HomePaths, ScopeChange, SessionOptions, SessionState, SessionView,
};

use crate::args::reach::Reach;
use crate::args::read::expression;
use crate::args::sessions::{
    SessionConnectArgs, SessionEnvArgs, SessionGetArgs, SessionNewArgs, SessionPickArgs,
    SessionVerb,
};
use crate::args::values::{os_bytes, variable};
use crate::connect::{Connection, connect_to};
use crate::failure::Failure;
use crate::known_sessions::{self, Known};
use crate::own_node;
use crate::render::clean::one_line;
use crate::render::out::print;
use crate::render::sessions;
use crate::render::sheet::Format;
use crate::verbs::show;

/// How long `session get` waits for another node.
const LOOK_TIME: Duration = Duration::from_secs(3);

pub(super) async fn run(verb: SessionVerb) -> Result<u8, Failure> {
    match verb {
        SessionVerb::New(args) => new(*args).await,
        SessionVerb::Get(args) => get(*args).await,
        SessionVerb::Connect(args) => connect(*args).await,
        SessionVerb::Disconnect(args) => disconnect(*args).await,
        SessionVerb::Close(args) => close(*args).await,
        SessionVerb::Env(args) => env(*args).await,
    }
}

async fn new(args: SessionNewArgs) -> Result<u8, Failure> {
    let paths = own_node::home_paths()?;
    let own = own_node::connect(&paths).await?;
    let on = expression(&args.on)?;
    let nodes = match &on {
        Some(on) => own.nodes(Some(on.clone())).await?,
        None => Vec::new(),
    };
    if let Some(on) = on.as_ref().filter(|_| nodes.is_empty()) {
        return Err(Failure::no_node(on.as_str()));
    }
    let options = SessionOptions { name: args.name, idle_timeout: Some(args.idle_timeout) };
    let mut views = Vec::new();
    if on.is_none() {
        views.push(open(&own, options.clone()).await?);
    }
    let mut failed = None;
    for node in &nodes {
        let opened = open_on(&paths, (!node.is_self).then(|| node.name.as_str()), &options, &own);
        match opened.await {
            Ok(view) => views.push(view),
            Err(failure) => {
                let failure =
                    Failure { message: format!("{}: {}", node.name, failure.message), ..failure };
                failure.report(args.look.error_style());
                failed.get_or_insert(failure.cause);
            }
        }
    }
    own.close().await;
    show(&sessions::sessions(&views), &args.look)?;
    Ok(failed.map_or(0, |cause| cause.status()))
}

/// Opens a session on another node, or on our own, and remembers where it is.
async fn open_on(
    paths: &HomePaths,
    node: Option<&str>,
    options: &SessionOptions,
    own: &Client,
) -> Result<SessionView, Failure> {
    let Some(node) = node else { return open(own, options.clone()).await };
    let client = connect_to(paths, node).await?;
    let view = open(&client, options.clone()).await?;
    client.close().await;
    known_sessions::remember(paths, &Known::of(&view, node))?;
    Ok(view)
}

async fn open(client: &Client, options: SessionOptions) -> Result<SessionView, Failure> {
    let session = client.open_session(options).await?;
    let view = session.view_at_start().cloned();
    view.ok_or_else(|| Failure::internal("the node opened a session and did not show it"))
}

async fn get(args: SessionGetArgs) -> Result<u8, Failure> {
    let reach = Reach { node: args.node.clone(), ..Reach::default() };
    let connection = Connection::open(&reach).await?;
    let mut views = connection.client().sessions().await?;
    connection.close().await;
    if args.node.is_none() {
        let paths = own_node::home_paths()?;
        let known = known_sessions::all(&paths)?;
        let mut nodes: Vec<&str> = known.iter().map(|known| known.node.as_str()).collect();
        nodes.sort_unstable();
        nodes.dedup();
        let found = join_all(nodes.into_iter().map(|node| sessions_of(&paths, node))).await;
        for (node, sessions) in found {
            let here = known.iter().filter(|known| known.node == node);
            match sessions {
                Some(sessions) => views.extend(
                    sessions
                        .into_iter()
                        .filter(|view| here.clone().any(|known| known.instance == view.instance)),
                ),
                None => views.extend(here.filter_map(out_of_reach)),
            }
        }
    }
    show(&sessions::sessions(&views), &args.look)?;
    Ok(0)
}

/// The sessions of another node; none when it does not answer.
async fn sessions_of<'n>(paths: &HomePaths, node: &'n str) -> (&'n str, Option<Vec<SessionView>>) {
    let asked = async {
        let client = connect_to(paths, node).await?;
        let sessions = client.sessions().await?;
        client.close().await;
        Ok::<_, Failure>(sessions)
    };
    let answered = tokio::time::timeout(LOOK_TIME, asked).await;
    (node, answered.ok().and_then(Result::ok))
}

/// What the home knows of a session whose node does not answer.
fn out_of_reach(known: &Known) -> Option<SessionView> {
    Some(SessionView {
        id: sortie::SessionId(0),
        instance: known.instance,
        name: known.name.clone(),
        node: known.node.parse().ok()?,
        owner: String::new(),
        temporary: false,
        jobs: 0,
        unfinished: 0,
        created: sortie::Timestamp(0),
        below: None,
        state: SessionState::Broken,
        availability: Availability::None,
        epoch: 0,
        idle_timeout: None,
        expires: None,
    })
}

async fn connect(args: SessionConnectArgs) -> Result<u8, Failure> {
    let SessionConnectArgs { take, pick } = args;
    let reach = settled(&pick)?;
    let connection = Connection::open(&reach).await?;
    let busy = if take { Busy::Take } else { Busy::Refuse };
    let word = connection.session_name().to_owned();
    let session = connection.client().connect_session(&word, busy).await?;
    let view = session.view_at_start().cloned();
    drop(session);
    connection.close().await;
    if let (Some(view), Some(node)) = (&view, &reach.node) {
        known_sessions::remember(&own_node::home_paths()?, &Known::of(view, node))?;
    }
    show(&sessions::sessions(view.as_slice()), &pick.look)?;
    Ok(0)
}

async fn disconnect(pick: SessionPickArgs) -> Result<u8, Failure> {
    let connection = Connection::open(&settled(&pick)?).await?;
    let view = connection.session().disconnect().await?;
    connection.close().await;
    show(&sessions::sessions(&[view]), &pick.look)?;
    Ok(0)
}

async fn close(pick: SessionPickArgs) -> Result<u8, Failure> {
    let reach = settled(&pick)?;
    let connection = Connection::open(&reach).await?;
    let closed = connection.session().close().await;
    connection.close().await;
    closed?;
    if let Some(session) = &reach.session {
        known_sessions::forget(&own_node::home_paths()?, session)?;
    }
    Ok(0)
}

async fn env(args: SessionEnvArgs) -> Result<u8, Failure> {
    let mut change = ScopeChange::default();
    for word in &args.variables {
        change.set.extend(variable(word)?);
    }
    change.unset = args.unset.iter().map(|name| os_bytes(name)).collect::<Result<_, _>>()?;
    change.directory = args.chdir.as_deref().map(OsStr::new).map(os_bytes).transpose()?;
    let connection = Connection::open(&args.reach).await?;
    let scope = connection.session().change_scope(change).await?;
    connection.close().await;
    let table = matches!(args.look.format(), None | Some(Format::Table | Format::Wide));
    if let Some(directory) = scope.directory.as_ref().filter(|_| table) {
        let directory = String::from_utf8_lossy(directory.as_bytes()).into_owned();
        print(&format!("working directory: {}\n", one_line(&directory)))?;
    }
    show(&sessions::scope(&scope), &args.look)?;
    Ok(0)
}

/// Where the session is that the words name.
fn settled(pick: &SessionPickArgs) -> Result<Reach, Failure> {
    let mut reach = pick.reach();
    known_sessions::settle(&own_node::home_paths()?, &mut reach)?;
    Ok(reach)
}
