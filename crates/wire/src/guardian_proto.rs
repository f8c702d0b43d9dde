//! What a daemon and its guardian say to each other (kinds 400 to 499).
//!
//! Both ends are the same program, joined by a Unix stream socket. Requests and reports are frames,
//! as many in one write as are ready; neither side waits for an answer before it sends the next.
//! Descriptors travel as ancillary data: [`GuardianReport::Descriptors`] is the first frame of a
//! write that carries some, and the frames behind it take them in order.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use sortie_model::facts::{MemoryEnd, ProcessEnd, Stage};
use sortie_model::reason::SpawnStep;
use sortie_model::spec::OsBytes;

use crate::frame::{Kind, Message};
use crate::link_proto::kinds;

/// The version of this protocol. Both ends are one program, so it differs only when the program's
/// file was replaced while a daemon ran; then the daemon refuses the guardian.
pub const GUARDIAN_VERSION: u16 = 1;

/// A daemon's number for a child, unique within the life of a guardian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChildNumber(pub u64);

/// Byte strings without NUL, each ended by one: what an argument vector points into.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Bytes", into = "Bytes")]
pub struct NulList(Bytes);

/// A list whose last item is not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a list of words does not end in a NUL byte")]
pub struct Unended;

impl NulList {
    /// A list of words.
    pub fn of_words<'a>(words: impl IntoIterator<Item = &'a OsBytes>) -> Self {
        let mut bytes = BytesMut::new();
        for word in words {
            bytes.put_slice(word.as_bytes());
            bytes.put_u8(0);
        }
        Self(bytes.freeze())
    }

    /// A list of variables, each as `NAME=VALUE`.
    pub fn of_variables<'a>(
        variables: impl IntoIterator<Item = (&'a OsBytes, &'a OsBytes)>,
    ) -> Self {
        let mut bytes = BytesMut::new();
        for (name, value) in variables {
            bytes.put_slice(name.as_bytes());
            bytes.put_u8(b'=');
            bytes.put_slice(value.as_bytes());
            bytes.put_u8(0);
        }
        Self(bytes.freeze())
    }

    /// This list with one item more.
    #[must_use]
    pub fn with(&self, item: &OsBytes) -> Self {
        let mut bytes = BytesMut::with_capacity(self.0.len() + item.as_bytes().len() + 1);
        bytes.put_slice(&self.0);
        bytes.put_slice(item.as_bytes());
        bytes.put_u8(0);
        Self(bytes.freeze())
    }

    /// The items, one after the other, each with its NUL. Empty, or ends in NUL.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The items without their NUL, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0
            .split_inclusive(|byte| *byte == 0)
            .map(|item| item.strip_suffix(&[0]).unwrap_or(item))
    }

    /// Whether the list has no items.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryFrom<Bytes> for NulList {
    type Error = Unended;

    fn try_from(bytes: Bytes) -> Result<Self, Unended> {
        match bytes.last() {
            None | Some(0) => Ok(Self(bytes)),
            Some(_) => Err(Unended),
        }
    }
}

impl From<NulList> for Bytes {
    fn from(list: NulList) -> Self {
        list.0
    }
}

/// What a process child executes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Program {
    /// A program, looked up in the child's own `PATH`, and its arguments; without a shell.
    Command(NulList),
    /// A script: run by the interpreter of its `#!` line, else by `sh`.
    Script {
        /// Its text.
        text: Bytes,
        /// Its arguments.
        arguments: NulList,
    },
}

/// Where a child's standard input comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StandardInput {
    /// At its end from the start.
    Null,
    /// A pipe, whose writing end the guardian passes to the daemon.
    Pipe,
    /// One end of a socket, whose other end the guardian passes to the daemon: the channel of a
    /// worker process.
    Channel,
}

/// A child to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpawnRequest {
    /// Its number.
    pub child: ChildNumber,
    /// What it executes.
    pub program: Program,
    /// Its whole environment.
    pub environment: NulList,
    /// Its working directory; `/` if none.
    pub directory: Option<OsBytes>,
    /// Its standard input.
    pub input: StandardInput,
    /// A command for `sh -c` that runs first, with the same output and no input.
    pub init: Option<OsBytes>,
}

/// How a guardian keeps hold of the processes below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainmentChoice {
    /// A control group where one can be made, else parentage.
    Best,
    /// Parentage, also where a control group could be made.
    Parentage,
}

/// How a guardian keeps hold of the processes below it, as it turned out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Containment {
    /// A control group (version 2) per child: nothing escapes.
    ControlGroup {
        /// The directory of the guardian's own group, in which its children's lie.
        directory: OsBytes,
    },
    /// Process group, parentage below a subreaper, and a mark in the environment: a process that
    /// left its session and cleared its environment is killed with the guardian, not with its
    /// child.
    Parentage,
}

impl std::fmt::Display for Containment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ControlGroup { .. } => "a control group per child: nothing escapes",
            Self::Parentage => {
                "process group and parentage: what leaves its session and clears its environment \
                 may outlive its child until the node ends"
            }
        })
    }
}

