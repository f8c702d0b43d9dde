//! Exchanges between a worker and its node: each is a Unix stream socket of its own, so that it has
//! its own backpressure and holds up no other.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::BytesMut;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, recv, send, shutdown,
    socketpair,
};
use sortie_model::limits;
use sortie_wire::DecodeError;
use sortie_wire::frame::{Frame, take_frame};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::OwnedSemaphorePermit;

use crate::sys::watch::watch;

/// Bytes that one read takes at most.
const READ_BYTES: usize = 16 * limits::KIB;

/// Why an exchange over a socket ends before its time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SocketError {
    /// The other side is gone, or a frame was cut.
    #[error("the other side of the socket is gone")]
    Gone,
    /// The other side sent what is no frame.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
}

/// Both ends of a new exchange.
///
/// # Errors
/// When this process has too many descriptors open.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
}

/// Two directions of one socket.
#[derive(Debug)]
struct Both {
    socket: AsyncFd<OwnedFd>,
    _place: OwnedSemaphorePermit,
}

/// The two directions of one end of an exchange, which takes that place until both are dropped.
///
/// # Errors
/// When the runtime cannot watch it: it may not be a socket at all.
pub fn directions(
    socket: OwnedFd,
    place: OwnedSemaphorePermit,
) -> io::Result<(SocketSender, SocketReceiver)> {
    let socket = watch(socket, Interest::READABLE | Interest::WRITABLE)?;
    let both = Arc::new(Both { socket, _place: place });
    let sender = SocketSender { both: Arc::clone(&both), state: Sending::Whole };
    Ok((sender, SocketReceiver { both, buffer: BytesMut::new() }))
}

/// Sends frames. Dropping it ends its direction.
#[derive(Debug)]
pub struct SocketSender {
    both: Arc<Both>,
    state: Sending,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    /// At the border of two frames.
    Whole,
    /// Within a write; if that was dropped, a frame is cut.
    Within,
}

impl SocketSender {
    /// Sends whole frames, waiting for room.
    ///
    /// # Errors
    /// [`SocketError::Gone`].
    ///
    /// # Cancel safety
    /// Not cancel safe: when the future is dropped a frame may be cut, and every later send is an
    /// error.
    pub async fn send(&mut self, mut frames: &[u8]) -> Result<(), SocketError> {
        self.check()?;
        self.state = Sending::Within;
        let socket = &self.both.socket;
        while write_some(socket.get_ref(), &mut frames)? == Wrote::TooMuch {
            // What was known of the socket before may have been forgotten by `abandoned`.
            let mut ready = socket.writable().await.map_err(|_| SocketError::Gone)?;
            if write_some(socket.get_ref(), &mut frames)? == Wrote::TooMuch {
                ready.clear_ready();
            }
        }
        self.state = Sending::Whole;
        Ok(())
    }

    fn check(&self) -> Result<(), SocketError> {
        if self.state == Sending::Whole { Ok(()) } else { Err(SocketError::Gone) }
    }

    /// Ends this direction. What was sent arrives, also when this process ends now.
    ///
    /// # Errors
    /// [`SocketError::Gone`] when a frame was cut.
    pub fn finish(self) -> Result<(), SocketError> {
        self.check()
    }

    /// Resolves when the other side has dropped both of its directions.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn abandoned(&mut self) {
        while let Ok(mut ready) = self.both.socket.writable().await {
            if ready.ready().is_write_closed() {
                return;
            }
            ready.clear_ready();
        }
    }
}

