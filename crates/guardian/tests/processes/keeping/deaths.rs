//! Deaths of daemons and guardians.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sortie_exec::{Guardian, Keep, ProcessSpec, RunPlan, resume, stop_channel};
use sortie_model::facts::{Interruption, ProcessEnd, ProcessFacts};
use sortie_model::spec::StopSpec;
use sortie_model::{ChildIncarnation, Seq};

use super::{
    Daemon, KeepDirectory, LONG, Order, Taker, keep, kept, key, kill_holder, resume_kept, run_kept,
    text_of, told,
};
use crate::support::{eventually, mark, marked, with_mark};

const KILLED: ProcessEnd = ProcessEnd::Signalled { number: 9, core_dumped: false };

/// Says a hundred lines, waits for a file, says a hundred more, and exits with 7.
fn two_parts(file: &std::path::Path) -> String {
    format!(
        "i=0; while [ $i -lt 100 ]; do echo line $i; i=$((i+1)); done; \
         while [ ! -e {} ]; do sleep 0.01; done; \
         while [ $i -lt 200 ]; do echo line $i; i=$((i+1)); done; exit 7",
        file.display()
    )
}

fn lines(count: u32) -> String {
    (0..count).map(|number| format!("line {number}\n")).collect()
}

/// What a daemon told of a child, then what another one took of it, each record once.
fn joined(before: &[String], taker: &Taker) -> String {
    let mut all: BTreeMap<u64, String> =
        told(before).into_iter().map(|((_, seq), text)| (seq, unquoted(&text))).collect();
    for record in taker.records.lock().unwrap().iter() {
        let text = String::from_utf8(record.body.bytes().to_vec()).unwrap();
        let earlier = all.insert(record.seq.0, text.clone());
        assert!(earlier.is_none_or(|earlier| earlier == text), "the same record is the same");
    }
    let numbers: Vec<_> = all.keys().copied().collect();
    assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>());
    all.into_values().collect()
}

fn unquoted(text: &str) -> String {
    let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap();
    inner.replace("\\n", "\n")
}

pub(crate) async fn a_kept_child_goes_on_when_its_daemon_is_killed(guardian: Guardian) {
    let directory = KeepDirectory::new(&guardian);
    let (mark, other) = (mark("kept"), mark("not-kept"));
    let go = directory.beside("go");
    let order =
        Order { script: &two_parts(&go), mark: &mark, count: 1, other: Some(other.as_str()) };
    let daemon = Daemon::start(&guardian, &directory, &order);
    daemon.says("record 0", 1).await;
    daemon.says("other", 1).await;
    let holder = directory.holder();
    let before = daemon.kill();
    eventually("the end of what is not kept", || with_mark(&other).is_empty()).await;
    assert!(!with_mark(&mark).is_empty(), "what is kept runs on");

    let next = directory.launch().await.unwrap();
    assert_eq!(directory.holder(), holder, "it is the same guardian");
    let mut adopted = next.take_adopted();
    assert!(next.take_adopted().is_empty(), "each is taken once");
    let adopted = adopted.pop().unwrap();
    assert_eq!((adopted.child, adopted.incarnation), (key(0), ChildIncarnation(1)));
    assert_eq!((adopted.note.as_ref(), adopted.lost), (b"note 0".as_slice(), false));
    assert!(adopted.running > Duration::ZERO && !adopted.input.is_lost());
    let taker = Taker::new(&next, 0);
    let (facts, ()) = tokio::join!(resume_kept(&next, adopted, &taker), async {
        std::fs::write(&go, "").unwrap();
    });
    assert_eq!(facts, ProcessFacts::of(ProcessEnd::Exited { code: 7 }));
    assert_eq!(joined(&before, &taker), lines(200));
    next.forget(key(0));
    next.end().await;
    assert_eq!(directory.files(), Vec::<std::path::PathBuf>::new());
}

pub(crate) async fn what_a_guardian_told_before_it_was_killed_is_known_and_lost(
    guardian: Guardian,
) {
    let directory = KeepDirectory::new(&guardian);
    let mark = mark("told-and-lost");
    let go = directory.beside("go");
    let order = Order { script: &two_parts(&go), mark: &mark, count: 1, other: None };
    let daemon = Daemon::start(&guardian, &directory, &order);
    daemon.says("record 0", 1).await;
    let before = daemon.kill();
    let next = directory.launch().await.unwrap();
    kill_holder(&directory);
    next.lost().await;
    // The next guardian is there before anybody asks the dead one.
    let third = directory.launch().await.unwrap();
    let adopted = next.take_adopted().pop().unwrap();
    assert!(!adopted.lost, "it was told as one that runs");
    let taker = Taker::new(&third, 0);
    let facts = resume_kept(&third, adopted, &taker).await;
    assert_eq!(facts, ProcessFacts::of(ProcessEnd::Lost));
    let all = joined(&before, &taker);
    assert!(!all.is_empty() && lines(200).starts_with(&all), "{all}");
    third.forget(key(0));
    third.end().await;
    assert_eq!(directory.files(), Vec::<std::path::PathBuf>::new());
}

