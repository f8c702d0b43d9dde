//! `sortie send`: answer a child that asks, or write to the open input of a command.

use bytes::Bytes;
use sortie::{Arrived, Child, ErrorCode, RequestError, SendError, Session};
use sortie_model::limits;
use sortie_model::selector::{Query, Selection, Selector};
use sortie_model::view::{ChildView, EntryView};

use crate::args::FileOrStdin;
use crate::args::send::SendArgs;
use crate::connect::Connection;
use crate::exit::Cause;
use crate::failure::Failure;
use crate::feed::Source;
use crate::task_input::InputFormat;

pub(super) async fn run(args: SendArgs) -> Result<u8, Failure> {
    let child: Selector = args.child.parse().map_err(Failure::usage)?;
    let what = What::of(&args)?;
    let connection = Connection::open(&args.reach).await?;
    let sent = send(&connection.session(), &child, &args, what).await;
    connection.close().await;
    sent.map_err(|failure| failure.where_one_is_wanted(&child))?;
    Ok(0)
}

/// What is sent.
enum What {
    Nothing,
    Text(String),
    Stream(Source),
}

impl What {
    fn of(args: &SendArgs) -> Result<Self, Failure> {
        Ok(match (&args.text, args.stdin) {
            (Some(text), _) => Self::Text(text.clone()),
            (None, true) => Self::Stream(Source::open(&FileOrStdin::Stdin)?),
            (None, false) => Self::Nothing,
        })
    }
}

async fn send(
    session: &Session,
    selector: &Selector,
    args: &SendArgs,
    what: What,
) -> Result<(), Failure> {
    let for_input_only = args.eof || args.no_newline;
    // What is no text is an answer.
    let child = match args.input_format {
        None => one_child(session, selector).await?,
        Some(_) => None,
    };
    let Some(child) = child else {
        if for_input_only {
            return Err(Failure::usage(format_args!("`{selector}` names no child alone"))
                .hint(format!("name one of those that `sortie get {selector} --children` lists")));
        }
        return answer(session, selector, args, what).await;
    };
    match child.write_input(Bytes::new()).await {
        Ok(()) => Ok(write(&child, args, what).await?),
        Err(error) if is_of_function(&error) && !for_input_only => {
            answer(session, selector, args, what).await
        }
        Err(error) => Err(error.into()),
    }
}

/// The child that is meant, if it is a single one: named itself, or the only one of its job.
async fn one_child(session: &Session, selector: &Selector) -> Result<Option<Child>, Failure> {
    let ask = |selector, children| {
        let selection = Selection::of([selector]);
        session.get(Query { selection, children, limit: 3, ..Query::default() })
    };
    let named = ask(selector.clone(), true).await?.entries;
    Ok(match named.as_slice() {
        // While a map's input is open another one may follow.
        [EntryView::Job(job), EntryView::Child(child)] if !job.tally.open => {
            Some(session.child(job.instance, child.ordinal))
        }
        [EntryView::Child(ChildView { parent, ordinal, .. })] => {
            match ask(Selector::Id(*parent), false).await?.entries.as_slice() {
                [EntryView::Job(job)] => Some(session.child(job.instance, *ordinal)),
                // It was removed meanwhile.
                _ => None,
            }
        }
        _ => None,
    })
}

const fn is_of_function(error: &SendError) -> bool {
    matches!(error, SendError::Request(error) if matches!(error.code(), ErrorCode::NotAsking))
}

/// Writes to the input of a command.
async fn write(child: &Child, args: &SendArgs, what: What) -> Result<(), Failure> {
    match what {
        What::Nothing => {}
        What::Text(mut text) => {
            if !args.no_newline {
                text.push('\n');
            }
            child.write_input(text).await?;
        }
        What::Stream(source) => {
            let mut pieces = source.pieces();
            let mut first = true;
            while let Some(piece) = pieces.recv().await {
                let written = child.write_input(piece?).await;
                written.map_err(|error| if first { error } else { error.of_a_rest() })?;
                first = false;
            }
        }
    }
    if args.eof {
        close(child).await?;
    }
    Ok(())
}

async fn close(child: &Child) -> Result<(), Failure> {
    match child.close_input().await {
        // Nothing came with it of which some could be in the pipe.
        Err(error @ SendError::InputClosed) => Err(not_taken(&error, Arrived::Yes)),
        closed => Ok(closed?),
    }
}

/// Answers a child that asks.
async fn answer(
    session: &Session,
    selector: &Selector,
    args: &SendArgs,
    what: What,
) -> Result<(), Failure> {
    let answer = encoded(what, args.input_format)?;
    Ok(session.answer_encoded(selector.clone(), None, answer).await?)
}

/// The answer in the form in which it travels.
fn encoded(what: What, format: Option<InputFormat>) -> Result<Bytes, Failure> {
    let (what, written) = match what {
        What::Nothing => ("the answer".to_owned(), Vec::new()),
        What::Text(text) => ("the answer".to_owned(), text.into_bytes()),
        What::Stream(source) => {
            let name = source.name().to_owned();
            let whole = source.read_whole(limits::ANSWER_BYTES);
            (name, whole.map_err(too_long_for_an_answer)?)
        }
    };
    // A line that is piped in is an answer without its end, as one that is typed.
    let written = written.strip_suffix(b"\n").unwrap_or(&written);
    let format = format.unwrap_or(InputFormat::Text);
    format.encode(written).map_err(|bad| Failure::usage(format_args!("{what} {bad}")))
}

/// What to do with more than an answer has, where a child's input was meant.
fn too_long_for_an_answer(failure: Failure) -> Failure {
    match failure.cause {
        Cause::Usage => failure.hint("an open input takes more: name the child whose it is"),
        _ => failure,
    }
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Request(RequestError::Lost) => {
                let lost = Self::from(RequestError::Lost);
                lost.hint("what was sent may have arrived; `sortie receive --keep` shows more")
            }
            SendError::Request(error) => error.into(),
            SendError::NodeLost { arrived } => {
                Self::new(Cause::NodeLost, "node_lost", format_args!("{error}{}", said(arrived)))
            }
            SendError::Ended { .. } | SendError::InputClosed => not_taken(&error, error.arrived()),
            error => Self::new(Cause::Usage, ErrorCode::NotAsking.as_str(), error),
        }
    }
}

/// A child that takes nothing any more.
fn not_taken(error: &SendError, arrived: Arrived) -> Failure {
    let text = format!("{error}{}", said(arrived));
    Failure::new(Cause::Usage, ErrorCode::NotAsking.as_str(), text)
}

/// What is known of a message, behind why it failed.
const fn said(arrived: Arrived) -> &'static str {
    match arrived {
        Arrived::No => "; nothing was written",
        Arrived::Maybe => "; some of what was sent may have been written",
        Arrived::Yes => "",
    }
}
