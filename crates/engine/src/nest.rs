//! The jobs below one child incarnation: when the child may have a session of its own, and what the
//! child's stop and its end mean for what is below it (`docs/semantics.md`, section 5.1).

use std::time::Duration;

use sortie_model::spec::{Escalation, StopSpec};
use sortie_model::{Reason, SessionInstance, State, limits};
use sortie_wire::session_proto::{Ask, Request, SessionRef};

use crate::peer::Uptime;

/// Why a child gets no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NestRefused {
    /// It is as deep in its tree as a child may be.
    #[error("jobs below jobs go at most {} levels deep", limits::TREE_LEVELS)]
    TooDeep,
    /// It was told to stop: it starts nothing more.
    #[error("a child that was told to stop starts no jobs")]
    Stopping,
    /// It has ended.
    #[error("the child has ended, and its session with it")]
    Over,
    /// It asks from outside the node, and about something else.
    #[error("a background function asks about the session of its own jobs, or the one above")]
    NotItsOwn,
}

/// What the worker process of a background function asks of its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerAsk {
    /// For the session of its own jobs.
    Open,
    /// About that session.
    OfItsOwn,
    /// About the session that its child belongs to, as a function inside the node may ask it.
    OfTheOneAbove,
}

/// What a worker's request is, where `own` is the session of its child.
///
/// # Errors
/// [`NestRefused::NotItsOwn`], whatever else it names.
pub fn worker_ask(
    request: &Request,
    own: Option<SessionInstance>,
) -> Result<WorkerAsk, NestRefused> {
    let is_own = matches!(request.session, SessionRef::Instance(one) if Some(one) == own);
    match request.ask {
        _ if request.session == SessionRef::Above => Ok(WorkerAsk::OfTheOneAbove),
        Ask::OpenBelow => Ok(WorkerAsk::Open),
        Ask::Start { .. }
        | Ask::DryRun { .. }
        | Ask::Get(_)
        | Ask::Receive(_)
        | Ask::Wait(_)
        | Ask::Stop { .. }
        | Ask::Suspend { .. }
        | Ask::Remove { .. }
        | Ask::Explain(_)
        | Ask::Watch { .. }
        | Ask::SetThrottle { .. }
        | Ask::Monitor { .. }
        | Ask::Answer { .. }
        | Ask::Send(_)
        | Ask::Bind { .. }
        | Ask::Scope(_)
            if is_own =>
        {
            Ok(WorkerAsk::OfItsOwn)
        }
        _ => Err(NestRefused::NotItsOwn),
    }
}

/// What became of a session that was opened for a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened<T> {
    /// It is the child's.
    Used(T),
    /// Another one was faster, and is the child's: this one ends.
    Surplus(T),
    /// The child may have none any more: it ends.
    Refused(NestRefused),
}

/// How the jobs below a child are stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopBelow {
    how: StopSpec,
    /// The grace of the child's own job: none of them gets more.
    most: Duration,
}

impl StopBelow {
    /// The stop of a job with that grace: what the child's stop says; where it names no grace, the
    /// job's own.
    pub fn of_job(self, grace: Duration) -> StopSpec {
        let grace = self.how.grace.unwrap_or(grace.min(self.most));
        StopSpec { grace: Some(grace), ..self.how }
    }
}

/// A child's function has ended: what is below it is stopped like this, and the child counts as
/// ended once that is done, or at [`Nest::over_at`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closing<T> {
    /// What hangs below the child.
    pub below: T,
    /// How it is stopped; none where it was told already.
    pub how: Option<StopBelow>,
}

/// What hangs below one child incarnation, with `T` the session that it has for its jobs.
#[derive(Debug)]
pub struct Nest<T> {
    level: u32,
    grace: Duration,
    told: Option<StopSpec>,
    /// When what is below is killed: after the first stop or the end, whichever came first, or a
    /// later stop that gives less time.
    over_at: Option<Uptime>,
    /// Why the child fails with a job of its own.
    failure: Option<Reason>,
    state: Nested<T>,
}

