//! How children start and end.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sortie_exec::{Guardian, ProcessSpec};
use sortie_model::facts::{MemoryEnd, ProcessEnd, ProcessFacts, Stage};
use sortie_model::reason::SpawnStep;
use sortie_wire::guardian_proto::{NulList, Program};

use crate::support::{
    EXIT_0, command, environment, eventually, run_plain, shell, soft_descriptor_limit, word,
};

const ENOENT: i32 = 2;
const E2BIG: i32 = 7;
const ENOEXEC: i32 = 8;
const EACCES: i32 = 13;

pub(crate) async fn an_exit_code_is_reported(guardian: Guardian) {
    for code in [0, 1, 3, 255] {
        let (facts, sink) = run_plain(&guardian, shell(&format!("echo {code}; exit {code}"))).await;
        assert_eq!(facts, ProcessFacts::of(ProcessEnd::Exited { code }));
        assert_eq!(sink.output(), format!("{code}\n"));
    }
}

pub(crate) async fn a_signal_is_reported(guardian: Guardian) {
    let (facts, _) = run_plain(&guardian, shell("kill -KILL $$")).await;
    let end = ProcessEnd::Signalled { number: 9, core_dumped: false };
    assert_eq!(facts, ProcessFacts::of(end));
    let (facts, _) = run_plain(&guardian, shell("kill -USR1 $$")).await;
    assert!(matches!(facts.end, ProcessEnd::Signalled { number: 10, .. }));
}

async fn failure(guardian: &Guardian, spec: ProcessSpec) -> (SpawnStep, i32) {
    let (facts, _) = run_plain(guardian, spec).await;
    let ProcessEnd::NotStarted { step, errno } = facts.end else { panic!("started: {facts:?}") };
    (step, errno)
}

pub(crate) async fn a_missing_program_is_told_from_a_missing_directory(guardian: Guardian) {
    let directory = tempfile::tempdir().unwrap();
    let plain = directory.path().join("plain");
    std::fs::write(&plain, "no program\n").unwrap();
    let plain = plain.to_str().unwrap();
    let check = async |spec, expected| assert_eq!(failure(&guardian, spec).await, expected);
    check(command(&["no-such-program-here"]), (SpawnStep::Exec, ENOENT)).await;
    check(command(&["/no/such/program"]), (SpawnStep::Exec, ENOENT)).await;
    check(command(&[""]), (SpawnStep::Exec, ENOENT)).await;
    check(command(&[]), (SpawnStep::Exec, ENOENT)).await;
    check(command(&["/"]), (SpawnStep::Exec, EACCES)).await;
    check(command(&[plain]), (SpawnStep::Exec, EACCES)).await;
    std::fs::set_permissions(plain, std::fs::Permissions::from_mode(0o755)).unwrap();
    check(command(&[plain]), (SpawnStep::Exec, ENOEXEC)).await;
    let nowhere = Some(word("/no/such/directory"));
    let spec = ProcessSpec { directory: nowhere, ..command(&["no-such-program-here"]) };
    check(spec, (SpawnStep::Chdir, ENOENT)).await;
    let (facts, _) = run_plain(&guardian, command(&["true"])).await;
    assert_eq!(facts, ProcessFacts::of(EXIT_0));
}

fn executable(directory: &Path, name: &str, text: &str) {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

pub(crate) async fn the_program_is_looked_up_in_the_childs_own_path(guardian: Guardian) {
    let directory = tempfile::tempdir().unwrap();
    executable(directory.path(), "only-here", "#!/bin/sh\necho found\n");
    let path = format!("/nowhere:{}:/bin", directory.path().display());
    let environment = environment(&[("PATH", &path)]);
    let (facts, sink) =
        run_plain(&guardian, ProcessSpec { environment, ..command(&["only-here"]) }).await;
    assert_eq!((facts.end, sink.output().as_str()), (EXIT_0, "found\n"));
    assert_eq!(failure(&guardian, command(&["only-here"])).await, (SpawnStep::Exec, ENOENT));
    let nothing = NulList::default();
    let (facts, sink) =
        run_plain(&guardian, ProcessSpec { environment: nothing, ..command(&["pwd"]) }).await;
    assert_eq!((facts.end, sink.output().as_str()), (EXIT_0, "/\n"));
}

pub(crate) async fn a_relative_program_is_looked_up_in_the_working_directory(guardian: Guardian) {
    let directory = tempfile::tempdir().unwrap();
    executable(directory.path(), "here", "#!/bin/sh\npwd -P\n");
    let real = directory.path().canonicalize().unwrap();
    let directory = Some(word(directory.path().to_str().unwrap()));
    let (facts, sink) =
        run_plain(&guardian, ProcessSpec { directory, ..command(&["./here"]) }).await;
    assert_eq!((facts.end, sink.output()), (EXIT_0, format!("{}\n", real.display())));
}

pub(crate) async fn init_runs_first_and_its_failure_is_the_childs(guardian: Guardian) {
    let with_init = |init, spec| ProcessSpec { init: Some(word(init)), ..spec };
    let spec = with_init("echo first; cat", shell("echo second"));
    let (facts, sink) = run_plain(&guardian, spec).await;
    assert_eq!(facts, ProcessFacts::of(EXIT_0));
    assert_eq!(sink.output(), "first\nsecond\n");

    let spec = with_init("echo first; exit 5", shell("echo second"));
    let (facts, sink) = run_plain(&guardian, spec).await;
    assert_eq!((facts.end, facts.stage), (ProcessEnd::Exited { code: 5 }, Stage::Init));
    assert_eq!(sink.output(), "first\n");

    let spec = with_init("echo first", command(&["no-such-program-here"]));
    let (facts, sink) = run_plain(&guardian, spec).await;
    let missing = ProcessEnd::NotStarted { step: SpawnStep::Exec, errno: ENOENT };
    assert_eq!((facts.end, facts.stage), (missing, Stage::Main));
    assert_eq!(sink.output(), "first\n");
}

pub(crate) async fn a_script_is_run_by_its_interpreter(guardian: Guardian) {
    let script = |text: &'static str| ProcessSpec {
        program: Program::Script {
            text: Bytes::from_static(text.as_bytes()),
            arguments: NulList::of_words([&word("one two"), &word("three")]),
        },
        ..command(&[])
    };
    let (facts, sink) = run_plain(&guardian, script("echo \"$1/$2/$#\"; exit 4")).await;
    assert_eq!(facts.end, ProcessEnd::Exited { code: 4 });
    assert_eq!(sink.output(), "one two/three/2\n");
    let (facts, sink) = run_plain(&guardian, script("#!/bin/cat -n\nhello\n")).await;
    assert_eq!(facts.end, ProcessEnd::Exited { code: 1 }, "the arguments are no files");
    assert!(sink.output().contains("2\thello\n"), "{}", sink.output());
    let (facts, _) = run_plain(&guardian, script("#!/no/such/interpreter\n")).await;
    assert_eq!(facts.end, ProcessEnd::NotStarted { step: SpawnStep::Exec, errno: ENOENT });
}