impl Drop for SocketSender {
    fn drop(&mut self) {
        // An error says that there is no other side.
        let _ = shutdown(self.both.socket.get_ref(), Shutdown::Write);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrote {
    All,
    /// There is no room for the rest now.
    TooMuch,
}

/// Whatever the other side did to the socket that both share, no call blocks.
fn write_some(socket: &OwnedFd, bytes: &mut &[u8]) -> Result<Wrote, SocketError> {
    while !bytes.is_empty() {
        match send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(sent) => *bytes = bytes.get(sent..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(Wrote::TooMuch),
            Err(_) => return Err(SocketError::Gone),
        }
    }
    Ok(Wrote::All)
}

/// Receives frames. Dropping it lets the other side's next send fail.
#[derive(Debug)]
pub struct SocketReceiver {
    both: Arc<Both>,
    buffer: BytesMut,
}

impl SocketReceiver {
    /// The next frame; none when the other side has ended this direction between two of them.
    ///
    /// # Errors
    /// [`SocketError::Gone`] within a frame, [`SocketError::Malformed`] when it would be longer
    /// than one may be.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn next(&mut self) -> Result<Option<Frame>, SocketError> {
        loop {
            if let Some(frame) = take_frame(&mut self.buffer, limits::FRAME_BYTES)? {
                return Ok(Some(frame));
            }
            let socket = &self.both.socket;
            let mut ready = socket.readable().await.map_err(|_| SocketError::Gone)?;
            match read_some(socket.get_ref(), &mut self.buffer) {
                Ok(0) | Err(Errno::CONNRESET) if self.buffer.is_empty() => return Ok(None),
                Ok(0) => return Err(SocketError::Gone),
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(_) => return Err(SocketError::Gone),
            }
        }
    }
}

fn read_some(socket: &OwnedFd, buffer: &mut BytesMut) -> Result<usize, Errno> {
    let mut bytes = [0; READ_BYTES];
    let (length, _) = recv(socket, &mut bytes[..], RecvFlags::DONTWAIT)?;
    buffer.extend_from_slice(bytes.get(..length).unwrap_or_default());
    Ok(length)
}

impl Drop for SocketReceiver {
    fn drop(&mut self) {
        // An error says that there is no other side.
        let _ = shutdown(self.both.socket.get_ref(), Shutdown::Read);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use sortie_wire::frame::write_head;
    use sortie_wire::session_proto::InputData;
    use tokio::sync::Semaphore;

    use super::*;

    type End = (SocketSender, SocketReceiver);

    fn ends(places: &Arc<Semaphore>) -> [End; 2] {
        let (one, other) = pair().expect("a pair");
        [one, other].map(|end| {
            let place = Arc::clone(places).try_acquire_owned().expect("a place");
            directions(end, place).expect("a socket")
        })
    }

    fn frame(payload: usize) -> Vec<u8> {
        let mut frame = Vec::new();
        write_head(&InputData { last: false }, payload, &mut frame).expect("small");
        frame.resize(frame.len() + payload, 7);
        frame
    }

    #[tokio::test]
    async fn frames_pass_both_ways_in_order_and_an_end_is_seen_behind_them() {
        let places = Arc::new(Semaphore::new(2));
        let [(mut to_there, mut from_there), (mut to_here, mut from_here)] = ends(&places);
        // More than the kernel holds, so that the sender has to wait.
        let there = async {
            for payload in [1, 3 << 20, 2] {
                to_there.send(&frame(payload)).await.expect("a receiver");
            }
            to_there.finish().expect("whole");
        };
        let here = async {
            let mut lengths = Vec::new();
            while let Some(frame) = from_here.next().await.expect("whole frames") {
                lengths.push(frame.body.len());
            }
            to_here.send(&frame(5)).await.expect("the other direction is open");
            lengths
        };
        let ((), lengths) = tokio::join!(there, here);
        let rest = frame(0).len() - sortie_wire::frame::PREFIX_BYTES;
        assert_eq!(lengths, [1, 3 << 20, 2].map(|payload| payload + rest));
        assert!(from_there.next().await.expect("a frame").is_some());
        assert_eq!(places.available_permits(), 0);
        drop((to_here, from_here));
        assert_eq!(from_there.next().await, Ok(None));
        drop(from_there);
        assert_eq!(places.available_permits(), 2, "both ends gave their places back");
    }

    #[tokio::test]
    async fn a_cut_frame_is_no_end() {
        let places = Arc::new(Semaphore::new(2));
        let [(mut to_there, _from_there), (_to_here, mut from_here)] = ends(&places);
        assert!(to_there.send(&frame(3 << 20)).now_or_never().is_none(), "nobody reads");
        assert_eq!(to_there.send(&frame(1)).await, Err(SocketError::Gone));
        drop(to_there);
        assert_eq!(from_here.next().await, Err(SocketError::Gone));
    }

    #[tokio::test]
    async fn who_drops_one_direction_has_not_abandoned_the_other() {
        let places = Arc::new(Semaphore::new(2));
        let [(mut to_there, mut from_there), (to_here, from_here)] = ends(&places);
        drop(to_here);
        assert_eq!(from_there.next().await, Ok(None));
        assert!(to_there.abandoned().now_or_never().is_none());
        to_there.send(&frame(1)).await.expect("there is room");
        drop(from_here);
        to_there.abandoned().await;
        assert_eq!(to_there.send(&frame(1)).await, Err(SocketError::Gone));
        // What was not read there is no reason for an error here.
        assert_eq!(from_there.next().await, Ok(None));
    }

    #[tokio::test]
    async fn a_sender_that_waits_goes_on_when_there_is_room_whatever_was_asked_before() {
        let places = Arc::new(Semaphore::new(2));
        let [(mut to_there, _from_there), (_to_here, mut from_here)] = ends(&places);
        assert!(to_there.abandoned().now_or_never().is_none());
        let large = frame(3 << 20);
        let (sent, came) = tokio::join!(to_there.send(&large), from_here.next());
        assert_eq!(sent, Ok(()));
        assert!(came.expect("a frame").is_some());
    }

    #[tokio::test]
    async fn what_is_no_socket_is_refused_or_gives_nothing() {
        let places = Arc::new(Semaphore::new(2));
        let place = || Arc::clone(&places).try_acquire_owned().expect("a place");
        let file = std::fs::File::open("/proc/self/exe").expect("this program");
        assert!(directions(file.into(), place()).is_err());
        let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
        let (mut sender, mut receiver) = directions(reader, place()).expect("it can be watched");
        assert_eq!(sender.send(&frame(1)).await, Err(SocketError::Gone));
        drop(writer);
        assert_eq!(receiver.next().await, Err(SocketError::Gone));
    }
}
