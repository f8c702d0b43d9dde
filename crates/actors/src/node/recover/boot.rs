//! The machine's life: what its end takes along is not there after it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// What the machine calls its present life.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// Whether the machine runs since before the node's present life.
pub(super) fn same_boot(directory: &Path) -> bool {
    let noted = fs::read(directory.join("boot"));
    fs::read(BOOT).is_ok_and(|boot| noted.is_ok_and(|noted| noted == boot))
}

/// Notes the machine's life for the next node.
pub(super) fn note_boot(directory: &Path) {
    let note = || {
        let (new, boot) = (directory.join("boot.new"), fs::read(BOOT)?);
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&boot)?;
        file.sync_all()?;
        fs::rename(&new, directory.join("boot"))
    };
    if !same_boot(directory)
        && let Err(error) = note()
    {
        tracing::warn!(%error, "the machine's life cannot be noted");
    }
}
