//! Children on a pseudo terminal.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use sortie_exec::{Guardian, ProcessIo, ProcessSpec, RunPlan, Stopper, run, stop_channel};
use sortie_model::Stream;
use sortie_model::facts::{Interruption, ProcessEnd, ProcessFacts};
use sortie_model::spec::{StopSpec, WindowSize};
use sortie_wire::guardian_proto::StandardInput;
use sortie_wire::terminal_items::{pack_keys, pack_size};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::support::{EXIT_0, command, environment, eventually, mark, marked, shell, with_mark};

const SIZE: WindowSize = WindowSize { rows: 30, columns: 100, width: 0, height: 0 };
const INTERRUPT: &[u8] = b"\x03";
const SUSPEND: &[u8] = b"\x1a";
const END: &[u8] = b"\x04";
const PROMPT: &str = "next> ";

/// What a screen shows, and what is typed.
struct Screen {
    shown: Arc<Mutex<Vec<u8>>>,
    typed: tokio::sync::Mutex<mpsc::UnboundedReceiver<Bytes>>,
}

impl ProcessIo for Screen {
    fn started(&self, _pid: u32) {}

    async fn write(&self, stream: Stream, bytes: Bytes) {
        assert_eq!(stream, Stream::Output, "a terminal has one output");
        self.shown.lock().unwrap().extend_from_slice(&bytes);
    }

    async fn next_input(&self) -> Option<Bytes> {
        self.typed.lock().await.recv().await
    }

    async fn input_closed(&self) {
        panic!("a terminal takes what is typed");
    }
}

/// A child on a terminal, and whoever sits in front of it.
struct Seat {
    running: JoinHandle<ProcessFacts>,
    stopper: Stopper,
    shown: Arc<Mutex<Vec<u8>>>,
    keys: mpsc::UnboundedSender<Bytes>,
}

impl Seat {
    fn take(guardian: &Guardian, spec: ProcessSpec) -> Self {
        let (keys, typed) = mpsc::unbounded_channel();
        let shown = Arc::new(Mutex::default());
        let screen = Screen { shown: Arc::clone(&shown), typed: typed.into() };
        let (stopper, stops) = stop_channel(RunPlan::default().grace);
        let spec = ProcessSpec { input: StandardInput::Terminal(SIZE), ..spec };
        let guardian = guardian.clone();
        let running = tokio::spawn(async move {
            run(&guardian, spec, RunPlan::default(), (&screen, &stops)).await
        });
        Self { running, stopper, shown, keys }
    }

    fn types(&self, keys: &[u8]) {
        self.keys.send(pack_keys(keys)).expect("somebody reads");
    }

