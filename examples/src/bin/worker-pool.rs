//! A pool of workers with typed inboxes on three nodes.
//!
//! Each worker is a child that counts the primes of the ranges that it is sent. The dispatcher
//! calls whichever worker has least to do, and gathers the answers. A worker that ends, or whose
//! node is lost, answers with an error, and its range goes to another one.

use std::convert::Infallible;
use std::error::Error;
use std::ops::Range;

use sortie::{Child, Node, Ordinal, TaskContext};
use tokio::task::JoinSet;

/// Numbers that are looked at, and how many of them are one piece of work.
const NUMBERS: u64 = 20_000;
const PIECE: u64 = 500;
/// Pieces that one worker has at a time: the next one is there when it needs it.
const AHEAD: usize = 2;

/// Answers how many primes there are in each range that comes, until it is told to stop.
#[sortie::task]
async fn count_primes(context: TaskContext, (): ()) -> Result<(), Infallible> {
    let Ok(mut inbox) = context.inbox::<Range<u64>>() else { return Ok(()) };
    while let Some(message) = inbox.next().await {
        let primes = message.value.clone().filter(|number| is_prime(*number)).count() as u64;
        // A number is small enough to travel.
        let _ = message.reply(&primes);
    }
    Ok(())
}

fn is_prime(number: u64) -> bool {
    number > 1 && (2..).take_while(|it| it * it <= number).all(|it| !number.is_multiple_of(it))
}

/// A worker, as the dispatcher knows it.
struct Worker {
    child: Child,
    has: usize,
    done: usize,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let a = Node::builder("a").register(count_primes).start().await?;
    let b = Node::builder("b").register(count_primes).join(&a).start().await?;
    let c = Node::builder("c").register(count_primes).join(&a).start().await?;

    let job = a.session().run(count_primes, ()).on("a,b,c")?.start().await?;
    let child = |place| Worker { child: job.child(Ordinal(place)), has: 0, done: 0 };
    let mut workers: Vec<Worker> = (0..3).map(child).collect();

    let mut work: Vec<Range<u64>> =
        (0..NUMBERS).step_by(PIECE as usize).map(|from| from..from + PIECE).collect();
    let mut calls = JoinSet::new();
    let mut primes = 0;
    loop {
        // The least loaded worker gets the next piece, as long as one has room for it.
        while let Some((place, worker)) =
            workers.iter_mut().enumerate().min_by_key(|(_, worker)| worker.has)
            && worker.has < AHEAD
            && let Some(piece) = work.pop()
        {
            worker.has += 1;
            let child = worker.child.clone();
            calls.spawn(async move {
                let counted = child.call::<_, u64>(&piece).await;
                (place, piece, counted)
            });
        }
        let Some(answer) = calls.join_next().await else { break };
        let (place, piece, counted) = answer?;
        match counted {
            Ok(counted) => {
                primes += counted;
                if let Some(worker) = workers.get_mut(place) {
                    worker.done += 1;
                    // One that is gone stays so, whatever it has answered before.
                    worker.has -= usize::from(worker.has <= AHEAD);
                }
            }
            Err(error) if workers.iter().any(|worker| worker.has < usize::MAX) => {
                eprintln!("worker {place} is gone: {error}");
                work.push(piece);
                if let Some(worker) = workers.get_mut(place) {
                    worker.has = usize::MAX;
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    let view = job.stop().await?;
    let busy = workers.iter().filter(|worker| worker.done > 0).count();
    println!("{primes} primes below {NUMBERS}, counted by {busy} workers; {}", view.state);
    for node in [c, b, a] {
        node.shut_down().await;
    }
    Ok(())
}