pub(crate) async fn a_kept_child_that_ends_alone_is_told_of_later(guardian: Guardian) {
    let directory = KeepDirectory::new(&guardian);
    let mark = mark("ends-alone");
    let go = directory.beside("go");
    let order = Order { script: &two_parts(&go), mark: &mark, count: 1, other: None };
    let daemon = Daemon::start(&guardian, &directory, &order);
    daemon.says("record 0", 1).await;
    let before = daemon.kill();
    std::fs::write(&go, "").unwrap();
    eventually("the end of the child", || with_mark(&mark).is_empty()).await;
    eventually("the end of its guardian", || directory.holder().is_none()).await;

    // Twice: who has not forgotten it is told again.
    for _ in 0..2 {
        let next = directory.launch().await.unwrap();
        let adopted = next.take_adopted().pop().unwrap();
        assert!(!adopted.lost && adopted.running > Duration::ZERO);
        let taker = Taker { stores: false, ..Taker::new(&next, 0) };
        let facts = resume_kept(&next, adopted, &taker).await;
        assert_eq!(facts, ProcessFacts::of(ProcessEnd::Exited { code: 7 }));
        assert_eq!(joined(&before, &taker), lines(200));
        drop((taker, next));
        eventually("the end of the guardian", || directory.holder().is_none()).await;
    }
    let next = directory.launch().await.unwrap();
    assert_eq!(next.take_adopted().len(), 1);
    next.forget(key(0));
    next.forget(key(0));
    drop(next);
    eventually("the end of everything", || directory.files().is_empty()).await;
}

pub(crate) async fn an_adopted_tree_is_stopped(guardian: Guardian) {
    let directory = KeepDirectory::new(&guardian);
    let mark = mark("adopted-tree");
    let script = "trap '' TERM; (setsid sh -c 'sleep 1000 & exec sleep 1000') & \
                  echo ready; while :; do sleep 0.05; done";
    let order = Order { script, mark: &mark, count: 1, other: None };
    let daemon = Daemon::start(&guardian, &directory, &order);
    daemon.says("record 0", 1).await;
    eventually("all processes", || with_mark(&mark).len() >= 3).await;
    daemon.kill();
    let next = directory.launch().await.unwrap();
    let adopted = next.take_adopted().pop().unwrap();
    let taker = Taker::new(&next, 0);
    let (stopper, stops) = stop_channel(Duration::from_millis(200));
    stopper.stop(StopSpec::default());
    let facts = resume(&next, adopted, RunPlan::default(), (&taker, &stops)).await;
    assert_eq!((facts.end, facts.interruptions), (KILLED, vec![Interruption::Stop]));
    assert!(with_mark(&mark).is_empty());
    next.end().await;
}

pub(crate) async fn an_adopted_child_keeps_its_timeout(guardian: Guardian) {
    let directory = KeepDirectory::new(&guardian);
    let mark = mark("adopted-timeout");
    let order = Order { script: "echo ready; exec sleep 1000", mark: &mark, count: 1, other: None };
    let daemon = Daemon::start(&guardian, &directory, &order);
    daemon.says("record 0", 1).await;
    daemon.kill();
    let next = directory.launch().await.unwrap();
    let adopted = next.take_adopted().pop().unwrap();
    let ran = adopted.running;
    let taker = Taker::new(&next, 0);
    let plan = RunPlan { timeout: Some(ran + Duration::from_millis(50)), ..RunPlan::default() };
    let begin = std::time::Instant::now();
    let (_stopper, stops) = stop_channel(plan.grace);
    let facts = resume(&next, adopted, plan, (&taker, &stops)).await;
    assert_eq!(facts.interruptions, [Interruption::Timeout], "{facts:?}");
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    next.end().await;
}

