//! Children that were told to end before their daemon died.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sortie_exec::{Guardian, RunPlan, Stopper, resume, run, stop_channel};
use sortie_model::facts::{Interruption, ProcessEnd, ProcessFacts};
use sortie_model::spec::StopSpec;
use sortie_wire::guardian_proto::{Deadline, DeadlineAct};
use tokio::task::JoinHandle;

use super::{KeepDirectory, LONG, Taker, kept, resume_kept};
use crate::daemon_death::kill;
use crate::support::{eventually, mark, marked, with_mark};

const EXIT_3: ProcessEnd = ProcessEnd::Exited { code: 3 };

/// A child that says that it was told to end, and ends with 3 when it is let go.
struct Listener {
    directory: KeepDirectory,
    host: Guardian,
    running: JoinHandle<ProcessFacts>,
    stopper: Stopper,
    mark: String,
    told: PathBuf,
    gate: PathBuf,
}

impl Listener {
    async fn begin(guardian: &Guardian, plan: RunPlan) -> Self {
        let directory = KeepDirectory::new(guardian);
        let host = directory.launch().await.unwrap();
        let (mark, told, gate) =
            (mark("listener"), directory.beside("told"), directory.beside("gate"));
        let script = format!(
            "trap 'echo > {}' TERM; echo ready; while [ ! -e {} ]; do sleep 0.01; done; exit 3",
            told.display(),
            gate.display()
        );
        let (stopper, stops) = stop_channel(LONG);
        let taker = Arc::new(Taker::new(&host, 0));
        let (shared, host_too, spec) =
            (Arc::clone(&taker), host.clone(), kept(0, marked(&mark, &script)));
        let running =
            tokio::spawn(async move { run(&host_too, spec, plan, (&*shared, &stops)).await });
        eventually("its first line", || !taker.records.lock().unwrap().is_empty()).await;
        Self { directory, host, running, stopper, mark, told, gate }
    }

    async fn is_told(&self) {
        eventually("its signal", || self.told.exists()).await;
    }

    async fn let_go(&self) {
        std::fs::write(&self.gate, "").unwrap();
        eventually("its end", || with_mark(&self.mark).is_empty()).await;
    }

    /// Its daemon dies.
    async fn leave(&self) {
        self.host.leave().await;
        self.running.abort();
    }

    /// What the next daemon makes of it, which was told nothing.
    async fn resumed(&self, plan: RunPlan) -> ProcessFacts {
        let next = self.directory.launch().await.unwrap();
        let adopted = next.take_adopted().pop().unwrap();
        let taker = Taker { stores: false, ..Taker::new(&next, 0) };
        let (_stopper, stops) = stop_channel(plan.grace);
        let facts = resume(&next, adopted, plan, (&taker, &stops)).await;
        next.leave().await;
        facts
    }
}

fn interrupted(why: Interruption) -> ProcessFacts {
    ProcessFacts { interruptions: vec![why], ..ProcessFacts::of(EXIT_3) }
}

/// That changes nothing about why it ended.
fn limited() -> RunPlan {
    RunPlan { output_limit: Some(1 << 20), timeout: Some(LONG), ..RunPlan::default() }
}

pub(crate) async fn a_stop_is_one_for_the_next_daemon_whoever_saw_the_end(guardian: Guardian) {
    // Nobody saw it, and the guardian ended with it.
    let alone = Listener::begin(&guardian, limited()).await;
    alone.stopper.stop(StopSpec::default());
    alone.is_told().await;
    alone.leave().await;
    alone.let_go().await;
    eventually("the end of its guardian", || alone.directory.holder().is_none()).await;
    for _ in 0..2 {
        assert_eq!(alone.resumed(limited()).await, interrupted(Interruption::Stop));
        eventually("the end of the guardian", || alone.directory.holder().is_none()).await;
    }
    // The daemon that told it saw it, and told nobody.
    let seen = Listener::begin(&guardian, limited()).await;
    seen.stopper.stop(StopSpec::default());
    seen.is_told().await;
    seen.let_go().await;
    eventually("its end", || seen.running.is_finished()).await;
    seen.leave().await;
    assert_eq!(seen.resumed(limited()).await, interrupted(Interruption::Stop));
    // The next daemon sees it.
    let later = Listener::begin(&guardian, limited()).await;
    later.stopper.stop(StopSpec::default());
    later.is_told().await;
    later.leave().await;
    let (facts, ()) = tokio::join!(later.resumed(limited()), later.let_go());
    assert_eq!(facts, interrupted(Interruption::Stop));
}

