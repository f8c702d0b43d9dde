use std::time::Duration;

use bytes::Bytes;
use sortie_model::Motion;
use sortie_model::facts::{Interruption, MemoryEnd, ProcessEnd, Stage};
use sortie_model::reason::SpawnStep;
use sortie_model::{ChildIncarnation, ChildKey, JobInstance, Ordinal, Seq, Timestamp};
use sortie_wire::guardian_proto::{
    ChildNumber, Containment, ContainmentChoice, Deadline, DeadlineAct, Disturbance,
    GuardianReport, GuardianRequest, Keep, KeptChild, KeptFate, KeptInput, Lack, NulList, Program,
    Refusal, Remainder, SpawnRequest, StandardInput,
};

use super::words::{os, window};
use super::{Sample, plain};

const CHILD: ChildNumber = ChildNumber(300);

const JOB: JobInstance = JobInstance(uuid::Uuid::from_bytes([7; 16]));

fn keep() -> Keep {
    Keep {
        child: ChildKey { job: JOB, ordinal: Ordinal(3) },
        incarnation: ChildIncarnation(2),
        first: Seq(300),
        drain: Duration::from_millis(2_500),
        note: Bytes::from_static(b"note"),
    }
}

fn requests() -> Vec<(&'static str, GuardianRequest)> {
    let spawn = |program, input, keep| {
        GuardianRequest::Spawn(Box::new(SpawnRequest {
            child: CHILD,
            program,
            environment: NulList::of_variables([(&os(b"A"), &os(b"1"))]),
            directory: Some(os(b"/tmp")),
            input,
            init: Some(os(b"true")),
            keep,
        }))
    };
    let words = NulList::of_words([&os(b"echo"), &os(b"\xff")]);
    let script = Program::Script { text: Bytes::from_static(b"#!/bin/sh\n"), arguments: words };
    let command = Program::Command(NulList::of_words([&os(b"true")]));
    let start = |containment, descriptors, keep| GuardianRequest::Start {
        min: 2,
        max: 2,
        containment,
        descriptors,
        keep,
    };
    let kept = ChildKey { job: JOB, ordinal: Ordinal(3) };
    vec![
        ("start", start(ContainmentChoice::Best, Some(70_000), Some(os(b"/keep")))),
        ("start by parentage", start(ContainmentChoice::Parentage, None, None)),
        ("spawn a command", spawn(command.clone(), StandardInput::Null, None)),
        ("spawn a script", spawn(script, StandardInput::Pipe, Some(keep()))),
        ("spawn a worker", spawn(command.clone(), StandardInput::Channel, None)),
        ("spawn on a terminal", spawn(command, StandardInput::Terminal(window()), None)),
        ("signal", GuardianRequest::Signal { child: CHILD, number: 15 }),
        ("kill", GuardianRequest::Kill { child: CHILD }),
        ("finish", GuardianRequest::Finish { child: CHILD }),
        ("withdraw", GuardianRequest::Withdraw { child: CHILD }),
        ("stored", GuardianRequest::Stored { child: kept, next: Seq(70_000) }),
        ("forget", GuardianRequest::Forget { child: kept }),
        ("close input", GuardianRequest::CloseInput { child: CHILD }),
        ("end", GuardianRequest::End),
        ("suspend", GuardianRequest::Move { child: CHILD, motion: Motion::Suspended }),
        ("resume", GuardianRequest::Move { child: CHILD, motion: Motion::Running }),
        ("no deadline", GuardianRequest::Deadline { child: CHILD, deadline: None }),
        (
            "interrupt",
            GuardianRequest::Interrupt { child: CHILD, number: 15, why: Interruption::Stop },
        ),
        ("kill by then", deadline(DeadlineAct::Kill)),
        ("ask by then", deadline(DeadlineAct::Ask { signal: 15, grace: Duration::from_secs(10) })),
    ]
}

fn deadline(act: DeadlineAct) -> GuardianRequest {
    let deadline = Deadline { left: Duration::from_millis(1_500), act };
    GuardianRequest::Deadline { child: CHILD, deadline: Some(deadline) }
}

