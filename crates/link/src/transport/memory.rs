//! A connection within one process. It keeps QUIC's manners: a stream is invisible until something
//! was written, holds one window of bytes, and ends by finish, reset or stop; the number of streams
//! is bounded; closing ends everything at once. A cut connection is silent, as a cut cable is.

mod stream;

use std::future::poll_fn;
use std::sync::{Arc, OnceLock, PoisonError};
use std::task::{Context, Poll};

use sortie_model::limits;
use sortie_wire::close::CloseCode;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, Notify, Semaphore, mpsc};
use tokio::time::{Instant, sleep_until};

use crate::error::CloseReason;
use crate::transport::StreamFault;
use crate::transport::memory::stream::{Announcement, Place};
pub(crate) use crate::transport::memory::stream::{MemoryReceive, MemorySend};
use crate::transport::pipe::{Due, Pipe, PipeFault, Step};
use crate::transport::way::{Arrival, Hindrance, Way};

/// One end of a connection.
#[derive(Clone)]
pub(crate) struct MemoryConnection {
    mine: Arc<EndState>,
    other: Arc<EndState>,
    /// From this end to the other one.
    out: Arc<Way>,
    /// From the other end to this one.
    back: Arc<Way>,
    remote: Arc<str>,
    closings: Arc<Closings>,
}

/// How the connections of a network were closed, each by the first close, in order. Bounded: what
/// nobody takes is forgotten.
#[derive(Default)]
pub(crate) struct Closings(std::sync::Mutex<Vec<(CloseCode, String)>>);

/// Closings that are kept until somebody takes them.
const CLOSINGS: usize = 1_024;

impl Closings {
    fn add(&self, code: CloseCode, text: &str) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() < CLOSINGS {
            all.push((code, text.to_owned()));
        }
    }

    pub(crate) fn take(&self) -> Vec<(CloseCode, String)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What belongs to one end: the streams that were opened towards it, and whether it is closed.
struct EndState {
    closed: OnceLock<CloseReason>,
    /// Wakes in the order of arrival, which a simulation needs; a `watch` wakes in any order.
    closing: Notify,
    uni: Lane<MemoryReceive>,
    bi: Lane<(MemorySend, MemoryReceive)>,
}

struct Lane<T> {
    announce: mpsc::Sender<T>,
    announced: Mutex<mpsc::Receiver<T>>,
    places: Arc<Semaphore>,
}

impl<T> Lane<T> {
    fn new() -> Self {
        let most = limits::STREAMS_PER_LINK as usize;
        let (announce, announced) = mpsc::channel(most);
        Self { announce, announced: Mutex::new(announced), places: Arc::new(Semaphore::new(most)) }
    }

    /// Streams that nobody took hold their connection, which would then never be freed.
    fn forget(&self) {
        if let Ok(mut announced) = self.announced.try_lock() {
            announced.close();
            while announced.try_recv().is_ok() {}
        }
    }
}

impl EndState {
    fn new() -> Arc<Self> {
        let (closed, closing) = (OnceLock::new(), Notify::new());
        Arc::new(Self { closed, closing, uni: Lane::new(), bi: Lane::new() })
    }

    /// Says whether this was the first close, which is the one that counts.
    fn close(&self, reason: CloseReason) -> bool {
        let first = self.closed.set(reason).is_ok();
        if first {
            self.closing.notify_waiters();
            self.uni.forget();
            self.bi.forget();
        }
        first
    }
}

/// Both ends of a connection; `addresses` are the ends' own, `ways` lead from the first to the
/// second and back.
pub(crate) fn connect(
    addresses: [&str; 2],
    ways: [Arc<Way>; 2],
    closings: &Arc<Closings>,
) -> (MemoryConnection, MemoryConnection) {
    let ([first, second], [out, back]) = (addresses, ways);
    let (mine, other) = (EndState::new(), EndState::new());
    let there = MemoryConnection {
        mine: Arc::clone(&other),
        other: Arc::clone(&mine),
        out: Arc::clone(&back),
        back: Arc::clone(&out),
        remote: first.into(),
        closings: Arc::clone(closings),
    };
    let (remote, closings) = (second.into(), Arc::clone(closings));
    (MemoryConnection { mine, other, out, back, remote, closings }, there)
}

impl MemoryConnection {
    pub(crate) async fn open_uni(&self) -> Result<MemorySend, CloseReason> {
        let place = self.place(&self.other.uni.places).await?;
        let pipe = Pipe::default();
        let receive = self.there().receive(&pipe, &place);
        Ok(self.send(&pipe, &place, Some(Announcement::Uni(receive))))
    }

    pub(crate) async fn open_bi(&self) -> Result<(MemorySend, MemoryReceive), CloseReason> {
        let place = self.place(&self.other.bi.places).await?;
        let (out, back) = (Pipe::default(), Pipe::default());
        let there = self.there();
        let theirs = (there.send(&back, &place, None), there.receive(&out, &place));
        let announcement = Announcement::Bi(Box::new(theirs));
        Ok((self.send(&out, &place, Some(announcement)), self.receive(&back, &place)))
    }

    pub(crate) async fn accept_uni(&self) -> Result<MemoryReceive, CloseReason> {
        self.accept(&self.mine.uni).await
    }

    pub(crate) async fn accept_bi(&self) -> Result<(MemorySend, MemoryReceive), CloseReason> {
        self.accept(&self.mine.bi).await
    }

