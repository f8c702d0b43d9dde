//! How much of a child's output may be unacknowledged (`docs/semantics.md`, section 1.3): a bound
//! per child, granted by its mailbox, within a bound per link.

use sortie_model::limits::{CHILD_CREDIT_BYTES, LINK_CREDIT_BYTES};

/// What a mailbox grants when it has `room` bytes until its quota, to send with an
/// acknowledgement. Nothing at the quota: the child then pauses.
pub const fn grant(room: u64) -> u32 {
    if room < CHILD_CREDIT_BYTES as u64 { room as u32 } else { CHILD_CREDIT_BYTES as u32 }
}

/// The unacknowledged bytes of all children of one link, on the executing side.
#[derive(Debug)]
pub struct LinkCredit {
    limit: u64,
    used: u64,
}

impl LinkCredit {
    /// Nothing used of [`LINK_CREDIT_BYTES`].
    pub const fn new() -> Self {
        Self::with_limit(LINK_CREDIT_BYTES as u64)
    }

    /// Nothing used of `limit` bytes.
    pub const fn with_limit(limit: u64) -> Self {
        Self { limit, used: 0 }
    }

    /// Bytes that are reserved and not released.
    pub const fn used(&self) -> u64 {
        self.used
    }

    const fn left(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }
}

impl Default for LinkCredit {
    fn default() -> Self {
        Self::new()
    }
}

/// The unacknowledged bytes of one child, on the executing side.
///
/// A child that ends or is forgotten must give back what it holds: [`ChildCredit::end`].
#[derive(Debug)]
pub struct ChildCredit {
    granted: u64,
    used: u64,
}

impl ChildCredit {
    /// A child that may send [`CHILD_CREDIT_BYTES`] before it hears from its mailbox.
    pub const fn new() -> Self {
        Self { granted: CHILD_CREDIT_BYTES as u64, used: 0 }
    }

    /// Bytes that are reserved and not released.
    pub const fn used(&self) -> u64 {
        self.used
    }

    /// How many bytes the child may read from its body now.
    pub const fn allowance(&self, link: &LinkCredit) -> u64 {
        let own = self.granted.saturating_sub(self.used);
        if own < link.left() { own } else { link.left() }
    }

    /// Reserves an item's bytes, or says that it has to wait. An item larger than the credit goes
    /// when it is alone, else it would never go.
    pub const fn reserve(&mut self, link: &mut LinkCredit, bytes: u64) -> bool {
        let fits =
            bytes <= self.granted.saturating_sub(self.used) || (self.used == 0 && self.granted > 0);
        let link_fits = bytes <= link.left() || (link.left() > 0 && bytes > link.limit);
        if !fits || !link_fits {
            return false;
        }
        self.used = self.used.saturating_add(bytes);
        link.used = link.used.saturating_add(bytes);
        true
    }

    /// The mailbox has stored `bytes`.
    pub const fn release(&mut self, link: &mut LinkCredit, bytes: u64) {
        let bytes = if bytes < self.used { bytes } else { self.used };
        self.used -= bytes;
        link.used = link.used.saturating_sub(bytes);
    }

    /// What the mailbox grants from now on. A smaller grant takes nothing back: the child waits
    /// until its unacknowledged bytes are below it.
    pub const fn grant(&mut self, bytes: u32) {
        let most = CHILD_CREDIT_BYTES as u64;
        self.granted = if (bytes as u64) < most { bytes as u64 } else { most };
    }

    /// The child needs no credit any more.
    pub const fn end(mut self, link: &mut LinkCredit) {
        let used = self.used;
        self.release(link, used);
    }
}

impl Default for ChildCredit {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_child_stops_at_its_credit_and_goes_on_when_the_mailbox_has_stored() {
        let (mut link, mut child) = (LinkCredit::new(), ChildCredit::new());
        assert!(child.reserve(&mut link, CHILD_CREDIT_BYTES as u64));
        assert!(!child.reserve(&mut link, 1));
        assert_eq!(child.allowance(&link), 0);
        child.release(&mut link, 10);
        assert_eq!(child.allowance(&link), 10);
        assert!(child.reserve(&mut link, 10) && !child.reserve(&mut link, 1));
    }

    #[test]
    fn a_full_mailbox_pauses_its_child_and_no_other() {
        let mut link = LinkCredit::new();
        let (mut paused, mut other) = (ChildCredit::new(), ChildCredit::new());
        assert!(paused.reserve(&mut link, 500));
        paused.grant(grant(0));
        paused.release(&mut link, 500);
        assert!(!paused.reserve(&mut link, 1) && other.reserve(&mut link, 1));
        paused.grant(grant(u64::MAX));
        assert!(paused.reserve(&mut link, CHILD_CREDIT_BYTES as u64));
    }

    #[test]
    fn a_shrunken_grant_counts_what_is_out_already() {
        let (mut link, mut child) = (LinkCredit::new(), ChildCredit::new());
        assert!(child.reserve(&mut link, 1_000));
        child.grant(400);
        assert_eq!(child.allowance(&link), 0);
        child.release(&mut link, 700);
        assert_eq!(child.allowance(&link), 100);
    }

    #[test]
    fn an_item_larger_than_the_credit_goes_alone() {
        let (mut link, mut child) = (LinkCredit::with_limit(100), ChildCredit::new());
        assert!(child.reserve(&mut link, 1 << 30));
        assert!(!ChildCredit::new().reserve(&mut link, 1));
        child.end(&mut link);
        assert_eq!(link.used(), 0);
    }

    #[test]
    fn a_link_bounds_the_sum_of_its_children() {
        let mut link = LinkCredit::with_limit(100);
        let (mut first, mut second) = (ChildCredit::new(), ChildCredit::new());
        assert!(first.reserve(&mut link, 60));
        assert_eq!(second.allowance(&link), 40);
        assert!(!second.reserve(&mut link, 41) && second.reserve(&mut link, 40));
        first.end(&mut link);
        assert_eq!(link.used(), 40);
    }

    proptest! {
        #[test]
        fn the_link_holds_exactly_what_its_children_hold(
            steps in prop::collection::vec((0_usize..4, 0_u8..3, 0_u64..3_000), 0..200)
        ) {
            let mut link = LinkCredit::with_limit(5_000);
            let mut children: Vec<_> = (0..4).map(|_| ChildCredit::new()).collect();
            for (which, step, bytes) in steps {
                let child = &mut children[which];
                match step {
                    0 => {
                        let allowed = child.allowance(&link) >= bytes;
                        prop_assert_eq!(child.reserve(&mut link, bytes) || !allowed, true);
                    }
                    1 => child.release(&mut link, bytes),
                    _ => child.grant(bytes as u32),
                }
                prop_assert_eq!(link.used(), children.iter().map(ChildCredit::used).sum::<u64>());
                prop_assert!(link.used() <= 5_000);
            }
        }
    }
}
