//! Requests about the node itself and its cluster.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use sortie_model::nodeset::NodeExpr;
use sortie_model::view::NodeState;
use sortie_model::{NodeName, NodeView, limits};
use sortie_wire::link_proto::Member;
use sortie_wire::session_proto::{Answer, Ask, Check, Diagnosis};
use sortie_wire::{ErrorCode, RemoteError};

use crate::data::stay::Asker;
use crate::node::NodeShared;
use crate::serve::{detach, refuse};

/// How long `node get` waits for a node that it has no link to.
const LOOK: Duration = Duration::from_secs(2);
/// The answer to who ends the node goes out first; the links are closed after it.
const BEFORE_THE_END: Duration = Duration::from_millis(50);
/// A clock that differs by more is worth a word.
const CLOCK_TOLERANCE_MICROS: u64 = 30_000_000;

pub(super) async fn answer(node: &Arc<NodeShared>, by: &Asker, ask: Ask) -> Answer {
    let answered = match ask {
        Ask::Sessions => {
            Ok(Answer::Sessions(node.sessions.all().iter().map(|one| one.view(by)).collect()))
        }
        Ask::Nodes { expression } => nodes(node, expression.as_ref()).await.map(Answer::Nodes),
        Ask::Ping { node: name } => ping(node, name).await,
        Ask::LeaveNode if node.store.is_none() => {
            let text = "this node has no home, so nothing of it can outlive it";
            Err(RemoteError::new(ErrorCode::Usage, text).hint("`sortie node stop` ends it"))
        }
        end @ (Ask::StopNode | Ask::LeaveNode) => {
            let node = Arc::clone(node);
            tokio::spawn(async move {
                tokio::time::sleep(BEFORE_THE_END).await;
                match end {
                    Ask::LeaveNode => node.leave().await,
                    _ => node.shut_down().await,
                }
            });
            Ok(Answer::Done)
        }
        Ask::SetLabels { node: name, labels } => match node.set_labels(&name, &labels) {
            Ok(()) => nodes(node, Some(&NodeExpr::node(&name))).await.map(Answer::Nodes),
            Err(error) => Err(error),
        },
        Ask::ClusterInit { advertise } => {
            node.advertise(advertise).and_then(|()| node.token()).map(Answer::Token)
        }
        Ask::ClusterToken => node.token().map(Answer::Token),
        Ask::ClusterJoin { address, token } => match node.join(&address, &token).await {
            Ok(()) => nodes(node, None).await.map(Answer::Nodes),
            Err(error) => Err(error),
        },
        Ask::Detach(spec) => detach::answer(node, *spec).await,
        Ask::Diagnose => Ok(Answer::Diagnosis(Box::new(diagnose(node).await))),
        _ => Err(RemoteError::new(ErrorCode::Usage, "no node can answer that")),
    };
    answered.unwrap_or_else(refuse)
}

async fn nodes(
    node: &Arc<NodeShared>,
    expression: Option<&NodeExpr>,
) -> Result<Vec<NodeView>, RemoteError> {
    let all = NodeExpr::all();
    let names = node.names_of(expression.unwrap_or(&all))?;
    let members: Vec<Member> = {
        let membership = node.membership();
        names.iter().filter_map(|name| membership.by_name(name)).cloned().collect()
    };
    Ok(join_all(members.into_iter().map(|member| view(node, member))).await)
}

async fn view(node: &Arc<NodeShared>, member: Member) -> NodeView {
    let is_self = member.node == node.me.id;
    let mut view = NodeView {
        name: member.name,
        id: member.node,
        incarnation: None,
        address: member.address,
        state: NodeState::Alive,
        labels: member.labels,
        version: None,
        running: node.running_on(member.node),
        is_self,
    };
    if is_self {
        view.incarnation = Some(node.me.incarnation);
        view.version = Some(env!("CARGO_PKG_VERSION").to_owned());
        return view;
    }
    match node.reach(member.node, LOOK).await {
        Ok(link) => {
            let sight = node.sights.get(member.node);
            view.state = sight.map_or(NodeState::Alive, |sight| sight.state);
            view.incarnation = Some(link.facts().incarnation);
            view.version = Some(link.facts().program.clone());
        }
        Err(_) => {
            let sight = node.sights.get(member.node);
            view.state = sight.map_or(NodeState::Lost, |sight| sight.state);
        }
    }
    if view.state == NodeState::Lost {
        // What was said to run there may; nobody knows of any that does.
        view.running = 0;
    }
    view
}