    fn output(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    async fn sees(&self, text: &str) {
        self.sees_times(text, 1).await;
    }

    async fn sees_times(&self, text: &str, times: usize) {
        let what = format!("`{text}` on the screen, {times} times");
        eventually(&what, || self.output().matches(text).count() >= times).await;
    }

    async fn end(self) -> (ProcessFacts, String) {
        let facts = self.running.await.unwrap();
        let shown = String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned();
        (facts, shown)
    }
}

pub(crate) async fn all_three_streams_are_one_terminal_that_controls_the_child(guardian: Guardian) {
    let script = "for fd in 0 1 2; do test -t $fd || exit 1; done; tty <&1; : </dev/tty; \
                  test \"$(readlink /proc/self/fd/0)\" = \"$(readlink /proc/self/fd/2)\"; echo $?; \
                  echo to stderr >&2; ls /proc/self/fd | wc -l; stty size; exit 7";
    let (facts, shown) = Seat::take(&guardian, shell(script)).end().await;
    assert_eq!(facts, ProcessFacts::of(ProcessEnd::Exited { code: 7 }));
    let lines: Vec<&str> = shown.split("\r\n").collect();
    assert!(lines[0].starts_with("/dev/"), "{shown:?}");
    assert_eq!(lines[1..], ["0", "to stderr", "4", "30 100", ""], "{shown:?}");
}

pub(crate) async fn a_new_size_is_told_and_comes_after_the_keys_before_it(guardian: Guardian) {
    let script = "trap 'stty size' WINCH; stty -echo; echo ready; \
                  until read line; do :; done; echo read $line; until read line; do :; done";
    let seat = Seat::take(&guardian, shell(script));
    seat.sees("ready").await;
    seat.types(b"first\n");
    seat.sees("read first").await;
    let size = WindowSize { rows: 12, columns: 34, ..SIZE };
    seat.keys.send(pack_size(size)).unwrap();
    seat.sees("12 34").await;
    seat.types(b"last\n");
    let (facts, shown) = seat.end().await;
    assert_eq!(facts, ProcessFacts::of(EXIT_0), "{shown:?}");
}

/// A shell with job control that waits for its first command.
async fn at_a_prompt(guardian: &Guardian) -> Seat {
    let path = ("PATH", "/usr/local/bin:/usr/bin:/bin");
    let environment = environment(&[path, ("PS1", PROMPT)]);
    let seat = Seat::take(guardian, ProcessSpec { environment, ..command(&["sh", "-i"]) });
    seat.sees_times(PROMPT, 1).await;
    seat
}

pub(crate) async fn control_c_interrupts_the_foreground_and_not_the_shell(guardian: Guardian) {
    let seat = at_a_prompt(&guardian).await;
    seat.types(b"cat\n");
    seat.types(b"ping\n");
    seat.sees_times("ping", 2).await;
    seat.types(INTERRUPT);
    seat.sees_times(PROMPT, 2).await;
    seat.types(b"echo status=$?\n");
    seat.sees("status=130").await;
    seat.sees_times(PROMPT, 3).await;
    seat.types(b"exit 3\n");
    let (facts, _) = seat.end().await;
    assert_eq!(facts, ProcessFacts::of(ProcessEnd::Exited { code: 3 }));
}

pub(crate) async fn jobs_are_suspended_and_brought_back(guardian: Guardian) {
    let seat = at_a_prompt(&guardian).await;
    seat.types(b"cat\n");
    seat.types(b"ping\n");
    seat.sees_times("ping", 2).await;
    seat.types(SUSPEND);
    seat.sees_times(PROMPT, 2).await;
    assert!(["Stopped", "Suspended"].iter().any(|word| seat.output().contains(word)));
    seat.types(b"fg\n");
    seat.types(b"pong\n");
    seat.sees_times("pong", 2).await;
    seat.types(END);
    seat.sees_times(PROMPT, 3).await;
    seat.types(b"exit 4\n");
    let (facts, shown) = seat.end().await;
    assert_eq!(facts, ProcessFacts::of(ProcessEnd::Exited { code: 4 }), "{shown:?}");
}

pub(crate) async fn every_byte_passes_a_raw_terminal_both_ways(guardian: Guardian) {
    let script = "stty raw -echo; printf ready; exec head -c 65536";
    let seat = Seat::take(&guardian, shell(script));
    seat.sees("ready").await;
    let all: Vec<u8> = (0..=255).collect::<Vec<u8>>().repeat(256);
    seat.types(&all);
    let running = seat.running.await.unwrap();
    assert_eq!(running, ProcessFacts::of(EXIT_0));
    let shown = seat.shown.lock().unwrap();
    assert_eq!(shown.len(), 5 + all.len());
    assert!(shown[5..] == all, "some byte changed on its way");
}

pub(crate) async fn nothing_of_a_long_output_is_lost_at_the_end(guardian: Guardian) {
    let seat = Seat::take(&guardian, command(&["seq", "1", "200000"]));
    let (facts, shown) = seat.end().await;
    assert_eq!(facts, ProcessFacts::of(EXIT_0));
    assert!(shown.lines().eq((1..=200_000).map(|number| number.to_string())), "{}", shown.len());
}

pub(crate) async fn an_init_command_writes_to_the_terminal_and_does_not_hang_it_up(
    guardian: Guardian,
) {
    let init = Some("test -t 1 && ! test -t 0 && echo prepared".try_into().unwrap());
    let spec = ProcessSpec { init, ..shell("read line; echo got $line") };
    let seat = Seat::take(&guardian, spec);
    seat.sees("prepared").await;
    seat.types(b"this\n");
    let (facts, shown) = seat.end().await;
    assert_eq!(facts, ProcessFacts::of(EXIT_0), "{shown:?}");
    assert!(shown.contains("got this\r\n"), "{shown:?}");
}

pub(crate) async fn a_stop_ends_the_whole_tree_on_a_terminal(guardian: Guardian) {
    let mark = mark("terminal");
    let spec = marked(
        &mark,
        "set -m; sleep 1000 & trap 'exit 9' HUP; echo ready; while :; do sleep 0.05; done",
    );
    let seat = Seat::take(&guardian, spec);
    seat.sees("ready").await;
    seat.stopper.stop(StopSpec { signal: 1, grace: None });
    let (facts, _) = seat.end().await;
    assert_eq!(facts.end, ProcessEnd::Exited { code: 9 });
    assert_eq!(facts.interruptions, [Interruption::Stop]);
    assert!(with_mark(&mark).is_empty());
}

pub(crate) async fn dropping_a_child_closes_its_terminal(guardian: Guardian) {
    let mark = mark("hung-up");
    let seat = Seat::take(&guardian, marked(&mark, "echo ready; cat"));
    seat.sees("ready").await;
    seat.running.abort();
    eventually("the end of the tree", || with_mark(&mark).is_empty()).await;
}
