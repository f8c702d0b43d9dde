//! Receiving: what is taken is gone, what is kept comes again, what was not acknowledged is not
//! lost.

use std::io::{Read, Write};
use std::process::{Child, ChildStdout, Stdio};

use sortie_tests::{Home, memory_of, two, wait_for};

#[test]
fn a_running_jobs_results_come_once_and_kept_ones_come_again() {
    let home = Home::running("solo", &[]);
    let gate = home.path().join("gate");
    let script = format!(
        "echo one; while [ ! -e {0} ]; do sleep 0.05; done; \
         echo two; while [ -e {0} ]; do sleep 0.05; done",
        gate.display()
    );
    assert_eq!(home.sortie(&["start", "--", "sh", "-c", &script]).code, 0);
    let first = wait_for("the first line", || {
        let ran = home.sortie(&["receive", "last"]);
        (!ran.out.is_empty()).then_some(ran.out)
    });
    assert_eq!(first, "one\n");
    assert_eq!(home.sortie(&["receive", "last"]).out, "");
    std::fs::write(&gate, "").expect("a file");
    let kept = wait_for("the second line", || {
        let ran = home.sortie(&["receive", "--keep", "last"]);
        (!ran.out.is_empty()).then_some(ran.out)
    });
    assert_eq!(kept, "two\n");
    assert_eq!(home.sortie(&["receive", "--keep", "last"]).out, "two\n");
    assert_eq!(home.sortie(&["receive", "last"]).out, "two\n");
    std::fs::remove_file(&gate).expect("the file");
    assert_eq!(home.sortie(&["wait", "last"]).code, 0);
    let job = home.json(&["get", "last"]);
    assert_eq!(job["jobs"][0]["has_more_data"], false);
}

