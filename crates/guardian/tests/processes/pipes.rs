//! What goes through the pipes.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use sortie_exec::process::ProcessOutput;
use sortie_exec::{Guardian, ProcessSpec, RunPlan};
use sortie_model::facts::{Interruption, ProcessFacts};
use sortie_wire::guardian_proto::StandardInput;

use crate::support::{
    EXIT_0, Sink, command, eventually, mark, marked, run_plain, run_with, shell, with_mark,
};

pub(crate) async fn sixty_four_mebibytes_arrive_unchanged(guardian: Guardian) {
    let script = "head -c 67108864 /dev/urandom | tee /dev/stderr | sha256sum >&3 3>&1; wait";
    // The digest goes to a file, the data to stderr.
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("digest");
    let script = script.replace(">&3 3>&1", &format!("> {}", file.display()));
    let (facts, sink) = run_plain(&guardian, shell(&script)).await;
    assert_eq!(facts, ProcessFacts::of(EXIT_0));
    let error = sink.error.lock().unwrap();
    assert_eq!(error.len(), 64 << 20);
    let digest: String =
        Sha256::digest(error.as_slice()).iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(std::fs::read_to_string(file).unwrap().starts_with(&digest));
}

pub(crate) async fn input_comes_back_unchanged(guardian: Guardian) {
    let sink = Sink::default();
    let piece = |number: u32| Bytes::from(number.to_le_bytes().repeat(50_000));
    sink.input.lock().unwrap().extend((0..20).map(piece));
    let spec = ProcessSpec { input: StandardInput::Pipe, ..command(&["cat"]) };
    let facts = run_with(&guardian, spec, RunPlan::default(), &sink).await;
    assert_eq!(facts, ProcessFacts::of(EXIT_0));
    let expected: Vec<u8> = (0..20).flat_map(piece).collect();
    assert_eq!(*sink.output.lock().unwrap(), expected);
}

pub(crate) async fn a_child_that_closes_its_input_goes_on(guardian: Guardian) {
    let sink = Sink::default();
    let piece = Bytes::from(vec![b'x'; 1 << 20]);
    sink.input.lock().unwrap().extend(std::iter::repeat_n(piece, 4));
    let script = "exec 0<&-; sleep 0.2; echo done";
    let spec = ProcessSpec { input: StandardInput::Pipe, ..shell(script) };
    let facts = run_with(&guardian, spec, RunPlan::default(), &sink).await;
    assert_eq!((facts.end, sink.output().as_str()), (EXIT_0, "done\n"));
    assert!(sink.input_closed.load(Ordering::Acquire), "its owner is told");
}

pub(crate) async fn a_grandchild_that_keeps_stdout_is_killed_after_the_drain(guardian: Guardian) {
    let mark = mark("drain");
    let begin = Instant::now();
    let spec = marked(&mark, "setsid sh -c 'echo late; exec sleep 1000' & echo early");
    let plan = RunPlan { drain: Duration::from_millis(700), ..RunPlan::default() };
    let sink = Sink::default();
    let facts = run_with(&guardian, spec, plan, &sink).await;
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(700) && took < Duration::from_secs(3), "{took:?}");
    assert_eq!(facts, ProcessFacts { left_behind: 1, ..ProcessFacts::of(EXIT_0) });
    let mut lines: Vec<_> = sink.output().lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["early", "late"]);
    assert!(with_mark(&mark).is_empty());
}

pub(crate) async fn a_slow_reader_loses_nothing_after_the_drain(guardian: Guardian) {
    let sink = Sink { pace: Duration::from_millis(30), ..Sink::default() };
    let spec = shell("(head -c 600000 /dev/zero; exec sleep 1000) & exec head -c 600000 /dev/zero");
    let plan = RunPlan { drain: Duration::from_millis(50), ..RunPlan::default() };
    let facts = run_with(&guardian, spec, plan, &sink).await;
    assert_eq!(facts.end, EXIT_0);
    assert!(sink.output.lock().unwrap().len() >= 600_000);
    let sink = Sink { pace: Duration::from_millis(30), ..Sink::default() };
    let facts = run_with(&guardian, shell("exec head -c 900000 /dev/zero"), plan, &sink).await;
    assert_eq!((facts.end, sink.output.lock().unwrap().len()), (EXIT_0, 900_000));
}

pub(crate) async fn output_past_its_limit_is_cut_and_counted(guardian: Guardian) {
    let sink = Sink::default();
    let spec = shell(
        "head -c 5000 /dev/zero; dd if=/dev/zero of=/dev/stderr bs=5000 count=1 status=none; \
         exec sleep 1000",
    );
    let plan = RunPlan { output_limit: Some(6000), ..RunPlan::default() };
    let facts = run_with(&guardian, spec, plan, &sink).await;
    assert_eq!(facts.interruptions, [Interruption::OutputLimit]);
    assert_eq!(facts.cut_bytes, 4000);
    let kept = sink.output.lock().unwrap().len() + sink.error.lock().unwrap().len();
    assert_eq!(kept, 6000);
}

pub(crate) async fn a_child_that_is_not_read_waits(guardian: Guardian) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("written");
    let script = format!("head -c 3000000 /dev/zero; echo > {}", file.display());
    let process = guardian.spawn(shell(&script)).await.unwrap();
    let ProcessOutput::Pipes { mut stdout, .. } = process.output else { panic!("not kept") };
    let mut total = stdout.read().await.unwrap().len();
    assert!(!file.exists(), "three megabytes do not fit into a pipe");
    while let Some(bytes) = stdout.read().await {
        total += bytes.len();
    }
    assert_eq!(total, 3_000_000);
    eventually("the child's end", || file.exists()).await;
}
