//! How a client goes on when its connection breaks: when it dials again and when it gives up, and
//! which of its requests may be sent twice (`docs/semantics.md`, section 4.3).

use std::time::Duration;

use sortie_model::reason::ReachStep;
use sortie_model::spec::Fan;
use sortie_model::{JobSpec, limits};
use sortie_wire::session_proto::{Ask, ScopeChange};

use crate::peer::Uptime;

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The node said that it shuts down: it was told to.
    Goodbye,
    /// In any other way: it was killed, is replaced by another program, or cannot be heard.
    Broken,
}

/// What the client does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It dials: at once with attempt 0, else after a wait that grows with the attempts.
    Dial {
        /// How many dials failed, or came to a connection that did not last.
        attempt: u32,
    },
    /// What it asked for ends as lost.
    GiveUp,
}

/// Whether the user is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// This loss is a new one.
    Lost,
    /// The connection is there again, for the first time since that loss.
    Connected,
    /// It was told already.
    Nothing,
}

/// One client's connection to its node, as far as it was lost. All requests of the client share it.
#[derive(Debug)]
pub struct Reconnect {
    patience: Duration,
    outage: Option<Outage>,
    /// When the connection came up again that ended the outage, if it did.
    up: Option<Uptime>,
}

#[derive(Debug, Clone, Copy)]
struct Outage {
    since: Uptime,
    attempt: u32,
    /// Whether a connection was up since then; one that did not last.
    was_up: bool,
}

impl Reconnect {
    /// A client that is connected, and tries for so long when it is not any more.
    pub const fn new(patience: Duration) -> Self {
        Self { patience, outage: None, up: None }
    }

    /// A request found the connection gone.
    ///
    /// One that came up only to be lost again is the same outage: its time goes on, and the dials
    /// do not begin to come fast again.
    pub fn on_lost(&mut self, how: Loss, now: Uptime) -> (Next, News) {
        if how == Loss::Goodbye {
            return (Next::GiveUp, News::Nothing);
        }
        let lasted = |up: Uptime| now.saturating_sub(up) >= limits::SUSPECT_AFTER;
        let known = match self.up.take() {
            Some(up) if lasted(up) => None,
            Some(_) => self.outage.map(|known| Outage { attempt: known.attempt + 1, ..known }),
            None => self.outage,
        };
        let news = if known.is_none() { News::Lost } else { News::Nothing };
        let outage = known.unwrap_or(Outage { since: now, attempt: 0, was_up: false });
        self.outage = Some(outage);
        (self.next(outage, now), news)
    }

    /// A dial failed at that step.
    pub fn on_dial_failed(&mut self, step: ReachStep, now: Uptime) -> Next {
        // Who cannot prove who he is will not do so a moment later.
        let hopeless = matches!(step, ReachStep::Authenticate | ReachStep::Authorise);
        let Some(outage) = self.outage.as_mut().filter(|_| !hopeless) else { return Next::GiveUp };
        outage.attempt = outage.attempt.saturating_add(1);
        let outage = *outage;
        self.next(outage, now)
    }

    /// A connection is up.
    pub const fn on_up(&mut self, now: Uptime) -> News {
        self.up = Some(now);
        match &mut self.outage {
            Some(outage) if !outage.was_up => {
                outage.was_up = true;
                News::Connected
            }
            _ => News::Nothing,
        }
    }

    fn next(&self, outage: Outage, now: Uptime) -> Next {
        let Outage { since, attempt, .. } = outage;
        let is_over = now.saturating_sub(since) >= self.patience;
        if is_over { Next::GiveUp } else { Next::Dial { attempt } }
    }
}

/// What becomes of a request whose connection broke before its answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// It is sent again: twice does what once does.
    Whole,
    /// Only for those entries that have not been told yet: a second signal may mean more than the
    /// first.
    Untold,
    /// It ends as lost: whether it was done is unknown, and twice would do more than once.
    Never,
}

/// Which requests may be sent again.
///
/// What only reads or waits may; so may a start without input, by its key, and a receive, whose
/// reader remembers what it has seen ([`Seen`](crate::seen::Seen)). Nothing else may, and nothing
/// that lasts as long as its connection.
pub fn repeat(ask: &Ask) -> Repeat {
    match ask {
        Ask::Start { spec, .. } if is_fed(spec) => Repeat::Never,
        Ask::Start { .. }
        | Ask::DryRun { .. }
        | Ask::Get(_)
        | Ask::Receive(_)
        | Ask::Wait(_)
        | Ask::Explain(_)
        | Ask::Watch { .. }
        | Ask::Sessions
        | Ask::Nodes { .. }
        | Ask::Ping { .. }
        | Ask::Diagnose => Repeat::Whole,
        Ask::Scope(change) if *change == ScopeChange::default() => Repeat::Whole,
        Ask::Stop { wait: true, .. } => Repeat::Untold,
        _ => Repeat::Never,
    }
}

