use super::*;

const NOTHING: Bytes = Bytes::new();

fn send(inbox: &mut Inbox, number: u64) -> Result<(), BadMessage> {
    let what = Posted::Message { number, kind: MessageKind::Send };
    inbox.on_posted(what, Bytes::from_static(b"m"))
}

fn call(inbox: &mut Inbox, number: u64) -> Result<(), BadMessage> {
    inbox.on_posted(Posted::Message { number, kind: MessageKind::Call }, NOTHING)
}

fn words(inbox: &mut Inbox) -> Vec<InboxWord> {
    inbox.words().into_iter().map(|(word, _)| word).collect()
}

const fn open(accepted: u64, taken: u64) -> InboxWord {
    InboxWord::Open { accepted, taken }
}

const fn unanswered(number: u64) -> InboxWord {
    InboxWord::Answer { number, how: AnswerKind::Unanswered }
}

#[test]
fn a_message_is_accepted_once_and_in_its_turn() {
    let mut inbox = Inbox::default();
    assert_eq!(words(&mut inbox), [open(0, 0)]);
    assert_eq!(send(&mut inbox, 2), Err(BadMessage::Gap));
    for number in [1, 1, 2, 1] {
        assert_eq!(send(&mut inbox, number), Ok(()));
    }
    assert_eq!(words(&mut inbox), [open(2, 0)]);
    assert_eq!(inbox.take().map(|taken| taken.number), Some(1));
    assert_eq!(words(&mut inbox), [open(2, 1)]);
    assert_eq!(inbox.take().map(|taken| taken.number), Some(2));
    assert_eq!(inbox.take(), None);
}

#[test]
fn what_passes_a_bound_is_bad_and_changes_nothing() {
    let mut inbox = Inbox::default();
    let message = |number| Posted::Message { number, kind: MessageKind::Send };
    let long = Bytes::from(vec![0; limits::MESSAGE_BYTES + 1]);
    assert_eq!(inbox.on_posted(message(1), long), Err(BadMessage::TooLong));
    for number in 1..=limits::INBOX_MESSAGES as u64 {
        assert_eq!(send(&mut inbox, number), Ok(()));
    }
    let next = limits::INBOX_MESSAGES as u64 + 1;
    assert_eq!(send(&mut inbox, next), Err(BadMessage::Full));
    inbox.take().expect("a message");
    assert_eq!(send(&mut inbox, next), Ok(()));

    let (mut inbox, longest) = (Inbox::default(), Bytes::from(vec![0; limits::MESSAGE_BYTES]));
    let fit = (limits::INBOX_BYTES / limits::MESSAGE_BYTES) as u64;
    for number in 1..=fit {
        assert_eq!(inbox.on_posted(message(number), longest.clone()), Ok(()));
    }
    assert_eq!(send(&mut inbox, fit + 1), Err(BadMessage::Full));

    let mut inbox = Inbox::default();
    for number in 1..=limits::CALLS_PER_CHILD as u64 {
        assert_eq!(call(&mut inbox, number), Ok(()));
        inbox.take().expect("a message");
    }
    assert_eq!(call(&mut inbox, limits::CALLS_PER_CHILD as u64 + 1), Err(BadMessage::Calls));
}

#[test]
fn a_call_is_answered_once_until_its_owner_has_heard() {
    let mut inbox = Inbox::default();
    assert_eq!(call(&mut inbox, 1), Ok(()));
    words(&mut inbox);
    let yes = (AnswerKind::Value, Bytes::from_static(b"yes"));
    inbox.answer(1, yes.clone());
    inbox.answer(1, (AnswerKind::Unanswered, NOTHING));
    let told = (InboxWord::Answer { number: 1, how: AnswerKind::Value }, yes.1);
    assert_eq!(words(&mut inbox), [told.0]);
    assert_eq!(inbox.words(), []);
    inbox.tell_again();
    assert_eq!(inbox.words(), [(open(1, 0), NOTHING), told]);
    assert_eq!(inbox.on_posted(Posted::Answered { number: 1 }, NOTHING), Ok(()));
    inbox.tell_again();
    assert_eq!(inbox.words(), [(open(1, 0), NOTHING)]);
}

#[test]
fn a_closed_inbox_lets_go_of_what_was_not_taken_and_hears_nothing_more() {
    let mut inbox = Inbox::default();
    for number in 1..=3 {
        assert_eq!(call(&mut inbox, number), Ok(()));
    }
    inbox.take().expect("a message");
    inbox.close();
    assert_eq!(send(&mut inbox, 7), Ok(()), "it was on its way");
    assert_eq!(inbox.take(), None);
    let closed = InboxWord::Closed { accepted: 3 };
    assert_eq!(words(&mut inbox), [unanswered(2), unanswered(3), closed]);
    inbox.end();
    assert_eq!(words(&mut inbox), [unanswered(1)]);
    for number in 1..=3 {
        assert!(!inbox.is_settled());
        assert_eq!(inbox.on_posted(Posted::Answered { number }, NOTHING), Ok(()));
    }
    assert!(!inbox.is_settled());
    assert_eq!(inbox.on_posted(Posted::Closed, NOTHING), Ok(()));
    assert!(inbox.is_settled());
}

#[test]
fn an_owner_that_lives_anew_hears_of_no_call_from_before_and_may_send_as_many_again() {
    let mut inbox = Inbox::default();
    for number in 1..=limits::CALLS_PER_CHILD as u64 {
        call(&mut inbox, number).expect("room");
        inbox.take().expect("a message");
    }
    inbox.answer(1, (AnswerKind::Unanswered, NOTHING));
    inbox.forget_calls();
    inbox.tell_again();
    inbox.answer(2, (AnswerKind::Unanswered, NOTHING));
    let most = limits::CALLS_PER_CHILD as u64;
    assert_eq!(words(&mut inbox), [open(most, most)]);
    assert_eq!(call(&mut inbox, most + 1), Ok(()));
}
