//! `sortie get`: list jobs and children.

use sortie_model::limits;
use sortie_model::selector::Query;

use crate::args::GetArgs;
use crate::connect::Connection;
use crate::failure::Failure;
use crate::own_node::eprintln_quietly;
use crate::verbs::{Nothing, finish_list, paused};

pub(super) async fn run(args: GetArgs) -> Result<u8, Failure> {
    let query = query(&args)?;
    let connection = Connection::open(&args.reach).await?;
    let entries = connection.session().get(query).await?;
    connection.close().await;
    let status = finish_list(&entries, Nothing::of(args.allow_empty), &args.look)?;
    paused::report(&entries, &args.look);
    let shown = args.offset.saturating_add(entries.entries.len() as u64);
    if shown < entries.total && !entries.entries.is_empty() {
        eprintln_quietly(&format!(
            "sortie: {} of {} shown; `--offset {shown}` shows more",
            entries.entries.len(),
            entries.total
        ));
    }
    Ok(status)
}

fn query(args: &GetArgs) -> Result<Query, Failure> {
    if args.limit == 0 || args.limit as usize > limits::PAGE_MOST {
        return Err(Failure::usage(format_args!("`--limit` is 1 to {}", limits::PAGE_MOST)));
    }
    Ok(Query {
        selection: args.pick.selection()?,
        children: args.children,
        child_states: args.child_state.clone(),
        has_more_data: args.has_more_data,
        before: args.before,
        after: args.after,
        newest: args.newest,
        limit: args.limit,
        offset: args.offset,
    })
}