#[derive(Debug)]
enum Nested<T> {
    /// Nothing was started.
    Unused,
    Open(T),
    /// The child has ended, what is below it has not.
    Closing(T),
    Over,
}

impl<T: Clone> Nest<T> {
    /// The nest of a child so many levels below a user's own session, and its job's grace.
    pub const fn new(level: u32, grace: Duration) -> Self {
        Self { level, grace, told: None, over_at: None, failure: None, state: Nested::Unused }
    }

    /// The level of the jobs below.
    pub const fn level_below(&self) -> u32 {
        self.level.saturating_add(1)
    }

    /// Whether the child has ended, what is below it perhaps not.
    pub const fn has_ended(&self) -> bool {
        matches!(self.state, Nested::Closing(_) | Nested::Over)
    }

    /// The child asks for its session; none where it is to be opened now.
    ///
    /// # Errors
    /// [`NestRefused`].
    pub fn on_use(&self) -> Result<Option<T>, NestRefused> {
        match &self.state {
            Nested::Closing(_) | Nested::Over => Err(NestRefused::Over),
            _ if self.told.is_some() => Err(NestRefused::Stopping),
            Nested::Open(session) => Ok(Some(session.clone())),
            Nested::Unused if self.level >= limits::TREE_LEVELS => Err(NestRefused::TooDeep),
            Nested::Unused => Ok(None),
        }
    }

    /// A session was opened for the child.
    pub fn on_opened(&mut self, session: T) -> Opened<T> {
        match self.on_use() {
            Ok(None) => {
                self.state = Nested::Open(session.clone());
                Opened::Used(session)
            }
            Ok(Some(first)) => Opened::Surplus(first),
            Err(refused) => Opened::Refused(refused),
        }
    }

    /// The child was told to stop: so is what is below it, in the same manner.
    pub fn on_stop(&mut self, how: StopSpec, now: Uptime) -> Option<(T, StopBelow)> {
        self.told = Some(how);
        self.give_time(how, now);
        self.below().map(|below| (below, StopBelow { how, most: self.grace }))
    }

    /// A job of the child has finished in that state. Whether the child fails with it: it does so
    /// once, if the job asks for it and nobody told the child to stop before.
    pub fn on_job_finished(
        &mut self,
        escalation: Escalation,
        state: State,
        reason: impl FnOnce() -> Reason,
    ) -> bool {
        let runs = matches!(self.state, Nested::Open(_)) && self.told.is_none();
        let fails = escalation == Escalation::FailsChild && state == State::Failed && runs;
        let first = fails && self.failure.is_none();
        if first {
            self.failure = Some(reason());
        }
        first
    }

    /// Why the child fails with a job of its own, if it does.
    pub const fn failure(&self) -> Option<&Reason> {
        self.failure.as_ref()
    }

    /// The child has ended; nothing where nothing is below it. Said again it only tells what there
    /// is to wait for.
    pub fn on_end(&mut self, now: Uptime) -> Option<Closing<T>> {
        let first = matches!(self.state, Nested::Open(_));
        let Some(below) = self.below() else {
            self.state = Nested::Over;
            return None;
        };
        self.state = Nested::Closing(below.clone());
        let how = (first && self.told.is_none()).then(|| {
            self.give_time(StopSpec::default(), now);
            StopBelow { how: StopSpec::default(), most: self.grace }
        });
        Some(Closing { below, how })
    }

    /// When what is below the child is killed, if it has not ended by then: what remains then is on
    /// nodes that cannot be reached. None before the child's stop or end.
    pub const fn over_at(&self) -> Option<Uptime> {
        self.over_at
    }

