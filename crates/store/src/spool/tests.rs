use bytes::Bytes;

use super::*;
use crate::MailboxFile;

fn spool(bounds: SpoolBounds) -> (tempfile::TempDir, Arc<Spool>) {
    let parent = tempfile::tempdir().unwrap();
    let spool = Spool::new(parent.path().join("below"), bounds);
    (parent, spool)
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn the_directory_is_private_made_on_need_and_removed_with_the_spool() {
    let (parent, spool) = spool(SpoolBounds::default());
    assert!(entries(parent.path()).is_empty());
    let file = MailboxFile::create(&spool).unwrap();
    let below = parent.path().join("below");
    let [directory] = entries(&below).try_into().unwrap();
    let mode = std::fs::metadata(&directory).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert_eq!(entries(&directory).len(), 1);
    drop(file);
    assert!(entries(&directory).is_empty(), "a file goes with its mailbox");
    drop(spool);
    assert!(entries(&below).is_empty());
}

#[test]
fn what_a_dead_node_left_is_removed_and_what_a_living_one_has_is_not() {
    let (parent, living) = spool(SpoolBounds::default());
    let _kept = MailboxFile::create(&living).unwrap();
    let below = parent.path().join("below");
    let [kept] = entries(&below).try_into().unwrap();
    let left = below.join("mailboxes-dead");
    std::fs::create_dir(&left).unwrap();
    std::fs::write(left.join("0"), "old output").unwrap();
    let other = Spool::new(below, SpoolBounds::default());
    let _made = MailboxFile::create(&other).unwrap();
    assert!(!left.exists() && kept.join("0").exists());
    std::fs::create_dir(&left).unwrap();
    other.remove_abandoned();
    assert!(!left.exists() && kept.join("0").exists());
}

#[test]
fn few_files_are_open_however_many_there_are() {
    let (_parent, spool) = spool(SpoolBounds { open_files: 3, ..SpoolBounds::default() });
    let files: Vec<_> = (0..20).map(|_| MailboxFile::create(&spool).unwrap()).collect();
    for (number, file) in files.iter().enumerate() {
        assert_eq!(file.append(&[Bytes::from(vec![number as u8; 10])]).unwrap(), 0);
    }
    for (number, file) in files.iter().enumerate() {
        assert_eq!(file.read(0, 10).unwrap(), vec![number as u8; 10]);
        assert!(lock(&spool.open).files.len() <= 3);
    }
}

#[test]
fn a_write_beyond_the_quota_is_refused_and_costs_nothing() {
    let (_parent, spool) = spool(SpoolBounds { quota: 100, ..SpoolBounds::default() });
    let file = MailboxFile::create(&spool).unwrap();
    file.append(&[Bytes::from_static(&[1; 60])]).unwrap();
    let refused = file.append(&[Bytes::from_static(&[2; 41])]).unwrap_err();
    assert!(matches!(refused, SpoolError::NodeQuota { used: 60, quota: 100 }));
    assert!(refused.is_lack_of_space());
    assert_eq!((spool.used(), file.end()), (60, 60));
    assert!(spool.check_room(40).is_ok() && spool.check_room(41).is_err());
}

#[test]
fn a_full_disk_leaves_what_was_written_before() {
    let bounds = SpoolBounds { pretended_disk: Some(100), ..SpoolBounds::default() };
    let (_parent, spool) = spool(bounds);
    let file = MailboxFile::create(&spool).unwrap();
    file.append(&[Bytes::from_static(b"first")]).unwrap();
    let refused = file.append(&[Bytes::from(vec![0; 100])]).unwrap_err();
    assert!(refused.is_lack_of_space(), "{refused}");
    let at = file.append(&[Bytes::from_static(b"second")]).unwrap();
    assert_eq!(file.read(0, 5).unwrap(), "first");
    assert_eq!(file.read(at, 6).unwrap(), "second");
    assert_eq!(spool.used(), 11);
}

#[test]
fn the_reserve_of_the_disk_is_never_used() {
    let bounds = SpoolBounds { reserve: u64::MAX, ..SpoolBounds::default() };
    let (_parent, spool) = spool(bounds);
    let file = MailboxFile::create(&spool).unwrap();
    let refused = file.append(&[Bytes::from(vec![0; 1 << 20])]);
    // 5 % of the disk is the smaller bound here, and usually there is that much.
    assert!(matches!(refused, Ok(0) | Err(SpoolError::Reserve { .. })));
    assert!(spool.check_room(u64::MAX / 2).is_err());
}

#[test]
fn more_parts_than_one_call_takes_are_written_in_order() {
    let (_parent, spool) = spool(SpoolBounds::default());
    let file = MailboxFile::create(&spool).unwrap();
    let parts: Vec<_> = (0..3_000_u32).map(|n| Bytes::from(n.to_le_bytes().to_vec())).collect();
    file.append(&parts).unwrap();
    let expected: Vec<_> = (0..3_000_u32).flat_map(u32::to_le_bytes).collect();
    assert_eq!(file.read(0, 12_000).unwrap(), expected);
}
