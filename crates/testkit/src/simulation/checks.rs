//! What must hold after every operation.

use std::time::Duration;

use sortie_actors::NodeHandle;
use sortie_model::view::{EntryView, NodeState};
use sortie_model::{ChildView, EntryId, JobView, Reason, State, Timestamp};
use sortie_wire::session_proto::{Answer, Ask};
use tokio::time::Instant;

use crate::chance::Chance;
use crate::simulation::client::{self, Odd, Reading};
use crate::simulation::ledger::{Child, End, Fate, Lived};
use crate::simulation::reading::Logged;
use crate::simulation::seen::ChildSeen;
use crate::simulation::{Broken, Promise, Simulation};

/// Within this a lost node is shown as lost, and what runs for a lost owner has ended.
const LOST_WITHIN: Duration = Duration::from_secs(15);

impl Simulation<'_> {
    pub(super) fn node(&self, number: usize) -> Result<&NodeHandle, Broken> {
        self.cluster.node(number).map_err(|error| Odd(error.to_string()).into())
    }

    /// Looks at every node that is up. Answers a digest of all that is shown.
    pub(super) async fn check(&mut self) -> Result<u64, Broken> {
        if let Some(broken) = self.ledger.broken() {
            return Err(broken);
        }
        self.listen()?;
        if let Some(text) = self.cluster.take_accusations().pop() {
            return Err(Broken(Promise::Protocol, text));
        }
        let mut digest = 0;
        for number in self.up() {
            let entries = client::get(self.node(number)?).await?;
            digest = digest_of(digest, &entries);
            let ended = self.compare(number, &entries)?;
            self.must_be_whole(number, &entries)?;
            for id in ended {
                self.on_ended(number, id).await?;
            }
        }
        self.check_lost()?;
        self.check_told_lost()?;
        self.check_orphans()?;
        Ok(digest)
    }

    /// Compares entries of a node with what it showed of them before, and remembers them. Answers
    /// the children whose end is new.
    pub(super) fn compare(
        &mut self,
        number: usize,
        entries: &[EntryView],
    ) -> Result<Vec<EntryId>, Broken> {
        let mut ended = Vec::new();
        for entry in entries {
            match entry {
                EntryView::Job(view) => self.compare_job(number, view)?,
                EntryView::Child(view) => {
                    if self.compare_child(number, view)? {
                        ended.push(view.id);
                    }
                }
            }
        }
        Ok(ended)
    }

    fn compare_job(&mut self, number: usize, view: &JobView) -> Result<(), Broken> {
        let unknown = || Odd(format!("node{number} shows job {}, never accepted", view.id));
        let node = self.sight.node_mut(number).ok_or_else(unknown)?;
        let job = node.jobs.get_mut(&view.id).ok_or_else(unknown)?;
        let facts = |view: &JobView| (view.state, view.begin_time, view.end_time);
        match &job.end {
            Some(end) if facts(end) != facts(view) => {
                let (was, is) = (facts(end), facts(view));
                let text = format!("node{number}, job {}: was {was:?}, is {is:?}", view.id);
                return Err(Broken(Promise::P3, text));
            }
            None if view.state.is_finished() => job.end = Some(view.clone()),
            _ => {}
        }
        Ok(())
    }

    /// Says whether its end is new.
    fn compare_child(&mut self, number: usize, view: &ChildView) -> Result<bool, Broken> {
        let at = format!("node{number}, child {}", view.id);
        let parent = self.sight.node_mut(number).and_then(|node| node.jobs.get_mut(&view.parent));
        let job = parent.ok_or_else(|| Odd(format!("{at} of a job that is not there")))?;
        let child = job.child(view.ordinal);
        let supervised = job.is_supervised();
        let new = || ChildSeen::new(view.ordinal);
        let seen = job.children.entry(view.id).or_insert_with(new);
        let facts =
            |view: &ChildView| (view.state, view.reason.clone(), view.begin_time, view.end_time);
        let end = seen.view.replace(view.clone()).filter(|was| was.state.is_finished());
        let begun = self.ledger.fate(child).before(Instant::now());
        if begun > u64::from(view.restarts) + 1 {
            let text = format!("{at}: began {begun} times after {} restarts", view.restarts);
            return Err(Broken(Promise::P1, text));
        }
        if let Some(was) = &end
            && facts(was) != facts(view)
            && (was.restarts == view.restarts || !supervised)
        {
            let text = format!("{at}: was {:?}, is {:?}", facts(was), facts(view));
            return Err(Broken(Promise::P3, text));
        }
        if !view.state.is_finished() {
            self.must_not_be_lost((number, child), view)?;
            return Ok(false);
        }
        Ok(end.is_none_or(|was| was.restarts != view.restarts))
    }

    /// Everything that was accepted and not removed is shown.
    fn must_be_whole(&self, number: usize, entries: &[EntryView]) -> Result<(), Broken> {
        let Some(node) = self.sight.node(number) else { return Ok(()) };
        let shown: std::collections::BTreeSet<EntryId> =
            entries.iter().map(EntryView::id).collect();
        for (id, job) in &node.jobs {
            let missing = job.children.keys().chain([id]).find(|id| !shown.contains(id));
            if let Some(missing) = missing {
                let text = format!("node{number} does not show {missing} any more");
                return Err(Broken(Promise::P2, text));
            }
            if job.expected.is_some_and(|count| count != job.children.len() as u64) {
                let (is, of) = (job.children.len(), job.expected);
                let text = format!("node{number}: job {id} has {is} children of {of:?}");
                return Err(Broken(Promise::P2, text));
            }
        }
        Ok(())
    }

    /// A child's end is shown for the first time: is it true, and is all of its output there?
    async fn on_ended(&mut self, number: usize, id: EntryId) -> Result<(), Broken> {
        let selection = client::select(&id.to_string())?;
        let kept = client::receive(self.node(number)?, selection, Reading::Keeps).await?;
        let left = self.take_in(number, &kept)?;
        let Some(node) = self.sight.node_mut(number) else { return Ok(()) };
        let Some((job, Some(_))) = node.job_of(id) else { return Ok(()) };
        let (tag, supervised) = (job.tag, job.is_supervised());
        let Some(seen) = job.children.get_mut(&id) else { return Ok(()) };
        let Some(view) = seen.view.clone() else { return Ok(()) };
        let (stored, child) = (seen.taken + left, (tag, seen.ordinal));
        let offered = seen.log.len() as u64;
        if stored < offered {
            let text = format!("node{number}, child {id}: {offered} records were offered");
            return Err(Broken(Promise::P6, format!("{text}, {} taken, {left} left", seen.taken)));
        }
        seen.stored = (!supervised).then_some(stored);
        // Who gives up does not say whether the last life was lost.
        let gave_up = matches!(view.reason, Some(Reason::RestartLimit { .. }));
        let (lost, log) = (seen.lost + u32::from(gave_up), seen.log.clone());
        let fate = self.ledger.fate(child);
        let at = |text: String| {
            let (state, reason, place) = (view.state, &view.reason, &view.location);
            format!("node{number}, child {id} on {place} ({state:?}, {reason:?}): {text}")
        };
        if supervised && fate.before(Instant::now()) < fate.0.len() as u64 {
            // Its next life begins in this moment.
            return Ok(());
        }
        if let Some(Reason::Unreachable { .. }) = view.reason
            && (fate.last().is_some() && !supervised)
        {
            let text = at(format!("its node was never reached, and it began there: {fate:?}"));
            return Err(Broken(Promise::P9, text));
        }
        if is_lost(view.reason.as_ref()) {
            let since = self.instant_of(number, view.end_time);
            if !supervised {
                self.sight.lost.push((child, since));
            }
            return Ok(());
        }
        if !is_true(&view, &fate) {
            return Err(Broken(Promise::P3, at(format!("{fate:?}"))));
        }
        let alive = |lived: &&Lived| self.ledger.death(lived.on).is_none();
        if fate.0.iter().filter(alive).any(|lived| lived.gone.is_none()) {
            return Err(Broken(Promise::P3, at("its body still runs".to_owned())));
        }
        let missing = (0..).zip(&fate.0).filter(|(_, lived)| alive(lived)).find_map(|life| {
            let kept = missing_of(life, &log)?;
            Some(at(format!("{kept} records of {} are stored", life.1.emitted)))
        });
        let Some(text) = missing else { return Ok(()) };
        if supervised {
            // A watcher may be about to hear of a life that was called lost.
            self.come_to_rest().await?;
        }
        let job = self.sight.node(number).and_then(|node| node.jobs.get(&view.parent));
        let now_lost = job.and_then(|job| job.children.get(&id)).map_or(0, |child| child.lost);
        // Of a life that was called lost some may be missing.
        if lost + now_lost > 0 { Ok(()) } else { Err(Broken(Promise::P5, text)) }
    }

    /// A child that is shown as running does not run on a node that is long dead or silent.
    fn must_not_be_lost(
        &self,
        (number, child): (usize, Child),
        view: &ChildView,
    ) -> Result<(), Broken> {
        if !matches!(view.state, State::Running | State::Stopping | State::Blocked) {
            return Ok(());
        }
        let fate = self.ledger.fate(child);
        let Some(life) = fate.on() else { return Ok(()) };
        let cut = self.sight.cuts.get(&(life.node, number)).copied();
        let Some(since) = self.ledger.death(life).or(cut) else { return Ok(()) };
        if self.for_longer_than(LOST_WITHIN, since) {
            let text = format!(
                "node{number} shows child {} as {:?} on node{}, silent for {:?}",
                view.id,
                view.state,
                life.node,
                since.elapsed()
            );
            return Err(Broken(Promise::P9, text));
        }
        Ok(())
    }

    /// Whether it is that long ago, and everything has arrived that was on its way then.
    fn for_longer_than(&self, within: Duration, since: Instant) -> bool {
        let since = self.sight.settled.map_or(since, |settled| settled.max(since));
        since.elapsed() > within + self.sight.latest
    }

    /// What was called lost is over, and was over then.
    fn check_lost(&mut self) -> Result<(), Broken> {
        let ledger = &self.ledger;
        for ((tag, ordinal), since) in &self.sight.lost {
            let fate = ledger.fate((*tag, *ordinal));
            let Some(lived) = fate.last() else { continue };
            let over = [lived.gone, ledger.death(lived.on)].into_iter().flatten().min();
            if over.is_none_or(|over| over > *since) {
                let late = since.elapsed();
                let text = format!(
                    "child {} of tag {tag} was called lost {late:?} ago and ran on: {fate:?}",
                    ordinal.0
                );
                return Err(Broken(Promise::P9, text));
            }
        }
        // A child that was over when it was called lost cannot begin again, except twice.
        let began = |(child, _): &(Child, Instant)| ledger.fate(*child).0.is_empty();
        self.sight.lost.retain(began);
        Ok(())
    }

    /// Whatever began before a watcher was told that it is lost was over by then.
    fn check_told_lost(&mut self) -> Result<(), Broken> {
        for ((number, job, id), since) in std::mem::take(&mut self.sight.told_lost) {
            let job = self.sight.node(number).and_then(|node| node.jobs.get(&job));
            let child = job.and_then(|job| Some(job.child(job.children.get(&id)?.ordinal)));
            let Some(child) = child else { continue };
            for lived in self.ledger.fate(child).0.iter().filter(|lived| lived.began < since) {
                let over = [lived.gone, self.ledger.death(lived.on)].into_iter().flatten().min();
                if over.is_none_or(|over| over > since) {
                    let text = format!(
                        "node{number}, child {id}: called lost {:?} ago, and ran on: {lived:?}",
                        since.elapsed()
                    );
                    return Err(Broken(Promise::P9, text));
                }
            }
        }
        Ok(())
    }

    /// What runs for an owner that is dead or silent ends.
    fn check_orphans(&self) -> Result<(), Broken> {
        for child in self.ledger.present() {
            let owner = self.sight.owners.get(&child.0).copied();
            let executes = self.ledger.fate(child).on();
            let (Some(owner), Some(executes)) = (owner, executes) else { continue };
            let cut = self.sight.cuts.get(&(owner.node, executes.node)).copied();
            let over = self.sight.over.get(&child.0).copied();
            let since = [self.ledger.death(owner), over, cut].into_iter().flatten().min();
            let Some(since) = since else { continue };
            if self.for_longer_than(LOST_WITHIN, since) {
                let text = format!("{child:?} of {owner:?} runs on {executes:?} without it");
                return Err(Broken(Promise::P9, text));
            }
        }
        Ok(())
    }

    /// Asks a node about the others: who is silent for long is shown as lost.
    pub(super) async fn look(&mut self, number: usize) -> Result<String, Broken> {
        let began = Instant::now();
        let answer = client::ask(self.node(number)?, Ask::Nodes { expression: None }).await?;
        let Answer::Nodes(views) = answer else {
            return Err(Odd(format!("nodes are answered with {answer:?}")).into());
        };
        for (place, view) in (1..).zip(&views) {
            let down = self.cluster.is_up(place) == Some(false);
            let life = self.cluster.life(place).map_err(|error| Odd(error.to_string()))?;
            let death = self.ledger.death(life).filter(|_| down);
            let Some(since) = death.or(self.sight.cuts.get(&(place, number)).copied()) else {
                continue;
            };
            let asked = began.elapsed();
            if self.for_longer_than(LOST_WITHIN + asked, since) && view.state != NodeState::Lost {
                let text = format!(
                    "node{number} shows node{place} as {:?}, silent for {:?}",
                    view.state,
                    since.elapsed()
                );
                return Err(Broken(Promise::P9, text));
            }
        }
        Ok(format!("node{number} looks: {:?}", views.iter().map(|v| v.state).collect::<Vec<_>>()))
    }

    /// The moment that a node's clock showed so.
    fn instant_of(&self, number: usize, time: Option<Timestamp>) -> Instant {
        let now = self.cluster.now(number).map_or(i64::MAX, |now| now.0);
        let then = time.map_or(i64::MAX, |time| time.0);
        let ago = Duration::from_micros(now.saturating_sub(then).max(0).unsigned_abs());
        Instant::now().checked_sub(ago).unwrap_or_else(Instant::now)
    }
}

