//! Looking at the home: folders, room, what a node keeps there.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::Access;
use sortie::{HomeError, HomePaths, KeptSessions, limits};

use super::Findings;
use crate::failure::{Failure, OUT_OF_REACH, chain};
use crate::own_node::LEFT_RUNNING;

/// Permissions that others must not have in a folder.
const WRITABLE: u32 = 0o022;
/// The same where secrets lie.
const ENTERABLE: u32 = 0o077;

pub(super) fn check(findings: &mut Findings, paths: &HomePaths) {
    let identity = paths.config.join("identity");
    let folders = [("home", &paths.state, WRITABLE), ("identity", &identity, ENTERABLE)];
    for (name, folder, forbidden) in folders {
        let inside = || match folder == &identity {
            true => paths.check_identity().map_err(|error| unfit_identity(&error, folder)),
            false => paths.try_write().map_err(|error| not_written(&error)),
        };
        let finding = folder_finding(folder, forbidden);
        let finding = finding.and_then(|finding| inside().map(|()| finding));
        match finding {
            Ok(finding) => findings.well(name, finding),
            Err((finding, advice)) => {
                let advice = Some(advice).filter(|advice| !advice.is_empty());
                findings.problem(name, &finding, advice.as_deref());
            }
        }
    }
    if paths.state.is_dir() {
        check_room(findings, &paths.state);
    }
}

/// Where sessions are kept, if that is another disk than the home's.
fn another_disk(home: &Path, sessions: &Path) -> bool {
    let disk = |folder: &Path| folder.metadata().map(|facts| facts.dev()).ok();
    disk(sessions).is_some_and(|own| disk(home) != Some(own))
}

/// A node has the home, and nobody finds it.
pub(super) fn unannounced(findings: &mut Findings, paths: &HomePaths, process: u32) {
    let address = paths.state.join("node.addr");
    let finding = format!(
        "process {process} has this home, and {}, which says where it listens, is not there",
        address.display()
    );
    let advice = format!(
        "if it neither begins nor ends, `kill -9 {process}` ends it, and the next node goes on \
         with the jobs of sessions that outlive it"
    );
    findings.problem("node", &finding, Some(&advice));
}

/// What an earlier node kept, where none runs that would say so itself.
pub(super) fn check_kept(findings: &mut Findings, paths: &HomePaths) {
    match paths.check_sessions() {
        Ok(KeptSessions::None) => findings.well("sessions", "none are kept yet"),
        Ok(KeptSessions::Whole { version }) => {
            findings.well("sessions", format!("their journal is whole, version {version}"));
        }
        Ok(_) => findings.well("sessions", "a node that starts or ends has their journal"),
        Err(error) => {
            let failure = Failure::from(error);
            let left = paths.guardian().map(|_| LEFT_RUNNING);
            findings.problem("sessions", &failure.message, left);
        }
    }
    // A node looks at them itself.
    match paths.check_groups() {
        Ok(()) => findings.well("groups", "can be read"),
        Err(error) => findings.problem("groups", &chain(&error), Some("correct the file")),
    }
    match paths.guardian() {
        Some(process) if paths.is_guardian_stopped() => {
            let who =
                format!("process {process}, which keeps what a node left running, is stopped");
            findings.problem("processes", &who, Some(&format!("`kill -CONT {process}` wakes it")));
        }
        Some(process) => {
            let who = format!("process {process} keeps what a node left running");
            findings.well("processes", format!("{who}: the next node takes it over"));
        }
        None if paths.keeps_processes() => {
            findings.well("processes", "some ended without a node: the next one takes note");
        }
        None => {}
    }
}

fn check_room(findings: &mut Findings, folder: &Path) {
    let sessions = folder.join("sessions");
    // The home itself takes next to nothing.
    let folder = if another_disk(folder, &sessions) { &sessions } else { folder };
    let Ok(disk) = rustix::fs::statvfs(folder) else { return };
    let size = disk.f_blocks.saturating_mul(disk.f_frsize);
    let free = disk.f_bavail.saturating_mul(disk.f_frsize) >> 20;
    let reserve = limits::DISK_RESERVE_BYTES.min(size / 20) >> 20;
    let finding = format!("{free} MiB are free at {}", folder.display());
    let journal = limits::JOURNAL_RESERVE_BYTES >> 20;
    let without = !sessions.join("reserve").exists();
    if without && sessions.join("journal").exists() {
        // Free it is because a node gave it up.
        let finding = format!("{finding}: the journal gave up its reserve of {journal} MiB");
        findings.problem("disk", &finding, Some("make room: nothing starts until then"));
    } else if without && free <= journal {
        let finding =
            format!("{finding}: a node needs more than the {journal} MiB of its journal's reserve");
        findings.problem("disk", &finding, Some("make room"));
    } else if free < reserve {
        let finding = format!("{finding}, less than the {reserve} MiB that output leaves free");
        findings.problem("disk", &finding, Some("make room: output waits in memory until then"));
    } else {
        findings.well("disk", finding);
    }
}

/// What to say of identities that a node would not start with.
fn unfit_identity(error: &HomeError, folder: &Path) -> (String, String) {
    let advice = match error {
        // It says so itself.
        HomeError::Exposed { .. } => String::new(),
        error if error.is_mistake() => OUT_OF_REACH.to_owned(),
        _ => format!(
            "no node starts with it: put a copy back, or move {} away, for a new node in a cluster \
             of its own",
            folder.display()
        ),
    };
    (chain(error), advice)
}

/// What to say of a home in which a small file could not be written.
fn not_written(error: &HomeError) -> (String, String) {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};

    let is_full = |error: &std::io::Error| matches!(error.kind(), StorageFull | QuotaExceeded);
    let advice = match error {
        HomeError::Write { source, .. } if is_full(source) => {
            "make room: nothing can be kept until then"
        }
        error if error.is_mistake() => OUT_OF_REACH,
        _ => "look after its disk, or set SORTIE_HOME to a folder on another one",
    };
    (chain(error), advice.to_owned())
}

fn folder_finding(folder: &Path, forbidden: u32) -> Result<String, (String, String)> {
    let shown = folder.display();
    let facts = match folder.metadata() {
        Ok(facts) => facts,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(format!("{shown} is not there yet; the first node makes it"));
        }
        Err(error) => {
            return Err((format!("{shown}: {error}"), "make it yours".to_owned()));
        }
    };
    let ours = facts.uid() == rustix::process::geteuid().as_raw();
    if !facts.is_dir() || !ours {
        return Err((format!("{shown} is no folder of yours"), "move it away".to_owned()));
    }
    if facts.mode() & forbidden != 0 {
        let finding = format!("others have permissions on {shown}");
        return Err((finding, format!("chmod 700 {shown}")));
    }
    if let Err(error) = rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK) {
        let finding = format!("{shown} cannot be written to: {error}");
        return Err((finding, "make it writable, or set SORTIE_HOME to another folder".to_owned()));
    }
    Ok(format!("{shown} is yours"))
}
