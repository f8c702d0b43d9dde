//! A node whose functions start jobs of their own, in threads and in the background:
//! `tree-node HOME NAME`.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use sortie::{
    Command, EndNotice, HomePaths, Intensity, Job, Node, Registry, RequestError, RestartType,
    Session, StartError, State, TaskContext, TaskSession,
};

#[derive(Debug)]
struct Failed(String);

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Failed {}

impl From<RequestError> for Failed {
    fn from(error: RequestError) -> Self {
        Self(error.to_string())
    }
}

impl From<StartError> for Failed {
    fn from(error: StartError) -> Self {
        Self(error.to_string())
    }
}

impl From<sortie::BadNodeExpr> for Failed {
    fn from(error: sortie::BadNodeExpr) -> Self {
        Self(error.to_string())
    }
}

const GRACE: Duration = Duration::from_millis(500);

/// Starts the rest of the way below itself: on the last node a process that stays, on those before
/// it this function, in the background where the node's name ends with `!`. With no way left it
/// does nothing.
async fn start_below(
    session: &Session,
    (way, mark): &(Vec<String>, String),
) -> Result<Option<Job>, Failed> {
    let job = match way.as_slice() {
        [] => return Ok(None),
        [last] => {
            let script = format!("trap '' TERM; sleep {mark}; true");
            session.job(Command::new("sh").args(["-c", &script])).on(last)?
        }
        [next, rest @ ..] => {
            let job = session.task("relay", &(rest, mark)).map_err(fail)?;
            match next.strip_suffix('!') {
                Some(node) => job.background().on(node)?,
                None => job.on(next)?,
            }
        }
    };
    Ok(Some(job.grace(GRACE).start().await?))
}

fn fail(error: impl Error) -> Failed {
    Failed(error.to_string())
}

/// The end of what is below, and why.
async fn judge(job: &Job) -> Result<(), Failed> {
    let state = job.wait().await?.state;
    if state == State::Completed {
        return Ok(());
    }
    let children = job.children().await?;
    let reason = children.iter().find_map(|child| child.reason.as_ref());
    let reason = reason.map_or_else(|| format!("{state:?}"), ToString::to_string);
    Err(Failed(format!("below: {reason}")))
}

/// Starts what is below and waits for it. Says each end that it is told of.
async fn relay(context: TaskContext, way: (Vec<String>, String)) -> Result<(), Failed> {
    let session = context.session().await?;
    let Some(job) = start_below(&session, &way).await? else { return Ok(()) };
    let mut monitor = job.monitor().await?;
    while let Some(EndNotice { ordinal, incarnation, state, reason, .. }) = monitor.next().await? {
        let reason = reason.map(|reason| reason.code());
        let (child, state) =
            (ordinal.map(|ordinal| ordinal.0), state.map(|state| state.to_string()));
        context.emit(&(child, incarnation.0, state, reason)).await.map_err(fail)?;
    }
    judge(&job).await
}

/// Keeps what is below alive: it starts again however it ends.
async fn keep(context: TaskContext, (way, mark): (Vec<String>, String)) -> Result<(), Failed> {
    let session = context.session().await?;
    let [next, rest @ ..] = way.as_slice() else { return Ok(()) };
    let job = session.task("relay", &(rest, mark)).map_err(fail)?.on(next)?;
    let often = Intensity::new(100, Duration::from_secs(3600)).map_err(fail)?;
    let job = job.restart(RestartType::Permanent).intensity(often).grace(GRACE);
    judge(&job.connect_timeout(Duration::from_secs(30)).start().await?).await
}

/// Waits to be told to stop, beside a job that stays and one that fails and takes it along.
async fn tied(
    context: TaskContext,
    (node, mark, gate): (String, String, String),
) -> Result<(), Failed> {
    let session = context.session().await?;
    session.job(Command::new("sleep").arg(&mark)).on(&node)?.grace(GRACE).start().await?;
    let script = format!("until test -e {gate}; do sleep 0.05; done; exit 3");
    let job = session.job(Command::new("sh").args(["-c", &script])).on(&node)?;
    job.escalating().start().await?;
    context.cancelled().await;
    Ok(())
}

/// What it finds of a variable, and where it is.
async fn look(context: TaskContext, name: String) -> Result<Vec<Option<String>>, Failed> {
    let variables = context.env();
    let names = [name.as_str(), "SORTIE_NODE", "SORTIE_JOB", "SORTIE_CHILD", "LANG"];
    let values = names.iter().map(|name| variables.get(std::ffi::OsStr::new(name)));
    Ok(values.map(|value| Some(value?.to_string_lossy().into_owned())).collect())
}

