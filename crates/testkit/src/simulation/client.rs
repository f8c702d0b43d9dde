//! A client in a node's own process: asks, and reads the answers.

use std::time::Duration;

use bytes::BytesMut;
use sortie_actors::NodeHandle;
use sortie_actors::data::exchange::{ClientEnd, ClientReceiver, ToClient, ToServer};
use sortie_model::selector::{Query, Selection};
use sortie_model::view::EntryView;
use sortie_model::{JobView, Record, SessionInstance, limits};
use sortie_wire::map_items;
use sortie_wire::session_proto::{
    Answer, Ask, Delivery, Failure, ReceiveMode, ReceiveSpec, Request, SessionRef, Source,
};

/// Virtual time after which a request that should be answered at once counts as hung.
const PATIENCE: Duration = Duration::from_secs(120);

/// A request was not answered as it should be; the text says how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Odd(pub(super) String);

/// What a job's input is, and whether the client lives to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Input {
    None,
    Whole(Vec<Vec<u8>>),
    CutOff(Vec<Vec<u8>>),
    /// The client goes on later, or dies later.
    Begun(Vec<Vec<u8>>),
}

/// How a reader goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// Acknowledges everything.
    Takes,
    /// Removes nothing.
    Keeps,
    /// Acknowledges so many deliveries and dies.
    Dies(u32),
}

/// One delivery of records of one child.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub(super) source: Source,
    pub(super) records: Vec<Record>,
    pub(super) acknowledged: bool,
}

/// What a receive brought.
#[derive(Debug, Clone, Default)]
pub(super) struct Received {
    pub(super) batches: Vec<Batch>,
    pub(super) failures: Vec<Failure>,
}

fn open(node: &NodeHandle, ask: Ask) -> ClientEnd {
    node.open(Request { session: SessionRef::Default, ask })
}

async fn next(receiver: &mut ClientReceiver, what: &str) -> Result<Option<ToClient>, Odd> {
    match tokio::time::timeout(PATIENCE, receiver.next()).await {
        Ok(Ok(message)) => Ok(message),
        Ok(Err(error)) => Err(Odd(format!("{what} broke: {error}"))),
        Err(_) => Err(Odd(format!("{what} is not answered"))),
    }
}

pub(super) async fn ask(node: &NodeHandle, ask: Ask) -> Result<Answer, Odd> {
    let what = format!("{ask:?}");
    let ClientEnd { sender: _sender, mut receiver } = open(node, ask);
    match next(&mut receiver, &what).await? {
        Some(ToClient::Answer(answer)) => Ok(answer),
        other => Err(Odd(format!("{what} is answered with {other:?}"))),
    }
}

/// A temporary session, which lives until it is dropped.
pub(super) struct Temporary {
    pub(super) instance: SessionInstance,
    _end: ClientEnd,
}

/// Opens a temporary session.
pub(super) async fn open_temporary(node: &NodeHandle) -> Result<Temporary, Odd> {
    let mut end = open(node, Ask::OpenTemporary);
    match next(&mut end.receiver, "a temporary session").await? {
        Some(ToClient::Answer(Answer::Session(view))) => {
            Ok(Temporary { instance: view.instance, _end: end })
        }
        other => Err(Odd(format!("a temporary session is answered with {other:?}"))),
    }
}

/// Starts a job in the default session and hands its input over.
pub(super) async fn start(
    node: &NodeHandle,
    ask: Ask,
    input: &Input,
) -> Result<Result<JobView, Answer>, Odd> {
    start_in(node, Request { session: SessionRef::Default, ask }, input).await
}

/// The same in another session.
pub(super) async fn start_in(
    node: &NodeHandle,
    request: Request,
    input: &Input,
) -> Result<Result<JobView, Answer>, Odd> {
    Ok(begin(node, request, input).await?.map(|(view, _)| view))
}

/// A client that still gives a job its input.
pub(super) struct Feeder(ClientEnd);

