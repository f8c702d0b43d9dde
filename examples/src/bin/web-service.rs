//! Sortie inside an axum service: requests start jobs, and when the service is told to end it
//! finishes what it has begun. `web-service [ADDRESS]` prints where it listens; end it with Ctrl-C
//! or by closing its standard input.

use std::convert::Infallible;
use std::error::Error;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use sortie::{Node, Session};

/// The sum of the numbers below `n`.
#[sortie::task]
async fn sum_below(n: u64) -> Result<u64, Infallible> {
    Ok((0..n).sum())
}

/// `GET /sums/10`: the sums below 0 to 9, computed by ten children.
async fn sums(
    State(session): State<Session>,
    Path(count): Path<u64>,
) -> Result<Json<Vec<u64>>, (StatusCode, String)> {
    if count > 10_000 {
        return Err((StatusCode::BAD_REQUEST, "at most 10000 at a time\n".to_owned()));
    }
    let failed = |error: &dyn Error| {
        (StatusCode::INTERNAL_SERVER_ERROR, format!("the job failed: {error}\n"))
    };
    let job = session.map(sum_below, 0..count).start().await.map_err(|error| failed(&error))?;
    let sums = job.clone().await.map_err(|error| failed(&error))?;
    // What is done is not kept: the next request has a job of its own.
    job.remove().await.map_err(|error| failed(&error))?;
    Ok(Json(sums))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let node = Node::builder("web").register(sum_below).start().await?;
    let service = Router::new().route("/sums/{count}", get(sums)).with_state(node.session());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("http://{}", listener.local_addr()?);

    let input_ends = tokio::task::spawn_blocking(|| std::io::read_to_string(std::io::stdin()));
    let told_to_end = async {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = input_ends => {}
        }
    };
    // First the requests that are under way, then the node with its jobs.
    axum::serve(listener, service).with_graceful_shutdown(told_to_end).await?;
    node.shut_down().await;
    println!("ended");
    Ok(())
}
