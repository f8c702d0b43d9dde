//! What one stream of a bare peer is for.

use std::io::Read;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use bytes::Bytes;
use quinn::{Connection, RecvStream, SendStream};
use sortie::limits;

use crate::cluster::SMALL;
use crate::program::Outcome;
use crate::writer;

/// Bytes of one message that comes back.
pub(super) const ECHO_BYTES: usize = 64;
/// Small records that one write carries.
pub const RECORDS_PER_WRITE: usize = 64;
/// Reads of a pipe that may wait for their stream.
const PIECES_AHEAD: usize = 4;

/// What is asked of a peer.
#[derive(Debug, Clone, Copy)]
pub enum Order {
    /// Send every message back.
    Echo,
    /// Run a process that writes so many bytes, and send them.
    Output(u64),
    /// Send so many small records, each with its length in front.
    Records(u64),
}

/// Opens a stream and asks for that.
///
/// # Errors
/// When the connection is lost.
pub async fn order(connection: &Connection, order: Order) -> Outcome<(SendStream, RecvStream)> {
    let (mut send, receive) = connection.open_bi().await?;
    let (kind, count) = match order {
        Order::Echo => (0, 0),
        Order::Output(bytes) => (1, bytes),
        Order::Records(count) => (2, count),
    };
    send.write_all(&[kind]).await?;
    send.write_all(&count.to_le_bytes()).await?;
    Ok((send, receive))
}

/// Does what the stream asks. A connection that is gone needs nothing.
pub(super) async fn carry_out((send, mut receive): (SendStream, RecvStream)) {
    let (mut kind, mut count) = ([0], [0; 8]);
    if receive.read_exact(&mut kind).await.is_err() || receive.read_exact(&mut count).await.is_err()
    {
        return;
    }
    let count = u64::from_le_bytes(count);
    let done = match kind {
        [0] => echo(send, receive).await,
        [1] => output(send, count).await,
        _ => records(send, count).await,
    };
    if let Err(error) = done {
        eprintln!("a bare stream ended early: {error}");
    }
}

async fn echo(mut send: SendStream, mut receive: RecvStream) -> Outcome<()> {
    let mut message = [0; ECHO_BYTES];
    // The end of the stream is the end of the test.
    while receive.read_exact(&mut message).await.is_ok() {
        send.write_all(&message).await?;
    }
    Ok(())
}

/// The way that is fastest here: a pipe of 1 MiB, a thread that reads as much at once, and no copy
/// after that.
async fn output(mut send: SendStream, bytes: u64) -> Outcome<()> {
    let (program, arguments) = writer::command(bytes)?;
    let mut process = Command::new(program).args(arguments).stdout(Stdio::piped()).spawn()?;
    let mut pipe = process.stdout.take().ok_or("no pipe")?;
    let _ = rustix::pipe::fcntl_setpipe_size(pipe.as_fd(), limits::PIPE_BYTES);
    let (pieces, mut ready) = tokio::sync::mpsc::channel(PIECES_AHEAD);
    let reader = tokio::task::spawn_blocking(move || -> std::io::Result<()> {
        loop {
            let mut piece = vec![0; limits::PIPE_BYTES];
            let length = pipe.read(&mut piece)?;
            piece.truncate(length);
            if length == 0 || pieces.blocking_send(Bytes::from(piece)).is_err() {
                return process.wait().map(|_| ());
            }
        }
    });
    while let Some(piece) = ready.recv().await {
        send.write_chunk(piece).await?;
    }
    send.finish()?;
    reader.await??;
    Ok(())
}

async fn records(mut send: SendStream, mut count: u64) -> Outcome<()> {
    let mut batch = Vec::new();
    while count > 0 {
        batch.clear();
        let now = count.min(RECORDS_PER_WRITE as u64);
        for _ in 0..now {
            batch.extend_from_slice(&(SMALL.len() as u32).to_le_bytes());
            batch.extend_from_slice(SMALL.as_bytes());
        }
        send.write_all(&batch).await?;
        count -= now;
    }
    send.finish()?;
    Ok(())
}