async fn ping(node: &Arc<NodeShared>, name: Option<NodeName>) -> Result<Answer, RemoteError> {
    let own = node.me.name();
    let name = name.unwrap_or_else(|| own.clone());
    if name == own {
        return Ok(Answer::Pong { node: own, round_trip: None });
    }
    let id = node.membership().by_name(&name).map(|member| member.node);
    let id = id.ok_or_else(|| {
        let text = format!("no node is called `{name}`");
        RemoteError::new(ErrorCode::UnknownNode, text).hint("`sortie node get` lists the nodes")
    })?;
    let link = node.reach(id, limits::CONNECT_TIME).await.map_err(|(step, text)| {
        RemoteError::new(ErrorCode::Unreachable, format!("{name}: {step}: {text}"))
    })?;
    Ok(Answer::Pong { node: name, round_trip: Some(link.stats().round_trip) })
}

async fn diagnose(node: &Arc<NodeShared>) -> Diagnosis {
    let guardian = node.guardians.current();
    let containment = guardian.as_ref().map_or_else(
        || "this node hosts no processes".to_owned(),
        |guardian| guardian.containment().to_string(),
    );
    let mut checks = vec![match &guardian {
        Some(guardian) if guardian.is_alive() => match node.guardians.holds_back() {
            None if node.guardians.lacks_room() => {
                let text = "starts nothing of what outlives it: the disk has no room left";
                check("guardian", false, text.to_owned())
            }
            None if let Some(process) = guardian.stopped() => {
                let text = format!(
                    "stopped: no process starts, and none is heard; `kill -CONT {process}` wakes it"
                );
                check("guardian", false, text)
            }
            None => check("guardian", true, "running".to_owned()),
            Some(why) => check("guardian", false, format!("it reads no output: {why}")),
        },
        Some(_) => check(
            "guardian",
            false,
            "gone, and none can be launched: the node's log says why".to_owned(),
        ),
        None => check("guardian", false, "this node hosts no processes".to_owned()),
    }];
    if let Some(store) = &node.store {
        let version = store.journal().version();
        checks.push(if store.journal().is_open() {
            check("journal", true, format!("takes what sessions keep, version {version}"))
        } else {
            let advice = "what becomes of jobs is not kept: free the disk, restart this node";
            check("journal", false, format!("it failed, and {advice}"))
        });
    }
    match node.groups() {
        Ok(_) => checks.push(check("groups", true, "can be read".to_owned())),
        Err(error) => checks.push(check("groups", false, error.to_string())),
    }
    let members = node.membership().members().to_vec();
    let others = members.into_iter().filter(|member| member.node != node.me.id);
    checks.extend(join_all(others.map(|member| check_member(node, member))).await);
    Diagnosis {
        node: node.me.name(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        clock: node.world.now(),
        containment,
        checks,
    }
}

async fn check_member(node: &Arc<NodeShared>, member: Member) -> Check {
    let name = format!("node {}", member.name);
    match node.reach(member.node, limits::CONNECT_TIME).await {
        Err((step, text)) => check(&name, false, format!("{step}: {text}")),
        Ok(link) => {
            let facts = link.facts();
            if facts.clock_skew.unsigned_abs() > CLOCK_TOLERANCE_MICROS {
                let seconds = facts.clock_skew / 1_000_000;
                return check(&name, false, format!("its clock differs by {seconds} s: set it"));
            }
            let own = env!("CARGO_PKG_VERSION");
            let skew = if facts.program == own { "" } else { ", another version than this node's" };
            check(&name, true, format!("reached, version {}{skew}", facts.program))
        }
    }
}

fn check(name: &str, ok: bool, finding: String) -> Check {
    Check { name: name.to_owned(), ok, finding }
}
