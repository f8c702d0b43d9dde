//! `sortie start`: start a job, print it, return at once.

use sortie::{Registry, Session, SessionOptions};
use sortie_model::selector::Query;

use crate::args::StartArgs;
use crate::args::output::{Look, Whose};
use crate::args::reach::Reach;
use crate::connect::Connection;
use crate::exit::Cause;
use crate::failure::Failure;
use crate::known_sessions::{self, Known};
use crate::own_node::{self, eprintln_quietly};
use crate::program::with_own_name;
use crate::render::clean::one_line;
use crate::render::progress::Screen;
use crate::signals::Interrupts;
use crate::verbs::submit::Submission;
use crate::verbs::{
    detach, interruptible, only, report_notes, show_job, unless_interrupted, with_progress,
};

pub(super) async fn run(args: StartArgs, registry: &Registry) -> Result<u8, Failure> {
    let submission = Submission::prepare(&args.work, &args.command.words, &args.reach)?;
    if args.dry_run {
        let plan = async {
            let connection = Connection::open_with(&args.reach, registry).await?;
            submission.show_plan(&connection.session(), &args.look).await
        };
        return interruptible(plan).await;
    }
    if args.detached {
        return detach::run(submission.spec, &args.reach, &args.look).await;
    }
    if args.detached_session {
        // Of a session of its own only the identity means something by itself.
        let look = Look { whose: Whose::Others, ..args.look };
        return start_apart(submission, &args.reach, &look).await;
    }
    interruptible(start(submission, &args.reach, &args.look)).await
}

/// Starts the job in a session of its own, which waits for whoever connects.
async fn start_apart(submission: Submission, reach: &Reach, look: &Look) -> Result<u8, Failure> {
    let mut interrupts = Interrupts::listen()?;
    let (paths, style) = (own_node::home_paths()?, look.error_style());
    let opening = async {
        let connection = Connection::open(reach).await?;
        // What makes no sense is said before there is a session.
        connection.client().session().dry_run(submission.spec.clone()).await?;
        Ok(connection)
    };
    let connection = unless_interrupted(opening, &mut interrupts).await?;
    let session = connection.client().open_session(SessionOptions::default()).await?;
    let nothing = || Failure::internal("the node opened a session and did not show it");
    let view = session.view_at_start().cloned().ok_or_else(nothing)?;
    // Before there is a job: whatever becomes of us, the user knows where it is.
    if let Some(node) = &reach.node {
        known_sessions::note(&paths, connection.client(), &Known::of(&view, node), style).await;
    }
    let (name, node) = (one_line(&view.name), &view.node);
    say(&format!(
        "session {name} on {node} keeps the output: `sortie session connect {name}`, from \
         elsewhere with `--node {node}`"
    ));
    let submitting = submit(submission, &session, look);
    let done = unless_interrupted(submitting, &mut interrupts).await;
    let parting = async {
        match done {
            Ok(()) => session.disconnect().await.map(drop).map_err(Failure::from),
            // Who comes sees what became of the job.
            Err(failure) if failure.cause == Cause::Interrupted && has_jobs(&session).await => {
                session.disconnect().await.map_err(Failure::from).and(Err(failure))
            }
            Err(failure) => {
                // What the job had is not half there.
                if session.close().await.is_ok() {
                    known_sessions::forget(&paths, &[view.instance], style).await;
                    say(&format!("session {name} on {node} is closed again"));
                }
                Err(failure)
            }
        }
    };
    let parted = unless_interrupted(parting, &mut interrupts).await;
    drop(session);
    connection.close().await;
    parted.map(|()| 0)
}

/// Whether something was started in it, as far as its node says.
async fn has_jobs(session: &Session) -> bool {
    let any = Query { limit: 1, ..Query::default() };
    session.get(any).await.is_ok_and(|found| found.total > 0)
}

fn say(sentence: &str) {
    eprintln_quietly(&format!("sortie: {}", with_own_name(sentence)));
}

/// Starts the job, stores its input, prints it.
pub(super) async fn start(
    submission: Submission,
    reach: &Reach,
    look: &Look,
) -> Result<u8, Failure> {
    if reach.embedded.is_some() {
        return Err(Failure::usage("what is started with `--embedded` would end with the command")
            .hint("`sortie invoke --embedded N` waits for it"));
    }
    let connection = Connection::open_lasting(reach, look.error_style()).await?;
    let submitted = submit(submission, &connection.session(), look).await;
    submitted.map_err(|failure| connection.explain(failure))?;
    connection.close().await;
    Ok(0)
}

async fn submit(submission: Submission, session: &Session, look: &Look) -> Result<(), Failure> {
    let map = submission.is_map();
    let (view, feed) = submission.start(session).await?;
    let fed = with_progress(session, &only(&view), &Screen::of_stderr(), feed.run()).await;
    // The job exists, also where its input turned out to make no sense half-way.
    show_job(&view, look)?;
    fed?;
    if map {
        // While the input was stored, nodes may have turned out to be unreachable.
        let query = Query { selection: only(&view), ..Query::default() };
        report_notes(&session.get(query).await?, look);
    }
    Ok(())
}
