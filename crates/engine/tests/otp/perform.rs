//! Our machine in a scenario, with children that end as soon as they are told to.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use sortie_engine::restart::{ChildEnded, Exit, RestartEffect, Supervisor};
use sortie_model::restart::StopSequence;
use sortie_model::{ChildIncarnation, Ordinal};

use crate::scenario::{Scenario, Step};

struct World {
    supervisor: Supervisor,
    now: Duration,
    running: BTreeMap<u32, ChildIncarnation>,
    added: u32,
    is_over: bool,
    seen: Vec<String>,
}

/// What is to be seen at each step, in the words of the recorded file.
pub(crate) fn perform(scenario: &Scenario) -> Vec<Vec<String>> {
    let mut world = World {
        supervisor: Supervisor::new(&scenario.spec, StopSequence::AtOnce),
        now: Duration::ZERO,
        running: BTreeMap::new(),
        added: 0,
        is_over: false,
        seen: Vec::new(),
    };
    for restart in &scenario.children {
        world.step(&Step::Add(*restart));
    }
    world.seen.clear();
    let mut outcomes = Vec::new();
    for step in &scenario.steps {
        world.step(step);
        outcomes.push(std::mem::take(&mut world.seen));
    }
    outcomes
}

impl World {
    fn step(&mut self, step: &Step) {
        let was_over = self.is_over;
        let mut effects = Vec::new();
        match step {
            Step::End(ends) => {
                // All of them are gone before anything that follows from it is done.
                let ends: Vec<_> = ends
                    .iter()
                    .filter_map(|(child, exit)| Some((*child, self.running.remove(child)?, *exit)))
                    .collect();
                for (child, incarnation, exit) in ends {
                    let end = ChildEnded { child: Ordinal(child), incarnation, exit };
                    self.supervisor.on_ended(end, self.now, &mut effects);
                }
            }
            Step::Stop(child) => {
                self.supervisor.on_stop(Ordinal(*child), &mut effects);
                self.stop(*child, &mut effects);
            }
            Step::Add(restart) => {
                if !self.is_over {
                    self.supervisor.on_added(1, *restart);
                    self.running.insert(self.added, ChildIncarnation(0));
                    self.seen.push(format!("start {}", self.added));
                }
                self.added += 1;
            }
            Step::Pass(seconds) => self.now += Duration::from_secs(*seconds),
        }
        self.perform(effects.into());
        if self.is_over && !was_over {
            self.seen.push("give up".to_owned());
        }
    }

    fn perform(&mut self, mut effects: VecDeque<RestartEffect>) {
        while let Some(effect) = effects.pop_front() {
            let mut more = Vec::new();
            match effect {
                RestartEffect::Start { child, incarnation } => {
                    let before = self.running.insert(child.0, incarnation);
                    assert_eq!(before, None, "child {} runs twice", child.0);
                    self.seen.push(format!("start {}", child.0));
                }
                RestartEffect::Stop(child) => self.stop(child.0, &mut more),
                RestartEffect::StopAll => {
                    let running: Vec<u32> = self.running.keys().rev().copied().collect();
                    running.into_iter().for_each(|child| self.stop(child, &mut more));
                }
                RestartEffect::GiveUp { .. } => self.is_over = true,
                RestartEffect::Settle(_) => {}
            }
            effects.extend(more);
        }
    }

    /// A child that has ended already is not seen to be stopped.
    fn stop(&mut self, child: u32, effects: &mut Vec<RestartEffect>) {
        let Some(incarnation) = self.running.remove(&child) else { return };
        self.seen.push(format!("stop {child}"));
        let end = ChildEnded { child: Ordinal(child), incarnation, exit: Exit::Stopped };
        self.supervisor.on_ended(end, self.now, effects);
    }
}
