//! `sortie doctor`: look for what is wrong, and say what to do.

mod home;

use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use sortie::answer::Diagnosis;
use sortie::{Client, ConnectError, HomePaths, UserIdentity, limits};
use sortie_model::{NodeView, Timestamp};

use crate::args::DoctorArgs;
use crate::args::output::Look;
use crate::failure::{Failure, chain};
use crate::own_node;
use crate::program::with_own_name;
use crate::render::clean::one_line;
use crate::render::json::SCHEMA;
use crate::render::out::print;
use crate::render::sheet::Format;
use crate::render::yaml;

/// Clocks that differ by more make times in listings misleading.
const CLOCK_DIFFERENCE: Duration = Duration::from_secs(2);
/// How long a node that begins may take until it says where it listens.
const ANNOUNCE_TIME: Duration = Duration::from_secs(3);
/// Time between two looks for that.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Members that are checked at once.
const AT_ONCE: usize = 32;
const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(super) async fn run(args: DoctorArgs) -> Result<u8, Failure> {
    let mut findings = Findings::default();
    match own_node::home_paths() {
        Ok(paths) => {
            home::check(&mut findings, &paths);
            check_node(&mut findings, &paths).await;
        }
        Err(failure) => findings.failure("home", failure),
    }
    findings.show(&args.look)?;
    Ok(u8::from(findings.rows.iter().any(|row| !row.ok)))
}

#[derive(Default)]
struct Findings {
    rows: Vec<Row>,
}

struct Row {
    name: String,
    ok: bool,
    finding: String,
}

impl Findings {
    fn well(&mut self, name: &str, finding: impl Into<String>) {
        self.rows.push(Row { name: name.to_owned(), ok: true, finding: finding.into() });
    }

    fn problem(&mut self, name: &str, finding: &str, advice: Option<&str>) {
        let finding = match advice {
            Some(advice) => with_own_name(&format!("{finding}; {advice}")),
            None => with_own_name(finding),
        };
        self.rows.push(Row { name: name.to_owned(), ok: false, finding });
    }

    fn failure(&mut self, name: &str, failure: Failure) {
        self.problem(name, &failure.message, failure.hint.as_deref());
    }

    fn show(&self, look: &Look) -> Result<(), Failure> {
        print(&match look.format() {
            Some(Format::Json | Format::Ndjson) => format!("{}\n", self.document()),
            Some(Format::Yaml) => yaml::to_yaml(&self.document()),
            _ => self.rows.iter().map(Row::line).collect(),
        })
    }

    fn document(&self) -> Value {
        let rows = self.rows.iter();
        let rows: Vec<Value> = rows
            .map(|row| json!({ "name": row.name, "ok": row.ok, "finding": row.finding }))
            .collect();
        json!({ "schema": SCHEMA, "checks": rows })
    }
}

impl Row {
    fn line(&self) -> String {
        let word = if self.ok { "ok" } else { "problem" };
        format!("{word:<8} {:<14} {}\n", one_line(&self.name), one_line(&self.finding))
    }
}

async fn check_node(findings: &mut Findings, paths: &HomePaths) {
    let client = match own_node::connect_running(paths).await {
        Ok(client) => client,
        Err(ConnectError::NotRunning) => {
            if let Some(process) = silent_holder(paths).await {
                return home::unannounced(findings, paths, process);
            }
            findings.well("node", "none runs; the next command that needs one starts it");
            return home::check_kept(findings, paths);
        }
        Err(error) => {
            return findings.failure("node", error.into());
        }
    };
    let address = paths.announced().ok().flatten().unwrap_or_default();
    let before = SystemTime::now();
    match client.diagnose().await {
        Ok(diagnosis) => {
            findings.well("node", format!("{} answers at UDP {address}", diagnosis.node));
            check_diagnosis(findings, &diagnosis, before);
            for check in diagnosis.checks.iter().filter(|check| check.ok) {
                findings.well(&check.name, check.finding.clone());
            }
            findings.well("containment", diagnosis.containment);
        }
        Err(error) => findings.problem("node", &chain(&error), error.hint()),
    }
    match client.nodes(None).await {
        Ok(nodes) => check_cluster(findings, paths, &nodes).await,
        Err(error) => findings.problem("cluster", &chain(&error), error.hint()),
    }
    client.close().await;
}

