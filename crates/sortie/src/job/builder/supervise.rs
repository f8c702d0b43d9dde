//! When the job's children start again, and in which order they stop.

use sortie_model::restart::{Backoff, Intensity, RestartType, StopSequence, Strategy};
use sortie_model::spec::Escalation;

use crate::job::builder::JobBuilder;

impl<T> JobBuilder<T> {
    /// After which ends a child starts again by itself; never, if this is not called. Such a job
    /// takes no standard input. Everything about restarts is in `docs/semantics.md`, section 5.
    pub fn restart(self, restart: RestartType) -> Self {
        self.with(|spec| spec.restart.restart = restart)
    }

    /// Which siblings start again with a child; none by default. With a strategy other than
    /// `one-for-one` children are stopped one after another, in reverse child order.
    pub fn strategy(self, strategy: Strategy) -> Self {
        self.with(|spec| spec.restart.strategy = strategy)
    }

    /// How many restarts are allowed in which time, all children together; the default is
    /// [`limits::RESTARTS_DEFAULT`](crate::limits::RESTARTS_DEFAULT) within
    /// [`limits::RESTART_PERIOD_DEFAULT`](crate::limits::RESTART_PERIOD_DEFAULT). One more and the
    /// job gives up: the child fails with [`Reason::RestartLimit`](crate::Reason::RestartLimit),
    /// and the others are stopped.
    pub fn intensity(self, intensity: Intensity) -> Self {
        self.with(|spec| spec.restart.intensity = intensity)
    }

    /// How long a child waits before it starts again; not at all if this is not called.
    pub fn backoff(self, backoff: Backoff) -> Self {
        self.with(|spec| spec.restart.backoff = Some(backoff))
    }

    /// The failure of this job also fails the child that starts it: its token fires, it has its
    /// grace to return, and it is `Failed` with
    /// [`Reason::Escalated`](crate::Reason::Escalated), unless it was told to stop before. What
    /// else is below it is stopped. So a failure that restarts do not mend goes up a tree of jobs,
    /// where the child itself may start again. A job that is stopped, or ends well, fails nobody.
    ///
    /// For jobs of a child ([`TaskSession::session`](crate::TaskSession::session)) only; elsewhere
    /// the start is refused.
    pub fn escalating(self) -> Self {
        self.with(|spec| spec.escalation = Escalation::FailsChild)
    }

    /// Stops children one after another, the last one first, also where the strategy does not ask
    /// for it (`docs/semantics.md`, section 3.5). [`Job::stop_now`](crate::Job::stop_now) stops
    /// them at once all the same.
    pub fn ordered_stop(self) -> Self {
        self.with(|spec| spec.stop_sequence = StopSequence::OneByOne)
    }
}
