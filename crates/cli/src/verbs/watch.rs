//! `sortie watch`: one JSON object for each event, until we are interrupted.

use crate::args::WatchArgs;
use crate::connect::Connection;
use crate::failure::{ErrorStyle, Failure};
use crate::render::json;
use crate::render::out::print;

pub(super) async fn run(args: WatchArgs) -> Result<u8, Failure> {
    let selection = args.pick.selection()?;
    let connection = Connection::open_lasting(&args.reach, ErrorStyle::Json).await?;
    let mut happenings = connection.session().watch(selection).await?;
    let lost = |error| connection.explain(error);
    while let Some(happening) = happenings.next().await.map_err(lost)? {
        print(&format!("{}\n", json::happening(&happening)))?;
    }
    connection.close().await;
    Ok(0)
}
