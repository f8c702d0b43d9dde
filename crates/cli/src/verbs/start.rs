//! `sortie start`: start a job, print it, return at once.

use sortie::Registry;
use sortie_model::selector::Query;

use crate::args::StartArgs;
use crate::args::output::Look;
use crate::args::reach::Reach;
use crate::connect::Connection;
use crate::failure::Failure;
use crate::render::progress::Screen;
use crate::verbs::submit::Submission;
use crate::verbs::{only, report_notes, show_job, with_progress};

pub(super) async fn run(args: StartArgs, registry: &Registry) -> Result<u8, Failure> {
    let submission = Submission::prepare(&args.work, &args.command.words, &args.reach)?;
    if args.dry_run {
        let connection = Connection::open_with(&args.reach, registry).await?;
        return submission.show_plan(&connection.session(), &args.look).await;
    }
    start(submission, &args.reach, &args.look, registry).await
}

/// Starts the job, stores its input, prints it.
pub(super) async fn start(
    submission: Submission,
    reach: &Reach,
    look: &Look,
    registry: &Registry,
) -> Result<u8, Failure> {
    let connection = Connection::open_with(reach, registry).await?;
    let session = connection.session();
    let map = submission.is_map();
    let (view, feed) = submission.start(&session).await?;
    let fed = with_progress(&session, &only(&view), &Screen::of_stderr(), feed.run()).await;
    // The job exists, also where its input turned out to make no sense half-way.
    show_job(&view, look)?;
    fed?;
    if map {
        // While the input was stored, nodes may have turned out to be unreachable.
        let query = Query { selection: only(&view), ..Query::default() };
        report_notes(&session.get(query).await?, look);
    }
    connection.close().await;
    Ok(0)
}
