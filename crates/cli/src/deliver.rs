//! Results on their way out: a receive's records go to a sink on a thread of its own, so that an
//! output that blocks never stops the connection; they are acknowledged once they are written.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::time::Duration;

use sortie::answer::{Failure as ChildFailure, Source};
use sortie::{ReceiveEnd, ReceiveItem, Receiver, RequestError};
use sortie_model::limits::KIB;
use sortie_model::{EntryId, Record, State};
use tokio::sync::mpsc;

use crate::ask::Asker;
use crate::failure::Failure;
use crate::render::sink::RecordSink;

/// Deliveries that may wait for the end of a line before it is written as far as it is. A mailbox
/// has few offers in flight; waiting longer could stop it.
const HELD_DELIVERIES: u32 = 8;

/// Bytes that wait for the end of a line, unconfirmed, from which on that is not waited for without
/// end: on a full disk they may be all that their node has room for.
const HELD_BYTES: usize = 256 * KIB;
/// How long it is waited for then.
const HELD_TIME: Duration = Duration::from_millis(250);

/// What is said where the node may not have noted what was written.
const MAY_COME_AGAIN: &str = "some of what was printed may come again: the node did not note it";

/// What the last write may take when the delivery broke off.
const LAST_WRITE: Duration = Duration::from_millis(500);
/// How long the node may take then to note what was written.
const LAST_CONFIRMATION: Duration = Duration::from_secs(4);

/// When records count as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acknowledge {
    /// When their last byte is: who dies before loses nothing.
    WhenWritten,
    /// When the sink has them: they would end with us anyway.
    WhenTaken,
}

/// In which order children's records come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Child by child.
    ByChild,
    /// As they arrive.
    OfArrival,
}

/// Writes what the receive brings, up to its end, or until `broken_off` says why it ends before.
/// What was begun is brought to an end in any case, and what was written does not come again.
pub(crate) async fn deliver(
    mut bring: Bring,
    sink: Box<dyn RecordSink>,
    broken_off: impl Future<Output = Failure>,
) -> Result<ReceiveEnd, Failure> {
    let (mut writer, mut held) = (Writer::begin(sink), Held::default());
    let mut broken_off = pin!(broken_off);
    let end = tokio::select! {
        biased;
        end = write_all(&mut bring, &mut held, &mut writer) => end,
        why = &mut broken_off => {
            let kept = writer.break_off(&why).await;
            return Err(match confirm(bring, held, kept).await {
                Confirmed::Yes => why,
                Confirmed::NotInTime => why.hint_also(MAY_COME_AGAIN),
            });
        }
    };
    let end = match end {
        // The node may be gone, and what was written is to be noted by the one that comes.
        Ok(end) => tokio::select! {
            biased;
            done = bring.receiver.finish() => done.map(|()| end).map_err(Failure::from),
            why = broken_off => Err(why),
        },
        Err(why) => Err(why),
    };
    if let Err(why) = &end {
        writer.break_off(why).await;
    }
    end
}

/// Whether the node has noted what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Confirmed {
    Yes,
    NotInTime,
}

/// Has the node note what was written until the delivery broke off. From a node that does not
/// answer in time some of it may come again, and so may what an output that blocks took.
async fn confirm(bring: Bring, mut held: Held, kept: Option<Kept>) -> Confirmed {
    let Bring { mut receiver, acknowledge, .. } = bring;
    if acknowledge == Acknowledge::WhenWritten && kept == Some(Kept::Nothing) {
        receiver.acknowledge(held.take());
    }
    let noted = tokio::time::timeout(LAST_CONFIRMATION, receiver.finish()).await;
    let is_sure = matches!(noted, Ok(Ok(()))) && kept.is_some();
    if is_sure || held.number == 0 { Confirmed::Yes } else { Confirmed::NotInTime }
}

/// What is to be written, and how.
pub(crate) struct Bring {
    /// Where it comes from.
    pub(crate) receiver: Receiver,
    /// In which order.
    pub(crate) order: Order,
    /// When it counts as written.
    pub(crate) acknowledge: Acknowledge,
    /// Who answers what is asked.
    pub(crate) asker: Option<Asker>,
}

async fn write_all(
    bring: &mut Bring,
    held: &mut Held,
    writer: &mut Writer,
) -> Result<ReceiveEnd, Failure> {
    let Bring { receiver, order, acknowledge, asker } = bring;
    let mut last = None;
    loop {
        let item = next(receiver, asker.as_mut());
        let waits = if held.is_much() { HELD_TIME } else { Duration::MAX };
        let Ok(item) = tokio::time::timeout(waits, item).await else {
            writer.write(Work::Held).await?;
            receiver.acknowledge(held.take());
            continue;
        };
        let Some(item) = item? else { break };
        match item {
            ReceiveItem::Records { number, source, records } => {
                let child = source.child;
                let before = last.replace(child).filter(|before| *before != child);
                if let (Order::ByChild, Some(child)) = (&order, before) {
                    writer.write(Work::EndOf { child }).await?;
                }
                let bytes = records.iter().map(|record| record.body.len()).sum();
                writer.give(Work::Records { source, records }).await?;
                // At once, so that whoever breaks off here knows what the writer has.
                let waiting = held.note(number, child);
                let mut kept = writer.written().await?;
                if kept != Kept::Nothing && waiting >= HELD_DELIVERIES {
                    writer.write(Work::Held).await?;
                    kept = Kept::Nothing;
                }
                if kept == Kept::Lines {
                    held.lines(bytes);
                }
                if kept == Kept::Nothing || *acknowledge == Acknowledge::WhenTaken {
                    receiver.acknowledge(held.take());
                }
            }
            ReceiveItem::Settled { id, state } => {
                writer.write(Work::Settled { id, state }).await?;
            }
            ReceiveItem::End(end) => {
                writer.write(Work::Finish { failures: end.failures.clone() }).await?;
                receiver.acknowledge(held.take());
                return Ok(end);
            }
            ReceiveItem::Asked { source, .. } => {
                writer.write(Work::Held).await?;
                if let Some(asker) = asker {
                    asker.ask(source.child);
                }
            }
            _ => {}
        }
    }
    Err(RequestError::Lost.into())
}

