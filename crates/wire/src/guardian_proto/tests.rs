use super::*;
use crate::codec::{decode, encode};
use sortie_model::{ChildIncarnation, JobInstance, Ordinal};
use std::time::Duration;

fn word(text: &str) -> OsBytes {
    OsBytes::try_from(text).expect("no NUL")
}

#[test]
fn a_list_holds_its_words_each_with_a_nul() {
    let list = NulList::of_words([&word("echo"), &word(""), &word("a b")]);
    assert_eq!(list.as_bytes(), b"echo\0\0a b\0");
    assert_eq!(list.iter().collect::<Vec<_>>(), [b"echo".as_slice(), b"", b"a b"]);
    let more = list.with(&word("end"));
    assert_eq!(more.iter().last(), Some(b"end".as_slice()));
    assert_eq!(NulList::default().iter().count(), 0);
}

#[test]
fn a_list_that_does_not_end_in_a_nul_is_refused() {
    assert_eq!(NulList::try_from(Bytes::from_static(b"a\0b")), Err(Unended));
    let mut bytes = encode(&NulList::of_words([&word("ab")])).expect("small");
    *bytes.last_mut().expect("not empty") = b'x';
    assert!(decode::<NulList>(400, &bytes).is_err());
}

fn keep() -> Keep {
    Keep {
        child: ChildKey { job: JobInstance(uuid::Uuid::from_bytes([7; 16])), ordinal: Ordinal(3) },
        incarnation: ChildIncarnation(2),
        first: Seq(4),
        drain: Duration::from_secs(2),
        note: Bytes::from_static(b"note"),
    }
}

fn keep_bytes() -> Vec<u8> {
    [b"\x10".as_slice(), &[7; 16], b"\x03\x02\x04\x02\x00\x04note"].concat()
}

#[test]
fn requests_keep_their_bytes() {
    let spawn = GuardianRequest::Spawn(Box::new(SpawnRequest {
        child: ChildNumber(7),
        program: Program::Command(NulList::of_words([&word("true")])),
        environment: NulList::of_variables([(&word("A"), &word("1"))]),
        directory: Some(word("/tmp")),
        input: StandardInput::Pipe,
        init: None,
        keep: Some(keep()),
    }));
    assert_eq!(
        encode(&spawn).expect("small"),
        [b"\x01\x07\x00\x05true\0\x04A=1\0\x01\x04/tmp\x01\x00\x01".as_slice(), &keep_bytes()]
            .concat()
    );
    let key = keep().child;
    let stored = GuardianRequest::Stored { child: key, next: Seq(5) };
    assert_eq!(
        encode(&stored).expect("small"),
        [b"\x06\x10".as_slice(), &[7; 16], b"\x03\x05"].concat()
    );
    let forget = GuardianRequest::Forget { child: key };
    assert_eq!(
        encode(&forget).expect("small"),
        [b"\x07\x10".as_slice(), &[7; 16], b"\x03"].concat()
    );
    let cases: [(GuardianRequest, &[u8]); 7] = [
        (
            GuardianRequest::Start {
                min: 2,
                max: 3,
                containment: ContainmentChoice::Parentage,
                descriptors: Some(100),
                keep: Some(word("/k")),
            },
            b"\x00\x02\x03\x01\x01\x64\x01\x02/k",
        ),
        (GuardianRequest::CloseInput { child: ChildNumber(1) }, b"\x08\x01"),
        (GuardianRequest::End, b"\x09"),
        (GuardianRequest::Signal { child: ChildNumber(1), number: 15 }, b"\x02\x01\x1e"),
        (GuardianRequest::Kill { child: ChildNumber(1) }, b"\x03\x01"),
        (GuardianRequest::Finish { child: ChildNumber(1) }, b"\x04\x01"),
        (GuardianRequest::Withdraw { child: ChildNumber(1) }, b"\x05\x01"),
    ];
    for (request, golden) in cases {
        assert_eq!(encode(&request).expect("small"), golden, "{request:?}");
        assert_eq!(decode::<GuardianRequest>(400, golden), Ok(request));
    }
}

#[test]
fn reports_keep_their_bytes() {
    let child = ChildNumber(1);
    let directory = word("/g");
    let kept = GuardianReport::Kept(Box::new(KeptChild {
        number: child,
        keep: keep(),
        oldest: Seq(6),
        pid: 9,
        running: Duration::from_secs(8),
        input: KeptInput::Lost,
        fate: KeptFate::Lost,
        ended: None,
        kill_in: None,
        motion: Motion::Running,
    }));
    assert_eq!(
        encode(&kept).expect("small"),
        [b"\x08\x01".as_slice(), &keep_bytes(), b"\x06\x09\x08\x00\x01\x01\x00\x00\x00"].concat()
    );
    let cases: [(GuardianReport, &[u8]); 12] = [
        (
            GuardianReport::Hello {
                min: 2,
                max: 3,
                pid: 9,
                containment: Containment::ControlGroup { directory },
                next: ChildNumber(4),
            },
            b"\x00\x02\x03\x09\x00\x02/g\x04",
        ),
        (
            GuardianReport::SpawnedKept { child, pid: 9, input: StandardInput::Pipe },
            b"\x06\x01\x09\x01",
        ),
        (GuardianReport::Written { child, next: Seq(5) }, b"\x07\x01\x05"),
        (GuardianReport::Refused { why: Refusal::Busy { daemon: 9 } }, b"\x09\x00\x09"),
        (GuardianReport::Refused { why: Refusal::Directory { errno: 2 } }, b"\x09\x02\x04"),
        (GuardianReport::Descriptors { count: 2 }, b"\x01\x02"),
        (
            GuardianReport::Spawned { child, pid: 9, input: StandardInput::Null },
            b"\x02\x01\x09\x00",
        ),
        (
            GuardianReport::SpawnFailed { child, step: SpawnStep::Exec, errno: 2 },
            b"\x03\x01\x01\x04",
        ),
        (
            GuardianReport::Exited {
                child,
                end: ProcessEnd::Exited { code: 3 },
                stage: Stage::Main,
                memory: MemoryEnd::No,
                disturbance: Disturbance::Signalled,
                remainder: Remainder::Others,
            },
            b"\x04\x01\x00\x06\x01\x00\x01\x01",
        ),
        (GuardianReport::Gone { child, left_behind: 2 }, b"\x05\x01\x02"),
        (GuardianReport::HoldsBack { why: Some(Lack::Other) }, b"\x0c\x01\x01".as_slice()),
        (GuardianReport::HoldsBack { why: None }, b"\x0c\x00"),
    ];
    for (report, golden) in cases {
        assert_eq!(encode(&report).expect("small"), golden, "{report:?}");
        assert_eq!(decode::<GuardianReport>(401, golden), Ok(report));
    }
}
