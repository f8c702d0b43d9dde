//! Sessions on other nodes that this home has used: `--session S` finds them by name. One small
//! file in the home; losing it loses nothing but the short way, since `--node` finds them too.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sortie::{Client, HomePaths, NodeName, SessionInstance, SessionView};

use crate::connect::is_own;
use crate::failure::{ErrorStyle, Failure};

/// Sessions that a home remembers; beyond it the ones that were used longest ago are forgotten.
const REMEMBERED: usize = 1_024;
/// Bytes of the file; a longer one is not ours.
const FILE_BYTES: u64 = 4 << 20;
/// How often we ask for the file while another command changes it.
const LOCK_TRIES: u32 = 50;
/// Time between two of these.
const LOCK_AGAIN: Duration = Duration::from_millis(20);

/// A session on another node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Known {
    /// Its identity.
    pub(crate) instance: SessionInstance,
    /// Its name.
    pub(crate) name: String,
    /// Its node, as `--node` takes it.
    pub(crate) node: String,
    /// Its node's name.
    pub(crate) host: NodeName,
}

impl Known {
    /// A session that its node showed.
    pub(crate) fn of(view: &SessionView, node: &str) -> Self {
        let (name, host) = (view.name.clone(), view.node.clone());
        Self { instance: view.instance, name, node: node.to_owned(), host }
    }

    /// Whether a user may mean it by that word.
    pub(crate) fn is_called(&self, word: &str) -> bool {
        self.name == word || self.instance.to_string() == word
    }
}

/// All of them, the one that was used last at the end. A file that cannot be read is said to be,
/// and stands for none: what is asked of nodes goes on without it.
pub(crate) fn all(paths: &HomePaths, style: ErrorStyle) -> Vec<Known> {
    read(&file_of(paths)).unwrap_or_else(|failure| {
        failure.report(style);
        Vec::new()
    })
}

/// The same where nobody needs to be told again.
pub(crate) fn all_readable(paths: &HomePaths) -> Vec<Known> {
    read(&file_of(paths)).unwrap_or_default()
}

/// Remembers a session that the client has opened or holds, unless our own node has it. What is
/// wrong about that is said, and is no failure: the session is there.
pub(crate) async fn note(paths: &HomePaths, client: &Client, session: &Known, style: ErrorStyle) {
    let noted = match is_own(paths, client).await {
        Ok(true) => Ok(()),
        Ok(false) => remember(paths, session).await,
        Err(failure) => Err(failure),
    };
    if let Err(failure) = noted {
        let Known { name, node, .. } = session;
        let message =
            format!("the session `{name}` on {node} is not remembered: {}", failure.message);
        Failure { message, ..failure }.report(style);
    }
}

/// Remembers a session.
pub(crate) async fn remember(paths: &HomePaths, session: &Known) -> Result<(), Failure> {
    let remembered = change(paths, |all| {
        all.retain(|known| known.instance != session.instance);
        all.push(session.clone());
        let surplus = all.len().saturating_sub(REMEMBERED);
        all.drain(..surplus);
    });
    remembered.await
}

/// Forgets sessions that are over. That it cannot is said, and is no failure.
pub(crate) async fn forget(paths: &HomePaths, over: &[SessionInstance], style: ErrorStyle) {
    if over.is_empty() {
        return;
    }
    let forgotten = change(paths, |all| all.retain(|known| !over.contains(&known.instance)));
    if let Err(failure) = forgotten.await {
        failure.report(style);
    }
}

fn file_of(paths: &HomePaths) -> PathBuf {
    paths.state.join("sessions.json")
}

fn read(path: &Path) -> Result<Vec<Known>, Failure> {
    let fault = |error: &dyn std::fmt::Display| {
        Failure::usage(format_args!("cannot read {}: {error}", path.display()))
            .hint("remove it: it holds nothing but where sessions are, and `--node` says that, too")
    };
    match fs::metadata(path) {
        Ok(found) if found.len() > FILE_BYTES => return Err(fault(&"it is too long")),
        Err(error) if is_nowhere(&error) => return Ok(Vec::new()),
        _ => {}
    }
    let text = fs::read(path).map_err(|error| fault(&error))?;
    serde_json::from_slice(&text).map_err(|error| fault(&error))
}

