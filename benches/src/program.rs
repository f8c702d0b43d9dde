//! The parts a benchmark program plays: the one who measures, a node, a peer, a writer.

use std::error::Error;
use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use crate::report::{self, Row};
use crate::{cluster, peer, writer};

/// What a benchmark gives: figures, or why there are none.
pub type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// What fits into a minute.
    Usual,
    /// The largest counts too (`--full`).
    Full,
}

/// What the command line chose.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How much is measured.
    pub size: Size,
}

/// A scenario that takes longer hangs; it is given up so that `all` goes on.
const PATIENCE: Duration = Duration::from_secs(120);
/// The same with `--full`.
const FULL_PATIENCE: Duration = Duration::from_secs(900);

/// Plays the part that the command line names; without one, measures the scenario and prints its
/// rows: a table, or with `--json` one object a line.
pub fn run<F, Fut>(scenario: F) -> ExitCode
where
    F: FnOnce(Options) -> Fut,
    Fut: Future<Output = Outcome<Vec<Row>>>,
{
    sortie::init();
    let words: Vec<String> = std::env::args().skip(1).collect();
    let played = match words.first().map(String::as_str) {
        Some("node") => cluster::play_node(&words),
        Some("peer") => peer::play(&words),
        Some("writer") => writer::play(&words),
        _ => measure(&words, scenario),
    };
    match played {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", own_name());
            ExitCode::FAILURE
        }
    }
}

fn measure<F, Fut>(words: &[String], scenario: F) -> Outcome<()>
where
    F: FnOnce(Options) -> Fut,
    Fut: Future<Output = Outcome<Vec<Row>>>,
{
    if let Some(unknown) = words.iter().find(|word| !["--json", "--full"].contains(&word.as_str()))
    {
        return Err(format!("`{unknown}` is no option; there are --json and --full").into());
    }
    let full = words.iter().any(|word| word == "--full");
    let size = if full { Size::Full } else { Size::Usual };
    let patience = if full { FULL_PATIENCE } else { PATIENCE };
    let runtime = runtime()?;
    let rows = runtime.block_on(async {
        let measured = tokio::time::timeout(patience, scenario(Options { size })).await;
        measured.map_err(|_| format!("no end after {} s", patience.as_secs()))?
    });
    // What hangs would otherwise keep the program from ending, too.
    runtime.shutdown_background();
    report::print(&rows?, words.iter().any(|word| word == "--json"))
}

/// A runtime as a node of the command line has it, for a limit's program, too.
pub(crate) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if std::env::var_os("TOKIO_WORKER_THREADS").is_none() {
        builder.worker_threads(sortie::node_threads());
    }
    builder.enable_all().build()
}

/// The program's name, for messages.
fn own_name() -> String {
    let path = std::env::current_exe().unwrap_or_default();
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
