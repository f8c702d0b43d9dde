//! Rows 17 to 19: results within one process, read by the type that they have. Each scenario is
//! measured twice, with values that are encoded and with live ones; the limit is bare tokio.

use std::convert::Infallible;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sortie::{EmitError, Job, Live, Node, Session, TaskContext, Weight};
use sortie_benches::measure::{Pair, in_turn};
use sortie_benches::{Options, Outcome, Row, run, work};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Results of one function.
const EMITTED: u64 = 500_000;
/// Large results of one function, and how many numbers each has.
const LARGE: (u64, usize) = (2_000, 32 * 1_024);
/// Functions with one result each.
const CHILDREN: u64 = 100_000;
/// What a bare channel holds.
const QUEUED: usize = 1_024;

fn main() -> ExitCode {
    run(scenario)
}

/// What programs hand over: some fields, or much.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Parcel {
    number: u64,
    name: String,
    parts: Vec<u64>,
}

impl Parcel {
    fn new(number: u64, parts: usize) -> Self {
        let name = "a name as long as many are".to_owned();
        Self { number, name, parts: vec![number; parts] }
    }
}

impl Weight for Parcel {
    fn weight(&self) -> usize {
        size_of::<Self>() + self.name.capacity() + self.parts.capacity() * size_of::<u64>()
    }
}

#[sortie::task]
async fn emit(context: TaskContext, order: (u64, usize)) -> Result<(), EmitError> {
    for number in 0..order.0 {
        context.emit(&Parcel::new(number, order.1)).await?;
    }
    Ok(())
}

#[sortie::task]
async fn emit_live(context: TaskContext, order: (u64, usize)) -> Result<(), EmitError> {
    for number in 0..order.0 {
        context.emit_live(Live::new(Parcel::new(number, order.1))).await?;
    }
    Ok(())
}

#[sortie::task]
async fn answer(number: u64) -> Result<Parcel, Infallible> {
    Ok(Parcel::new(number, 4))
}

#[sortie::task]
async fn answer_live(number: u64) -> Result<Live<Parcel>, Infallible> {
    Ok(Live::new(Parcel::new(number, 4)))
}

async fn scenario(_: Options) -> Outcome<Vec<Row>> {
    let node = Node::builder("bench").without_processes().register(emit).register(emit_live);
    let node = node.register(answer).register(answer_live).start().await?;
    let session = node.session();
    let mut rows = Vec::new();
    let small = (EMITTED, 4);
    for (number, order, what) in [(17, small, "small results"), (18, LARGE, "of 256 KiB each")] {
        let words = |how| format!("{} {what} of one function here, {how}", order.0);
        let encoded = async || {
            let job = session.run(emit, order).start().await?;
            ours(&job.typed::<Parcel>(), order.0, |value| value.number).await
        };
        let live = async || {
            let job = session.run(emit_live, order).start().await?;
            ours(&job.typed::<Live<Parcel>>(), order.0, |value| value.number).await
        };
        let Pair { ours: [rate], limit: [bare] } =
            in_turn(encoded, async || channel(order).await).await?;
        rows.push(Row::new(number, words("encoded"), "results/s", rate).limit(bare));
        let Pair { ours: [rate], limit: [bare] } =
            in_turn(live, async || channel(order).await).await?;
        rows.push(Row::new(number, words("live"), "results/s", rate).limit(bare));
    }
    rows.extend(children(&session).await?);
    node.shut_down().await;
    Ok(rows)
}

/// Reads all results, and says how many came in a second.
async fn ours<T: DeserializeOwned + 'static>(
    job: &Job<T>,
    count: u64,
    number: impl Fn(&T) -> u64,
) -> Outcome<[f64; 1]> {
    let begin = Instant::now();
    let mut results = job.results();
    let (mut found, mut sum) = (0, 0);
    while let Some(result) = results.next().await {
        found += 1;
        sum += number(&result?.value);
    }
    work::same("results", (found, sum), (count, (0..count).sum()))?;
    job.remove().await?;
    Ok([count as f64 / begin.elapsed().as_secs_f64()])
}

async fn children(session: &Session) -> Outcome<Vec<Row>> {
    let encoded = async || {
        let job = session.map(answer, 0..CHILDREN).unthrottled().start().await?;
        ours(&job, CHILDREN, |value| value.number).await
    };
    let live = async || {
        let job = session.map(answer_live, 0..CHILDREN).unthrottled().start().await?;
        ours(&job, CHILDREN, |value| value.number).await
    };
    let words = |how| format!("{CHILDREN} functions here, a result each, {how}");
    let first = in_turn(encoded, async || joined().await).await?;
    let second = in_turn(live, async || joined().await).await?;
    let row = |how, Pair { ours: [rate], limit: [bare] }: Pair<1>| {
        Row::new(19, words(how), "results/s", rate).limit(bare)
    };
    Ok(vec![row("encoded", first), row("live", second)])
}

/// The same values through a channel of tokio.
async fn channel((count, parts): (u64, usize)) -> Outcome<[f64; 1]> {
    let begin = Instant::now();
    let (sender, mut receiver) = mpsc::channel(QUEUED);
    let sending = tokio::spawn(async move {
        for number in 0..count {
            if sender.send(Arc::new(Parcel::new(number, parts))).await.is_err() {
                break;
            }
        }
    });
    let mut sum = 0;
    while let Some(value) = receiver.recv().await {
        sum += value.number;
    }
    sending.await?;
    work::same("sum", sum, (0..count).sum())?;
    Ok([count as f64 / begin.elapsed().as_secs_f64()])
}

/// As many futures of a `JoinSet`.
async fn joined() -> Outcome<[f64; 1]> {
    let begin = Instant::now();
    let mut futures: JoinSet<Arc<Parcel>> =
        (0..CHILDREN).map(|number| async move { Arc::new(Parcel::new(number, 4)) }).collect();
    let mut sum = 0;
    while let Some(value) = futures.join_next().await {
        sum += value?.number;
    }
    work::same("sum", sum, (0..CHILDREN).sum())?;
    Ok([CHILDREN as f64 / begin.elapsed().as_secs_f64()])
}
