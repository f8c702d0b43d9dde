//! What a stop reaches, and when failures are one (`docs/semantics.md`, section 3.5).

use sortie_model::restart::StopSequence;
use sortie_model::spec::{MaxFails, StopSpec};
use sortie_model::{Ordinal, State, Timestamp};
use sortie_wire::host_proto::{ChildOutcome, ChildSet, Verdict};

use crate::aggregate::Told;
use crate::broken::{Rule, is_broken};
use crate::parent_job::row::Phase;
use crate::parent_job::{Effects, JobEffect, ParentJob};
use crate::placement::NodeIndex;

/// Somebody's wish that a job, or some of its children, stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopOrder {
    /// Which children; all of them is the job itself, its open input included.
    pub children: ChildSet,
    /// With which signal and grace.
    pub how: StopSpec,
    /// Who wished it, as people are shown.
    pub by: String,
}

impl ParentJob {
    /// Somebody told the job, or some of its children, to stop.
    pub fn on_stop(&mut self, order: StopOrder, now: Timestamp, effects: &mut Effects) {
        let StopOrder { children, how, by } = self.with_grace_of_before(order);
        let everything = matches!(children, ChildSet::All);
        let ordinals: Vec<Ordinal> = match children {
            ChildSet::All => {
                if self.state.is_finished() {
                    return;
                }
                self.told = Told::Stop;
                self.open = false;
                effects.push(JobEffect::Unwanted);
                (0..self.rows.len() as u32).map(Ordinal).collect()
            }
            ChildSet::Some(ordinals) => ordinals,
        };
        if everything {
            self.stop = Some((how, by));
            self.supervise_closed();
            if self.supervise_stop_all(how) == StopSequence::OneByOne {
                self.advance(now, effects);
                return;
            }
            self.line.withdraw_all();
        } else {
            self.stop.get_or_insert((how, by));
        }
        let mut there: Vec<Vec<Ordinal>> = vec![Vec::new(); self.nodes.len()];
        for ordinal in ordinals {
            if !everything {
                self.supervise_stop(ordinal);
            }
            let (new_there, parked) = (self.is_new_there(ordinal), self.is_parked(ordinal));
            self.touch(ordinal);
            let Some(row) = self.row_mut(ordinal) else { continue };
            row.told_to_stop = true;
            match (row.phase, row.node) {
                (Phase::Queued, _) => {
                    if !everything {
                        self.line.withdraw(ordinal);
                    }
                    self.end_here(ordinal, Verdict::Stopped, now, effects);
                }
                _ if parked => self.end_here(ordinal, Verdict::Stopped, now, effects),
                (phase, Some(node)) if phase.holds_slot() => {
                    self.end_suspension(ordinal, effects);
                    if new_there {
                        self.end_here(ordinal, Verdict::Stopped, now, effects);
                    } else if phase.goes_on() {
                        self.set_phase(ordinal, Phase::Stopping, effects);
                        self.withdraw_question(ordinal, effects);
                    }
                    if let Some(list) = there.get_mut(node.0 as usize) {
                        list.push(ordinal);
                    }
                }
                (phase, _) if phase.is_finished() && is_broken(Rule::P3) => {
                    row.set_outcome(ChildOutcome::of(Verdict::Stopped));
                    self.set_phase(ordinal, Phase::Stopped, effects);
                }
                _ => {}
            }
        }
        for (node, list) in (0u32..).zip(there) {
            if !list.is_empty() {
                let children = if everything { ChildSet::All } else { ChildSet::Some(list) };
                effects.push(JobEffect::Stop { node: NodeIndex(node), children, how });
            }
        }
        self.advance(now, effects);
    }

    /// A stop of what stops already keeps the grace that it has, unless it names another one.
    fn with_grace_of_before(&self, mut order: StopOrder) -> StopOrder {
        let before = self.stop().and_then(|(before, _)| before.grace);
        order.how.grace = order.how.grace.or(before);
        order
    }

    /// Stops the rest once as many children failed as the spec allows. A child that starts again
    /// has not failed, whether it waits for that or not.
    pub(super) fn apply_max_fails(&mut self, now: Timestamp, effects: &mut Effects) {
        if self.spec.max_fails == MaxFails::Unlimited {
            return;
        }
        // What starts again at once is taken up here, and is not counted.
        self.obey(now, effects);
        let failed = self.counts.of(State::Failed);
        let passed = match self.spec.max_fails {
            MaxFails::Unlimited => false,
            MaxFails::Count(most) => failed > u64::from(most),
            MaxFails::Percent(share) => {
                let all = self.rows.len() as u64;
                failed > 0 && failed.saturating_mul(100) >= u64::from(share) * all
            }
        };
        if passed && self.told != Told::Stop && !self.all_done() {
            self.note(format!("stopped the rest after {failed} failed"));
            let (children, how) = (ChildSet::All, StopSpec::default());
            self.on_stop(StopOrder { children, how, by: "--max-fails".into() }, now, effects);
        }
    }
}
