//! The input of a job that outlived its node.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sortie_engine::parent_job::KeptItems;
use sortie_model::spec::Fan;
use sortie_model::{JobSpec, limits};
use sortie_store::journal::{InputState, JobEntry};
use sortie_store::lasting_input::InputError;
use sortie_store::{InputMark, LastingInput, Store};

use crate::data::input_log::InputLog;
use crate::data::map_feed::Items;
use crate::data::session::SessionShared;

/// The pause before an input that the system did not give is asked for again.
const PAUSE: Duration = Duration::from_millis(100);

/// What is left of a job's input.
#[derive(Debug, Default)]
pub(super) struct LeftInput {
    pub(super) log: Option<Arc<InputLog>>,
    /// Those of a map that have children.
    pub(super) items: KeptItems,
    /// Where a map reads on.
    pub(super) from: u64,
}

/// Looks for the input of a job with so many children, if it takes any. One that is damaged is
/// lost.
///
/// # Errors
/// [`InputError::Io`]: it may be there when it is looked for again.
pub(super) async fn left(
    session: &SessionShared,
    store: &Arc<Store>,
    (entry, spec): (&JobEntry, &JobSpec),
    items: usize,
) -> Result<LeftInput, InputError> {
    let map = !matches!(spec.fan, Fan::PerNode { .. });
    if map && entry.facts.input == InputState::BrokeOff {
        return Ok(LeftInput { items: KeptItems::Lost, ..LeftInput::default() });
    }
    if entry.facts.finished().is_some() {
        return Ok(shown(store, entry, items).await);
    }
    if !map && !spec.input.is_fed() {
        return Ok(LeftInput::default());
    }
    let (InputState::Begun(mark) | InputState::Whole(mark)) = entry.facts.input else {
        return Ok(lost(session, map));
    };
    let job = entry.instance;
    let mut tries = 1;
    loop {
        let own = Arc::clone(store);
        let read = move || read(&own, job, mark, map.then_some(items));
        // A large one takes its time, and blocks.
        let found = tokio::task::spawn_blocking(read).await;
        let found = found.unwrap_or_else(|_| {
            let (file, source) = (store.inputs().path(job), io::ErrorKind::Interrupted.into());
            Err(InputError::Io { file, source })
        });
        match found {
            Ok((input, items, from)) => {
                let log = Some(InputLog::recovered(input, entry.facts.input));
                let items = items.map(KeptItems::Known).unwrap_or_default();
                return Ok(LeftInput { log, items, from });
            }
            // It need not be the file: other things may be short, for a moment.
            Err(InputError::Io { .. }) if tries < limits::INPUT_OPEN_TRIES => {
                tries += 1;
                tokio::time::sleep(PAUSE).await;
            }
            Err(error @ InputError::Io { .. }) => return Err(error),
            Err(error) => {
                let (error, job) = (&error as &dyn std::error::Error, entry.id.0);
                tracing::error!(error, job, "what was stored of a job's input is lost");
                return Ok(lost(session, map));
            }
        }
    }
}

/// What stays of a job that is over: the items of its children, if they are there.
async fn shown(store: &Arc<Store>, entry: &JobEntry, items: usize) -> LeftInput {
    let InputState::Whole(mark) = entry.facts.input else { return LeftInput::default() };
    let (own, job) = (Arc::clone(store), entry.instance);
    let read = tokio::task::spawn_blocking(move || read(&own, job, mark, Some(items))).await;
    let items = match read {
        Ok(Ok((_, items, _))) => KeptItems::Shown(items.unwrap_or_default()),
        Ok(Err(error)) => {
            let (error, job) = (&error as &dyn std::error::Error, entry.id.0);
            tracing::warn!(error, job, "the lines of a finished job's children cannot be shown");
            KeptItems::None
        }
        Err(_) => KeptItems::None,
    };
    let log = Some(InputLog::retired(store.inputs().begin(job), entry.facts.input));
    LeftInput { log, items, from: 0 }
}

fn lost(session: &SessionShared, map: bool) -> LeftInput {
    let log = Some(InputLog::lost(&session.node.input_directory));
    LeftInput { log, items: if map { KeptItems::Lost } else { KeptItems::None }, from: 0 }
}

/// The input, at most so many items of it if it is a map's, and where these end.
fn read(
    store: &Store,
    job: sortie_model::JobInstance,
    mark: InputMark,
    items: Option<usize>,
) -> Result<(LastingInput, Option<Vec<Bytes>>, u64), InputError> {
    let input = store.inputs().open(job, mark)?;
    let Some(most) = items else { return Ok((input, None, 0)) };
    let (mut packed, mut known, mut from) = (Items::default(), Vec::new(), 0);
    loop {
        known.append(&mut packed.take(most - known.len()));
        if known.len() == most {
            break;
        }
        let piece = input.read(from, limits::RECORD_BYTES);
        let failed = |source| InputError::Io { file: store.inputs().path(job), source };
        let piece = piece.map_err(failed)?;
        if piece.is_empty() {
            break;
        }
        from += piece.len() as u64;
        packed.push(&piece);
    }
    from -= packed.left();
    Ok((input, Some(known), from))
}
