//! `sortie session`: sessions that outlive commands are opened, listed, held, given free, closed.

use std::path::Path;

use sortie::answer::Busy;
use sortie::{
    Client, HomePaths, NodeView, OsBytes, OutputRule, ScopeChange, SessionOptions, SessionScope,
    SessionView,
};

use crate::args::output::{Look, Whose};
use crate::args::reach::Reach;
use crate::args::read::expression;
use crate::args::sessions::{
    SessionConnectArgs, SessionEnvArgs, SessionGetArgs, SessionNewArgs, SessionPickArgs,
    SessionVerb,
};
use crate::args::values::{os_bytes, variable};
use crate::args::work::no_directory;
use crate::connect::{Connection, connect_to_node};
use crate::exit::Cause;
use crate::failure::{ErrorStyle, Failure};
use crate::known_sessions::{self, Known};
use crate::own_node;
use crate::render::clean::one_line;
use crate::render::out::print;
use crate::render::sessions;
use crate::render::sheet::{Format, Sheet};
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
    let output = OutputRule { policy: args.output_policy, quota: args.quota };
    let options = SessionOptions { name: args.name, idle_timeout: Some(args.idle_timeout), output };
    let style = args.look.error_style();
    let mut opened = Opened { paths, options, style, ours: Vec::new(), others: Vec::new() };
    if on.is_none() {
        opened.on_own_node(&own).await?;
    }
    let mut failed = None;
    for node in &nodes {
        let done = match node.is_self {
            true => opened.on_own_node(&own).await,
            false => opened.on_another(node).await,
        };
        if let Err(failure) = done {
            let message = format!("{}: {}", node.name, failure.message);
            let failure = Failure { message, ..failure };
            failure.report(style);
            failed.get_or_insert(failure.cause);
        }
    }
    let shown = opened.show(&args.look);
    if shown.is_err() {
        opened.close_all().await;
    }
    own.close().await;
    shown?;
    Ok(failed.map_or(0, |cause| cause.status()))
}

/// Sessions that were opened, each with its client.
struct Opened {
    paths: HomePaths,
    options: SessionOptions,
    style: ErrorStyle,
    ours: Vec<(Client, SessionView)>,
    others: Vec<(Client, SessionView)>,
}

impl Opened {
    async fn on_own_node(&mut self, own: &Client) -> Result<(), Failure> {
        let view = self.open(own).await?;
        self.ours.push((own.clone(), view));
        Ok(())
    }

    /// Opens a session on another node, and remembers where it is.
    async fn on_another(&mut self, node: &NodeView) -> Result<(), Failure> {
        let client = connect_to_node(&self.paths, node).await?;
        let view = self.open(&client).await?;
        let known = Known::of(&view, node.name.as_str());
        known_sessions::note(&self.paths, &client, &known, self.style).await;
        self.others.push((client, view));
        Ok(())
    }

    async fn open(&self, client: &Client) -> Result<SessionView, Failure> {
        let session = client.open_session(self.options.clone()).await?;
        let nothing = || Failure::internal("the node opened a session and did not show it");
        let view = session.view_at_start().cloned().ok_or_else(nothing)?;
        let all = client.sessions().await.unwrap_or_default();
        if all.iter().any(|other| other.name == view.name && other.instance != view.instance) {
            self.warn_of_one_name(&view);
        }
        Ok(view)
    }

    /// Names need not be unique; who cannot use one any more should know.
    fn warn_of_one_name(&self, view: &SessionView) {
        let SessionView { name, node, instance, .. } = view;
        let message = format!("{node} has another session called `{name}`, too");
        Failure::new(Cause::NothingMatches, "name_used", message)
            .hint(format!("`--session {instance}` is the new one"))
            .report(self.style);
    }

    /// Shows them; nothing but a failure to report is no list.
    fn show(&self, look: &Look) -> Result<(), Failure> {
        let views = |opened: &[(Client, SessionView)]| {
            opened.iter().map(|(_, view)| view.clone()).collect::<Vec<_>>()
        };
        let (ours, others) = (views(&self.ours), views(&self.others));
        if ours.is_empty() && others.is_empty() && look.format().is_none() {
            return Ok(());
        }
        show(&sessions::sessions(&ours, &others), look)
    }

    /// Nobody was told of them.
    async fn close_all(&self) {
        let mut over = Vec::new();
        for (client, view) in self.ours.iter().chain(&self.others) {
            let closed = client.session_named(&view.instance.to_string()).close().await;
            over.extend(closed.is_ok().then_some(view.instance));
        }
        known_sessions::forget(&self.paths, &over, self.style).await;
    }
}

