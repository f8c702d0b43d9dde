//! What kept children write and read while their daemon lives.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use sortie_exec::{Guardian, Keep, ProcessSpec, RunPlan, run, stop_channel};
use sortie_model::facts::{Interruption, ProcessEnd, ProcessFacts};
use sortie_model::spec::StopSpec;
use sortie_model::{ChildIncarnation, Seq, Stream, limits};
use sortie_wire::guardian_proto::StandardInput;

use super::{InputEnd, KeepDirectory, Taker, keep, kept, run_kept};
use crate::support::{EXIT_0, command, eventually, mark, marked, shell, with_mark};

pub(crate) async fn sixty_four_mebibytes_of_a_kept_child_arrive_unchanged(guardian: Guardian) {
    let directory = KeepDirectory::new(&guardian);
    let host = directory.launch().await.unwrap();
    let digest = directory.beside("digest");
    // One line, of which half goes to each stream.
    let script = format!(
        "head -c 33554432 /dev/urandom | tee /dev/stderr | tee /dev/stdout | sha256sum > {}",
        digest.display()
    );
    let script = script.replace("| tee /dev/stdout |", "| tee /dev/fd/3 |");
    let script = format!("exec 3>&1; {script}");
    let taker = Taker::new(&host, 0);
    let facts = run_kept(&host, kept(0, shell(&script)), RunPlan::default(), &taker).await;
    assert_eq!(facts, ProcessFacts::of(EXIT_0));
    taker.assert_dense(Seq(0));
    let expected = std::fs::read_to_string(digest).unwrap();
    for stream in [Stream::Output, Stream::Error] {
        let bytes = taker.bytes(stream);
        assert_eq!(bytes.len(), 32 << 20);
        let found: String =
            Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(expected.starts_with(&found), "{stream}");
    }
    // What was stored was freed.
    let left: u64 = directory.files().iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!(left < 4 * limits::KEPT_SEGMENT_BYTES, "{left} bytes");
    host.end().await;
}

pub(crate) async fn a_kept_child_waits_until_its_output_is_stored(guardian: Guardian) {
    let directory = KeepDirectory::new(&guardian);
    let host = directory.launch().await.unwrap();
    let done = directory.beside("done");
    let script = format!("head -c 12000000 /dev/zero; echo > {}", done.display());
    let taker = Arc::new(Taker { stores: false, ..Taker::new(&host, 0) });
    let running = {
        let (host, taker) = (host.clone(), Arc::clone(&taker));
        tokio::spawn(async move {
            run_kept(&host, kept(0, shell(&script)), RunPlan::default(), &taker).await
        })
    };
    let bound = usize::try_from(limits::KEPT_UNSTORED_BYTES).unwrap();
    let last = || taker.records.lock().unwrap().last().map_or(Seq(0), |one| one.seq.after(1));
    let total = || taker.records.lock().unwrap().iter().map(|one| one.body.len()).sum::<usize>();
    eventually("the bound", || total() + limits::RECORD_BYTES >= bound).await;
    let most = bound + limits::RECORD_BYTES;
    assert!(total() <= most && !done.exists(), "{} bytes", total());
    eventually("the end", || {
        assert!(total() <= 12_000_000);
        taker.guardian.stored(taker.child, last());
        running.is_finished()
    })
    .await;
    assert_eq!(running.await.unwrap(), ProcessFacts::of(EXIT_0));
    assert_eq!(total(), 12_000_000);
    host.end().await;
}

pub(crate) async fn what_a_kept_child_leaves_behind_is_killed_and_counted(guardian: Guardian) {
    let directory = KeepDirectory::new(&guardian);
    let host = directory.launch().await.unwrap();
    let mark = mark("kept-drain");
    let spec = marked(&mark, "setsid sh -c 'echo late; exec sleep 1000' & echo early");
    let drain = Duration::from_millis(700);
    let spec = ProcessSpec { keep: Some(Keep { drain, ..keep(0) }), ..spec };
    let taker = Taker::new(&host, 0);
    let begin = Instant::now();
    let facts = run_kept(&host, spec, RunPlan::default(), &taker).await;
    let took = begin.elapsed();
    assert!(took >= drain && took < Duration::from_secs(5), "{took:?}");
    assert_eq!(facts, ProcessFacts { left_behind: 1, ..ProcessFacts::of(EXIT_0) });
    let text = taker.text();
    assert!(text.contains("early\n") && text.contains("late\n"), "{text}");
    assert!(with_mark(&mark).is_empty());
    host.end().await;
}

