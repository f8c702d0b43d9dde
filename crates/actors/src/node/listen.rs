//! What arrives at a node: links of other nodes, links of users, joins.

use std::sync::Arc;

use sortie_link::{Arrival, Arrivals, Peer};

use crate::data::stay::Asker;
use crate::data::traffic;
use crate::node::NodeShared;

/// Takes what arrives until the node ends.
pub(super) async fn run(node: Arc<NodeShared>, mut arrivals: Arrivals) {
    let mut over = node.over.subscribe();
    loop {
        let arrival = tokio::select! {
            biased;
            _ = over.wait_for(|over| *over) => None,
            arrival = arrivals.next() => arrival,
        };
        let Some(arrival) = arrival else { return };
        match arrival {
            Arrival::Join(exchange) => {
                tokio::spawn(Arc::clone(&node).on_join(exchange));
            }
            Arrival::Link(link, control) => match link.peer().clone() {
                Peer::Node { id, .. } => node.link_arrived(id, link, control).await,
                Peer::User { name, key } => {
                    let by = Asker { name, key };
                    tokio::spawn(traffic::serve_user(Arc::clone(&node), by, (link, control)));
                }
            },
        }
    }
}
