//! Requests that go on when the connection breaks (`docs/semantics.md`, section 4.3). Which may be
//! sent again is `sortie_engine::reconnect`'s to say; here they are, about the same session and the
//! same entries as the first time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sortie_actors::data::exchange::ClientEnd;
use sortie_engine::reconnect::{Repeat, repeat};
use sortie_model::selector::{Query, Selection, Selector};
use sortie_model::spec::StopSpec;
use sortie_model::view::EntryView;
use sortie_model::{SessionView, State, limits};
use sortie_wire::session_proto::{
    Answer, Ask, Entries, ReceiveSpec, SessionRef, WaitCount, WaitSpec,
};

use crate::answer::Waited;
use crate::error::RequestError;
use crate::receiver::again::Again;
use crate::route::again::{Over, is_loss};
use crate::route::{Remote, Route};
use crate::session::Session;
use crate::watch::WatchAgain;

/// What a wait may take until its node has said what is meant, however short it is.
const ASKING_TIME: Duration = Duration::from_secs(2);

/// What the default session of a node is called.
const DEFAULT: &str = "default";

impl Session {
    /// The way to the node, where what is asked in this session goes on when it breaks. A temporary
    /// session does not outlive its connection.
    pub(crate) fn lasting(&self) -> Option<&Arc<Remote>> {
        let temporary = self.view_at_start().is_some_and(|view| view.temporary);
        match &self.inner.route {
            Route::Link(remote) if !temporary && remote.goes_on() => Some(remote),
            _ => None,
        }
    }

    /// This very session: by its name or as `default` another one may be meant after its node was
    /// started again.
    ///
    /// # Errors
    /// [`RequestError`].
    pub(crate) async fn firm(&self, remote: &Remote) -> Result<SessionRef, RequestError> {
        let is_meant = |view: &SessionView| match &self.inner.reference {
            SessionRef::Default => view.name == DEFAULT,
            SessionRef::Named(word) => view.is_called(word),
            _ => false,
        };
        if !matches!(self.inner.reference, SessionRef::Default | SessionRef::Named(_)) {
            return Ok(self.inner.reference.clone());
        }
        let known = self.inner.firm.get_or_try_init(async || {
            let asked = (SessionRef::Default, SessionRef::Default);
            let Answer::Sessions(mut all) = self.ask_again(remote, asked, Ask::Sessions).await?
            else {
                return Err(RequestError::Unexpected);
            };
            all.retain(is_meant);
            Ok(match all.as_slice() {
                [view] => SessionRef::Instance(view.instance),
                // Whoever asks in it hears what is wrong with its name.
                _ => self.inner.reference.clone(),
            })
        });
        known.await.cloned()
    }

    /// What a receive needs to go on behind a reconnection; none where it ends with its connection.
    ///
    /// # Errors
    /// [`RequestError`].
    pub(super) async fn receive_on(
        &self,
        spec: &ReceiveSpec,
    ) -> Result<Option<Box<Again>>, RequestError> {
        let Some(remote) = self.lasting() else { return Ok(None) };
        let firm = self.firm(remote).await?;
        let selection = self.firm_selection(&spec.selection).await?;
        Ok(selection.map(|selection| {
            let spec = ReceiveSpec { selection, ..spec.clone() };
            Again::new(self, remote, (firm, spec))
        }))
    }

    /// The same of a watch. Words that mean what is to come mean so still.
    ///
    /// # Errors
    /// [`RequestError`].
    pub(super) async fn watch_on(
        &self,
        selection: Selection,
        over: Option<Over>,
    ) -> Result<Option<WatchAgain>, RequestError> {
        let (Some(remote), Some(over)) = (self.lasting(), over) else { return Ok(None) };
        let firm = self.firm(remote).await?;
        let is_open = |word: &Selector| {
            matches!(word, Selector::All | Selector::Range(..) | Selector::Name(_))
        };
        let open = selection.selectors.is_empty() || selection.selectors.iter().any(is_open);
        let selection = match open {
            true => Some(selection),
            false => self.firm_selection(&selection).await?,
        };
        Ok(selection.map(|selection| WatchAgain::new(self, (remote, over), (firm, selection))))
    }

    /// Opens a request in that session.
    pub(crate) async fn open_in(
        &self,
        which: SessionRef,
        ask: Ask,
    ) -> Result<ClientEnd, RequestError> {
        self.inner.route.open(which, ask).await
    }