pub(crate) async fn a_kept_childs_input_has_a_true_end(guardian: Guardian) {
    let directory = KeepDirectory::new(&guardian);
    let host = directory.launch().await.unwrap();
    let taker = Taker::new(&host, 0);
    let piece = |number: u32| Bytes::from(number.to_le_bytes().repeat(50_000));
    taker.input.lock().unwrap().extend((0..10).rev().map(piece));
    let spec = ProcessSpec { input: StandardInput::Pipe, ..kept(0, command(&["cat"])) };
    let facts = run_kept(&host, spec, RunPlan::default(), &taker).await;
    assert_eq!(facts, ProcessFacts::of(EXIT_0));
    assert_eq!(taker.bytes(Stream::Output), (0..10).flat_map(piece).collect::<Vec<u8>>());
    host.end().await;
}

pub(crate) async fn a_kept_child_is_stopped_and_cut_like_any_other(guardian: Guardian) {
    let directory = KeepDirectory::new(&guardian);
    let host = directory.launch().await.unwrap();
    let taker = Taker { on_input_end: InputEnd::Waits, ..Taker::new(&host, 0) };
    let (stopper, stops) = stop_channel(Duration::from_secs(30));
    let script = "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.05; done";
    let spec = ProcessSpec { input: StandardInput::Pipe, ..kept(0, shell(script)) };
    let (facts, ()) = tokio::join!(run(&host, spec, RunPlan::default(), (&taker, &stops)), async {
        eventually("its first line", || taker.text().contains("ready")).await;
        stopper.stop(StopSpec::default());
    });
    let stopped = ProcessFacts {
        interruptions: vec![Interruption::Stop],
        ..ProcessFacts::of(ProcessEnd::Exited { code: 7 })
    };
    assert_eq!((facts, taker.bytes(Stream::Output)), (stopped, b"ready\nbye\n".to_vec()));

    let taker = Taker::new(&host, 1);
    let plan = RunPlan { output_limit: Some(6_000), ..RunPlan::default() };
    let spec = kept(1, shell("head -c 5000 /dev/zero; head -c 5000 /dev/zero; exec sleep 1000"));
    let facts = run_kept(&host, spec, plan, &taker).await;
    assert_eq!(facts.interruptions, [Interruption::OutputLimit]);
    // The stop may come before the program has written all of it.
    assert!((1..=4_000).contains(&facts.cut_bytes), "{}", facts.cut_bytes);
    assert_eq!(taker.text().len(), 6_000);

    let taker = Taker::new(&host, 2);
    let plan = RunPlan { timeout: Some(Duration::from_millis(200)), ..RunPlan::default() };
    let facts = run_kept(&host, kept(2, command(&["sleep", "1000"])), plan, &taker).await;
    assert_eq!(facts.interruptions, [Interruption::Timeout]);
    host.end().await;
}

pub(crate) async fn dropping_the_run_of_a_kept_child_kills_its_tree(guardian: Guardian) {
    let directory = KeepDirectory::new(&guardian);
    let host = directory.launch().await.unwrap();
    let mark = mark("kept-dropped");
    let seen = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let running = {
        let (host, mark, seen) = (host.clone(), mark.clone(), Arc::clone(&seen));
        tokio::spawn(async move {
            let taker = Taker::new(&host, 0);
            let spec = kept(0, marked(&mark, "(setsid sleep 1000 &); exec sleep 1000"));
            run_kept(&host, spec, RunPlan::default(), &taker).await;
            seen.store(true, Ordering::Release);
        })
    };
    eventually("all processes", || with_mark(&mark).len() >= 2).await;
    running.abort();
    eventually("the end of the tree", || with_mark(&mark).is_empty()).await;
    assert!(!seen.load(Ordering::Acquire));
    host.forget(super::key(0));
    eventually("that it is forgotten", || {
        !directory.files().iter().any(|file| file.starts_with(directory.path().join("children")))
    })
    .await;
    host.end().await;
}

pub(crate) async fn the_next_life_of_a_kept_child_goes_on_where_it_ended(guardian: Guardian) {
    let directory = KeepDirectory::new(&guardian);
    let host = directory.launch().await.unwrap();
    let mut first = Seq(0);
    for life in 1..=3 {
        let own = Keep { incarnation: ChildIncarnation(life), first, ..keep(0) };
        let spec = ProcessSpec { keep: Some(own), ..shell(&format!("echo life {life}; exit 1")) };
        let taker = Taker { stores: life != 1, ..Taker::new(&host, 0) };
        let facts = run_kept(&host, spec, RunPlan::default(), &taker).await;
        assert_eq!(facts.end, ProcessEnd::Exited { code: 1 });
        assert_eq!(taker.text(), format!("life {life}\n"));
        taker.assert_dense(first);
        first = taker.records.lock().unwrap().last().unwrap().seq.after(1);
        if life == 2 {
            // A note of the node's own, between two lives.
            first = first.after(1);
        }
    }
    host.end().await;
}