async fn get(args: SessionGetArgs) -> Result<u8, Failure> {
    let paths = own_node::home_paths()?;
    let style = args.look.error_style();
    // Read before any node is asked: what comes in meanwhile is not said to be gone.
    let mut known = known_sessions::all(&paths, style);
    let reach = Reach { node: args.node.clone(), ..Reach::default() };
    let connection = Connection::open(&reach).await?;
    let views = connection.client().sessions().await?;
    connection.close().await;
    let mut others = Vec::new();
    let over = match &args.node {
        None => {
            let mut over = without(&mut known, &views);
            let looked = look(&paths, known).await;
            others.extend(looked.found);
            others.extend(looked.silent.iter().map(sessions::out_of_reach));
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
    let sheet = match args.node {
        None => sessions::sessions(&views, &others),
        Some(_) => sheet_of(&views, &reach),
    };
    show(&sheet, &args.look)?;
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
        Ok(sheet_of(view.as_slice(), reach))
    });
    show(&connected.await?, &pick.look)?;
    Ok(0)
}

async fn disconnect(pick: SessionPickArgs) -> Result<u8, Failure> {
    let disconnected = settled(&pick, async |reach| {
        let connection = Connection::open(reach).await?;
        let view = connection.session().disconnect().await?;
        connection.close().await;
        Ok(sheet_of(&[view], reach))
    });
    show(&disconnected.await?, &pick.look)?;
    Ok(0)
}

fn sheet_of(views: &[SessionView], reach: &Reach) -> Sheet {
    match reach.whose() {
        Whose::OwnNodes => sessions::sessions(views, &[]),
        Whose::Others => sessions::sessions(&[], views),
    }
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
    let change = change_of(&args)?;
    let connection = Connection::open(&args.reach).await?;
    let session = connection.session();
    if !change.unset.is_empty() {
        warn_of_the_unset(&session.scope().await?, &change, &args.look);
    }
    let scope = session.change_scope(change).await?;
    connection.close().await;
    let table = matches!(args.look.format(), None | Some(Format::Table | Format::Wide));
    if let Some(directory) = scope.directory.as_ref().filter(|_| table) {
        let directory = String::from_utf8_lossy(directory.as_bytes()).into_owned();
        print(&format!("working directory: {}\n", one_line(&directory)))?;
    }
    show(&sessions::scope(&scope), &args.look)?;
    Ok(0)
}

/// What the words set and unset. A working directory is taken from ours on our own node; elsewhere
/// the node knows what it means.
fn change_of(args: &SessionEnvArgs) -> Result<ScopeChange, Failure> {
    let mut change = ScopeChange::default();
    for word in &args.variables {
        let usage = "write `NAME=VALUE`, or `NAME` for our own value";
        let set = variable(word).map_err(|failure| failure.hint(usage))?;
        let unset = || {
            let name = word.display();
            Failure::usage(format_args!("`{name}` is not set here, so it has no value to take"))
                .hint(format!("`{name}=VALUE` says one, `-u {name}` unsets it"))
        };
        change.set.push(set.ok_or_else(unset)?);
    }
    change.unset = args.unset.iter().map(|name| os_bytes(name)).collect::<Result<_, _>>()?;
    let directory = args.chdir.as_deref().map(Path::new);
    let is_ours = args.reach.is_own_node();
    let directory = match directory {
        Some(said) if is_ours && said.is_relative() && !said.as_os_str().is_empty() => {
            let ours = std::env::current_dir().map_err(|error| no_directory(&error))?;
            Some(ours.join(said))
        }
        said => said.map(Path::to_owned),
    };
    change.directory = directory.map(|directory| os_bytes(directory.as_os_str())).transpose()?;
    Ok(change)
}

/// What was not set is not unset; who misspelled it should know.
fn warn_of_the_unset(scope: &SessionScope, change: &ScopeChange, look: &Look) {
    let is_set = |name: &OsBytes| scope.variables.iter().any(|(set, _)| set == name);
    for name in change.unset.iter().filter(|name| !is_set(name)) {
        let name = String::from_utf8_lossy(name.as_bytes());
        let message = format!("`{name}` is not set in the session, so nothing is unset");
        Failure::new(Cause::NothingMatches, "not_set", message).report(look.error_style());
    }
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