fn is_nowhere(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Reads, changes and writes it, one command after the other.
async fn change(paths: &HomePaths, change: impl FnOnce(&mut Vec<Known>)) -> Result<(), Failure> {
    let path = file_of(paths);
    let fault = |error: io::Error| {
        Failure::internal(format_args!("cannot write {}: {error}", path.display()))
            .hint("`--node` finds a session, too")
    };
    let _lock = lock(&path.with_extension("lock")).await.map_err(fault)?;
    let mut all = read(&path)?;
    let before = all.clone();
    change(&mut all);
    if all == before {
        return Ok(());
    }
    let text = serde_json::to_vec(&all).map_err(|error| fault(error.into()))?;
    let beside = path.with_extension("new");
    let written = write(&beside, &text).and_then(|()| fs::rename(&beside, &path));
    written.map_err(fault)
}

/// The lock of a command that hangs, or was stopped, is not waited for without end.
async fn lock(path: &Path) -> io::Result<File> {
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_AGAIN).await,
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    let held = format!("another command holds {} and does not give it free", path.display());
    Err(io::Error::new(io::ErrorKind::WouldBlock, held))
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn known(name: &str, number: usize, node: &str) -> Known {
        let instance = format!("\"00000000-0000-7000-8000-{number:012}\"");
        let instance = serde_json::from_str(&instance).expect("a UUID");
        let host = "host".parse().expect("a name");
        Known { instance, name: name.to_owned(), node: node.to_owned(), host }
    }

    #[tokio::test]
    async fn what_is_forgotten_is_one_session_and_not_all_of_its_name() {
        let home = tempfile::tempdir().expect("a folder");
        let paths = HomePaths::within(home.path());
        let (one, two) = (known("work", 1, "b"), known("work", 2, "127.0.0.1:7"));
        remember(&paths, &one).await.expect("it can be written");
        remember(&paths, &two).await.expect("it can be written");
        forget(&paths, &[one.instance], ErrorStyle::Text).await;
        assert_eq!(all(&paths, ErrorStyle::Text), [two]);
    }

    #[tokio::test]
    async fn the_ones_used_longest_ago_are_forgotten() {
        let home = tempfile::tempdir().expect("a folder");
        let paths = HomePaths::within(home.path());
        let many: Vec<_> = (0..REMEMBERED).map(|number| known("s", number, "b")).collect();
        let text = serde_json::to_vec(&many).expect("JSON");
        fs::write(file_of(&paths), text).expect("it can be written");
        remember(&paths, &known("s", 0, "b")).await.expect("it can be written");
        remember(&paths, &known("s", REMEMBERED, "b")).await.expect("it can be written");
        let all = all(&paths, ErrorStyle::Text);
        assert_eq!(all.len(), REMEMBERED);
        assert_eq!(all.first(), Some(&known("s", 2, "b")), "0 was used again, and 1 was not");
    }

    #[tokio::test]
    async fn a_lock_that_nobody_gives_free_is_not_waited_for_without_end() {
        let home = tempfile::tempdir().expect("a folder");
        let paths = HomePaths::within(home.path());
        let _held = lock(&file_of(&paths).with_extension("lock")).await.expect("it is free");
        let refused = remember(&paths, &known("work", 1, "b")).await.expect_err("it is held");
        assert!(refused.message.contains("another command holds"), "{refused:?}");
    }

    #[tokio::test]
    async fn a_file_that_is_none_of_ours_is_said_to_be() {
        let home = tempfile::tempdir().expect("a folder");
        let paths = HomePaths::within(home.path());
        fs::write(file_of(&paths), "no JSON").expect("it can be written");
        assert_eq!(all(&paths, ErrorStyle::Text), [], "it is said, and stops nobody");
        let refused = remember(&paths, &known("work", 1, "b")).await.expect_err("it is not read");
        assert!(refused.message.contains("sessions.json"), "{refused:?}");
        let left = fs::read(file_of(&paths)).expect("it is there");
        assert_eq!(left, b"no JSON", "what is not ours is not written over");
    }
}