pub(crate) async fn ten_daemons_die_over_fifty_children(guardian: Guardian) {
    const CHILDREN: u32 = 50;
    let directory = KeepDirectory::new(&guardian);
    let mark = mark("ten-deaths");
    let stop = directory.beside("stop");
    let script = format!(
        "i=0; while [ ! -e {} ]; do echo line $i; i=$((i+1)); sleep 0.05; done; exit 3",
        stop.display()
    );
    let order = Order { script: &script, mark: &mark, count: CHILDREN, other: None };
    let mut all: BTreeMap<(u32, u64), String> = BTreeMap::new();
    for death in 0..10 {
        let daemon = Daemon::start(&guardian, &directory, &order);
        daemon.says("started", CHILDREN as usize).await;
        daemon.says("record", CHILDREN as usize).await;
        let lines = daemon.kill();
        let adopted = if death == 0 { 0 } else { CHILDREN };
        assert!(lines.contains(&format!("adopted {adopted}")), "{:?}", lines.first());
        for (place, text) in told(&lines) {
            let earlier = all.insert(place, text.clone());
            assert!(earlier.is_none_or(|earlier| earlier == text));
        }
    }
    std::fs::write(&stop, "").unwrap();
    let next = directory.launch().await.unwrap();
    let adopted = next.take_adopted();
    assert_eq!(adopted.len(), CHILDREN as usize);
    for one in adopted {
        let ordinal = one.child.ordinal.0;
        let taker = Taker::new(&next, ordinal);
        let facts = resume_kept(&next, one, &taker).await;
        assert_eq!(facts, ProcessFacts::of(ProcessEnd::Exited { code: 3 }));
        let of_child = all.range((ordinal, 0)..(ordinal + 1, 0));
        let before: Vec<_> = of_child
            .map(|((ordinal, seq), text)| format!("record {ordinal} {seq} {text}"))
            .collect();
        let text = joined(&before, &taker);
        let count = text.lines().count() as u32;
        assert_eq!(text, lines(count));
        next.forget(key(ordinal));
    }
    assert!(with_mark(&mark).is_empty());
    drop(next);
    eventually("the end of everything", || directory.files().is_empty()).await;
}

pub(crate) async fn a_daemon_that_leaves_hands_its_children_on(guardian: Guardian) {
    let directory = KeepDirectory::new(&guardian);
    let (mark, other) = (mark("handed-on"), mark("not-handed-on"));
    let go = directory.beside("go");
    let script = two_parts(&go);
    let first = directory.launch().await.unwrap();
    let other_child = first.spawn(marked(&other, "exec sleep 1000")).await.unwrap();
    let taker = Arc::new(Taker::new(&first, 0));
    let running = {
        let (first, taker, mark) = (first.clone(), Arc::clone(&taker), mark.clone());
        tokio::spawn(async move {
            run_kept(&first, kept(0, marked(&mark, &script)), RunPlan::default(), &taker).await
        })
    };
    eventually("a first line", || !taker.records.lock().unwrap().is_empty()).await;
    first.leave().await;
    assert!(!first.is_alive());
    first.lost().await;
    let next = directory.launch().await.unwrap();
    eventually("the end of what is not kept", || with_mark(&other).is_empty()).await;
    assert!(!running.is_finished(), "nothing is known of its end");
    running.abort();
    drop((first, other_child));
    let adopted = next.take_adopted().pop().unwrap();
    let rest = Taker::new(&next, 0);
    std::fs::write(&go, "").unwrap();
    let facts = resume_kept(&next, adopted, &rest).await;
    assert_eq!(facts, ProcessFacts::of(ProcessEnd::Exited { code: 7 }));
    let before: Vec<_> = taker
        .records
        .lock()
        .unwrap()
        .iter()
        .map(|one| format!("record 0 {} {:?}", one.seq.0, text_of(std::slice::from_ref(one))))
        .collect();
    assert_eq!(joined(&before, &rest), lines(200));
    next.end().await;
}

pub(crate) async fn kept_children_of_a_killed_guardian_are_lost_and_gone(guardian: Guardian) {
    let directory = KeepDirectory::new(&guardian);
    let mark = mark("killed-guardian");
    let host = directory.launch().await.unwrap();
    let script = "(setsid sh -c 'sleep 1000 & exec sleep 1000') & echo said; exec sleep 1000";
    let taker = Taker::new(&host, 0);
    let spec = kept(0, marked(&mark, script));
    let (facts, ()) = tokio::join!(run_kept(&host, spec, RunPlan::default(), &taker), async {
        eventually("all processes", || with_mark(&mark).len() >= 3).await;
        eventually("its output", || !taker.records.lock().unwrap().is_empty()).await;
        kill_holder(&directory);
    });
    assert_eq!(facts, ProcessFacts::of(ProcessEnd::Lost));
    assert_eq!(taker.text(), "said\n");
    eventually("the end of the tree", || with_mark(&mark).is_empty()).await;

    let next = directory.launch().await.unwrap();
    let adopted = next.take_adopted().pop().unwrap();
    assert!(adopted.lost && adopted.child == key(0));
    let taker = Taker::new(&next, 0);
    assert_eq!(resume_kept(&next, adopted, &taker).await, ProcessFacts::of(ProcessEnd::Lost));
    assert_eq!(taker.text(), "said\n");
    next.forget(key(0));
    drop((taker, next, host));
    eventually("the end of everything", || directory.files().is_empty()).await;
}

