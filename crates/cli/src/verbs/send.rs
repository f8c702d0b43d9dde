//! `sortie send`: answer a child that asks.

use sortie_model::limits;
use sortie_model::selector::Selector;

use crate::args::FileOrStdin;
use crate::args::send::SendArgs;
use crate::connect::Connection;
use crate::failure::Failure;
use crate::feed::Source;
use crate::task_input::InputFormat;

pub(super) async fn run(args: SendArgs) -> Result<u8, Failure> {
    let child: Selector = args.child.parse().map_err(Failure::usage)?;
    let answer = answer(&args)?;
    let connection = Connection::open(&args.reach).await?;
    let sent = connection.session().answer_encoded(child.clone(), None, answer).await;
    connection.close().await;
    sent.map_err(|error| Failure::from(error).where_one_is_wanted(&child))?;
    Ok(0)
}

/// The answer in the form in which it travels.
fn answer(args: &SendArgs) -> Result<bytes::Bytes, Failure> {
    let (what, written) = match &args.text {
        Some(text) => ("the answer".to_owned(), text.clone().into_bytes()),
        None => {
            let source = Source::open(&FileOrStdin::Stdin)?;
            let name = source.name().to_owned();
            (name, source.read_whole(limits::ANSWER_BYTES)?)
        }
    };
    // A line that is piped in is an answer without its end, as one that is typed.
    let written = written.strip_suffix(b"\n").unwrap_or(&written);
    let format = args.input_format.unwrap_or(InputFormat::Text);
    format.encode(written).map_err(|bad| Failure::usage(format_args!("{what} {bad}")))
}