pub(crate) async fn what_ended_before_the_signal_came_was_not_stopped(guardian: Guardian) {
    let listener = Listener::begin(&guardian, limited()).await;
    let holder = listener.directory.holder().unwrap();
    kill("-STOP", &holder);
    std::fs::write(&listener.gate, "").unwrap();
    let is_zombie = |path: &PathBuf| {
        let stat = std::fs::read_to_string(path.join("stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'))
    };
    // Of what has ended there is no environment any more.
    eventually("its end", || with_mark(&listener.mark).iter().all(is_zombie)).await;
    listener.stopper.stop(StopSpec::default());
    // As a rule the request waits with the end then.
    tokio::task::yield_now().await;
    kill("-CONT", &holder);
    eventually("its end", || listener.running.is_finished()).await;
    listener.leave().await;
    assert!(!listener.told.exists());
    assert_eq!(listener.resumed(limited()).await, ProcessFacts::of(EXIT_3));
}

pub(crate) async fn a_time_out_is_one_for_the_next_daemon(guardian: Guardian) {
    let plan = RunPlan { timeout: Some(Duration::from_millis(300)), ..limited() };
    let plan = RunPlan { grace: LONG, ..plan };
    let listener = Listener::begin(&guardian, plan).await;
    listener.leave().await;
    listener.is_told().await;
    listener.let_go().await;
    assert_eq!(listener.resumed(limited()).await, interrupted(Interruption::Timeout));
}

pub(crate) async fn a_time_out_is_known_from_the_start(guardian: Guardian) {
    let directory = KeepDirectory::new(&guardian);
    let host = directory.launch().await.unwrap();
    let [limited_mark, mark] = ["known-deadline", "no-deadline"].map(mark);
    let act = DeadlineAct::Ask { signal: 15, grace: LONG };
    let due = Some(Deadline { left: Duration::from_millis(200), act });
    let spec = |mark| marked(mark, "trap 'exit 3' TERM; while :; do sleep 0.01; done");
    // Their daemon dies before it has heard that they run.
    let first = host.begin(kept(0, spec(&limited_mark)), due).await.unwrap();
    let second = host.begin(kept(1, spec(&mark)), None).await.unwrap();
    let run = || !with_mark(&limited_mark).is_empty() && !with_mark(&mark).is_empty();
    eventually("both processes", run).await;
    host.leave().await;
    drop((first, second));
    eventually("the time-out", || with_mark(&limited_mark).is_empty()).await;
    assert!(!with_mark(&mark).is_empty());
    let next = directory.launch().await.unwrap();
    let mut adopted = next.take_adopted();
    adopted.sort_by_key(|one| one.child);
    let taker = Taker::new(&next, 0);
    let facts = resume_kept(&next, adopted.remove(0), &taker).await;
    assert_eq!(facts.interruptions, [Interruption::Timeout], "{facts:?}");
    next.end().await;
}

pub(crate) async fn output_past_its_limit_is_that_for_the_next_daemon(guardian: Guardian) {
    let plan = RunPlan { output_limit: Some(3), grace: LONG, ..RunPlan::default() };
    let listener = Listener::begin(&guardian, plan).await;
    listener.is_told().await;
    listener.leave().await;
    listener.let_go().await;
    let facts = listener.resumed(RunPlan::default()).await;
    assert_eq!(facts, interrupted(Interruption::OutputLimit));
}
