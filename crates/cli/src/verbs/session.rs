//! `sortie session`: sessions that outlive commands are opened, listed, held, given free, closed.

use std::ffi::OsStr;

use sortie::answer::Busy;
use sortie::{Client, HomePaths, ScopeChange, SessionOptions, SessionView};

use crate::args::reach::Reach;
use crate::args::read::expression;
use crate::args::sessions::{
    SessionConnectArgs, SessionEnvArgs, SessionGetArgs, SessionNewArgs, SessionPickArgs,
    SessionVerb,
};
use crate::args::values::{os_bytes, variable};
use crate::connect::{Connection, connect_to};
use crate::failure::{ErrorStyle, Failure};
use crate::known_sessions::{self, Known};
use crate::own_node;
use crate::render::clean::one_line;
use crate::render::out::print;
use crate::render::sessions;
use crate::render::sheet::Format;
use crate::settle::{look, settle, without};
use crate::verbs::show;

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
    let style = args.look.error_style();
    let mut views = Vec::new();
    if on.is_none() {
        views.push(open(&own, options.clone()).await?);
    }
    let mut failed = None;
    for node in &nodes {
        let opened = match node.is_self {
            true => open(&own, options.clone()).await,
            false => open_on(&paths, node.name.as_str(), &options, style).await,
        };
        match opened {
            Ok(view) => views.push(view),
            Err(failure) => {
                let failure =
                    Failure { message: format!("{}: {}", node.name, failure.message), ..failure };
                failure.report(style);
                failed.get_or_insert(failure.cause);
            }
        }
    }
    own.close().await;
    show(&sessions::sessions(&views), &args.look)?;
    Ok(failed.map_or(0, |cause| cause.status()))
}

/// Opens a session on another node, and remembers where it is.
async fn open_on(
    paths: &HomePaths,
    node: &str,
    options: &SessionOptions,
    style: ErrorStyle,
) -> Result<SessionView, Failure> {
    let client = connect_to(paths, node).await?;
    let view = open(&client, options.clone()).await?;
    known_sessions::note(paths, &client, &Known::of(&view, node), style).await;
    client.close().await;
    Ok(view)
}

async fn open(client: &Client, options: SessionOptions) -> Result<SessionView, Failure> {
    let session = client.open_session(options).await?;
    let view = session.view_at_start().cloned();
    view.ok_or_else(|| Failure::internal("the node opened a session and did not show it"))
}

async fn get(args: SessionGetArgs) -> Result<u8, Failure> {
    let paths = own_node::home_paths()?;
    let style = args.look.error_style();
    // Read before any node is asked: what comes in meanwhile is not said to be gone.
    let mut known = known_sessions::all(&paths)?;
    let reach = Reach { node: args.node.clone(), ..Reach::default() };
    let connection = Connection::open(&reach).await?;
    let mut views = connection.client().sessions().await?;
    connection.close().await;
    let over = match &args.node {
        None => {
            let mut over = without(&mut known, &views);
            let looked = look(&paths, known).await;
            views.extend(looked.found);
            views.extend(looked.silent.iter().map(sessions::out_of_reach));
            over.extend(looked.gone);
            over
        }
        Some(node) => {
            without(&mut known, &views);
            let gone = known.iter().filter(|known| known.node == *node);
            gone.map(|known| known.instance).collect()
        }
    };
    known_sessions::forget(&paths, &over, style).await;
    show(&sessions::sessions(&views), &args.look)?;
    Ok(0)
}

async fn connect(args: SessionConnectArgs) -> Result<u8, Failure> {
    let SessionConnectArgs { take, pick } = args;
    let connected = settled(&pick, async |reach| {
        let connection = Connection::open(reach).await?;
        let busy = if take { Busy::Take } else { Busy::Refuse };
        let word = connection.session_name();
        let session = connection.client().connect_session(word, busy).await?;
        let view = session.view_at_start().cloned();
        drop(session);
        if let (Some(view), Some(node)) = (&view, &reach.node) {
            let (paths, client) = (own_node::home_paths()?, connection.client());
            let known = Known::of(view, node);
            known_sessions::note(&paths, client, &known, pick.look.error_style()).await;
        }
        connection.close().await;
        Ok(view)
    });
    let view = connected.await?;
    show(&sessions::sessions(view.as_slice()), &pick.look)?;
    Ok(0)
}

async fn disconnect(pick: SessionPickArgs) -> Result<u8, Failure> {
    let disconnected = settled(&pick, async |reach| {
        let connection = Connection::open(reach).await?;
        let view = connection.session().disconnect().await?;
        connection.close().await;
        Ok(view)
    });
    let view = disconnected.await?;
    show(&sessions::sessions(&[view]), &pick.look)?;
    Ok(0)
}

async fn close(pick: SessionPickArgs) -> Result<u8, Failure> {
    let closed = settled(&pick, async |reach| {
        let connection = Connection::open(reach).await?;
        let mut called = connection.client().sessions().await?;
        called.retain(|view| view.is_called(connection.session_name()));
        // The one that was found is closed, and forgotten under whatever word it was named.
        let found = <[SessionView; 1]>::try_from(called).ok().map(|[view]| view.instance);
        let closed = match &found {
            Some(instance) => connection.client().session_named(&instance.to_string()),
            None => connection.session(),
        };
        let closed = closed.close().await;
        connection.close().await;
        closed?;
        Ok(found)
    });
    let found = closed.await?;
    let paths = own_node::home_paths()?;
    known_sessions::forget(&paths, found.as_slice(), pick.look.error_style()).await;
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

/// Does something with the session that the words name, where it is.
async fn settled<T>(
    pick: &SessionPickArgs,
    what: impl AsyncFnOnce(&Reach) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut reach = pick.reach();
    let named = settle(&mut reach, pick.look.error_style()).await?;
    match (what(&reach).await, named) {
        (Err(failure), Some(named)) => Err(named.explain(failure).await),
        (done, _) => done,
    }
}
