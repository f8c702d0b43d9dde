use bytes::Bytes;
use sortie_engine::peer::Holds;
use sortie_model::{ChildIncarnation, Ordinal, Seq, limits};
use sortie_wire::host_proto::{ChildAgain, ChildFrom};
use uuid::Uuid;

use super::*;
use crate::data::linked::{Ends, linked, linked_in};

/// A link, for tests that need one only to have it.
pub(crate) async fn link() -> (Link, impl Send) {
    let ends = linked().await;
    (ends.here.clone(), ends)
}

const JOB: JobInstance = JobInstance(Uuid::from_u128(7));

fn position(ordinal: u32, next: u64) -> ChildPosition {
    ChildPosition { job: JOB, ordinal: Ordinal(ordinal), next: Seq(next), credit: 1 }
}

fn attachment() -> Arc<Attachment> {
    Attachment::new(SessionInstance(Uuid::from_u128(1)), NodeId([2; 16]), Arc::default())
}

#[tokio::test]
async fn a_child_whose_end_is_acknowledged_leaves_no_position() {
    let mut ends = linked().await;
    let attachment = attachment();
    attachment.attach(&ends.here);
    attachment.state().told.insert(JOB, Hosting::Temporary);
    for ordinal in 0..100 {
        attachment.stored_child(&ends.here, position(ordinal, 1), Ended::No);
        attachment.stored_child(&ends.here, position(ordinal, 3), Ended::Yes);
    }
    attachment.stored_child(&ends.here, position(100, 5), Ended::No);
    let mut ended = BTreeSet::new();
    while ended.len() < 100 {
        let frame = ends.there_control.next().await.expect("acknowledgements");
        let Acknowledge { children, .. } = frame.open().expect("an acknowledgement");
        ended.extend(children.iter().filter(|at| at.next == Seq(3)).map(|at| at.ordinal));
    }
    let state = attachment.state();
    assert_eq!(state.positions.values().copied().collect::<Vec<_>>(), [position(100, 5)]);
    assert!(state.fresh.is_empty());
}

#[tokio::test]
async fn a_resume_that_cannot_be_sent_ends_the_connection() {
    let ends = linked().await;
    let attachment = attachment();
    let jobs = limits::FRAME_BYTES as u128 / 16;
    let told = (0..=jobs).map(|job| (JobInstance(Uuid::from_u128(job)), Hosting::Temporary));
    attachment.state().told = told.collect();
    attachment.attach(&ends.here);
    assert!(ends.here.is_closed());
}

/// An attachment that was told of a job and has asked over the link whether it is still known.
async fn asked(ends: &mut Ends) -> Arc<Attachment> {
    let attachment = attachment();
    attachment.state().told.insert(JOB, Hosting::Temporary);
    assert_eq!(attachment.attach(&ends.here).0, Attached::Asked);
    let frame = ends.there_control.next().await.expect("a question");
    assert_eq!(frame.open::<Resume>().expect("a resume").jobs, [JOB]);
    attachment
}

#[tokio::test]
async fn only_what_was_asked_is_answered() {
    let mut ends = linked().await;
    let stranger = JobInstance(Uuid::from_u128(8));
    let attachment = asked(&mut ends).await;
    assert_eq!(attachment.resumed(&ends.here, &[stranger, JOB]), Err(NotAsked));
    assert!(!attachment.is_ready() && attachment.has_told(JOB));

    let attachment = asked(&mut ends).await;
    let (other, _kept) = link().await;
    assert_eq!(attachment.resumed(&other, &[]), Err(NotAsked));
    assert_eq!(attachment.resumed(&ends.here, &[]), Ok((Life::Same, BTreeSet::from([JOB]))));
    assert!(attachment.is_ready() && attachment.has_told(JOB));
    assert_eq!(attachment.resumed(&ends.here, &[JOB]), Err(NotAsked));
    assert!(attachment.has_told(JOB), "the second answer is not believed");
}

#[tokio::test]
async fn a_job_that_ends_while_the_answer_is_outstanding_is_forgotten_after_it() {
    let mut ends = linked().await;
    let attachment = asked(&mut ends).await;
    let forget = ForgetJob { session: attachment.session, job: JOB };
    attachment.forget(&forget);
    assert_eq!(attachment.resumed(&ends.here, &[JOB]), Ok((Life::Same, BTreeSet::new())));
    let frame = ends.there_control.next().await.expect("a word");
    assert_eq!(frame.open::<ForgetJob>(), Ok(forget));
}

