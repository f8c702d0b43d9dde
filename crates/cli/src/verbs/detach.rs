//! `sortie start --detached`: a process that belongs to no session and no job, here or on each of
//! several nodes.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use futures_util::stream;
use sortie::{Client, DetachError, DetachSpec, DetachedProcess, ErrorCode, HomePaths, NodeView};
use sortie_model::reason::ReachStep;
use sortie_model::spec::{Placement, Throttle};
use sortie_model::{JobSpec, NodeName, Reason, State, Timestamp, limits};

use crate::args::output::Look;
use crate::args::reach::Reach;
use crate::connect::{Connection, GOODBYE, connect_to_node_within};
use crate::exit::{Cause, Failures, Outcome, Rule};
use crate::failure::Failure;
use crate::own_node;
use crate::render::listing;
use crate::signals::Interrupts;
use crate::verbs::{show, unless_interrupted};

/// Where a process is to run.
enum Target {
    /// On the node that we talk to; its name, where nodes were named.
    Asked(Option<NodeName>),
    /// On that one.
    Other(Box<NodeView>),
}

/// Why a process does not run.
enum Fault {
    /// The system refused, for that reason.
    Start(Reason),
    /// The request failed.
    Request(Failure),
}

/// Starts the process wherever it is to run, and prints which processes that gave.
pub(super) async fn run(spec: JobSpec, reach: &Reach, look: &Look) -> Result<u8, Failure> {
    let mut interrupts = Interrupts::listen()?;
    let paths = own_node::home_paths()?;
    let connecting = async {
        let connection = Connection::open(reach).await?;
        let targets = targets(connection.client(), &spec).await?;
        Ok((connection, targets))
    };
    let (connection, targets) = unless_interrupted(connecting, &mut interrupts).await?;
    let count = targets.len();
    let mut done = Vec::with_capacity(count);
    let (client, spec_of_all) = (connection.client(), &spec);
    let starts = targets.into_iter().enumerate().map(|(place, target)| {
        let paths = &paths;
        async move { (place, start(client, paths, target, spec_of_all).await) }
    });
    let starting = async {
        let mut starts = stream::iter(starts).buffer_unordered(at_once(spec.throttle));
        while let Some(one) = starts.next().await {
            done.push(one);
        }
        Ok(())
    };
    let ended = unless_interrupted(starting, &mut interrupts).await;
    done.sort_by_key(|(place, _)| *place);
    let status = tell(done.into_iter().map(|(_, one)| one), &spec.command, look)?;
    ended.map_err(|interrupted| {
        interrupted.hint("on nodes that were not named it may have been started all the same")
    })?;
    connection.close().await;
    Ok(status)
}

/// Where the process is to run. What makes no sense is an error before anything is started, as it
/// is of a job.
async fn targets(client: &Client, spec: &JobSpec) -> Result<Vec<Target>, Failure> {
    let plan = client.session().dry_run(spec.clone()).await?;
    let Placement::Nodes { on, .. } = &spec.placement else { return Ok(vec![Target::Asked(None)]) };
    let views = client.nodes(Some(on.clone())).await?;
    let mut views: BTreeMap<_, _> =
        views.into_iter().map(|view| (view.name.clone(), view)).collect();
    let found = plan.nodes.iter().map(|name| {
        let gone = || {
            let message = format!("{name} is no member of the cluster any more");
            Failure::new(Cause::NotFound, ErrorCode::UnknownNode.as_str(), message)
        };
        let view = views.remove(name).ok_or_else(gone)?;
        Ok(match view.is_self {
            true => Target::Asked(Some(view.name)),
            false => Target::Other(Box::new(view)),
        })
    });
    found.collect()
}

fn at_once(throttle: Throttle) -> usize {
    let most = match throttle {
        Throttle::AtMost(most) => usize::try_from(most.get()).unwrap_or(usize::MAX),
        Throttle::Unlimited => usize::MAX,
    };
    most.min(limits::DETACHES_AT_ONCE)
}

/// Starts the process on one node; a fault comes with the node's name where nodes were named.
async fn start(
    asked: &Client,
    paths: &HomePaths,
    target: Target,
    spec: &JobSpec,
) -> Result<DetachedProcess, (Option<NodeName>, Fault)> {
    match target {
        Target::Asked(name) => {
            let started = asked.detach(spec_for(spec, Surroundings::Ours)).await;
            started.map_err(|error| (name, fault(error)))
        }
        Target::Other(node) => {
            let started = start_on(paths, &node, spec).await;
            started.map_err(|fault| (Some(node.name), fault))
        }
    }
}

async fn start_on(
    paths: &HomePaths,
    node: &NodeView,
    spec: &JobSpec,
) -> Result<DetachedProcess, Fault> {
    let time = spec.connect_timeout;
    let client = connect_to_node_within(paths, node, time).await.map_err(Fault::Request)?;
    let started = client.detach(spec_for(spec, Surroundings::TheNodes)).await;
    let _ = tokio::time::timeout(GOODBYE, client.close()).await;
    started.map_err(fault)
}

