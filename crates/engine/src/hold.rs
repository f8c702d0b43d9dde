//! Who uses a session that outlives its clients (`docs/semantics.md`, section 4.1): one client
//! holds it, another one takes it over, and nobody's it ends after a while.

use std::time::Duration;

use sortie_model::NodeId;
use sortie_model::view::{Availability, SessionState};

use crate::session::Uptime;

/// A client's identity: the hash of the key that its certificate is for.
pub type ClientKey = NodeId;

/// Why a client may not use the session; nothing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HoldRefused {
    /// Another client holds it.
    #[error("another client holds the session")]
    Busy,
    /// It was disconnected, or taken over, since the client connected.
    #[error("the session was disconnected, or another client took it over")]
    Fenced,
}

/// The hold on one session. The moments are those of its node's monotonic clock.
#[derive(Debug)]
pub struct Hold {
    holder: Option<ClientKey>,
    epoch: u64,
    /// Requests of the holder that are open.
    open: u64,
    /// Since when none is.
    idle_since: Uptime,
    idle_timeout: Duration,
}

impl Hold {
    /// The session was opened by that client, which holds it. It ends after `idle_timeout` in which
    /// no client has a request open.
    pub const fn new(client: ClientKey, idle_timeout: Duration, now: Uptime) -> Self {
        Self { holder: Some(client), epoch: 1, open: 0, idle_since: now, idle_timeout }
    }

    /// A client asks something, with the epoch that it was given when it connected, if it did. A
    /// session that nobody holds is its own from now on. Answers the epoch that the request belongs
    /// to; [`Self::leave`] has to follow.
    ///
    /// # Errors
    /// [`HoldRefused`].
    pub fn enter(&mut self, client: ClientKey, epoch: Option<u64>) -> Result<u64, HoldRefused> {
        if epoch.is_some_and(|epoch| epoch != self.epoch) {
            return Err(HoldRefused::Fenced);
        }
        match self.holder {
            Some(holder) if holder == client => {}
            Some(_) => return Err(HoldRefused::Busy),
            None => self.holder = Some(client),
        }
        self.open += 1;
        Ok(self.epoch)
    }

    /// The request of that epoch is over.
    pub const fn leave(&mut self, epoch: u64, now: Uptime) {
        if epoch == self.epoch && self.open > 0 {
            self.open -= 1;
            self.idle_since = now;
        }
    }

    /// A client connects; what it holds already stays its own, in the same epoch. Another holder
    /// is parted from the session if `take` says so: the epoch rises, and its requests, also those
    /// that are open, are [`HoldRefused::Fenced`].
    ///
    /// # Errors
    /// [`HoldRefused::Busy`] without `take`.
    pub fn connect(
        &mut self,
        client: ClientKey,
        take: bool,
        now: Uptime,
    ) -> Result<(), HoldRefused> {
        match self.holder {
            Some(holder) if holder == client => return Ok(()),
            Some(_) if !take => return Err(HoldRefused::Busy),
            Some(_) => self.part(now),
            None => {}
        }
        self.holder = Some(client);
        Ok(())
    }

    /// A client gives the session free. Its open requests are over, and what is disconnected
    /// already stays so.
    ///
    /// # Errors
    /// [`HoldRefused::Busy`] when another client holds it.
    pub fn disconnect(&mut self, client: ClientKey, now: Uptime) -> Result<(), HoldRefused> {
        match self.holder {
            None => Ok(()),
            Some(holder) if holder == client => {
                self.part(now);
                Ok(())
            }
            Some(_) => Err(HoldRefused::Busy),
        }
    }

    /// Nobody holds it from here on.
    fn part(&mut self, now: Uptime) {
        if self.open > 0 {
            self.idle_since = now;
        }
        (self.holder, self.open) = (None, 0);
        self.epoch = self.epoch.saturating_add(1);
    }

    /// What every command of the present holder carries.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// How it looks to a client.
    pub fn seen_by(&self, client: ClientKey) -> (SessionState, Availability) {
        match self.holder {
            Some(holder) if holder == client => (SessionState::Opened, Availability::Available),
            Some(_) => (SessionState::Disconnected, Availability::Busy),
            None => (SessionState::Disconnected, Availability::Available),
        }
    }

    /// How long it may be idle.
    pub const fn idle_timeout(&self) -> Duration {
        self.idle_timeout
    }

