//! A home: what a node keeps on disk between its lives.
//!
//! The library reads no environment and no home directory: whoever makes a [`HomePaths`] says
//! where. Directories are made with mode 0700 and files with 0600, at their creation; every file is
//! written beside its place, synced and renamed into it, so a crash leaves the old file or the new
//! one.

mod error;
mod files;
mod groups;
mod identities;
mod keeper;
mod left;
mod settings;

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use sortie_model::name::BadName;
use sortie_model::spec::OsBytes;
use sortie_model::{NodeId, NodeName};
use sortie_wire::frame::{self, take_frame};
use sortie_wire::link_proto::Roster;

use error::DamageKind;
pub(crate) use error::is_of_place;
pub use error::{Damage, HomeError, MakeFault, Mistake};
pub(crate) use groups::Groups;
pub(crate) use identities::Identities;
pub(crate) use keeper::HomeKeeper;
pub use left::KeptSessions;
pub(crate) use settings::NodeSettings;

/// Where a home lies.
///
/// ```text
/// config/  identity/   ca.pem (where the CA is held), node.pem, user.pem, node.id
///          node.toml   port, advertised address, labels
///          groups.toml groups for node expressions, edited by people
///          roster      the members of the cluster, as last heard
/// state/   lock        held by the node that runs, with its process id
///          node.addr   `host:port` of the node that runs; there once it is ready
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomePaths {
    /// Identity and configuration, such as `$XDG_CONFIG_HOME/sortie`.
    pub config: PathBuf,
    /// State of the node that runs, such as `$XDG_STATE_HOME/sortie`.
    pub state: PathBuf,
}

impl HomePaths {
    /// Both in one directory.
    pub fn within(directory: impl Into<PathBuf>) -> Self {
        let directory = directory.into();
        Self { config: directory.clone(), state: directory }
    }

    /// The one folder in which it lies, if it does, as its children find it in their environment.
    pub(crate) fn as_one_folder(&self) -> Option<OsBytes> {
        use std::os::unix::ffi::OsStrExt;
        let folder = Some(&self.state).filter(|state| **state == self.config)?;
        let bytes = folder.is_absolute().then(|| folder.as_os_str().as_bytes())?;
        OsBytes::try_from(bytes::Bytes::copy_from_slice(bytes)).ok()
    }

    /// Whether processes of this home's sessions run on, or have ended, since a node of it was
    /// killed: the next one takes them over. While a node runs it says whether it has any.
    pub fn keeps_processes(&self) -> bool {
        let kept = std::fs::read_dir(self.processes().join("children"));
        kept.is_ok_and(|mut kept| kept.next().is_some())
    }

    /// Writes a small file in each folder of the home that is there, syncs it and removes it again:
    /// whether a node can keep anything. It may be called while one runs.
    ///
    /// # Errors
    /// [`HomeError::Write`], which names the folder and says why.
    pub fn try_write(&self) -> Result<(), HomeError> {
        let folders = [&self.state, &self.config].into_iter();
        folders.filter(|folder| folder.is_dir()).try_for_each(|folder| files::try_write(folder))
    }

    /// Where sessions are that outlive the node.
    pub(crate) fn sessions(&self) -> PathBuf {
        self.state.join("sessions")
    }

    /// Where the logs of detached processes are, as others are told.
    pub(crate) fn detached(&self) -> PathBuf {
        let folder = self.state.join("detached");
        std::path::absolute(&folder).unwrap_or(folder)
    }