#[test]
fn output_and_errors_of_one_child_keep_their_streams() {
    let home = Home::running("solo", &[]);
    let ran = home.sortie(&["invoke", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((ran.code, ran.out.as_str()), (7, "out\n"));
    assert!(ran.err.contains("err\n"), "{ran:?}");
}

#[test]
fn random_bytes_through_a_remote_child_are_exact_in_constant_memory() {
    let [a, b] = two();
    let file = b.path().join("random");
    let size = 256 << 20;
    let mut source = std::fs::File::open("/dev/urandom").expect("random bytes");
    let mut target = std::fs::File::create(&file).expect("a file");
    std::io::copy(&mut (&mut source).take(size), &mut target).expect("room on the disk");
    let path = file.to_str().expect("a text");
    let mut child = a
        .command(["invoke", "--on", "b", "--", "cat", path])
        .stdout(Stdio::piped())
        .spawn()
        .expect("a program to run");
    let mut out = child.stdout.take().expect("a pipe");
    let mut expected = std::fs::File::open(&file).expect("the file");
    let (mut got, mut want, mut total) = (vec![0; 1 << 20], vec![0; 1 << 20], 0);
    loop {
        let count = out.read(&mut got).expect("a readable pipe");
        if count == 0 {
            break;
        }
        expected.read_exact(&mut want[..count]).expect("not more than was written");
        assert!(got[..count] == want[..count], "other bytes within the MiB from {total} on");
        total += count as u64;
    }
    assert_eq!((total, child.wait().expect("an end").code()), (size, Some(0)));
    for home in [&a, &b] {
        let memory = memory_of(home.daemon_pid());
        assert!(memory < 200 << 20, "a daemon has {} MiB", memory >> 20);
    }
}

#[test]
fn a_reader_killed_in_the_middle_loses_nothing_and_the_next_one_ends_with_everything() {
    let home = Home::running("solo", &[]);
    let started = home.sortie(&["start", "--", "seq", "1", "300000"]);
    assert_eq!(started.code, 0, "{started:?}");
    assert_eq!(home.sortie(&["wait", "last"]).code, 0);
    let mut reader = home
        .command(["receive", "last", "--no-prefix"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("a program to run");
    let mut out = reader.stdout.take().expect("a pipe");
    let mut some = vec![0; 4096];
    out.read_exact(&mut some).expect("some output");
    reader.kill().expect("a running reader");
    reader.wait().expect("an end");
    out.read_to_end(&mut some).expect("what it wrote");
    drop(out);
    let some = String::from_utf8(some).expect("numbers");
    // The last line may be a part of one.
    let written = some.lines().count() as u64 - 1;
    // The node does not know yet that it is dead: what it has in hand comes behind the rest.
    let ran = home.sortie(&["receive", "last", "--wait", "--no-prefix"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let mut numbers: Vec<u64> = ran.lines().iter().filter_map(|line| line.parse().ok()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers.last(), Some(&300_000));
    let first = numbers.first().copied().unwrap_or_default();
    assert!(first <= written + 1, "{} to {first} are missing", written + 1);
    let whole = numbers.windows(2).all(|pair| pair[1] == pair[0] + 1);
    assert!(whole, "a gap or a repetition in {} numbers", numbers.len());
    assert_eq!(home.sortie(&["receive", "last"]).out, "");
}

/// Of how many records these words say that another reader has them.
fn with_another_reader(err: &str) -> Option<usize> {
    let (before, _) = err.split_once(" records are with another reader that has not confirmed")?;
    before.rsplit([' ', '"']).next()?.parse().ok()
}

/// A finished job, and a reader of it that is alive and whose output is full: what it was given
/// stays in its hands.
#[expect(clippy::expect_used, reason = "a test fails by panicking, also in what it shares")]
fn reader_that_stands_still(home: &Home) -> (Child, ChildStdout) {
    let script = "seq 1 300000; echo err >&2";
    assert_eq!(home.sortie(&["start", "--", "sh", "-c", script]).code, 0);
    assert_eq!(home.sortie(&["wait", "last"]).code, 0);
    let mut reader = home
        .command(["receive", "last", "--wait", "--stream", "output"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("a program to run");
    let mut out = reader.stdout.take().expect("a pipe");
    out.read_exact(&mut [0; 4096]).expect("some output");
    (reader, out)
}

#[test]
fn a_removal_shows_that_a_reader_had_more_in_hand() {
    let home = Home::running("solo", &[]);
    let (mut reader, _out) = reader_that_stands_still(&home);
    assert_eq!(home.sortie(&["receive", "last"]).code, 0);
    assert_eq!(home.json(&["remove", "last"])["jobs"][0]["has_more_data"], true);
    reader.kill().expect("a running reader");
    reader.wait().expect("an end");
}

#[test]
fn a_receive_says_what_another_reader_has_in_hand_and_then_it_comes() {
    let home = Home::running("solo", &[]);
    let (mut reader, _out) = reader_that_stands_still(&home);
    let ran = home.sortie(&["receive", "last"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let alive = with_another_reader(&ran.err).expect(&ran.err);
    assert!(ran.err.contains("job 1: ") && ran.err.contains("receive again"), "{}", ran.err);
    let ran = home.sortie(&["receive", "last", "--wait", "--timeout", "100ms"]);
    assert_eq!(ran.code, 124, "{ran:?}");
    let is_over = "is over, and not everything was received of 1: `sortie receive 1 --wait`";
    assert!(ran.err.contains(is_over) && !ran.err.contains("goes on"), "{}", ran.err);
    assert!(ran.err.contains("another reader may have some"), "{}", ran.err);
    // A receive of another stream has nothing to do with it, and neither has one that only reads.
    for other in [["--stream", "error"].as_slice(), &["--keep"]] {
        let ran = home.sortie(&[&["receive", "last"], other].concat());
        assert_eq!((ran.code, with_another_reader(&ran.err)), (0, None), "{}", ran.err);
    }
    reader.kill().expect("a running reader");
    reader.wait().expect("an end");
    // Nor does the node know at once that it is dead.
    let ran = home.sortie(&["receive", "2", "-o", "ndjson"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, ""), "{ran:?}");
    let killed = with_another_reader(&ran.err).expect(&ran.err);
    assert!(killed > 0 && killed <= alive, "{killed} after {alive}");
    assert_eq!(home.json(&["get", "last"])["jobs"][0]["has_more_data"], true);
    let came = wait_for("what it had in hand", || {
        let ran = home.sortie(&["receive", "last", "-o", "ndjson"]);
        assert_eq!(ran.code, 0, "{ran:?}");
        let came = ran.lines().len();
        assert_eq!(with_another_reader(&ran.err), (came == 0).then_some(killed), "{}", ran.err);
        (came > 0).then_some(came)
    });
    assert_eq!(came, killed);
    let ran = home.sortie(&["receive", "last"]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "", ""));
}

#[test]
fn an_unread_job_completes_and_memory_stays_small() {
    let home = Home::running("solo", &[]);
    let script = "head -c 300000000 /dev/zero";
    assert_eq!(home.sortie(&["start", "--", "sh", "-c", script]).code, 0);
    assert_eq!(home.sortie(&["wait", "last"]).code, 0);
    let memory = memory_of(home.daemon_pid());
    assert!(memory < 100 << 20, "the daemon has {} MiB", memory >> 20);
    let mut child =
        home.command(["receive", "last"]).stdout(Stdio::piped()).spawn().expect("a program to run");
    let mut out = child.stdout.take().expect("a pipe");
    let count = std::io::copy(&mut out, &mut std::io::sink()).expect("a readable pipe");
    assert_eq!((count, child.wait().expect("an end").code()), (300_000_000, Some(0)));
}

#[test]
fn input_reaches_one_child_and_is_broadcast_to_many() {
    let [a, _b] = two();
    let feed = |arguments: &[&str]| {
        let mut child = a
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a program to run");
        let mut input = child.stdin.take().expect("a pipe");
        let writer = std::thread::spawn(move || {
            for number in 0..50_000 {
                writeln!(input, "line {number}").expect("an open pipe");
            }
        });
        let output = child.wait_with_output().expect("an end");
        writer.join().expect("a writer that ends");
        (output.status.code(), String::from_utf8(output.stdout).expect("text"))
    };
    let (code, out) = feed(&["invoke", "--stdin", "-", "--", "wc", "-l"]);
    assert_eq!((code, out.trim()), (Some(0), "50000"));
    let (code, out) = feed(&["invoke", "--stdin", "-", "--on", "b", "--", "wc", "-l"]);
    assert_eq!((code, out.trim()), (Some(0), "50000"));
    let (code, out) = feed(&["invoke", "--stdin", "-", "--on", "a,b", "--", "wc", "-l"]);
    let mut lines: Vec<_> = out.lines().collect();
    lines.sort_unstable();
    assert_eq!((code, lines), (Some(0), vec!["a: 50000", "b: 50000"]));
}
