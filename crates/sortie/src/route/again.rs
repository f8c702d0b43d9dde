//! A connection that broke is made again, for requests that may be repeated. What is decided is
//! `sortie_engine::reconnect`'s.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sortie_engine::reconnect::{Loss, News, Next, Reconnect as Rule};
use sortie_link::{Backoff, CloseCode, CloseReason, Link, Peer};
use sortie_model::reason::ReachStep;
use sortie_model::{NodeName, limits};
use tokio::time::Instant;

use crate::error::{ConnectError, RequestError};
use crate::reconnect::{Dialling, Reconnect};
use crate::route::{Remote, Whose};

/// How a client goes on when its connection breaks.
#[derive(Debug)]
pub(super) struct Again {
    policy: Reconnect,
    rule: Mutex<Rule>,
    began: Instant,
    backoff: Backoff,
    /// Held by the one request that dials on and on for all of them.
    turn: tokio::sync::Mutex<()>,
}

impl Again {
    pub(super) fn new(policy: Reconnect) -> Self {
        let rule = Mutex::new(Rule::new(policy.patience));
        // Clients of one node, which lose it at once, do not come back at once.
        let backoff = Backoff::new(u64::from(std::process::id()));
        let turn = tokio::sync::Mutex::new(());
        Self { policy, rule, began: Instant::now(), backoff, turn }
    }

    fn decide<T>(&self, what: impl FnOnce(&mut Rule, Duration) -> T) -> T {
        let mut rule = self.rule.lock().unwrap_or_else(PoisonError::into_inner);
        what(&mut rule, self.began.elapsed())
    }
}

/// The number of a connection: a request that fails says over which one it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Over(u64);

/// Whether the error says that the connection is gone, and not what the node thinks of the request.
pub(crate) const fn is_loss(error: &RequestError) -> bool {
    matches!(error, RequestError::Lost | RequestError::Unreachable(_))
}

impl Remote {
    /// From here on a connection that breaks is made again. The first word counts.
    pub(crate) fn go_on(&self, policy: Reconnect) {
        let _ = self.again.set(Again::new(policy));
    }

    /// Whether a connection that breaks is made again.
    pub(crate) fn goes_on(&self) -> bool {
        self.again.get().is_some()
    }

    /// The connection at present.
    pub(crate) fn present(&self) -> Over {
        Over(self.connected().link.id())
    }

    /// Returns when there is another connection than that one, over which a request was lost.
    ///
    /// # Errors
    /// The error of that request, where the connection is up still, so that it was not that, and
    /// where the node said goodbye; [`RequestError::Lost`] where no connection comes up in time.
    ///
    /// # Cancel safety
    /// Cancel safe: the next call goes on with the same loss.
    pub(crate) async fn again(&self, over: Over, lost: RequestError) -> Result<(), RequestError> {
        let Some(again) = self.again.get() else { return Err(lost) };
        let _turn = again.turn.lock().await;
        let link = self.connected().link.clone();
        if !link.is_closed() {
            return if Over(link.id()) == over { Err(lost) } else { Ok(()) };
        }
        let (mut next, news) = again.decide(|rule, now| rule.on_lost(how(&link), now));
        if news == News::Lost
            && let Some(name) = name_of(&link)
        {
            again.policy.watch.lost(&name, again.policy.patience);
        }
        while let Next::Dial { attempt } = next {
            if attempt > 0 {
                let most = match &self.whose {
                    Whose::Home(_) => limits::REDIAL_HOME_LONGEST,
                    Whose::Elsewhere => limits::REDIAL_LONGEST,
                };
                tokio::time::sleep(again.backoff.wait(attempt).min(most)).await;
            }
            if again.policy.watch.before_dial().await == Dialling::GiveUp {
                return Err(RequestError::Lost);
            }
            match self.link().await {
                Ok(_) => return Ok(()),
                Err(error) => next = again.decide(|rule, now| after(rule, &error, now)),
            }
            if next == Next::GiveUp {
                return Err(RequestError::Lost);
            }
        }
        Err(lost)
    }

    /// The connection is up again, whoever made it.
    pub(super) fn is_up(&self, before: &Link) {
        let Some(again) = self.again.get() else { return };
        let news = again.decide(Rule::on_up);
        if let (News::Connected, Some(name)) = (news, name_of(before)) {
            again.policy.watch.connected(&name);
        }
    }
}

fn after(rule: &mut Rule, error: &ConnectError, now: Duration) -> Next {
    rule.on_dial_failed(error.step().unwrap_or(ReachStep::Connect), now)
}

fn name_of(link: &Link) -> Option<NodeName> {
    match link.peer() {
        Peer::Node { name, .. } => Some(name.clone()),
        _ => None,
    }
}

fn how(link: &Link) -> Loss {
    match link.close_reason() {
        Some(CloseReason::There { code: CloseCode::SHUTDOWN, .. }) => Loss::Goodbye,
        _ => Loss::Broken,
    }
}

#[cfg(test)]
mod tests;
