//! The verbs: one verb, one file, and what they share.

mod cluster;
mod completions;
mod detach;
mod doctor;
mod enter;
mod explain;
mod get;
mod invoke;
mod node;
mod paused;
mod ran_out;
mod receive;
mod remove;
mod results;
mod send;
mod session;
mod start;
mod stop;
mod submit;
mod suspend;
mod throttle;
mod tree;
mod wait;
mod watch;

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use sortie::answer::Entries;
use sortie::{Registry, Session, StandardStream, began_without};
use sortie_model::selector::{Query, Selection, Selector};
use sortie_model::view::{EntryView, Tally};
use sortie_model::{JobView, Motion, State, limits};

use crate::args::output::Look;
use crate::args::{Cli, Verb};
use crate::exit::{Cause, Ends, Failures, Outcome, Rule};
use crate::failure::{ErrorStyle, Failure, cause_of};
use crate::logging::{Unasked, log_to_stderr};
use crate::own_node;
use crate::render::listing;
use crate::render::out::print;
use crate::render::progress::Screen;
use crate::render::sheet::Sheet;
use crate::settle::settle;
use crate::several::{in_each, several};
use crate::signals::Interrupts;

/// Does what was asked, reports what went wrong, and says with which status to exit.
pub(crate) fn perform(cli: Cli, registry: &Registry) -> u8 {
    let style = error_style(&cli.verb);
    own_node::say_in(style);
    let done = cli.verb.check_columns().and_then(|()| match cli.verb {
        verb if prints(&verb) && began_without(StandardStream::Output) => Err(Failure::no_output()),
        Verb::Completions { shell } => completions::run(shell),
        Verb::Node(crate::args::nodes::NodeVerb::Run(args)) => node::run(*args, registry),
        verb => on_a_runtime(verb, registry),
    });
    match done {
        Ok(status) => status,
        Err(failure) => {
            failure.report(style);
            failure.cause.status()
        }
    }
}

/// Whether the verb has something to say on our standard output.
const fn prints(verb: &Verb) -> bool {
    use crate::args::nodes::NodeVerb;

    !matches!(
        verb,
        Verb::Send(_) | Verb::Node(NodeVerb::Run(_) | NodeVerb::Stop(_) | NodeVerb::Restart(_))
    )
}

/// A client needs one thread; nodes in our process want more.
fn on_a_runtime(verb: Verb, registry: &Registry) -> Result<u8, Failure> {
    log_to_stderr(Unasked::Nothing);
    let runtime = if hosts_nodes(&verb) { multi_thread() } else { single_thread() };
    let runtime = runtime?;
    let done = runtime.block_on(dispatch(verb, registry));
    // A read of our standard input may never end.
    runtime.shutdown_background();
    done
}

fn single_thread() -> Result<tokio::runtime::Runtime, Failure> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|error| Failure::internal(format_args!("cannot start: {error}")))
}

fn multi_thread() -> Result<tokio::runtime::Runtime, Failure> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    // Tokio's own variable stands where somebody set it.
    if std::env::var_os("TOKIO_WORKER_THREADS").is_none() {
        builder.worker_threads(sortie::node_threads());
    }
    let built = builder.enable_all().build();
    built.map_err(|error| Failure::internal(format_args!("cannot start: {error}")))
}

const fn hosts_nodes(verb: &Verb) -> bool {
    match verb {
        Verb::Start(args) => args.reach.embedded.is_some(),
        Verb::Invoke(args) => args.reach.embedded.is_some(),
        Verb::Get(args) => args.reach.embedded.is_some(),
        Verb::Tree(args) => args.reach.embedded.is_some(),
        _ => false,
    }
}

async fn dispatch(mut verb: Verb, registry: &Registry) -> Result<u8, Failure> {
    let style = error_style(&verb);
    let meant = match verb.reach_mut() {
        Some(reach) => interruptible(several(reach, style)).await?,
        None => None,
    };
    match meant {
        None => in_one_session(verb, registry).await,
        Some(meant) => {
            in_each(&verb, &meant, style, async |one| in_one_session(one, registry).await).await
        }
    }
}

async fn in_one_session(mut verb: Verb, registry: &Registry) -> Result<u8, Failure> {
    let style = error_style(&verb);
    let named = match verb.reach_mut() {
        Some(reach) => interruptible(settle(reach, style)).await?,
        None => None,
    };
    let there = verb.reach_mut().cloned().unwrap_or_default();
    if let Some(look) = verb.look_mut() {
        look.whose = there.whose();
        look.reach = there.clone();
    }
    let done = carry_out(verb, registry).await.map_err(|failure| failure.there(&there));
    match (done, named) {
        (Err(failure), Some(named)) => Err(named.explain(failure).await),
        (done, _) => done,
    }
}