/// Starts a job and hands over what input there is; the client may go on.
pub(super) async fn begin(
    node: &NodeHandle,
    request: Request,
    input: &Input,
) -> Result<Result<(JobView, Feeder), Answer>, Odd> {
    let mut end = node.open(request);
    let view = match next(&mut end.receiver, "a start").await? {
        Some(ToClient::Answer(Answer::Started(view))) => *view,
        Some(ToClient::Answer(refusal)) => return Ok(Err(refusal)),
        other => return Err(Odd(format!("a start is answered with {other:?}"))),
    };
    let mut feeder = Feeder(end);
    let (items, whole) = match input {
        Input::None => return Ok(Ok((view, feeder))),
        Input::Whole(items) => (items, true),
        Input::CutOff(items) | Input::Begun(items) => (items, false),
    };
    for item in items {
        feeder.give(item).await?;
    }
    if whole {
        feeder.end().await;
        next(&mut feeder.0.receiver, "a job's input").await?;
    }
    Ok(Ok((view, feeder)))
}

impl Feeder {
    /// Gives one more item. A job that takes none is none of its business: a key's job that was
    /// there before, or one that is over.
    pub(super) async fn give(&mut self, item: &[u8]) -> Result<(), Odd> {
        let mut bytes = BytesMut::new();
        if map_items::append(item, &mut bytes).is_err() {
            return Err(Odd("an item is too long".to_owned()));
        }
        let message = ToServer::Input { bytes: bytes.freeze(), last: false };
        let _ = self.0.sender.send(message).await;
        Ok(())
    }

    /// Says that there are no more.
    pub(super) async fn end(&mut self) {
        let message = ToServer::Input { bytes: bytes::Bytes::new(), last: true };
        let _ = self.0.sender.send(message).await;
    }
}

/// The session's jobs with their children.
pub(super) async fn get(node: &NodeHandle) -> Result<Vec<EntryView>, Odd> {
    let query = Query { children: true, limit: limits::PAGE_MOST as u32, ..Query::default() };
    match ask(node, Ask::Get(Box::new(query))).await? {
        Answer::Entries(entries) if entries.total == entries.entries.len() as u64 => {
            Ok(entries.entries)
        }
        other => Err(Odd(format!("a get is answered with {other:?}"))),
    }
}

pub(super) fn select(word: &str) -> Result<Selection, Odd> {
    Selection::parse([word]).map_err(|error| Odd(error.to_string()))
}

/// Receives what is there now.
pub(super) async fn receive(
    node: &NodeHandle,
    selection: Selection,
    reading: Reading,
) -> Result<Received, Odd> {
    let mode = if reading == Reading::Keeps { ReceiveMode::Keep } else { ReceiveMode::Take };
    let spec = ReceiveSpec::new(selection, mode);
    let ClientEnd { mut sender, mut receiver } = open(node, Ask::Receive(Box::new(spec)));
    let mut left = match reading {
        Reading::Dies(deliveries) => deliveries,
        _ => u32::MAX,
    };
    let mut received = Received::default();
    loop {
        match next(&mut receiver, "a receive").await? {
            Some(ToClient::Records { number, source, records }) => {
                let acknowledged = reading != Reading::Keeps && left > 0;
                if acknowledged && number > 0 {
                    left -= 1;
                    let _ = sender.send(ToServer::Acknowledged(number)).await;
                }
                received.batches.push(Batch { source, records, acknowledged });
                if left == 0 {
                    break;
                }
            }
            Some(ToClient::Delivery(Delivery::End { failures, .. })) => {
                received.failures = failures;
                break;
            }
            Some(ToClient::Delivery(Delivery::Settled { .. })) => {}
            other => return Err(Odd(format!("a receive brings {other:?}"))),
        }
    }
    // What was acknowledged is free once the node has ended its side.
    drop(sender);
    while next(&mut receiver, "the end of a receive").await?.is_some() {}
    Ok(received)
}
