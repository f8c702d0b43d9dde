//! A connection within one process. It keeps QUIC's manners: a stream is invisible until something
//! was written, holds one window of bytes, and ends by finish, reset or stop; the number of streams
//! is bounded; closing ends everything at once. A cut connection is silent, as a cut cable is.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use sortie_model::limits;
use sortie_wire::close::{CloseCode, StreamCode};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc, watch};

use crate::error::CloseReason;
use crate::transport::StreamFault;
use crate::transport::pipe::{Pipe, PipeFault};

/// One end of a connection.
#[derive(Clone)]
pub(crate) struct MemoryConnection {
    mine: Arc<EndState>,
    other: Arc<EndState>,
    cut: watch::Receiver<bool>,
    remote: Arc<str>,
}

/// What belongs to one end: the streams that were opened towards it, and whether it is closed.
struct EndState {
    closed: watch::Sender<Option<CloseReason>>,
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
        Arc::new(Self { closed: watch::Sender::new(None), uni: Lane::new(), bi: Lane::new() })
    }

    fn close(&self, reason: CloseReason) {
        self.closed.send_if_modified(|closed| {
            let first = closed.is_none();
            closed.get_or_insert(reason);
            first
        });
        self.uni.forget();
        self.bi.forget();
    }
}

/// Both ends of a connection; `addresses` are the ends' own. It is silent while `cut` is true.
pub(crate) fn connect(
    addresses: [&str; 2],
    cut: watch::Receiver<bool>,
) -> (MemoryConnection, MemoryConnection) {
    let [first, second] = addresses;
    let (mine, other) = (EndState::new(), EndState::new());
    let here = MemoryConnection {
        mine: Arc::clone(&mine),
        other: Arc::clone(&other),
        cut: cut.clone(),
        remote: second.into(),
    };
    (here, MemoryConnection { mine: other, other: mine, cut, remote: first.into() })
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
        self.mine.close(CloseReason::Here { code, text: text.clone() });
        if !*self.cut.borrow() {
            self.other.close(CloseReason::There { code, text });
        }
    }

    /// Closes it from the end at `address`, whichever end this is.
    pub(crate) fn close_from(&self, address: &str, code: CloseCode, text: &str) {
        if *self.remote == *address {
            self.there().close(code, text);
        } else {
            self.close(code, text);
        }
    }

    pub(crate) async fn closed(&self) -> CloseReason {
        let mut closed = self.mine.closed.subscribe();
        let silent = CloseReason::Silent;
        closed
            .wait_for(Option::is_some)
            .await
            .map_or(silent.clone(), |reason| reason.clone().unwrap_or(silent))
    }

    pub(crate) fn close_reason(&self) -> Option<CloseReason> {
        self.mine.closed.borrow().clone()
    }

    pub(crate) fn remote(&self) -> &str {
        &self.remote
    }

    /// After a cut: an end whose other end was closed meanwhile learns of it.
    pub(crate) fn heal(&self) {
        for (end, other) in [(&self.mine, &self.other), (&self.other, &self.mine)] {
            if other.closed.borrow().is_some() {
                end.close(CloseReason::Restarted);
            }
        }
    }

    fn there(&self) -> Self {
        Self {
            mine: Arc::clone(&self.other),
            other: Arc::clone(&self.mine),
            cut: self.cut.clone(),
            remote: Arc::clone(&self.remote),
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

    /// Runs `step`, but not while the connection is cut, and not beyond its close.
    async fn carried<T>(
        &self,
        mut step: impl FnMut(&mut Context<'_>) -> Poll<Result<T, PipeFault>>,
    ) -> Result<T, StreamFault> {
        let mut cut = self.cut.clone();
        loop {
            let silent = *cut.borrow_and_update();
            tokio::select! {
                biased;
                done = poll_fn(&mut step), if !silent => return done.map_err(StreamFault::from),
                reason = self.closed() => return Err(StreamFault::Closed(reason)),
                () = changed(&mut cut) => {}
            }
        }
    }
}

/// Waits for a cut or its end; for ever once the network is gone, which can then do neither.
async fn changed(cut: &mut watch::Receiver<bool>) {
    if cut.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

type Place = Arc<OwnedSemaphorePermit>;

/// The other end's half of a stream that it cannot see yet.
enum Announcement {
    Uni(MemoryReceive),
    Bi(Box<(MemorySend, MemoryReceive)>),
}

/// The sending end of a stream.
pub(crate) struct MemorySend {
    connection: MemoryConnection,
    pipe: Pipe,
    announce: Option<Announcement>,
    _place: Place,
}

impl MemorySend {
    pub(crate) async fn write(&mut self, chunks: &mut [Bytes]) -> Result<(), StreamFault> {
        if let Some(reason) = self.connection.close_reason() {
            return Err(StreamFault::Closed(reason));
        }
        self.announce();
        let pipe = self.pipe.clone();
        self.connection.carried(|context| pipe.poll_write(context, chunks)).await
    }

    pub(crate) fn finish(&mut self) -> Result<(), StreamFault> {
        self.announce();
        self.pipe.finish().map_err(StreamFault::from)
    }

    pub(crate) fn reset(&mut self, code: StreamCode) {
        // What is closed carries nothing any more, no reset either.
        if self.connection.close_reason().is_none() {
            self.announce();
            self.pipe.reset(code);
        }
    }

    pub(crate) async fn delivered(&mut self) -> Result<(), StreamFault> {
        let pipe = self.pipe.clone();
        self.connection.carried(|context| pipe.poll_delivered(context)).await
    }

    fn announce(&mut self) {
        let there = &self.connection.other;
        // As many may wait as may be open, so that a place is there unless the end is gone.
        match self.announce.take() {
            Some(Announcement::Uni(stream)) => drop(there.uni.announce.try_send(stream)),
            Some(Announcement::Bi(pair)) => drop(there.bi.announce.try_send(*pair)),
            None => {}
        }
    }
}

impl Drop for MemorySend {
    /// As quinn does: an end that nobody spoke is a finish.
    fn drop(&mut self) {
        if self.connection.close_reason().is_none() {
            let _ = self.pipe.finish();
        }
    }
}

/// The receiving end of a stream.
pub(crate) struct MemoryReceive {
    connection: MemoryConnection,
    pipe: Pipe,
    _place: Place,
}

impl MemoryReceive {
    pub(crate) async fn read(
        &mut self,
        chunks: &mut [Bytes],
    ) -> Result<Option<usize>, StreamFault> {
        let pipe = self.pipe.clone();
        self.connection.carried(|context| pipe.poll_read(context, chunks)).await
    }

    pub(crate) fn stop(&mut self, code: StreamCode) {
        self.pipe.stop(code);
    }
}

impl Drop for MemoryReceive {
    fn drop(&mut self) {
        self.pipe.stop(StreamCode(0));
    }
}

impl From<PipeFault> for StreamFault {
    fn from(fault: PipeFault) -> Self {
        match fault {
            PipeFault::Reset(code) => Self::Reset(code),
            PipeFault::Stopped(code) => Self::Stopped(code),
            PipeFault::Ended => Self::Ended,
        }
    }
}
