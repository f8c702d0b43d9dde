//! `sortie wait`: until jobs are settled.

use sortie::{WaitCount, WaitSpec};

use crate::args::WaitArgs;
use crate::connect::Connection;
use crate::exit::{Cause, Rule};
use crate::failure::Failure;
use crate::render::progress::Screen;
use crate::verbs::{
    Nothing, ends_of, paused, ran_out, report_notes, report_troubles, show_entries,
    warn_of_the_unfinished, with_progress,
};

pub(super) async fn run(args: WaitArgs) -> Result<u8, Failure> {
    let spec = WaitSpec {
        selection: args.pick.selection()?,
        count: match (args.any, args.count) {
            (true, _) => WaitCount::Any,
            (false, Some(count)) => WaitCount::AtLeast(count),
            (false, None) => WaitCount::All,
        },
        finished: args.force,
        timeout: args.timeout,
    };
    let connection = Connection::open_lasting(&args.reach, args.look.error_style()).await?;
    let session = connection.session();
    let (selection, screen) = (spec.selection.clone(), Screen::of_stderr());
    let waiting = async {
        tokio::select! {
            waited = session.wait(spec) => waited,
            never = paused::watch(&session, &selection, &args.look) => match never {},
        }
    };
    let waited = with_progress(&session, &selection, &screen, waiting).await;
    let waited = waited.map_err(|error| connection.explain(error))?;
    let nothing = Nothing::of(args.verdict.allow_empty);
    let mut outcome = report_troubles(&waited.entries, nothing, &args.look);
    if waited.timed_out {
        connection.close().await;
        ran_out::report(&waited.entries, ran_out::For::Ends, &args.look);
        outcome.note(Cause::WaitRanOut);
        return Ok(outcome.status(args.verdict.rule(Rule::Table), args.verdict.failures()));
    }
    outcome.ends = ends_of(&session, &waited.entries).await?;
    connection.close().await;
    show_entries(&waited.entries, &args.look)?;
    warn_of_the_unfinished(&waited.entries, &args.look);
    report_notes(&waited.entries, &args.look);
    Ok(outcome.status(args.verdict.rule(Rule::Table), args.verdict.failures()))
}
