//! How many bytes of a child's output may be unacknowledged (`docs/semantics.md`, section 1.3), and
//! how many bytes of its input may be on their way.

use sortie_model::ChildIncarnation;
use sortie_model::limits::{
    CHILD_CREDIT_BYTES, INLINE_BYTES, INLINE_LIVES, INPUT_LEAST_BYTES, INPUT_WINDOW_BYTES,
    LINK_INPUT_BYTES,
};

/// What a mailbox grants when it has `room` bytes until its quota, to send with an
/// acknowledgement. Nothing at the quota: the child then pauses.
pub const fn grant(room: u64) -> u32 {
    if room < CHILD_CREDIT_BYTES as u64 { room as u32 } else { CHILD_CREDIT_BYTES as u32 }
}

/// Whether a child that was granted so many bytes, and has `unacknowledged` ones, may add an item
/// of `length`. An item larger than the grant goes when it is alone, else it would never go.
pub const fn may_add(unacknowledged: usize, granted: usize, length: usize) -> bool {
    unacknowledged.saturating_add(length) <= granted || (unacknowledged == 0 && granted > 0)
}

/// How much of what a life of a child says may ride the stream that all children share. Later lives
/// have nothing there: on it nobody waits until a reader makes room, and each life adds to what the
/// child's mailbox holds beyond its quota.
pub const fn inline_allowance(life: ChildIncarnation) -> usize {
    if life.0 < INLINE_LIVES { INLINE_BYTES } else { 0 }
}

/// How many more bytes of input may be sent to a child that has not read `child` of those that
/// were sent, while all children of its link together have not read `link`.
///
/// A child may have as much on its way as the link has left, at most a window: children that do not
/// read take ever less of it. What each may have at the least is beside the link's, so that no
/// child ever waits for another one to read. Less than half of that is not worth a frame.
pub fn input_allowance(child: u64, link: u64) -> u64 {
    let left = (LINK_INPUT_BYTES as u64).saturating_sub(link);
    let most = left.clamp(INPUT_LEAST_BYTES as u64, INPUT_WINDOW_BYTES as u64);
    let allowance = most.saturating_sub(child);
    if child > 0 && allowance < INPUT_LEAST_BYTES as u64 / 2 { 0 } else { allowance }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_mailbox_grants_its_room_up_to_a_childs_credit() {
        assert_eq!(grant(0), 0);
        assert_eq!(grant(5_000), 5_000);
        assert_eq!(grant(u64::MAX) as usize, CHILD_CREDIT_BYTES);
    }

    #[test]
    fn an_item_goes_within_the_grant_or_alone() {
        assert!(may_add(0, 100, 100) && may_add(40, 100, 60));
        assert!(!may_add(40, 100, 61));
        assert!(may_add(0, 100, 1_000), "alone, though larger");
        assert!(!may_add(0, 0, 1), "not at the quota");
    }

    #[test]
    fn what_all_lives_of_a_child_say_inline_fits_beyond_a_quota() {
        let lives = (0..10_000).map(|life| inline_allowance(ChildIncarnation(life)));
        assert!(lives.sum::<usize>() < CHILD_CREDIT_BYTES);
        assert_eq!(inline_allowance(ChildIncarnation(0)), INLINE_BYTES);
    }

    #[test]
    fn a_lone_child_gets_a_window_and_a_thousand_stalled_ones_leave_every_other_some() {
        assert_eq!(input_allowance(0, 0), INPUT_WINDOW_BYTES as u64);
        assert_eq!(input_allowance(INPUT_WINDOW_BYTES as u64, INPUT_WINDOW_BYTES as u64), 0);
        let mut link = 0;
        for _ in 0..1_000 {
            link += input_allowance(0, link);
        }
        assert_eq!(input_allowance(0, link), INPUT_LEAST_BYTES as u64);
        assert!(link <= (LINK_INPUT_BYTES + 1_000 * INPUT_LEAST_BYTES) as u64);
    }

    proptest! {
        #[test]
        fn a_link_carries_no_more_than_its_bound_and_what_each_child_has_at_the_least(
            steps in prop::collection::vec((0_usize..200, 0_u64..2_000_000, any::<bool>()), 0..999)
        ) {
            let mut children = vec![0_u64; 200];
            for (which, bytes, reads) in steps {
                let link: u64 = children.iter().sum();
                let child = &mut children[which];
                if reads {
                    *child = child.saturating_sub(bytes);
                } else {
                    let allowance = input_allowance(*child, link);
                    prop_assert!(*child > 0 || allowance >= INPUT_LEAST_BYTES as u64);
                    *child += allowance.min(bytes);
                    prop_assert!(*child <= INPUT_WINDOW_BYTES as u64);
                }
                let bound = LINK_INPUT_BYTES + children.len() * INPUT_LEAST_BYTES;
                prop_assert!(children.iter().sum::<u64>() <= bound as u64);
            }
        }
    }
}