/// In whose environment and directory the process begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Surroundings {
    /// In ours, where the node is our own.
    Ours,
    /// In those of its node.
    TheNodes,
}

fn spec_for(spec: &JobSpec, surroundings: Surroundings) -> DetachSpec {
    let mut environment = spec.environment.clone();
    if surroundings == Surroundings::TheNodes {
        environment.inherited = None;
        environment.inherited_directory = None;
    }
    DetachSpec { body: spec.body.clone(), directory: spec.directory.clone(), environment }
}

/// What to do when a node is gone before it has answered.
const AFTER_A_LOSS: &str = "it may run all the same: the folder `detached` of that node's state \
                            has its log";

fn fault(error: DetachError) -> Fault {
    match error {
        DetachError::Spawn { step, errno } => Fault::Start(Reason::Spawn { step, errno }),
        DetachError::Nul(error) => Fault::Request(Failure::usage(error)),
        DetachError::Request(error) => {
            let failure = Failure::from(error);
            Fault::Request(match failure.cause {
                Cause::NodeLost => failure.hint(AFTER_A_LOSS),
                _ => failure,
            })
        }
        error => Fault::Request(Failure::internal(error)),
    }
}

/// Prints the processes, says what went wrong, and gives the exit status: that of a command that
/// could not be executed where it was the only one.
fn tell(
    done: impl Iterator<Item = Result<DetachedProcess, (Option<NodeName>, Fault)>>,
    command: &str,
    look: &Look,
) -> Result<u8, Failure> {
    let (mut processes, mut faults) = (Vec::new(), Vec::new());
    for one in done {
        match one {
            Ok(process) => processes.push(process),
            Err(fault) => faults.push(fault),
        }
    }
    let mut outcome = Outcome::default();
    processes.iter().for_each(|_| outcome.ends.add(State::Running, 1));
    // No bare titles where there is nothing but trouble to report.
    if faults.is_empty() || !processes.is_empty() || look.format().is_some() {
        show(&listing::detached(&processes), look)?;
    }
    for (node, fault) in faults {
        let of_node = node.map_or_else(String::new, |node| format!("{node}: "));
        match fault {
            Fault::Start(reason) => {
                outcome.ends.add_failure(&reason);
                let sentence = format_args!("{of_node}{reason}: {command}");
                look.error_style().notice(reason.code(), sentence);
            }
            Fault::Request(failure) => {
                match failure.cause {
                    Cause::NotReached => {
                        let step = ReachStep::Connect;
                        outcome.ends.add_failure(&Reason::Unreachable { step });
                    }
                    Cause::NodeLost => {
                        outcome.ends.add_failure(&Reason::NodeLost { since: Timestamp(0) });
                    }
                    cause => outcome.note(cause),
                }
                let message = format!("{of_node}{}", failure.message);
                Failure { message, ..failure }.report(look.error_style());
            }
        }
    }
    Ok(outcome.status(Rule::PassThrough, Failures::Count))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use sortie_model::reason::SpawnStep;

    use super::*;

    fn process() -> DetachedStart {
        let node = "a".parse().expect("a name");
        Ok(DetachedProcess { node, pid: 7, log: "/srv/7.log".into() })
    }

    type DetachedStart = Result<DetachedProcess, (Option<NodeName>, Fault)>;

    fn refused(errno: i32) -> DetachedStart {
        Err((None, Fault::Start(Reason::Spawn { step: SpawnStep::Exec, errno })))
    }

    fn failed(cause: Cause) -> DetachedStart {
        let node = "b".parse().expect("a name");
        Err((Some(node), Fault::Request(Failure::new(cause, "code", "a sentence"))))
    }

    fn check(done: Vec<DetachedStart>, status: u8) {
        let told = tell(done.into_iter(), "serve", &Look::default());
        assert_eq!(told, Ok(status));
    }

    #[test]
    fn a_single_start_has_its_own_status_and_several_that_of_the_table() {
        check(vec![process()], 0);
        check(vec![refused(2)], 127);
        check(vec![refused(13)], 126);
        check(vec![failed(Cause::NotReached)], 125);
        check(vec![failed(Cause::NodeLost)], 101);
        check(vec![failed(Cause::Usage)], 2);
        check(vec![refused(2), refused(2)], 100);
        check(vec![process(), refused(2), failed(Cause::NotReached)], 100);
        check(vec![process(), failed(Cause::NotReached)], 101);
        check(vec![failed(Cause::NotReached), failed(Cause::NotReached)], 125);
    }

    #[test]
    fn no_throttle_opens_more_connections_than_there_may_be() {
        assert_eq!(at_once(Throttle::Unlimited), limits::DETACHES_AT_ONCE);
        assert_eq!(at_once(Throttle::AtMost(NonZeroU32::MAX)), limits::DETACHES_AT_ONCE);
        assert_eq!(at_once(Throttle::AtMost(NonZeroU32::MIN)), 1);
    }
}
