//! Jobs and children of one session that are bound to each other: the bad end of one stops the
//! other (`docs/semantics.md`, section 5.3). These are OTP's links, with a good end as `normal`.
//!
//! An end is the final one: of a child that starts again, the end after which nothing follows.

use std::collections::{BTreeMap, BTreeSet};

use sortie_model::{Bound, ChildKey, JobInstance, Ordinal, State, limits};

/// Why two cannot be bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BondRefused {
    /// They are one.
    #[error("neither a job nor a child can be bound to itself")]
    Itself,
    /// The session has as many bonds as it may.
    #[error("the session has {} bonds already", limits::BONDS_PER_SESSION)]
    TooMany,
}

/// The bonds of a session, between what has not ended.
#[derive(Debug, Default)]
pub struct Bonds {
    /// Both ways.
    partners: BTreeMap<Bound, BTreeSet<Bound>>,
    count: usize,
}

impl Bonds {
    /// Binds two, each with its final end if it has ended. Gives the one that is to be stopped now
    /// because the other has ended badly; what has ended well binds nobody.
    ///
    /// # Errors
    /// [`BondRefused`]; nothing was done.
    pub fn bind(
        &mut self,
        first: (Bound, Option<State>),
        second: (Bound, Option<State>),
    ) -> Result<Option<Bound>, BondRefused> {
        if first.0 == second.0 {
            return Err(BondRefused::Itself);
        }
        match (first.1, second.1) {
            (Some(_), Some(_)) => Ok(None),
            (Some(end), None) => Ok(is_bad(end).then_some(second.0)),
            (None, Some(end)) => Ok(is_bad(end).then_some(first.0)),
            (None, None) => {
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

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.partners.is_empty()
    }

    /// The children of a job that are bound to something.
    pub fn children_of(&self, job: JobInstance) -> Vec<Ordinal> {
        let child = |ordinal| Bound::Child(ChildKey { job, ordinal: Ordinal(ordinal) });
        let bound =
            self.partners.range(child(0)..=child(u32::MAX)).filter_map(|(one, _)| match one {
                Bound::Child(key) => Some(key.ordinal),
                Bound::Job(_) => None,
            });
        bound.collect()
    }

    /// One has ended like that, and nothing of it follows: who is to be stopped. Its bonds are
    /// gone.
    pub fn on_ended(&mut self, one: Bound, end: State) -> Vec<Bound> {
        let partners = self.partners.remove(&one).unwrap_or_default();
        self.count = self.count.saturating_sub(partners.len());
        for partner in &partners {
            if let Some(all) = self.partners.get_mut(partner) {
                all.remove(&one);
                if all.is_empty() {
                    self.partners.remove(partner);
                }
            }
        }
        if is_bad(end) { partners.into_iter().collect() } else { Vec::new() }
    }
}

/// Whether an end is one that partners do not survive.
const fn is_bad(end: State) -> bool {
    matches!(end, State::Failed | State::Stopped)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn instance(number: u128) -> JobInstance {
        JobInstance(Uuid::from_u128(number))
    }

    fn job(number: u128) -> Bound {
        Bound::Job(instance(number))
    }

    fn child(number: u128, ordinal: u32) -> Bound {
        Bound::Child(ChildKey { job: instance(number), ordinal: Ordinal(ordinal) })
    }

    #[test]
    fn a_bad_end_stops_those_who_are_bound_and_a_good_one_nobody() {
        let check = |one: Bound, end, stopped: &[Bound]| {
            let mut bonds = Bonds::default();
            assert_eq!(bonds.bind((one, None), (job(2), None)), Ok(None));
            assert_eq!(bonds.bind((child(3, 1), None), (one, None)), Ok(None));
            assert_eq!(bonds.on_ended(one, end), stopped);
            assert_eq!(bonds.on_ended(job(2), State::Failed), [], "its bond is gone");
            assert!(bonds.is_empty());
            assert_eq!(bonds.count, 0);
        };
        for one in [job(1), child(1, 7), child(3, 0), child(2, 0)] {
            check(one, State::Failed, &[job(2), child(3, 1)]);
            check(one, State::Stopped, &[job(2), child(3, 1)]);
            check(one, State::Completed, &[]);
        }
    }

    #[test]
    fn binding_to_what_has_ended_acts_at_once() {
        let check = |first, second, stopped| {
            let mut bonds = Bonds::default();
            assert_eq!(bonds.bind((job(1), first), (child(1, 0), second)), Ok(stopped));
            assert!(bonds.is_empty());
        };
        check(Some(State::Failed), None, Some(child(1, 0)));
        check(None, Some(State::Stopped), Some(job(1)));
        check(Some(State::Completed), None, None);
        check(Some(State::Failed), Some(State::Failed), None);
    }

    #[test]
    fn a_child_is_neither_its_job_nor_its_sibling() {
        let mut bonds = Bonds::default();
        for other in [job(1), child(1, 1), child(2, 0)] {
            assert_eq!(bonds.bind((child(1, 0), None), (other, None)), Ok(None));
        }
        assert_eq!(bonds.bind((child(1, 0), None), (child(1, 0), None)), Err(BondRefused::Itself));
        assert_eq!(bonds.children_of(instance(1)), [Ordinal(0), Ordinal(1)]);
        assert_eq!(bonds.children_of(instance(3)), []);
        assert_eq!(bonds.on_ended(child(1, 1), State::Failed), [child(1, 0)]);
        assert_eq!(bonds.children_of(instance(1)), [Ordinal(0)]);
    }

    #[test]
    fn the_same_bond_twice_is_one_and_there_are_only_so_many() {
        let mut bonds = Bonds::default();
        for partner in 0..limits::BONDS_PER_SESSION as u32 {
            for _ in 0..2 {
                assert_eq!(bonds.bind((job(0), None), (child(1, partner), None)), Ok(None));
            }
        }
        let one_more = bonds.bind((job(1), None), (job(2), None));
        assert_eq!(one_more, Err(BondRefused::TooMany));
        assert_eq!(bonds.bind((job(1), None), (job(1), None)), Err(BondRefused::Itself));
    }
}