    /// Stops may only bring the end forward.
    fn give_time(&mut self, how: StopSpec, now: Uptime) {
        let within = how.grace.unwrap_or(self.grace).saturating_add(limits::TREE_STOP_MARGIN);
        let at = now.saturating_add(within);
        self.over_at = Some(self.over_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// Whatever is below is over, or is killed now: says what that is, once.
    pub fn on_over(&mut self) -> Option<T> {
        let below = self.below();
        self.state = Nested::Over;
        below
    }

    /// What hangs below the child now.
    pub fn below(&self) -> Option<T> {
        match &self.state {
            Nested::Open(session) | Nested::Closing(session) => Some(session.clone()),
            Nested::Unused | Nested::Over => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use sortie_model::EntryId;
    use sortie_model::detached::DetachSpec;
    use sortie_model::spec::{BodySpec, EnvironmentSpec};

    use super::*;

    const GRACE: Duration = Duration::from_secs(10);
    const NOW: Uptime = Duration::from_secs(100);

    fn nest() -> Nest<u32> {
        Nest::new(0, GRACE)
    }

    fn opened() -> Nest<u32> {
        let mut nest = nest();
        assert_eq!(nest.on_use(), Ok(None));
        assert_eq!(nest.on_opened(7), Opened::Used(7));
        nest
    }

    #[test]
    fn a_worker_asks_about_its_own_session_only() {
        let session = |number| SessionInstance(uuid::Uuid::from_u128(number));
        let check = |session, ask, own, expected| {
            assert_eq!(worker_ask(&Request { session, ask }, own), expected);
        };
        let by = |number| SessionRef::Instance(session(number));
        let (get, own) = (|| Ask::Get(Box::default()), Some(session(1)));
        check(SessionRef::Default, Ask::OpenBelow, None, Ok(WorkerAsk::Open));
        check(SessionRef::Above, get(), own, Ok(WorkerAsk::OfTheOneAbove));
        check(by(1), get(), own, Ok(WorkerAsk::OfItsOwn));
        for other in [by(2), SessionRef::Default, SessionRef::Named("1".to_owned())] {
            check(other, get(), own, Err(NestRefused::NotItsOwn));
        }
        check(by(1), get(), None, Err(NestRefused::NotItsOwn));
        let detach = DetachSpec {
            body: BodySpec::Command { words: Vec::new() },
            directory: None,
            environment: EnvironmentSpec::default(),
        };
        let others = [Ask::Sessions, Ask::StopNode, Ask::ClusterToken, Ask::OpenTemporary];
        for ask in others.into_iter().chain([Ask::Detach(Box::new(detach))]) {
            check(by(1), ask, own, Err(NestRefused::NotItsOwn));
        }
    }

    #[test]
    fn two_first_uses_at_once_share_one_session() {
        let mut nest = opened();
        assert_eq!(nest.on_opened(8), Opened::Surplus(7));
        assert_eq!(nest.on_use(), Ok(Some(7)));
    }

    #[test]
    fn a_stop_goes_down_in_the_same_manner_and_nothing_starts_after_it() {
        let check = |how: StopSpec, own: u64, below: StopSpec| {
            let mut nest = opened();
            let (session, stop) = nest.on_stop(how, NOW).expect("something is below");
            assert_eq!((session, stop.of_job(Duration::from_secs(own))), (7, below));
            assert_eq!(nest.on_use(), Err(NestRefused::Stopping));
            assert_eq!(nest.on_end(NOW).map(|closing| closing.how), Some(None), "it was told");
        };
        let within =
            |signal, seconds| StopSpec { signal, grace: Some(Duration::from_secs(seconds)) };
        check(StopSpec::NOW, 3, StopSpec::NOW);
        check(within(2, 60), 3, within(2, 60));
        check(StopSpec::default(), 3, within(15, 3));
        check(StopSpec::default(), 20, within(15, 10));
    }

    #[test]
    fn a_session_that_opens_during_the_stop_or_after_the_end_is_not_used() {
        let mut stopped = nest();
        assert_eq!(stopped.on_stop(StopSpec::default(), NOW), None);
        assert_eq!(stopped.on_opened(7), Opened::Refused(NestRefused::Stopping));
        assert!(!stopped.has_ended(), "it may still say something");
        let mut ended = nest();
        assert_eq!(ended.on_end(NOW), None);
        assert_eq!(ended.on_opened(7), Opened::Refused(NestRefused::Over));
        assert!(ended.has_ended());
        assert_eq!(ended.on_over(), None);
    }

    #[test]
    fn an_end_by_itself_stops_what_is_below_with_the_jobs_grace() {
        let mut nest = opened();
        let how = Some(StopBelow { how: StopSpec::default(), most: GRACE });
        assert!(!nest.has_ended());
        assert_eq!(nest.on_end(NOW), Some(Closing { below: 7, how }));
        assert_eq!(nest.over_at(), Some(NOW + GRACE + limits::TREE_STOP_MARGIN));
        assert_eq!((nest.on_use(), nest.has_ended()), (Err(NestRefused::Over), true));
        let later = NOW + Duration::from_secs(1);
        assert_eq!(nest.on_end(later), Some(Closing { below: 7, how: None }), "it was told");
        assert_eq!(nest.over_at(), Some(NOW + GRACE + limits::TREE_STOP_MARGIN));
        let (below, stop) = nest.on_stop(StopSpec::NOW, NOW).expect("it is still being stopped");
        assert_eq!((below, stop.of_job(GRACE)), (7, StopSpec::NOW));
        assert_eq!(nest.on_over(), Some(7));
        assert_eq!((nest.on_over(), nest.on_end(NOW)), (None, None));
    }

    #[test]
    fn what_is_below_has_the_grace_of_the_stop_once_however_the_child_uses_its_own() {
        let (margin, second) = (limits::TREE_STOP_MARGIN, Duration::from_secs(1));
        let mut nest = opened();
        assert_eq!(nest.over_at(), None);
        nest.on_stop(StopSpec::default(), NOW);
        let over_at = Some(NOW + GRACE + margin);
        // The child was aborted after its grace.
        assert!(nest.on_end(NOW + GRACE).is_some());
        assert_eq!(nest.over_at(), over_at);
        // A later stop may only give less time.
        nest.on_stop(StopSpec::default(), NOW + GRACE);
        assert_eq!(nest.over_at(), over_at);
        nest.on_stop(StopSpec::NOW, NOW + second);
        assert_eq!(nest.over_at(), Some(NOW + second + margin));
    }

    #[test]
    fn a_child_fails_with_a_job_that_escalates_once_and_not_after_a_stop() {
        let reason = |job| Reason::Escalated { job: EntryId(job), cause: String::new() };
        let check = |escalation, state, expected| {
            assert_eq!(opened().on_job_finished(escalation, state, || reason(1)), expected);
        };
        check(Escalation::FailsChild, State::Failed, true);
        check(Escalation::FailsChild, State::Completed, false);
        check(Escalation::FailsChild, State::Stopped, false);
        check(Escalation::Awaited, State::Failed, false);
        let fails = |nest: &mut Nest<u32>, job| {
            nest.on_job_finished(Escalation::FailsChild, State::Failed, || reason(job))
        };
        let mut twice = opened();
        assert_eq!((fails(&mut twice, 1), fails(&mut twice, 2)), (true, false));
        assert_eq!(twice.failure(), Some(&reason(1)));
        let mut stopped = opened();
        stopped.on_stop(StopSpec::default(), NOW);
        assert!(!fails(&mut stopped, 1));
        let mut ended = opened();
        ended.on_end(NOW);
        assert!(!fails(&mut ended, 1), "it has ended by itself before");
    }

    #[test]
    fn a_tree_has_a_deepest_level() {
        let deepest: Nest<u32> = Nest::new(limits::TREE_LEVELS, GRACE);
        assert_eq!(deepest.on_use(), Err(NestRefused::TooDeep));
        let above: Nest<u32> = Nest::new(limits::TREE_LEVELS - 1, GRACE);
        assert_eq!((above.on_use(), above.level_below()), (Ok(None), limits::TREE_LEVELS));
    }
}