#[tokio::test]
async fn a_session_that_ended_while_its_node_was_away_is_only_said_to_be_over() {
    let first = linked().await;
    let attachment = attachment();
    attachment.attach(&first.here);
    attachment.state().told.insert(JOB, Hosting::Temporary);
    first.here.close(CloseCode::SILENT, "cut");
    attachment.end();
    let mut second = linked().await;
    assert_eq!(attachment.attach(&second.here).0, Attached::Over);
    let frame = second.there_control.next().await.expect("a word");
    assert_eq!(frame.open::<EndSession>(), Ok(EndSession { session: attachment.session }));
    assert!(!attachment.is_current(&second.here));
}

#[tokio::test]
async fn a_position_that_comes_after_its_job_was_forgotten_is_not_kept() {
    let ends = linked().await;
    let attachment = attachment();
    attachment.attach(&ends.here);
    attachment.state().told.insert(JOB, Hosting::Temporary);
    attachment.forget(&ForgetJob { session: attachment.session, job: JOB });
    attachment.stored_child(&ends.here, position(0, 5), Ended::No);
    assert!(attachment.state().positions.is_empty());
}

#[tokio::test]
async fn a_job_that_must_hear_of_a_loss_starts_nothing_before() {
    let mut ends = linked().await;
    let attachment = asked(&mut ends).await;
    assert_eq!(attachment.resumed(&ends.here, &[JOB]), Ok((Life::Same, BTreeSet::new())));
    let again = || ChildBatch::Again(Vec::new());
    // The answer is known, and the word of it is on its way to the job.
    assert_eq!(attachment.send_start((JOB, Hosting::Temporary), again(), || None), Begun::No);
    let other = JobInstance(Uuid::from_u128(8));
    assert_eq!(attachment.send_start((other, Hosting::Temporary), again(), || None), Begun::Yes);
    // A word about the way there is one more.
    attachment.must_hear(JOB);
    attachment.heard(JOB);
    assert_eq!(attachment.send_start((JOB, Hosting::Temporary), again(), || None), Begun::No);
    attachment.heard(JOB);
    assert_eq!(attachment.send_start((JOB, Hosting::Temporary), again(), || None), Begun::Yes);
}

#[tokio::test]
async fn what_a_job_must_hear_outlives_the_node_that_is_lost_again() {
    let mut ends = linked().await;
    let attachment = asked(&mut ends).await;
    attachment.must_hear(JOB);
    assert_eq!(attachment.lost(), BTreeSet::from([JOB]));
    assert_eq!(attachment.attach(&ends.here).0, Attached::Ready);
    assert_eq!(
        attachment.send_start((JOB, Hosting::Temporary), ChildBatch::Again(Vec::new()), || None),
        Begun::No
    );
    attachment.heard(JOB);
    assert_eq!(
        attachment.send_start((JOB, Hosting::Temporary), ChildBatch::Again(Vec::new()), || None),
        Begun::Yes
    );
}

#[tokio::test]
async fn a_node_in_a_new_life_starts_nothing_of_a_job_before_it_heard_of_the_earlier_life() {
    let (first, second) = (linked().await, linked_in(Incarnation(2)).await);
    let attachment = attachment();
    let start = |job| {
        let children = ChildBatch::Again(Vec::new());
        attachment.send_start((job, Hosting::Temporary), children, || None) == Begun::Yes
    };
    assert_eq!(attachment.attach(&first.here).0, Attached::Ready);
    assert!(start(JOB));
    assert_eq!(attachment.attach(&second.here), (Attached::Ready, BTreeSet::from([JOB])));
    // Others may start there, so it is ready.
    let other = JobInstance(Uuid::from_u128(8));
    assert!(attachment.is_ready() && start(other));
    assert!(!start(JOB), "its word is on its way");
    attachment.heard(JOB);
    assert!(start(JOB));
}

