//! The directory of kept children.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sortie_exec::{
    Guardian, Keep, Lack, LaunchError, LaunchOptions, ProcessSpec, RunPlan, SpawnError,
};
use sortie_model::facts::{ProcessEnd, ProcessFacts};
use sortie_model::limits;
use sortie_wire::guardian_proto::StandardInput;

use super::{Daemon, KeepDirectory, Order, Taker, keep, kept, kill_holder, resume_kept, run_kept};
use crate::support::{EXIT_0, command, eventually, mark, marked, shell, with_mark};

pub(crate) async fn two_daemons_cannot_have_the_same_children(guardian: Guardian) {
    let directory = KeepDirectory::new(&guardian);
    let launches: Vec<_> = (0..4)
        .map(|_| {
            let options = directory.options();
            tokio::spawn(Guardian::launch(options))
        })
        .collect();
    let mut winners = Vec::new();
    for launch in launches {
        match launch.await.unwrap() {
            Ok(winner) => winners.push(winner),
            Err(error) => {
                assert!(matches!(error, LaunchError::InUse { .. }), "{error}");
                let text = error.to_string();
                let own = format!("process {} has the kept children", std::process::id());
                assert!(text.starts_with(&own) && text.contains("keep"), "{text}");
            }
        }
    }
    assert_eq!(winners.len(), 1);
    let taker = Taker::new(&winners[0], 0);
    let spec = kept(0, shell("echo works"));
    let facts = run_kept(&winners[0], spec, RunPlan::default(), &taker).await;
    assert_eq!((facts.end, taker.text().as_str()), (EXIT_0, "works\n"));
    winners[0].end().await;
    // The next one has it at once.
    directory.launch().await.unwrap().end().await;
}

pub(crate) async fn an_orderly_end_kills_what_is_kept_and_leaves_nothing(guardian: Guardian) {
    let directory = KeepDirectory::new(&guardian);
    let mark = mark("orderly");
    let script = "trap '' TERM; echo said; (setsid sleep 1000 &); while :; do sleep 0.05; done";
    let order = Order { script, mark: &mark, count: 2, other: None };
    let daemon = Daemon::start(&guardian, &directory, &order);
    daemon.says("record", 2).await;
    daemon.kill();
    let next = directory.launch().await.unwrap();
    assert!(directory.files().len() > 4);
    next.end().await;
    assert!(with_mark(&mark).is_empty());
    assert!(directory.files().is_empty(), "{:?}", directory.files());
    // Nothing kept: nobody stays when a daemon just goes.
    drop(directory.launch().await.unwrap());
    eventually("the end of the guardian", || directory.files().is_empty()).await;
}

pub(crate) async fn what_nobody_can_find_any_more_ends(guardian: Guardian) {
    let directory = KeepDirectory::new(&guardian);
    let mark = mark("nowhere");
    let script = "echo said; exec sleep 1000";
    let order = Order { script, mark: &mark, count: 2, other: None };
    let daemon = Daemon::start(&guardian, &directory, &order);
    daemon.says("record", 2).await;
    daemon.kill();
    std::fs::remove_dir_all(directory.path()).unwrap();
    eventually("the end of what was kept", || with_mark(&mark).is_empty()).await;
    assert!(!directory.path().exists());
}

pub(crate) async fn what_cannot_be_kept_is_refused(guardian: Guardian) {
    let spawn = |guardian: Guardian, spec: ProcessSpec| async move {
        guardian.spawn(spec).await.map(|_| ()).unwrap_err()
    };
    let error = spawn(guardian.clone(), kept(0, command(&["true"]))).await;
    assert_eq!(error, SpawnError::NOT_KEPT, "there is no directory");
    let directory = KeepDirectory::new(&guardian);
    let host = directory.launch().await.unwrap();
    let note = Bytes::from(vec![0; limits::KEPT_NOTE_BYTES + 1]);
    let long = ProcessSpec { keep: Some(Keep { note, ..keep(0) }), ..command(&["true"]) };
    assert_eq!(spawn(host.clone(), long).await, SpawnError::NOTE_TOO_LONG);
    let channel = ProcessSpec { input: StandardInput::Channel, ..kept(0, command(&["true"])) };
    assert_eq!(spawn(host.clone(), channel).await, SpawnError::NOT_KEPT);
    // One that never started leaves nothing.
    let missing = spawn(host.clone(), kept(0, command(&["no-such-program-here"]))).await;
    assert_eq!(missing.errno, 2);
    let first = host.spawn(kept(0, command(&["sleep", "1000"]))).await.unwrap();
    let twice = spawn(host.clone(), kept(0, command(&["true"]))).await;
    assert_eq!(twice.errno, 17, "{twice}");
    drop(first);
    host.end().await;
    let file = directory.beside("file");
    std::fs::write(&file, "").unwrap();
    let options = LaunchOptions { keep: Some(file), ..directory.options() };
    let error = Guardian::launch(options).await.unwrap_err();
    assert!(matches!(error, LaunchError::Keep { .. }), "{error}");
}

