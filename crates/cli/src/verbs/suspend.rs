//! `sortie suspend` and `sortie resume`: make jobs and children stand still, and let them go on.

use sortie::ErrorCode;
use sortie::answer::{Entries, SuspendReturns, Trouble};
use sortie_model::view::EntryView;
use sortie_model::{Motion, State};

use crate::args::output::Look;
use crate::args::reach::Reach;
use crate::args::suspend::SuspendArgs;
use crate::connect::Connection;
use crate::exit::{Cause, Failures, Rule};
use crate::failure::Failure;
use crate::own_node::eprintln_quietly;
use crate::program::with_own_name;
use crate::verbs::{Nothing, report_troubles, show_entries};

pub(super) async fn run(args: SuspendArgs, motion: Motion) -> Result<u8, Failure> {
    let returns = if args.no_wait { SuspendReturns::AtOnce } else { SuspendReturns::WhenDone };
    let selection = args.pick.selection()?;
    let connection = Connection::open(&args.reach).await?;
    let session = connection.session();
    let entries = match motion {
        Motion::Suspended => session.suspend(selection, returns).await?,
        Motion::Running => session.resume(selection, returns).await?,
    };
    connection.close().await;
    let (warnings, entries) = without_warnings(entries);
    show_entries(&entries, &args.look)?;
    warn(&warnings, &args.look);
    let mut outcome = report_troubles(&entries, Nothing::of(args.allow_empty), &args.look);
    if returns == SuspendReturns::WhenDone && say_what_is_on_its_way(&entries, motion, &args.reach)
    {
        outcome.note(Cause::WaitRanOut);
    }
    Ok(outcome.status(Rule::Table, Failures::Count))
}

/// Takes out what is no error: entries for which there was nothing to do.
fn without_warnings(mut entries: Entries) -> (Vec<Trouble>, Entries) {
    let nothing = [ErrorCode::NotRunning, ErrorCode::NotSuspended];
    let is_warning = |trouble: &Trouble| nothing.contains(&trouble.error.code);
    let (warnings, troubles) = entries.troubles.into_iter().partition(is_warning);
    entries.troubles = troubles;
    (warnings, entries)
}

fn warn(warnings: &[Trouble], look: &Look) {
    for Trouble { error, .. } in warnings {
        look.error_style().notice("warning", format_args!("warning: {}", error.message));
    }
}

/// The state in which an entry is still, or something of a job that goes on as a whole.
fn still(entry: &EntryView, is_on_its_way: impl Fn(State) -> bool) -> Option<State> {
    let own = Some(entry.state()).filter(|state| is_on_its_way(*state));
    let EntryView::Job(job) = entry else { return own };
    let of_children = || {
        let states = [State::Suspending, State::Suspended].into_iter();
        states.filter(|state| is_on_its_way(*state)).find(|state| job.tally.of(*state) > 0)
    };
    own.or_else(of_children)
}

/// Says which entries do not yet do what they were told; whether there are any.
fn say_what_is_on_its_way(entries: &Entries, motion: Motion, reach: &Reach) -> bool {
    let is_on_its_way = |state: State| match motion {
        Motion::Suspended => state == State::Suspending,
        Motion::Running => matches!(state, State::Suspending | State::Suspended),
    };
    let mut any = false;
    for entry in &entries.entries {
        let Some(state) = still(entry, is_on_its_way) else { continue };
        any = true;
        let id = match entry {
            EntryView::Job(job) if job.state != state => {
                format!("of {} something", job.id)
            }
            _ => entry.id().to_string(),
        };
        let hint = match motion {
            Motion::Suspended => {
                let command = reach.there(format!("sortie explain {}", entry.id()));
                format!("`{command}` says what it waits for")
            }
            Motion::Running => "it goes on when its node can be reached".to_owned(),
        };
        let sentence = format!("{id} is {state} still: {hint}");
        eprintln_quietly(&format!("sortie: {}", with_own_name(&sentence)));
    }
    any
}
