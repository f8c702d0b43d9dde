//! `sortie cluster`: several nodes that trust each other.

use serde_json::json;
use sortie::answer::JoinOffer;

use crate::args::nodes::ClusterVerb;
use crate::args::output::Look;
use crate::args::reach::Reach;
use crate::connect::Connection;
use crate::failure::Failure;
use crate::program;
use crate::render::clean::one_line;
use crate::render::json::SCHEMA;
use crate::render::out::print;
use crate::render::sheet::Format;
use crate::render::{listing, yaml};
use crate::verbs::show;

pub(super) async fn run(verb: ClusterVerb) -> Result<u8, Failure> {
    let connection = Connection::open(&Reach::default()).await?;
    let client = connection.client();
    match verb {
        ClusterVerb::Init { advertise, look } => {
            show_offer(&client.cluster_init(advertise).await?, &look)?;
        }
        ClusterVerb::Token { look } => show_offer(&client.cluster_token().await?, &look)?,
        ClusterVerb::Join { address, token, look } => {
            let nodes = client.cluster_join(address, token).await?;
            show(&listing::nodes(&nodes), &look)?;
        }
        ClusterVerb::Status { look } => {
            show(&listing::nodes(&client.nodes(None).await?), &look)?;
        }
    }
    connection.close().await;
    Ok(0)
}

/// The line to paste on the machine that is to join.
fn show_offer(offer: &JoinOffer, look: &Look) -> Result<(), Failure> {
    let document = json!({ "schema": SCHEMA, "address": offer.address, "token": offer.token });
    print(&match look.format() {
        Some(Format::Json | Format::Ndjson) => format!("{document}\n"),
        Some(Format::Yaml) => yaml::to_yaml(&document),
        _ if look.quiet => format!("{}\n", one_line(&offer.token)),
        _ => format!(
            "{} cluster join {} --token {}\n",
            program::name(),
            one_line(&offer.address),
            one_line(&offer.token)
        ),
    })
}
