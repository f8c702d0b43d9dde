//! The input of a job that outlived its node.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use sortie_engine::parent_job::KeptItems;
use sortie_model::spec::Fan;
use sortie_model::{JobSpec, limits};
use sortie_store::journal::{InputState, JobEntry};
use sortie_store::{InputMark, LastingInput, Store};

use crate::data::input_log::InputLog;
use crate::data::map_feed::Items;
use crate::data::session::SessionShared;

/// What is left of a job's input.
#[derive(Debug, Default)]
pub(super) struct LeftInput {
    pub(super) log: Option<Arc<InputLog>>,
    /// Those of a map that have children.
    pub(super) items: KeptItems,
    /// Where a map reads on.
    pub(super) from: u64,
}

/// Looks for the input of a job with so many children, if it takes any.
pub(super) async fn left(
    session: &SessionShared,
    store: &Arc<Store>,
    (entry, spec): (&JobEntry, &JobSpec),
    items: usize,
) -> LeftInput {
    let map = !matches!(spec.fan, Fan::PerNode { .. });
    if !map && !spec.input.is_fed() || entry.facts.finished().is_some() {
        return LeftInput::default();
    }
    let (InputState::Begun(mark) | InputState::Whole(mark)) = entry.facts.input else {
        return lost(session, map);
    };
    let (own, job) = (Arc::clone(store), entry.instance);
    let read = move || read(&own, job, mark, map.then_some(items));
    // A large one takes its time, and blocks.
    let found = tokio::task::spawn_blocking(read).await;
    let found = found.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::Interrupted).into()));
    match found {
        Ok((input, items, from)) => {
            let log = Some(InputLog::recovered(input, entry.facts.input));
            LeftInput { log, items: items.map(KeptItems::Known).unwrap_or_default(), from }
        }
        Err(error) => {
            let (error, job) = (error.as_ref(), entry.id.0);
            tracing::error!(error, job, "what was stored of a job's input is lost");
            lost(session, map)
        }
    }
}

fn lost(session: &SessionShared, map: bool) -> LeftInput {
    let log = Some(InputLog::lost(&session.node.input_directory));
    LeftInput { log, items: if map { KeptItems::Lost } else { KeptItems::None }, from: 0 }
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// The input, at most so many items of it if it is a map's, and where these end.
fn read(
    store: &Store,
    job: sortie_model::JobInstance,
    mark: InputMark,
    items: Option<usize>,
) -> Result<(LastingInput, Option<Vec<Bytes>>, u64), Failed> {
    let input = store.inputs().open(job, mark)?;
    let Some(most) = items else { return Ok((input, None, 0)) };
    let (mut packed, mut known, mut from) = (Items::default(), Vec::new(), 0);
    loop {
        known.append(&mut packed.take(most - known.len()));
        if known.len() == most {
            break;
        }
        let piece = input.read(from, limits::RECORD_BYTES)?;
        if piece.is_empty() {
            break;
        }
        from += piece.len() as u64;
        packed.push(&piece);
    }
    from -= packed.left();
    Ok((input, Some(known), from))
}
