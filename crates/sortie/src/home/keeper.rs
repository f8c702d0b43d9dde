//! Keeps in a home what a running node must not forget.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sortie_actors::{KeepError, Keeper};
use sortie_link::Joined;
use sortie_wire::link_proto::{Member, Roster};

use crate::home::{Home, HomeError, Identities};

/// A node's home, for as long as the node runs: dropping it gives the home free.
#[derive(Debug)]
pub(crate) struct HomeKeeper {
    home: Mutex<Home>,
}

impl HomeKeeper {
    pub(crate) const fn new(home: Home) -> Self {
        Self { home: Mutex::new(home) }
    }

    /// Remembers the port and says that the node is ready at that address.
    pub(crate) fn announce(&self, address: SocketAddr) -> Result<(), HomeError> {
        let mut home = self.lock();
        if home.settings().port != Some(address.port()) {
            let mut settings = home.settings().clone();
            settings.port = Some(address.port());
            home.change_settings(settings)?;
        }
        home.announce(address)
    }

    /// The node has ended: takes its address back and gives the home free, also while handles on
    /// the node are left.
    pub(crate) fn withdraw(&self) {
        self.lock().withdraw();
    }

    fn lock(&self) -> MutexGuard<'_, Home> {
        // What a panic leaves behind is on disk as a whole, or not at all.
        self.home.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keeper for HomeKeeper {
    fn joined(&self, joined: &Joined) -> Result<(), KeepError> {
        let identities = Identities::new(None, joined.node.clone(), joined.user.clone());
        let replace = |identities| self.lock().replace_identities(identities);
        identities.and_then(replace).map_err(|error| KeepError::Storage(sentence(&error)))
    }

    fn roster(&self, roster: &Roster) -> Result<(), KeepError> {
        self.lock().save_roster(roster).map_err(|error| KeepError::Storage(sentence(&error)))
    }

    fn own(&self, member: &Member) -> Result<(), KeepError> {
        let mut home = self.lock();
        let mut settings = home.settings().clone();
        settings.labels = member.labels.iter().cloned().collect();
        // Where it listens anyway need not be remembered, and may be elsewhere in its next life.
        let listens_there = home.listens_at().is_some_and(|at| at.to_string() == member.address);
        settings.advertise = (!listens_there).then(|| member.address.clone());
        home.change_settings(settings).map_err(|error| KeepError::Storage(sentence(&error)))
    }

    fn groups(&self) -> Result<BTreeMap<String, Vec<String>>, KeepError> {
        let groups = self.lock().groups();
        // The file is the user's, whatever is wrong with it.
        let mistake = |error| KeepError::Mistake(sentence(&error));
        groups.map(super::Groups::into_map).map_err(mistake)
    }
}

/// The error with its causes, as one sentence.
fn sentence(error: &HomeError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Some messages repeat their cause already.
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
