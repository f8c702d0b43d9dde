//! The scenarios: all that are small, and many that are not. They are the same on every run.

use std::fmt;
use std::time::Duration;

use RestartType::Permanent;
use sortie_engine::restart::Exit;
use sortie_model::restart::{Intensity, RestartSpec, RestartType, Strategy};

/// In seconds. Longer than a run takes, and no sum of what `pass` steps come near it.
const PERIOD: u64 = 60;
const PASSES: [u64; 2] = [25, 70];
const DRAWN_PER_STRATEGY: u64 = 60;

/// What happens next.
pub(crate) enum Step {
    /// These children end, before anybody looks.
    End(Vec<(u32, Exit)>),
    /// A user stops the child for good.
    Stop(u32),
    /// One more child.
    Add(RestartType),
    /// So many seconds go by.
    Pass(u64),
}

/// The line of the file, without what follows from it.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::End(ends) => {
                let word = |exit: &Exit| if *exit == Exit::Normal { "end" } else { "fail" };
                let ends = ends.iter().map(|(child, exit)| format!("{} {child}", word(exit)));
                f.write_str(&ends.collect::<Vec<_>>().join(" + "))
            }
            Self::Stop(child) => write!(f, "stop {child}"),
            Self::Add(restart) => write!(f, "add {restart}"),
            Self::Pass(seconds) => write!(f, "pass {seconds}s"),
        }
    }
}

/// A job and what happens to it.
pub(crate) struct Scenario {
    pub(crate) spec: RestartSpec,
    pub(crate) children: Vec<RestartType>,
    pub(crate) steps: Vec<Step>,
}

impl Scenario {
    fn new(strategy: Strategy, restarts: u32, children: Vec<RestartType>) -> Self {
        let period = Duration::from_secs(PERIOD);
        let intensity = Intensity::new(restarts, period).expect("in bounds");
        let spec = RestartSpec { strategy, intensity, ..RestartSpec::default() };
        Self { spec, children, steps: Vec::new() }
    }

    /// The line with which it begins in the file.
    pub(crate) fn header(&self, number: usize) -> String {
        let children: Vec<_> = self.children.iter().map(RestartType::to_string).collect();
        let RestartSpec { strategy, intensity, .. } = self.spec;
        let restarts = intensity.restarts();
        format!("scenario {number} {strategy} {restarts}/{PERIOD}s {}", children.join(" "))
    }
}

/// All scenarios.
pub(crate) fn scenarios() -> Vec<Scenario> {
    let mut scenarios = Vec::new();
    for strategy in Strategy::ALL {
        scenarios.extend(triples().map(|children| one_after_another(strategy, children)));
        scenarios.extend(triples().step_by(3).map(|children| two_at_once(strategy, children)));
        scenarios.extend((0..DRAWN_PER_STRATEGY).map(|seed| drawn(strategy, Draw::new(seed))));
    }
    scenarios
}

/// Every three restart types; the last changes fastest.
fn triples() -> impl Iterator<Item = [RestartType; 3]> {
    let all = RestartType::ALL;
    all.into_iter().flat_map(move |a| all.into_iter().flat_map(move |b| all.map(|c| [a, b, c])))
}

/// Every end of every child, with restarts to spare.
fn one_after_another(strategy: Strategy, children: [RestartType; 3]) -> Scenario {
    let mut scenario = Scenario::new(strategy, 9, children.to_vec());
    for exit in [Exit::Failure, Exit::Normal] {
        scenario.steps.extend((0..3).map(|child| Step::End(vec![(child, exit)])));
    }
    scenario
}

/// Every two ends at once of the first two children; the third is permanent.
fn two_at_once(strategy: Strategy, [first, second, _]: [RestartType; 3]) -> Scenario {
    let mut scenario = Scenario::new(strategy, 9, vec![first, second, Permanent]);
    for exits in [
        [Exit::Failure, Exit::Failure],
        [Exit::Failure, Exit::Normal],
        [Exit::Normal, Exit::Failure],
        [Exit::Normal, Exit::Normal],
    ] {
        let [a, b] = exits;
        scenario.steps.push(Step::End(vec![(0, a), (1, b)]));
        scenario.steps.push(Step::End(vec![(1, b), (0, a)]));
    }
    scenario
}

/// One to five children, some restarts, and four to nine steps of any kind.
fn drawn(strategy: Strategy, mut draw: Draw) -> Scenario {
    let children = (0..=draw.below(5)).map(|_| draw.restart_type()).collect();
    let restarts = draw.below(5) as u32;
    let mut scenario = Scenario::new(strategy, restarts, children);
    let mut count = scenario.children.len() as u64;
    for _ in 0..4 + draw.below(6) {
        let step = match draw.below(20) {
            0..12 => Step::End(vec![(draw.below(count) as u32, draw.exit())]),
            12..15 if count > 1 => {
                let first = draw.below(count);
                let second = (first + 1 + draw.below(count - 1)) % count;
                Step::End(vec![(first as u32, draw.exit()), (second as u32, draw.exit())])
            }
            12..17 => Step::Stop(draw.below(count) as u32),
            17 => {
                count += 1;
                Step::Add(draw.restart_type())
            }
            _ => Step::Pass(PASSES[draw.below(2) as usize]),
        };
        scenario.steps.push(step);
    }
    scenario
}

/// Numbers that look drawn, and are the same for the same seed everywhere (SplitMix64).
struct Draw(u64);

impl Draw {
    const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    /// Temporary children, with which little happens, are seldom.
    fn restart_type(&mut self) -> RestartType {
        let [permanent, transient, temporary] = RestartType::ALL;
        [permanent, permanent, transient, transient, temporary][self.below(5) as usize]
    }

    fn exit(&mut self) -> Exit {
        [Exit::Failure, Exit::Failure, Exit::Normal][self.below(3) as usize]
    }
}
