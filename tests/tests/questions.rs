//! Questions of running functions: `TaskContext::ask`, and the answers of a program.
#![expect(clippy::expect_used, reason = "a test fails by panicking, also in what its cases share")]

use std::convert::Infallible;
use std::time::Duration;

use sortie::answer::Event;
use sortie::testkit::{Clients, cluster};
use sortie::{
    AskError, ChildQuestion, ErrorCode, Job, Node, QuestionNumber, Reason, Selection, Selector,
    State, Stream, TaskContext, WaitCount, WaitSpec,
};
use sortie_tests::{dropped_after, soon};

const PROMPT: &str = "what is your name?";

#[sortie::task]
async fn greet(context: TaskContext, greeting: String) -> Result<String, AskError> {
    let name: String = context.ask(PROMPT).await?;
    Ok(format!("{greeting} {name}"))
}

#[sortie::task]
async fn add(context: TaskContext, count: u32) -> Result<u64, AskError> {
    let mut sum = 0;
    for number in 1..=count {
        sum += context.ask::<u64>(&format!("number {number}")).await?;
    }
    Ok(sum)
}

/// Says how the question ended, whatever it is.
async fn outcome(context: TaskContext, prompt: String) -> Result<String, Infallible> {
    let text = match context.ask::<u8>(&prompt).await {
        Ok(answer) => format!("answered {answer}"),
        Err(AskError::Stopped) => "stopped".to_owned(),
        Err(AskError::TooLong { length }) => format!("too long: {length}"),
        Err(AskError::Answer(_)) => "another type".to_owned(),
        Err(other) => other.to_string(),
    };
    context.information(&text).await;
    Ok(text)
}

/// Asks once, drops the question, asks for something else, with much output before.
async fn second_thoughts(context: TaskContext, lines: u32) -> Result<String, AskError> {
    for line in 0..lines {
        let text = format!("{line} {}", "x".repeat(1_000));
        context.information(&text).await;
    }
    let first = context.ask::<String>("withdrawn");
    assert!(dropped_after(1, first).await.is_none(), "nobody has answered");
    context.ask("asked").await
}

/// Asks two questions at once; they are asked one after the other.
async fn both(context: TaskContext, (): ()) -> Result<(String, String), AskError> {
    let one = context.ask("one");
    let two = context.ask("two");
    let (one, two) = futures_util::join!(one, two);
    Ok((one?, two?))
}

async fn two_nodes() -> (Node, Node) {
    let with = |builder: sortie::NodeBuilder| {
        let builder = builder.without_processes().register(greet).register(add);
        let builder = builder.task("outcome", outcome).task("both", both);
        builder.task("second-thoughts", second_thoughts)
    };
    let a = with(Node::builder("a")).start().await.expect("a node");
    let b = with(Node::builder("b")).join(&a).start().await.expect("a node");
    (a, b)
}

/// Waits until the job is blocked, and gives what is asked.
async fn asked<T>(job: &Job<T>) -> Vec<ChildQuestion> {
    let error = soon(job.wait()).await.expect_err("it asks before it ends");
    assert_eq!(error.code(), ErrorCode::Deadlock, "{error}");
    job.questions().await.expect("questions")
}