pub(crate) async fn a_child_has_three_descriptors_a_session_and_default_signals(
    guardian: Guardian,
) {
    // Something that a careless daemon would let its children inherit.
    let leak = std::fs::File::open("/dev/null").unwrap();
    let (_, sink) = run_plain(&guardian, command(&["ls", "-1", "/proc/self/fd"])).await;
    // The fourth is the directory that `ls` reads.
    assert_eq!(sink.output(), "0\n1\n2\n3\n");
    drop(leak);
    let (_, sink) = run_plain(&guardian, shell("cut -d' ' -f1,5,6 /proc/$$/stat")).await;
    let output = sink.output();
    let ids: Vec<_> = output.split_whitespace().collect();
    assert!(ids.len() == 3 && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let (_, sink) =
        run_plain(&guardian, command(&["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"])).await;
    let masks: Vec<_> = sink
        .output()
        .split_whitespace()
        .map(str::to_owned)
        .filter(|text| !text.ends_with(':'))
        .collect();
    assert_eq!(masks, ["0000000000000000"; 2]);
}

pub(crate) async fn a_child_gets_the_daemons_own_limit_of_descriptors(guardian: Guardian) {
    let (_, sink) = run_plain(&guardian, shell("ulimit -Sn")).await;
    assert_eq!(sink.output().trim(), soft_descriptor_limit());
}

/// A memory group (version 1 or 2) in which eight mebibytes may be used, if we may make one.
fn small_memory_group() -> Option<(PathBuf, &'static str)> {
    let name = format!("sortie-test-{}", std::process::id());
    for (base, limit, processes) in [
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "cgroup.procs"),
        ("/sys/fs/cgroup", "memory.max", "cgroup.procs"),
    ] {
        let group = Path::new(base).join(&name);
        if std::fs::create_dir(&group).is_ok() {
            if std::fs::write(group.join(limit), "8388608").is_ok() {
                return Some((group, processes));
            }
            let _ = std::fs::remove_dir(&group);
        }
    }
    None
}

pub(crate) async fn a_child_killed_for_want_of_memory_says_so(guardian: Guardian) {
    let Some((group, processes)) = small_memory_group() else {
        println!("(skipped: no memory group can be made here)");
        return;
    };
    let enter = format!("echo $$ > {}", group.join(processes).display());
    let spec = shell(&format!("{enter}; exec sort -S 200M /dev/zero"));
    let (facts, _) = run_plain(&guardian, spec).await;
    let spec = shell(&format!("{enter}; kill -KILL $$"));
    let (other, _) = run_plain(&guardian, spec).await;
    eventually("the end of the group", || std::fs::remove_dir(&group).is_ok()).await;
    assert_eq!(facts.memory, MemoryEnd::OutOfMemory, "{facts:?}");
    assert_eq!(other.memory, MemoryEnd::No, "{other:?}");
}

pub(crate) async fn a_thousand_children_started_at_once_all_end(guardian: Guardian) {
    let children: Vec<_> = (0..1000)
        .map(|number| {
            let guardian = guardian.clone();
            tokio::spawn(async move {
                let (facts, sink) =
                    run_plain(&guardian, command(&["echo", &number.to_string()])).await;
                assert_eq!(facts, ProcessFacts::of(EXIT_0));
                assert_eq!(sink.output(), format!("{number}\n"));
            })
        })
        .collect();
    for child in children {
        child.await.unwrap();
    }
}

pub(crate) async fn a_large_argument_list_arrives_whole(guardian: Guardian) {
    let long = "x".repeat(100_000);
    let words: Vec<&str> =
        ["sh", "-c", "echo ${#0} ${#1} $#"].into_iter().chain([long.as_str(); 10]).collect();
    let (facts, sink) = run_plain(&guardian, command(&words)).await;
    assert_eq!((facts.end, sink.output().as_str()), (EXIT_0, "100000 100000 9\n"));
}

pub(crate) async fn too_many_arguments_are_an_error_of_the_start(guardian: Guardian) {
    let long = "x".repeat(100_000);
    let words: Vec<&str> = ["true"].into_iter().chain([long.as_str(); 30]).collect();
    assert_eq!(failure(&guardian, command(&words)).await, (SpawnStep::Exec, E2BIG));
    let words: Vec<&str> = ["true"].into_iter().chain([long.as_str(); 200]).collect();
    assert_eq!(failure(&guardian, command(&words)).await, (SpawnStep::Exec, E2BIG));
}
