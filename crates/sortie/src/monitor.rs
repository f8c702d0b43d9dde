//! Monitoring: the end of each life of children, each once.

use futures_core::Stream;
use sortie_actors::data::exchange::ClientEnd;
use sortie_wire::session_proto::{Answer, EndNotice, Event, Happening};

use crate::error::RequestError;
use crate::route::answer;
use crate::watch::Happenings;

/// The ends of jobs and of each life of their children, wherever these run: exactly one
/// [`EndNotice`] for each (`docs/semantics.md`, section 5.2).
///
/// What has ended already gives its notice at once; of the lives of a child that came before the
/// present one nothing is told. The job's own notice comes after those of its children. Then there
/// are no more.
///
/// A reader that is slow delays nobody and costs its node no memory. It still gets one notice for
/// each life, but when more than [`limits::EVENTS_QUEUED`](crate::limits::EVENTS_QUEUED) events of
/// the session passed meanwhile, those of lives that were followed by another do not say how they
/// ended: their state is none. Dropping it ends the monitoring and nothing else.
#[derive(Debug)]
pub struct Monitor {
    happenings: Happenings,
}

impl Monitor {
    /// Returns once the node monitors: no end after this is missed.
    pub(crate) async fn begin(mut end: ClientEnd) -> Result<Self, RequestError> {
        match answer(&mut end.receiver).await? {
            Answer::Done => Ok(Self { happenings: Happenings::new(end) }),
            _ => Err(RequestError::Unexpected),
        }
    }

    /// The next notice; none once nothing that is monitored can end any more.
    ///
    /// # Errors
    /// [`RequestError`] when the session ends before that, or the connection to its node is lost:
    /// nothing more is known then. After an error nothing more comes.
    ///
    /// # Cancel safety
    /// Cancel safe: no notice is lost.
    pub async fn next(&mut self) -> Result<Option<EndNotice>, RequestError> {
        match self.happenings.next().await? {
            None => Ok(None),
            Some(Happening { event: Event::Ended(notice), .. }) => Ok(Some(notice)),
            Some(_) => Err(RequestError::Unexpected),
        }
    }

    /// The same as a stream, which ends after its first error.
    pub fn into_stream(self) -> impl Stream<Item = Result<EndNotice, RequestError>> + Send + use<> {
        futures_util::stream::unfold(self, |mut monitor| async move {
            let notice = monitor.next().await.transpose()?;
            Some((notice, monitor))
        })
    }
}
