//! The real `sortie` node over a home, as its user has it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sortie::{Client, HomePaths};
use tempfile::TempDir;

use crate::measure::until;
use crate::proc_figures::{children, resident_bytes};
use crate::program::Outcome;

/// How long a dial may take.
const DIAL: Duration = Duration::from_secs(5);

/// A directory in memory, where there is a file system of it: how fast a disk syncs is the disk's
/// figure.
///
/// # Errors
/// The system's.
pub fn in_memory() -> Outcome<TempDir> {
    let memory = Path::new("/dev/shm");
    Ok(if memory.is_dir() { tempfile::tempdir_in(memory)? } else { tempfile::tempdir()? })
}

/// A node that ends when this is dropped.
#[derive(Debug)]
pub struct HomeNode {
    process: Child,
    client: Client,
    sortie: PathBuf,
    home: PathBuf,
}

impl HomeNode {
    /// Starts a node over a home, and connects to it.
    ///
    /// # Errors
    /// When the `sortie` command was not built with this program, or the node does not start.
    pub async fn start(home: &Path) -> Outcome<Self> {
        let sortie = std::env::current_exe()?.with_file_name("sortie");
        if !sortie.is_file() {
            let text = "the `sortie` command is not built: `cargo build --release --bin sortie`";
            return Err(text.into());
        }
        let mut command = Command::new(&sortie);
        command.args(["node", "run", "--name", "bench"]).env("SORTIE_HOME", home);
        let process = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let paths = HomePaths::within(home);
        let dial = async || Ok(Client::connect_home(&paths, DIAL).await.ok());
        let client = until("the node", dial).await?;
        Ok(Self { process, client, sortie, home: home.to_owned() })
    }

    /// A connection of its user.
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// What the node and its guardian have of the memory, in MiB.
    ///
    /// # Errors
    /// When it has ended.
    pub fn memory(&self) -> Outcome<f64> {
        let node = self.process.id();
        let guardians = children(node)?;
        let all = guardians.into_iter().chain([node]).map(resident_bytes);
        Ok(all.sum::<Outcome<f64>>()? / f64::from(1 << 20))
    }

    /// How long a whole command takes, in ms.
    ///
    /// # Errors
    /// When it fails.
    pub fn command(&self, words: &[&str]) -> Outcome<f64> {
        let mut command = Command::new(&self.sortie);
        command.args(words).env("SORTIE_HOME", &self.home).stdin(Stdio::null());
        let begun = Instant::now();
        let output = command.output()?;
        let taken = begun.elapsed().as_secs_f64() * 1e3;
        if output.status.success() { Ok(taken) } else { Err(output.status.to_string().into()) }
    }

    /// Ends it in order.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn end(mut self) -> Outcome<()> {
        self.client.stop_node().await?;
        self.process.wait()?;
        Ok(())
    }
}

impl Drop for HomeNode {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = (self.process.kill(), self.process.wait());
    }
}
