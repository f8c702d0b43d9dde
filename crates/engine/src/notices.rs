//! Which ends a monitor has told: each life of each child once (`docs/semantics.md`, section 5.2).

use std::ops::Range;

use sortie_model::{ChildIncarnation, Ordinal, Reason, State, Timestamp};

/// How the present life of a child stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// Which life.
    pub incarnation: ChildIncarnation,
    /// Its end, if it has ended.
    pub end: Option<LifeEnd>,
}

/// The end of one life of a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LifeEnd {
    /// The terminal state.
    pub state: State,
    /// Why, if it failed.
    pub reason: Option<Reason>,
    /// When, if its end is known by a report.
    pub time: Option<Timestamp>,
}

/// The lives whose ends are to be told now. The last of them is the one that was asked about; of
/// those before it is known only that they ended.
pub type Untold = Range<u32>;

/// The ends that one monitor has told of one job's children: 4 bytes for each child up to the last
/// that ended.
#[derive(Debug, Default)]
pub struct EndNotices {
    /// For each child the first life whose end was not told.
    next: Vec<u32>,
}

impl EndNotices {
    /// The monitor begins while the child is in that life: the ones before are no concern of its.
    pub fn begin_at(&mut self, child: Ordinal, life: ChildIncarnation) {
        if life > ChildIncarnation(0) {
            *self.slot(child) = life.0;
        }
    }

    /// That life has ended.
    pub fn on_end(&mut self, child: Ordinal, life: ChildIncarnation) -> Untold {
        self.tell_up_to(child, life.next().0)
    }

    /// The child is in that life, which has not ended.
    pub fn on_alive(&mut self, child: Ordinal, life: ChildIncarnation) -> Untold {
        if life == ChildIncarnation(0) { 0..0 } else { self.tell_up_to(child, life.0) }
    }

    /// Whether the end of that life was told.
    pub fn is_told(&self, child: Ordinal, life: ChildIncarnation) -> bool {
        self.next.get(child.0 as usize).is_some_and(|next| *next > life.0)
    }

    fn tell_up_to(&mut self, child: Ordinal, end: u32) -> Untold {
        let next = self.slot(child);
        let untold = *next..end.max(*next);
        *next = untold.end;
        untold
    }

    fn slot(&mut self, child: Ordinal) -> &mut u32 {
        let place = child.0 as usize;
        if self.next.len() <= place {
            self.next.resize(place + 1, 0);
        }
        #[expect(clippy::indexing_slicing, reason = "the place was made above")]
        &mut self.next[place]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CHILD: Ordinal = Ordinal(3);

    #[test]
    fn an_end_that_is_seen_twice_is_told_once() {
        let mut notices = EndNotices::default();
        assert_eq!(notices.on_alive(CHILD, ChildIncarnation(0)), 0..0);
        assert_eq!(notices.on_end(CHILD, ChildIncarnation(0)), 0..1);
        assert!(notices.on_end(CHILD, ChildIncarnation(0)).is_empty());
        assert!(notices.is_told(CHILD, ChildIncarnation(0)));
        assert!(!notices.is_told(CHILD, ChildIncarnation(1)));
    }

    #[test]
    fn lives_before_the_monitor_are_not_told() {
        let mut notices = EndNotices::default();
        notices.begin_at(CHILD, ChildIncarnation(5));
        assert!(notices.on_end(CHILD, ChildIncarnation(4)).is_empty());
        assert_eq!(notices.on_end(CHILD, ChildIncarnation(5)), 5..6);
    }

    /// What a monitor can see of a child.
    #[derive(Debug, Clone, Copy)]
    enum Sight {
        /// The next life ends, and its monitor hears of it.
        Heard,
        /// The next life ends, and the word is lost.
        Lost,
        /// It looks at the child.
        Looks,
        /// It hears of the last end once more.
        Again,
    }

    fn sights() -> impl Strategy<Value = Vec<Sight>> {
        let one = prop_oneof![
            Just(Sight::Heard),
            Just(Sight::Lost),
            Just(Sight::Looks),
            Just(Sight::Again)
        ];
        prop::collection::vec(one, 0..40)
    }

    proptest! {
        #[test]
        fn every_life_is_told_once_in_order_however_words_are_lost(sights in sights()) {
            let (mut notices, mut told) = (EndNotices::default(), Vec::new());
            let mut ended = 0;
            for sight in sights {
                let untold = match sight {
                    Sight::Heard => {
                        ended += 1;
                        notices.on_end(CHILD, ChildIncarnation(ended - 1))
                    }
                    Sight::Lost => {
                        ended += 1;
                        0..0
                    }
                    Sight::Looks => notices.on_alive(CHILD, ChildIncarnation(ended)),
                    Sight::Again if ended > 0 => {
                        notices.on_end(CHILD, ChildIncarnation(ended - 1))
                    }
                    Sight::Again => 0..0,
                };
                told.extend(untold);
            }
            told.extend(notices.on_alive(CHILD, ChildIncarnation(ended)));
            prop_assert_eq!(told, (0..ended).collect::<Vec<_>>());
        }
    }
}
