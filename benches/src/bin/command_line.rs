//! Row 14: the whole `sortie` command against a node that runs. The limit is the start and end of
//! a process that does nothing.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use sortie_benches::measure::{Pair, in_turn, quantile};
use sortie_benches::{Bound, NodeProcess, Options, Outcome, Row, run};

/// Commands of one round.
const COMMANDS: usize = 40;

fn main() -> ExitCode {
    run(scenario)
}

async fn scenario(_: Options) -> Outcome<Vec<Row>> {
    let node = NodeProcess::start("own")?;
    let sortie = beside()?;
    let home = node.paths().state;
    let mut rows = Vec::new();
    for arguments in [&["get"][..], &["start", "--", "true"][..]] {
        let measured = in_turn(
            async || Ok([commands(&sortie, arguments, &home)?]),
            async || Ok([commands(Path::new("true"), &[], &home)?]),
        );
        let Pair { ours: [ours], limit: [limit] } = measured.await?;
        let scenario = format!("`sortie {}`, the whole command, p50", arguments.join(" "));
        let row = Row::new(14, scenario, "ms", ours).limit(limit);
        rows.push(row.bound(Bound::AtMost(15.0)));
    }
    Ok(rows)
}

/// The `sortie` command that was built with this program.
fn beside() -> Outcome<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("sortie");
    if path.is_file() {
        return Ok(path);
    }
    Err("the `sortie` command is not built: `cargo build --release --bin sortie` first".into())
}

fn commands(program: &Path, arguments: &[&str], home: &Path) -> Outcome<f64> {
    let mut taken = Vec::new();
    for _ in 0..COMMANDS {
        let mut command = Command::new(program);
        command.args(arguments).env("SORTIE_HOME", home).stdin(Stdio::null());
        let begin = Instant::now();
        let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output()?;
        taken.push(begin.elapsed().as_secs_f64() * 1e3);
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(format!("{}: {said}", program.display()).into());
        }
    }
    Ok(quantile(taken, 0.5))
}
