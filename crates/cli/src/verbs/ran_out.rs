//! A wait whose time is over: what that leaves is said as it is.

use sortie::answer::Entries;
use sortie_model::EntryId;
use sortie_model::view::EntryView;

use crate::args::output::Look;
use crate::failure::Failure;

/// Entries that are named.
const NAMED: usize = 3;

/// What was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    /// That entries end.
    Ends,
    /// That, and all of their records.
    Records,
}

/// Says that the wait ran out, and how these entries are now.
pub(super) fn report(entries: &Entries, what: For, look: &Look) {
    let failure = Failure::wait_ran_out();
    look.report(match left(entries, what) {
        Some(hint) => failure.hint(hint),
        None => failure,
    });
}

/// What there is to say of them; nothing where nothing is known.
fn left(entries: &Entries, what: For) -> Option<String> {
    let all = &entries.entries;
    let all_are_known = entries.total <= all.len() as u64;
    let over = all.iter().filter(|entry| entry.state().is_finished()).count();
    match over {
        _ if all.is_empty() => None,
        0 => Some("what was waited for goes on".to_owned()),
        over if over < all.len() || !all_are_known => {
            Some("what is not over of it goes on".to_owned())
        }
        _ => Some(of_ended(all, what)),
    }
}

/// Of entries that are all over.
fn of_ended(entries: &[EntryView], what: For) -> String {
    let has_more = |entry: &&EntryView| match entry {
        EntryView::Job(job) => job.has_more_data,
        EntryView::Child(child) => child.has_more_data,
    };
    let unread: Vec<EntryId> = entries.iter().filter(has_more).map(EntryView::id).collect();
    if what == For::Ends || unread.is_empty() {
        return "what was waited for is over".to_owned();
    }
    let named: Vec<String> = unread.iter().take(NAMED).map(EntryId::to_string).collect();
    let more = match unread.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "what was waited for is over, and not everything was received of {}{more}: \
         `sortie receive {} --wait` takes the rest, of which another reader may have some",
        named.join(", "),
        named.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use sortie_model::State;

    use super::*;
    use crate::render::listing::tests::{a_child, a_job};

    /// A job in that state, which has more or not, as id 1.
    fn job(state: State, has_more_data: bool) -> EntryView {
        let mut job = a_job();
        (job.state, job.has_more_data) = (state, has_more_data);
        EntryView::Job(job)
    }

    #[track_caller]
    fn check(entries: Vec<EntryView>, what: For, expected: Option<&str>) {
        let entries = Entries { total: entries.len() as u64, entries, troubles: Vec::new() };
        assert_eq!(left(&entries, what).as_deref(), expected);
    }

    #[test]
    fn what_is_over_does_not_go_on() {
        let (running, over) = (job(State::Running, true), job(State::Completed, false));
        check(Vec::new(), For::Ends, None);
        check(vec![running.clone()], For::Records, Some("what was waited for goes on"));
        let some = Some("what is not over of it goes on");
        check(vec![running, over.clone()], For::Records, some);
        check(vec![over], For::Records, Some("what was waited for is over"));
        let unread = job(State::Completed, true);
        check(vec![unread], For::Ends, Some("what was waited for is over"));
    }

    #[test]
    fn of_what_was_not_received_it_is_said_who_may_have_it() {
        let mut child = a_child();
        child.has_more_data = true;
        let unread = vec![job(State::Completed, true), EntryView::Child(child.clone())];
        check(
            unread,
            For::Records,
            Some(
                "what was waited for is over, and not everything was received of 1, 2: `sortie \
                 receive 1 2 --wait` takes the rest, of which another reader may have some",
            ),
        );
        let many =
            Entries { total: 5, entries: vec![EntryView::Child(child); 5], troubles: Vec::new() };
        let said = left(&many, For::Records).expect("a sentence");
        assert!(said.contains("of 2, 2, 2 and 2 more: `sortie"), "{said}");
        let page = Entries { total: 6, ..many };
        assert_eq!(left(&page, For::Ends).as_deref(), Some("what is not over of it goes on"));
    }
}
