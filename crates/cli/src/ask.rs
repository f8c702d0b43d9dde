//! What children ask, at the terminal: the prompt on stderr, and the line that is typed as the
//! answer. Where nobody sits at a terminal a question is a deadlock, which is said.

use std::collections::{HashSet, VecDeque};
use std::io::BufRead;
use std::sync::{Arc, Mutex, PoisonError};

use sortie::{Question, ReceiveEnd, Session};
use sortie_model::EntryId;
use sortie_model::selector::{Query, Selection, Selector};
use sortie_model::view::EntryView;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use crate::args::output::Look;
use crate::exit::{Cause, Outcome};
use crate::failure::{ErrorStyle, Failure};
use crate::render::clean::one_line;
use crate::render::progress::{Screen, Typed};
use crate::render::sink::Channel;
use crate::terminal::somebody_at_terminal;

/// A person at a terminal, who answers.
pub(crate) struct Asker {
    waiting: Arc<Waiting>,
    asking: JoinHandle<Failure>,
}

impl Asker {
    /// The person at our terminal, if there is one: both our standard input and our standard error
    /// are one.
    pub(crate) fn at_terminal(session: &Session, screen: &Screen, asked: Asked) -> Option<Self> {
        somebody_at_terminal().then(|| {
            let waiting = Arc::<Waiting>::default();
            let asking = Asking {
                session: session.clone(),
                screen: screen.clone(),
                asked,
                to_ask: Arc::clone(&waiting),
            };
            Self { waiting, asking: tokio::spawn(asking.ask_all()) }
        })
    }

    /// Asks what the child asks then, when it is its turn.
    pub(crate) fn ask(&self, child: EntryId) {
        self.waiting.add(child);
    }

    /// Why nobody answers any more. Cancel safe.
    pub(crate) async fn failed(&mut self) -> Failure {
        let gone = || Failure::internal("what asks at the terminal is gone");
        (&mut self.asking).await.unwrap_or_else(|_| gone())
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.asking.abort();
    }
}

/// The children whose questions wait for their turn, each once: at most as many as are in progress.
/// What they ask is looked at when it is their turn, so nobody is asked what is over by then.
#[derive(Debug, Default)]
struct Waiting {
    children: Mutex<(VecDeque<EntryId>, HashSet<EntryId>)>,
    more: Notify,
}

impl Waiting {
    fn add(&self, child: EntryId) {
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        let (in_order, known) = &mut *children;
        if known.insert(child) {
            in_order.push_back(child);
            self.more.notify_one();
        }
    }

    async fn next(&self) -> EntryId {
        loop {
            {
                let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
                let (in_order, known) = &mut *children;
                if let Some(child) = in_order.pop_front() {
                    known.remove(&child);
                    return child;
                }
            }
            self.more.notified().await;
        }
    }
}

/// What the task that asks at the terminal works with.
struct Asking {
    session: Session,
    screen: Screen,
    asked: Asked,
    to_ask: Arc<Waiting>,
}

impl Asking {
    /// Asks one after the other, until nobody types or the node is gone.
    async fn ask_all(self) -> Failure {
        let Self { session, screen, asked, to_ask } = self;
        let mut lines = None;
        loop {
            let child = to_ask.next().await;
            let question = match question_of(&session, child).await {
                Ok(Some(question)) => question,
                // Somebody else has answered, or the child asks no more.
                Ok(None) => continue,
                Err(failure) => return failure,
            };
            screen.ask(format!("{child} asks: {} ", one_line(&question.prompt)));
            let line = lines.get_or_insert_with(typed_lines).recv().await;
            screen.answered(if line.is_some() { Typed::Line } else { Typed::Nothing });
            let Some(line) = line else { return unanswered(child, &question.prompt, asked) };
            let failure = match line {
                Err(failure) => failure,
                Ok(line) => {
                    let number = Some(question.number);
                    let answered = session.answer(Selector::Id(child), number, &line).await;
                    let Err(error) = answered else { continue };
                    error.into()
                }
            };
            if failure.cause == Cause::NodeLost {
                // Where the connection comes back, the question does, too; else the look at it
                // fails.
                to_ask.add(child);
                continue;
            }
            if failure.cause != Cause::Usage && failure.code != "limit" {
                return failure;
            }
            screen.aside(Channel::Err, true, || failure.report(ErrorStyle::Text));
            // What could not be its answer leaves it asking; if somebody else was faster, it does
            // not.
            to_ask.add(child);
        }
    }
}

/// The lines that are typed, without their ends. The thread that reads ends with the program at the
/// latest.
fn typed_lines() -> mpsc::Receiver<Result<String, Failure>> {
    let (sender, lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().split(b'\n') {
            let Ok(mut line) = line else { return };
            line.pop_if(|last| *last == b'\r');
            let no_text = |_| Failure::usage("what was typed is no UTF-8 text");
            if sender.blocking_send(String::from_utf8(line).map_err(no_text)).is_err() {
                return;
            }
        }
    });
    lines
}

/// Where a job lives whose question nobody has answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// It goes on, and can be answered later.
    GoesOn,
    /// It ends with this command.
    EndsWithUs,
}

/// Says which child asks what, if that is why the receive ended.
pub(crate) fn report_deadlock(
    end: &ReceiveEnd,
    (asked, look): (Asked, &Look),
    outcome: &mut Outcome,
) {
    let Some(deadlock) = &end.deadlock else { return };
    let failure = match &deadlock.asks {
        Some((child, question)) => unanswered(*child, &question.prompt, asked),
        // It was answered meanwhile, by somebody else.
        None => Failure::new(Cause::Deadlock, "deadlock", deadlock),
    };
    look.report(failure);
    outcome.note(Cause::Deadlock);
}

fn unanswered(child: EntryId, prompt: &str, asked: Asked) -> Failure {
    let message = format!("nobody answers: {child} asks: {prompt}");
    Failure::new(Cause::Deadlock, "deadlock", message).hint(match asked {
        Asked::GoesOn => format!("`sortie send {child} TEXT` answers"),
        Asked::EndsWithUs => "its job ends with this command: answer at a terminal, or start it \
                              with `--as-job` and answer with `sortie send`"
            .to_owned(),
    })
}

/// What that child asks now. It need not be known as blocked yet.
async fn question_of(session: &Session, child: EntryId) -> Result<Option<Question>, Failure> {
    let query =
        Query { selection: Selection::of([Selector::Id(child)]), limit: 1, ..Query::default() };
    let entries = session.get(query).await?.entries;
    Ok(entries.into_iter().find_map(|entry| match entry {
        EntryView::Child(child) => child.question,
        EntryView::Job(_) => None,
    }))
}
