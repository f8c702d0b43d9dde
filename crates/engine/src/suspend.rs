//! What one running child was told, and what of that its owner was told in turn
//! (`docs/semantics.md`, section 3.5): where the child runs.

use sortie_model::Motion;

/// The orders to one incarnation of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Orders {
    /// The number of the last one; 0 before the first.
    number: u64,
    told: Motion,
    /// What the owner heard last about that order.
    said: Option<Motion>,
}

/// Whether an order says something new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fresh {
    /// It does: the body is to heed it.
    Yes,
    /// It came before, or a newer one did.
    No,
}

impl Default for Orders {
    fn default() -> Self {
        Self { number: 0, told: Motion::Running, said: Some(Motion::Running) }
    }
}

impl Orders {
    /// The owner wants it to stand still, or to go on.
    pub const fn on_order(&mut self, number: u64, motion: Motion) -> Fresh {
        if number <= self.number {
            return Fresh::No;
        }
        *self = Self { number, told: motion, said: None };
        Fresh::Yes
    }

    /// The child does that now. Gives the number of the order with which the owner is to be told.
    pub fn on_motion(&mut self, motion: Motion) -> Option<u64> {
        // What it does on the way to what it was told last is nobody's business; that it does that
        // no more is.
        let news = self.said != Some(motion) && (motion == self.told || self.said.is_some());
        news.then(|| {
            self.said = Some(motion);
            self.number
        })
    }

    /// That it stands still, once more for an owner that began anew: the number of the order.
    pub fn stands_by(&self) -> Option<u64> {
        (self.said == Some(Motion::Suspended)).then_some(self.number)
    }

    /// What it was told last.
    pub const fn told(&self) -> Motion {
        self.told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Motion::{Running, Suspended};

    #[test]
    fn an_order_counts_once_and_a_newer_one_beats_it() {
        let mut orders = Orders::default();
        assert_eq!(orders.on_order(3, Suspended), Fresh::Yes);
        assert_eq!(orders.on_order(3, Suspended), Fresh::No);
        assert_eq!(orders.on_order(2, Running), Fresh::No);
        assert_eq!(orders.told(), Suspended);
        assert_eq!(orders.on_order(4, Running), Fresh::Yes);
        assert_eq!(orders.told(), Running);
    }

    #[test]
    fn the_owner_hears_once_of_what_was_ordered_and_nothing_of_the_way_there() {
        let mut orders = Orders::default();
        assert_eq!(orders.on_motion(Running), None, "nobody told it anything");
        orders.on_order(1, Suspended);
        orders.on_order(2, Running);
        assert_eq!(orders.on_motion(Suspended), None);
        assert_eq!(orders.on_motion(Running), Some(2));
        assert_eq!(orders.on_motion(Running), None);
    }

    #[test]
    fn an_owner_that_began_anew_hears_of_what_stands_still() {
        let mut orders = Orders::default();
        assert_eq!(orders.stands_by(), None);
        orders.on_order(1, Suspended);
        assert_eq!(orders.stands_by(), None, "it is on its way");
        orders.on_motion(Suspended);
        assert_eq!(orders.stands_by(), Some(1));
        orders.on_order(2, Running);
        assert_eq!(orders.stands_by(), None, "it is on its way back");
        orders.on_motion(Running);
        assert_eq!(orders.stands_by(), None);
    }

    #[test]
    fn the_owner_hears_of_a_child_that_stands_still_no_more_and_then_again() {
        let mut orders = Orders::default();
        orders.on_order(1, Suspended);
        assert_eq!(orders.on_motion(Suspended), Some(1));
        assert_eq!(orders.on_motion(Running), Some(1));
        assert_eq!(orders.on_motion(Suspended), Some(1));
    }
}