async fn carry_out(verb: Verb, registry: &Registry) -> Result<u8, Failure> {
    match verb {
        // They have something to do when they are interrupted; the other verbs just end.
        Verb::Invoke(args) => invoke::run(*args, registry).await,
        Verb::Enter(args) => enter::run(*args, registry).await,
        Verb::Start(args) => start::run(*args, registry).await,
        Verb::Get(args) => interruptible(get::run(*args)).await,
        Verb::Receive(args) => receive::run(*args).await,
        Verb::Logs(mut args) => {
            args.keep = true;
            receive::run(*args).await
        }
        Verb::Wait(args) => interruptible(wait::run(*args)).await,
        Verb::Stop(args) => interruptible(stop::run(*args)).await,
        Verb::Kill(mut args) => {
            args.now = true;
            interruptible(stop::run(*args)).await
        }
        Verb::Suspend(args) => interruptible(suspend::run(*args, Motion::Suspended)).await,
        Verb::Resume(args) => interruptible(suspend::run(*args, Motion::Running)).await,
        Verb::Remove(args) => interruptible(remove::run(*args)).await,
        Verb::Send(args) => interruptible(send::run(*args)).await,
        Verb::Throttle(args) => interruptible(throttle::run(*args)).await,
        Verb::Explain(args) => interruptible(explain::run(*args)).await,
        Verb::Tree(args) => interruptible(tree::run(*args)).await,
        Verb::Watch(args) => interruptible(watch::run(*args)).await,
        Verb::Node(verb) => interruptible(node::ask(verb, registry)).await,
        Verb::Cluster(verb) => interruptible(cluster::run(verb)).await,
        Verb::Session(verb) => interruptible(session::run(verb)).await,
        Verb::Doctor(args) => interruptible(doctor::run(*args)).await,
        Verb::Completions { shell } => completions::run(shell),
    }
}

async fn interruptible<T>(what: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let mut interrupts = Interrupts::listen()?;
    tokio::select! {
        done = what => done,
        () = interrupts.next() => Err(Failure::interrupted("interrupted")),
    }
}

/// The same for who listens already.
async fn unless_interrupted<T>(
    what: impl Future<Output = Result<T, Failure>>,
    interrupts: &mut Interrupts,
) -> Result<T, Failure> {
    tokio::select! {
        done = what => done,
        () = interrupts.next() => Err(Failure::interrupted("interrupted")),
    }
}

pub(crate) fn error_style(verb: &Verb) -> ErrorStyle {
    match verb.look() {
        Some(look) => look.error_style(),
        None if matches!(verb, Verb::Watch(_)) => ErrorStyle::Json,
        None => ErrorStyle::Text,
    }
}

/// Whether an id or a name that matches nothing is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nothing {
    /// It is.
    Fails,
    /// It is not (`--allow-empty`).
    Passes,
}

impl Nothing {
    pub(crate) const fn of(allow_empty: bool) -> Self {
        if allow_empty { Self::Passes } else { Self::Fails }
    }
}

/// Reports what could not be done, and notes what that means for the exit status.
fn report_troubles(entries: &Entries, nothing: Nothing, look: &Look) -> Outcome {
    let mut outcome = Outcome::default();
    for trouble in &entries.troubles {
        let cause = cause_of(trouble.error.code);
        if nothing == Nothing::Passes && cause == Cause::NotFound {
            continue;
        }
        look.report(Failure::of_trouble(trouble));
        outcome.note(cause);
    }
    outcome
}

/// Says what the user should know of these jobs, such as a node that a map goes on without.
fn report_notes(entries: &Entries, look: &Look) {
    for entry in &entries.entries {
        let EntryView::Job(job) = entry else { continue };
        for note in &job.notes {
            look.error_style().notice("note", format_args!("job {}: {note}", job.id));
        }
    }
}

/// Says of what somebody waited for that it is settled, and not finished.
fn warn_of_the_unfinished(entries: &Entries, look: &Look) {
    for entry in &entries.entries {
        let (id, state) = (entry.id(), entry.state());
        if matches!(state, State::Disconnected | State::Suspended) {
            let text = format_args!("{id} is {state}, not finished; `--force` waits on");
            look.error_style().notice("not_finished", text);
        }
    }
}

