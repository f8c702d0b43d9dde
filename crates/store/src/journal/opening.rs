//! Opening a journal: whose it is, which version it has, what its last commit was.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTableMetadata};

use sortie_model::limits;

use crate::disk::{Access, Disk, Lock};
use crate::journal::backend::{JournalFile, SyncFailed};
use crate::journal::error::{Fault, JOURNAL_VERSION, OpenError};
use crate::journal::tables::{ABOUT_COMMIT, ABOUT_VERSION, Kept};
use crate::journal::writer::guarded;

const FILE: &str = "journal";
/// A journal that is being made.
const NEW_FILE: &str = "journal.new";
const VERSION_FILE: &str = "version";
const LOCK_FILE: &str = "lock";
/// What the version file says before the number. A line's end follows once the journal was made:
/// from then on one that is not there is lost.
const VERSION_TEXT: &str = "sortie journal ";
const _: () = assert!(JOURNAL_VERSION < 10, "one byte is written as a whole or not at all");
/// What is in the directory of a journal that was not made yet.
const FIRST_FILES: [&str; 3] = [LOCK_FILE, VERSION_FILE, NEW_FILE];
/// What of a version file is looked at, in bytes.
const VERSION_BYTES: u64 = 64;

/// The files of a journal.
#[derive(Debug)]
pub(crate) struct Files {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    cache_bytes: usize,
    pub(crate) sync_failed: SyncFailed,
    /// Held as long as the journal is open.
    _lock: Lock,
}

/// A database, and the number of its last commit.
pub(crate) struct Opened {
    pub(crate) database: Database,
    pub(crate) version: u32,
    pub(crate) commit: u64,
    /// Something is left to remove.
    pub(crate) purging: bool,
}

/// What the version file says.
enum Noted {
    /// There is none, or none that says a version.
    Nothing,
    /// A journal of that version was to be made.
    Making(u32),
    /// It was.
    Made(u32),
}

impl Noted {
    fn of(text: &str) -> Self {
        let number = |text: &str| text.strip_prefix(VERSION_TEXT)?.parse().ok();
        let noted = match text.strip_suffix('\n') {
            Some(text) => number(text).map(Self::Made),
            None => number(text).map(Self::Making),
        };
        noted.unwrap_or(Self::Nothing)
    }
}

