//! Where children are, as a client reads it that is not at home on their session's node: what that
//! node calls `localhost` has a name there.

use sortie_model::NodeName;
use sortie_model::view::EntryView;
use sortie_wire::session_proto::{Answer, Delivery, Entries};

use crate::data::exchange::ToClient;

/// The message with the node's name wherever it says that a child is here.
pub(super) fn placed(mut message: ToClient, node: &NodeName) -> ToClient {
    match &mut message {
        ToClient::Answer(Answer::Started(job)) => in_list(&mut job.location, node),
        ToClient::Answer(Answer::Entries(entries) | Answer::Waited { entries, .. }) => {
            in_entries(entries, node);
        }
        ToClient::Answer(Answer::Explanation(explanation)) => {
            in_list(&mut explanation.job.location, node);
            let children = explanation.children.iter_mut();
            children.for_each(|explained| in_list(&mut explained.child.location, node));
        }
        ToClient::Records { source, .. } | ToClient::Delivery(Delivery::Asked { source, .. }) => {
            in_list(&mut source.location, node);
        }
        ToClient::Delivery(Delivery::End { failures, entries, .. }) => {
            failures.iter_mut().for_each(|failure| in_list(&mut failure.location, node));
            in_entries(entries, node);
        }
        _ => {}
    }
    message
}

fn in_entries(entries: &mut Entries, node: &NodeName) {
    for entry in &mut entries.entries {
        match entry {
            EntryView::Job(job) => in_list(&mut job.location, node),
            EntryView::Child(child) => in_list(&mut child.location, node),
        }
    }
}

/// Locations are one, or several joined by commas; behind one may be how many children it has.
fn in_list(locations: &mut String, node: &NodeName) {
    let count_of_here = |location: &str| {
        let rest = location.strip_prefix(NodeName::LOCALHOST)?;
        (rest.is_empty() || rest.starts_with(" (")).then(|| rest.to_owned())
    };
    if locations.split(',').any(|location| count_of_here(location).is_some()) {
        let named = locations.split(',').map(|location| match count_of_here(location) {
            Some(count) => format!("{node}{count}"),
            None => location.to_owned(),
        });
        *locations = named.collect::<Vec<_>>().join(",");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_here_has_a_name_and_the_rest_stays() {
        let node: NodeName = "web1".parse().expect("a name");
        for (said, expected) in [
            ("localhost", "web1"),
            ("localhost (400)", "web1 (400)"),
            ("web2 (2),localhost,…", "web2 (2),web1,…"),
            ("web2,localhost", "web2,web1"),
            ("", ""),
            ("localhosts", "localhosts"),
        ] {
            let mut locations = said.to_owned();
            in_list(&mut locations, &node);
            assert_eq!(locations, expected);
        }
    }
}
