//! `sortie stop`: end jobs and children, with grace.

use sortie::answer::{Entries, StopReturns};
use sortie_model::spec::StopSpec;
use sortie_model::view::EntryView;

use crate::args::StopArgs;
use crate::args::reach::Reach;
use crate::connect::Connection;
use crate::exit::{Cause, Failures, Rule};
use crate::failure::Failure;
use crate::own_node::eprintln_quietly;
use crate::program::own_command;
use crate::render::progress::Screen;
use crate::verbs::{Nothing, report_troubles, show_entries, with_progress};

pub(super) async fn run(args: StopArgs) -> Result<u8, Failure> {
    let how =
        if args.now { StopSpec::NOW } else { StopSpec { signal: args.signal, grace: args.grace } };
    let returns = if args.no_wait { StopReturns::AtOnce } else { StopReturns::WhenFinished };
    let selection = args.pick.selection()?;
    let connection = Connection::open_lasting(&args.reach, args.look.error_style()).await?;
    let (session, screen) = (connection.session(), Screen::of_stderr());
    let stop = session.stop(selection.clone(), how, returns);
    let entries = with_progress(&session, &selection, &screen, stop).await;
    let entries = entries.map_err(|error| connection.explain(error))?;
    connection.close().await;
    show_entries(&entries, &args.look)?;
    let mut outcome = report_troubles(&entries, Nothing::of(args.allow_empty), &args.look);
    say_what_is_pending(&entries, returns, &args.reach);
    let unfinished = entries.entries.iter().any(|entry| !entry.state().is_finished());
    if unfinished && returns == StopReturns::WhenFinished {
        outcome.note(Cause::WaitRanOut);
    }
    Ok(outcome.status(Rule::Table, Failures::Count))
}

/// So many lines are said of what is not finished; of the rest, how many it is.
const LINES_SAID: usize = 10;

fn say_what_is_pending(entries: &Entries, returns: StopReturns, reach: &Reach) {
    let mut unfinished = 0;
    for entry in &entries.entries {
        if let EntryView::Job(job) = entry
            && !job.stop_pending.is_empty()
        {
            let nodes: Vec<&str> = job.stop_pending.iter().map(|node| node.as_str()).collect();
            let whose = if nodes.len() == 1 { "its" } else { "their" };
            eprintln_quietly(&format!(
                "sortie: job {}: {} cannot be reached now; the stop waits for {whose} return",
                job.id,
                crate::render::fold::fold(nodes)
            ));
        } else if returns == StopReturns::WhenFinished && !entry.state().is_finished() {
            unfinished += 1;
            if unfinished <= LINES_SAID {
                eprintln_quietly(&format!("sortie: {} is {} still", entry.id(), entry.state()));
            }
        }
    }
    if unfinished > LINES_SAID {
        let more = unfinished - LINES_SAID;
        let command = own_command(&reach.there("sortie get".to_owned()));
        eprintln_quietly(&format!("sortie: {more} more are not finished: `{command}` shows them"));
    }
}