impl Files {
    /// Takes the lock and looks at the version, before anything else is touched.
    pub(crate) fn lock(
        disk: Arc<dyn Disk>,
        directory: &Path,
        cache_bytes: usize,
    ) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Io { directory: directory.to_owned(), source };
        disk.make_directory(directory).map_err(failed)?;
        let locked = disk.lock(&directory.join(LOCK_FILE)).map_err(failed)?;
        let in_use = || OpenError::InUse { directory: directory.to_owned() };
        let files = Self {
            disk,
            directory: directory.to_owned(),
            cache_bytes,
            sync_failed: SyncFailed::default(),
            _lock: locked.ok_or_else(in_use)?,
        };
        files.check_version()?;
        Ok(files)
    }

    fn check_version(&self) -> Result<(), OpenError> {
        let path = self.directory.join(VERSION_FILE);
        let failed = |source| OpenError::Io { directory: self.directory.clone(), source };
        let noted = self.read_version(&path).map_err(failed)?;
        if !self.has_journal().map_err(failed)? {
            if matches!(noted, Noted::Made(_)) || !self.is_first().map_err(failed)? {
                let file = self.directory.join(FILE);
                return Err(OpenError::Lost { file, directory: self.directory.clone() });
            }
            // The first opening was cut short before it made anything else, or this is the first.
            return self.write_version(&path).map_err(failed);
        }
        match noted {
            Noted::Making(version) | Noted::Made(version) if version > JOURNAL_VERSION => {
                Err(OpenError::Newer { directory: self.directory.clone(), version })
            }
            Noted::Making(version) | Noted::Made(version) if version > 0 => Ok(()),
            _ => Err(OpenError::Damaged { file: path, source: None }),
        }
    }

    /// Whether nothing in the directory tells of an earlier journal.
    fn is_first(&self) -> io::Result<bool> {
        for name in self.disk.list(&self.directory)? {
            let name = name?;
            // An opening that was cut short may have left it empty.
            if name != FILE && !FIRST_FILES.iter().any(|first| name == *first) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn read_version(&self, path: &Path) -> io::Result<Noted> {
        let file = match self.disk.open(path, Access::Read) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Noted::Nothing),
            opened => opened?,
        };
        let length = file.length()?.min(VERSION_BYTES);
        let mut text = vec![0; usize::try_from(length).unwrap_or(0)];
        file.read_at(&mut text, 0)?;
        Ok(Noted::of(&String::from_utf8_lossy(&text)))
    }

    fn has_journal(&self) -> io::Result<bool> {
        match self.disk.open(&self.directory.join(FILE), Access::Read) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            opened => Ok(opened?.length()? > 0),
        }
    }

    fn write_version(&self, path: &Path) -> io::Result<()> {
        let file = self.disk.open(path, Access::Write)?;
        file.set_length(0)?;
        file.write_at(format!("{VERSION_TEXT}{JOURNAL_VERSION}").as_bytes(), 0)?;
        file.sync()?;
        self.disk.sync_directory(&self.directory)
    }

    /// Notes that there is a journal.
    fn note_made(&self) -> io::Result<()> {
        let path = self.directory.join(VERSION_FILE);
        if let Noted::Making(_) = self.read_version(&path)? {
            // Of one that was made before, the name may not be on the disk yet.
            self.disk.sync_directory(&self.directory)?;
            let file = self.disk.open(&path, Access::Write)?;
            file.write_at(b"\n", file.length()?)?;
            file.sync()?;
        }
        Ok(())
    }

    /// Notes that the journal has this program's version, before a commit that says so, too, with
    /// the first facts of it. In between it is newer than all that an older program reads, which
    /// is refused; the other way round it would be damaged.
    pub(crate) fn note_version(&self) -> Result<(), Fault> {
        let noted = || {
            let file = self.disk.open(&self.directory.join(VERSION_FILE), Access::Write)?;
            let digit = JOURNAL_VERSION.to_string();
            file.write_at(digit.as_bytes(), VERSION_TEXT.len() as u64)?;
            file.sync()
        };
        noted().map_err(io_fault)
    }

    /// Opens the journal, which is made first if there is none. One of an older version stays so
    /// until something is written.
    pub(crate) fn open(&self) -> Result<Opened, OpenError> {
        let failed = |source| OpenError::Io { directory: self.directory.clone(), source };
        let is_there = self.has_journal().map_err(failed)?;
        let made = if is_there { Ok(()) } else { guarded(|| self.make()) };
        let noted = made.and_then(|()| self.note_made().map_err(io_fault));
        let opened = noted.and_then(|()| guarded(|| self.open_database()));
        opened.map_err(|fault| match fault {
            Fault::Storage(redb::Error::Io(source)) if source.kind() != ErrorKind::InvalidData => {
                failed(source)
            }
            fault => OpenError::Damaged {
                file: self.directory.join(FILE),
                source: Some(Arc::new(fault)),
            },
        })
    }

    /// Makes a journal under another name, so that one that has its name is whole.
    fn make(&self) -> Result<(), Fault> {
        let new = self.directory.join(NEW_FILE);
        self.disk.remove(&new).map_err(io_fault)?;
        let database = self.database(&new)?;
        let mut transaction = database.begin_write()?;
        transaction.set_quick_repair(true);
        for kept in Kept::ALL {
            kept.open(&transaction)?;
        }
        Kept::About.open(&transaction)?.put(ABOUT_VERSION, &JOURNAL_VERSION)?;
        transaction.commit()?;
        database.close()?;
        self.disk.rename(&new, &self.directory.join(FILE)).map_err(io_fault)
    }

    fn database(&self, path: &Path) -> Result<Database, Fault> {
        let file = self.disk.open(path, Access::Write).map_err(io_fault)?;
        // What the engine trusts without a check may make it panic later.
        let checked = file.length().map_err(io_fault)? <= limits::JOURNAL_CHECKED_BYTES;
        let sync_failed = self.sync_failed.clone();
        let mut builder = Database::builder();
        builder.set_cache_size(self.cache_bytes).set_check_integrity_on_open(checked);
        Ok(builder.create_with_backend(JournalFile { file, sync_failed })?)
    }

    pub(crate) fn open_database(&self) -> Result<Opened, Fault> {
        let database = self.database(&self.directory.join(FILE))?;
        let transaction = database.begin_read()?;
        let about = Kept::About.of(&transaction)?;
        let version = Kept::About.read(&about, ABOUT_VERSION)?;
        let Some(version @ 1..=JOURNAL_VERSION) = version else {
            return Err(Fault::Entry(Kept::About.name()));
        };
        let commit = Kept::About.read(&about, ABOUT_COMMIT)?.unwrap_or(0);
        let removed = Kept::Removed.of(&transaction)?;
        let purging = !removed.is_empty()?;
        drop((removed, about, transaction));
        Ok(Opened { database, version, commit, purging })
    }
}

const fn io_fault(error: io::Error) -> Fault {
    Fault::Storage(redb::Error::Io(error))
}
