//! What readers get: P4, P5 and P6.

use sortie_exec::task::encode_value;
use sortie_model::{Body, EntryId, Record, Stream};

use crate::simulation::body::value;
use crate::simulation::client::Received;
use crate::simulation::ledger::Child;
use crate::simulation::seen::ChildSeen;
use crate::simulation::{Broken, Promise, Simulation};

/// What a record of a child says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Logged {
    /// In that life, the value with that number.
    Value(u32, u64),
    /// So many restarts.
    Restart(u32),
}

impl Simulation<'_> {
    /// Looks at what a receive brought, and remembers what was taken: how many records.
    pub(super) fn take_in(&mut self, number: usize, received: &Received) -> Result<u64, Broken> {
        let Some(node) = self.sight.node_mut(number) else { return Ok(0) };
        // Where each child's records go on within this receive.
        let mut places: Vec<(EntryId, u64)> = Vec::new();
        let mut count = 0;
        for batch in &received.batches {
            count += batch.records.len() as u64;
            let (id, ordinal) = (batch.source.child, batch.source.ordinal);
            let Some(job) = node.jobs.get_mut(&batch.source.job) else {
                let text = format!("node{number} delivers records of {id}, which it does not show");
                return Err(Broken(Promise::P2, text));
            };
            let tag = job.tag;
            let child = job.children.entry(id).or_insert_with(|| ChildSeen::new(ordinal));
            let known = places.iter().position(|(other, _)| *other == id);
            let place = known.unwrap_or_else(|| {
                places.push((id, child.taken));
                places.len() - 1
            });
            let Some((_, next)) = places.get_mut(place) else { continue };
            let began = self.ledger.begun((tag, child.ordinal));
            for record in &batch.records {
                look((tag, began), child, (record, *next)).map_err(|Broken(promise, text)| {
                    Broken(promise, format!("node{number}, {id}: {text}"))
                })?;
                *next += 1;
            }
            if batch.acknowledged {
                child.taken = child.taken.max(*next);
            }
        }
        Ok(count)
    }
}

/// Looks at one record, which should be the one with that number, of a child that began so often.
fn look(
    (tag, began): (u64, u32),
    child: &mut ChildSeen,
    (record, next): (&Record, u64),
) -> Result<(), Broken> {
    let (number, seen) = (record.seq.0, child.log.len() as u64);
    if number != next {
        let text = format!("record {number} comes where {next} is due");
        // What was shown before and not acknowledged was freed.
        let freed = number > next && next < seen;
        return Err(Broken(if freed { Promise::P6 } else { Promise::P4 }, text));
    }
    let key = (tag, child.ordinal);
    let known = usize::try_from(number).ok().and_then(|number| child.log.get(number).copied());
    let says = match known {
        Some(known) => (bytes_of(key, known) == record.body).then_some(known),
        None => successor((key, began), &child.log, record),
    };
    let Some(says) = says else {
        let text = format!("record {number} has another record's value: {:?}", record.body);
        return Err(Broken(Promise::P4, text));
    };
    if known.is_none() {
        child.log.push(says);
    }
    match child.stored {
        Some(stored) if number >= stored => {
            let text = format!("record {number} was stored after the end, behind {stored}");
            Err(Broken(Promise::P5, text))
        }
        _ => Ok(()),
    }
}

fn bytes_of(child: Child, logged: Logged) -> Body {
    Body::Value(match logged {
        Logged::Value(life, number) => value(child, life, number),
        Logged::Restart(number) => encode_value(&format!("restart {number}")).unwrap_or_default(),
    })
}

/// What the record says, if it is one that may follow on those.
fn successor((child, began): (Child, u32), log: &[Logged], record: &Record) -> Option<Logged> {
    let restarts = log.iter().rev().find_map(|logged| match logged {
        Logged::Restart(number) => Some(*number),
        Logged::Value(..) => None,
    });
    let restarts = restarts.unwrap_or(0);
    if record.stream == Stream::Information {
        // Any number of restarts may have begun no life, as on a node that cannot be reached.
        let number = number_at_end(&record.body).filter(|number| *number > restarts)?;
        let logged = Logged::Restart(number);
        return (bytes_of(child, logged) == record.body).then_some(logged);
    }
    if let Some(Logged::Value(life, number)) = log.last().copied() {
        let next = Logged::Value(life, number + 1);
        return (bytes_of(child, next) == record.body).then_some(next);
    }
    // The first value of a life: the marker before it may count lives that never began.
    let mut lives = (0..began).map(|life| Logged::Value(life, 0));
    lives.find(|logged| bytes_of(child, *logged) == record.body)
}

/// The number that ends a record, if it is a text that a number ends.
fn number_at_end(body: &Body) -> Option<u32> {
    let Body::Value(bytes) = body else { return None };
    let digits = bytes.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(bytes.get(bytes.len() - digits..)?).ok()?.parse().ok()
}
