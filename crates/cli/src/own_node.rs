//! The user's own node: where its home lies, and how it is started when a command needs one.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::Pid;
use sortie::{Client, ConnectError, HomePaths, limits};

use crate::exit::Cause;
use crate::failure::{ErrorStyle, Failure, OUT_OF_REACH};
use crate::render::clean::one_line;

/// How long a node that we start may take until it answers.
const START_TIME: Duration = Duration::from_secs(15);
/// Time between two looks at a node that is starting.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// How long we wait for a node that somebody else may be about to start.
const OTHERS_START_TIME: Duration = Duration::from_secs(3);
/// What a node of ours must not inherit: it would take our place for its children's.
const OUR_PLACE: [&str; 4] = ["SORTIE_SESSION", "SORTIE_JOB", "SORTIE_CHILD", "SORTIE_NODE"];

/// What a node needs of the disk to say why it cannot start, in bytes.
const LEAST_ROOM: u64 = 16 * 1024;

/// Said where no node of a home starts whose processes run on.
pub(crate) const LEFT_RUNNING: &str =
    "processes of its sessions run on, and `sortie node stop` ends them";

/// How this command says things on stderr: any of its connections may start a node.
static STYLE: OnceLock<ErrorStyle> = OnceLock::new();

/// What is said on the way, of a node that is started for one, is said so.
pub(crate) fn say_in(style: ErrorStyle) {
    // A command has one style from its beginning on.
    let _ = STYLE.set(style);
}

/// Says on stderr what is found on the way, and is no error.
pub(crate) fn notice(code: &'static str, sentence: impl fmt::Display) {
    STYLE.get().copied().unwrap_or(ErrorStyle::Text).notice(code, sentence);
}

/// Where this user's home lies, by the environment (`docs/cli.md`, section 3).
pub(crate) fn home_paths() -> Result<HomePaths, Failure> {
    home_of(|name| std::env::var_os(name), Path::is_dir)
}

/// `is_folder` says whether a folder exists: we make folders in the user's home, never the home.
fn home_of(
    variable: impl Fn(&str) -> Option<OsString>,
    is_folder: impl Fn(&Path) -> bool,
) -> Result<HomePaths, Failure> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(home) = set("SORTIE_HOME") {
        return home_at(&home);
    }
    let home = set("HOME").filter(|home| home.is_absolute());
    // A relative XDG folder is to be ignored, says the XDG base directory specification.
    let xdg = |name: &str, below: &str| {
        let given = set(name).filter(|folder| folder.is_absolute());
        given.or_else(|| home.as_ref().map(|home| home.join(below)))
    };
    let homeless = |why: &dyn fmt::Display| {
        Failure::usage(format_args!("there is no home: SORTIE_HOME is not set, and {why}"))
            .hint("set SORTIE_HOME to a folder of yours")
    };
    let folders = (xdg("XDG_CONFIG_HOME", ".config"), xdg("XDG_STATE_HOME", ".local/state"));
    let (Some(config), Some(state)) = folders else {
        return Err(homeless(&"HOME is no absolute path"));
    };
    if let Some(home) = home.filter(|home| config.starts_with(home) || state.starts_with(home))
        && !is_folder(&home)
    {
        return Err(homeless(&format_args!("HOME is {}, which is no folder", home.display())));
    }
    Ok(HomePaths { config: config.join("sortie"), state: state.join("sortie") })
}

/// A home that lies in one folder.
pub(crate) fn home_at(folder: &Path) -> Result<HomePaths, Failure> {
    let folder = std::path::absolute(folder).map_err(|error| {
        Failure::usage(format_args!("{} is no folder: {error}", folder.display()))
    })?;
    Ok(HomePaths::within(folder))
}

/// A connection to the user's own node, which is started first if none runs.
pub(crate) async fn connect(paths: &HomePaths) -> Result<Client, Failure> {
    match Client::connect_home(paths, limits::CONNECT_TIME).await {
        Ok(client) => Ok(client),
        Err(error) if may_be_absent(&error) => start(paths, error).await,
        Err(error) => Err(error.into()),
    }
}

/// A connection to the user's own node, if it runs.
pub(crate) async fn connect_running(paths: &HomePaths) -> Result<Client, ConnectError> {
    Client::connect_home(paths, limits::CONNECT_TIME).await
}

/// How the user's own node stands for who lost it.
pub(crate) enum Standing {
    /// It answers, or is there and does not yet.
    There,
    /// It was stopped, or is being started: that is left to whoever does it.
    Withdrawn,
    /// It was killed.
    Killed(ConnectError),
}

/// Looks whether the user's own node is there.
pub(crate) async fn look(paths: &HomePaths) -> Standing {
    if !matches!(paths.announced(), Ok(Some(_))) {
        return Standing::Withdrawn;
    }
    match Client::connect_home(paths, limits::CONNECT_TIME).await {
        Ok(client) => client.close().await,
        Err(error @ ConnectError::NotRunning) => return Standing::Killed(error),
        Err(_) => {}
    }
    Standing::There
}