    /// Where the node of this home listens, if one runs and is ready: `host:port`.
    ///
    /// # Errors
    /// [`HomeError::Read`] when the file is there and cannot be read.
    pub fn announced(&self) -> Result<Option<String>, HomeError> {
        let path = self.address_file();
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text.trim_end().to_owned())),
            // Where no folder is, no node runs; who makes the home says what is wrong with it.
            Err(error) if is_nowhere(&error) => Ok(None),
            Err(source) => Err(HomeError::Read { path, source }),
        }
    }

    /// Who holds the home since `before`, which was its last holder before a dial: the next node is
    /// not the one that was dialled. The home is held for the moment of the look, so this is for
    /// those who found no node where one was announced.
    pub(crate) fn holder(&self, before: Option<u32>) -> io::Result<Holder> {
        match files::holder(&self.lock_file())? {
            Holder::Process(process) if process != before => Ok(Holder::Nobody),
            holder => Ok(holder),
        }
    }

    /// The id of the process that holds the home, or held it last, as far as its lock says.
    pub fn last_holder(&self) -> Option<u32> {
        File::open(self.lock_file()).ok().and_then(files::process_in)
    }

    fn address_file(&self) -> PathBuf {
        self.state.join("node.addr")
    }

    fn lock_file(&self) -> PathBuf {
        self.state.join("lock")
    }

    fn roster_file(&self) -> PathBuf {
        self.config.join("roster")
    }

    pub(crate) fn groups_file(&self) -> PathBuf {
        self.config.join("groups.toml")
    }

    /// Whether the file of groups can be read; one that is not there can. It may be called while a
    /// node runs.
    ///
    /// # Errors
    /// [`HomeError::Mistake`] with the line, [`HomeError::Read`] where it cannot be read at all.
    pub fn check_groups(&self) -> Result<(), HomeError> {
        Groups::read(&self.groups_file()).map(drop)
    }

    fn settings_file(&self) -> PathBuf {
        self.config.join("node.toml")
    }

    fn identity_dir(&self) -> PathBuf {
        self.config.join("identity")
    }

    /// Whether the home has an identity. Where it has none, an address in it was left there by a
    /// node that is gone.
    pub(crate) fn has_identity(&self) -> bool {
        self.identity_dir().exists()
    }

    /// What a client of this home's own node needs: the user's identity and the node's id.
    pub(crate) fn client_side(&self) -> Result<(sortie_link::Identity, NodeId), HomeError> {
        identities::read_client_side(&self.identity_dir())
    }
}

/// Who holds a home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    /// No process: an address in it was left there by a node that was killed.
    Nobody,
    /// A process; its id, if the lock says it.
    Process(Option<u32>),
}

/// Whether the error says that there is no file, because nothing of its folder is there either.
fn is_nowhere(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidFilename, NotADirectory, NotFound};

    matches!(error.kind(), NotFound | NotADirectory | InvalidFilename)
}

/// A home that this process holds. Dropping it gives it free and takes its address back.
#[derive(Debug)]
pub(crate) struct Home {
    paths: HomePaths,
    identities: Identities,
    settings: NodeSettings,
    listens_at: Option<SocketAddr>,
    /// Locked as long as it is open; none once the home was given free.
    lock: Option<File>,
}

impl Home {
    /// Takes the home, and makes it first where there is none: a cluster of one with a CA of its
    /// own, a node called `name`, and `user` as the identity of its owner. Without a name a new
    /// node is called after the machine. A node that is alone in its own cluster can be renamed.
    ///
    /// # Errors
    /// [`HomeError`]; [`HomeError::InUse`] when another process holds it.
    pub(crate) fn create_or_open(
        paths: HomePaths,
        name: Option<NodeName>,
        user: &str,
    ) -> Result<Self, HomeError> {
        files::private_dir(&paths.config)?;
        files::private_dir(&paths.state)?;
        let lock = files::lock(&paths.lock_file())?;
        let directory = paths.identity_dir();
        let settings = NodeSettings::read(&paths.settings_file())?;
        let wanted = name.clone();
        let identities = match Identities::read(&directory)? {
            Some(identities) => identities,
            None => Identities::create(&directory, name.unwrap_or_else(machine_name), user)?,
        };
        let mut home = Self { paths, identities, settings, listens_at: None, lock: Some(lock) };
        home.take_address_back()?;
        if let Some(wanted) = wanted {
            home.rename(wanted)?;
        }
        Ok(home)
    }

    fn rename(&mut self, wanted: NodeName) -> Result<(), HomeError> {
        let has = self.identities.name().clone();
        if has == wanted {
            return Ok(());
        }
        let alone = self.roster()?.is_none_or(|roster| roster.members.len() <= 1);
        match self.identities.renamed(&wanted) {
            Some(renamed) if alone => {
                self.replace_identities(renamed?)?;
                // It knows the node by its old name, and nobody else.
                files::remove(&self.paths.roster_file())
            }
            _ => Err(HomeError::OtherName { has, wanted }),
        }
    }