    /// Asks once in that session.
    pub(crate) async fn ask_in(&self, which: SessionRef, ask: Ask) -> Result<Answer, RequestError> {
        self.inner.route.ask(which, ask).await
    }

    /// Asks; what may be sent again is, in the same session.
    pub(crate) async fn ask(&self, ask: Ask) -> Result<Answer, RequestError> {
        match self.lasting().filter(|_| repeat(&ask) == Repeat::Whole) {
            Some(remote) => {
                let which = (self.inner.reference.clone(), self.firm(remote).await?);
                self.ask_again(remote, which, ask).await
            }
            None => self.inner.route.ask(self.inner.reference.clone(), ask).await,
        }
    }

    /// The same, in one session at first and, behind a reconnection, in the other.
    async fn ask_again(
        &self,
        remote: &Remote,
        (mut which, firm): (SessionRef, SessionRef),
        ask: Ask,
    ) -> Result<Answer, RequestError> {
        loop {
            let over = remote.present();
            match self.inner.route.ask(which, ask.clone()).await {
                Err(error) if is_loss(&error) => remote.again(over, error).await?,
                done => return done,
            }
            which = firm.clone();
        }
    }

    /// The same entries by words that mean no others later; none where there are too many.
    ///
    /// # Errors
    /// [`RequestError`].
    pub(crate) async fn firm_selection(
        &self,
        selection: &Selection,
    ) -> Result<Option<Selection>, RequestError> {
        let is_firm = |word: &Selector| matches!(word, Selector::Id(_) | Selector::Instance(_));
        let filtered = selection.has_filters();
        let mut words: Vec<Option<&Selector>> = selection.selectors.iter().map(Some).collect();
        if words.is_empty() {
            words.push(None);
        }
        let mut firm = Vec::new();
        for word in words {
            match word {
                Some(word) if is_firm(word) && !filtered => firm.push(word.clone()),
                word => {
                    let selectors = word.cloned().into_iter().collect();
                    let one = Selection { selectors, ..selection.clone() };
                    let (found, unknown) = self.instances(one).await?;
                    firm.extend(found);
                    // What names nothing stays, so that it is said.
                    firm.extend(word.filter(|_| unknown).cloned());
                }
            }
            if firm.len() > limits::REPEATED_ENTRIES {
                return Ok(None);
            }
        }
        // No word at all would mean every job.
        let nothing = firm.is_empty();
        Ok(Some(if nothing { selection.clone() } else { Selection::of(firm) }))
    }

    /// What one word names, no more than is of use, and whether it names nothing though it should.
    async fn instances(&self, selection: Selection) -> Result<(Vec<Selector>, bool), RequestError> {
        let limit = limits::PAGE_MOST as u32;
        let mut query = Query { selection, limit, ..Query::default() };
        let mut found = Vec::new();
        loop {
            let Entries { entries, total, troubles } = self.get(query.clone()).await?;
            query.offset = query.offset.saturating_add(entries.len() as u64);
            let was_last = entries.is_empty() || query.offset >= total;
            found.extend(entries.iter().map(|entry| match entry {
                EntryView::Job(job) => Selector::Instance(job.instance.0),
                // Its session gives no number twice, and finds a child by it at once.
                EntryView::Child(child) => Selector::Id(child.id),
            }));
            if was_last || found.len() > limits::REPEATED_ENTRIES {
                return Ok((found, !troubles.is_empty()));
            }
        }
    }

    /// Waits, on and on; the time counts while the connection is gone, too.
    pub(super) async fn wait_on(
        &self,
        remote: &Remote,
        spec: WaitSpec,
    ) -> Result<Waited, RequestError> {
        let began = Instant::now();
        let left = || spec.timeout.map(|timeout| timeout.saturating_sub(began.elapsed()));
        let meant = async {
            let firm = self.firm(remote).await?;
            Ok::<_, RequestError>((firm, self.firm_selection(&spec.selection).await?))
        };
        // A wait of no time asks all the same.
        let asking = left().map(|left| left.max(ASKING_TIME));
        let Some((firm, selection)) = within(asking, meant).await? else { return Ok(ran_out()) };
        let Some(selection) = selection else {
            let spec = WaitSpec { timeout: left(), ..spec };
            return waited(self.inner.route.ask(firm, Ask::Wait(spec)).await);
        };
        loop {
            let over = remote.present();
            let (selection, count) = (selection.clone(), spec.count);
            let ask = WaitSpec { selection, count, finished: spec.finished, timeout: left() };
            match self.inner.route.ask(firm.clone(), Ask::Wait(ask)).await {
                Err(error) if is_loss(&error) => {
                    if within(left(), remote.again(over, error)).await?.is_none() {
                        return Ok(ran_out());
                    }
                }
                answer => return waited(answer),
            }
        }
    }

