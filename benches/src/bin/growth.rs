//! Row 15: whether a child costs the same among few and among very many, and on few and on many
//! nodes. The limit of each row is the cost at the smaller count.

use std::process::ExitCode;
use std::time::Instant;

use sortie::{Node, Session};
use sortie_benches::cluster::with_tasks;
use sortie_benches::measure::quantile;
use sortie_benches::{Bound, Cluster, Options, Outcome, Row, Size, run, work};
use tokio::task::JoinSet;

/// Children of each measurement of many nodes.
const SPREAD: u64 = 20_000;

fn main() -> ExitCode {
    run(scenario)
}

async fn scenario(options: Options) -> Outcome<Vec<Row>> {
    let mut rows = by_children(options.size).await?;
    rows.extend(by_nodes().await?);
    Ok(rows)
}

async fn by_children(size: Size) -> Outcome<Vec<Row>> {
    let counts: &[(u64, usize)] = match size {
        Size::Usual => &[(1_000, 40), (10_000, 10), (100_000, 3)],
        Size::Full => &[(1_000, 40), (10_000, 10), (100_000, 3), (1_000_000, 1)],
    };
    let cluster = Cluster::start(2).await?;
    let (session, nodes) = (cluster.session(), cluster.everywhere());
    // Both sides are warm then.
    cost(&session, &nodes, 10_000).await?;
    let (mut rows, mut smallest) = (Vec::new(), None);
    for (count, rounds) in counts {
        let mut costs = Vec::new();
        for _ in 0..*rounds {
            costs.push(cost(&session, &nodes, *count).await?);
        }
        let ours = quantile(costs, 0.5);
        let row = Row::new(15, format!("a function's cost among {count}, 2 nodes"), "us", ours);
        rows.push(row.limit(*smallest.get_or_insert(ours)).bound(Bound::TimesLimit(1.3)));
    }
    cluster.end().await;
    Ok(rows)
}

async fn by_nodes() -> Outcome<Vec<Row>> {
    let (mut rows, mut smallest) = (Vec::new(), None);
    for count in [1, 10, 100] {
        let begin = Instant::now();
        let nodes = embedded(count).await?;
        let starting = begin.elapsed().as_secs_f64() * 1e3 / count as f64;
        let session = nodes.first().ok_or("no node")?.session();
        let mut costs = Vec::new();
        for _ in 0..4 {
            costs.push(cost(&session, "*", SPREAD).await?);
        }
        let ours = quantile(costs.split_off(1), 0.5);
        let row =
            Row::new(15, format!("a function's cost, {count} nodes in a process"), "us", ours);
        rows.push(row.limit(*smallest.get_or_insert(ours)));
        rows.push(Row::new(15, format!("start of each of {count} nodes"), "ms", starting));
        let mut ends = JoinSet::new();
        for node in nodes {
            ends.spawn(async move { node.shut_down().await });
        }
        ends.join_all().await;
    }
    Ok(rows)
}

/// Microseconds for each of so many functions with one result.
async fn cost(session: &Session, nodes: &str, count: u64) -> Outcome<f64> {
    let begin = Instant::now();
    let job = session.task_map("answer", 0..count).unthrottled().on(nodes)?.start().await?;
    let results = work::sum(&job).await?;
    let taken = begin.elapsed().as_secs_f64();
    work::same("results", results, (count, (0..count).sum()))?;
    job.remove().await?;
    Ok(taken * 1e6 / count as f64)
}

/// Nodes in this process, linked by QUIC on loopback.
async fn embedded(count: usize) -> Outcome<Vec<Node>> {
    let first = with_tasks(Node::builder("node1").without_processes()).start().await?;
    let mut nodes = vec![first.clone()];
    for number in 2..=count {
        let builder = with_tasks(Node::builder(format!("node{number}")).without_processes());
        nodes.push(builder.join(&first).start().await?);
    }
    Ok(nodes)
}
