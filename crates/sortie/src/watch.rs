//! Watching: what happens to jobs and children, as it happens.

use std::sync::Arc;
use std::time::SystemTime;

use futures_core::Stream;
use futures_util::stream;
use sortie_actors::data::exchange::{ClientEnd, ToClient};
use sortie_model::Timestamp;
use sortie_model::selector::Selection;
use sortie_wire::session_proto::{Answer, Ask, Event, Happening, SessionRef};

use crate::error::RequestError;
use crate::route::Remote;
use crate::route::again::{Over, is_loss};
use crate::session::Session;

/// What happens to the jobs that are watched, in order.
///
/// A watcher that falls more than [`limits::EVENTS_QUEUED`](crate::limits::EVENTS_QUEUED) events
/// behind is told how many it missed ([`Event::Missed`](crate::answer::Event::Missed)); so is one
/// whose connection broke and that goes on ([`Client::reconnecting`]), with 0 for what nobody has
/// counted. Dropping it ends the watching and nothing else.
///
/// [`Client::reconnecting`]: crate::Client::reconnecting
#[derive(Debug)]
pub struct Happenings {
    end: Option<ClientEnd>,
    /// How it goes on when the connection breaks; none where it ends.
    again: Option<WatchAgain>,
}

/// What a watch needs to go on when its connection breaks (`docs/semantics.md`, section 4.3).
#[derive(Debug)]
pub(crate) struct WatchAgain {
    session: Session,
    remote: Arc<Remote>,
    firm: SessionRef,
    selection: Selection,
    over: Over,
}

impl WatchAgain {
    pub(crate) fn new(
        session: &Session,
        (remote, over): (&Arc<Remote>, Over),
        (firm, selection): (SessionRef, Selection),
    ) -> Self {
        let (session, remote) = (session.clone(), Arc::clone(remote));
        Self { session, remote, firm, selection, over }
    }

    /// Watches again. Cancel safe.
    async fn open(&mut self) -> Result<ClientEnd, RequestError> {
        loop {
            self.remote.again(self.over, RequestError::Lost).await?;
            self.over = self.remote.present();
            let ask = Ask::Watch { selection: self.selection.clone() };
            match self.session.open_in(self.firm.clone(), ask).await {
                Err(error) if is_loss(&error) => {}
                opened => return opened,
            }
        }
    }
}

impl Happenings {
    pub(crate) const fn new(end: ClientEnd) -> Self {
        Self { end: Some(end), again: None }
    }

    /// The same; it goes on when the connection breaks.
    pub(crate) const fn lasting(end: ClientEnd, again: WatchAgain) -> Self {
        Self { end: Some(end), again: Some(again) }
    }

    /// The next happening; none after an error.
    ///
    /// # Errors
    /// [`RequestError`] when watching is refused, the connection is lost, the client parts from the
    /// session ([`ErrorCode::SessionTaken`](crate::ErrorCode::SessionTaken)), or the session is
    /// over: [`ErrorCode::NoSession`](crate::ErrorCode::NoSession), or
    /// [`ErrorCode::ShuttingDown`](crate::ErrorCode::ShuttingDown) where its node ends.
    ///
    /// # Cancel safety
    /// Cancel safe: no happening is lost.
    pub async fn next(&mut self) -> Result<Option<Happening>, RequestError> {
        let happening = self.go_on().await;
        if !matches!(happening, Ok(Some(_))) {
            (self.end, self.again) = (None, None);
        }
        happening
    }

    async fn go_on(&mut self) -> Result<Option<Happening>, RequestError> {
        if self.end.is_some() {
            match (self.advance().await, &self.again) {
                (Err(error), Some(_)) if is_loss(&error) => self.end = None,
                (happening, _) => return happening,
            }
        }
        let Some(again) = &mut self.again else { return Ok(None) };
        self.end = Some(again.open().await?);
        // Nobody knows how many there were.
        let event = Event::Missed { count: 0 };
        Ok(Some(Happening { time: Timestamp::of(SystemTime::now()), event }))
    }

    async fn advance(&mut self) -> Result<Option<Happening>, RequestError> {
        let Some(end) = &mut self.end else { return Ok(None) };
        loop {
            match end.receiver.next().await? {
                None => return Ok(None),
                Some(ToClient::Happening(happening)) => return Ok(Some(happening)),
                Some(ToClient::Answer(Answer::Refused(error))) => return Err(error.into()),
                // The node says that it watches from here on.
                Some(ToClient::Answer(Answer::Done)) => {}
                Some(_) => return Err(RequestError::Unexpected),
            }
        }
    }

    /// The same as a stream, which ends after its first error.
    pub fn into_stream(self) -> impl Stream<Item = Result<Happening, RequestError>> + Send + use<> {
        stream::unfold(self, |mut happenings| async move {
            let happening = happenings.next().await.transpose()?;
            Some((happening, happenings))
        })
    }
}