pub(crate) async fn an_end_whose_output_a_killed_guardian_read_is_lost(guardian: Guardian) {
    let directory = KeepDirectory::new(&guardian);
    let mark = mark("killed-while-reading");
    let host = directory.launch().await.unwrap();
    // Its pipes are read on after its end, for what is left of it.
    let keep = Keep { drain: LONG, ..keep(0) };
    let spec = marked(&mark, "sleep 1000 & echo said; exit 0");
    let spec = ProcessSpec { keep: Some(keep), ..spec };
    let taker = Taker::new(&host, 0);
    let (facts, ()) = tokio::join!(run_kept(&host, spec, RunPlan::default(), &taker), async {
        eventually("its output", || !taker.records.lock().unwrap().is_empty()).await;
        eventually("its end", || with_mark(&mark).len() == 1).await;
        kill_holder(&directory);
    });
    assert_eq!(facts, ProcessFacts::of(ProcessEnd::Lost));
    assert_eq!(taker.text(), "said\n");
    // Nobody says something else later.
    let next = directory.launch().await.unwrap();
    assert!(next.take_adopted().pop().unwrap().lost);
    next.end().await;
    drop(host);
}

pub(crate) async fn what_a_killed_guardian_left_is_cleared_by_the_next(guardian: Guardian) {
    let directory = KeepDirectory::new(&guardian);
    let mark = mark("left-kept");
    let script = "(setsid sh -c 'sleep 1000 & exec sleep 1000') & echo said; exec sleep 1000";
    let order = Order { script, mark: &mark, count: 3, other: None };
    let daemon = Daemon::start(&guardian, &directory, &order);
    daemon.says("record", 3).await;
    eventually("all processes", || with_mark(&mark).len() >= 9).await;
    daemon.kill();
    kill_holder(&directory);
    let next = directory.launch().await.unwrap();
    assert!(with_mark(&mark).is_empty(), "they were killed before anything else");
    let mut adopted = next.take_adopted();
    adopted.sort_by_key(|one| one.child);
    assert_eq!(adopted.iter().map(|one| one.lost).collect::<Vec<_>>(), [true; 3]);
    for (ordinal, one) in (0..).zip(adopted) {
        assert_eq!((one.child, one.first), (key(ordinal), Seq(0)));
        let taker = Taker::new(&next, ordinal);
        let facts = resume_kept(&next, one, &taker).await;
        assert_eq!((facts.end, taker.text().as_str()), (ProcessEnd::Lost, "said\n"));
    }
    next.end().await;
    assert!(directory.files().is_empty());
}

pub(crate) async fn input_that_died_with_the_daemon_is_not_taken_for_its_end(guardian: Guardian) {
    let directory = KeepDirectory::new(&guardian);
    let mark = mark("lost-input");
    let script = "echo ready; read line; echo took the end";
    let order = Order { script, mark: &mark, count: 1, other: None };
    let daemon = Daemon::start(&guardian, &directory, &order);
    daemon.says("record 0", 1).await;
    daemon.kill();
    // One that takes none of its children leaves them as they are.
    drop(directory.launch().await.unwrap());
    let next = directory.launch().await.unwrap();
    let mut adopted = next.take_adopted().pop().unwrap();
    assert_eq!(adopted.input.written(), Some(0));
    // The rest of a stream is nowhere, though its pipe can be written to.
    adopted.input.lose_rest();
    assert!(adopted.input.is_lost() && !with_mark(&mark).is_empty());
    let taker = Taker::new(&next, 0);
    let plan = RunPlan { timeout: Some(LONG), ..RunPlan::default() };
    let (_stopper, stops) = stop_channel(plan.grace);
    let facts = resume(&next, adopted, plan, (&taker, &stops)).await;
    assert_eq!((facts.end, facts.interruptions), (KILLED, Vec::new()));
    assert!(!taker.text().contains("took"), "{}", taker.text());
    next.end().await;
}
