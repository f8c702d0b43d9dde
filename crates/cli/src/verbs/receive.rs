//! `sortie receive`: take or read results.

use std::ffi::OsStr;
use std::time::Duration;

use sortie::{ReceiveEnd, ReceiveSpec, Session};
use sortie_model::JobSpec;
use sortie_model::nodeset::NodeExpr;
use sortie_model::selector::{Query, Selection, Selector};
use sortie_model::spec::{BodySpec, Placement};
use sortie_model::view::EntryView;

use tokio::time::Instant;

use crate::args::output::Look;
use crate::args::read::ReceiveArgs;
use crate::args::values::os_bytes;
use crate::ask::{Asked, Asker, report_deadlock};
use crate::connect::Connection;
use crate::deliver::{Acknowledge, Bring, Order, deliver};
use crate::exit::{Cause, Ends, Rule};
use crate::failure::Failure;
use crate::render::listing;
use crate::render::progress::Screen;
use crate::render::records::Events;
use crate::signals::Interrupts;
use crate::verbs::ran_out::{self, For};
use crate::verbs::results::{PlainExits, Shape, Style, check_format, conclude};
use crate::verbs::{
    Nothing, report_troubles, show, unless_interrupted, warn_of_the_unfinished, with_progress,
};

/// How long we look at what was named, when the time for more is over.
const LAST_LOOK: Duration = Duration::from_secs(2);

pub(super) async fn run(args: ReceiveArgs) -> Result<u8, Failure> {
    check_format(&args.look)?;
    let spec = args.spec()?;
    let mut interrupts = Interrupts::listen()?;
    let style = args.look.error_style();
    let connecting = async {
        match args.waits() {
            true => Connection::open_lasting(&args.reach, style).await,
            false => Connection::open(&args.reach).await,
        }
    };
    let connection = unless_interrupted(connecting, &mut interrupts).await?;
    let done = take(&args, spec, (connection.session(), interrupts)).await;
    let done = done.map_err(|failure| connection.explain(failure));
    // However it ended: what we have not confirmed is on offer again at once, and not only when
    // the node has noticed that we are gone.
    connection.close().await;
    done
}

async fn take(
    args: &ReceiveArgs,
    mut spec: ReceiveSpec,
    (session, mut interrupts): (Session, Interrupts),
) -> Result<u8, Failure> {
    // What no clock shows is no limit.
    let over = args.timeout.and_then(|time| Instant::now().checked_add(time));
    let mut breaks = Breaks { over, interrupts: &mut interrupts };
    let received = match breaks.unless(prepare(args, &mut spec, &session)).await {
        Ok(()) => receive(args, spec.clone(), (&session, &mut breaks)).await,
        Err(why) => Err(why),
    };
    let received = match received {
        Err(failure) if failure.cause == Cause::WaitRanOut => None,
        done => Some(done?),
    };
    let nothing = Nothing::of(args.verdict.allow_empty);
    let Some(end) = received else {
        let selection = spec.selection;
        // What names nothing is said even so; the end of the receive would have said it.
        let query = Query { selection, ..Query::default() };
        let looked = tokio::time::timeout(LAST_LOOK, session.get(query)).await;
        // A node that is gone has nothing to say.
        let entries = looked.ok().and_then(Result::ok).unwrap_or_default();
        let mut outcome = report_troubles(&entries, nothing, &args.look);
        // Of some streams alone it is not known whether they were received.
        let some = args.follow || !args.stream.is_empty();
        let what = if some { For::Ends } else { For::Records };
        ran_out::report(&entries, what, &args.look);
        outcome.note(Cause::WaitRanOut);
        return Ok(outcome.status(args.verdict.rule(Rule::Table), args.verdict.failures()));
    };
    let mut outcome = conclude(&end, nothing, PlainExits::Say, &args.look);
    report_deadlock(&end, (Asked::GoesOn, &args.look), &mut outcome);
    if args.wait {
        warn_of_the_unfinished(&end.entries, &args.look);
    }
    if !args.waits() {
        // The read worked; what the children did is another matter.
        outcome.ends = Ends::default();
    }
    Ok(outcome.status(args.verdict.rule(Rule::Table), args.verdict.failures()))
}

/// What comes before the receive.
async fn prepare(
    args: &ReceiveArgs,
    spec: &mut ReceiveSpec,
    session: &Session,
) -> Result<(), Failure> {
    if let Some(on) = &spec.on {
        warn_of_no_node(session, on, &args.look).await?;
    }
    if args.no_recurse {
        spec.selection = children_only(session, &spec.selection).await?;
    }
    if args.job_first {
        let query = Query { selection: spec.selection.clone(), ..Query::default() };
        show(&listing::entries(&session.get(query).await?, &args.look), &args.look)?;
    }
    Ok(())
}