/// What the receive brings next, or why nobody answers any more.
async fn next(
    receiver: &mut Receiver,
    asker: Option<&mut Asker>,
) -> Result<Option<ReceiveItem>, Failure> {
    let Some(asker) = asker else { return Ok(receiver.next().await?) };
    tokio::select! {
        item = receiver.next() => Ok(item?),
        failure = asker.failed() => Err(failure),
    }
}

/// Deliveries that are not acknowledged yet.
#[derive(Debug, Default)]
struct Held {
    number: u64,
    of_child: HashMap<EntryId, u32>,
    /// Bytes of deliveries that only wait for the end of a line.
    bytes: usize,
}

impl Held {
    /// One more; how many there are of that child.
    fn note(&mut self, number: u64, child: EntryId) -> u32 {
        self.number = self.number.max(number);
        let count = self.of_child.entry(child).or_default();
        *count = count.saturating_add(1);
        *count
    }

    /// They wait for the end of a line.
    const fn lines(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    const fn is_much(&self) -> bool {
        self.bytes >= HELD_BYTES
    }

    /// The number that acknowledges them all.
    fn take(&mut self) -> u64 {
        self.of_child.clear();
        self.bytes = 0;
        self.number
    }
}

enum Work {
    Records { source: Source, records: Vec<Record> },
    EndOf { child: EntryId },
    Settled { id: EntryId, state: State },
    Held,
    Finish { failures: Vec<ChildFailure> },
    BreakOff { why: Failure },
}

/// Whether the sink holds something back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Nothing,
    /// Lines that have no end yet.
    Lines,
    /// What is shown when all came.
    Groups,
}

/// The thread that writes. It ends when it is dropped, as soon as what it writes lets it.
struct Writer {
    work: mpsc::Sender<Work>,
    done: mpsc::Receiver<io::Result<Kept>>,
}

impl Writer {
    fn begin(mut sink: Box<dyn RecordSink>) -> Self {
        let (work, mut todo) = mpsc::channel(1);
        let (report, done) = mpsc::channel(1);
        std::thread::spawn(move || {
            while let Some(work) = todo.blocking_recv() {
                let written = perform(sink.as_mut(), work);
                if report.blocking_send(written).is_err() {
                    return;
                }
            }
        });
        Self { work, done }
    }

    async fn write(&mut self, work: Work) -> Result<Kept, Failure> {
        self.give(work).await?;
        self.written().await
    }

    /// # Cancel safety
    /// Dropped before it ends, it gave nothing.
    async fn give(&mut self, work: Work) -> Result<(), Failure> {
        self.work.send(work).await.map_err(|_| Self::gone())
    }

    async fn written(&mut self) -> Result<Kept, Failure> {
        let written = self.done.recv().await.ok_or_else(Self::gone)?;
        written.map_err(|error| Failure::output(&error))
    }

    fn gone() -> Failure {
        Failure::internal("the thread that writes our output is gone")
    }

    /// Has what was begun brought to an end, if the output takes it. Says what is held back when
    /// all was written that it was given; none when something was not.
    async fn break_off(mut self, why: &Failure) -> Option<Kept> {
        let over = async {
            self.work.send(Work::BreakOff { why: why.clone() }).await.ok()?;
            drop(self.work);
            let mut kept = None;
            // What it writes still, or wrote and nobody asked for, comes first.
            while let Some(written) = self.done.recv().await {
                kept = Some(written.ok()?);
            }
            kept
        };
        // An output that blocks takes nothing; whoever reads it sees that it broke off.
        tokio::time::timeout(LAST_WRITE, over).await.ok().flatten()
    }
}

fn perform(sink: &mut dyn RecordSink, work: Work) -> io::Result<Kept> {
    match work {
        Work::Records { source, records } => sink.records(&source, &records)?,
        Work::EndOf { child } => sink.end_of(child)?,
        Work::Settled { id, state } => sink.settled(id, state)?,
        Work::Held => sink.write_held()?,
        Work::Finish { failures } => sink.finish(&failures)?,
        Work::BreakOff { why } => sink.break_off(&why)?,
    }
    Ok(match (sink.holds_back(), sink.gathers()) {
        (false, _) => Kept::Nothing,
        (true, false) => Kept::Lines,
        (true, true) => Kept::Groups,
    })
}
