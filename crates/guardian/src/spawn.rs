//! Starting a child: its pipes, its words, its place in a tree.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;
use sortie_exec::sys::spawn::{Launch, Lifetime, SpawnFailure, Spawner, Terminal};
use sortie_exec::sys::terminal::PseudoTerminal;
use sortie_model::reason::SpawnStep;
use sortie_model::spec::OsBytes;
use sortie_wire::guardian_proto::{NulList, Program, SpawnRequest, StandardInput};

use crate::script::{SHELL, ScriptFile, Scripts};
use crate::tree::{Forest, Tree};

/// What is needed to start children.
pub(crate) struct Starter {
    pub(crate) spawner: Spawner,
    scripts: Scripts,
    /// The standard input of children without one.
    null: OwnedFd,
    /// Given up for a moment when no descriptor is free.
    spare: Option<OwnedFd>,
}

/// A child whose first program runs.
pub(crate) struct Started {
    pub(crate) pid: Pid,
    /// The daemon's ends of the pipes: stdout, stderr, then stdin or the channel if there is one.
    /// Only its side of the terminal if there is one.
    pub(crate) pipes: Vec<OwnedFd>,
    /// What follows when the init command has ended, if that is what runs.
    pub(crate) next: Option<Box<MainStage>>,
    pub(crate) script: Option<ScriptFile>,
}

/// All that it takes to start a child's own program.
#[derive(Debug)]
pub(crate) struct MainStage {
    words: NulList,
    environment: NulList,
    directory: CString,
    ends: ChildEnds,
}

/// The child's ends of its pipes, or its side of its terminal.
#[derive(Debug)]
struct ChildEnds {
    /// None stands for the null device.
    input: Option<OwnedFd>,
    output: OwnedFd,
    error: OwnedFd,
    terminal: Terminal,
}

impl ChildEnds {
    /// Both ends of all: the child's, and the daemon's in the order in which it takes them.
    fn open(input: StandardInput) -> Result<(Self, Vec<OwnedFd>), Errno> {
        if let StandardInput::Terminal(size) = input {
            let PseudoTerminal { ours, child } = PseudoTerminal::open(size)?;
            let again = || fcntl_dupfd_cloexec(&child, 0);
            let (input, output) = (Some(again()?), again()?);
            let terminal = Terminal::Controlling;
            return Ok((Self { input, output, error: child, terminal }, vec![ours]));
        }
        let (output_end, output) = pipe()?;
        let (error_end, error) = pipe()?;
        let mut pipes = vec![output_end, error_end];
        let input = match input {
            StandardInput::Null | StandardInput::Terminal(_) => None,
            StandardInput::Pipe => {
                let (input, input_end) = pipe()?;
                pipes.push(input_end);
                Some(input)
            }
            StandardInput::Channel => {
                let (kind, flags) = (SocketType::STREAM, SocketFlags::CLOEXEC);
                let (input, input_end) = socketpair(AddressFamily::UNIX, kind, flags, None)?;
                pipes.push(input_end);
                Some(input)
            }
        };
        Ok((Self { input, output, error, terminal: Terminal::None }, pipes))
    }
}

impl Starter {
    pub(crate) fn new() -> Result<Self, Errno> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        Ok(Self {
            spawner: Spawner::default(),
            scripts: Scripts::default(),
            null: rustix::fs::open(c"/dev/null", flags, Mode::empty())?,
            spare: None,
        })
    }

    /// Holds a descriptor for [`Starter::turn_away`].
    pub(crate) fn hold_spare(&mut self) {
        self.spare = self.null.try_clone().ok();
    }

    /// Lets somebody in and out again when no descriptor is free, so that nobody waits for ever.
    pub(crate) fn turn_away(&mut self, door: impl AsFd) {
        drop(self.spare.take());
        drop(rustix::net::accept(door));
        self.hold_spare();
    }

    /// Starts the child's first program in its tree.
    pub(crate) fn start(
        &mut self,
        request: SpawnRequest,
        forest: &Forest,
        tree: &Tree,
    ) -> Result<Started, SpawnFailure> {
        let (words, script) = self.words(request.program)?;
        let (ends, pipes) = ChildEnds::open(request.input).map_err(fork)?;
        let environment = match forest.mark(tree) {
            None => request.environment,
            Some(mark) => request.environment.with(&mark),
        };
        let directory = request.directory.as_ref().map_or(b"/".as_slice(), OsBytes::as_bytes);
        let directory = CString::new(directory).map_err(|_| fork(Errno::INVAL))?;
        let main = MainStage { words, environment, directory, ends };
        match request.init {
            None => {
                let pid = self.start_main(&main, forest, tree)?;
                Ok(Started { pid, pipes, next: None, script })
            }
            Some(init) => {
                let pid = self.start_init(&init, &main, (forest, tree))?;
                Ok(Started { pid, pipes, next: Some(Box::new(main)), script })
            }
        }
    }

    /// Starts the child's own program in its tree.
    pub(crate) fn start_main(
        &mut self,
        main: &MainStage,
        forest: &Forest,
        tree: &Tree,
    ) -> Result<Pid, SpawnFailure> {
        let ChildEnds { input, output, error, terminal } = &main.ends;
        let input = input.as_ref().map_or(self.null.as_fd(), AsFd::as_fd);
        let entrance = forest.entrance(tree).map_err(fork)?;
        self.spawner.spawn(&Launch {
            words: &main.words,
            environment: &main.environment,
            directory: &main.directory,
            stdio: [input, output.as_fd(), error.as_fd()],
            terminal: *terminal,
            group: entrance.as_ref().map(AsFd::as_fd),
            lifetime: Lifetime::Ours,
        })
    }

    fn start_init(
        &mut self,
        command: &OsBytes,
        main: &MainStage,
        (forest, tree): (&Forest, &Tree),
    ) -> Result<Pid, SpawnFailure> {
        let [shell, option] = [SHELL, "-c"].map(OsBytes::try_from);
        let (Ok(shell), Ok(option)) = (shell, option) else { return Err(fork(Errno::INVAL)) };
        let words = NulList::of_words([&shell, &option, command]);
        let entrance = forest.entrance(tree).map_err(fork)?;
        self.spawner.spawn(&Launch {
            words: &words,
            environment: &main.environment,
            directory: &main.directory,
            stdio: [self.null.as_fd(), main.ends.output.as_fd(), main.ends.error.as_fd()],
            // The end of who is controlled by a terminal hangs it up: it is the main program's.
            terminal: Terminal::None,
            group: entrance.as_ref().map(AsFd::as_fd),
            lifetime: Lifetime::Ours,
        })
    }

    fn words(&mut self, program: Program) -> Result<(NulList, Option<ScriptFile>), SpawnFailure> {
        match program {
            Program::Command(words) => Ok((words, None)),
            Program::Script { text, arguments } => {
                let written = self.scripts.write(&text, &arguments).map_err(|error| {
                    let errno = Errno::from_io_error(&error).unwrap_or(Errno::NOEXEC);
                    SpawnFailure { step: SpawnStep::Exec, errno }
                });
                written.map(|(words, file)| (words, Some(file)))
            }
        }
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
    pipe_with(PipeFlags::CLOEXEC)
}

pub(crate) const fn fork(errno: Errno) -> SpawnFailure {
    SpawnFailure { step: SpawnStep::Fork, errno }
}
