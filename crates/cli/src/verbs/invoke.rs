//! `sortie invoke`: run a command, stream its output, exit with its outcome.

use std::time::Duration;

use sortie::answer::{StopReturns, Unfinished};
use sortie::{ErrorCode, ReceiveEnd, ReceiveMode, ReceiveSpec, Registry, Session};
use sortie_model::JobView;
use sortie_model::selector::Query;
use sortie_model::spec::StopSpec;
use sortie_model::view::EntryView;
use tokio::sync::oneshot;

use crate::args::invoke::InvokeArgs;
use crate::ask::{Asked, Asker, report_deadlock};
use crate::connect::Connection;
use crate::deliver::{Acknowledge, Bring, Order, deliver};
use crate::exit::{Cause, Rule};
use crate::failure::Failure;
use crate::feed::Feed;
use crate::keyboard::Keyboard;
use crate::own_node::eprintln_quietly;
use crate::render::progress::Screen;
use crate::render::records::Events;
use crate::render::sink::Channel;
use crate::signals::Interrupts;
use crate::terminal::RawMode;
use crate::verbs::results::{PlainExits, Shape, Style, check_format, conclude};
use crate::verbs::submit::Submission;
use crate::verbs::{Nothing, only, start, unless_interrupted, watch_progress};

pub(super) async fn run(mut args: InvokeArgs, registry: &Registry) -> Result<u8, Failure> {
    if args.attach {
        args.work.stdin = Some("-".into());
    }
    if args.tty {
        // Nobody at a terminal waits for what its last program left behind.
        args.work.drain.get_or_insert(Duration::ZERO);
    }
    let mut submission = Submission::prepare(&args.work, &args.command.words, &args.reach)?;
    if args.tty {
        if args.work.reads_stdin() {
            return Err(Failure::usage("our standard input can be read by one option only"));
        }
        submission = submission.on_terminal(Keyboard::open(args.terminal, "`invoke -t`")?);
    }
    let mut interrupts = Interrupts::listen()?;
    if args.dry_run {
        let plan = async {
            let connection = Connection::open_with(&args.reach, registry).await?;
            submission.show_plan(&connection.session(), &args.look).await
        };
        return unless_interrupted(plan, &mut interrupts).await;
    }
    if args.returns_job() {
        if args.lines.gather {
            let text = "`--gather` is about output, and this returns the job at once";
            return Err(Failure::usage(text).hint("`sortie receive JOB --wait --gather` shows it"));
        }
        let start = start::start(submission, &args.reach, &args.look);
        return unless_interrupted(start, &mut interrupts).await;
    }
    let is_temporary = args.reach.session.is_none() || args.reach.embedded.is_some();
    if args.work.open.is_for_send() && is_temporary {
        return Err(Failure::usage("nobody could write to the open input of this command")
            .hint("`--as-job` returns the job, for `sortie send`; `-i` passes our own input on"));
    }
    if args.work.key.is_some() && is_temporary {
        return Err(Failure::usage(
            "`--key` is remembered by a session, and this one ends with us",
        )
        .hint("`sortie start --key` leaves the job in one that lasts"));
    }
    check_format(&args.look)?;
    // In a session that lasts the job goes on when the connection breaks, and so do we.
    let lasts = !is_temporary && !args.tty && !args.work.reads_stdin();
    let connecting = async {
        match lasts {
            true => Connection::open_lasting(&args.reach, args.look.error_style()).await,
            false => Connection::open_with(&args.reach, registry).await,
        }
    };
    let connection = unless_interrupted(connecting, &mut interrupts).await?;
    foreground(connection, submission, &args, interrupts).await
}

/// Runs the job there, up to its end.
pub(super) async fn foreground(
    connection: Connection,
    submission: Submission,
    args: &InvokeArgs,
    mut interrupts: Interrupts,
) -> Result<u8, Failure> {
    let (map, reads_stdin) = (submission.is_map(), args.work.reads_stdin() || args.tty);
    let start = async {
        let session = connection.foreground_session().await?;
        let (view, feed) = submission.start(&session).await?;
        Ok((session, view, feed))
    };
    let done = match unless_interrupted(start, &mut interrupts).await {
        Ok((session, view, feed)) => {
            let (session, view) = (&session, &view);
            let run = Run { session, view, args, map, reads_stdin };
            let done = run.to_the_end(feed, &mut interrupts).await;
            let done = done.map_err(|failure| connection.explain(failure).after_a_start());
            // In a temporary session everything ends with the connection.
            match connection.is_session_named() {
                true => run.clear_away(done, &mut interrupts).await,
                false => done.map_err(Failure::in_a_temporary_session),
            }
        }
        Err(failure) if failure.cause == Cause::Interrupted && connection.is_session_named() => {
            Err(failure.hint("the job may have begun: `sortie get` says so"))
        }
        Err(failure) => Err(connection.explain(failure)),
    };
    connection.close().await;
    done
}

