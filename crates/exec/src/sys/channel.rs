//! Frames and descriptors over a Unix stream socket, for both ends of a guardian's socket.
//!
//! The kernel never joins two writes that carry descriptors into one read, and gives the
//! descriptors of a write with its first byte. So a write that carries some begins with a frame
//! that says how many, and by the time that frame is read its descriptors are here.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bytes::BytesMut;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use sortie_model::limits;
use sortie_wire::frame::take_frame;
use sortie_wire::{DecodeError, Message};

/// Descriptors that one write carries at most; the kernel's own bound is 253.
pub const DESCRIPTORS_PER_WRITE: usize = 240;
/// Bytes that one read takes at most.
const READ_BYTES: usize = 64 << 10;

/// Writes bytes, with descriptors attached to the first, and returns how many bytes were written.
/// At most [`DESCRIPTORS_PER_WRITE`] descriptors go; all went if any byte did.
///
/// # Errors
/// The kernel's error; `EAGAIN` when the socket does not block and is full.
pub fn send(socket: impl AsFd, bytes: &[u8], with: &[BorrowedFd<'_>]) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_PER_WRITE))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !with.is_empty() && !control.push(SendAncillaryMessage::ScmRights(with)) {
        return Err(Errno::MSGSIZE);
    }
    loop {
        match sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

/// Reads once, and takes at most one descriptor: what else comes with it is closed. The kernel
/// never reads on beyond bytes with which some came.
///
/// # Errors
/// The kernel's error; `EAGAIN` when the socket does not block and nothing is there.
pub(crate) fn receive_one(
    socket: impl AsFd,
    buffer: &mut [u8],
) -> Result<(usize, Option<OwnedFd>), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut into = [IoSliceMut::new(buffer)];
        match recvmsg(&socket, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            result => break result?,
        }
    };
    let mut descriptor = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            // Space for one may hold two: the kernel pads it.
            descriptors.for_each(|one| descriptor = Some(one));
        }
    }
    Ok((received.bytes, descriptor))
}

/// What one read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filled {
    /// More bytes.
    More,
    /// The other end is closed.
    Closed,
}

/// What arrived and was not taken yet.
pub struct Inbox {
    bytes: BytesMut,
    arrivals: VecDeque<Vec<OwnedFd>>,
    scratch: Vec<u8>,
}

impl Default for Inbox {
    fn default() -> Self {
        Self { bytes: BytesMut::new(), arrivals: VecDeque::new(), scratch: vec![0; READ_BYTES] }
    }
}

impl Inbox {
    /// Reads once.
    ///
    /// # Errors
    /// The kernel's error; `EAGAIN` when the socket does not block and nothing is there.
    pub fn fill(&mut self, socket: impl AsFd) -> Result<Filled, Errno> {
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_PER_WRITE))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut into = [IoSliceMut::new(&mut self.scratch)];
            match recvmsg(&socket, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(Errno::INTR) => {}
                result => break result?,
            }
        };
        let mut arrival = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                arrival.extend(descriptors);
            }
        }
        // A process at its limit of descriptors gets fewer than were sent, perhaps none: the
        // arrival still counts, so that later ones are not taken for it.
        let cut = received.flags.contains(rustix::net::ReturnFlags::CTRUNC);
        if cut || !arrival.is_empty() {
            self.arrivals.push_back(arrival);
        }
        self.bytes.extend_from_slice(self.scratch.get(..received.bytes).unwrap_or_default());
        Ok(if received.bytes == 0 { Filled::Closed } else { Filled::More })
    }

    /// The next whole message.
    ///
    /// # Errors
    /// [`DecodeError`] when the other end does not speak the protocol.
    pub fn take<M: Message>(&mut self) -> Result<Option<M>, DecodeError> {
        match take_frame(&mut self.bytes, limits::FRAME_BYTES)? {
            Some(frame) => frame.open().map(Some),
            None => Ok(None),
        }
    }

    /// The descriptors of the write whose first message was just taken; fewer than were sent if
    /// this process is at its limit.
    pub fn descriptors(&mut self) -> VecDeque<OwnedFd> {
        self.arrivals.pop_front().unwrap_or_default().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use sortie_wire::frame::write_message;
    use sortie_wire::guardian_proto::{ChildNumber, GuardianReport};

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .expect("a socket pair")
    }

    fn send_batch(socket: &OwnedFd, count: u32, with: &[BorrowedFd<'_>]) {
        let mut bytes = Vec::new();
        write_message(&GuardianReport::Descriptors { count }, &mut bytes).expect("small");
        let gone = GuardianReport::Gone { child: ChildNumber(u64::from(count)), left_behind: 0 };
        write_message(&gone, &mut bytes).expect("small");
        assert_eq!(send(socket, &bytes, with), Ok(bytes.len()));
    }

    #[test]
    fn descriptors_arrive_with_the_write_that_carried_them() {
        let (ours, theirs) = pair();
        let null = std::fs::File::open("/dev/null").expect("the null device");
        send_batch(&ours, 1, &[null.as_fd()]);
        send_batch(&ours, 3, &[null.as_fd(); 3]);
        send_batch(&ours, 2, &[null.as_fd(); 2]);
        drop(ours);
        let mut inbox = Inbox::default();
        while inbox.fill(&theirs) != Ok(Filled::Closed) {}
        for expected in [1, 3, 2] {
            let first = inbox.take::<GuardianReport>();
            assert_eq!(first, Ok(Some(GuardianReport::Descriptors { count: expected })));
            assert_eq!(inbox.descriptors().len(), expected as usize);
            assert!(matches!(inbox.take(), Ok(Some(GuardianReport::Gone { .. }))));
        }
        assert_eq!(inbox.take::<GuardianReport>(), Ok(None));
    }
}
