//! Row 12: the memory of a node that does nothing, of its guardian, and of each connection of a
//! client. The limit is a process with a bare quinn endpoint, and each of its connections.

use std::process::ExitCode;

use sortie_benches::peer::BarePeer;
use sortie_benches::proc_figures::{children, proportional_bytes, resident_bytes};
use sortie_benches::{Bound, NodeProcess, Options, Outcome, Row, run};

const CONNECTIONS: usize = 200;

fn main() -> ExitCode {
    run(scenario)
}

async fn scenario(_: Options) -> Outcome<Vec<Row>> {
    let node = NodeProcess::start("idle")?;
    let peer = BarePeer::start()?;
    // A first client, so that what is made once is not counted as a connection's.
    let _first = (node.client().await?, peer.dial().await?);
    let [daemon, bare] = [resident_bytes(node.pid())?, resident_bytes(peer.pid())?];
    let mut guardian = 0.0;
    for child in children(node.pid())? {
        guardian += proportional_bytes(child)?;
    }
    let mut held = (Vec::new(), Vec::new());
    for _ in 0..CONNECTIONS {
        let client = node.client().await?;
        client.ping(None).await?;
        held.0.push(client);
        held.1.push(peer.dial().await?);
    }
    let each = |now: f64, before: f64| (now - before) / CONNECTIONS as f64 / 1e3;
    let link = each(resident_bytes(node.pid())?, daemon);
    let connection = each(resident_bytes(peer.pid())?, bare);
    drop(held);
    Ok(vec![
        Row::new(12, "memory of an idle node", "MB", daemon / 1e6)
            .limit(bare / 1e6)
            .bound(Bound::AtMost(25.0)),
        Row::new(12, "memory of its guardian, unshared", "MB", guardian / 1e6),
        Row::new(12, "memory of a client's connection", "KB", link).limit(connection),
    ])
}