/// Prints the entries and reports the troubles; the status of a verb that only lists.
fn finish_list(entries: &Entries, nothing: Nothing, look: &Look) -> Result<u8, Failure> {
    show_entries(entries, look)?;
    let outcome = report_troubles(entries, nothing, look);
    Ok(outcome.status(Rule::Table, Failures::Count))
}

/// Prints entries; no bare titles where there is nothing but trouble to report.
fn show_entries(entries: &Entries, look: &Look) -> Result<(), Failure> {
    let only_trouble = entries.entries.is_empty() && !entries.troubles.is_empty();
    if only_trouble && look.format().is_none() {
        return Ok(());
    }
    show(&listing::entries(entries, look), look)
}

/// Prints a list.
fn show(sheet: &Sheet, look: &Look) -> Result<(), Failure> {
    print(&sheet.render(&look.wanted(), look.table())?)
}

/// Prints one job: an object of its own in JSON, a list of one elsewhere.
fn show_job(view: &JobView, look: &Look) -> Result<(), Failure> {
    use crate::render::json;
    use crate::render::sheet::Format;

    if look.format() == Some(Format::Json) && !look.quiet {
        return print(&format!("{}\n", json::document("job", json::job(view))));
    }
    let entries = vec![EntryView::Job(view.clone())];
    let entries = Entries { entries, total: 1, troubles: Vec::new() };
    show(&listing::entries(&entries, look), look)
}

/// The selection of one job.
fn only(view: &JobView) -> Selection {
    Selection::of([Selector::Instance(view.instance.0)])
}

/// Does something that may last, with a progress line about these jobs where somebody sees it.
async fn with_progress<T>(
    session: &Session,
    selection: &Selection,
    screen: &Screen,
    what: impl Future<Output = T>,
) -> T {
    let done = tokio::select! {
        done = what => done,
        done = watch_progress(session, selection, screen) => match done {},
    };
    screen.retire();
    done
}

/// Time between two looks at how far jobs are.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Shows how far these jobs are, for ever.
async fn watch_progress(session: &Session, selection: &Selection, screen: &Screen) -> Infallible {
    if !screen.is_watched() {
        return std::future::pending().await;
    }
    loop {
        tokio::time::sleep(LOOK_AGAIN).await;
        let query = Query { selection: selection.clone(), ..Query::default() };
        if let Ok(entries) = session.get(query).await {
            screen.show(&sum(&entries));
        }
    }
}

/// How far all of these jobs are.
fn sum(entries: &Entries) -> Tally {
    let mut sum = Tally::default();
    for entry in &entries.entries {
        if let EntryView::Job(job) = entry {
            sum.open = sum.open || job.tally.open;
            for (all, of_job) in sum.by_state.iter_mut().zip(job.tally.by_state) {
                *all = all.saturating_add(of_job);
            }
        }
    }
    sum
}

/// How these entries ended. Why children failed is asked for where the entries do not say it.
async fn ends_of(session: &Session, entries: &Entries) -> Result<Ends, Failure> {
    let mut ends = Ends::default();
    let mut failed = Vec::new();
    for entry in &entries.entries {
        match entry {
            EntryView::Child(child) => match &child.reason {
                Some(reason) => ends.add_failure(reason),
                None => ends.add(child.state, 1),
            },
            EntryView::Job(job) => {
                ends.add_job(job);
                if job.tally.of(State::Failed) > 0 {
                    failed.push(Selector::Instance(job.instance.0));
                }
            }
        }
    }
    if !failed.is_empty() {
        note_reasons(session, Selection::of(failed), &mut ends).await?;
    }
    Ok(ends)
}

/// Notes why the children of these jobs failed, page by page.
async fn note_reasons(
    session: &Session,
    selection: Selection,
    ends: &mut Ends,
) -> Result<(), Failure> {
    let mut query = Query {
        selection,
        child_states: vec![State::Failed],
        limit: limits::PAGE_MOST as u32,
        ..Query::default()
    };
    loop {
        let page = session.get(query.clone()).await?;
        let count = page.entries.len() as u64;
        for entry in &page.entries {
            if let EntryView::Child(child) = entry
                && let Some(reason) = &child.reason
            {
                ends.note_failure(reason);
            }
        }
        query.offset = query.offset.saturating_add(count);
        if count == 0 || query.offset >= page.total {
            return Ok(());
        }
    }
}