    /// Stops, and waits for the end; what was told before the connection broke is not told twice.
    pub(super) async fn stop_on(
        &self,
        remote: &Remote,
        (selection, how): (Selection, StopSpec),
    ) -> Result<Entries, RequestError> {
        let began = Instant::now();
        let longest = how.grace.unwrap_or(limits::GRACE).saturating_add(limits::STOP_MARGIN);
        let firm = self.firm(remote).await?;
        let mut over = remote.present();
        let known = self.firm_selection(&selection).await?;
        let selection = known.clone().unwrap_or(selection);
        let ask = Ask::Stop { selection, how, wait: true };
        let mut stopped = entries(self.inner.route.ask(firm.clone(), ask).await);
        loop {
            let (lost, selection) = match (stopped, &known) {
                (Err(error), Some(known)) if is_loss(&error) => (error, known),
                (stopped, _) => return stopped,
            };
            remote.again(over, lost).await?;
            over = remote.present();
            let left = longest.saturating_sub(began.elapsed());
            stopped = self.stop_the_rest(&firm, (selection, how), left).await;
        }
    }

    async fn stop_the_rest(
        &self,
        firm: &SessionRef,
        (selection, how): (&Selection, StopSpec),
        left: Duration,
    ) -> Result<Entries, RequestError> {
        let ask = |ask| self.inner.route.ask(firm.clone(), ask);
        let found = self.all_of(firm, selection).await?;
        let untold = found.entries.iter().filter(|entry| !is_told(entry.state(), how));
        let untold = untold.map(|entry| Selector::Id(entry.id()));
        let untold = Selection::of(untold);
        if !untold.selectors.is_empty() {
            entries(ask(Ask::Stop { selection: untold, how, wait: true }).await)?;
        }
        let wait = WaitSpec {
            selection: selection.clone(),
            count: WaitCount::All,
            finished: true,
            timeout: Some(left),
        };
        waited(ask(Ask::Wait(wait)).await)?;
        self.all_of(firm, selection).await
    }

    /// All entries that these words mean, which are no more than may be repeated.
    async fn all_of(
        &self,
        firm: &SessionRef,
        selection: &Selection,
    ) -> Result<Entries, RequestError> {
        let limit = limits::PAGE_MOST as u32;
        let mut query = Query { selection: selection.clone(), limit, ..Query::default() };
        let mut all = Entries::default();
        loop {
            let ask = Ask::Get(Box::new(query.clone()));
            let page = entries(self.inner.route.ask(firm.clone(), ask).await)?;
            query.offset = query.offset.saturating_add(page.entries.len() as u64);
            let was_last = page.entries.is_empty() || query.offset >= page.total;
            all.entries.extend(page.entries);
            (all.total, all.troubles) = (page.total, page.troubles);
            if was_last || all.entries.len() > limits::REPEATED_ENTRIES {
                return Ok(all);
            }
        }
    }
}

/// Whether an entry in that state needs to hear of no such stop. One that may take its time is no
/// stop at once.
fn is_told(state: State, how: StopSpec) -> bool {
    let at_once = how.grace == Some(Duration::ZERO);
    state.is_finished() || (state == State::Stopping && !at_once)
}

/// What comes of it; none where the time is over before.
async fn within<T>(
    left: Option<Duration>,
    what: impl Future<Output = Result<T, RequestError>>,
) -> Result<Option<T>, RequestError> {
    match left {
        None => what.await.map(Some),
        Some(left) => tokio::time::timeout(left, what).await.ok().transpose(),
    }
}

fn ran_out() -> Waited {
    Waited { entries: Entries::default(), timed_out: true }
}

pub(super) fn waited(answer: Result<Answer, RequestError>) -> Result<Waited, RequestError> {
    match answer? {
        Answer::Waited { entries, timed_out } => Ok(Waited { entries, timed_out }),
        _ => Err(RequestError::Unexpected),
    }
}

pub(super) fn entries(answer: Result<Answer, RequestError>) -> Result<Entries, RequestError> {
    match answer? {
        Answer::Entries(entries) => Ok(entries),
        _ => Err(RequestError::Unexpected),
    }
}
