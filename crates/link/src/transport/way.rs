//! One direction between two addresses of a network in memory: whether anything passes, and when
//! what is sent now arrives.

use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sortie_model::limits;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::{Instant, sleep_until};

use crate::backoff::mix;

/// After how long a lost packet is sent again at the earliest; twice as long each further time.
const RETRANSMIT_AFTER: Duration = Duration::from_millis(50);

/// What the network does to each packet on its way.
///
/// Streams are reliable, so a lost packet is not a lost message: it is sent again, later and later,
/// and what comes behind it on its stream waits. One that would take longer than
/// [`limits::LINK_IDLE`] takes its connection along: both ends then find the other one silent.
#[derive(Debug, Clone, PartialEq)]
pub struct Weather {
    /// How long a packet is on its way. Default: no time at all.
    pub delay: RangeInclusive<Duration>,
    /// Which part of the packets is lost, from 0 (default) to 1.
    pub loss: f64,
}

impl Default for Weather {
    fn default() -> Self {
        Self { delay: Duration::ZERO..=Duration::ZERO, loss: 0.0 }
    }
}

impl Weather {
    fn is_calm(&self) -> bool {
        self.delay.end().is_zero() && self.loss <= 0.0
    }
}

/// When a packet arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    AtOnce,
    At(Instant),
    /// So late that the connection is given up before.
    Never,
}

/// What keeps everything from arriving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hindrance {
    None,
    /// It was cut, and what was sent meanwhile is sent again by then.
    Until(Instant),
    Cut,
}

/// One direction.
pub(crate) struct Way {
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    cut: bool,
    /// Nothing that was sent before the end of a cut arrives before that.
    resumes: Option<Instant>,
    weather: Weather,
    chance: u64,
}

impl Way {
    pub(crate) fn new(weather: Weather, seed: u64) -> Self {
        let state = State { cut: false, resumes: None, weather, chance: seed };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock, so a poisoned state is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_weather(&self, weather: Weather) {
        self.lock().weather = weather;
    }

    pub(crate) fn cut(&self) {
        self.lock().cut = true;
        self.changed.notify_waiters();
    }

    pub(crate) fn heal(&self) {
        let mut state = self.lock();
        if std::mem::replace(&mut state.cut, false) {
            state.resumes = state.next_delay().map(|delay| Instant::now() + delay);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.lock().cut
    }

    /// When what is sent now arrives, if nothing is cut.
    pub(crate) fn arrival(&self) -> Arrival {
        let mut state = self.lock();
        let Some(mut after) = state.next_delay() else { return Arrival::AtOnce };
        let mut again = state.weather.delay.end().saturating_mul(3).max(RETRANSMIT_AFTER);
        while state.chance() < state.weather.loss {
            after = after.saturating_add(again);
            again = again.saturating_mul(2);
            if after >= limits::LINK_IDLE {
                return Arrival::Never;
            }
        }
        Arrival::At(Instant::now() + after)
    }

    pub(crate) fn hindrance(&self) -> Hindrance {
        let mut state = self.lock();
        if state.cut {
            return Hindrance::Cut;
        }
        match state.resumes {
            Some(at) if at > Instant::now() => Hindrance::Until(at),
            Some(_) => {
                state.resumes = None;
                Hindrance::None
            }
            None => Hindrance::None,
        }
    }

    /// Resolves at the next cut or its end. Enable it before [`Self::hindrance`] is asked.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Carries one packet of a handshake: waits until it has arrived.
    pub(crate) async fn pass(&self) {
        match self.arrival() {
            Arrival::AtOnce => {}
            Arrival::At(at) => sleep_until(at).await,
            Arrival::Never => std::future::pending().await,
        }
        loop {
            let changed = self.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match self.hindrance() {
                Hindrance::None => return,
                Hindrance::Until(at) => tokio::select! {
                    biased;
                    () = changed => {}
                    () = sleep_until(at) => {}
                },
                Hindrance::Cut => changed.await,
            }
        }
    }
}

impl State {
    /// None in calm weather.
    fn next_delay(&mut self) -> Option<Duration> {
        if self.weather.is_calm() {
            return None;
        }
        let (least, most) = (*self.weather.delay.start(), *self.weather.delay.end());
        let part = self.chance();
        Some(least + most.saturating_sub(least).mul_f64(part))
    }

    /// At least 0 and less than 1.
    fn chance(&mut self) -> f64 {
        self.chance = self.chance.wrapping_add(1);
        let bits = mix(self.chance) >> 11;
        bits as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn arrivals(weather: &Weather, seed: u64) -> Vec<Option<Duration>> {
        let (way, now) = (Way::new(weather.clone(), seed), Instant::now());
        let after = |arrival| match arrival {
            Arrival::AtOnce => Some(Duration::ZERO),
            Arrival::At(at) => Some(at.saturating_duration_since(now)),
            Arrival::Never => None,
        };
        (0..1_000).map(|_| after(way.arrival())).collect()
    }

    #[test]
    fn calm_weather_delays_nothing() {
        let all = arrivals(&Weather::default(), 1);
        assert!(all.iter().all(|after| *after == Some(Duration::ZERO)));
    }

    #[test]
    fn delays_lie_within_their_range_and_differ() {
        let weather = Weather { delay: ms(10)..=ms(20), loss: 0.0 };
        let all = arrivals(&weather, 1);
        // The clock of the test goes on meanwhile.
        assert!(all.iter().all(|after| after.is_some_and(|a| a >= ms(10) && a < ms(1_000))));
        assert!(all.windows(2).any(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn what_is_lost_comes_later_and_what_is_lost_again_and_again_never() {
        let some = arrivals(&Weather { delay: ms(1)..=ms(1), loss: 0.3 }, 7);
        let late = some.iter().filter(|after| after.is_some_and(|a| a > RETRANSMIT_AFTER)).count();
        assert!((200..400).contains(&late), "{late}");
        let all = arrivals(&Weather { delay: ms(1)..=ms(1), loss: 1.0 }, 7);
        assert!(all.iter().all(Option::is_none));
    }
}
