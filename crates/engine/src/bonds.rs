//! Jobs of one session that are bound to each other: the bad end of one stops the other
//! (`docs/semantics.md`, section 5.3). These are OTP's links, with a good end as `normal`.

use std::collections::{BTreeMap, BTreeSet};

use sortie_model::{JobInstance, State, limits};

/// Why two jobs cannot be bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BondRefused {
    /// They are one.
    #[error("a job cannot be bound to itself")]
    Itself,
    /// The session has as many bonds as it may.
    #[error("the session has {} bonds already", limits::BONDS_PER_SESSION)]
    TooMany,
}

/// The bonds between a session's unfinished jobs.
#[derive(Debug, Default)]
pub struct Bonds {
    /// Both ways.
    partners: BTreeMap<JobInstance, BTreeSet<JobInstance>>,
    count: usize,
}

impl Bonds {
    /// Binds two jobs, each in its present state. Gives the one that is to be stopped now because
    /// the other has ended badly; what has ended well binds nobody.
    ///
    /// # Errors
    /// [`BondRefused`]; nothing was done.
    pub fn bind(
        &mut self,
        first: (JobInstance, State),
        second: (JobInstance, State),
    ) -> Result<Option<JobInstance>, BondRefused> {
        if first.0 == second.0 {
            return Err(BondRefused::Itself);
        }
        match (first.1.is_finished(), second.1.is_finished()) {
            (true, true) => Ok(None),
            (true, false) => Ok(is_bad(first.1).then_some(second.0)),
            (false, true) => Ok(is_bad(second.1).then_some(first.0)),
            (false, false) => {
                let known = self.partners.get(&first.0).is_some_and(|all| all.contains(&second.0));
                if !known && self.count >= limits::BONDS_PER_SESSION {
                    return Err(BondRefused::TooMany);
                }
                self.count += usize::from(!known);
                self.partners.entry(first.0).or_default().insert(second.0);
                self.partners.entry(second.0).or_default().insert(first.0);
                Ok(None)
            }
        }
    }

    /// A job has finished in that state: who is to be stopped. Its bonds are gone.
    pub fn on_finished(&mut self, job: JobInstance, state: State) -> Vec<JobInstance> {
        let partners = self.partners.remove(&job).unwrap_or_default();
        self.count = self.count.saturating_sub(partners.len());
        for partner in &partners {
            if let Some(all) = self.partners.get_mut(partner) {
                all.remove(&job);
                if all.is_empty() {
                    self.partners.remove(partner);
                }
            }
        }
        if is_bad(state) { partners.into_iter().collect() } else { Vec::new() }
    }
}

/// Whether an end is one that partners do not survive.
const fn is_bad(state: State) -> bool {
    matches!(state, State::Failed | State::Stopped)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const RUNNING: State = State::Running;

    fn job(number: u128) -> JobInstance {
        JobInstance(Uuid::from_u128(number))
    }

    #[test]
    fn a_bad_end_stops_those_who_are_bound_and_a_good_one_nobody() {
        let check = |state, stopped: &[JobInstance]| {
            let mut bonds = Bonds::default();
            assert_eq!(bonds.bind((job(1), RUNNING), (job(2), RUNNING)), Ok(None));
            assert_eq!(bonds.bind((job(3), RUNNING), (job(1), RUNNING)), Ok(None));
            assert_eq!(bonds.on_finished(job(1), state), stopped);
            assert_eq!(bonds.on_finished(job(2), State::Failed), [], "its bond is gone");
            assert_eq!((bonds.count, bonds.partners.len()), (0, 0));
        };
        check(State::Failed, &[job(2), job(3)]);
        check(State::Stopped, &[job(2), job(3)]);
        check(State::Completed, &[]);
    }

    #[test]
    fn binding_to_what_has_ended_acts_at_once() {
        let check = |first, second, stopped| {
            let mut bonds = Bonds::default();
            assert_eq!(bonds.bind((job(1), first), (job(2), second)), Ok(stopped));
            assert_eq!(bonds.count, 0);
        };
        check(State::Failed, RUNNING, Some(job(2)));
        check(RUNNING, State::Stopped, Some(job(1)));
        check(State::Completed, RUNNING, None);
        check(State::Failed, State::Failed, None);
    }

    #[test]
    fn the_same_bond_twice_is_one_and_there_are_only_so_many() {
        let mut bonds = Bonds::default();
        for partner in 1..=limits::BONDS_PER_SESSION as u128 {
            for _ in 0..2 {
                assert_eq!(bonds.bind((job(0), RUNNING), (job(partner), RUNNING)), Ok(None));
            }
        }
        let one_more = bonds.bind((job(1), RUNNING), (job(2), RUNNING));
        assert_eq!(one_more, Err(BondRefused::TooMany));
        assert_eq!(bonds.bind((job(1), RUNNING), (job(1), RUNNING)), Err(BondRefused::Itself));
    }
}