#[tokio::test]
async fn what_outlives_silence_is_asked_for_whatever_happened_to_its_node() {
    let (first, mut second) = (linked().await, linked_in(Incarnation(2)).await);
    let attachment = attachment();
    let (kept, short) = (JOB, JobInstance(Uuid::from_u128(8)));
    assert_eq!(attachment.attach(&first.here).0, Attached::Ready);
    let again = || ChildBatch::Again(Vec::new());
    assert_eq!(attachment.send_start((kept, Hosting::Persistent), again(), || None), Begun::Yes);
    assert_eq!(attachment.send_start((short, Hosting::Temporary), again(), || None), Begun::Yes);
    attachment.stored_child(&first.here, position(0, 5), Ended::No);
    assert_eq!(attachment.lost(), BTreeSet::from([short]));
    assert_eq!((attachment.holds(), attachment.has_told(short)), (Holds::Something, false));
    assert_eq!(attachment.attach(&second.here), (Attached::Asked, BTreeSet::new()));
    let frame = second.there_control.next().await.expect("a question");
    let resume = frame.open::<Resume>().expect("a resume");
    assert_eq!((resume.jobs, resume.children), (vec![kept], vec![position(0, 5).unpaused()]));
    assert_eq!(attachment.resumed(&second.here, &[kept]), Ok((Life::Later, BTreeSet::new())));
    assert_eq!(attachment.holds(), Holds::Nothing);
}

#[tokio::test]
async fn a_node_that_ended_takes_along_what_outlives_silence() {
    let ends = linked().await;
    let attachment = attachment();
    attachment.attach(&ends.here);
    let start =
        |hosting| attachment.send_start((JOB, hosting), ChildBatch::Again(Vec::new()), || None);
    assert_eq!(start(Hosting::Persistent), Begun::Yes);
    assert_eq!(attachment.lost(), BTreeSet::new());
    assert_eq!(attachment.gone(), BTreeSet::from([JOB]));
    assert_eq!(attachment.holds(), Holds::Nothing);
}

#[tokio::test]
async fn a_node_that_was_away_hears_of_the_end_of_what_outlives_its_silence() {
    let (first, mut second, mut third) =
        (linked().await, linked().await, linked_in(Incarnation(2)).await);
    let attachment = attachment();
    attachment.attach(&first.here);
    let job = (JOB, Hosting::Persistent);
    assert_eq!(attachment.send_start(job, ChildBatch::Again(Vec::new()), || None), Begun::Yes);
    first.here.close(CloseCode::SILENT, "cut");
    attachment.forget(&ForgetJob { session: attachment.session, job: JOB });
    assert_eq!((attachment.owes(), attachment.holds()), (true, Holds::Something));
    // What it does not name is over.
    assert_eq!(attachment.attach(&second.here).0, Attached::Asked);
    let frame = second.there_control.next().await.expect("a question");
    assert_eq!(frame.open::<Resume>().expect("a resume").jobs, []);
    assert_eq!(attachment.resumed(&second.here, &[]), Ok((Life::Same, BTreeSet::new())));
    answer(&attachment, &second.here, 2);
    assert_eq!((attachment.owes(), attachment.holds()), (false, Holds::Nothing));
    assert_eq!(attachment.send_start(job, ChildBatch::Again(Vec::new()), || None), Begun::Yes);
    second.here.close(CloseCode::SILENT, "cut");
    attachment.end();
    assert!(attachment.owes());
    assert_eq!(attachment.attach(&third.here).0, Attached::Over);
    let frame = third.there_control.next().await.expect("a word");
    assert_eq!(frame.open::<EndSession>(), Ok(EndSession { session: attachment.session }));
    answer(&attachment, &third.here, 2);
    assert!(!attachment.owes());
}

/// A heartbeat goes out and is answered.
fn answer(attachment: &Attachment, link: &Link, number: u64) {
    attachment.on_beat_sent(link.id(), number);
    attachment.on_beat_heard(link.id(), number);
}

/// An attachment whose node was told of a job that outlives silence, over that link.
fn told(link: &Link) -> Arc<Attachment> {
    let attachment = attachment();
    assert_eq!(attachment.attach(link).0, Attached::Ready);
    let job = (JOB, Hosting::Persistent);
    assert_eq!(attachment.send_start(job, ChildBatch::Again(Vec::new()), || None), Begun::Yes);
    attachment
}

