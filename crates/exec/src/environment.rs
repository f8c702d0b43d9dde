//! The environment of process children (`docs/semantics.md`, section 1.1).

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use bytes::Bytes;
use sortie_model::NodeName;
use sortie_model::spec::{EnvironmentSpec, OsBytes};
use sortie_wire::guardian_proto::NulList;

use crate::guardian::GUARDIAN_VARIABLE;
use crate::sys::account;
use crate::sys::marks::TREE_VARIABLE;

/// The `PATH` of a child that inherits no environment.
const CLEAN_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The `LANG` of a child that inherits no environment.
const CLEAN_LANGUAGE: &str = "C.UTF-8";

/// What a node says of its user to children that inherit no environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeBasics {
    /// The user's home: `HOME`, and the working directory of children without one.
    pub home: OsBytes,
    /// The user's name: `USER` and `LOGNAME`.
    pub user: OsBytes,
    /// The user's shell: `SHELL`.
    pub shell: OsBytes,
    /// `TZ`, if it is set on the node.
    pub time_zone: Option<OsBytes>,
    /// The node's own home, if that is one folder: `SORTIE_HOME`, by which `sortie` finds the node.
    pub node_home: Option<OsBytes>,
}

/// Where a job belongs, as its children see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobPlace<'a> {
    /// The session's number where it lives on the node that executes the children, else its
    /// identity: `SORTIE_SESSION`.
    pub session: &'a str,
    /// The job's number in its session: `SORTIE_JOB`.
    pub job: u64,
    /// The node that executes the children: `SORTIE_NODE`.
    pub node: &'a NodeName,
}

/// The environment of a job's children, all but the child's own number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobEnvironment(NulList);

impl JobEnvironment {
    /// The base (inherited, or the node's clean one), then what the submission sets, then ours.
    /// Later values win. A variable without a name, or with `=` in it, is left out: no process
    /// could find it.
    pub fn new(spec: &EnvironmentSpec, basics: &NodeBasics, place: JobPlace<'_>) -> Self {
        let ours = [
            (SESSION_NAME, place.session.to_owned()),
            (JOB_NAME, place.job.to_string()),
            (NODE_NAME, place.node.as_str().to_owned()),
        ];
        Self(joined(
            spec,
            basics,
            &ours.map(|(name, value)| (word(name), word(&value))),
            &[CHILD_NAME],
        ))
    }

    /// The whole environment of the child with that number in its session.
    pub fn of_child(&self, child: u64) -> NulList {
        self.0.with(&word(&format!("{CHILD_NAME}={child}")))
    }
}

/// The environment of a detached process: as that of a job's child, but for all that says whose it
/// is. Nothing of it finds a session, and no kill finds it by a mark.
pub fn detached_environment(
    spec: &EnvironmentSpec,
    basics: &NodeBasics,
    node: &NodeName,
) -> NulList {
    let ours = [(word(NODE_NAME), word(node.as_str()))];
    let barred = [SESSION_NAME, JOB_NAME, CHILD_NAME, TREE_VARIABLE, GUARDIAN_VARIABLE];
    joined(spec, basics, &ours, &barred)
}

/// The base, what the submission sets and what is ours, in one list without what is barred.
fn joined(
    spec: &EnvironmentSpec,
    basics: &NodeBasics,
    ours: &[(OsBytes, OsBytes)],
    barred: &[&str],
) -> NulList {
    let clean = if spec.inherited.is_none() { basics.variables() } else { Vec::new() };
    let mut ordered: Vec<(&OsBytes, &OsBytes)> = Vec::new();
    let mut positions: HashMap<&OsBytes, usize> = HashMap::new();
    let inherited = spec.inherited.iter().flatten();
    for (name, value) in inherited.chain(&clean).chain(&spec.set).chain(ours) {
        let bytes = name.as_bytes();
        let is_barred = barred.iter().any(|barred| barred.as_bytes() == bytes);
        if bytes.is_empty() || bytes.contains(&b'=') || is_barred {
            continue;
        }
        let position = *positions.entry(name).or_insert(ordered.len());
        match ordered.get_mut(position) {
            Some(variable) => variable.1 = value,
            None => ordered.push((name, value)),
        }
    }
    NulList::of_variables(ordered)
}

/// Where a process begins: in the directory that its submission says, taken from the one that
/// it would begin in otherwise; else there: in the caller's, or in the home of the node's user.
pub fn working_directory(
    said: Option<&OsBytes>,
    inherited: Option<&OsBytes>,
    basics: &NodeBasics,
) -> OsBytes {
    let base = inherited.unwrap_or(&basics.home);
    let Some(said) = said else { return base.clone() };
    let path =
        Path::new(OsStr::from_bytes(base.as_bytes())).join(OsStr::from_bytes(said.as_bytes()));
    let joined = OsBytes::try_from(Bytes::from(path.into_os_string().into_vec()));
    // Two words without a NUL byte are one without.
    joined.unwrap_or_else(|_| said.clone())
}

/// The variables of a process's environment.
pub fn variables(environment: &NulList) -> BTreeMap<OsString, OsString> {
    let pairs = environment.iter().filter_map(|variable| {
        let at = variable.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (variable.get(..at)?, variable.get(at + 1..)?);
        Some((OsStr::from_bytes(name).to_owned(), OsStr::from_bytes(value).to_owned()))
    });
    pairs.collect()
}

