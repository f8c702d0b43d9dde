//! Estimates pi by a map of a million inputs over two nodes: `monte-carlo [INPUTS]`.
//!
//! The inputs are an iterator: they are pulled as children end, and results are added up as they
//! come, so that neither a million inputs nor a million results are ever in memory.

use std::convert::Infallible;
use std::error::Error;

use sortie::Node;

/// Points that each input tries.
const POINTS: u64 = 32;

/// How many of its points lie in the quarter of a circle. The input is its seed.
#[sortie::task]
async fn points_within(seed: u64) -> Result<u64, Infallible> {
    let mut state = seed;
    let mut next = || {
        // SplitMix64: small, and good enough to throw darts with.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    };
    let within = |_: &u64| {
        let (x, y) = (next(), next());
        x * x + y * y <= 1.0
    };
    Ok((0..POINTS).filter(within).count() as u64)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let inputs = std::env::args().nth(1).map_or(Ok(1_000_000), |text| text.parse::<u64>())?;
    let a = Node::builder("a").register(points_within).start().await?;
    let b = Node::builder("b").register(points_within).join(&a).start().await?;

    let seeds = (0..inputs).map(|number| number << 32);
    let job = a.session().map(points_within, seeds).on("a,b")?.unthrottled().start().await?;
    let (mut within, mut results) = (0, job.results());
    while let Some(result) = results.next().await {
        within += result?.value;
    }
    let pi = 4.0 * within as f64 / (inputs * POINTS) as f64;
    println!("{inputs} inputs on 2 nodes: pi is about {pi:.3}");
    b.shut_down().await;
    a.shut_down().await;
    Ok(())
}
