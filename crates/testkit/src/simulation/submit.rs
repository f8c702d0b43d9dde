//! The submissions of random jobs.

use std::num::NonZeroU32;
use std::time::Duration;

use sortie_model::restart::{Backoff, Intensity, RestartSpec, RestartType, StopSequence, Strategy};
use sortie_model::spec::{BodySpec, Fan, MaxFails, Placement, RunIn, Throttle};
use sortie_model::{EntryId, IdempotencyKey, JobSpec};
use sortie_wire::session_proto::{Ask, Request, SessionRef};

use crate::simulation::body::{Ending, Plan, TASK};
use crate::simulation::client::{self, Input, Odd};
use crate::simulation::family::Family;
use crate::simulation::seen::{JobSeen, is_supervised};
use crate::simulation::{Broken, Promise, Simulation};

/// How long a client waits until its job reads on.
const PATIENCE: Duration = Duration::from_secs(1);
/// Jobs that a node is given before some are removed.
const JOBS: usize = 12;

impl Simulation<'_> {
    fn plan(&mut self) -> Plan {
        self.sight.tags += 1;
        let ending = match self.chance.below(12) {
            0..5 => Ending::Completes,
            5 => Ending::Fails,
            6 => Ending::Panics,
            7..9 => Ending::Waits,
            9 => Ending::Ignores,
            _ => Ending::Falters,
        };
        let most = if self.chance.one_in(8) { 60 } else { 6 };
        let values = self.chance.below(most) as u32;
        let longest = if self.chance.one_in(4) { 4_000 } else { 300 };
        Plan { tag: self.sight.tags, values, pause: self.millis(0, longest), ending }
    }

    fn placement(&mut self) -> Result<Placement, Odd> {
        let nodes = self.cluster.len();
        let on = match self.chance.below(4) {
            0 => return Ok(Placement::Here),
            1 => format!("node{}", self.pair().0),
            2 => {
                let (one, other) = self.pair();
                format!("node{one},node{other}")
            }
            _ => format!("node[1-{nodes}]"),
        };
        let on = on.parse().map_err(|error| Odd(format!("{on}: {error}")))?;
        Ok(Placement::Nodes { on, exclude: None })
    }

    fn spec(&mut self, plan: Plan) -> Result<(JobSpec, Input), Odd> {
        let input = bytes::Bytes::from(plan.bytes()?);
        let body = BodySpec::Task {
            name: TASK.to_owned(),
            input: input.clone(),
            types: None,
            run_in: RunIn::Thread,
        };
        let mut spec = JobSpec::new(TASK, body);
        spec.placement = self.placement()?;
        spec.grace = self.millis(0, 3_000);
        spec.connect_timeout = self.millis(500, 6_000);
        spec.throttle = match self.chance.below(3) {
            0 => Throttle::default(),
            1 => Throttle::Unlimited,
            _ => Throttle::AtMost(self.count(4)),
        };
        if self.chance.one_in(8) {
            spec.timeout = Some(self.millis(100, 5_000));
        }
        if plan.ending == Ending::Falters || self.chance.one_in(8) {
            self.supervision(&mut spec)?;
        } else if self.chance.one_in(8) {
            spec.max_fails = MaxFails::Count(self.chance.below(2) as u32);
        }
        if !self.chance.one_in(3) {
            spec.fan = Fan::PerNode { copies: self.count(3) };
            return Ok((spec, Input::None));
        }
        spec.fan = if self.chance.one_in(3) { Fan::Each } else { Fan::Spread };
        let items = vec![input.to_vec(); self.chance.below(7) as usize];
        let input = match self.chance.below(6) {
            0 => Input::CutOff(items),
            1 => Input::Begun(items),
            _ => Input::Whole(items),
        };
        Ok((spec, input))
    }

    /// Rules by which children start again.
    fn supervision(&mut self, spec: &mut JobSpec) -> Result<(), Odd> {
        let odd = |error: sortie_model::restart::BadRestart| Odd(error.to_string());
        let types = [RestartType::Permanent, RestartType::Transient, RestartType::Transient];
        let restart = match self.chance.pick(&types) {
            Some(restart) if !self.chance.one_in(8) => *restart,
            _ => RestartType::Temporary,
        };
        let strategy = self.chance.pick(&Strategy::ALL).copied().unwrap_or_default();
        let restarts = self.chance.below(7) as u32;
        let intensity = Intensity::new(restarts, self.millis(1, 10_000)).map_err(odd)?;
        let backoff = if self.chance.one_in(3) {
            let first = self.millis(1, 800);
            Some(Backoff::new(first, first * 4).map_err(odd)?)
        } else {
            None
        };
        spec.restart = RestartSpec { restart, strategy, intensity, backoff };
        if self.chance.one_in(3) {
            spec.stop_sequence = StopSequence::OneByOne;
        }
        Ok(())
    }

    /// The ledger must know whose children may begin again.
    fn supervise(&self, tag: u64, spec: &JobSpec) {
        if spec.restart.restart != RestartType::Temporary {
            // A round leaves out the children of a map that come while it is under way.
            let known = matches!(spec.fan, Fan::PerNode { .. });
            let strategy = if known { spec.restart.strategy } else { Strategy::OneForOne };
            self.ledger.supervise(tag, strategy);
        }
    }

    /// 1 to `most`.
    pub(super) fn count(&mut self, most: u64) -> NonZeroU32 {
        NonZeroU32::new(self.chance.below(most) as u32 + 1).unwrap_or(NonZeroU32::MIN)
    }

    pub(super) async fn start(&mut self, number: usize) -> Result<String, Broken> {
        if self.sight.node(number).is_some_and(|node| node.jobs.len() >= JOBS) {
            return self.remove(number).await;
        }
        let plan = self.plan();
        let (spec, input) = self.spec(plan)?;
        let key = key_of(plan.tag)?;
        let life = self.cluster.life(number).map_err(|error| Odd(error.to_string()))?;
        self.sight.owners.insert(plan.tag, life);
        self.supervise(plan.tag, &spec);
        let ask = Ask::Start { key: key.clone(), spec: Box::new(spec.clone()) };
        let repeated = input == Input::None && self.chance.one_in(4);
        let node = self.node(number)?;
        let started = if repeated {
            // A client that does not know whether its request was heard says it once more.
            let once = client::start(node, ask.clone(), &input);
            let (one, other) = tokio::join!(once, client::start(node, ask, &input));
            let (one, other) = (one?, other?);
            if one.as_ref().map(|view| view.id) != other.as_ref().map(|view| view.id) {
                let text = format!("node{number}, tag {}: {one:?} and {other:?}", plan.tag);
                return Err(Broken(Promise::P1, text));
            }
            one.map(|view| (view, None))
        } else {
            let request = Request { session: SessionRef::Default, ask };
            client::begin(node, request, &input).await?.map(|(view, feeder)| (view, Some(feeder)))
        };
        let (view, feeder) =
            started.map_err(|refusal| Odd(format!("a start is refused: {refusal:?}")))?;
        if let (Input::Begun(_), Some(feeder)) = (&input, feeder) {
            self.sight.feeders.push((number, view.id, feeder, plan.bytes()?));
        }
        let expected = matches!(spec.fan, Fan::PerNode { .. }).then(|| view.tally.total());
        let first = EntryId(view.id.0 + 1);
        let rules = (spec.restart, spec.stop_sequence);
        let mut family = Family::new(rules, expected.map(|count| (first, count)));
        if !is_supervised(&spec) {
            family.look_away();
        }
        let said = format!("node{number} starts {} as tag {}: {:?}", view.id, plan.tag, spec.fan);
        let said = format!("{said} {}", restart_words(&spec));
        let (tag, children) = (plan.tag, std::collections::BTreeMap::new());
        let job = JobSeen { tag, key, spec, expected, children, end: None, family };
        if let Some(node) = self.sight.node_mut(number) {
            node.jobs.insert(view.id, job);
        }
        Ok(format!("{said} {:?} {plan:?}", input_words(&input)))
    }

    /// A client goes on with a job's input, ends it, or dies in the middle of it.
    pub(super) async fn feed(&mut self) -> Result<String, Broken> {
        let begun = self.sight.feeders.len() as u64;
        if begun == 0 {
            return Ok("nothing".to_owned());
        }
        let place = self.chance.below(begun) as usize;
        let (number, job, mut feeder, item) = self.sight.feeders.swap_remove(place);
        let said = format!("node{number}: the client of {job}");
        match self.chance.below(4) {
            0 => return Ok(format!("{said} dies in the middle of its input")),
            1 => {
                // A job that reads no further keeps its client waiting.
                let _ = tokio::time::timeout(PATIENCE, feeder.end()).await;
                return Ok(format!("{said} ends its input"));
            }
            _ => {}
        }
        let items = self.count(4).get();
        for given in 0..items {
            match tokio::time::timeout(PATIENCE, feeder.give(&item)).await {
                Ok(given) => given?,
                Err(_) => return Ok(format!("{said} dies after {given} of {items} items")),
            }
        }
        self.sight.feeders.push((number, job, feeder, item));
        Ok(format!("{said} gives {items} items"))
    }

    /// A job in a session that ends with its client.
    pub(super) async fn start_temporarily(&mut self, number: usize) -> Result<String, Broken> {
        let plan = self.plan();
        let (spec, input) = self.spec(plan)?;
        let key = key_of(plan.tag)?;
        let life = self.cluster.life(number).map_err(|error| Odd(error.to_string()))?;
        self.sight.owners.insert(plan.tag, life);
        self.supervise(plan.tag, &spec);
        let temporary = client::open_temporary(self.node(number)?).await?;
        let session = SessionRef::Instance(temporary.instance);
        let ask = Ask::Start { key, spec: Box::new(spec) };
        let started =
            client::start_in(self.node(number)?, Request { session, ask }, &input).await?;
        started.map_err(|refusal| Odd(format!("a start is refused: {refusal:?}")))?;
        self.sight.temporaries.push((number, plan.tag, temporary));
        Ok(format!("node{number} starts tag {} in a temporary session {plan:?}", plan.tag))
    }

    /// The same start request once more: the same job.
    pub(super) async fn start_again(&mut self, number: usize) -> Result<String, Broken> {
        let Some(id) = self.pick_job(number) else { return Ok("nothing".to_owned()) };
        let job = self.sight.node(number).and_then(|node| node.jobs.get(&id));
        let Some(JobSeen { key, spec, .. }) = job else { return Ok("nothing".to_owned()) };
        let ask = Ask::Start { key: key.clone(), spec: Box::new(spec.clone()) };
        let said = format!("node{number} is asked again to start {id}");
        match client::start(self.node(number)?, ask, &Input::None).await? {
            Ok(view) if view.id == id => Ok(said),
            other => Err(Broken(Promise::P1, format!("{said}: {other:?}"))),
        }
    }
}

fn key_of(tag: u64) -> Result<IdempotencyKey, Odd> {
    IdempotencyKey::try_from(format!("key{tag}")).map_err(|error| Odd(error.to_string()))
}

fn input_words(input: &Input) -> String {
    match input {
        Input::None => "no input".to_owned(),
        Input::Whole(items) => format!("{} items", items.len()),
        Input::CutOff(items) => format!("{} items and no end", items.len()),
        Input::Begun(items) => format!("{} items so far", items.len()),
    }
}

fn restart_words(spec: &JobSpec) -> String {
    if !is_supervised(spec) {
        return String::new();
    }
    let RestartSpec { restart, strategy, intensity, backoff } = spec.restart;
    format!("{restart} {strategy} {intensity} {backoff:?} {:?}", spec.stop_sequence)
}
