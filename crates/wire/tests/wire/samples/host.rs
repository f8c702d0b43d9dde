use bytes::Bytes;
use sortie_model::reason::SpawnStep;
use sortie_model::spec::{
    BodySpec, EnvironmentSpec, Hosting, InputSpec, RunIn, StopSpec, TaskTypes,
};
use sortie_model::{
    ChildIncarnation, Motion, Ordinal, QuestionNumber, Reason, Seq, Stream, Timestamp,
};
use sortie_wire::host_proto::{
    Acknowledge, AnswerChild, CheckpointHead, Checkpoints, ChildAgain, ChildAsk, ChildBatch,
    ChildEnd, ChildFrom, ChildItem, ChildMotion, ChildOutcome, ChildPosition, ChildSet, ChildStart,
    EndSession, ForgetJob, HostSpec, InputPiece, InputPosition, InputProgress, InputRead,
    InputRest, InputStream, OpenQuestion, RecordHead, RecordRun, Report, ReportStream, Resume,
    Resumed, StartChildren, StopChildren, SuspendChildren, Verdict,
};

use super::words::{TIME, job, node_name, os, seconds, session, text, window};
use super::{Sample, head, plain};

fn spec() -> HostSpec {
    HostSpec {
        body: BodySpec::Command { words: vec![os(b"wc"), os(b"{}")] },
        template: true,
        input: InputSpec::Stream,
        timeout: Some(seconds(60)),
        grace: seconds(10),
        drain: seconds(2),
        output_limit: Some(1 << 40),
        init: Some(text("true")),
        directory: Some(os(b"/srv")),
        environment: environment(),
        hosting: Hosting::Temporary,
        session: 3,
        job: 41,
        owner_node: node_name("a"),
        level: 2,
    }
}

pub(super) fn environment() -> EnvironmentSpec {
    EnvironmentSpec {
        inherited: Some(vec![(os(b"PATH"), os(b"/bin"))]),
        inherited_directory: Some(os(b"/home/ada")),
        set: vec![(os(b"A"), os(b"\xff")), (os(b"B"), os(b""))],
    }
}

fn starts() -> Vec<Sample> {
    let range = |spec, first, step| StartChildren {
        session: session(),
        job: job(),
        spec,
        children: ChildBatch::Range { first: Ordinal(first), step, count: 50_000, id_base: 42 },
    };
    let item = ChildItem {
        ordinal: Ordinal(7),
        id: 1_000_000_007,
        number: 8,
        item: Bytes::from_static(b"a b\xff"),
    };
    let again = ChildAgain {
        ordinal: Ordinal(7),
        id: 1_000_000_007,
        incarnation: ChildIncarnation(2),
        next: Seq(300),
        item: Some((8, item.item.clone())),
    };
    let items = StartChildren { children: ChildBatch::Items(vec![item]), ..range(None, 0, 1) };
    let value = Bytes::from_static(b"\x93\x02");
    let from = ChildFrom { again: again.clone(), from: Some((ChildIncarnation(1), value)) };
    let first = ChildFrom { again: again.clone(), from: None };
    let from = StartChildren { children: ChildBatch::From(vec![from, first]), ..range(None, 0, 1) };
    let again = StartChildren { children: ChildBatch::Again(vec![again]), ..range(None, 0, 1) };
    let script =
        BodySpec::Script { text: Bytes::from_static(b"echo hi\n"), arguments: vec![os(b"one")] };
    let input = Bytes::from_static(b"\x93\x01");
    let types = Some(TaskTypes(0x0123_4567_89ab_cdef));
    let task = BodySpec::Task { name: text("sum"), input, types, run_in: RunIn::Background };
    let with = |body, hosting| {
        let spec = HostSpec { body, hosting, timeout: None, ..spec() };
        range(Some(Box::new(spec)), 1, 3)
    };
    let terminal = HostSpec { input: InputSpec::Terminal(window()), ..spec() };
    vec![
        plain("a command on a terminal", range(Some(Box::new(terminal)), 0, 1)),
        plain("a command", range(Some(Box::new(spec())), 0, 1)),
        plain("a script", with(script, Hosting::Persistent)),
        plain("a task", with(task, Hosting::Temporary)),
        plain("a range", range(None, 70_000, 2)),
        plain("items", items),
        plain("again", again),
        plain("from a checkpoint", from),
    ]
}

pub(super) fn stop() -> StopChildren {
    let children = ChildSet::Some(vec![Ordinal(0), Ordinal(300)]);
    let how = StopSpec { signal: 2, grace: Some(seconds(3)) };
    StopChildren { session: session(), job: job(), children, how }
}

fn stops() -> Vec<Sample> {
    let all = StopChildren { children: ChildSet::All, how: StopSpec::default(), ..stop() };
    vec![
        plain("all", all),
        plain("some", stop()),
        plain("a job", ForgetJob { session: session(), job: job() }),
        plain("a session", EndSession { session: session() }),
    ]
}

