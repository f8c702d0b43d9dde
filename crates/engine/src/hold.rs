//! Who uses a session that outlives its clients (`docs/semantics.md`, section 4.1): one client
//! holds it, another one takes it over, and when nobody comes it ends after a while.

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
    /// It was disconnected, or another client connected to it, since.
    #[error("the session was disconnected, or another client took it over")]
    Fenced,
    /// It is being closed.
    #[error("the session is being closed")]
    Over,
}

/// The hold on one session. The moments are those of its node's monotonic clock.
#[derive(Debug)]
pub struct Hold {
    holder: Option<ClientKey>,
    epoch: u64,
    /// Requests of this epoch that are open.
    open: u64,
    /// Since when none is.
    idle_since: Uptime,
    idle_timeout: Duration,
    /// Whether it is being closed.
    over: bool,
}

impl Hold {
    /// The session was opened by that client, which holds it. It ends after `idle_timeout` in which
    /// no client has a request open.
    pub const fn new(client: ClientKey, idle_timeout: Duration, now: Uptime) -> Self {
        let holder = Some(client);
        Self { holder, epoch: 1, open: 0, idle_since: now, idle_timeout, over: false }
    }

    /// The session outlived its node: nobody holds it, and its time runs from now.
    pub const fn recovered(epoch: u64, idle_timeout: Duration, now: Uptime) -> Self {
        let epoch = epoch.saturating_add(1);
        Self { holder: None, epoch, open: 0, idle_since: now, idle_timeout, over: false }
    }