const SESSION_NAME: &str = "SORTIE_SESSION";
const JOB_NAME: &str = "SORTIE_JOB";
const CHILD_NAME: &str = "SORTIE_CHILD";
const NODE_NAME: &str = "SORTIE_NODE";

impl NodeBasics {
    /// What the system's user database says of the user that runs this process, and the machine's
    /// time zone if `/etc/timezone` names one. A user without an entry has the home `/`, the shell
    /// `/bin/sh` and its number as its name.
    pub fn of_this_user() -> Self {
        let zone = std::fs::read_to_string("/etc/timezone").unwrap_or_default();
        account::basics(zone.lines().next().filter(|zone| !zone.is_empty()).map(word))
    }

    fn variables(&self) -> Vec<(OsBytes, OsBytes)> {
        let mut variables = vec![
            (word("HOME"), self.home.clone()),
            (word("USER"), self.user.clone()),
            (word("LOGNAME"), self.user.clone()),
            (word("SHELL"), self.shell.clone()),
            (word("PATH"), word(CLEAN_PATH)),
            (word("LANG"), word(CLEAN_LANGUAGE)),
        ];
        variables.extend(self.time_zone.iter().map(|zone| (word("TZ"), zone.clone())));
        variables.extend(self.node_home.iter().map(|home| (word("SORTIE_HOME"), home.clone())));
        variables
    }
}

/// Our own texts, which have no NUL byte.
fn word(text: &str) -> OsBytes {
    OsBytes::try_from(text).unwrap_or_else(|_| word(&text.replace('\0', "")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> NodeName {
        "web3".parse().expect("a name")
    }

    fn basics() -> NodeBasics {
        NodeBasics {
            home: word("/home/ann"),
            user: word("ann"),
            shell: word("/bin/sh"),
            time_zone: Some(word("UTC")),
            node_home: Some(word("/srv/node")),
        }
    }

    fn check(spec: &EnvironmentSpec, expected: &[&str]) {
        let basics = basics();
        let place = JobPlace { session: "2", job: 7, node: &node() };
        let environment = JobEnvironment::new(spec, &basics, place).of_child(9);
        let found: Vec<_> =
            environment.iter().map(|variable| String::from_utf8_lossy(variable)).collect();
        assert_eq!(found, expected);
    }

    fn variables(pairs: &[(&str, &str)]) -> Vec<(OsBytes, OsBytes)> {
        pairs.iter().map(|(name, value)| (word(name), word(value))).collect()
    }

    const OURS: [&str; 4] =
        ["SORTIE_SESSION=2", "SORTIE_JOB=7", "SORTIE_NODE=web3", "SORTIE_CHILD=9"];

    #[test]
    fn a_child_elsewhere_gets_the_nodes_clean_environment() {
        let clean = [
            "HOME=/home/ann",
            "USER=ann",
            "LOGNAME=ann",
            "SHELL=/bin/sh",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG=C.UTF-8",
            "TZ=UTC",
            "SORTIE_HOME=/srv/node",
        ];
        check(&EnvironmentSpec::default(), &[clean.as_slice(), &OURS].concat());
    }

    #[test]
    fn what_is_set_wins_over_what_is_inherited_and_ours_over_both() {
        let spec = EnvironmentSpec {
            inherited: Some(variables(&[("A", "1"), ("SORTIE_CHILD", "4"), ("SORTIE_JOB", "3")])),
            inherited_directory: None,
            set: variables(&[("B", "2"), ("A", "3"), ("", "x"), ("C=D", "y")]),
        };
        let expected = [
            "A=3",
            "SORTIE_JOB=7",
            "B=2",
            "SORTIE_SESSION=2",
            "SORTIE_NODE=web3",
            "SORTIE_CHILD=9",
        ];
        check(&spec, &expected);
    }

    #[test]
    fn a_detached_process_finds_its_node_and_nothing_of_a_job() {
        let of_a_child = variables(&[
            ("A", "1"),
            ("SORTIE_SESSION", "2"),
            ("SORTIE_JOB", "3"),
            ("SORTIE_CHILD", "4"),
            ("SORTIE_TREE", "5-6"),
            ("SORTIE_GUARDIAN", "7"),
            ("SORTIE_NODE", "other"),
        ]);
        let spec = EnvironmentSpec {
            set: [of_a_child.clone(), variables(&[("B", "2")])].concat(),
            inherited: Some(of_a_child),
            inherited_directory: None,
        };
        let environment = detached_environment(&spec, &basics(), &node());
        let found: Vec<_> =
            environment.iter().map(|variable| String::from_utf8_lossy(variable)).collect();
        assert_eq!(found, ["A=1", "SORTIE_NODE=web3", "B=2"]);
    }

    #[test]
    fn a_relative_directory_is_taken_from_where_the_child_would_begin_otherwise() {
        let begins = |said: Option<&str>, inherited: Option<&str>| {
            let (said, inherited) = (said.map(word), inherited.map(word));
            let found = working_directory(said.as_ref(), inherited.as_ref(), &basics());
            String::from_utf8_lossy(found.as_bytes()).into_owned()
        };
        assert_eq!(begins(None, None), "/home/ann");
        assert_eq!(begins(None, Some("/here")), "/here");
        assert_eq!(begins(Some("sub"), None), "/home/ann/sub");
        assert_eq!(begins(Some("../sub"), Some("/here")), "/here/../sub");
        assert_eq!(begins(Some("/else"), Some("/here")), "/else");
    }
}