fn positions() -> Vec<Sample> {
    let position =
        ChildPosition { job: job(), ordinal: Ordinal(2), next: Seq(70_000), credit: 1 << 20 };
    let child = Some((job(), Ordinal(2)));
    vec![
        plain(
            "one child",
            Acknowledge { session: session(), reports: 9, children: vec![position] },
        ),
        plain(
            "one job",
            Resume { session: session(), reports: 9, children: vec![position], jobs: vec![job()] },
        ),
        plain(
            "one job lost",
            Resumed {
                session: session(),
                unknown: vec![job()],
                expired: true,
                inputs: Vec::new(),
                remembers: false,
            },
        ),
        plain(
            "one child reads",
            Resumed {
                session: session(),
                unknown: Vec::new(),
                expired: false,
                inputs: vec![input_position(InputProgress::UpTo(70_000))],
                remembers: true,
            },
        ),
        plain("shared", ReportStream { session: session(), child: None }),
        plain("of a child", ReportStream { session: session(), child }),
    ]
}

pub(super) fn run() -> RecordRun {
    let record = |stream, value, length| RecordHead { stream, value, time: TIME, length };
    RecordRun {
        ordinal: Ordinal(2),
        first: Seq(300),
        records: vec![record(Stream::Output, false, 3), record(Stream::Progress, true, 2)],
    }
}

pub(super) fn report() -> Report {
    let end = |ordinal, begin_time, outcome| ChildEnd {
        ordinal: Ordinal(ordinal),
        incarnation: ChildIncarnation(0),
        end: Seq(302),
        begin_time,
        end_time: Timestamp(TIME.0 + 1),
        outcome,
    };
    let stopped = ChildOutcome {
        verdict: Verdict::Stopped,
        exit_code: Some(143),
        signal: Some(15),
        left_behind: 2,
        cut_bytes: 70_000,
    };
    let reason = Reason::Spawn { step: SpawnStep::Exec, errno: 2 };
    Report {
        number: 12,
        job: job(),
        started: vec![ChildStart {
            ordinal: Ordinal(2),
            incarnation: ChildIncarnation(3),
            time: TIME,
        }],
        records: vec![run()],
        ended: vec![
            end(2, Some(TIME), ChildOutcome::of(Verdict::Completed)),
            end(3, None, ChildOutcome::of(Verdict::Failed(reason))),
            end(4, Some(TIME), stopped),
        ],
        asked: vec![
            ask(5, Some(OpenQuestion { prompt: text("sure?"), time: TIME })),
            ask(300, None),
        ],
        moved: vec![moved(6, Motion::Suspended), moved(300, Motion::Running)],
    }
}

fn moved(ordinal: u32, motion: Motion) -> ChildMotion {
    let incarnation = ChildIncarnation(3);
    ChildMotion { ordinal: Ordinal(ordinal), incarnation, number: 300, motion }
}

fn suspensions() -> Vec<Sample> {
    let order = |children, motion| SuspendChildren {
        session: session(),
        job: job(),
        children,
        number: 300,
        motion,
    };
    let some = ChildSet::Some(vec![Ordinal(0), Ordinal(300)]);
    vec![
        plain("suspend all", order(ChildSet::All, Motion::Suspended)),
        plain("resume some", order(some, Motion::Running)),
    ]
}

fn ask(ordinal: u32, open: Option<OpenQuestion>) -> ChildAsk {
    ChildAsk {
        ordinal: Ordinal(ordinal),
        incarnation: ChildIncarnation(3),
        number: QuestionNumber(300),
        open,
        taken: QuestionNumber(299),
    }
}

fn answer() -> Sample {
    let answer = AnswerChild {
        session: session(),
        job: job(),
        ordinal: Ordinal(5),
        incarnation: ChildIncarnation(3),
        number: QuestionNumber(300),
        answer: Bytes::from_static(b"\xa3yes"),
    };
    plain("yes", answer)
}

fn input_position(read: InputProgress) -> InputPosition {
    InputPosition { job: job(), ordinal: Ordinal(2), read }
}

fn inputs() -> Vec<Sample> {
    let stream = InputStream { session: session(), job: job(), ordinal: Ordinal(2) };
    let piece = |offset, rest| InputPiece { offset, rest };
    let read =
        vec![input_position(InputProgress::UpTo(70_005)), input_position(InputProgress::Closed)];
    vec![
        plain("of a child", stream),
        head("a piece", piece(70_000, InputRest::More), b"bytes"),
        head("the end", piece(70_005, InputRest::Nothing), b""),
        head("broken off", piece(70_005, InputRest::Lost), b""),
        plain("of two children", InputRead { session: session(), children: read }),
    ]
}

fn checkpoints() -> Sample {
    let reached = |ordinal, length| CheckpointHead {
        ordinal: Ordinal(ordinal),
        incarnation: ChildIncarnation(3),
        next: Seq(70_000),
        length,
    };
    let reached = vec![reached(5, 2), reached(300, 0)];
    head("two checkpoints", Checkpoints { number: 13, job: job(), reached }, b"\x93\x01")
}

pub(super) fn samples() -> Vec<Sample> {
    let report = vec![head("start, records, ends", report(), b"abc\x93\x01")];
    [starts(), stops(), positions(), report, inputs(), vec![answer(), checkpoints()], suspensions()]
        .into_iter()
        .flatten()
        .collect()
}
