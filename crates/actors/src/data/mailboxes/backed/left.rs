//! What children left whose mailboxes are not in memory.

use std::sync::Arc;

use sortie_model::{ChildKey, Ordinal};
use sortie_store::Store;
use sortie_store::journal::JournalError;

use super::super::blocking;
use super::inline::Inline;
use super::{Backed, RestoreError};

/// Whether a child of a finished job left anything that nobody took, by the journal and by whether
/// it has files. They go when all of it was taken; one whose node was killed before they went
/// counts as one that left something, until somebody reads it.
///
/// # Errors
/// [`JournalError`].
pub(crate) fn has_left(store: &Store, child: ChildKey) -> Result<bool, JournalError> {
    let near = store.output().neighbours(child).ok();
    if near.is_none_or(|near| near.has_output(child).unwrap_or(true)) {
        return Ok(true);
    }
    let (job, ordinal) = (child.job, child.ordinal);
    let mut outputs = store.journal().outputs(job, ordinal, 1)?;
    let Some((_, block)) = outputs.pop().filter(|(of, _)| *of == ordinal) else { return Ok(false) };
    let mut cursors = store.journal().cursors(job, ordinal, 1)?;
    let cursor = cursors.pop().filter(|(of, _)| *of == ordinal);
    let cursor = cursor.map(|(_, cursor)| cursor).unwrap_or_default();
    // A block that cannot be read says so to who receives it.
    let Ok(inline) = Inline::decode(block) else { return Ok(true) };
    let is_newest = inline.next >= cursor.stored;
    Ok(is_newest && inline.records.iter().any(|it| !cursor.has_taken(it.stream, it.seq)))
}

impl Backed {
    /// Whether a child had files at the node's start.
    pub(super) async fn has_files(&self, ordinal: Ordinal) -> Result<bool, RestoreError> {
        let child = self.child(ordinal);
        let known = self.table().neighbours.as_ref().and_then(|near| near.has_output(child));
        if let Some(has_output) = known {
            return Ok(has_output);
        }
        let store = Arc::clone(&self.backing.store);
        let found = blocking(move || store.output().neighbours(child)).await;
        let near = match found.ok_or(RestoreError::Removed)? {
            // What cannot be seen now may be there: who reads it tries again.
            Err(error) if error.is_retryable() => return Ok(true),
            near => near?,
        };
        let has_output = near.has_output(child).unwrap_or(true);
        self.table().neighbours = Some(near);
        Ok(has_output)
    }
}