/// How many records of a life are there, if they are not all that its body emitted.
fn missing_of((life, lived): (u32, &Lived), log: &[Logged]) -> Option<u64> {
    let of_life = |logged: &&Logged| matches!(logged, Logged::Value(it, _) if *it == life);
    let kept = log.iter().filter(of_life).count() as u64;
    // A value may be stored whose body was aborted before it could write that down.
    let whole = (lived.emitted..=lived.emitted + 1).contains(&kept);
    (!whole).then_some(kept)
}

pub(super) const fn is_lost(reason: Option<&Reason>) -> bool {
    matches!(reason, Some(Reason::NodeLost { .. } | Reason::StartUncertain))
}

/// Whether a child's shown end agrees with what its body did.
fn is_true(view: &ChildView, fate: &Fate) -> bool {
    let end = fate.last().and_then(|lived| lived.end);
    match (view.state, &view.reason) {
        (State::Completed, None) => end == Some(End::Succeeded),
        (State::Failed, Some(Reason::Error { .. })) => end == Some(End::Failed),
        // The verdict of a limit stands, and so does a panic within the grace of a stop.
        (State::Failed, Some(Reason::Panic { .. })) => end == Some(End::Panicked),
        (State::Failed, Some(Reason::Timeout { .. })) => fate.last().is_some(),
        (State::Failed, Some(Reason::Unreachable { .. } | Reason::InputLost)) => true,
        // Its last end may be any that is a failure.
        (State::Failed, Some(Reason::RestartLimit { .. })) => true,
        (State::Stopped, None) => true,
        _ => false,
    }
}

/// Mixes what is shown into a number.
fn digest_of(digest: u64, entries: &[EntryView]) -> u64 {
    let mix = |digest: u64, part: u64| Chance::new(digest ^ part).next();
    let time = |time: Option<Timestamp>| time.map_or(0, |time| time.0.unsigned_abs());
    entries.iter().fold(mix(digest, entries.len() as u64), |digest, entry| {
        let digest = mix(mix(digest, entry.id().0), entry.state() as u64);
        match entry {
            EntryView::Job(job) => mix(mix(digest, time(job.begin_time)), time(job.end_time)),
            EntryView::Child(child) => {
                let times = mix(mix(digest, time(child.begin_time)), time(child.end_time));
                mix(times, child.unread_bytes)
            }
        }
    })
}
