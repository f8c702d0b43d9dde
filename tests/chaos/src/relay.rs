//! A relay for UDP in front of a node, which can be cut: then it drops what comes, both ways or one
//! way.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use crate::random::Random;

/// How long a thread waits for a packet before it looks whether the relay is over.
const LOOK: Duration = Duration::from_millis(100);
/// The most that a packet has.
const PACKET_BYTES: usize = 65_536;

const TO_NODE: u8 = 1;
const FROM_NODE: u8 = 2;

/// What a relay and its threads share.
#[derive(Debug, Default)]
struct Shared {
    /// The ways that are cut.
    cut: AtomicU8,
    dropped: AtomicU64,
    over: AtomicBool,
}

impl Shared {
    /// Whether a packet may pass; counts one that may not.
    fn passes(&self, way: u8) -> bool {
        let passes = self.cut.load(Ordering::SeqCst) & way == 0;
        self.dropped.fetch_add(u64::from(!passes), Ordering::Relaxed);
        passes
    }

    /// The next packet; none once the relay is over.
    fn receive(&self, socket: &UdpSocket, packet: &mut [u8]) -> Option<(usize, SocketAddr)> {
        while !self.over.load(Ordering::SeqCst) {
            // Errors are those of earlier packets, and of the look.
            if let Ok(received) = socket.recv_from(packet) {
                return Some(received);
            }
        }
        None
    }
}

/// A relay. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Relay {
    socket: UdpSocket,
    shared: Arc<Shared>,
}

impl Relay {
    /// A relay that listens and passes nothing on yet.
    pub(crate) fn bind() -> io::Result<Self> {
        let socket = bound()?;
        Ok(Self { socket, shared: Arc::default() })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Passes on what comes to that node, and its answers.
    pub(crate) fn pass_to(&self, node: SocketAddr) -> io::Result<()> {
        let (socket, shared) = (self.socket.try_clone()?, Arc::clone(&self.shared));
        std::thread::spawn(move || forward(&socket, node, &shared));
        Ok(())
    }

    /// Cuts both ways, or one of them.
    pub(crate) fn cut(&self, random: &mut Random) {
        let ways = match random.within(0..=5) {
            0 => TO_NODE,
            1 => FROM_NODE,
            _ => TO_NODE | FROM_NODE,
        };
        self.shared.cut.store(ways, Ordering::SeqCst);
    }

    /// Mends it.
    pub(crate) fn mend(&self) {
        self.shared.cut.store(0, Ordering::SeqCst);
    }

    /// Packets that were dropped so far.
    pub(crate) fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
    }
}

fn bound() -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_read_timeout(Some(LOOK))?;
    Ok(socket)
}

/// Each client has a socket towards the node, by which the node tells them apart.
fn forward(clients: &UdpSocket, node: SocketAddr, shared: &Arc<Shared>) {
    let mut towards: HashMap<SocketAddr, UdpSocket> = HashMap::new();
    let mut packet = vec![0; PACKET_BYTES];
    while let Some((length, client)) = shared.receive(clients, &mut packet) {
        if !towards.contains_key(&client)
            && let Ok(socket) = answering(clients, client, shared)
        {
            towards.insert(client, socket);
        }
        if let (true, Some(socket)) = (shared.passes(TO_NODE), towards.get(&client)) {
            // What is not sent is lost, as packets are.
            let _ = socket.send_to(packet.get(..length).unwrap_or_default(), node);
        }
    }
}

/// A socket whose packets go to that client.
fn answering(
    clients: &UdpSocket,
    client: SocketAddr,
    shared: &Arc<Shared>,
) -> io::Result<UdpSocket> {
    let socket = bound()?;
    let (from, to, shared) = (socket.try_clone()?, clients.try_clone()?, Arc::clone(shared));
    std::thread::spawn(move || {
        let mut packet = vec![0; PACKET_BYTES];
        while let Some((length, _)) = shared.receive(&from, &mut packet) {
            if shared.passes(FROM_NODE) {
                let _ = to.send_to(packet.get(..length).unwrap_or_default(), client);
            }
        }
    });
    Ok(socket)
}
