//! What is done to a running process from outside: it is asked to end, killed, made to stand still.

use std::time::Duration;

use sortie_model::Motion;
use sortie_model::facts::Interruption;
use sortie_model::spec::{StopSpec, TERM};
use sortie_wire::guardian_proto::{Deadline, DeadlineAct};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::process::ProcessControl;
use crate::run::ProcessIo;
use crate::stop::Stops;

/// What stands for durations that the clock cannot hold.
const FAR_AWAY: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The moment after a duration, or a very late one if the clock does not go that far.
pub(super) fn after(duration: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(duration).unwrap_or(now + FAR_AWAY)
}

/// What a time-out brings.
pub(super) const fn time_out(grace: Duration) -> DeadlineAct {
    DeadlineAct::Ask { signal: TERM, grace }
}

/// News about whether a child stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Move {
    /// It is to.
    Told(Motion),
    /// It does.
    Does(Motion),
}

/// Where such news come from.
pub(super) struct Moves {
    orders: watch::Receiver<Motion>,
    moved: watch::Receiver<Motion>,
}

impl Moves {
    /// Those of a child that just started; what it was told before is the first.
    pub(super) fn of(control: &ProcessControl, stops: &Stops) -> Self {
        let mut orders = stops.motion();
        orders.mark_changed();
        Self { orders, moved: control.moved() }
    }

    /// The next news. Cancel safe. Never resolves when none comes, also when the guardian is gone.
    pub(super) async fn next(&mut self) -> Move {
        tokio::select! {
            biased;
            Ok(()) = self.moved.changed() => Move::Does(*self.moved.borrow_and_update()),
            Ok(()) = self.orders.changed() => Move::Told(*self.orders.borrow_and_update()),
            else => std::future::pending().await,
        }
    }
}