/// Whether input follows the start, or the items of a map.
const fn is_fed(spec: &JobSpec) -> bool {
    spec.input.is_fed() || matches!(spec.fan, Fan::Spread | Fan::Each)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sortie_model::selector::{Query, Selection, Selector};
    use sortie_model::spec::{BodySpec, InputSpec, StopSpec};
    use sortie_wire::session_proto::{ReceiveMode, ReceiveSpec};

    use super::*;

    const fn at(seconds: u64) -> Uptime {
        Duration::from_secs(seconds)
    }

    fn client() -> Reconnect {
        Reconnect::new(limits::RECONNECT_TIME)
    }

    #[test]
    fn a_loss_is_told_once_and_dialled_until_the_time_is_over() {
        let mut client = client();
        let lost = client.on_lost(Loss::Broken, at(10));
        assert_eq!(lost, (Next::Dial { attempt: 0 }, News::Lost));
        // Another request of the client finds the same.
        let lost = client.on_lost(Loss::Broken, at(11));
        assert_eq!(lost, (Next::Dial { attempt: 0 }, News::Nothing));
        for attempt in 1..5 {
            let next = client.on_dial_failed(ReachStep::Connect, at(11));
            assert_eq!(next, Next::Dial { attempt });
        }
        let last = at(10) + limits::RECONNECT_TIME;
        assert_eq!(client.on_dial_failed(ReachStep::Connect, last), Next::GiveUp);
        assert_eq!(client.on_lost(Loss::Broken, last), (Next::GiveUp, News::Nothing));
    }

    #[test]
    fn a_connection_that_lasted_ends_the_outage_and_one_that_did_not_prolongs_it() {
        let mut client = client();
        client.on_lost(Loss::Broken, at(0));
        assert_eq!(client.on_up(at(1)), News::Connected);
        let again = client.on_lost(Loss::Broken, at(2));
        assert_eq!(again, (Next::Dial { attempt: 1 }, News::Nothing));
        assert_eq!(client.on_up(at(3)), News::Nothing);
        let later = client.on_lost(Loss::Broken, at(3) + limits::SUSPECT_AFTER);
        assert_eq!(later, (Next::Dial { attempt: 0 }, News::Lost));
    }

    #[test]
    fn a_goodbye_and_a_refused_identity_are_not_dialled() {
        let mut client = client();
        assert_eq!(client.on_lost(Loss::Goodbye, at(0)), (Next::GiveUp, News::Nothing));
        client.on_lost(Loss::Broken, at(1));
        assert_eq!(client.on_dial_failed(ReachStep::Authenticate, at(2)), Next::GiveUp);
    }

    proptest! {
        #[test]
        fn nobody_waits_longer_than_patience_behind_a_connection_that_lasted(
            steps in prop::collection::vec((0_u64..8, 0_u8..3), 1..400),
        ) {
            let (mut client, mut now, mut out_since) = (client(), 0, None);
            for (pause, step) in steps {
                now += pause;
                let next = match step {
                    0 => client.on_lost(Loss::Broken, at(now)).0,
                    1 => client.on_dial_failed(ReachStep::Connect, at(now)),
                    _ => {
                        let _ = client.on_up(at(now));
                        continue;
                    }
                };
                if client.outage.is_some() {
                    out_since = client.outage.map(|outage| outage.since);
                }
                let waited = out_since.map_or(0, |since| now - since.as_secs());
                let over = waited >= limits::RECONNECT_TIME.as_secs();
                if let Next::Dial { .. } = next {
                    prop_assert!(!over, "it dials after {waited} s");
                }
            }
        }
    }

    #[test]
    fn what_reads_waits_or_has_a_key_is_sent_again_and_nothing_else() {
        let all = || Selection::of([Selector::All]);
        let body = || BodySpec::Command { words: Vec::new() };
        let start = |spec| Ask::Start { key: uuid::Uuid::nil().into(), spec: Box::new(spec) };
        let plain = || JobSpec::new("true", body());
        let stop = |wait| Ask::Stop { selection: all(), how: StopSpec::default(), wait };
        let receive = |mode| Ask::Receive(Box::new(ReceiveSpec::new(all(), mode)));
        for ask in [
            start(plain()),
            Ask::Get(Box::<Query>::default()),
            receive(ReceiveMode::Take),
            receive(ReceiveMode::Follow),
            Ask::Watch { selection: all() },
            Ask::Sessions,
            Ask::Scope(ScopeChange::default()),
        ] {
            assert_eq!(repeat(&ask), Repeat::Whole, "{ask:?}");
        }
        assert_eq!(repeat(&stop(true)), Repeat::Untold);
        for ask in [
            stop(false),
            start(JobSpec { input: InputSpec::Stream, ..plain() }),
            start(JobSpec { fan: Fan::Spread, ..plain() }),
            Ask::Remove { selection: all(), force: false },
            Ask::Monitor { selection: all() },
            Ask::OpenTemporary,
            Ask::Connect { take: true },
            Ask::StopNode,
        ] {
            assert_eq!(repeat(&ask), Repeat::Never, "{ask:?}");
        }
    }
}
