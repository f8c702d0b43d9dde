//! Processes that show the limits. One is told what to do by a line on its standard input, and
//! answers with a line of figures.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::bare::{self, Pass};
use crate::proc_figures::{cpu_time, resident_bytes};
use crate::program::{Outcome, runtime};

mod spawner;

/// A process that shows a limit. It ends when it is dropped.
#[derive(Debug)]
pub struct Peer {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// What a peer can do: with so many futures of bare tokio, or with processes.
#[derive(Debug, Clone, Copy)]
pub enum Exercise {
    /// Run them, each with an answer: gives the sum of the answers and the processor's
    /// microseconds.
    Answer(u64),
    /// Start them, all of which wait: gives the bytes of memory that they take.
    Hold(u64),
    /// Start them, then abort and join them: gives the microseconds of the second half.
    Abort(u64),
    /// Spawn so many processes and wait for each, on two threads: gives the seconds.
    Spawn(u64),
    /// The same on one thread: gives the median microseconds of one.
    SpawnOne(u64),
}

impl Peer {
    fn start(arguments: &[&OsStr]) -> Outcome<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg("peer")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = process.stdin.take();
        let output = process.stdout.take().ok_or("no pipe")?;
        Ok(Self { process, input, output: BufReader::new(output) })
    }

    /// One of bare tokio.
    ///
    /// # Errors
    /// When it does not start.
    pub fn tokio() -> Outcome<Self> {
        Self::start(&["tokio".as_ref()])
    }

    /// One that spawns that program with the standard library. Its process is small, as a
    /// guardian's is: what a spawn costs grows with the process that asks for it.
    ///
    /// # Errors
    /// When it does not start.
    pub fn spawner(program: &OsStr) -> Outcome<Self> {
        Self::start(&["spawner".as_ref(), program])
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Tells it to do something; [`Peer::hear`] waits for its end.
    ///
    /// # Errors
    /// When it is gone.
    pub fn tell(&mut self, exercise: Exercise) -> Outcome<()> {
        let (word, count) = match exercise {
            Exercise::Answer(count) => ("answer", count),
            Exercise::Hold(count) => ("hold", count),
            Exercise::Abort(count) => ("abort", count),
            Exercise::Spawn(count) => ("spawn", count),
            Exercise::SpawnOne(count) => ("spawn-one", count),
        };
        let input = self.input.as_mut().ok_or("the peer is gone")?;
        writeln!(input, "{word} {count}")?;
        Ok(())
    }

    /// The figures that it answers with.
    ///
    /// # Errors
    /// When it is gone.
    pub fn hear(&mut self) -> Outcome<Vec<f64>> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        let figures = line.split_whitespace().map(str::parse::<f64>);
        Ok(figures.collect::<Result<_, _>>()?)
    }

