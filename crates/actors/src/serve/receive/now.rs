//! A receive of what is there now.

use sortie_engine::receive::Part;
use sortie_model::Ordinal;

use super::{Broken, Receive};
use crate::data::window::Child;

/// Delivers what is there, child by child in child order. What comes meanwhile may be among it, but
/// is not waited for: children that never cease to write do not keep it going. Those of which
/// another reader had something in hand are looked at once more in the end: it may be back by then.
pub(super) async fn deliver(receive: &mut Receive<'_>, tail: Option<u32>) -> Result<(), Broken> {
    let mut passed_by = Vec::new();
    for place in 0..receive.targets.len() {
        let end = receive.targets.get(place).map(|target| match &target.part {
            Part::Whole => Ordinal(target.job.rows().children()),
            Part::Children(_) => Ordinal(u32::MAX),
        });
        let end = end.unwrap_or(Ordinal(0));
        let mut from = Some(Ordinal(0));
        while let Some(ordinal) =
            from.and_then(|from| receive.targets.get(place)?.next_unread(from, end))
        {
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
        let delivered = receive.deliver(child).await?;
        let passed = delivered.last.is_none_or(|last| last.after(1) >= end);
        if passed || !delivered.more {
            break;
        }
    }
    receive.reading.leave(child);
    Ok(())
}
