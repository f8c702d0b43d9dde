//! `sortie session get`.

use crate::args::nodes::SessionVerb;
use crate::connect::Connection;
use crate::failure::Failure;
use crate::render::listing;
use crate::verbs::show;

pub(super) async fn run(verb: SessionVerb) -> Result<u8, Failure> {
    let SessionVerb::Get { reach, look } = verb;
    let connection = Connection::open(&reach).await?;
    let sessions = connection.client().sessions().await?;
    connection.close().await;
    show(&listing::sessions(&sessions), &look)?;
    Ok(0)
}
