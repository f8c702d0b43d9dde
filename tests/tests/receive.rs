//! Receiving: what is taken is gone, what is kept comes again, what was not acknowledged is not
//! lost.

use std::io::{Read, Write};
use std::process::Stdio;

use sortie_tests::{Home, join_all, memory_of, wait_for};

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
    let (a, b) = (Home::running("a", &[]), Home::running("b", &[]));
    join_all(&[&a, &b]);
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
    let (a, b) = (Home::running("a", &[]), Home::running("b", &[]));
    join_all(&[&a, &b]);
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
