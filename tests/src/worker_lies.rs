//! What a worker process must not say to its node, by hand: byte by byte, as `docs/protocol.md` and
//! the messages' golden files have it.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// The frame of a `WorkerExchange`.
const EXCHANGE: [u8; 6] = [0, 0, 0, 0, 0xfd, 0x01];
/// Requests without their prefix: which session, then what is asked.
const REQUESTS: [(&str, &[u8]); 7] = [
    ("explain last, in the default session", &[0, 8, 4]),
    ("the same, in the session with number 1", &[2, 1, b'1', 8, 4]),
    ("open a temporary session", &[0, 0]),
    ("list sessions", &[0, 11]),
    ("stop the node", &[0, 14]),
    ("make a token", &[0, 17]),
    ("open the session below", &[0, 29]),
];

/// Takes the worker's channel, which is its standard input, and misuses it. `asks` prints what each
/// of several requests is answered with: the numbers of the answer and of its error. Anything else
/// opens exchanges and asks nothing, says how many there were before the node read no more, and
/// stays.
///
/// # Errors
/// When the node does not behave.
pub fn lie(how: &str) -> io::Result<()> {
    let channel = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    if how == "asks" {
        for (what, request) in REQUESTS {
            let mut exchange = open(&channel)?;
            exchange.write_all(&[request.len() as u8, 0, 0, 0, 200, 0])?;
            exchange.write_all(request)?;
            let mut answer = Vec::new();
            exchange.read_to_end(&mut answer)?;
            println!("{what}: {:?}", answer.get(6..8).unwrap_or_default());
        }
        return Ok(());
    }
    channel.set_nonblocking(true)?;
    let mut all = Vec::new();
    while let Ok(exchange) = open(&channel) {
        all.push(exchange);
    }
    println!("{}", all.len());
    loop {
        std::thread::park();
    }
}

fn open(channel: &UnixStream) -> io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    let with = [theirs.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&with));
    sendmsg(channel, &[IoSlice::new(&EXCHANGE)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(ours)
}
