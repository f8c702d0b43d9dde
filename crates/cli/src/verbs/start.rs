//! `sortie start`: start a job, print it, return at once.

use crate::args::StartArgs;
use crate::args::output::Look;
use crate::args::reach::Reach;
use crate::connect::Connection;
use crate::failure::Failure;
use crate::render::progress::Screen;
use crate::verbs::submit::Submission;
use crate::verbs::{only, show_job, with_progress};

pub(super) async fn run(args: StartArgs) -> Result<u8, Failure> {
    let submission = Submission::prepare(&args.work, &args.command.words, &args.reach)?;
    if args.dry_run {
        let connection = Connection::open(&args.reach).await?;
        return submission.show_plan(&connection.session(), &args.look).await;
    }
    start(submission, &args.reach, &args.look).await
}

/// Starts the job, stores its input, prints it.
pub(super) async fn start(
    submission: Submission,
    reach: &Reach,
    look: &Look,
) -> Result<u8, Failure> {
    let connection = Connection::open(reach).await?;
    let session = connection.session();
    let (view, feed) = submission.start(&session).await?;
    with_progress(&session, &only(&view), &Screen::of_stderr(), feed.run()).await?;
    show_job(&view, look)?;
    connection.close().await;
    Ok(0)
}
