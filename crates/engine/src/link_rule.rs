//! Which of two connections to one peer stays (`docs/architecture.md`, "The link"). Both ends ask
//! the same question with the same facts, so that they do not each close what the other keeps.

use std::time::Duration;

use sortie_model::{Incarnation, NodeId, limits};

/// One connection to a peer, as one end sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The end that dialled.
    pub dialled_by: NodeId,
    /// The peer's life on that connection; none while our dial is under way.
    pub incarnation: Option<Incarnation>,
    /// How long it is up; none while its handshake is under way.
    pub up: Option<Duration>,
}

/// Which connection stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stays {
    /// The one that was there; the newer is closed as a duplicate.
    Older,
    /// The one that came later; the older is closed as replaced.
    Newer,
}

/// Decides when a second connection to the same peer is there.
///
/// 1. A later life of the peer wins: the other connection belongs to a process that is gone.
/// 2. Both ends dialled at once: the one dialled by the smaller node id stays. One end may see its
///    own dial done a little before the other's arrives, so a connection counts as dialled at once
///    for [`limits::HANDSHAKE_TIME`] after it came up; without that each end could keep another.
/// 3. Otherwise the newer stays: the end that dialled it had lost the older.
pub fn which_stays(older: &Standing, newer: &Standing) -> Stays {
    if let (Some(was), Some(is)) = (older.incarnation, newer.incarnation)
        && was != is
    {
        return if is > was { Stays::Newer } else { Stays::Older };
    }
    let at_once = older.up.is_none_or(|up| up < limits::HANDSHAKE_TIME);
    if at_once && older.dialled_by < newer.dialled_by { Stays::Older } else { Stays::Newer }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: NodeId = NodeId([1; 16]);
    const LARGE: NodeId = NodeId([2; 16]);
    const NOW: Option<Duration> = Some(Duration::ZERO);
    const LONG_AGO: Option<Duration> = Some(Duration::from_secs(60));

    fn check(
        (older_by, older_life, older_up): (NodeId, Option<u64>, Option<Duration>),
        (newer_by, newer_life): (NodeId, Option<u64>),
        expected: Stays,
    ) {
        let standing = |dialled_by, life: Option<u64>, up| Standing {
            dialled_by,
            incarnation: life.map(Incarnation),
            up,
        };
        let older = standing(older_by, older_life, older_up);
        let newer = standing(newer_by, newer_life, NOW);
        assert_eq!(which_stays(&older, &newer), expected, "{older:?} {newer:?}");
    }

    #[test]
    fn of_two_dials_at_once_the_smaller_ids_stays() {
        for up in [None, NOW] {
            let life = up.map(|_| 7);
            check((SMALL, life, up), (LARGE, Some(7)), Stays::Older);
            check((LARGE, life, up), (SMALL, Some(7)), Stays::Newer);
        }
    }

    #[test]
    fn both_ends_keep_the_same_one_in_whatever_order_they_see_them() {
        for up in [None, NOW] {
            let life = up.map(|_| 7);
            let small_first = which_stays(
                &Standing { dialled_by: SMALL, incarnation: life.map(Incarnation), up },
                &Standing { dialled_by: LARGE, incarnation: Some(Incarnation(7)), up: NOW },
            );
            let large_first = which_stays(
                &Standing { dialled_by: LARGE, incarnation: life.map(Incarnation), up },
                &Standing { dialled_by: SMALL, incarnation: Some(Incarnation(7)), up: NOW },
            );
            assert_ne!(small_first, large_first, "the small id's stays in both orders");
        }
    }

    #[test]
    fn a_later_life_of_the_peer_replaces_an_earlier_one() {
        check((SMALL, Some(7), NOW), (LARGE, Some(8)), Stays::Newer);
        check((SMALL, Some(8), LONG_AGO), (SMALL, Some(7)), Stays::Older);
    }

    #[test]
    fn a_newer_connection_replaces_one_that_was_long_up() {
        check((SMALL, Some(7), LONG_AGO), (LARGE, Some(7)), Stays::Newer);
        check((SMALL, Some(7), LONG_AGO), (SMALL, Some(7)), Stays::Newer);
    }

    #[test]
    fn an_end_that_dials_again_means_the_newer() {
        check((SMALL, Some(7), NOW), (SMALL, Some(7)), Stays::Newer);
        check((LARGE, Some(7), None), (LARGE, Some(7)), Stays::Newer);
    }
}