/// Starts the user's own node again, which was killed.
pub(crate) async fn start_again(paths: &HomePaths, before: ConnectError) -> Result<(), Failure> {
    start(paths, before).await?.close().await;
    Ok(())
}

/// Whether starting a node may help: none runs, or one left its address behind when it was killed.
const fn may_be_absent(error: &ConnectError) -> bool {
    match error {
        ConnectError::NotRunning => true,
        ConnectError::Dial(_) => error.is_retryable(),
        _ => false,
    }
}

async fn start(paths: &HomePaths, before: ConnectError) -> Result<Client, Failure> {
    let mut starting = Starting::begin(paths)?;
    let begun = Instant::now();
    let mut last = before;
    while begun.elapsed() < starting.patience() {
        match Client::connect_home(paths, limits::CONNECT_TIME).await {
            Ok(client) => {
                starting.announce();
                return Ok(client);
            }
            Err(error) if may_be_absent(&error) => last = error,
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Err(starting.failure(&last))
}

/// A node that was started and has not answered yet.
struct Starting {
    child: Child,
    paths: HomePaths,
    ended: Option<ExitStatus>,
    /// The guardian that has processes of the home's sessions.
    guardian: Option<u32>,
    log: PathBuf,
    log_begin: u64,
}

impl Starting {
    fn begin(paths: &HomePaths) -> Result<Self, Failure> {
        let cannot = |what: &str, error: &io::Error| {
            Failure::internal(format_args!("cannot start a node of our own: {what}: {error}"))
        };
        let folder = &paths.state;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|error| unusable(folder, &error))?;
        let log = folder.join("node.log");
        let shown = log.display().to_string();
        let file = open_log(&log).map_err(|error| match is_of_place(&error) {
            true => {
                Failure::usage(format_args!("cannot write {shown}: {error}")).hint(OUT_OF_REACH)
            }
            false => cannot(&shown, &error),
        })?;
        let log_begin = file.metadata().map_or(0, |facts| facts.len());
        let again = file.try_clone().map_err(|error| cannot(&shown, &error))?;
        let program = our_program().map_err(|error| cannot("our program", &error))?;
        let mut command = Command::new(&program);
        command.args(["node", "run", "--background"]);
        command.stdin(Stdio::null()).stdout(file).stderr(again);
        for name in OUR_PLACE {
            command.env_remove(name);
        }
        if std::env::var_os("SORTIE_HOME").is_some_and(|home| !home.is_empty()) {
            command.env("SORTIE_HOME", folder);
        }
        let child = command.spawn().map_err(|error| cannot("our program", &error))?;
        let guardian = paths.guardian();
        Ok(Self { child, paths: paths.clone(), ended: None, guardian, log, log_begin })
    }

    /// How long we wait in all: also for a node that somebody else started and that holds the home
    /// before us. Where ours has ended and there is none, only as long as another one may need to
    /// come, and not at all when the user has to mend something first.
    fn patience(&mut self) -> Duration {
        if !self.has_ended() {
            return START_TIME;
        }
        match self.found_a_mistake() {
            true => Duration::ZERO,
            false if self.another_is_there() => START_TIME,
            false => OTHERS_START_TIME,
        }
    }

    fn another_is_there(&self) -> bool {
        let holder = self.paths.last_holder().filter(|holder| *holder != self.child.id());
        let holder = holder.and_then(|holder| Pid::from_raw(i32::try_from(holder).ok()?));
        holder.is_some_and(|holder| rustix::process::test_kill_process(holder).is_ok())
    }

    fn has_ended(&mut self) -> bool {
        self.ended = self.ended.or_else(|| self.child.try_wait().ok().flatten());
        self.ended.is_some()
    }

    /// Whether the node ended because of a mistake of the user's.
    fn found_a_mistake(&self) -> bool {
        let code = self.ended.and_then(|status| status.code());
        code == Some(i32::from(Cause::Usage.status()))
    }

    /// Says so, once, unless it was somebody else's node that answered.
    fn announce(&mut self) {
        if !self.has_ended() {
            notice("node_started", "started a node of your own; `sortie node stop` ends it");
        }
    }

    fn failure(&self, last: &ConnectError) -> Failure {
        let last = match last {
            ConnectError::NotRunning => None,
            error => Some(crate::failure::chain(error)),
        };
        let (line, hint) = self.last_words().unzip();
        if let (true, Some(line)) = (self.found_a_mistake(), &line) {
            let failure = Failure::usage(format_args!("cannot start a node of our own: {line}"));
            return Failure { hint: hint.flatten(), ..failure };
        }
        let parts = [last, line];
        let mut parts: Vec<String> = parts.into_iter().flatten().collect();
        parts.extend(self.silence().filter(|_| parts.is_empty()));
        let why = parts.join("; ");
        let log = format!("its log is {}", self.log.display());
        Failure::unreachable(format_args!("cannot start a node of our own: {why}")).hint(match self
            .guardian
        {
            Some(_) => format!("{log}; {LEFT_RUNNING}"),
            None => log,
        })
    }

    /// What there is to say of a node that ended without a word.
    fn silence(&self) -> Option<String> {
        let folder = self.log.parent()?;
        let room =
            rustix::fs::statvfs(folder).map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
        Some(match (room, self.ended) {
            (Ok(room), _) if room < LEAST_ROOM => {
                format!("the disk of {} has no room left", folder.display())
            }
            (_, Some(status)) => format!("it ended without a word ({status})"),
            (_, None) => "it said nothing".to_owned(),
        })
    }

    /// The last thing that the node said, and its hint.
    fn last_words(&self) -> Option<(String, Option<String>)> {
        let mut log = File::open(&self.log).ok()?;
        log.seek(SeekFrom::Start(self.log_begin)).ok()?;
        let mut bytes = Vec::new();
        log.take(64 * 1024).read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let mut hint = None;
        for line in text.lines().rev() {
            if let Some(line) = line.strip_prefix("sortie: ") {
                return Some((one_line(line).into_owned(), hint));
            }
            hint = line.strip_prefix("  hint: ").map(|line| one_line(line).into_owned());
        }
        None
    }
}

/// Where our program lies. One that was replaced while it ran is the new one.
fn our_program() -> io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let replaced = program.as_os_str().as_bytes().strip_suffix(b" (deleted)");
    let replaced = replaced.map(|path| PathBuf::from(OsStr::from_bytes(path)));
    Ok(replaced.filter(|path| path.is_file()).unwrap_or(program))
}

