//! `sortie throttle`: change how many children of a job may be in progress.

use crate::args::ThrottleArgs;
use crate::connect::Connection;
use crate::failure::Failure;
use crate::own_node::eprintln_quietly;
use crate::verbs::{Nothing, finish_list};

pub(super) async fn run(args: ThrottleArgs) -> Result<u8, Failure> {
    let selection = args.pick.selection()?;
    let connection = Connection::open(&args.reach).await?;
    let entries = connection.session().set_throttle(selection, args.throttle).await?;
    connection.close().await;
    for entry in entries.entries.iter().filter(|entry| entry.state().is_finished()) {
        let (id, state) = (entry.id(), entry.state());
        eprintln_quietly(&format!("sortie: {id} is {state}: its throttle changes nothing"));
    }
    finish_list(&entries, Nothing::of(args.allow_empty), &args.look)
}
