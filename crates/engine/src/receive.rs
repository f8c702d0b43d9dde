//! What a receive is about, and in which order it says that entries settled (`docs/semantics.md`,
//! section 3.3).

mod returning;

use std::collections::{BTreeMap, HashMap};

use sortie_model::record::StreamSet;
use sortie_model::{EntryId, Ordinal, Question, QuestionNumber, State, Timestamp};
use sortie_wire::remote_error::{ErrorCode, RemoteError};
use sortie_wire::session_proto::{ReceiveMode, ReceiveSpec};

use crate::session::Place;
use crate::wait::Until;
pub use returning::{incomplete, makes_room, not_back, waits_for_room};

/// Which children of a job a receive reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// All of them, those to come included: the job itself was selected.
    Whole,
    /// These, in child order.
    Children(Vec<Ordinal>),
}

/// The jobs that a receive reads, each once, in the order in which they were selected first. A
/// child whose job is selected, too, goes with it.
pub fn parts(places: &[Place]) -> Vec<(EntryId, Part)> {
    let mut parts: Vec<(EntryId, Part)> = Vec::new();
    let mut known = HashMap::new();
    for place in places {
        let (Place::Job(job) | Place::Child(job, _)) = place;
        let at = *known.entry(*job).or_insert_with(|| {
            parts.push((*job, Part::Children(Vec::new())));
            parts.len() - 1
        });
        let Some((_, part)) = parts.get_mut(at) else { continue };
        match (place, part) {
            (Place::Job(_), part) => *part = Part::Whole,
            (Place::Child(_, ordinal), Part::Children(children)) => children.push(*ordinal),
            (Place::Child(..), Part::Whole) => {}
        }
    }
    for (_, part) in &mut parts {
        if let Part::Children(children) = part {
            children.sort_unstable();
            children.dedup();
        }
    }
    parts
}

/// Refuses combinations that contradict themselves.
///
/// # Errors
/// [`ErrorCode::Usage`] with the sentence that says why.
pub fn check(spec: &ReceiveSpec) -> Result<(), RemoteError> {
    let refuse = |text: &str, hint: &str| Err(RemoteError::new(ErrorCode::Usage, text).hint(hint));
    let (reads_only, takes_until) = match spec.mode {
        ReceiveMode::Keep | ReceiveMode::Follow => (true, false),
        ReceiveMode::Take => (false, false),
        ReceiveMode::TakeUntil { .. } => (false, true),
    };
    if (spec.tail.is_some() || spec.since.is_some()) && !reads_only {
        return refuse("`--tail` and `--since` only read", "add `--keep` or `--follow`");
    }
    if spec.auto_remove && !takes_until {
        return refuse("`--auto-remove` needs a receive that takes and waits", "add `--wait`");
    }
    if spec.events && !takes_until && spec.mode != ReceiveMode::Follow {
        return refuse("`--events` needs a receive that waits", "add `--wait`");
    }
    if spec.answers && !takes_until && spec.mode != ReceiveMode::Follow {
        return refuse("only a receive that waits sees to answers", "add `--wait`");
    }
    if spec.streams.is_empty() {
        return refuse("a receive needs at least one stream", "leave `--stream` out for all");
    }
    if spec.auto_remove && (spec.streams != StreamSet::ALL || spec.on.is_some()) {
        let text = "`--auto-remove` would remove what `--stream` and `--on` leave unread";
        return refuse(text, "leave one of them out");
    }
    Ok(())
}

/// How many records each selected place of a job has in other readers' hands, where it has any.
/// `on_offer` says how many of each child are on offer to anybody, `own` how many of them this
/// reader holds itself. A job that was selected itself has one number for all its children.
pub fn with_others(
    (job, part): (EntryId, &Part),
    on_offer: impl IntoIterator<Item = (Ordinal, u64)>,
    own: &HashMap<Ordinal, u64>,
) -> Vec<(Place, u64)> {
    let others = on_offer.into_iter().map(|(child, records)| {
        (child, records.saturating_sub(own.get(&child).copied().unwrap_or(0)))
    });
    let by_place: Vec<(Place, u64)> = match part {
        Part::Whole => vec![(Place::Job(job), others.map(|(_, records)| records).sum())],
        Part::Children(_) => others.map(|(it, records)| (Place::Child(job, it), records)).collect(),
    };
    by_place.into_iter().filter(|(_, records)| *records > 0).collect()
}

