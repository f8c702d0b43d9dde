//! Stopping children.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sortie_exec::{Guardian, ProcessSpec, RunPlan, Stopper, run, stop_channel};
use sortie_model::facts::{Interruption, ProcessEnd, ProcessFacts};
use sortie_model::spec::StopSpec;
use tokio::task::JoinHandle;

use crate::daemon_death::STUBBORN;
use crate::support::{EXIT_0, Sink, command, eventually, mark, marked, run_with, shell, with_mark};

const KILLED: ProcessEnd = ProcessEnd::Signalled { number: 9, core_dumped: false };

/// A child that runs in the background and has written its first line.
async fn begin(
    guardian: &Guardian,
    spec: ProcessSpec,
    grace: Duration,
) -> (JoinHandle<ProcessFacts>, Stopper, Arc<Sink>) {
    let sink = Arc::new(Sink::default());
    let (stopper, stops) = stop_channel(grace);
    let (guardian, shared) = (guardian.clone(), Arc::clone(&sink));
    let running = tokio::spawn(async move {
        let plan = RunPlan { grace, ..RunPlan::default() };
        run(&guardian, spec, plan, (&*shared, &stops)).await
    });
    eventually("the child's first line", || sink.output().contains('\n')).await;
    (running, stopper, sink)
}

fn stopped(end: ProcessEnd) -> ProcessFacts {
    ProcessFacts { interruptions: vec![Interruption::Stop], ..ProcessFacts::of(end) }
}

pub(crate) async fn a_stop_asks_first_and_kills_after_the_grace(guardian: Guardian) {
    let script = "trap 'echo asked' TERM; echo ready; while :; do sleep 0.05; done";
    let grace = Duration::from_millis(400);
    let (running, stopper, sink) = begin(&guardian, shell(script), grace).await;
    let asked = Instant::now();
    stopper.stop(StopSpec::default());
    assert_eq!(running.await.unwrap(), stopped(KILLED));
    assert!(asked.elapsed() >= grace && asked.elapsed() < grace * 20, "{:?}", asked.elapsed());
    assert_eq!(sink.output(), "ready\nasked\n");
}

pub(crate) async fn a_child_that_heeds_the_stop_keeps_its_exit_code(guardian: Guardian) {
    let script = "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.05; done";
    let (running, stopper, sink) = begin(&guardian, shell(script), Duration::from_secs(30)).await;
    stopper.stop(StopSpec::default());
    assert_eq!(running.await.unwrap(), stopped(ProcessEnd::Exited { code: 7 }));
    assert_eq!(sink.output(), "ready\nbye\n");
    let script = "trap 'exit 8' USR2; echo ready; while :; do sleep 0.05; done";
    let (running, stopper, _) = begin(&guardian, shell(script), Duration::from_secs(30)).await;
    stopper.stop(StopSpec { signal: 12, grace: None });
    assert_eq!(running.await.unwrap(), stopped(ProcessEnd::Exited { code: 8 }));
}

pub(crate) async fn a_later_stop_brings_the_kill_forward(guardian: Guardian) {
    let script = "trap 'echo asked' TERM; echo ready; while :; do sleep 0.05; done";
    let (running, stopper, sink) = begin(&guardian, shell(script), Duration::from_secs(600)).await;
    stopper.stop(StopSpec::default());
    eventually("the signal", || sink.output().contains("asked")).await;
    assert!(!running.is_finished());
    stopper.stop(StopSpec::NOW);
    assert_eq!(running.await.unwrap(), stopped(KILLED));
}

pub(crate) async fn a_stop_reaches_the_whole_tree(guardian: Guardian) {
    let mark = mark("stop");
    let script = "for i in 1 2 3; do setsid sh -c 'sleep 1000 & sleep 1000' & done; \
                  trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done";
    let spec = marked(&mark, script);
    let (running, stopper, _) = begin(&guardian, spec, Duration::from_secs(30)).await;
    eventually("ten processes", || with_mark(&mark).len() >= 10).await;
    stopper.stop(StopSpec::default());
    // The main process may end before the others have: then these count as left behind.
    let facts = ProcessFacts { left_behind: 0, ..running.await.unwrap() };
    assert_eq!(facts, stopped(EXIT_0));
    assert!(with_mark(&mark).is_empty());
}

pub(crate) async fn a_timeout_stops_the_child(guardian: Guardian) {
    let plan = RunPlan {
        timeout: Some(Duration::from_millis(200)),
        grace: Duration::from_millis(200),
        ..RunPlan::default()
    };
    let sink = Sink::default();
    let facts = run_with(&guardian, command(&["sleep", "1000"]), plan, &sink).await;
    assert_eq!(facts.interruptions, [Interruption::Timeout]);
    assert_eq!(facts.end, ProcessEnd::Signalled { number: 15, core_dumped: false });
    let stubborn = shell("trap '' TERM; while :; do sleep 0.05; done");
    let facts = run_with(&guardian, stubborn, plan, &sink).await;
    assert_eq!((facts.interruptions, facts.end), (vec![Interruption::Timeout], KILLED));
}

pub(crate) async fn a_stop_before_the_start_withdraws_it(guardian: Guardian) {
    let mark = mark("withdrawn");
    let (stopper, stops) = stop_channel(Duration::from_millis(300));
    stopper.stop(StopSpec::default());
    // Others are before it in the queue.
    let others: Vec<_> = (0..200)
        .map(|_| {
            let guardian = guardian.clone();
            tokio::spawn(async move { guardian.spawn(command(&["sleep", "1000"])).await })
        })
        .collect();
    let sink = Sink::default();
    let spec = marked(&mark, "exec sleep 1000");
    let facts = run(&guardian, spec, RunPlan::default(), (&sink, &stops)).await;
    assert_eq!(facts.interruptions, [Interruption::Stop], "{facts:?}");
    assert!(with_mark(&mark).is_empty());
    for other in others {
        assert!(other.await.unwrap().is_ok());
    }
}

pub(crate) async fn an_undisturbed_end_is_not_taken_for_a_stop(guardian: Guardian) {
    // The main process ends at once; the stop comes while its pipes are drained.
    let (running, stopper, _) =
        begin(&guardian, shell("sleep 1000 & echo ready"), Duration::ZERO).await;
    let begin = Instant::now();
    eventually("the end of the main process", || begin.elapsed().as_millis() > 100).await;
    stopper.stop(StopSpec::NOW);
    let facts = running.await.unwrap();
    assert_eq!(facts, ProcessFacts { left_behind: 1, ..ProcessFacts::of(EXIT_0) });
    assert!(begin.elapsed() < Duration::from_secs(1), "the stop cuts the drain short");
}

pub(crate) async fn what_was_dropped_is_waited_for_and_nothing_else(guardian: Guardian) {
    let (mark, stays) = (mark("dropped"), mark("stays"));
    let held = guardian.spawn(marked(&stays, "exec sleep 1000")).await.unwrap();
    guardian.dropped_are_gone().await;
    for _ in 0..10 {
        let child = guardian.spawn(marked(&mark, STUBBORN)).await.unwrap();
        drop(child);
        guardian.dropped_are_gone().await;
        let left = with_mark(&mark);
        assert!(left.is_empty(), "something is left: {left:?}");
    }
    assert_eq!(with_mark(&stays).len(), 1);
    drop(held);
}