/// The same for a job of which one child asks.
async fn asked_once<T>(job: &Job<T>) -> ChildQuestion {
    let mut questions = asked(job).await;
    assert_eq!(questions.len(), 1, "{questions:?}");
    questions.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_lets_the_child_run_on_wherever_it_runs() {
    let (a, _b) = two_nodes().await;
    for on in ["a", "b"] {
        let job = a.session().run(greet, "hello".to_owned()).on(on).expect("a node");
        let job = job.start().await.expect("a start");
        let question = asked_once(&job).await;
        assert_eq!(question.question.prompt, PROMPT);
        assert_eq!(question.location, on);
        let child = job.children().await.expect("children").remove(0);
        assert_eq!((child.state, child.question), (State::Blocked, Some(question.question)));
        assert_eq!(job.view().await.expect("a job").state, State::Blocked);
        job.answer(question.child, "Ada").await.expect("it asks");
        assert_eq!(soon(job).await.expect("a result"), ["hello Ada"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_awaits_or_watches_a_blocked_job_is_told_who_asks() {
    let (a, _b) = two_nodes().await;
    let mut happenings = a.session().watch(Selection::default()).await.expect("a watch");
    let job = a.session().run(greet, "hello".to_owned()).on("b").expect("a node");
    let job = job.start().await.expect("a start");
    let (child, question) = loop {
        let happening = soon(happenings.next()).await.expect("a watch").expect("a session");
        if let Event::Changed { id, question: Some(question), .. } = happening.event {
            break (id, question);
        }
    };
    assert_eq!(question.prompt, PROMPT);
    let error = soon(job).await.expect_err("nobody answers");
    assert!(error.to_string().contains(&format!("{child} asks: {PROMPT}")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_question_takes_one_answer_and_no_other_ones() {
    let (a, _b) = two_nodes().await;
    let job = a.session().run(add, 3).on("b").expect("a node").start().await.expect("a start");
    let first = asked_once(&job).await;
    job.answer_question(&first, &10).await.expect("it asks");
    let second = asked_once(&job).await;
    assert_eq!(second.question.number, QuestionNumber(2));
    let late = job.answer_question(&first, &1_000).await.expect_err("that question is over");
    assert_eq!(late.code(), ErrorCode::NotAsking);
    // What a person types is a text; the function asks for a number.
    job.answer(second.child, "20").await.expect("it asks");
    let third = asked_once(&job).await;
    job.answer_question(&third, &30_u8).await.expect("it asks");
    let again = job.answer_question(&third, &30).await.expect_err("it was answered");
    assert_eq!(again.code(), ErrorCode::NotAsking);
    assert_eq!(soon(job).await.expect("a sum"), [60]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_any_goes_on_while_one_child_can_move() {
    let (a, _b) = two_nodes().await;
    let session = a.session();
    let blocked = session.run(greet, "hello".to_owned()).start().await.expect("a start");
    let question = asked_once(&blocked).await;
    let late = session.run(add, 0).start().await.expect("a start");
    let both = [Selector::Id(blocked.id()), Selector::Id(late.id())];
    let wait = |count| WaitSpec {
        selection: Selection::of(both.clone()),
        count,
        finished: false,
        timeout: None,
    };
    let any = soon(session.wait(wait(WaitCount::Any))).await.expect("one of them ends");
    assert_eq!(any.entries.entries.first().map(|entry| entry.id()), Some(late.id()));
    let all = soon(session.wait(wait(WaitCount::All))).await.expect_err("one of them asks");
    assert_eq!(all.code(), ErrorCode::Deadlock);
    let two = soon(session.wait(wait(WaitCount::AtLeast(2)))).await.expect_err("one asks");
    assert!(two.to_string().contains(PROMPT), "{two}");
    assert!(two.to_string().contains(&question.child.to_string()), "{two}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_child_that_is_stopped_asks_no_more_and_hears_of_it_at_once() {
    let (a, _b) = two_nodes().await;
    for on in ["a", "b"] {
        let job = a.session().task("outcome", "sure?").expect("an input").on(on).expect("a node");
        let job = job.start().await.expect("a start");
        let question = asked_once(&job).await;
        let stopped = soon(job.stop()).await.expect("a stop");
        assert_eq!(stopped.state, State::Stopped);
        let records = job.receive().await.expect("records");
        let said = records.iter().find(|record| record.record.stream == Stream::Information);
        let said: String = said.expect("what it said").value().expect("a text");
        assert_eq!(said, "stopped");
        let late = job.answer_question(&question, &1).await.expect_err("it has ended");
        assert_eq!(late.code(), ErrorCode::NotAsking);
        assert!(late.to_string().contains("Stopped"), "{late}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_comes_after_what_was_said_before_it_also_when_that_is_much() {
    let (a, _b) = two_nodes().await;
    for (on, lines) in [("a", 3), ("b", 3), ("b", 200)] {
        let job = a.session().task("second-thoughts", &lines).expect("an input");
        let job = job.on(on).expect("a node").start().await.expect("a start");
        let question = asked_once(&job).await;
        assert_eq!(question.question.prompt, "asked");
        assert_eq!(question.question.number, QuestionNumber(2));
        let before = job.receive().await.expect("records").len();
        assert_eq!(before, lines as usize, "on {on}");
        job.answer(question.child, "yes").await.expect("it asks");
        let result: Vec<String> = soon(job.typed()).await.expect("a result");
        assert_eq!(result, ["yes"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_that_are_asked_at_once_come_one_after_the_other() {
    let (a, _b) = two_nodes().await;
    let job = a.session().task("both", &()).expect("an input").start().await.expect("a start");
    for prompt in ["one", "two"] {
        let question = asked_once(&job).await;
        assert_eq!(question.question.prompt, prompt);
        job.answer_question(&question, &format!("{prompt}!")).await.expect("it asks");
    }
    let result: Vec<(String, String)> = soon(job.typed()).await.expect("a result");
    assert_eq!(result, [("one!".to_owned(), "two!".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_a_bound_or_has_another_type_is_an_error_for_its_side() {
    let (a, _b) = two_nodes().await;
    let session = a.session();
    let long = "x".repeat(sortie::limits::PROMPT_BYTES + 1);
    let job = session.task("outcome", &long).expect("an input").start().await.expect("a start");
    let said: Vec<String> = soon(job.typed()).await.expect("a result");
    assert_eq!(said, [format!("too long: {}", long.len())]);
    let job = session.task("outcome", "number?").expect("an input").start().await;
    let job = job.expect("a start");
    let question = asked_once(&job).await;
    let huge = "x".repeat(sortie::limits::ANSWER_BYTES);
    let refused = job.answer(question.child, &huge).await.expect_err("it is too long");
    assert_eq!(refused.code(), ErrorCode::Limit);
    job.answer(question.child, "many").await.expect("it asks still");
    let said: Vec<String> = soon(job.typed()).await.expect("a result");
    assert_eq!(said, ["another type"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_question_of_a_job_is_answered_by_the_jobs_number() {
    let (a, _b) = two_nodes().await;
    let session = a.session();
    let job = session.run(greet, "hi".to_owned()).on("a,b").expect("nodes");
    let job = job.start().await.expect("a start");
    let one_asks = asked(&job).await;
    let whole = Selector::Id(job.id());
    while job.questions().await.expect("questions").len() < 2 {
        tokio::task::yield_now().await;
    }
    let several = session.answer(whole.clone(), None, "Ada").await.expect_err("two ask");
    assert_eq!(several.code(), ErrorCode::Usage, "{several}");
    let first = one_asks.first().expect("a question");
    job.answer_question(first, "Ada").await.expect("it asks");
    session.answer(whole.clone(), None, "Bob").await.expect("the other one asks");
    let mut said = soon(job).await.expect("results");
    said.sort_unstable();
    assert_eq!(said, ["hi Ada", "hi Bob"]);
    let late = session.answer(whole, None, "Eve").await.expect_err("nobody asks");
    assert_eq!(late.code(), ErrorCode::NotAsking);
}

/// A cluster of two whose second node greets.
fn greeters() -> sortie::testkit::ClusterBuilder {
    cluster().nodes(2).seed(11).task("greet", |context: TaskContext, (): ()| async move {
        let name: String = context.ask(PROMPT).await?;
        Ok::<_, AskError>(format!("hello {name}"))
    })
}

#[test]
fn an_unanswered_question_outlives_a_broken_connection_and_takes_its_answer_once() {
    let done = greeters().run(async |cluster| {
        let session = cluster.client(1)?.session();
        let job = session.task("greet", &())?.on("node2")?.start().await?;
        let question = asked_once(&job).await;
        cluster.partition(1, 2);
        cluster.advance(Duration::from_secs(4)).await;
        assert_eq!(job.questions().await?, std::slice::from_ref(&question));
        // The answer is on its way while the path is cut, and arrives when it is there again.
        let answering = job.answer_question(&question, "Ada");
        let (answered, ()) = futures_util::join!(answering, async {
            cluster.advance(Duration::from_secs(1)).await;
            assert_eq!(job.view().await.expect("a job").state, State::Running);
            cluster.heal(1, 2);
        });
        answered?;
        let said: Vec<String> = job.typed::<String>().await?;
        assert_eq!(said, ["hello Ada"]);
        Ok::<_, Box<dyn std::error::Error>>(())
    });
    done.expect("a cluster").expect("the test");
}

#[test]
fn a_question_dies_with_its_node() {
    let done = greeters().run(async |cluster| {
        let session = cluster.client(1)?.session();
        let job = session.task("greet", &())?.on("node2")?.start().await?;
        let question = asked_once(&job).await;
        cluster.kill(2).await?;
        let late = job.answer_question(&question, "Ada").await.expect_err("nobody is there");
        assert_eq!(late.code(), ErrorCode::NotAsking);
        assert_eq!(job.wait().await?.state, State::Failed);
        assert_eq!(job.questions().await?, []);
        let child = job.children().await?.remove(0);
        assert!(matches!(child.reason, Some(Reason::NodeLost { .. })), "{child:?}");
        Ok::<_, Box<dyn std::error::Error>>(())
    });
    done.expect("a cluster").expect("the test");
}
