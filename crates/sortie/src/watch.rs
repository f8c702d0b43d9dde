//! Watching: what happens to jobs and children, as it happens.

use futures_core::Stream;
use futures_util::stream;
use sortie_actors::data::exchange::{ClientEnd, ToClient};
use sortie_wire::session_proto::{Answer, Happening};

use crate::error::RequestError;

/// What happens to the jobs that are watched, in order.
///
/// A watcher that falls more than [`limits::EVENTS_QUEUED`](crate::limits::EVENTS_QUEUED) events
/// behind is told how many it missed ([`Event::Missed`](crate::answer::Event::Missed)). Dropping it
/// ends the watching and nothing else.
#[derive(Debug)]
pub struct Happenings {
    end: Option<ClientEnd>,
}

impl Happenings {
    pub(crate) const fn new(end: ClientEnd) -> Self {
        Self { end: Some(end) }
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
        let happening = self.advance().await;
        if !matches!(happening, Ok(Some(_))) {
            self.end = None;
        }
        happening
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