fn reports() -> Vec<(&'static str, GuardianReport)> {
    let hello = |containment| GuardianReport::Hello {
        min: 2,
        max: 2,
        pid: 70_000,
        containment,
        next: CHILD,
    };
    let exited = |end, memory, remainder| GuardianReport::Exited {
        child: CHILD,
        end,
        stage: Stage::Main,
        memory,
        disturbance: Disturbance::Signalled,
        remainder,
    };
    let signalled = ProcessEnd::Signalled { number: 9, core_dumped: true };
    let not_started = ProcessEnd::NotStarted { step: SpawnStep::Chdir, errno: 2 };
    let (step, errno) = (SpawnStep::Exec, 13);
    vec![
        ("hello, control group", hello(Containment::ControlGroup { directory: os(b"/g") })),
        ("hello, parentage", hello(Containment::Parentage)),
        ("descriptors", GuardianReport::Descriptors { count: 3 }),
        (
            "spawned",
            GuardianReport::Spawned { child: CHILD, pid: 70_001, input: StandardInput::Pipe },
        ),
        (
            "spawned on a terminal",
            GuardianReport::Spawned {
                child: CHILD,
                pid: 70_001,
                input: StandardInput::Terminal(window()),
            },
        ),
        ("spawn failed", GuardianReport::SpawnFailed { child: CHILD, step, errno }),
        ("exited", exited(ProcessEnd::Exited { code: 3 }, MemoryEnd::No, Remainder::Alone)),
        ("died", exited(signalled, MemoryEnd::OutOfMemory, Remainder::Others)),
        (
            "exited in init",
            GuardianReport::Exited {
                child: CHILD,
                end: not_started,
                stage: Stage::Init,
                memory: MemoryEnd::No,
                disturbance: Disturbance::None,
                remainder: Remainder::Alone,
            },
        ),
        ("lost", exited(ProcessEnd::Lost, MemoryEnd::No, Remainder::Alone)),
        ("gone", GuardianReport::Gone { child: CHILD, left_behind: 2 }),
        ("suspended", GuardianReport::Moved { child: CHILD, motion: Motion::Suspended }),
        ("resumed", GuardianReport::Moved { child: CHILD, motion: Motion::Running }),
        (
            "interrupted",
            GuardianReport::Interrupted { child: CHILD, why: Interruption::OutputLimit },
        ),
        ("disk full", GuardianReport::HoldsBack { why: Some(Lack::Room) }),
        ("disk fails", GuardianReport::HoldsBack { why: Some(Lack::Other) }),
        ("reads again", GuardianReport::HoldsBack { why: None }),
    ]
}

/// What is reported of children that outlive their daemon, and to a daemon that is turned away.
fn kept_reports() -> Vec<(&'static str, GuardianReport)> {
    let kept = |input, fate| {
        GuardianReport::Kept(Box::new(KeptChild {
            number: CHILD,
            keep: keep(),
            oldest: Seq(301),
            pid: 70_001,
            running: Duration::from_secs(300),
            input,
            fate,
            ended: (input == KeptInput::Whole).then_some(Timestamp(1_700_000_000_000_000)),
            kill_in: (fate == KeptFate::Known).then_some(Duration::from_secs(3)),
            motion: if fate == KeptFate::Known { Motion::Suspended } else { Motion::Running },
        }))
    };
    vec![
        (
            "spawned and kept",
            GuardianReport::SpawnedKept { child: CHILD, pid: 70_001, input: StandardInput::Null },
        ),
        ("written", GuardianReport::Written { child: CHILD, next: Seq(70_000) }),
        ("kept", kept(KeptInput::Lost, KeptFate::Known)),
        ("kept and handed", kept(KeptInput::Handed, KeptFate::Known)),
        ("kept and handed at", kept(KeptInput::HandedAt(70_000), KeptFate::Known)),
        ("kept and lost", kept(KeptInput::Whole, KeptFate::Lost)),
        ("busy", GuardianReport::Refused { why: Refusal::Busy { daemon: 70_000 } }),
        ("locked", GuardianReport::Refused { why: Refusal::Locked }),
        ("no directory", GuardianReport::Refused { why: Refusal::Directory { errno: 13 } }),
    ]
}

pub(super) fn samples() -> Vec<Sample> {
    let requests = requests().into_iter().map(|(label, message)| plain(label, message));
    let reports = reports().into_iter().chain(kept_reports());
    requests.chain(reports.map(|(label, message)| plain(label, message))).collect()
}

pub(super) fn variants(name: &str) -> Vec<&'static str> {
    if name == "GuardianReport" {
        let reports = reports().into_iter().chain(kept_reports());
        return reports.map(|(_, report)| report_name(&report)).collect();
    }
    requests().iter().map(|(_, request)| request_name(request)).collect()
}

fn request_name(request: &GuardianRequest) -> &'static str {
    match request {
        GuardianRequest::Start { .. } => "Start",
        GuardianRequest::Spawn(_) => "Spawn",
        GuardianRequest::Signal { .. } => "Signal",
        GuardianRequest::Kill { .. } => "Kill",
        GuardianRequest::Finish { .. } => "Finish",
        GuardianRequest::Withdraw { .. } => "Withdraw",
        GuardianRequest::Stored { .. } => "Stored",
        GuardianRequest::Forget { .. } => "Forget",
        GuardianRequest::CloseInput { .. } => "CloseInput",
        GuardianRequest::End => "End",
        GuardianRequest::Move { .. } => "Move",
        GuardianRequest::Deadline { .. } => "Deadline",
        GuardianRequest::Interrupt { .. } => "Interrupt",
    }
}

fn report_name(report: &GuardianReport) -> &'static str {
    match report {
        GuardianReport::Hello { .. } => "Hello",
        GuardianReport::Descriptors { .. } => "Descriptors",
        GuardianReport::Spawned { .. } => "Spawned",
        GuardianReport::SpawnFailed { .. } => "SpawnFailed",
        GuardianReport::Exited { .. } => "Exited",
        GuardianReport::Gone { .. } => "Gone",
        GuardianReport::SpawnedKept { .. } => "SpawnedKept",
        GuardianReport::Written { .. } => "Written",
        GuardianReport::Kept(_) => "Kept",
        GuardianReport::Refused { .. } => "Refused",
        GuardianReport::Moved { .. } => "Moved",
        GuardianReport::Interrupted { .. } => "Interrupted",
        GuardianReport::HoldsBack { .. } => "HoldsBack",
    }
}
