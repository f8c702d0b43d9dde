//! A job's children: what they are, what they ask, and the answers.

use serde::Serialize;
use sortie_model::selector::{Query, Selector};
use sortie_model::view::EntryView;
use sortie_model::{ChildView, EntryId, Ordinal, Question, State, limits};
use sortie_wire::session_proto::Entries;

use crate::error::{AnswerError, RequestError};
use crate::job::Job;

/// What a child asks and nobody has answered (`docs/semantics.md`, section 2.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildQuestion {
    /// The child's number in its session.
    pub child: EntryId,
    /// Its place among its siblings, from 0.
    pub ordinal: Ordinal,
    /// Its node's name, or `localhost`.
    pub location: String,
    /// What it asks.
    pub question: Question,
}

impl<T> Job<T> {
    /// The job's children, in child order. The answer is fetched in pages, so children that come
    /// meanwhile may be missing; each takes about 300 bytes of memory here.
    ///
    /// # Errors
    /// [`RequestError`], as for [`Job::view`].
    ///
    /// # Cancel safety
    /// Cancel safe: it changes nothing.
    pub async fn children(&self) -> Result<Vec<ChildView>, RequestError> {
        let mut children = Vec::new();
        loop {
            let page = self.children_from(children.len() as u64).await?;
            if page.is_empty() {
                return Ok(children);
            }
            children.extend(page);
        }
    }

    /// The numbers of the children from that place on, a page of them.
    pub(super) async fn child_ids(&self, from: u64) -> Result<Vec<EntryId>, RequestError> {
        let children = self.children_from(from).await?;
        Ok(children.into_iter().map(|child| child.id).collect())
    }

    /// The children from that place on: a page of them, none behind the last.
    async fn children_from(&self, from: u64) -> Result<Vec<ChildView>, RequestError> {
        let query = Query {
            selection: self.selection(),
            children: true,
            limit: limits::PAGE_MOST as u32,
            // The job itself comes before its children.
            offset: from + 1,
            ..Query::default()
        };
        let Entries { entries, troubles, .. } = self.session.get(query).await?;
        if !troubles.is_empty() {
            return Err(RequestError::of_troubles(troubles));
        }
        let children = entries.into_iter().filter_map(|entry| match entry {
            EntryView::Child(child) => Some(child),
            EntryView::Job(_) => None,
        });
        Ok(children.collect())
    }

    /// What the job's children ask and nobody has answered, in child order: of at most
    /// [`limits::PAGE_MOST`] children.
    ///
    /// A job that waits for an answer ends every wait for it with a
    /// [`Deadlock`](crate::ErrorCode::Deadlock), so a program that answers goes round: wait, look
    /// at the questions, answer.
    ///
    /// # Errors
    /// [`RequestError`], as for [`Job::view`].
    ///
    /// # Cancel safety
    /// Cancel safe: it changes nothing.
    pub async fn questions(&self) -> Result<Vec<ChildQuestion>, RequestError> {
        let query = Query {
            selection: self.selection(),
            child_states: vec![State::Blocked],
            limit: limits::PAGE_MOST as u32,
            ..Query::default()
        };
        let Entries { entries, troubles, .. } = self.session.get(query).await?;
        if !troubles.is_empty() {
            return Err(RequestError::of_troubles(troubles));
        }
        let asked = entries.into_iter().filter_map(|entry| match entry {
            EntryView::Child(child) => Some(child),
            EntryView::Job(_) => None,
        });
        let asked = asked.filter_map(|ChildView { id, ordinal, location, question, .. }| {
            Some(ChildQuestion { child: id, ordinal, location, question: question? })
        });
        Ok(asked.collect())
    }

    /// Answers whatever the child asks now, and returns once the child took the answer. What
    /// `TaskContext::ask` returns there is of the answer's form; a `&str` is what a person types.
    ///
    /// # Errors
    /// [`AnswerError`]; as codes [`NotAsking`](crate::ErrorCode::NotAsking) when the child asks
    /// nothing, or asked no more when the answer came, [`NotFound`](crate::ErrorCode::NotFound)
    /// when there is no such child, [`Limit`](crate::ErrorCode::Limit) for an answer of more than
    /// [`limits::ANSWER_BYTES`].
    ///
    /// # Cancel safety
    /// A dropped call may have been carried out. To answer no other question with a second one, use
    /// [`Job::answer_question`].
    pub async fn answer<A>(&self, child: EntryId, answer: &A) -> Result<(), AnswerError>
    where
        A: Serialize + ?Sized + Sync,
    {
        self.session.answer(Selector::Id(child), None, answer).await
    }

    /// Answers that question and no other one.
    ///
    /// # Errors
    /// As for [`Job::answer`]; also when somebody else has answered it.
    ///
    /// # Cancel safety
    /// A dropped call may have been carried out; repeated, it answers nothing twice.
    pub async fn answer_question<A>(
        &self,
        question: &ChildQuestion,
        answer: &A,
    ) -> Result<(), AnswerError>
    where
        A: Serialize + ?Sized + Sync,
    {
        let (child, number) = (Selector::Id(question.child), question.question.number);
        self.session.answer(child, Some(number), answer).await
    }
}
