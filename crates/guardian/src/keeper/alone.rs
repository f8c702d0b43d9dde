//! What happens to kept children while no daemon is there: deadlines are kept, and what stands
//! still does not run.

use std::time::{Duration, Instant};

use sortie_model::{Motion, limits};
use sortie_wire::guardian_proto::{ChildNumber, Deadline, DeadlineAct};

use super::{Daemon, Keeper, Kept, Life};
use crate::watch::Watcher;

/// A deadline by the clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Due {
    at: Instant,
    act: DeadlineAct,
}

impl Due {
    fn of(deadline: Deadline, now: Instant) -> Self {
        let at = now.checked_add(deadline.left).unwrap_or(now + limits::LONGEST);
        Self { at, act: deadline.act }
    }

    /// In how long it brings a kill, if it does.
    pub(super) fn kill_in(self) -> Option<Duration> {
        match self.act {
            DeadlineAct::Kill => Some(self.at.saturating_duration_since(Instant::now())),
            DeadlineAct::Ask { .. } => None,
        }
    }
}

/// How long a child stood still until now.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stood {
    before: Duration,
    since: Option<Instant>,
}

impl Stood {
    fn on_moved(&mut self, motion: Motion, now: Instant) {
        match (motion, self.since) {
            (Motion::Suspended, None) => self.since = Some(now),
            (Motion::Running, Some(since)) => {
                *self = Self { before: self.before.saturating_add(now - since), since: None };
            }
            _ => {}
        }
    }

    pub(super) const fn motion(self) -> Motion {
        match self.since {
            Some(_) => Motion::Suspended,
            None => Motion::Running,
        }
    }

    /// How long a child has run that began then.
    pub(super) fn running(self, started: Instant, now: Instant) -> Duration {
        let stands =
            self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        now.saturating_duration_since(started).saturating_sub(self.before + stands)
    }
}

impl Keeper {
    /// A daemon came, or went.
    pub(crate) fn set_daemon(&mut self, daemon: Daemon, watcher: &Watcher) {
        self.daemon = daemon;
        // The next one hears it anew.
        self.told = None;
        let soon = Instant::now() + limits::KEPT_PLACE_CHECK;
        self.look_at = (daemon == Daemon::Away).then_some(soon);
        self.watch_all(watcher);
        if daemon == Daemon::Away {
            self.news.clear();
        }
    }

    /// Whether the next daemon can find what is kept. Looked at rarely, while there is no daemon.
    pub(crate) fn can_be_found(&mut self) -> bool {
        let now = Instant::now();
        match self.look_at {
            Some(at) if at <= now => {
                self.look_at = Some(now + limits::KEPT_PLACE_CHECK);
                self.lock.is_there()
            }
            _ => true,
        }
    }

    /// What is to be done with a child while no daemon is there.
    pub(crate) fn set_deadline(&mut self, number: ChildNumber, deadline: Option<Deadline>) {
        if let Some(kept) = self.children.get_mut(&number) {
            kept.due = deadline.map(|deadline| Due::of(deadline, Instant::now()));
        }
    }

    /// A child's tree stands still, or goes on.
    pub(crate) fn on_moved(&mut self, number: ChildNumber, motion: Motion) {
        if let Some(kept) = self.children.get_mut(&number) {
            kept.stood.on_moved(motion, Instant::now());
        }
    }

    /// What is due now, each once; nothing while there is a daemon, which has clocks of its own.
    pub(crate) fn take_due(&mut self) -> Vec<(ChildNumber, DeadlineAct)> {
        if self.daemon == Daemon::There {
            return Vec::new();
        }
        let now = Instant::now();
        let mut all = Vec::new();
        for (number, kept) in &mut self.children {
            let Some(due) = kept.due.filter(|due| due.at <= now && kept.is_running()) else {
                continue;
            };
            all.push((*number, due.act));
            kept.due = match due.act {
                DeadlineAct::Kill => None,
                DeadlineAct::Ask { grace, .. } => {
                    Some(Due::of(Deadline { left: grace, act: DeadlineAct::Kill }, now))
                }
            };
        }
        all
    }

    /// When something is due next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let alone = self.daemon == Daemon::Away;
        let running = self.children.values().filter(|kept| alone && kept.is_running());
        running.filter_map(|kept| kept.due.map(|due| due.at)).min()
    }
}

impl Kept {
    pub(super) const fn is_running(&self) -> bool {
        matches!(self.life, Life::Runs)
    }
}
