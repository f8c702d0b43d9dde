//! The way to the client: messages gather while more is ready, and never wait for more.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Poll;

use futures_util::future::try_join;
use futures_util::{FutureExt, poll};
use sortie_model::limits::KIB;

use crate::data::exchange::{ExchangeError, ServerSender, ToClient};
use crate::data::mailboxes::LiveValues;

/// Messages that go out together, at most ...
const GATHERED_MESSAGES: usize = 256;
/// ... or when their records have so many bytes.
const GATHERED_BYTES: usize = 256 * KIB;

/// Gathers messages to a client.
#[derive(Debug)]
pub(super) struct Outlet {
    sender: ServerSender,
    gathered: Vec<ToClient>,
    bytes: usize,
    way: Way,
}

/// Where an outlet is, for who wants it to end between two messages.
#[derive(Debug, Clone, Default)]
pub(super) struct Way(Arc<AtomicU8>);

impl Way {
    const SENDING: u8 = 1;
    const UNWANTED: u8 = 2;

    fn has(&self, what: u8) -> bool {
        self.0.load(Ordering::Acquire) & what != 0
    }

    /// Nothing more is wanted. Says whether a message is being sent: then the outlet fails once it
    /// is sent; behind a part of one nothing is understood.
    pub(super) fn close(&self) -> bool {
        self.0.fetch_or(Self::UNWANTED, Ordering::AcqRel) & Self::SENDING != 0
    }
}

impl Outlet {
    pub(super) fn new(sender: ServerSender) -> Self {
        Self { sender, gathered: Vec::new(), bytes: 0, way: Way::default() }
    }

    pub(super) fn way(&self) -> Way {
        self.way.clone()
    }

    /// Begins anew with a client that wants nothing of what was gathered.
    pub(super) fn renew(&mut self) {
        (self.gathered, self.bytes, self.way) = (Vec::new(), 0, Way::default());
    }

    /// What the client can be given of live values: in another process it needs bytes.
    pub(super) const fn live_values(&self) -> LiveValues {
        match self.sender {
            ServerSender::Local(_) => LiveValues::AsTheyAre,
            ServerSender::Away(_) => LiveValues::Encoded,
        }
    }

    /// Sends a message with the next flush, which may be now.
    pub(super) async fn push(&mut self, message: ToClient) -> Result<(), ExchangeError> {
        if let ToClient::Records { records, .. } = &message {
            self.bytes += records.iter().map(|record| record.body.len()).sum::<usize>();
        }
        self.gathered.push(message);
        if self.gathered.len() >= GATHERED_MESSAGES || self.bytes >= GATHERED_BYTES {
            self.flush().await?;
        }
        Ok(())
    }

    /// Sends what was gathered.
    pub(super) async fn flush(&mut self) -> Result<(), ExchangeError> {
        self.bytes = 0;
        if self.gathered.is_empty() {
            return Ok(());
        }
        self.way.0.fetch_or(Way::SENDING, Ordering::AcqRel);
        let sent = self.sender.send_all(std::mem::take(&mut self.gathered)).await;
        self.way.0.fetch_and(!Way::SENDING, Ordering::AcqRel);
        if self.way.has(Way::UNWANTED) { Err(ExchangeError::Gone) } else { sent }
    }

    /// Does something else. If that takes time, what was gathered is sent meanwhile: what it waits
    /// for may be that the client acknowledges.
    pub(super) async fn meanwhile<T>(
        &mut self,
        work: impl Future<Output = T>,
    ) -> Result<T, ExchangeError> {
        let mut work = pin!(work);
        if let Poll::Ready(done) = poll!(work.as_mut()) {
            return Ok(done);
        }
        // What it waits for may never come when nothing can be sent any more.
        let (_, done) = try_join(self.flush(), work.map(Ok)).await?;
        Ok(done)
    }

    /// Ends the exchange cleanly; everything was flushed.
    pub(super) async fn finish(self) -> Result<(), ExchangeError> {
        self.sender.finish().await
    }
}
