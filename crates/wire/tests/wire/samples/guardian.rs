use bytes::Bytes;
use sortie_model::facts::{MemoryEnd, ProcessEnd, Stage};
use sortie_model::reason::SpawnStep;
use sortie_wire::guardian_proto::{
    ChildNumber, Containment, ContainmentChoice, Disturbance, GuardianReport, GuardianRequest,
    NulList, Program, Remainder, SpawnRequest, StandardInput,
};

use super::words::os;
use super::{Sample, plain};

const CHILD: ChildNumber = ChildNumber(300);

fn requests() -> Vec<(&'static str, GuardianRequest)> {
    let spawn = |program, input| {
        GuardianRequest::Spawn(Box::new(SpawnRequest {
            child: CHILD,
            program,
            environment: NulList::of_variables([(&os(b"A"), &os(b"1"))]),
            directory: Some(os(b"/tmp")),
            input,
            init: Some(os(b"true")),
        }))
    };
    let words = NulList::of_words([&os(b"echo"), &os(b"\xff")]);
    let script = Program::Script { text: Bytes::from_static(b"#!/bin/sh\n"), arguments: words };
    let command = Program::Command(NulList::of_words([&os(b"true")]));
    let start =
        |containment, descriptors| GuardianRequest::Start { version: 1, containment, descriptors };
    vec![
        ("start", start(ContainmentChoice::Best, Some(70_000))),
        ("start by parentage", start(ContainmentChoice::Parentage, None)),
        ("spawn a command", spawn(command.clone(), StandardInput::Null)),
        ("spawn a script", spawn(script, StandardInput::Pipe)),
        ("spawn a worker", spawn(command, StandardInput::Channel)),
        ("signal", GuardianRequest::Signal { child: CHILD, number: 15 }),
        ("kill", GuardianRequest::Kill { child: CHILD }),
        ("finish", GuardianRequest::Finish { child: CHILD }),
        ("withdraw", GuardianRequest::Withdraw { child: CHILD }),
    ]
}

fn reports() -> Vec<(&'static str, GuardianReport)> {
    let hello = |containment| GuardianReport::Hello { version: 1, pid: 70_000, containment };
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
    ]
}

pub(super) fn samples() -> Vec<Sample> {
    let requests = requests().into_iter().map(|(label, message)| plain(label, message));
    let reports = reports().into_iter().map(|(label, message)| plain(label, message));
    requests.chain(reports).collect()
}

pub(super) fn variants(name: &str) -> Vec<&'static str> {
    if name == "GuardianReport" {
        return reports().iter().map(|(_, report)| report_name(report)).collect();
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
    }
}