    pub(crate) fn close(&self, code: CloseCode, text: &str) {
        let text = text.to_owned();
        let first = self.mine.close(CloseReason::Here { code, text: text.clone() });
        if first {
            self.closings.add(code, &text);
        }
        if !first || self.out.is_cut() {
            return;
        }
        let reason = CloseReason::There { code, text };
        match self.out.arrival() {
            Arrival::AtOnce => {
                self.other.close(reason);
            }
            Arrival::At(at) => {
                let (other, out) = (Arc::clone(&self.other), Arc::clone(&self.out));
                after(at, move || {
                    if !out.is_cut() {
                        other.close(reason);
                    }
                });
            }
            Arrival::Never => {}
        }
    }

    /// Closes it from the end at `address`, whichever end this is.
    pub(crate) fn close_from(&self, address: &str, code: CloseCode, text: &str) {
        self.end_at(address).close(code, text);
    }

    /// The end at `address` is gone with its process: it says nothing any more, and the other one
    /// is not told.
    pub(crate) fn vanish_from(&self, address: &str) {
        self.end_at(address).mine.close(CloseReason::Silent);
    }

    fn end_at(&self, address: &str) -> Self {
        if *self.remote == *address { self.there() } else { self.clone() }
    }

    pub(crate) async fn closed(&self) -> CloseReason {
        loop {
            let closing = self.mine.closing.notified();
            tokio::pin!(closing);
            closing.as_mut().enable();
            if let Some(reason) = self.mine.closed.get() {
                return reason.clone();
            }
            closing.await;
        }
    }

    pub(crate) fn close_reason(&self) -> Option<CloseReason> {
        self.mine.closed.get().cloned()
    }

    /// Whether both ends are closed.
    pub(crate) fn is_over(&self) -> bool {
        [&self.mine, &self.other].iter().all(|end| end.closed.get().is_some())
    }

    pub(crate) fn remote(&self) -> &str {
        &self.remote
    }

    /// After a cut: an end whose other end was closed meanwhile learns of it.
    pub(crate) fn heal(&self) {
        for (end, other) in [(&self.mine, &self.other), (&self.other, &self.mine)] {
            if other.closed.get().is_some() {
                end.close(CloseReason::Restarted);
            }
        }
    }

    /// The end that is there, with its own address's view; for what this end makes for it.
    fn there(&self) -> Self {
        Self {
            mine: Arc::clone(&self.other),
            other: Arc::clone(&self.mine),
            out: Arc::clone(&self.back),
            back: Arc::clone(&self.out),
            remote: Arc::clone(&self.remote),
            closings: Arc::clone(&self.closings),
        }
    }

    /// When what this end sends now arrives. What would arrive too late ends the connection.
    fn due(&self) -> Due {
        match self.out.arrival() {
            Arrival::AtOnce => None,
            Arrival::At(at) => Some(at),
            Arrival::Never => {
                let (mine, other) = (Arc::clone(&self.mine), Arc::clone(&self.other));
                let given_up = Instant::now() + limits::LINK_IDLE;
                after(given_up, move || {
                    mine.close(CloseReason::Silent);
                    other.close(CloseReason::Silent);
                });
                Some(given_up + limits::LINK_IDLE)
            }
        }
    }

    fn send(&self, pipe: &Pipe, place: &Place, announce: Option<Announcement>) -> MemorySend {
        MemorySend {
            connection: self.clone(),
            pipe: pipe.clone(),
            announce,
            _place: Arc::clone(place),
        }
    }

    fn receive(&self, pipe: &Pipe, place: &Place) -> MemoryReceive {
        MemoryReceive { connection: self.clone(), pipe: pipe.clone(), _place: Arc::clone(place) }
    }

    async fn place(&self, places: &Arc<Semaphore>) -> Result<Place, CloseReason> {
        tokio::select! {
            biased;
            reason = self.closed() => Err(reason),
            place = Arc::clone(places).acquire_owned() => match place {
                Ok(place) => Ok(Arc::new(place)),
                Err(_) => Err(CloseReason::Silent),
            },
        }
    }

    async fn accept<T>(&self, lane: &Lane<T>) -> Result<T, CloseReason> {
        let next = async { lane.announced.lock().await.recv().await };
        tokio::select! {
            biased;
            Some(stream) = next => Ok(stream),
            reason = self.closed() => Err(reason),
        }
    }

    /// Runs `step` until it is done, but not beyond the close of the connection, and not while
    /// `way` lets nothing pass.
    async fn carried<T>(
        &self,
        way: Option<&Way>,
        mut step: impl FnMut(&mut Context<'_>) -> Poll<Result<Step<T>, PipeFault>>,
    ) -> Result<T, StreamFault> {
        let Some(way) = way else { return self.passing(&mut step).await };
        loop {
            let changed = way.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let hindrance = way.hindrance();
            let resumes = async {
                match hindrance {
                    Hindrance::Until(at) => sleep_until(at).await,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                done = self.passing(&mut step), if hindrance == Hindrance::None => return done,
                reason = self.closed() => return Err(StreamFault::Closed(reason)),
                () = changed => {}
                () = resumes => {}
            }
        }
    }

    async fn passing<T>(
        &self,
        step: &mut impl FnMut(&mut Context<'_>) -> Poll<Result<Step<T>, PipeFault>>,
    ) -> Result<T, StreamFault> {
        loop {
            let at = tokio::select! {
                biased;
                stepped = poll_fn(&mut *step) => match stepped? {
                    Step::Done(done) => return Ok(done),
                    Step::Later(at) => at,
                },
                reason = self.closed() => return Err(StreamFault::Closed(reason)),
            };
            tokio::select! {
                biased;
                reason = self.closed() => return Err(StreamFault::Closed(reason)),
                () = sleep_until(at) => {}
            }
        }
    }
}

/// Does something at that moment; now, where there is no runtime to wait in.
fn after(at: Instant, then: impl FnOnce() + Send + 'static) {
    match Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn(async move {
            sleep_until(at).await;
            then();
        })),
        Err(_) => then(),
    }
}
