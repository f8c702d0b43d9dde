//! Sessions on other nodes that this home has used: `--session S` finds them by name. One small
//! file in the home; losing it loses nothing but the short way, since `--node` finds them too.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sortie::{HomePaths, SessionInstance, SessionView};

use crate::args::reach::Reach;
use crate::failure::Failure;

/// Sessions that a home remembers; beyond it the ones that were used longest ago are forgotten.
const REMEMBERED: usize = 1_024;
/// Bytes of the file; a longer one is not ours.
const FILE_BYTES: u64 = 4 << 20;

/// A session on another node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Known {
    /// Its identity.
    pub(crate) instance: SessionInstance,
    /// Its name.
    pub(crate) name: String,
    /// Its node, as `--node` takes it.
    pub(crate) node: String,
}

impl Known {
    /// A session that its node showed.
    pub(crate) fn of(view: &SessionView, node: &str) -> Self {
        Self { instance: view.instance, name: view.name.clone(), node: node.to_owned() }
    }

    fn is_called(&self, word: &str) -> bool {
        self.name == word || self.instance.to_string() == word
    }
}

/// Says on which node a session is that was named without one, if the home knows it.
///
/// # Errors
/// A usage failure when there are several of that name.
pub(crate) fn settle(paths: &HomePaths, reach: &mut Reach) -> Result<(), Failure> {
    let (Some(word), None, None) = (&reach.session, &reach.node, reach.embedded) else {
        return Ok(());
    };
    let known = all(paths)?;
    let mut called = known.into_iter().filter(|known| known.is_called(word));
    let Some(found) = called.next() else { return Ok(()) };
    if let Some(other) = called.next() {
        let (one, two) = (&found.node, &other.node);
        let message = format!("several sessions are called `{word}`, on {one} and {two} at least");
        return Err(Failure::usage(message).hint(format!("`--node {one}` says which one")));
    }
    (reach.session, reach.node) = (Some(found.instance.to_string()), Some(found.node));
    Ok(())
}

/// All of them, the one that was used last at the end.
pub(crate) fn all(paths: &HomePaths) -> Result<Vec<Known>, Failure> {
    read(&file_of(paths))
}

/// Remembers a session.
pub(crate) fn remember(paths: &HomePaths, session: &Known) -> Result<(), Failure> {
    change(paths, |all| {
        all.retain(|known| known.instance != session.instance);
        all.push(session.clone());
        let surplus = all.len().saturating_sub(REMEMBERED);
        all.drain(..surplus);
    })
}

/// Forgets a session that is over.
pub(crate) fn forget(paths: &HomePaths, word: &str) -> Result<(), Failure> {
    change(paths, |all| all.retain(|known| !known.is_called(word)))
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
fn change(paths: &HomePaths, change: impl FnOnce(&mut Vec<Known>)) -> Result<(), Failure> {
    let path = file_of(paths);
    let fault = |error: io::Error| {
        Failure::internal(format_args!("cannot write {}: {error}", path.display()))
    };
    let _lock = lock(&path.with_extension("lock")).map_err(fault)?;
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

fn lock(path: &Path) -> io::Result<File> {
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    file.lock()?;
    Ok(file)
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(name: &str, number: usize, node: &str) -> Known {
        let instance = format!("\"00000000-0000-7000-8000-{number:012}\"");
        let instance = serde_json::from_str(&instance).expect("a UUID");
        Known { instance, name: name.to_owned(), node: node.to_owned() }
    }

    fn named(word: &str) -> Reach {
        Reach { session: Some(word.to_owned()), ..Reach::default() }
    }

    #[test]
    fn a_name_is_found_where_it_was_used_last() {
        let home = tempfile::tempdir().expect("a folder");
        let paths = HomePaths::within(home.path());
        let work = known("work", 1, "b");
        remember(&paths, &work).expect("it can be written");
        for word in ["work", &work.instance.to_string()] {
            let mut reach = named(word);
            settle(&paths, &mut reach).expect("there is one");
            assert_eq!(reach.session, Some(work.instance.to_string()));
            assert_eq!(reach.node.as_deref(), Some("b"));
        }
        let mut other = named("other");
        settle(&paths, &mut other).expect("it is our own node's, if it is anywhere");
        assert_eq!((other.session.as_deref(), other.node), (Some("other"), None));
        forget(&paths, "work").expect("it can be written");
        assert_eq!(all(&paths), Ok(Vec::new()));
    }

    #[test]
    fn of_two_with_one_name_the_user_chooses() {
        let home = tempfile::tempdir().expect("a folder");
        let paths = HomePaths::within(home.path());
        remember(&paths, &known("work", 1, "b")).expect("it can be written");
        remember(&paths, &known("work", 2, "c")).expect("it can be written");
        let refused = settle(&paths, &mut named("work")).expect_err("there are two");
        assert!(refused.message.contains("on b and c"), "{refused:?}");
        let mut reach = Reach { node: Some("c".to_owned()), ..named("work") };
        settle(&paths, &mut reach).expect("it was said");
        assert_eq!(reach.session.as_deref(), Some("work"));
    }

    #[test]
    fn the_ones_used_longest_ago_are_forgotten() {
        let home = tempfile::tempdir().expect("a folder");
        let paths = HomePaths::within(home.path());
        let many: Vec<_> = (0..REMEMBERED).map(|number| known("s", number, "b")).collect();
        let text = serde_json::to_vec(&many).expect("JSON");
        fs::write(file_of(&paths), text).expect("it can be written");
        remember(&paths, &known("s", 0, "b")).expect("it can be written");
        remember(&paths, &known("s", REMEMBERED, "b")).expect("it can be written");
        let all = all(&paths).expect("it can be read");
        assert_eq!(all.len(), REMEMBERED);
        assert_eq!(all.first(), Some(&known("s", 2, "b")), "0 was used again, and 1 was not");
    }

    #[test]
    fn a_file_that_is_none_of_ours_is_said_to_be() {
        let home = tempfile::tempdir().expect("a folder");
        let paths = HomePaths::within(home.path());
        fs::write(file_of(&paths), "no JSON").expect("it can be written");
        let refused = settle(&paths, &mut named("work")).expect_err("it cannot be read");
        assert!(refused.message.contains("sessions.json"), "{refused:?}");
    }
}
