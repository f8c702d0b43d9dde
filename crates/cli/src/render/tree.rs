//! Session, jobs, children: as a tree.

use sortie_model::{ChildView, JobView, SessionView};

use crate::render::clean::one_line;
use crate::render::json::child_name;
use crate::render::listing::progress;

/// Children that are drawn below one job; the others are counted.
pub(crate) const CHILDREN_DRAWN: u32 = 20;

/// A job with the first of its children.
#[derive(Debug, Clone)]
pub(crate) struct Branch {
    /// The job.
    pub(crate) job: JobView,
    /// At most [`CHILDREN_DRAWN`] children.
    pub(crate) children: Vec<ChildView>,
}

/// The tree of one session.
pub(crate) fn draw(session: &SessionView, branches: &[Branch]) -> String {
    let mut text =
        format!("session {} on {}", one_line(&session.name), one_line(session.node.as_str()));
    if let Some(child) = &session.below {
        text.push_str(&format!(", of {}", one_line(&child.to_string())));
    }
    text.push('\n');
    for (index, branch) in branches.iter().enumerate() {
        draw_branch(&mut text, branch, Place::of(index, branches.len()));
    }
    text
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Between,
    Last,
}

impl Place {
    const fn of(index: usize, count: usize) -> Self {
        if index + 1 == count { Self::Last } else { Self::Between }
    }

    const fn fork(self) -> &'static str {
        match self {
            Self::Between => "├─ ",
            Self::Last => "└─ ",
        }
    }

    const fn below(self) -> &'static str {
        match self {
            Self::Between => "│  ",
            Self::Last => "   ",
        }
    }
}

fn draw_branch(text: &mut String, branch: &Branch, place: Place) {
    let job = &branch.job;
    let restarts = restarts(job.restarts);
    let line = format!(
        "{} {} {} ({}{restarts}) {}",
        job.id,
        job.name,
        job.state,
        progress(&job.tally),
        job.command
    );
    text.push_str(&format!("{}{}\n", place.fork(), one_line(&line)));
    let hidden = job.tally.total().saturating_sub(branch.children.len() as u64);
    let rows = branch.children.len() + usize::from(hidden > 0);
    for (index, child) in branch.children.iter().enumerate() {
        let fork = Place::of(index, rows).fork();
        text.push_str(&format!("{}{fork}{}\n", place.below(), one_line(&child_line(child))));
    }
    if hidden > 0 {
        text.push_str(&format!("{}└─ … {hidden} more\n", place.below()));
    }
}

/// `, restarted 3 times`; nothing where nothing was.
pub(crate) fn restarts(count: u64) -> String {
    match count {
        0 => String::new(),
        1 => ", restarted once".to_owned(),
        more => format!(", restarted {more} times"),
    }
}

fn child_line(child: &ChildView) -> String {
    let mut line = format!("{} {} {} {}", child.id, child_name(child), child.location, child.state);
    line.push_str(&restarts(child.restarts.into()));
    match &child.reason {
        Some(reason) => format!("{line}: {reason}"),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use sortie_model::{SessionId, SessionInstance, Timestamp};

    use super::*;
    use crate::render::listing::tests::{a_child, a_job, instance};

    #[test]
    fn jobs_and_children_hang_below_their_session() {
        let session = SessionView {
            id: SessionId(1),
            instance: SessionInstance(instance().0),
            name: "default".to_owned(),
            node: "a".parse().expect("a name"),
            owner: "me".to_owned(),
            temporary: false,
            jobs: 2,
            unfinished: 1,
            created: Timestamp(0),
            below: None,
            state: sortie_model::view::SessionState::Opened,
            availability: sortie_model::view::Availability::Available,
            epoch: 0,
            idle_timeout: None,
            expires: None,
            output: sortie_model::record::OutputRule::default(),
        };
        let mut small = a_job();
        small.tally = Default::default();
        small.tally.by_state[sortie_model::State::Failed as usize] = 1;
        let branches = [
            Branch { job: a_job(), children: vec![a_child()] },
            Branch { job: small, children: vec![a_child()] },
        ];
        assert_eq!(
            draw(&session, &branches),
            "session default on a\n\
             ├─ 1 web Running (3/8 done, 1 failed) sh -c 'echo \"x, y\"'\n\
             │  ├─ 2 Job2 a Failed: exited with status 3\n\
             │  └─ … 7 more\n\
             └─ 1 web Running (1/1 done, 1 failed) sh -c 'echo \"x, y\"'\n   \
                └─ 2 Job2 a Failed: exited with status 3\n"
        );
    }
}
