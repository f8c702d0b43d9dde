//! Suspending children.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sortie_exec::{Guardian, ProcessIo, ProcessSpec, RunPlan, Stopper, run, stop_channel};
use sortie_model::facts::{Interruption, ProcessEnd, ProcessFacts};
use sortie_model::spec::StopSpec;
use sortie_model::{Motion, Stream};
use tokio::task::JoinHandle;

use crate::support::{EXIT_0, eventually, mark, marked, run_plain, shell, with_mark};
use Motion::{Running, Suspended};

/// Five processes, two of which left the session, each of which counts in a file of its own.
const COUNTERS: &str =
    "count() { i=0; while :; do i=$((i+1)); echo $i > $DIR/$1; sleep 0.01; done; }
    export DIR; setsid sh -c 'i=0; while :; do i=$((i+1)); echo $i > $DIR/far; sleep 0.01; done' &
    count one & count two & echo ready; count main";
const COUNTS: [&str; 4] = ["far", "one", "two", "main"];

/// What a child says of itself.
#[derive(Default)]
struct Seen {
    output: Mutex<Vec<u8>>,
    moved: Mutex<Vec<Motion>>,
}

impl Seen {
    fn output(&self) -> String {
        String::from_utf8(self.output.lock().unwrap().clone()).unwrap()
    }

    async fn does(&self, motion: Motion) {
        let last = || self.moved.lock().unwrap().last().copied();
        eventually("the word that it does so", || last() == Some(motion)).await;
    }
}

impl ProcessIo for Seen {
    fn started(&self, _: u32) {}

    async fn write(&self, stream: Stream, bytes: Bytes) {
        // A shell says on the other one which of its commands a signal ended.
        if stream == Stream::Output {
            self.output.lock().unwrap().extend_from_slice(&bytes);
        }
    }

    fn moved(&self, motion: Motion) {
        self.moved.lock().unwrap().push(motion);
    }

    async fn next_input(&self) -> Option<Bytes> {
        None
    }

    async fn input_closed(&self) {}
}

type Begun = (JoinHandle<ProcessFacts>, Stopper, Arc<Seen>);

/// A child that runs in the background, told this before its start.
fn begin_as(guardian: &Guardian, spec: ProcessSpec, plan: RunPlan, motion: Motion) -> Begun {
    let seen = Arc::new(Seen::default());
    let (stopper, stops) = stop_channel(plan.grace);
    stopper.move_to(motion);
    let (guardian, shared) = (guardian.clone(), Arc::clone(&seen));
    let running = tokio::spawn(async move { run(&guardian, spec, plan, (&*shared, &stops)).await });
    (running, stopper, seen)
}

async fn begin(guardian: &Guardian, spec: ProcessSpec, plan: RunPlan) -> Begun {
    let begun = begin_as(guardian, spec, plan, Running);
    eventually("the child's first line", || begun.2.output().contains('\n')).await;
    begun
}

/// The time that another process takes for a few turns of its loop, if it goes on.
async fn some_turns() {
    let begin = Instant::now();
    eventually("some time", || begin.elapsed() > Duration::from_millis(150)).await;
}

pub(crate) async fn a_suspended_tree_stands_still_and_goes_on_where_it_was(guardian: Guardian) {
    let folder = tempfile::tempdir().unwrap();
    let counts = || {
        COUNTS.map(|name| {
            let text = std::fs::read_to_string(folder.path().join(name)).unwrap_or_default();
            text.trim().parse::<u64>().unwrap_or_default()
        })
    };
    let script = format!("DIR={}; {COUNTERS}", folder.path().display());
    let mark = mark("suspended");
    let (running, stopper, seen) =
        begin(&guardian, marked(&mark, &script), RunPlan::default()).await;
    for _ in 0..3 {
        let before = counts();
        eventually("all count", || counts().iter().zip(before).all(|(now, then)| *now > then))
            .await;
        stopper.move_to(Suspended);
        seen.does(Suspended).await;
        // A file may be empty between its opening and its writing: so each is looked at as it is.
        let files = || COUNTS.map(|name| std::fs::read(folder.path().join(name)).unwrap());
        let frozen = files();
        some_turns().await;
        assert_eq!(files(), frozen, "it counts on");
        assert!(!running.is_finished());
        stopper.move_to(Running);
        seen.does(Running).await;
    }
    stopper.stop(StopSpec::NOW);
    assert_eq!(running.await.unwrap().interruptions, [Interruption::Stop]);
    assert!(with_mark(&mark).is_empty());
    assert_eq!(seen.output(), "ready\n");
}

pub(crate) async fn a_suspended_child_that_is_told_to_stop_gets_the_signal(guardian: Guardian) {
    let script = "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.02; done";
    let plan = RunPlan { grace: Duration::from_secs(30), ..RunPlan::default() };
    let (running, stopper, seen) = begin(&guardian, shell(script), plan).await;
    stopper.move_to(Suspended);
    seen.does(Suspended).await;
    stopper.stop(StopSpec::default());
    let facts = running.await.unwrap();
    assert_eq!(facts.end, ProcessEnd::Exited { code: 7 });
    assert_eq!(facts.interruptions, [Interruption::Stop]);
    assert_eq!(seen.output(), "ready\nbye\n");
}