/// The signal that says that a terminal is gone.
const HANG_UP: StopSpec = StopSpec { signal: 1, grace: None };

async fn told_to_quit(raw: Option<&mut RawMode>) {
    match raw {
        Some(raw) => raw.told_to_quit().await,
        None => std::future::pending().await,
    }
}

/// A job in the foreground.
struct Run<'a> {
    session: &'a Session,
    view: &'a JobView,
    args: &'a InvokeArgs,
    map: bool,
    /// Whether our standard input is the job's.
    reads_stdin: bool,
}

impl Run<'_> {
    async fn to_the_end(&self, feed: Feed, interrupts: &mut Interrupts) -> Result<u8, Failure> {
        let mut raw = self.args.tty.then(RawMode::begin).transpose()?;
        let screen = if raw.is_some() { Screen::silent() } else { Screen::of_stderr() };
        let style = self.style();
        let sink = style.sink(&screen)?;
        let at_terminal = || Asker::at_terminal(self.session, &screen, Asked::EndsWithUs);
        let asker = if self.reads_stdin { None } else { at_terminal() };
        let spec = ReceiveSpec {
            events: style.needs_ends_of_children(),
            answers: asker.is_some(),
            ..ReceiveSpec::new(only(self.view), ReceiveMode::TakeUntil { finished: true })
        };
        let (give_up, given_up) = oneshot::channel();
        let mut give_up = Some(give_up);
        let delivery = async {
            let receiver = self.session.receive(spec).await?;
            let (order, acknowledge) = (Order::OfArrival, Acknowledge::WhenTaken);
            let given_up = async {
                match given_up.await {
                    Ok(failure) => failure,
                    Err(_) => std::future::pending().await,
                }
            };
            deliver(Bring { receiver, order, acknowledge, asker }, sink, given_up).await
        };
        let feeding = feed.run();
        let selection = only(self.view);
        let progress = watch_progress(self.session, &selection, &screen);
        tokio::pin!(delivery, feeding, progress);
        let mut fed = None;
        let mut stops = Stops::default();
        let end = loop {
            tokio::select! {
                end = &mut delivery => break end,
                done = &mut feeding, if fed.is_none() => match done {
                    // Nobody is at the terminal any more.
                    Err(failure) if raw.is_some() => break Err(failure),
                    done => fed = Some(done),
                },
                () = interrupts.next() => {
                    if let Err(failure) = self.stop(stops.next(), &screen) {
                        match give_up.take() {
                            Some(give_up) => drop(give_up.send(failure)),
                            None => break Err(failure),
                        }
                    }
                }
                () = told_to_quit(raw.as_mut()) => break Err(Failure::interrupted("told to quit")),
                never = &mut progress => match never {},
            }
        };
        if raw.take().is_some() && end.is_err() {
            // Whatever was shown last, what follows begins a line.
            eprintln_quietly("");
        }
        screen.retire();
        let problem = fed.and_then(Result::err);
        self.conclude(&end?, stops, problem)
    }

    /// Removes the job from a session that lasts. What the command came to stands, whatever becomes
    /// of that.
    async fn clear_away(
        &self,
        done: Result<u8, Failure>,
        interrupts: &mut Interrupts,
    ) -> Result<u8, Failure> {
        let id = self.view.id;
        let others = [ErrorCode::SessionTaken, ErrorCode::SessionBusy].map(ErrorCode::as_str);
        if let Err(failure) = &done
            && others.contains(&failure.code)
        {
            // It is another client's now.
            let becomes = match self {
                Self { args, .. } if args.tty => "ends with its terminal",
                Self { reads_stdin: true, .. } => "fails, unless it had all of our standard input",
                _ => "goes on in it",
            };
            let message = format!("{}; job {id} {becomes}", failure.message);
            return Err(Failure { message, ..failure.clone() });
        }
        let is_read = done.is_ok();
        let removed = async {
            if is_read && self.has_more_data().await? {
                return Ok(Removed::Stays);
            }
            self.session.remove(only(self.view), Unfinished::StopFirst).await?;
            Ok(Removed::Yes)
        };
        let removed = unless_interrupted(removed, interrupts).await;
        if let Ok(Removed::Stays) = removed {
            let style = self.args.look.error_style();
            style.notice("note", format_args!("job {id} stays: another reader has records of it"));
        }
        match (done, removed) {
            (Ok(_), Err(failure)) if failure.cause == Cause::Interrupted => Err(failure),
            (Ok(status), Err(failure)) => {
                let message = format!("job {id} is not removed: {}", failure.message);
                Failure { message, ..failure }.report(self.args.look.error_style());
                Ok(status)
            }
            (done, _) => done,
        }
    }

    /// Whether there is anything that we did not take.
    async fn has_more_data(&self) -> Result<bool, Failure> {
        let query = Query { selection: only(self.view), ..Query::default() };
        let there = self.session.get(query).await?;
        Ok(there.entries.iter().any(|entry| match entry {
            EntryView::Job(job) => job.has_more_data,
            EntryView::Child(child) => child.has_more_data,
        }))
    }

    fn style(&self) -> Style<'_> {
        let alone = self.view.tally.total() == 1 && !self.view.tally.open;
        let shape = match (self.map, alone) {
            (true, _) => Shape::Map,
            (false, true) => Shape::One,
            (false, false) => Shape::Several,
        };
        let Self { args, .. } = self;
        Style { look: &args.look, lines: args.lines, shape, events: Events::Omit }
    }

    /// Stops the job on all nodes, without waiting for it: its end comes with its results.
    fn stop(&self, stop: Stop, screen: &Screen) -> Result<(), Failure> {
        let how = match stop {
            // A shell at a terminal heeds nothing else.
            Stop::Ask if self.args.tty => HANG_UP,
            Stop::Ask => StopSpec::default(),
            Stop::Kill => StopSpec::NOW,
            Stop::GiveUp => return Err(Failure::interrupted("interrupted; the job may run on")),
        };
        let message = match stop {
            Stop::Ask => "sortie: stopping on all nodes; once more kills at once",
            _ => "sortie: killing on all nodes",
        };
        if !self.args.tty {
            screen.aside(Channel::Err, true, || eprintln_quietly(message));
        }
        let (session, selection) = (self.session.clone(), only(self.view));
        // Whether it arrived shows in the states that the delivery ends with. One that waits is
        // told again where the connection breaks, and we do not wait for it.
        let when = StopReturns::WhenFinished;
        drop(tokio::spawn(async move { session.stop(selection, how, when).await }));
        Ok(())
    }

    fn conclude(
        &self,
        end: &ReceiveEnd,
        stops: Stops,
        problem: Option<Failure>,
    ) -> Result<u8, Failure> {
        let Self { args, .. } = self;
        let nothing = Nothing::of(args.verdict.allow_empty);
        let mut outcome = conclude(end, nothing, PlainExits::PassOn, &args.look);
        report_deadlock(end, (Asked::EndsWithUs, &args.look), &mut outcome);
        if let Some(problem) = problem {
            problem.report(args.look.error_style());
            outcome.note(problem.cause);
        }
        if stops.asked {
            outcome.note(Cause::Interrupted);
        }
        Ok(outcome.status(args.verdict.rule(Rule::PassThrough), args.verdict.failures()))
    }
}

/// What became of the job of a command that is over.
enum Removed {
    Yes,
    /// Its session keeps what somebody has not read.
    Stays,
}

/// How often we were told to end.
#[derive(Debug, Clone, Copy, Default)]
struct Stops {
    asked: bool,
    killed: bool,
}

/// What the next interruption does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Ask,
    Kill,
    GiveUp,
}

impl Stops {
    const fn next(&mut self) -> Stop {
        match (self.asked, self.killed) {
            (false, _) => {
                self.asked = true;
                Stop::Ask
            }
            (true, false) => {
                self.killed = true;
                Stop::Kill
            }
            (true, true) => Stop::GiveUp,
        }
    }
}
