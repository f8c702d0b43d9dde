//! From memory to files, and out of the way.

use std::pin::pin;
use std::sync::Arc;

use sortie_engine::mailbox::Tally;
use sortie_model::Stream;
use sortie_model::limits::{BATCH_RECORDS, KIB, SEGMENT_BYTES};
use sortie_model::record::StreamSet;
use sortie_store::{Hole, MailboxFile, Spill, Spool, SpoolError, Written};

use super::grown::{Grown, State};
use super::merge::load_and_merge;
use super::{FullBecause, JobMailboxes, LiveValues, Most, ReadError, blocking};

/// When the oldest records have to go, at least so many bytes of them do.
const DROP_AT_ONCE: usize = 64 * KIB;

/// The file to write to next: `current`, unless it is better to begin another.
pub(super) fn file_for(
    spool: &Arc<Spool>,
    current: Option<Arc<MailboxFile>>,
    makes_holes: bool,
) -> Result<Arc<MailboxFile>, SpoolError> {
    match current {
        Some(file) if makes_holes || file.end() < SEGMENT_BYTES => Ok(file),
        _ => MailboxFile::create(spool),
    }
}

/// The bytes to write; live values are encoded, so no lock is held.
pub(super) fn encoded(spills: Vec<(Stream, Spill)>) -> Vec<(Stream, Written)> {
    spills.into_iter().map(|(stream, spill)| (stream, spill.encode())).collect()
}

impl JobMailboxes {
    /// Writes what a mailbox has in memory to its file: everything but live values that are too
    /// long for one write. When somebody else is doing so it waits for that instead.
    pub(super) async fn spill(self: &Arc<Self>, grown: &Arc<Grown>) -> Result<bool, SpoolError> {
        let mut eased = pin!(grown.eased.notified());
        eased.as_mut().enable();
        if grown.lock().spilling {
            eased.await;
            return Ok(true);
        }
        let (job, grown) = (Arc::clone(self), Arc::clone(grown));
        // Written and accounted for in one closure: it ends also when nobody waits any more.
        blocking(move || job.spill_now(&grown)).await.unwrap_or(Ok(false))
    }

    fn spill_now(self: &Arc<Self>, grown: &Grown) -> Result<bool, SpoolError> {
        let (spills, file) = {
            let mut state = grown.lock();
            if state.spilling || state.removed {
                return Ok(true);
            }
            (state.begin_spill(), state.file.clone())
        };
        let spills = encoded(spills);
        let parts: Vec<_> = spills.iter().flat_map(|(_, spill)| spill.bytes()).collect();
        let spool = &self.pool.spool;
        let written = file_for(spool, file, spool.makes_holes())
            .and_then(|file| file.append(&parts).map(|at| (file, at)));
        drop(parts);
        let mut state = grown.lock();
        let (result, holes) = match written {
            Ok((file, at)) => {
                state.file = Some(Arc::clone(&file));
                (Ok(true), state.end_spill(self, &spills, &file, at))
            }
            Err(error) => {
                state.spilling = false;
                state.trouble = Some(FullBecause::of(&error));
                (Err(error), Vec::new())
            }
        };
        drop(state);
        grown.eased.notify_waiters();
        holes.into_iter().for_each(Hole::give_back);
        result
    }

    /// Drops the oldest records that are not on offer, of about `weight`. False when there are
    /// none.
    pub(super) async fn drop_oldest(&self, grown: &Grown, weight: u64) -> Result<bool, SpoolError> {
        let _one_at_a_time = grown.offering.lock().await;
        let bytes = usize::try_from(weight).unwrap_or(usize::MAX).max(DROP_AT_ONCE);
        let most = Most { records: BATCH_RECORDS, bytes, values: LiveValues::AsTheyAre };
        let mut least = 0;
        loop {
            let windows = {
                let mut state = grown.lock();
                let stretches = state.available(StreamSet::ALL);
                if stretches.is_empty() || state.removed {
                    return Ok(false);
                }
                let bytes = most.window(&stretches).max(least);
                state.windows(stretches, bytes)
            };
            let merged = match load_and_merge(windows, most).await {
                Ok(merged) => merged,
                Err(ReadError::Disk(error)) => return Err(error),
                Err(_) => return Ok(false),
            };
            if let Some(needs) = merged.needs {
                least = needs;
                continue;
            }
            let mut state = grown.lock();
            let (before, dropped) = (state.ledger.unread(), state.ledger.dropped());
            // Refused when an offer was withdrawn meanwhile: look again.
            let Ok(freed) = state.ledger.drop_oldest(&merged.taken) else { continue };
            self.note_dropped(state.ledger.dropped().minus(dropped));
            let holes = state.free(&freed);
            self.settle_freed(grown, &mut state, before);
            if let Some(backed) = &self.backed {
                backed.dropped(grown.ordinal, (&merged.taken, &merged.records));
            }
            drop(state);
            self.pool.reclaim(holes);
            return Ok(true);
        }
    }
}

impl State {
    /// Takes the right to write, and what there is to write.
    pub(super) fn begin_spill(&mut self) -> Vec<(Stream, Spill)> {
        self.spilling = true;
        let spills = self.logs().map(|(stream, log)| (stream, log.spill()));
        spills.filter(|(_, spill)| !spill.is_empty()).collect()
    }

    /// The spills were written behind each other to `file` from `at` on.
    pub(super) fn end_spill(
        &mut self,
        job: &JobMailboxes,
        spills: &[(Stream, Written)],
        file: &Arc<MailboxFile>,
        mut at: u64,
    ) -> Vec<Hole> {
        self.spilling = false;
        self.trouble = None;
        let mut holes = Vec::new();
        if self.removed {
            let bytes = spills.iter().map(|(_, spill)| spill.len()).sum();
            holes.push(Hole::new(Arc::clone(file), at, bytes));
            self.file = None;
            return holes;
        }
        for (stream, spill) in spills {
            let log = self.logs().find(|(other, _)| other == stream);
            if let Some((_, log)) = log {
                holes.extend(log.spilled(spill, file, at));
            }
            at += spill.len();
        }
        self.settle_memory(job);
        if !self.ledger.has_unread() {
            debug_assert_eq!(self.ledger.unread(), Tally::ZERO);
            holes.extend(self.file.take().map(|file| Hole::new(file, 0, 0)));
        }
        holes
    }
}