/// Says so when no node matches; what else is wrong with the expression, the receive says.
async fn warn_of_no_node(session: &Session, on: &NodeExpr, look: &Look) -> Result<(), Failure> {
    // A plan resolves an expression, and touches no node.
    let body = BodySpec::Command { words: vec![os_bytes(OsStr::new("true"))?] };
    let placement = Placement::Nodes { on: on.clone(), exclude: None };
    let spec = JobSpec { placement, ..JobSpec::new("true".to_owned(), body) };
    match session.dry_run(spec).await.map_err(Failure::from) {
        Err(failure) if failure.cause == Cause::NothingMatches => {
            failure.report(look.error_style())
        }
        _ => {}
    }
    Ok(())
}

/// The end of the receive.
async fn receive(
    args: &ReceiveArgs,
    mut spec: ReceiveSpec,
    (session, breaks): (&Session, &mut Breaks<'_>),
) -> Result<ReceiveEnd, Failure> {
    let looking = shape(session, &spec.selection);
    let style = Style {
        look: &args.look,
        lines: args.lines,
        shape: breaks.unless(looking).await?,
        events: if args.events { Events::Say } else { Events::Omit },
    };
    spec.events = spec.events || (args.waits() && style.needs_ends_of_children());
    let lasts = args.waits() && style.shape != Shape::One;
    let screen = if lasts { Screen::of_stderr() } else { Screen::silent() };
    let sink = style.sink(&screen)?;
    let order = if args.waits() { Order::OfArrival } else { Order::ByChild };
    let selection = spec.selection.clone();
    let at_terminal = || Asker::at_terminal(session, &screen, Asked::GoesOn);
    let asker = if args.waits() { at_terminal() } else { None };
    spec.answers = asker.is_some();
    let receiving = async { Ok(session.receive(spec).await?) };
    let receiver = breaks.unless(receiving).await?;
    let bring = Bring { receiver, order, acknowledge: Acknowledge::WhenWritten, asker };
    let delivery = deliver(bring, sink, breaks.next());
    with_progress(session, &selection, &screen, delivery).await
}

/// What ends the receive before its end.
struct Breaks<'a> {
    /// When its time is over, if it ever is.
    over: Option<Instant>,
    interrupts: &'a mut Interrupts,
}

impl Breaks<'_> {
    /// Why it ends: its time is over, or we are interrupted.
    async fn next(&mut self) -> Failure {
        let time = async {
            match self.over {
                Some(over) => tokio::time::sleep_until(over).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = time => Failure::wait_ran_out(),
            () = self.interrupts.next() => Failure::interrupted("interrupted"),
        }
    }

    async fn unless<T>(
        &mut self,
        what: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            done = what => done,
            why = self.next() => Err(why),
        }
    }
}

/// Whose output will come, as far as the first children tell.
async fn shape(session: &Session, selection: &Selection) -> Result<Shape, Failure> {
    let query =
        Query { selection: selection.clone(), children: true, limit: 3, ..Query::default() };
    let mut job = None;
    let mut children = Vec::new();
    for entry in session.get(query).await?.entries {
        match entry {
            EntryView::Job(view) if job.is_none() && children.is_empty() => job = Some(view),
            EntryView::Job(_) => return Ok(Shape::Several),
            EntryView::Child(view) => children.push(view),
        }
    }
    let open = job.as_ref().is_some_and(|job| job.tally.open);
    let mapped = match (&job, children.first()) {
        // Of a map, the job shows the template and the child what became of it.
        (Some(job), Some(child)) => child.command != job.command,
        _ => false,
    };
    Ok(match children.len() {
        _ if open || (mapped && children.len() > 1) => Shape::Map,
        0 | 1 => Shape::One,
        _ => Shape::Several,
    })
}

/// The children that the selection names themselves: jobs have no records of their own.
async fn children_only(session: &Session, selection: &Selection) -> Result<Selection, Failure> {
    let query = Query { selection: selection.clone(), ..Query::default() };
    let entries = session.get(query).await?;
    let children = entries.entries.iter().filter_map(|entry| match entry {
        EntryView::Child(child) => Some(Selector::Id(child.id)),
        EntryView::Job(_) => None,
    });
    let mut children: Vec<Selector> = children.collect();
    // What names nothing stays, so that the receive says so.
    let missing = entries.troubles.iter().filter_map(|trouble| trouble.about.parse().ok());
    children.extend(missing);
    Ok(Selection::of(children))
}