/// The process that has the home and does not say where its node listens, also after a while: one
/// that begins does.
async fn silent_holder(paths: &HomePaths) -> Option<u32> {
    let until = Instant::now() + ANNOUNCE_TIME;
    loop {
        let holder = paths.silent_holder()?;
        if Instant::now() >= until {
            return Some(holder);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Version, clock, and the problems that the node knows of.
fn check_diagnosis(findings: &mut Findings, diagnosis: &Diagnosis, before: SystemTime) {
    let name = diagnosis.node.as_str();
    if diagnosis.version == VERSION {
        findings.well(&format!("{name} version"), VERSION);
    } else {
        let finding = format!("it runs {}, this command is {VERSION}", diagnosis.version);
        findings.problem(
            &format!("{name} version"),
            &finding,
            Some("run the same version on both"),
        );
    }
    let clock = format!("{name} clock");
    match clock_difference(diagnosis.clock, before, SystemTime::now()) {
        apart if apart <= CLOCK_DIFFERENCE => {
            findings.well(&clock, format!("{} ms apart from ours at most", apart.as_millis()));
        }
        apart => {
            let finding = format!("{:.1} s apart from ours", apart.as_secs_f64());
            findings.problem(&clock, &finding, Some("set both clocks, by NTP for example"));
        }
    }
    for check in diagnosis.checks.iter().filter(|check| !check.ok) {
        findings.problem(&format!("{name}: {}", check.name), &check.finding, None);
    }
}

/// How far a clock that was read between two moments of ours lies outside of them.
fn clock_difference(clock: Timestamp, before: SystemTime, after: SystemTime) -> Duration {
    let (before, after) = (Timestamp::of(before).0, Timestamp::of(after).0);
    let outside = before.saturating_sub(clock.0).max(clock.0.saturating_sub(after)).max(0);
    Duration::from_micros(outside.unsigned_abs())
}

async fn check_cluster(findings: &mut Findings, paths: &HomePaths, nodes: &[NodeView]) {
    let others: Vec<&NodeView> = nodes.iter().filter(|node| !node.is_self).collect();
    if others.is_empty() {
        return findings.well("cluster", "this node is its only member");
    }
    let identity = match UserIdentity::of_home(paths) {
        Ok(identity) => identity,
        Err(error) => return findings.problem("cluster", &chain(&error), None),
    };
    for some in others.chunks(AT_ONCE) {
        let checks: Vec<_> = some
            .iter()
            .map(|node| tokio::spawn(check_member(identity.clone(), (*node).clone())))
            .collect();
        for check in checks {
            match check.await {
                Ok(found) => findings.rows.extend(found.rows),
                Err(error) => findings.problem("cluster", &chain(&error), None),
            }
        }
    }
}

/// Goes the whole way to a member: resolve, UDP, authenticate, ask.
async fn check_member(identity: UserIdentity, node: NodeView) -> Findings {
    let mut findings = Findings::default();
    let name = node.name.as_str();
    let dialled =
        Client::connect(&node.address, &identity, Some(node.id), limits::CONNECT_TIME).await;
    let client = match dialled {
        Ok(client) => client,
        Err(error) => {
            findings.failure(name, error.into());
            return findings;
        }
    };
    let before = SystemTime::now();
    match client.diagnose().await {
        Ok(diagnosis) => {
            let state = node.state.as_str();
            findings
                .well(name, format!("answers at UDP {}; our node calls it {state}", node.address));
            check_diagnosis(&mut findings, &diagnosis, before);
        }
        Err(error) => findings.problem(name, &chain(&error), error.hint()),
    }
    client.close().await;
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_read_in_between_does_not_differ() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let apart = |clock: i64| clock_difference(Timestamp(clock * 1_000_000), at(10), at(12));
        assert_eq!(apart(11), Duration::ZERO);
        assert_eq!(apart(7), Duration::from_secs(3));
        assert_eq!(apart(17), Duration::from_secs(5));
    }

    #[test]
    fn a_row_is_one_line() {
        let row = Row { name: "node".to_owned(), ok: false, finding: "a\nb\u{1b}".to_owned() };
        assert_eq!(row.line(), "problem  node           a b\n");
    }
}
