//! What the bounds allow can be sent, and is read back whole.

use sortie_model::view::EntryView;
use sortie_model::{JobView, NodeId, NodeName, Ordinal, limits};
use sortie_wire::frame::Message;
use sortie_wire::host_proto::{ChildSet, Report};
use sortie_wire::link_proto::{Member, Roster};
use sortie_wire::session_proto::{Answer, Entries};
use sortie_wire::{decode, encode};

use crate::samples;

#[track_caller]
fn check<M: Message + PartialEq>(message: &M) {
    let bytes = encode(message).unwrap();
    assert!(decode::<M>(M::KIND, &bytes).unwrap() == *message, "{} bytes", bytes.len());
}

#[test]
fn a_default_page_of_the_longest_entries_fits() {
    let job = JobView {
        name: "n".repeat(limits::ENTRY_NAME_BYTES),
        command: "c".repeat(limits::COMMAND_SHOWN_BYTES),
        location: "l".repeat(limits::LOCATIONS_SHOWN * (limits::NODE_NAME_BYTES + 1)),
        ..samples::job_view()
    };
    let entries = vec![EntryView::Job(job); limits::PAGE];
    check(&Answer::Entries(Entries { entries, total: 1_000_000, troubles: Vec::new() }));
}

#[test]
fn the_roster_of_the_largest_cluster_fits() {
    let member = |number: u32| {
        let mut node = [0xff; 16];
        node[..4].copy_from_slice(&number.to_le_bytes());
        Member {
            node: NodeId(node),
            name: NodeName::try_from(format!("node{number:05}.rack.example")).unwrap(),
            address: format!("10.{}.{}.1:44330", number >> 8, number & 255),
            labels: vec![("rack".to_owned(), format!("r{number}"))],
        }
    };
    let members: Vec<_> = (0..limits::MEMBERS as u32).map(member).collect();
    check(&Roster { version: u64::MAX, authority: members[0].node, members });
}

#[test]
fn a_report_of_as_many_items_as_may_be_fits() {
    let mut report: Report = samples::report();
    report.started = vec![report.started[0]; limits::FRAME_ITEMS];
    report.ended = vec![report.ended[1].clone(); limits::FRAME_ITEMS];
    report.asked = vec![report.asked[1].clone(); limits::FRAME_ITEMS];
    report.moved = vec![report.moved[1]; limits::FRAME_ITEMS];
    let mut run = samples::record_run();
    run.records = vec![run.records[0]; limits::FRAME_ITEMS];
    report.records = vec![run];
    check(&report);
}

#[test]
fn a_stop_of_a_million_children_one_by_one_fits() {
    let mut stop = samples::stop();
    let last = limits::CHILDREN_PER_JOB;
    stop.children = ChildSet::Some((last - 1_000_000..last).map(Ordinal).collect());
    check(&stop);
}
