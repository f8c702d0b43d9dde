//! Output that pauses: said to whoever looks at a job or waits for it, since it may wait for them.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use sortie::Session;
use sortie::answer::Entries;
use sortie_model::selector::{Query, Selection};
use sortie_model::view::EntryView;

use crate::args::output::Look;
use crate::args::reach::Reach;
use crate::exit::Cause;
use crate::failure::Failure;

/// Time between two looks.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Looks in a row that find output paused before somebody who waits is told: a reader at work lets
/// it pause for a moment, again and again.
const LOOKS: u32 = 3;

/// What there is to say of an entry; nothing where its output goes on.
fn pause_of(entry: &EntryView, reach: &Reach) -> Option<String> {
    let id = entry.id();
    match entry {
        EntryView::Job(job) if job.paused > 0 => Some(format!(
            "job {id}: the output of {} of its children is paused; `{}` says why",
            job.paused,
            reach.there(format!("sortie explain {id}"))
        )),
        EntryView::Child(child) => {
            let why = child.paused.as_ref()?;
            Some(format!("child {id}: output paused: {why}"))
        }
        EntryView::Job(_) => None,
    }
}

fn say(entry: &EntryView, look: &Look) {
    let Some(sentence) = pause_of(entry, &look.reach) else { return };
    look.report(Failure::new(Cause::NothingMatches, "output_paused", sentence).hint(format!(
        "`sortie receive {}` makes room; where the disk is full, `sortie doctor` says which",
        entry.id()
    )));
}

/// Says which output pauses.
pub(super) fn report(entries: &Entries, look: &Look) {
    entries.entries.iter().for_each(|entry| say(entry, look));
}

/// Says it once of each entry while somebody waits, for ever.
pub(super) async fn watch(session: &Session, selection: &Selection, look: &Look) -> Infallible {
    let mut seen = BTreeMap::new();
    loop {
        tokio::time::sleep(LOOK_AGAIN).await;
        let query = Query { selection: selection.clone(), ..Query::default() };
        let Ok(found) = session.get(query).await else { continue };
        for entry in &found.entries {
            let looks = seen.entry(entry.id()).or_insert(0_u32);
            *looks = if *looks >= LOOKS || pause_of(entry, &look.reach).is_some() {
                *looks + 1
            } else {
                0
            };
            if *looks == LOOKS {
                say(entry, look);
            }
        }
    }
}
