//! What a receive does about output that has yet to come back from a full disk
//! (`docs/semantics.md`, section 4.2).

use std::time::Duration;

use sortie_model::record::StreamSet;
use sortie_model::{EntryId, Ordinal, limits};
use sortie_wire::remote_error::{ErrorCode, RemoteError};
use sortie_wire::session_proto::{ReceiveMode, ReceiveSpec};

use super::Part;
use crate::session::Place;

/// Whether what a receive reads leaves room, so that more comes back: it takes, and leaves no
/// stream where it is.
pub fn makes_room(spec: &ReceiveSpec) -> bool {
    let takes = matches!(spec.mode, ReceiveMode::Take | ReceiveMode::TakeUntil { .. });
    takes && spec.streams == StreamSet::ALL
}

/// Whether a receive that makes room waits on for more to come back, after so long without
/// anything. What its reader has in hand makes room once it is confirmed.
pub fn waits_for_room(in_hand: u64, idle: Duration) -> bool {
    // By then what a dead reader had is on offer again, too.
    idle < if in_hand == 0 { limits::LOST_AFTER } else { limits::ROOM_CONFIRMED_WITHIN }
}

/// The selected places of a job of whose children these have not all back, each once.
pub fn not_back(
    (job, part): (EntryId, &Part),
    children: impl IntoIterator<Item = Ordinal>,
) -> Vec<Place> {
    let mut children = children.into_iter();
    match part {
        Part::Whole => children.next().map(|_| Place::Job(job)).into_iter().collect(),
        Part::Children(_) => children.map(|it| Place::Child(job, it)).collect(),
    }
}

/// What the reader is told of an entry of which not all came.
pub fn incomplete(spec: &ReceiveSpec, (id, place): (EntryId, Place)) -> RemoteError {
    let what = match place {
        Place::Job(_) => "job",
        Place::Child(..) => "child",
    };
    let text =
        format!("not all output of {what} {id} is back: the disk of its node's home is full");
    let hint = match spec.mode {
        ReceiveMode::TakeUntil { .. } if makes_room(spec) => {
            format!("make room on that disk, then `sortie receive --wait {id}` takes the rest")
        }
        _ => format!("`sortie receive --wait {id}` makes room, and takes what comes back"),
    };
    RemoteError::new(ErrorCode::Storage, text).hint(hint)
}

#[cfg(test)]
mod tests {
    use sortie_model::Stream;
    use sortie_model::selector::Selection;

    use super::*;

    const UNTIL: ReceiveMode = ReceiveMode::TakeUntil { finished: false };

    fn spec(mode: ReceiveMode) -> ReceiveSpec {
        ReceiveSpec::new(Selection::default(), mode)
    }

    #[test]
    fn only_who_takes_all_streams_makes_room() {
        let error = StreamSet::EMPTY.with(Stream::Error);
        for mode in [ReceiveMode::Take, UNTIL] {
            assert!(makes_room(&spec(mode)));
            assert!(!makes_room(&ReceiveSpec { streams: error, ..spec(mode) }));
        }
        assert!(![ReceiveMode::Keep, ReceiveMode::Follow].map(spec).iter().any(makes_room));
    }

    #[test]
    fn nobody_waits_for_room_without_end() {
        let (short, long) = (limits::LOST_AFTER, limits::ROOM_CONFIRMED_WITHIN);
        assert!(waits_for_room(0, Duration::ZERO) && waits_for_room(3, short));
        assert!(!waits_for_room(0, short) && !waits_for_room(3, long));
    }

    #[test]
    fn a_job_is_named_once_and_children_that_were_selected_each() {
        let (job, children) = (EntryId(7), [Ordinal(2), Ordinal(5)]);
        assert_eq!(not_back((job, &Part::Whole), children), [Place::Job(job)]);
        assert_eq!(not_back((job, &Part::Whole), []), []);
        let each = children.map(|it| Place::Child(job, it));
        assert_eq!(not_back((job, &Part::Children(children.to_vec())), children), each);
    }

    #[test]
    fn who_reads_only_is_told_what_makes_room_and_who_made_it_to_make_more() {
        let said = |mode| incomplete(&spec(mode), (EntryId(7), Place::Job(EntryId(7))));
        let hint = |mode| said(mode).hint.unwrap_or_default();
        assert!(said(UNTIL).message.starts_with("not all output of job 7 is back: "));
        assert!(hint(ReceiveMode::Follow).starts_with("`sortie receive --wait 7` makes room"));
        assert!(hint(UNTIL).starts_with("make room on that disk"));
    }
}