    /// Tells it to do something and gives the first figure of its answer.
    ///
    /// # Errors
    /// When it is gone.
    pub fn figure(&mut self, exercise: Exercise) -> Outcome<f64> {
        self.tell(exercise)?;
        Ok(self.hear()?.first().copied().ok_or("the peer said nothing")?)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A process with a bare quinn endpoint, and ours to dial it.
#[derive(Debug)]
pub struct BarePeer {
    peer: Peer,
    endpoint: quinn::Endpoint,
    port: u16,
    _directory: TempDir,
}

impl BarePeer {
    /// Starts it.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start() -> Outcome<Self> {
        let directory = tempfile::tempdir()?;
        let pass = Pass::generate()?;
        pass.save(directory.path())?;
        let mut peer = Peer::start(&["quinn".as_ref(), directory.path().as_os_str()])?;
        let port = peer.hear()?.first().copied().ok_or("no port")? as u16;
        Ok(Self { peer, endpoint: bare::dialler(&pass)?, port, _directory: directory })
    }

    /// One more connection.
    ///
    /// # Errors
    /// When it does not come to be.
    pub async fn dial(&self) -> Outcome<quinn::Connection> {
        bare::dial(&self.endpoint, self.port).await
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.peer.pid()
    }
}

/// Is a peer: `peer tokio`, `peer spawner PROGRAM` or `peer quinn DIRECTORY`.
pub(crate) fn play(words: &[String]) -> Outcome<()> {
    match (words.get(1).map(String::as_str), words.get(2)) {
        (Some("quinn"), Some(directory)) => play_quinn(Path::new(directory)),
        (Some("spawner"), Some(program)) => each_line(|word, count| {
            Ok(vec![match word {
                "spawn" => spawner::in_seconds(program, count)?,
                _ => spawner::one_in_microseconds(program, count)?,
            }])
        }),
        _ => {
            let runtime = tokio::runtime::Runtime::new()?;
            each_line(|word, count| runtime.block_on(exercise(word, count)))
        }
    }
}

fn play_quinn(directory: &Path) -> Outcome<()> {
    let pass = Pass::load(directory)?;
    runtime()?.block_on(async {
        let endpoint = bare::listen(&pass)?;
        answer(&[f64::from(endpoint.local_addr()?.port())])?;
        tokio::spawn(bare::serve(endpoint));
        let input = tokio::task::spawn_blocking(|| {
            std::io::stdin().lock().lines().map_while(Result::ok).for_each(drop);
        });
        Ok(input.await?)
    })
}

/// Does what each line of standard input says, a word and a count, and answers it.
fn each_line(exercise: impl Fn(&str, u64) -> Outcome<Vec<f64>>) -> Outcome<()> {
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (word, count) = line.split_once(' ').ok_or("WORD COUNT")?;
        answer(&exercise(word, count.parse()?)?)?;
    }
    Ok(())
}

fn answer(figures: &[f64]) -> Outcome<()> {
    let words: Vec<String> = figures.iter().map(f64::to_string).collect();
    let mut out = std::io::stdout();
    writeln!(out, "{}", words.join(" "))?;
    Ok(out.flush()?)
}

async fn exercise(word: &str, count: u64) -> Outcome<Vec<f64>> {
    let own = std::process::id();
    match word {
        "answer" => {
            let before = cpu_time(own)?;
            let sum = answers(count).await;
            let used = cpu_time(own)?.saturating_sub(before);
            Ok(vec![sum as f64, used.as_secs_f64() * 1e6])
        }
        "hold" => {
            let before = resident_bytes(own)?;
            let held = hold(count).await?;
            let after = resident_bytes(own)?;
            drop(held);
            Ok(vec![after - before])
        }
        _ => {
            let mut held = hold(count).await?;
            let begin = Instant::now();
            held.abort_all();
            while held.join_next().await.is_some() {}
            Ok(vec![begin.elapsed().as_secs_f64() * 1e6])
        }
    }
}

async fn answers(count: u64) -> u64 {
    let (sender, mut receiver) = mpsc::channel(1_024);
    let spawner = tokio::spawn(async move {
        for number in 0..count {
            let sender = sender.clone();
            // The other end is read until the last sender is gone.
            tokio::spawn(async move {
                let _ = sender.send(number).await;
            });
        }
    });
    let mut sum = 0;
    while let Some(number) = receiver.recv().await {
        sum += number;
    }
    drop(spawner);
    sum
}

/// Futures that run and wait, each with a channel's end as a child has its token.
async fn hold(count: u64) -> Outcome<JoinSet<()>> {
    let (begun, mut beginnings) = mpsc::channel(1_024);
    let mut held = JoinSet::new();
    for _ in 0..count {
        let begun = begun.clone();
        held.spawn(async move {
            let _ = begun.send(()).await;
            drop(begun);
            std::future::pending::<()>().await;
        });
    }
    for _ in 0..count {
        beginnings.recv().await.ok_or("a future ended")?;
    }
    Ok(held)
}