    /// Who this home's node and user are, and its CA if it holds one.
    pub(crate) const fn identities(&self) -> &Identities {
        &self.identities
    }

    /// Puts other identities in the place of these, all or none: a crash leaves the old set or the
    /// new one.
    pub(crate) fn replace_identities(&mut self, identities: Identities) -> Result<(), HomeError> {
        identities.write(&self.paths.identity_dir())?;
        self.identities = identities;
        Ok(())
    }

    /// What the node remembers of how it was run.
    pub(crate) const fn settings(&self) -> &NodeSettings {
        &self.settings
    }

    /// Remembers other settings.
    pub(crate) fn change_settings(&mut self, settings: NodeSettings) -> Result<(), HomeError> {
        settings.write(&self.paths.settings_file())?;
        self.settings = settings;
        Ok(())
    }

    /// The members of the cluster, as last heard; none while the node was always alone.
    pub(crate) fn roster(&self) -> Result<Option<Roster>, HomeError> {
        let path = self.paths.roster_file();
        let Some(bytes) = files::read(&path)? else { return Ok(None) };
        let limit = sortie_model::limits::FRAME_BYTES;
        let mut bytes = bytes::BytesMut::from(bytes.as_slice());
        let frame = take_frame(&mut bytes, limit).ok().flatten();
        let roster = frame.and_then(|frame| frame.open().ok());
        roster.map(Some).ok_or_else(|| HomeError::damaged(&path, DamageKind::Roster))
    }

    /// Remembers the members of the cluster.
    pub(crate) fn save_roster(&self, roster: &Roster) -> Result<(), HomeError> {
        let path = self.paths.roster_file();
        let mut bytes = Vec::new();
        frame::write_message(roster, &mut bytes)
            .map_err(|_| HomeError::damaged(&path, DamageKind::Roster))?;
        files::write(&path, &bytes)
    }

    /// The groups for node expressions, read anew: people edit them while the node runs.
    pub(crate) fn groups(&self) -> Result<Groups, HomeError> {
        Groups::read(&self.paths.groups_file())
    }

    /// Says where the node listens: it is ready. An unspecified address is given as loopback, which
    /// is where this home's own clients reach it.
    pub(crate) fn announce(&mut self, address: SocketAddr) -> Result<(), HomeError> {
        self.listens_at = Some(address);
        let reached = match address {
            SocketAddr::V4(at) if at.ip().is_unspecified() => {
                SocketAddr::from(([127, 0, 0, 1], at.port()))
            }
            SocketAddr::V6(at) if at.ip().is_unspecified() => {
                SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, at.port()))
            }
            other => other,
        };
        files::write(&self.paths.address_file(), format!("{reached}\n").as_bytes())
    }

    /// The address that was announced last.
    pub(crate) const fn listens_at(&self) -> Option<SocketAddr> {
        self.listens_at
    }

    /// Takes the address back and gives the home free. The next holder writes to it from here on.
    pub(crate) fn withdraw(&mut self) {
        let Some(lock) = self.lock.take() else { return };
        if let Err(error) = self.take_address_back() {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "the node's address could not be taken back");
        }
        drop(lock);
    }

    /// Takes the address back: no node is ready here.
    pub(crate) fn take_address_back(&self) -> Result<(), HomeError> {
        files::remove(&self.paths.address_file())
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.withdraw();
    }
}

/// The machine's name, cut to what a node's name may be; `node` if nothing of it is left.
pub(crate) fn machine_name() -> NodeName {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let nameless = || "node".parse();
    #[expect(clippy::expect_used, reason = "the literal is a node name")]
    node_name(name.trim()).or_else(|_: BadName| nameless()).expect("`node` is a node name")
}

/// The nearest node name to a text: its first label, without the characters that names lack.
fn node_name(text: &str) -> Result<NodeName, BadName> {
    let label = text.split('.').next().unwrap_or_default();
    let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let kept = label.chars().filter(allowed).skip_while(|c| !c.is_ascii_alphanumeric());
    kept.take(sortie_model::limits::NODE_NAME_BYTES).collect::<String>().parse()
}

#[cfg(test)]
mod tests;