/// Daemon to guardian.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum GuardianRequest {
    /// The first request. Answer: [`GuardianReport::Hello`].
    Start {
        /// The daemon's [`GUARDIAN_VERSION`].
        version: u16,
        /// How to contain children.
        containment: ContainmentChoice,
        /// How many descriptors a child may open, unless it asks for more; none leaves the limit
        /// as it is.
        descriptors: Option<u64>,
    },
    /// Start a child. Answer: [`GuardianReport::Spawned`] or [`GuardianReport::SpawnFailed`].
    Spawn(Box<SpawnRequest>),
    /// Send a signal to every process of a child's tree. No answer; unknown children are ignored.
    Signal {
        /// The child.
        child: ChildNumber,
        /// The signal's number.
        number: i32,
    },
    /// Kill a child's whole tree, over and over until it is empty. A child that still waits for
    /// its start gets [`GuardianReport::SpawnFailed`] instead.
    Kill {
        /// The child.
        child: ChildNumber,
    },
    /// The child's output was read for as long as it may last: kill what is left of its tree.
    /// Answer: [`GuardianReport::Gone`], unless the child was reported as ended and alone.
    Finish {
        /// The child.
        child: ChildNumber,
    },
    /// Do not start a child that still waits for its start: it gets
    /// [`GuardianReport::SpawnFailed`]. Nothing happens to one that runs.
    Withdraw {
        /// The child.
        child: ChildNumber,
    },
}

/// Whether a signal was sent before an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Disturbance {
    /// Nothing was sent.
    None,
    /// A signal or a kill was sent while the program ran.
    Signalled,
}

/// What is left of a child's tree when its main process has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Remainder {
    /// Nothing. The guardian forgets the child with this report.
    Alone,
    /// Something. [`GuardianReport::Gone`] follows a [`GuardianRequest::Finish`] or a kill.
    Others,
}

/// Guardian to daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum GuardianReport {
    /// The answer to [`GuardianRequest::Start`].
    Hello {
        /// The guardian's [`GUARDIAN_VERSION`].
        version: u16,
        /// Its process id.
        pid: u32,
        /// How it contains children.
        containment: Containment,
    },
    /// The first frame of a write that carries descriptors.
    Descriptors {
        /// How many.
        count: u32,
    },
    /// A child runs. Takes the reading ends of its stdout and stderr, then the other end of its
    /// stdin if that has one.
    Spawned {
        /// The child.
        child: ChildNumber,
        /// Its process id; that of its init command if it has one.
        pid: u32,
        /// What its standard input is, and so whether it has another end.
        input: StandardInput,
    },
    /// A child could not be started. The guardian forgets it.
    SpawnFailed {
        /// The child.
        child: ChildNumber,
        /// What was tried.
        step: SpawnStep,
        /// The operating system's error number.
        errno: i32,
    },
    /// A child's last program ended.
    Exited {
        /// The child.
        child: ChildNumber,
        /// How.
        end: ProcessEnd,
        /// Which program.
        stage: Stage,
        /// Whether it was killed for want of memory.
        memory: MemoryEnd,
        /// Whether a signal was sent before.
        disturbance: Disturbance,
        /// What is left of its tree.
        remainder: Remainder,
    },
    /// Nothing is left of a child's tree. The guardian forgets it.
    Gone {
        /// The child.
        child: ChildNumber,
        /// How many processes were left when it was told to finish.
        left_behind: u32,
    },
}

kinds! { GuardianRequest = 400, GuardianReport = 401 }

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{decode, encode};

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

    #[test]
    fn requests_keep_their_bytes() {
        let spawn = GuardianRequest::Spawn(Box::new(SpawnRequest {
            child: ChildNumber(7),
            program: Program::Command(NulList::of_words([&word("true")])),
            environment: NulList::of_variables([(&word("A"), &word("1"))]),
            directory: Some(word("/tmp")),
            input: StandardInput::Pipe,
            init: None,
        }));
        assert_eq!(
            encode(&spawn).expect("small"),
            b"\x01\x07\x00\x05true\0\x04A=1\0\x01\x04/tmp\x01\x00"
        );
        let cases: [(GuardianRequest, &[u8]); 5] = [
            (
                GuardianRequest::Start {
                    version: 1,
                    containment: ContainmentChoice::Parentage,
                    descriptors: Some(100),
                },
                b"\x00\x01\x01\x01\x64",
            ),
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
        let cases: [(GuardianReport, &[u8]); 6] = [
            (
                GuardianReport::Hello {
                    version: 1,
                    pid: 9,
                    containment: Containment::ControlGroup { directory },
                },
                b"\x00\x01\x09\x00\x02/g",
            ),
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
        ];
        for (report, golden) in cases {
            assert_eq!(encode(&report).expect("small"), golden, "{report:?}");
            assert_eq!(decode::<GuardianReport>(401, golden), Ok(report));
        }
    }
}