/// A file system of six mebibytes, if we may mount one. Dropping it unmounts it.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(path: std::path::PathBuf) -> Option<Self> {
        std::fs::create_dir_all(&path).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=6m,mode=700", "none"]).arg(&path);
        let mounted = mount.stderr(std::process::Stdio::null()).status();
        mounted.is_ok_and(|status| status.success()).then_some(Self(path))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

pub(crate) async fn an_end_on_a_full_disk_is_known_without_its_guardian(guardian: Guardian) {
    let directory = KeepDirectory::new(&guardian);
    let Some(disk) = SmallDisk::mount(directory.path()) else {
        println!("(skipped: nothing can be mounted here)");
        return;
    };
    // Dropped first: what is there ends before the disk goes.
    let directory = directory;
    let host = directory.launch().await.unwrap();
    let (ballast, gate) = (disk.0.join("ballast"), directory.beside("gate"));
    let mark = mark("full-end");
    let script = format!("while [ ! -e {} ]; do sleep 0.01; done; exit 3", gate.display());
    // With such a note the end does not fit into the block where the beginning is.
    let keep = Keep { note: vec![b'n'; 3_900].into(), ..keep(0) };
    let spec = ProcessSpec { keep: Some(keep), ..marked(&mark, &script) };
    let taker = Taker { stores: false, ..Taker::new(&host, 0) };
    let (facts, ()) = tokio::join!(run_kept(&host, spec, RunPlan::default(), &taker), async {
        eventually("the process", || !with_mark(&mark).is_empty()).await;
        let full = std::fs::write(&ballast, vec![0; 7 << 20]).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        std::fs::write(&gate, "").unwrap();
    });
    let expected = ProcessFacts::of(ProcessEnd::Exited { code: 3 });
    assert_eq!(facts, expected);
    kill_holder(&directory);
    std::fs::remove_file(&ballast).unwrap();
    let next = directory.launch().await.unwrap();
    let adopted = next.take_adopted().pop().unwrap();
    assert_eq!(resume_kept(&next, adopted, &Taker::new(&next, 0)).await, expected);
    next.end().await;
    drop((host, disk));
}

pub(crate) async fn a_full_disk_pauses_kept_children(guardian: Guardian) {
    let directory = KeepDirectory::new(&guardian);
    let Some(disk) = SmallDisk::mount(directory.path()) else {
        println!("(skipped: nothing can be mounted here)");
        return;
    };
    // Dropped first: what is there ends before the disk goes.
    let directory = directory;
    let host = directory.launch().await.unwrap();
    let ballast = disk.0.join("ballast");
    let taker = Arc::new(Taker { stores: false, ..Taker::new(&host, 0) });
    let done = directory.beside("done");
    let script = format!("echo first; head -c 3800000 /dev/zero; echo > {}", done.display());
    let running = {
        let (host, taker) = (host.clone(), Arc::clone(&taker));
        std::fs::write(&ballast, vec![0; 5 << 20]).unwrap();
        tokio::spawn(async move {
            run_kept(&host, kept(0, shell(&script)), RunPlan::default(), &taker).await
        })
    };
    let total = || taker.records.lock().unwrap().iter().map(|one| one.body.len()).sum::<usize>();
    eventually("a full disk", || total() > 500_000).await;
    let paused = total();
    let retried = std::time::Instant::now();
    eventually("two attempts", || retried.elapsed() > limits::KEPT_RETRY * 2).await;
    assert!(total() < 1_200_000 && !done.exists(), "{paused}, then {} bytes", total());
    assert_eq!(host.holds_back(), Some(Lack::Room));
    std::fs::remove_file(&ballast).unwrap();
    let facts = tokio::time::timeout(Duration::from_secs(20), running).await.unwrap().unwrap();
    assert_eq!(facts, ProcessFacts::of(EXIT_0));
    assert_eq!((total(), host.holds_back()), (3_800_006, None));
    taker.assert_dense(sortie_model::Seq(0));
    host.end().await;
    drop(disk);
}
