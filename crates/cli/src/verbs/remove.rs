//! `sortie remove`: forget finished jobs and what is left of their results.

use sortie::answer::Unfinished;

use crate::args::RemoveArgs;
use crate::connect::Connection;
use crate::failure::Failure;
use crate::verbs::{Nothing, finish_list};

pub(super) async fn run(args: RemoveArgs) -> Result<u8, Failure> {
    let unfinished = if args.force { Unfinished::StopFirst } else { Unfinished::Refuse };
    let selection = args.pick.selection()?;
    let connection = Connection::open(&args.reach).await?;
    let entries = connection.session().remove(selection, unfinished).await?;
    connection.close().await;
    finish_list(&entries, Nothing::of(args.allow_empty), &args.look)
}