/// Heeds what a child is told whose process has ended while what it said waits for a reader: there
/// is nothing left that could not stand still, or go on.
pub(super) async fn heed_moves(
    stops: &Stops,
    io: &impl ProcessIo,
    mut does: Motion,
) -> std::convert::Infallible {
    let mut orders = stops.motion();
    loop {
        let wanted = *orders.borrow_and_update();
        if wanted != does {
            does = wanted;
            io.moved(wanted);
        }
        if orders.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// What has been done to end a child, and what comes next.
pub(super) struct Brake<'a> {
    pub(super) control: &'a ProcessControl,
    pub(super) interruptions: Vec<Interruption>,
    limit: RunLimit,
    kill_at: Option<Instant>,
    /// What the child is to do.
    wanted: Motion,
    /// What its guardian was asked for last and has not said to be so.
    asked: Option<Motion>,
    /// What its guardian said last.
    pub(super) does: Motion,
    entrusting: Entrusting,
}

/// Whether the guardian does what is due where this process does not any more.
#[derive(Debug, Clone, Copy)]
pub(super) enum Entrusting {
    /// The child does not outlive this process.
    Nothing,
    /// It does. Who is asked for its time-out has that grace.
    Kept {
        grace: Duration,
        /// What the guardian was told last, if that is known.
        told: Option<Option<(Instant, DeadlineAct)>>,
    },
}

/// How long a child may still run. A suspended one does not run.
#[derive(Debug, Clone, Copy)]
enum RunLimit {
    None,
    Until(Instant),
    Paused(Duration),
}

impl<'a> Brake<'a> {
    /// Of a child that is to do what is wanted, and runs as far as is known.
    pub(super) fn new(
        control: &'a ProcessControl,
        timeout: Option<Duration>,
        wanted: Motion,
        entrusting: Entrusting,
    ) -> Self {
        let limit = timeout.map_or(RunLimit::None, |timeout| RunLimit::Until(after(timeout)));
        let (interruptions, kill_at) = (Vec::new(), None);
        let (asked, does) = (None, Motion::Running);
        let mut this =
            Self { control, interruptions, limit, kill_at, wanted, asked, does, entrusting };
        this.entrust();
        this
    }

    /// Tells the guardian what is due next, if that is news to it.
    fn entrust(&mut self) {
        let kill = self.kill_at.map(|at| (at, DeadlineAct::Kill));
        let Entrusting::Kept { grace, told } = &mut self.entrusting else { return };
        let ask = match self.limit {
            RunLimit::Until(at) => Some((at, time_out(*grace))),
            RunLimit::None | RunLimit::Paused(_) => None,
        };
        let next = kill.into_iter().chain(ask).min_by_key(|(at, _)| *at);
        if told.replace(next) != Some(next) {
            let now = Instant::now();
            let left = |at: Instant| at.saturating_duration_since(now);
            self.control.entrust(next.map(|(at, act)| Deadline { left: left(at), act }));
        }
    }

    /// It was asked to end before this process looks after it, and is killed then, if it has not
    /// ended.
    pub(super) fn was_interrupted(&mut self, why: Vec<Interruption>, kill_in: Option<Duration>) {
        if why.contains(&Interruption::Timeout) {
            self.limit = RunLimit::None;
        }
        self.interruptions = why;
        self.kill_at = kill_in.map(after);
        self.wanted = Motion::Running;
        self.entrust();
    }

    /// The child is to stand still, or to go on, or does so now. Gives what it does, if that is
    /// what is wanted. One that is told to end goes on for that, whatever is said.
    pub(super) fn on_move(&mut self, news: Move) -> Option<Motion> {
        match news {
            Move::Told(motion) if self.interruptions.is_empty() => self.wanted = motion,
            Move::Told(_) => {}
            Move::Does(motion) => self.on_moved(motion),
        }
        self.pursue()
    }

    fn on_moved(&mut self, does: Motion) {
        self.does = does;
        self.limit = match (self.limit, does) {
            (RunLimit::Until(at), Motion::Suspended) => {
                RunLimit::Paused(at.saturating_duration_since(Instant::now()))
            }
            (RunLimit::Paused(left), Motion::Running) => RunLimit::Until(after(left)),
            (limit, _) => limit,
        };
        self.entrust();
        if self.asked == Some(does) {
            self.asked = None;
        }
    }

    /// One request at a time: the guardian answers the last one only.
    fn pursue(&mut self) -> Option<Motion> {
        if self.asked.is_some() {
            return None;
        }
        if self.does == self.wanted {
            return Some(self.does);
        }
        self.asked = Some(self.wanted);
        self.control.move_to(self.wanted);
        None
    }

    /// Signals the tree and kills it after the grace. A later interruption can only bring the kill
    /// forward. What stands still goes on, or the signal would find nobody.
    pub(super) fn interrupt(&mut self, why: Interruption, signal: i32, grace: Duration) {
        if !self.interruptions.contains(&why) {
            self.interruptions.push(why);
        }
        if grace.is_zero() {
            self.kill_at = None;
            self.control.interrupt(StopSpec::NOW.signal, why);
            self.control.kill();
            return;
        }
        self.control.interrupt(signal, why);
        self.wanted = Motion::Running;
        if self.asked.unwrap_or(self.does) == Motion::Suspended {
            self.asked = Some(Motion::Running);
            self.control.move_to(Motion::Running);
        }
        let kill_at = after(grace);
        self.kill_at = Some(self.kill_at.map_or(kill_at, |earlier| earlier.min(kill_at)));
        self.entrust();
    }

    /// Resolves when something is to be done.
    pub(super) async fn due(&self) {
        match [self.timeout_at(), self.kill_at].into_iter().flatten().min() {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    pub(super) fn on_due(&mut self, grace: Duration) {
        let now = Instant::now();
        if self.kill_at.is_some_and(|at| at <= now) {
            self.kill_at = None;
            self.control.kill();
        }
        if self.timeout_at().is_some_and(|at| at <= now) {
            self.limit = RunLimit::None;
            self.interrupt(Interruption::Timeout, TERM, grace);
        }
    }

    const fn timeout_at(&self) -> Option<Instant> {
        match self.limit {
            RunLimit::Until(at) => Some(at),
            RunLimit::None | RunLimit::Paused(_) => None,
        }
    }
}