#[tokio::test]
async fn a_word_into_a_connection_that_seems_up_is_said_until_it_is_known_to_be_heard() {
    let (first, mut second) = (linked().await, linked_in(Incarnation(2)).await);
    let attachment = told(&first.here);
    attachment.on_beat_sent(first.here.id(), 7);
    attachment.end();
    assert!(attachment.owes() && attachment.has_ended() && !first.here.is_closed());
    // The answer to what went before it, or came over another one, says nothing.
    attachment.on_beat_heard(first.here.id(), 7);
    attachment.on_beat_sent(first.here.id(), 8);
    attachment.on_beat_heard(first.here.id(), 7);
    attachment.on_beat_heard(second.here.id(), 8);
    assert_eq!((attachment.owes(), attachment.holds()), (true, Holds::Something));
    // The node is back from its death before anybody missed it.
    assert_eq!(attachment.attach(&second.here).0, Attached::Over);
    let frame = second.there_control.next().await.expect("a word");
    assert_eq!(frame.open::<EndSession>(), Ok(EndSession { session: attachment.session }));
    attachment.on_beat_heard(first.here.id(), 8);
    assert!(attachment.owes());
    answer(&attachment, &second.here, 1);
    assert_eq!((attachment.owes(), attachment.holds()), (false, Holds::Nothing));
}

#[tokio::test]
async fn the_end_of_a_session_is_owed_with_that_of_a_job_before_it() {
    let ends = linked().await;
    let attachment = told(&ends.here);
    attachment.forget(&ForgetJob { session: attachment.session, job: JOB });
    assert!(attachment.owes());
    attachment.on_beat_sent(ends.here.id(), 1);
    attachment.end();
    attachment.on_beat_heard(ends.here.id(), 1);
    assert!(attachment.owes(), "its last word went behind that");
    answer(&attachment, &ends.here, 2);
    assert!(!attachment.owes());
}

#[tokio::test]
async fn a_word_that_waits_for_the_answer_of_the_node_is_owed_until_it_goes_out() {
    let (first, second) = (linked().await, linked().await);
    let attachment = told(&first.here);
    assert_eq!(attachment.attach(&second.here).0, Attached::Asked);
    attachment.forget(&ForgetJob { session: attachment.session, job: JOB });
    answer(&attachment, &second.here, 1);
    assert!(attachment.owes());
    assert_eq!(attachment.resumed(&second.here, &[]), Ok((Life::Same, BTreeSet::from([JOB]))));
    answer(&attachment, &second.here, 2);
    assert!(!attachment.owes());
}

#[tokio::test]
async fn starts_with_checkpoints_wait_where_too_much_is_to_be_written() {
    let ends = linked().await;
    let attachment = attachment();
    attachment.attach(&ends.here);
    let again = ChildAgain {
        ordinal: Ordinal(0),
        id: 2,
        incarnation: ChildIncarnation(1),
        next: Seq(0),
        item: None,
    };
    let value = Bytes::from(vec![7; limits::CHECKPOINT_BYTES]);
    let from = ChildFrom { again, from: Some((ChildIncarnation(0), value)) };
    let start = || {
        let children = ChildBatch::From(vec![from.clone(); 16]);
        attachment.send_start((JOB, Hosting::Persistent), children, || None)
    };
    // Nobody reads at the other end, and what its transport takes is less than that.
    let most = 4 * limits::CONTROL_CHECKPOINTS_BYTES / limits::CHECKPOINTS_AHEAD_BYTES;
    let begun: Vec<Begun> = (0..most).map(|_| start()).collect();
    assert_eq!((begun.first(), begun.last()), (Some(&Begun::Yes), Some(&Begun::Waits)));
    assert!(!ends.here.is_closed());
    // The job is woken for all of them once, and again only when it is awake.
    assert_eq!(begun.iter().filter(|begun| **begun == Begun::Later).count(), 1);
    assert!(attachment.says_again(JOB) && !attachment.says_again(JOB));
    assert_eq!((start(), start()), (Begun::Later, Begun::Waits));
    let nothing = ChildBatch::Again(Vec::new());
    let said = attachment.send_start((JOB, Hosting::Persistent), nothing, || None);
    assert_eq!(said, Begun::Yes, "what has no checkpoints does not wait");
    ends.here.close(CloseCode::SILENT, "cut");
    assert!(!attachment.says_again(JOB), "there is no connection to say it");
}
