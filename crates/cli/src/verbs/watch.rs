//! `sortie watch`: one JSON object for each event, until we are interrupted.

use crate::args::WatchArgs;
use crate::connect::Connection;
use crate::failure::Failure;
use crate::render::json;
use crate::render::out::print;

pub(super) async fn run(args: WatchArgs) -> Result<u8, Failure> {
    let selection = args.pick.selection()?;
    let connection = Connection::open(&args.reach).await?;
    let mut happenings = connection.session().watch(selection).await?;
    while let Some(happening) = happenings.next().await? {
        print(&format!("{}\n", json::happening(&happening)))?;
    }
    connection.close().await;
    Ok(0)
}
