//! `sortie throttle`: change how many children of a job may be in progress.

use crate::args::ThrottleArgs;
use crate::connect::Connection;
use crate::failure::Failure;
use crate::verbs::{Nothing, finish_list};

pub(super) async fn run(args: ThrottleArgs) -> Result<u8, Failure> {
    let selection = args.pick.selection()?;
    let connection = Connection::open(&args.reach).await?;
    let entries = connection.session().set_throttle(selection, args.throttle).await?;
    connection.close().await;
    finish_list(&entries, Nothing::of(args.allow_empty), &args.look)
}
