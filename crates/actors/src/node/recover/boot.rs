//! The machine's life: what its end takes along is not there after it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// What the machine calls its present life.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";
/// Where it is noted.
const NOTE: &str = "boot";

/// Whether all that a node of this home ever began, it began in the machine's present life. The
/// home's first node has begun nothing; it notes that life here, before it does. One that finds
/// unfinished jobs, as in a journal that was put back, is not `first`.
pub(super) fn same_boot(directory: &Path, first: bool) -> bool {
    match fs::read(directory.join(NOTE)) {
        Ok(noted) => fs::read(BOOT).is_ok_and(|boot| noted == boot),
        Err(error) if error.kind() == ErrorKind::NotFound => first && note(directory),
        Err(_) => false,
    }
}

/// Notes the machine's life for the next node. Says whether it is noted.
pub(super) fn note(directory: &Path) -> bool {
    let noted = write(directory);
    if let Err(error) = &noted {
        tracing::warn!(%error, "the machine's life cannot be noted");
    }
    noted.is_ok()
}

fn write(directory: &Path) -> io::Result<()> {
    let (new, boot) = (directory.join("boot.new"), fs::read(BOOT)?);
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(&boot)?;
    file.sync_all()?;
    fs::rename(&new, directory.join(NOTE))?;
    // One that is gone after a failure of the machine would be taken for that of a first node.
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_node_of_a_home_knows_that_nothing_began_before_the_machine_did() {
        let home = tempfile::tempdir().expect("a temporary directory");
        assert!(!same_boot(home.path(), false), "something may have begun");
        assert!(same_boot(home.path(), true), "nothing has begun");
        assert!(same_boot(home.path(), false), "and this is the same life");
        fs::write(home.path().join(NOTE), "another life").expect("a file");
        assert!(!same_boot(home.path(), true));
        assert!(!same_boot(home.path(), true), "until what is found is noted");
        assert!(note(home.path()));
        assert!(same_boot(home.path(), false));
    }

    #[test]
    fn who_cannot_note_its_life_knows_nothing() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let nowhere = home.path().join("nowhere");
        assert!(!same_boot(&nowhere, true));
        fs::create_dir(home.path().join(NOTE)).expect("a folder");
        assert!(!same_boot(home.path(), true), "what cannot be read says nothing");
    }
}
