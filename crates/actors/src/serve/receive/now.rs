//! A receive of what is there now.

use sortie_engine::receive::Part;
use sortie_model::Ordinal;

use super::{Broken, Receive};
use crate::data::window::Child;

/// Delivers what is there, child by child in child order. What comes meanwhile may be among it, but
/// is not waited for: children that never cease to write do not keep it going. Those of which
/// another reader had something in hand are looked at once more in the end: it may be back by then.
/// What has yet to come back from a full disk is waited for where this receive makes room for it.
pub(super) async fn deliver(receive: &mut Receive<'_>, tail: Option<u32>) -> Result<(), Broken> {
    let mut passed_by = Vec::new();
    let not_back = receive.children_not_back();
    for place in 0..receive.targets.len() {
        let end = receive.targets.get(place).map(|target| match &target.part {
            Part::Whole => Ordinal(target.job.rows().children()),
            Part::Children(_) => Ordinal(u32::MAX),
        });
        let end = end.unwrap_or(Ordinal(0));
        let mut from = Some(Ordinal(0));
        while let Some(first) = from {
            // Of what is not back there may be nothing here yet.
            let returning = not_back.range((place, first)..(place, end)).next();
            let unread = receive.targets.get(place).and_then(|it| it.next_unread(first, end));
            let Some(ordinal) = unread.into_iter().chain(returning.map(|child| child.1)).min()
            else {
                break;
            };
            let is_with_others = receive.targets.get(place);
            if is_with_others.is_some_and(|target| receive.reading.passes_by(target, ordinal)) {
                passed_by.push((place, ordinal));
            }
            one_child(receive, (place, ordinal), tail).await?;
            from = ordinal.0.checked_add(1).map(Ordinal);
        }
    }
    for child in passed_by {
        one_child(receive, child, None).await?;
    }
    Ok(())
}

async fn one_child(
    receive: &mut Receive<'_>,
    child: Child,
    tail: Option<u32>,
) -> Result<(), Broken> {
    let Some(target) = receive.targets.get(child.0) else { return Ok(()) };
    let end = target.job.mailboxes.summary(child.1).next;
    if let Some(count) = tail {
        receive.start_at_tail(child, count).await?;
    }
    loop {
        // Before the read, which finds what came back before.
        let is_back = receive.targets.get(child.0).is_none_or(|it| it.is_back(child.1));
        let delivered = receive.deliver(child).await?;
        let passed = delivered.last.is_some_and(|last| last.after(1) >= end);
        let has_more = delivered.last.is_some() && delivered.more;
        if passed || is_back && !has_more {
            receive.room.note(child, true);
            break;
        }
        if !has_more && !receive.waits_for_room().await? {
            receive.room.note(child, false);
            break;
        }
    }
    receive.reading.leave(child);
    Ok(())
}
