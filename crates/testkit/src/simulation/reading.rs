//! What readers get: P4, P5 and P6.

use sortie_model::{Body, EntryId, Record};

use crate::simulation::client::Received;
use crate::simulation::ledger::value;
use crate::simulation::seen::ChildSeen;
use crate::simulation::{Broken, Promise, Simulation};

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
            for record in &batch.records {
                look(tag, child, (record, *next)).map_err(|Broken(promise, text)| {
                    Broken(promise, format!("node{number}, {id}: {text}"))
                })?;
                *next += 1;
            }
            child.offered = child.offered.max(*next);
            if batch.acknowledged {
                child.taken = child.taken.max(*next);
            }
        }
        Ok(count)
    }
}

/// Looks at one record, which should be the one with that number.
fn look(tag: u64, child: &ChildSeen, (record, next): (&Record, u64)) -> Result<(), Broken> {
    let number = record.seq.0;
    if number != next {
        let text = format!("record {number} comes where {next} is due");
        // What was shown before and not acknowledged was freed.
        let freed = number > next && next < child.offered;
        return Err(Broken(if freed { Promise::P6 } else { Promise::P4 }, text));
    }
    if record.body != Body::Value(value((tag, child.ordinal), number)) {
        return Err(Broken(Promise::P4, format!("record {number} has another record's value")));
    }
    match child.stored {
        Some(stored) if number >= stored => {
            let text = format!("record {number} was stored after the end, behind {stored}");
            Err(Broken(Promise::P5, text))
        }
        _ => Ok(()),
    }
}