pub(crate) async fn a_suspended_child_that_ignores_the_signal_is_killed_after_the_grace(
    guardian: Guardian,
) {
    let script = "trap 'echo asked' TERM; echo ready; while :; do sleep 0.02; done";
    let grace = Duration::from_secs(2);
    let plan = RunPlan { grace, ..RunPlan::default() };
    let (running, stopper, seen) = begin(&guardian, shell(script), plan).await;
    stopper.move_to(Suspended);
    seen.does(Suspended).await;
    let asked = Instant::now();
    stopper.stop(StopSpec::default());
    // Too late: what is told to end is not suspended any more.
    stopper.move_to(Suspended);
    let facts = running.await.unwrap();
    assert_eq!(facts.end, ProcessEnd::Signalled { number: 9, core_dumped: false });
    assert!(asked.elapsed() >= grace, "{:?}", asked.elapsed());
    assert_eq!(seen.output(), "ready\nasked\n");
}

pub(crate) async fn what_is_suspended_before_its_start_begins_suspended(guardian: Guardian) {
    let (running, stopper, seen) =
        begin_as(&guardian, shell("sleep 3; echo ran"), RunPlan::default(), Suspended);
    seen.does(Suspended).await;
    some_turns().await;
    assert_eq!(seen.output(), "");
    assert!(!running.is_finished());
    stopper.move_to(Running);
    assert_eq!(running.await.unwrap(), ProcessFacts::of(EXIT_0));
    assert_eq!(seen.output(), "ran\n");
}

pub(crate) async fn an_init_command_that_is_suspended_goes_on_to_the_program(guardian: Guardian) {
    for _ in 0..20 {
        // Told at whatever moment of the change from one program to the next.
        let init = Some("echo first".try_into().unwrap());
        let spec = ProcessSpec { init, ..shell("echo second; sleep 0.05") };
        let (running, stopper, seen) = begin_as(&guardian, spec, RunPlan::default(), Running);
        eventually("the first line", || seen.output().contains("first")).await;
        stopper.move_to(Suspended);
        stopper.move_to(Running);
        stopper.move_to(Suspended);
        eventually("a word or an end", || {
            running.is_finished() || seen.moved.lock().unwrap().last() == Some(&Suspended)
        })
        .await;
        stopper.move_to(Running);
        assert_eq!(running.await.unwrap(), ProcessFacts::of(EXIT_0));
        assert_eq!(seen.output(), "first\nsecond\n");
    }
}

pub(crate) async fn the_run_time_limit_stands_still_with_the_child(guardian: Guardian) {
    let limit = Duration::from_secs(2);
    let plan = RunPlan { timeout: Some(limit), ..RunPlan::default() };
    let began = Instant::now();
    let script = "echo ready; exec sleep 1000";
    let (running, stopper, seen) = begin(&guardian, shell(script), plan).await;
    stopper.move_to(Suspended);
    seen.does(Suspended).await;
    eventually("more than the limit", || began.elapsed() > limit * 2).await;
    assert!(!running.is_finished());
    stopper.move_to(Running);
    let facts = running.await.unwrap();
    assert_eq!(facts.interruptions, [Interruption::Timeout]);
    assert!(began.elapsed() > limit * 2);
}

pub(crate) async fn a_suspended_tree_is_gone_when_its_guardian_is(guardian: Guardian) {
    let mark = mark("orphaned");
    let script = "setsid sleep 1000 & sleep 1000 & echo ready; sleep 1000";
    let (running, stopper, seen) =
        begin(&guardian, marked(&mark, script), RunPlan::default()).await;
    eventually("all processes", || with_mark(&mark).len() >= 4).await;
    stopper.move_to(Suspended);
    seen.does(Suspended).await;
    guardian.end().await;
    assert_eq!(running.await.unwrap().end, ProcessEnd::Lost);
    assert!(with_mark(&mark).is_empty());
}

pub(crate) async fn a_group_that_was_frozen_is_no_trap_for_the_next_child(guardian: Guardian) {
    let script = "echo $$; exec sleep 1000";
    let (running, stopper, seen) = begin(&guardian, shell(script), RunPlan::default()).await;
    stopper.move_to(Suspended);
    seen.does(Suspended).await;
    // It dies of somebody else's signal, so that its group is as it was.
    let pid = seen.output().trim().to_owned();
    let killed = std::process::Command::new("kill").args(["-KILL", &pid]).status().unwrap();
    assert!(killed.success());
    let end = ProcessEnd::Signalled { number: 9, core_dumped: false };
    assert_eq!(running.await.unwrap(), ProcessFacts::of(end));
    for _ in 0..4 {
        assert_eq!(run_plain(&guardian, shell("exit 0")).await.0, ProcessFacts::of(EXIT_0));
    }
}