    /// When it expires if nobody comes; none while a request is open.
    pub const fn expires_at(&self) -> Option<Uptime> {
        if self.open > 0 {
            return None;
        }
        Some(self.idle_since.saturating_add(self.idle_timeout))
    }

    /// Whether its time is over.
    pub fn has_expired(&self, now: Uptime) -> bool {
        self.expires_at().is_some_and(|at| at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ClientKey = NodeId([1; 16]);
    const C: ClientKey = NodeId([3; 16]);
    const IDLE: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Uptime {
        Duration::from_secs(seconds)
    }

    #[test]
    fn who_opened_it_holds_it_and_others_find_it_busy() {
        let mut hold = Hold::new(A, IDLE, at(0));
        assert_eq!(hold.enter(A, None), Ok(1));
        assert_eq!(hold.enter(C, None), Err(HoldRefused::Busy));
        assert_eq!(hold.connect(C, false, at(0)), Err(HoldRefused::Busy));
        assert_eq!(hold.disconnect(C, at(0)), Err(HoldRefused::Busy));
        assert_eq!(hold.seen_by(A), (SessionState::Opened, Availability::Available));
        assert_eq!(hold.seen_by(C), (SessionState::Disconnected, Availability::Busy));
    }

    #[test]
    fn a_takeover_fences_the_old_holder_also_after_it_took_it_back() {
        let mut hold = Hold::new(A, IDLE, at(0));
        assert_eq!(hold.connect(C, true, at(0)), Ok(()));
        assert_eq!(hold.epoch(), 2);
        assert_eq!(hold.enter(A, Some(1)), Err(HoldRefused::Fenced));
        assert_eq!(hold.enter(A, None), Err(HoldRefused::Busy));
        assert_eq!(hold.enter(C, Some(2)), Ok(2));
        assert_eq!(hold.connect(A, true, at(0)), Ok(()));
        assert_eq!(hold.enter(A, Some(1)), Err(HoldRefused::Fenced), "a handle from before");
        assert_eq!(hold.enter(A, Some(3)), Ok(3));
    }

    #[test]
    fn connecting_to_ones_own_and_disconnecting_twice_are_no_errors() {
        let mut hold = Hold::new(A, IDLE, at(0));
        assert_eq!(hold.connect(A, false, at(0)), Ok(()));
        assert_eq!(hold.epoch(), 1, "its own requests go on");
        assert_eq!(hold.disconnect(A, at(0)), Ok(()));
        assert_eq!(hold.disconnect(A, at(0)), Ok(()));
        assert_eq!(hold.disconnect(C, at(0)), Ok(()), "it is disconnected, whoever says it");
        assert_eq!(hold.seen_by(C), (SessionState::Disconnected, Availability::Available));
    }

    #[test]
    fn a_session_that_nobody_holds_belongs_to_whoever_asks_first() {
        let mut hold = Hold::new(A, IDLE, at(0));
        assert_eq!(hold.disconnect(A, at(0)), Ok(()));
        assert_eq!(hold.enter(C, None), Ok(2));
        assert_eq!(hold.enter(A, None), Err(HoldRefused::Busy));
        assert_eq!(hold.enter(A, Some(1)), Err(HoldRefused::Fenced));
    }

    #[test]
    fn its_time_runs_only_while_no_request_is_open() {
        let mut hold = Hold::new(A, IDLE, at(0));
        assert_eq!(hold.expires_at(), Some(at(60)));
        let first = hold.enter(A, None).expect("it holds it");
        let second = hold.enter(A, None).expect("it holds it");
        assert_eq!(hold.expires_at(), None);
        hold.leave(first, at(100));
        assert!(!hold.has_expired(at(1_000)), "one is open");
        hold.leave(second, at(100));
        assert!(!hold.has_expired(at(159)));
        assert!(hold.has_expired(at(160)));
    }

    #[test]
    fn a_request_of_a_past_epoch_ends_without_effect() {
        let mut hold = Hold::new(A, IDLE, at(0));
        let old = hold.enter(A, None).expect("it holds it");
        assert_eq!(hold.connect(C, true, at(10)), Ok(()));
        assert_eq!(hold.expires_at(), Some(at(70)), "the taken requests are over");
        let new = hold.enter(C, None).expect("it holds it");
        hold.leave(old, at(20));
        assert_eq!(hold.expires_at(), None, "the new holder's request is open");
        hold.leave(new, at(30));
        assert_eq!(hold.expires_at(), Some(at(90)));
    }
}