    /// A client asks something, with the epoch that it was given when it connected, if it did. A
    /// session that nobody holds is any client's to ask. Answers the epoch that the request belongs
    /// to; [`Self::leave`] has to follow.
    ///
    /// # Errors
    /// [`HoldRefused`].
    pub fn enter(&mut self, client: ClientKey, epoch: Option<u64>) -> Result<u64, HoldRefused> {
        if self.over {
            return Err(HoldRefused::Over);
        }
        if epoch.is_some_and(|epoch| epoch != self.epoch) {
            return Err(HoldRefused::Fenced);
        }
        if self.holder.is_some_and(|holder| holder != client) {
            return Err(HoldRefused::Busy);
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

    /// A client connects, and is there until it leaves, as after [`Self::enter`]. What it holds
    /// already stays its own, in the same epoch. Else the epoch rises: whoever was in the session
    /// is parted from it, and is [`HoldRefused::Fenced`] in what it asks, also in what is open.
    /// From another holder it is taken only if `take` says so. Answers the epoch.
    ///
    /// # Errors
    /// [`HoldRefused::Busy`], [`HoldRefused::Over`].
    pub fn connect(
        &mut self,
        client: ClientKey,
        take: bool,
        now: Uptime,
    ) -> Result<u64, HoldRefused> {
        if self.over {
            return Err(HoldRefused::Over);
        }
        match self.holder {
            Some(holder) if holder == client => {}
            Some(_) if !take => return Err(HoldRefused::Busy),
            _ => self.part(Some(client), now),
        }
        self.open += 1;
        Ok(self.epoch)
    }

    /// A client gives the session free, as its holder since that epoch if it says so. Its open
    /// requests are over, and what is disconnected already stays so.
    ///
    /// # Errors
    /// [`HoldRefused::Busy`] when another client holds it, [`HoldRefused::Fenced`] when the client
    /// holds it since another epoch, [`HoldRefused::Over`].
    pub fn disconnect(
        &mut self,
        client: ClientKey,
        epoch: Option<u64>,
        now: Uptime,
    ) -> Result<(), HoldRefused> {
        match self.holder {
            _ if self.over => Err(HoldRefused::Over),
            None => Ok(()),
            Some(_) if epoch.is_some_and(|epoch| epoch != self.epoch) => Err(HoldRefused::Fenced),
            Some(holder) if holder == client => {
                self.part(None, now);
                Ok(())
            }
            Some(_) => Err(HoldRefused::Busy),
        }
    }

    /// Whoever was there is there no more.
    const fn part(&mut self, holder: Option<ClientKey>, now: Uptime) {
        (self.holder, self.open, self.idle_since) = (holder, 0, now);
        self.epoch = self.epoch.saturating_add(1);
    }

    /// The session is closed from now on. Says whether this was the first word.
    pub const fn close(&mut self) -> bool {
        !std::mem::replace(&mut self.over, true)
    }

    /// Closes the session if its time is over, in one step with the look, and says whether it did.
    pub fn expire(&mut self, now: Uptime) -> bool {
        self.expires_at().is_some_and(|at| at <= now) && self.close()
    }

    /// What every command of the present holder carries.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// How it looks to a client.
    pub fn seen_by(&self, client: ClientKey) -> (SessionState, Availability) {
        match self.holder {
            _ if self.over => (SessionState::Closed, Availability::None),
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

    fn opened() -> Hold {
        Hold::new(A, IDLE, at(0))
    }

    #[test]
    fn who_opened_it_holds_it_and_others_find_it_busy() {
        let mut hold = opened();
        assert_eq!(hold.enter(A, None), Ok(1));
        assert_eq!(hold.enter(C, None), Err(HoldRefused::Busy));
        assert_eq!(hold.connect(C, false, at(0)), Err(HoldRefused::Busy));
        assert_eq!(hold.disconnect(C, None, at(0)), Err(HoldRefused::Busy));
        assert_eq!(hold.seen_by(A), (SessionState::Opened, Availability::Available));
        assert_eq!(hold.seen_by(C), (SessionState::Disconnected, Availability::Busy));
    }

    #[test]
    fn a_takeover_fences_the_old_holder_also_after_it_took_it_back() {
        let mut hold = opened();
        assert_eq!(hold.connect(C, true, at(0)), Ok(2));
        assert_eq!(hold.enter(A, Some(1)), Err(HoldRefused::Fenced));
        assert_eq!(hold.enter(A, None), Err(HoldRefused::Busy));
        assert_eq!(hold.enter(C, Some(2)), Ok(2));
        assert_eq!(hold.connect(A, true, at(0)), Ok(3));
        assert_eq!(hold.enter(A, Some(1)), Err(HoldRefused::Fenced), "a handle from before");
        assert_eq!(hold.disconnect(A, Some(1), at(0)), Err(HoldRefused::Fenced), "nor that");
        assert_eq!(hold.enter(A, Some(3)), Ok(3));
    }

    #[test]
    fn connecting_to_ones_own_and_disconnecting_twice_are_no_errors() {
        let mut hold = opened();
        assert_eq!(hold.connect(A, false, at(0)), Ok(1), "its own requests go on");
        assert_eq!(hold.disconnect(A, Some(1), at(0)), Ok(()));
        assert_eq!(hold.disconnect(A, Some(1), at(0)), Ok(()));
        assert_eq!(hold.disconnect(C, None, at(0)), Ok(()), "it is disconnected, whoever says it");
        assert_eq!(hold.seen_by(C), (SessionState::Disconnected, Availability::Available));
    }

    #[test]
    fn a_session_that_nobody_holds_is_anybodys_until_one_connects() {
        let mut hold = opened();
        assert_eq!(hold.disconnect(A, None, at(0)), Ok(()));
        assert_eq!((hold.enter(C, None), hold.enter(A, None)), (Ok(2), Ok(2)));
        assert_eq!(hold.enter(A, Some(1)), Err(HoldRefused::Fenced));
        assert_eq!(hold.connect(A, false, at(0)), Ok(3), "what others have open is over");
        assert_eq!(hold.enter(C, None), Err(HoldRefused::Busy));
    }

    #[test]
    fn its_time_runs_only_while_no_request_is_open() {
        let mut hold = opened();
        assert_eq!(hold.expires_at(), Some(at(60)));
        let first = hold.enter(A, None).expect("it holds it");
        let second = hold.connect(A, false, at(0)).expect("it holds it");
        assert_eq!(hold.expires_at(), None);
        hold.leave(first, at(100));
        assert!(!hold.expire(at(1_000)), "one is open");
        hold.leave(second, at(100));
        assert!(!hold.expire(at(159)));
        assert!(hold.expire(at(160)) && !hold.expire(at(161)), "once");
        assert_eq!(hold.enter(A, None), Err(HoldRefused::Over));
        assert_eq!(hold.connect(A, true, at(161)), Err(HoldRefused::Over));
        assert_eq!(hold.seen_by(A), (SessionState::Closed, Availability::None));
    }

    #[test]
    fn its_time_begins_anew_with_a_parting() {
        let mut hold = opened();
        assert_eq!(hold.disconnect(A, None, at(59)), Ok(()));
        assert_eq!(hold.expires_at(), Some(at(119)));
        let there = hold.connect(C, false, at(100)).expect("it is free");
        hold.leave(there, at(101));
        assert_eq!(hold.connect(A, true, at(150)).map(|there| hold.leave(there, at(151))), Ok(()));
        assert_eq!(hold.expires_at(), Some(at(211)));
    }

    #[test]
    fn a_request_of_a_past_epoch_ends_without_effect() {
        let mut hold = opened();
        let old = hold.enter(A, None).expect("it holds it");
        let new = hold.connect(C, true, at(10)).expect("it is taken");
        hold.leave(old, at(20));
        assert_eq!(hold.expires_at(), None, "the new holder is there");
        hold.leave(new, at(30));
        assert_eq!(hold.expires_at(), Some(at(90)));
    }
}
