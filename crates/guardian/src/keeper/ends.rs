//! The ends of kept children, and what there is to tell of them.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant, SystemTime};

use sortie_model::facts::Interruption;
use sortie_model::{Timestamp, limits};
use sortie_wire::guardian_proto::{
    ChildNumber, GuardianReport, KeptChild, KeptFate, KeptInput, Remainder,
};

use super::alone::Due;
use super::input::Input;
use super::output::{Got, STREAMS};
use super::{Exited, Keeper, Kept, Life, Memory, Need, Rest};
use crate::watch::Watcher;

impl Keeper {
    /// A child's last program has ended.
    pub(crate) fn on_exited(&mut self, number: ChildNumber, exited: GuardianReport, rest: Rest) {
        let Some(kept) = self.children.get_mut(&number) else { return };
        let now = Instant::now();
        kept.input = Input::Over;
        let drain_until = now.checked_add(kept.keep.drain);
        let drain_until = drain_until.unwrap_or(now + limits::LONGEST);
        let ran = kept.stood.running(kept.started, now);
        let exited = Exited { report: exited, ran, at: Some(Timestamp::of(SystemTime::now())) };
        kept.life = Life::Ending { exited, drain_until, rest };
        self.ending.insert(number);
    }

    /// A child is signalled to end.
    pub(crate) fn on_interrupted(&mut self, number: ChildNumber, why: Interruption) {
        if let Some(kept) = self.children.get_mut(&number)
            && kept.is_running()
            && !kept.interruptions.contains(&why)
        {
            kept.interruptions.push(why);
        }
    }

    /// Nothing is left of a child's tree.
    pub(crate) fn on_tree_gone(&mut self, number: ChildNumber, left_behind: u32) {
        if let Some(Kept { life: Life::Ending { rest, .. }, .. }) = self.children.get_mut(&number) {
            *rest = Rest::None { left_behind };
        }
    }

    /// A child's pipes are not to be read any longer, once its main process has ended.
    pub(crate) fn end_drain(&mut self, number: ChildNumber) {
        if let Some(Kept { life: Life::Ending { drain_until, .. }, .. }) =
            self.children.get_mut(&number)
        {
            *drain_until = Instant::now();
        }
    }

    /// What ending children need now.
    pub(crate) fn needs(&mut self, watcher: &Watcher) -> Vec<Need> {
        let now = Instant::now();
        let mut needs = Vec::new();
        for number in self.ending.iter().copied().collect::<Vec<_>>() {
            let Some(kept) = self.children.get(&number) else { continue };
            let Life::Ending { drain_until, rest, .. } = &kept.life else { continue };
            let is_read = kept.output.is_closed();
            let is_over = is_read || *drain_until <= now;
            match rest {
                Rest::Some if is_over => needs.push(Need::Finish(number)),
                Rest::None { .. } if is_over => {
                    if !is_read {
                        self.read_rest(number, watcher);
                    }
                    if self.children.get(&number).is_some_and(|kept| !kept.output.is_stuck()) {
                        needs.push(Need::Completion(number));
                    }
                }
                _ => {}
            }
        }
        needs
    }

    /// Nobody of the tree can write any more: what is in the pipes now is the rest.
    fn read_rest(&mut self, number: ChildNumber, watcher: &Watcher) {
        let most = limits::PIPE_BYTES.div_ceil(limits::RECORD_BYTES) + 1;
        for stream in STREAMS {
            // As much as a pipe can hold, should somebody from elsewhere go on writing.
            for _ in 0..most {
                let Some(kept) = self.children.get_mut(&number) else { return };
                if kept.output.is_stuck() {
                    return;
                }
                let got = kept.output.read(stream, &mut self.scratch);
                self.on_got(number, got, watcher);
                if matches!(got, Got::Nothing | Got::End) {
                    break;
                }
            }
        }
    }

    /// A child is complete: says what there is to report, and forgets it if nobody wants it.
    pub(crate) fn complete(
        &mut self,
        number: ChildNumber,
        watcher: &Watcher,
    ) -> Vec<GuardianReport> {
        self.ending.remove(&number);
        let Some(kept) = self.children.get_mut(&number) else { return Vec::new() };
        let life = std::mem::replace(&mut kept.life, Life::Lost);
        let Life::Ending { exited, rest: Rest::None { left_behind }, .. } = life else {
            return Vec::new();
        };
        kept.output.close(watcher);
        kept.life = Life::Ended { exited, left_behind };
        self.news.remove(&number);
        let next = kept.output.end();
        let told = kept.told(number);
        kept.file.note(&told);
        if kept.memory == Memory::Unwanted {
            self.drop_child(number);
        }
        vec![
            GuardianReport::Written { child: number, next },
            GuardianReport::Gone { child: number, left_behind },
        ]
    }
}

impl Kept {
    /// When the child's drain is over; none while that changes nothing.
    pub(super) fn due(&self) -> Option<Instant> {
        match &self.life {
            Life::Ending { drain_until, .. } if !self.output.is_closed() => {
                Some(*drain_until).filter(|until| *until > Instant::now())
            }
            _ => None,
        }
    }

    /// What there is to tell the next daemon of it, with the other end of its input if that is not
    /// at its end.
    pub(super) fn handed(&self, number: ChildNumber) -> Vec<(GuardianReport, Vec<OwnedFd>)> {
        let mut told: Vec<_> =
            self.told(number).into_iter().map(|report| (report, Vec::new())).collect();
        if let Some((GuardianReport::Kept(kept), descriptors)) = told.first_mut() {
            let (input, end) = self.input.handed();
            kept.input = input;
            descriptors.extend(end);
        }
        told
    }

    /// What there is to tell of it.
    pub(super) fn told(&self, number: ChildNumber) -> Vec<GuardianReport> {
        let (running, ended, fate) = match &self.life {
            Life::Runs => {
                let running = self.stood.running(self.started, Instant::now());
                (running, None, KeptFate::Known)
            }
            Life::Ending { exited, .. } | Life::Ended { exited, .. } => {
                (exited.ran, exited.at, KeptFate::Known)
            }
            Life::Lost => (Duration::ZERO, None, KeptFate::Lost),
        };
        let kept = KeptChild {
            number,
            keep: self.keep.clone(),
            oldest: self.output.stored(),
            pid: self.pid,
            running,
            input: KeptInput::Whole,
            fate,
            ended,
            kill_in: self.due.and_then(Due::kill_in),
            motion: self.stood.motion(),
        };
        let written = GuardianReport::Written { child: number, next: self.output.end() };
        let mut told = vec![GuardianReport::Kept(Box::new(kept)), written];
        match &self.life {
            Life::Runs | Life::Lost => {}
            Life::Ending { exited, .. } => told.push(of_child(&exited.report, number)),
            Life::Ended { exited, left_behind, .. } => {
                told.push(of_child(&exited.report, number));
                told.push(GuardianReport::Gone { child: number, left_behind: *left_behind });
            }
        }
        let interrupted =
            |why: &Interruption| GuardianReport::Interrupted { child: number, why: *why };
        told.extend(self.interruptions.iter().map(interrupted));
        told
    }
}

/// The same end, under the number that the child has now. Of a kept child more always follows.
fn of_child(exited: &GuardianReport, number: ChildNumber) -> GuardianReport {
    match exited.clone() {
        GuardianReport::Exited { end, stage, memory, disturbance, .. } => GuardianReport::Exited {
            child: number,
            end,
            stage,
            memory,
            disturbance,
            remainder: Remainder::Others,
        },
        other => other,
    }
}