/// Which children may have news for [`SettledOnce::children`].
#[derive(Debug, Clone, Copy)]
pub enum Candidates<'a> {
    /// All of a job's, of which so many have come to it now.
    All {
        /// How many children there are.
        children: u32,
        /// How many of them have come to it.
        met: u64,
    },
    /// These.
    Some(&'a [Ordinal]),
}

/// Which questions a receive has told its reader: each once, also where an incarnation of its child
/// counts anew.
#[derive(Debug, Default)]
pub struct QuestionsOnce(BTreeMap<Ordinal, (QuestionNumber, Timestamp)>);

impl QuestionsOnce {
    /// Whether that question was not told before; it counts as told.
    pub fn is_new(&mut self, child: Ordinal, question: &Question) -> bool {
        let told = (question.number, question.time);
        self.0.insert(child, told) != Some(told)
    }
}

/// Which entries of one job were said to have settled: each once, children before their parent,
/// also when an entry that was disconnected moves on later.
#[derive(Debug, Default)]
pub struct SettledOnce {
    told: Vec<u64>,
    count: u64,
    /// Every child before this one was told.
    first: u32,
    parent: bool,
}

impl SettledOnce {
    /// The children that have settled and were not told so far, in child order; they count as told.
    /// Those of which not all is back from the disk, given in child order, are not told yet: their
    /// last record is not here.
    ///
    /// Looks at children from the first that was not told on, and no longer than there can be news.
    pub fn children(
        &mut self,
        (candidates, not_back): (Candidates<'_>, &[Ordinal]),
        until: Until,
        state: impl Fn(Ordinal) -> Option<State>,
    ) -> Vec<(Ordinal, State)> {
        let mut news = Vec::new();
        let mut look = |this: &mut Self, ordinal: Ordinal| {
            if !this.was_told(ordinal)
                && not_back.binary_search(&ordinal).is_err()
                && let Some(state) = state(ordinal).filter(|state| until.is_met_by(*state))
            {
                this.tell(ordinal);
                news.push((ordinal, state));
            }
        };
        match candidates {
            Candidates::Some(some) => some.iter().for_each(|ordinal| look(self, *ordinal)),
            Candidates::All { children, met } => {
                for ordinal in (self.first..children).map(Ordinal) {
                    if self.count >= met {
                        break;
                    }
                    look(self, ordinal);
                }
                while self.first < children && self.was_told(Ordinal(self.first)) {
                    self.first += 1;
                }
            }
        }
        news
    }

    /// The job's own news, which come after those of its children. To be asked with a state that
    /// was read together with theirs, and with the same ones of which not all is back.
    pub fn parent(&mut self, state: State, until: Until, not_back: &[Ordinal]) -> Option<State> {
        let news = !self.parent && not_back.is_empty() && until.is_met_by(state);
        self.parent |= news;
        news.then_some(state)
    }

    fn was_told(&self, ordinal: Ordinal) -> bool {
        let word = self.told.get(ordinal.0 as usize / 64);
        word.is_some_and(|word| word & (1 << (ordinal.0 % 64)) != 0)
    }

    fn tell(&mut self, ordinal: Ordinal) {
        let place = ordinal.0 as usize / 64;
        if self.told.len() <= place {
            self.told.resize(place + 1, 0);
        }
        if let Some(word) = self.told.get_mut(place) {
            *word |= 1 << (ordinal.0 % 64);
            self.count += 1;
        }
    }
}

#[cfg(test)]
mod tests;