/// The folder of a home is not there and cannot be made.
fn unusable(folder: &Path, error: &io::Error) -> Failure {
    Failure::usage(format_args!("cannot make the folder {}: {error}", folder.display()))
        .hint("set SORTIE_HOME to a folder of yours")
}

/// Whether the error is about where a file lies or who may use it, not about the disk.
fn is_of_place(error: &io::Error) -> bool {
    use io::ErrorKind::{IsADirectory, NotADirectory, PermissionDenied, ReadOnlyFilesystem};

    matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem | NotADirectory | IsADirectory)
}

fn open_log(path: impl AsRef<OsStr>) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path.as_ref())
}

/// Leaves the terminal and the caller's session, so that neither takes the node with it.
pub(crate) fn detach() {
    // Fails only when we lead a process group already, which `connect` never makes us do.
    let _ = rustix::process::setsid();
    let _ = std::env::set_current_dir("/");
}

/// A line on stderr. Nobody who listens is nobody to tell.
pub(crate) fn eprintln_quietly(line: &str) {
    use std::io::Write;

    let _ = io::stderr().lock().write_all(format!("{line}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home(variables: &[(&str, &str)]) -> Result<HomePaths, Failure> {
        let find = |name: &str| variables.iter().find(|(key, _)| *key == name);
        let variable = |name: &str| find(name).map(|(_, value)| OsString::from(value));
        home_of(variable, |folder| folder != Path::new("/gone"))
    }

    fn at(config: &str, state: &str) -> HomePaths {
        HomePaths { config: config.into(), state: state.into() }
    }

    #[test]
    fn the_home_lies_where_the_environment_says() {
        assert_eq!(home(&[("SORTIE_HOME", "/x"), ("HOME", "/h")]), Ok(at("/x", "/x")));
        let plain = at("/h/.config/sortie", "/h/.local/state/sortie");
        assert_eq!(home(&[("HOME", "/h")]), Ok(plain.clone()));
        let relative = [("HOME", "/h"), ("XDG_STATE_HOME", "s"), ("SORTIE_HOME", "")];
        assert_eq!(home(&relative), Ok(plain));
        let xdg = [("XDG_STATE_HOME", "/s"), ("XDG_CONFIG_HOME", "/c")];
        assert_eq!(home(&xdg), Ok(at("/c/sortie", "/s/sortie")));
    }

    #[test]
    fn a_home_that_is_not_needed_need_not_exist() {
        let xdg = [("HOME", "/gone"), ("XDG_STATE_HOME", "/s"), ("XDG_CONFIG_HOME", "/c")];
        assert_eq!(home(&xdg), Ok(at("/c/sortie", "/s/sortie")));
        assert_eq!(home(&[("HOME", "/gone"), ("SORTIE_HOME", "/x")]), Ok(at("/x", "/x")));
    }

    #[test]
    fn no_home_is_one_clear_sentence() {
        let none = [
            &[][..],
            &[("XDG_STATE_HOME", "/s")],
            &[("HOME", "relative")],
            &[("HOME", "/gone")],
            &[("HOME", "/gone"), ("XDG_STATE_HOME", "/s")],
        ];
        for variables in none {
            let failure = home(variables).expect_err("no home");
            assert_eq!(failure.cause, Cause::Usage);
            assert!(failure.message.contains("HOME"), "{failure:?}");
        }
    }
}
