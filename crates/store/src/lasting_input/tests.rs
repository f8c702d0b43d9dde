//! Inputs that last against a disk that fails, forgets and lies.

use super::*;
use crate::disk::simulated::{Fault, SimulatedDisk};

const JOB: JobInstance = JobInstance(Uuid::from_u128(9));

fn directory(disk: &SimulatedDisk) -> InputDirectory {
    InputDirectory::new(disk.shared(), "sessions/input".as_ref())
}

fn piece(number: u8) -> Vec<u8> {
    vec![number; 1_000 + usize::from(number) * 700]
}

fn pieces(count: u8) -> Vec<u8> {
    (0..count).flat_map(piece).collect()
}

fn content(input: &LastingInput) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let more = input.read(all.len() as u64, 777).expect("a readable file");
        if more.is_empty() {
            return all;
        }
        all.extend_from_slice(&more);
    }
}

/// Stores pieces, syncing behind each; gives the last mark, and how many pieces it has.
fn store(disk: &SimulatedDisk, count: u8) -> (InputMark, u8) {
    let mut input = directory(disk).begin(JOB);
    let mut kept = (InputMark::default(), 0);
    for number in 0..count {
        if input.append(&piece(number)).is_err() {
            break;
        }
        let Ok(mark) = input.sync().wait() else { break };
        kept = (mark, number + 1);
    }
    kept
}

#[test]
fn what_was_synced_is_read_again_after_a_crash_whichever_call_failed() {
    for fault in Fault::ALL {
        for at in 0.. {
            let disk = SimulatedDisk::default();
            disk.fail(at, fault);
            let (mark, count) = store(&disk, 4);
            for left in [disk.after_a_crash(), disk.after_a_kill()] {
                let found = directory(&left).open(JOB, mark).expect("all that was certain");
                assert_eq!(content(&found), pieces(count), "call {at}, {fault:?}");
            }
            if !disk.has_failed() {
                assert_eq!(count, 4);
                break;
            }
        }
    }
}

#[test]
fn a_write_that_failed_is_made_again_at_the_same_place() {
    let disk = SimulatedDisk::default();
    let mut input = directory(&disk).begin(JOB);
    input.append(&piece(0)).expect("room");
    disk.fail(0, Fault::ShortWrite);
    input.append(&[9; 5_000]).expect_err("no room");
    input.append(&piece(1)).expect("room");
    let mark = input.sync().wait().expect("a disk that works");
    let found = directory(&disk.after_a_crash()).open(JOB, mark).expect("all of it");
    assert_eq!(content(&found), pieces(2));
}

#[test]
fn a_wait_that_failed_is_followed_by_none_that_is_believed() {
    // The file's own, and those of the names of it and of its directory.
    for at in 0..3 {
        let disk = SimulatedDisk::default();
        let mut input = directory(&disk).begin(JOB);
        input.append(&piece(0)).expect("room");
        disk.fail(at, Fault::Broken);
        input.sync().wait().expect_err("a disk that fails");
        assert!(disk.has_failed(), "call {at}");
        input.append(&piece(1)).expect("room");
        input.sync().wait().expect_err("nobody knows what is on the disk");
    }
}

#[test]
fn the_name_is_on_the_disk_also_if_the_first_wait_never_came_to_it() {
    let disk = SimulatedDisk::default();
    let mut input = directory(&disk).begin(JOB);
    input.append(&piece(0)).expect("room");
    drop(input.sync());
    let mark = input.sync().wait().expect("a disk that works");
    let found = directory(&disk.after_a_crash()).open(JOB, mark).expect("all of it");
    assert_eq!(content(&found), pieces(1));
}

#[test]
fn what_lies_behind_the_mark_is_not_there() {
    let disk = SimulatedDisk::default();
    let mut input = directory(&disk).begin(JOB);
    input.append(&piece(0)).expect("room");
    let mark = input.sync().wait().expect("a disk that works");
    input.append(&piece(1)).expect("room");
    let found = directory(&disk.after_a_kill()).open(JOB, mark).expect("the first");
    assert_eq!(content(&found), pieces(1));
}

#[test]
fn a_file_that_is_missing_short_or_another_is_never_read() {
    let disk = SimulatedDisk::default();
    let (mark, _) = store(&disk, 3);
    let path = directory(&disk).path(JOB);
    let good = disk.content(&path);
    assert!(directory(&disk).open(JOB, mark).is_ok());
    let mut flipped = good.clone();
    flipped[2_000] ^= 1;
    for bad in [flipped, good[..good.len() - 1].to_vec(), Vec::new()] {
        disk.put(&path, bad);
        let error = directory(&disk).open(JOB, mark).expect_err("damage");
        assert!(matches!(error, InputError::Damaged { .. }), "{error}");
    }
    directory(&disk).remove(JOB).expect("a disk that works");
    let error = directory(&disk).open(JOB, mark).expect_err("nothing there");
    assert!(matches!(error, InputError::Damaged { .. }), "{error}");
}

#[test]
fn an_input_without_a_byte_has_no_file() {
    let disk = SimulatedDisk::default();
    let input = directory(&disk).begin(JOB);
    assert_eq!(input.sync().wait().expect("nothing to do"), InputMark::default());
    assert_eq!(disk.paths(), Vec::<PathBuf>::new());
    let found = directory(&disk).open(JOB, InputMark::default()).expect("nothing");
    assert!(found.is_empty() && content(&found).is_empty());
    found.remove().expect("nothing to do");
}

#[test]
fn the_jobs_with_a_file_are_found() {
    let disk = SimulatedDisk::default();
    store(&disk, 1);
    disk.put("sessions/input/else".as_ref(), vec![1]);
    let jobs: Vec<_> = directory(&disk).jobs().expect("a list").collect();
    assert_eq!(jobs, [JOB]);
}
