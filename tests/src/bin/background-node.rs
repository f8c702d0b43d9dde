//! A node whose functions run in the background, too: `background-node HOME NAME`. Most of them do
//! what would be the end of a node.

use std::convert::Infallible;
use std::error::Error;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use sortie::{AskError, EmitError, HomePaths, Node, Registry, TaskContext};

#[derive(Debug)]
struct Refused(std::num::ParseIntError);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("refused")
    }
}

impl Error for Refused {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

#[sortie::task]
async fn parse(text: String) -> Result<u64, Refused> {
    text.parse().map_err(Refused)
}

#[sortie::task]
async fn pid((): ()) -> Result<u32, Infallible> {
    Ok(std::process::id())
}

/// Needs as much stack as there are levels.
#[expect(unconditional_recursion, reason = "the stack is to overflow")]
fn deeper(level: u64) -> u64 {
    let here = std::hint::black_box([level; 64]);
    deeper(level + 1) + here.iter().sum::<u64>()
}

async fn crash(context: TaskContext, how: String) -> Result<(), EmitError> {
    context.emit("before").await?;
    match how.as_str() {
        "abort" => std::process::abort(),
        "overflow" => drop(std::hint::black_box(deeper(0))),
        "panic" => std::panic::panic_any("on purpose".to_owned()),
        "spin" => loop {
            std::hint::spin_loop();
        },
        status => std::process::exit(status.parse().unwrap_or(-1)),
    }
    Ok(())
}

/// Emits values of 64 KiB that begin with their number.
async fn flood(context: TaskContext, count: u64) -> Result<(), EmitError> {
    let text = "x".repeat(64 << 10);
    for number in 0..count {
        context.emit(&(number, &text)).await?;
    }
    Ok(())
}

/// Starts a tree of processes that ignore `TERM`, and stays.
async fn family(context: TaskContext, mark: String) -> Result<(), EmitError> {
    let script = format!(
        "trap '' TERM; (setsid sh -c 'trap \"\" TERM; sleep {mark}' &) ; sleep {mark}; true"
    );
    let Ok(_child) = Command::new("sh").args(["-c", &script]).spawn() else { return Ok(()) };
    context.emit("started").await?;
    loop {
        std::hint::spin_loop();
    }
}

/// Asks as often, and adds what it is told.
async fn ask(context: TaskContext, count: u32) -> Result<(u64, u32), AskError> {
    let mut sum = 0;
    for number in 1..=count {
        sum += context.ask::<u64>(&format!("number {number}")).await?;
    }
    // One that is dropped, so that the last one comes behind a withdrawal.
    let dropped = tokio::time::timeout(Duration::ZERO, context.ask::<u64>("dropped")).await;
    assert!(dropped.is_err(), "nobody has answered");
    sum += context.ask::<u64>("the last").await?;
    Ok((sum, std::process::id()))
}

/// Asks twice, and doubles what it is sent meanwhile.
async fn both(context: TaskContext, (): ()) -> Result<u64, AskError> {
    let Ok(mut inbox) = context.inbox::<u64>() else { return Ok(0) };
    let asking = async {
        Ok::<u64, AskError>(context.ask::<u64>("one").await? + context.ask::<u64>("two").await?)
    };
    tokio::pin!(asking);
    loop {
        tokio::select! {
            sum = &mut asking => return sum,
            message = inbox.next() => match message {
                Some(message) => {
                    let twice = 2 * message.value;
                    drop(message.reply(&twice));
                }
                None => return asking.await,
            },
        }
    }
}

async fn polite(context: TaskContext, (): ()) -> Result<(), EmitError> {
    context.emit("waiting").await?;
    context.cancelled().await;
    context.emit("told").await?;
    Ok(())
}

/// Does what its messages say, each with a number.
async fn clerk(context: TaskContext, (): ()) -> Result<(), EmitError> {
    let Ok(mut inbox) = context.inbox::<(String, u64)>() else { return Ok(()) };
    while let Some(message) = inbox.next().await {
        let number = message.value.1;
        match message.value.0.as_str() {
            "note" => context.emit(&number).await?,
            // Large answers, so that they fill the channel.
            "double" => drop(message.reply(&(2 * number, "x".repeat(60_000)))),
            "abort" => std::process::abort(),
            _ => {}
        }
    }
    context.emit(&u64::MAX).await
}

/// What it sees of its surroundings: a variable, its node, its ordinal, its open descriptors.
async fn look(
    context: TaskContext,
    variable: String,
) -> Result<(Option<String>, String, u32, Vec<String>), Infallible> {
    println!("to stdout");
    eprintln!("to stderr");
    context.warn("a warning").await;
    context.progress(1, 2).await;
    let descriptors = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let open = descriptors.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    let open = open.map(|target| target.to_string_lossy().into_owned()).collect();
    let node = context.node().to_string();
    Ok((std::env::var(variable).ok(), node, context.ordinal().0, open))
}

fn tasks() -> Registry {
    Registry::new()
        .register(parse)
        .register(pid)
        .task("crash", crash)
        .task("flood", flood)
        .task("family", family)
        .task("polite", polite)
        .task("ask", ask)
        .task("both", both)
        .task("look", look)
        .task("clerk", clerk)
}

fn main() -> Result<(), Box<dyn Error>> {
    if std::env::var_os("TEST_LIE").is_some() {
        return lie();
    }
    sortie::init_with(&tasks());
    tokio::runtime::Runtime::new()?.block_on(run())
}

/// What a worker must not say on its channel, which is its standard input.
fn lie() -> Result<(), Box<dyn Error>> {
    let channel = std::io::stdin().as_fd().try_clone_to_owned()?;
    std::fs::File::from(channel).write_all(&[0xff; 1000])?;
    loop {
        // tidy: waits because a liar is to be killed, not to end
        std::thread::sleep(Duration::from_secs(1));
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let home = PathBuf::from(arguments.next().ok_or("HOME is missing")?);
    let name = arguments.next().ok_or("NAME is missing")?.into_string().map_err(|_| "no text")?;
    let node = Node::builder(name)
        .home(HomePaths::within(home))
        .task("inside", |_: TaskContext, n: u64| async move { Ok::<_, Infallible>(n) })
        .start()
        .await?;
    node.ended().await;
    Ok(())
}