/// Starts what is below and ends, in one way or another, once that runs.
async fn leave(
    context: TaskContext,
    (how, way): (String, (Vec<String>, String)),
) -> Result<(), Failed> {
    let session = context.session().await?;
    let Some(job) = start_below(&session, &way).await? else { return Ok(()) };
    while !job.children().await?.iter().all(|child| child.state == State::Running) {
        tokio::task::yield_now().await;
    }
    match how.as_str() {
        "abort" => std::process::abort(),
        "kill" => {
            let own = std::process::id().to_string();
            std::process::Command::new("kill").args(["-9", &own]).status().map_err(fail)?;
            Ok(())
        }
        "return" => Ok(()),
        "fail" => Err(Failed("on purpose".to_owned())),
        _ => std::panic::panic_any("on purpose"),
    }
}

/// Starts itself below itself, until that is refused. Gives how deep it came, and the refusal.
async fn deeper(
    context: TaskContext,
    (level, background): (u32, bool),
) -> Result<(u32, String), Failed> {
    let session = match context.session().await {
        Ok(session) => session,
        Err(refused) => return Ok((level, refused.to_string())),
    };
    let job = session.task("deeper", &(level + 1, background)).map_err(fail)?.throttle(1);
    let job = if background { job.background() } else { job };
    let job = job.start().await?;
    let found: Vec<(u32, String)> = job.typed().await.map_err(fail)?;
    found.into_iter().next().ok_or_else(|| Failed("nothing came".to_owned()))
}

/// Starts jobs for as long as it may; ends when it may no more.
async fn sow(context: TaskContext, (nodes, mark): (String, String)) -> Result<(), Failed> {
    let session = context.session().await?;
    loop {
        let job = session.job(Command::new("sleep").arg(&mark)).on(&nodes)?;
        if job.grace(GRACE).start().await.is_err() {
            return Ok(());
        }
    }
}

/// As many bytes as it is told.
async fn long(_: TaskContext, length: usize) -> Result<String, Failed> {
    Ok("x".repeat(length))
}

/// Has these lengths made on those nodes, and adds what came. Says in which process it runs.
async fn sum(
    context: TaskContext,
    (nodes, lengths): (String, Vec<usize>),
) -> Result<(u32, usize), Failed> {
    let session = context.session().await?;
    let again = context.session().await?;
    let job = session.task_map("long", lengths).on(&nodes)?.start().await?;
    let texts: Vec<String> = job.typed().await.map_err(fail)?;
    let seen = again.get(sortie::Query::default()).await?.entries.len();
    if seen != 1 {
        return Err(Failed(format!("{seen} jobs in one session")));
    }
    Ok((std::process::id(), texts.iter().map(String::len).sum()))
}

/// Asks for more at once than it may, drops all of it, and again. Gives how many answers came.
async fn busy(context: TaskContext, count: usize) -> Result<usize, Failed> {
    let session = context.session().await?;
    let job = session.job(Command::new("sleep").arg("1000")).grace(GRACE).start().await?;
    for _ in 0..10 {
        let waits: Vec<_> = (0..count)
            .map(|_| {
                let job = job.clone();
                tokio::spawn(async move { job.wait().await })
            })
            .collect();
        tokio::task::yield_now().await;
        waits.iter().for_each(tokio::task::JoinHandle::abort);
    }
    let views = (0..count).map(|_| {
        let job = job.clone();
        tokio::spawn(async move { job.view().await })
    });
    let mut came = 0;
    for view in views.collect::<Vec<_>>() {
        view.await.map_err(fail)??;
        came += 1;
    }
    Ok(came)
}

fn tasks() -> Registry {
    Registry::new()
        .task("look", look)
        .task("relay", relay)
        .task("keep", keep)
        .task("leave", leave)
        .task("deeper", deeper)
        .task("sow", sow)
        .task("tied", tied)
        .task("long", long)
        .task("sum", sum)
        .task("busy", busy)
}

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::var("TEST_LIE") {
        Ok(how) => return Ok(sortie_tests::worker_lies::lie(&how)?),
        Err(_) => sortie::init_with(&tasks()),
    }
    tokio::runtime::Runtime::new()?.block_on(run())
}

async fn run() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let home = PathBuf::from(arguments.next().ok_or("HOME is missing")?);
    let name = arguments.next().ok_or("NAME is missing")?.into_string().map_err(|_| "no text")?;
    let node = Node::builder(name).home(HomePaths::within(home)).start().await?;
    node.ended().await;
    Ok(())
}
