use std::path::PathBuf;

use futures_util::FutureExt;
use sortie_model::JobInstance;
use sortie_store::Store;
use sortie_store::journal::JournalBounds;
use uuid::Uuid;

use super::*;

/// What the process has open below a directory, also what is removed already.
fn open_below(directory: &Path) -> Vec<PathBuf> {
    let descriptors = std::fs::read_dir("/proc/self/fd").expect("the process's descriptors");
    let names = descriptors.filter_map(|name| std::fs::read_link(name.ok()?.path()).ok());
    names.filter(|name| name.starts_with(directory)).collect()
}

#[test]
fn an_input_that_nobody_reads_any_more_takes_neither_room_nor_a_descriptor() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let store = Store::open(home.path(), JournalBounds::default()).expect("a store");
    let job = JobInstance(Uuid::from_u128(3));
    let file = store.inputs().path(job);
    let log = InputLog::lasting(store.inputs().begin(job), 1);
    let written = log.write(Bytes::from_static(b"some")).now_or_never();
    written.expect("nothing to wait for").expect("room");
    let directory = file.parent().expect("a directory");
    assert_eq!(open_below(directory), [file.as_path()]);
    let mut reader = log.reader(Ordinal(0));
    log.close();
    assert!(!file.exists());
    assert_eq!(open_below(directory), Vec::<PathBuf>::new());
    assert_eq!(reader.next().now_or_never(), Some(Piece::Lost));
    assert_eq!((log.lasts(), log.stored()), (false, InputState::Nothing));
    let more = log.write(Bytes::from_static(b"more")).now_or_never();
    assert!(matches!(more, Some(Err(InputError::Unwanted))));
}
