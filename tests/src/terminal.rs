//! A terminal of its own, with a command at it and a test in front of it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::{Home, wait_for};

/// A `sortie` command with a terminal as its standard streams, which controls it.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    keys: File,
    /// Held, so that the terminal outlives the command.
    theirs: Option<OwnedFd>,
    /// The modes that the command has left.
    left: Option<Modes>,
    shown: Arc<Mutex<Vec<u8>>>,
    /// Reads what is shown, until nobody holds the other side.
    reader: JoinHandle<()>,
}

impl Terminal {
    /// Runs it in that home, at a window of so many rows and columns, with `TERM=test`.
    ///
    /// # Panics
    /// When there is no terminal, or no `setsid` command.
    pub fn run(home: &Home, size: (u16, u16), arguments: &[&str]) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let ours = openpt(flags).expect("a terminal");
        grantpt(&ours).expect("a terminal");
        unlockpt(&ours).expect("a terminal");
        let theirs = ioctl_tiocgptpeer(&ours, flags).expect("its other side");
        let keys = File::from(ours);
        set_size(&keys, size);
        let sortie = home.command(arguments);
        // Without it a command could not be told of a new size.
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(sortie.get_program()).args(sortie.get_args());
        let changed = sortie.get_envs().filter_map(|(name, value)| Some((name, value?)));
        command.envs(changed).env("TERM", "test").env_remove("SORTIE_SESSION");
        let end = || theirs.try_clone().expect("a descriptor");
        command.stdin(end()).stdout(end()).stderr(end());
        let child = command.spawn().expect("the command `setsid`");
        let shown = Arc::<Mutex<Vec<u8>>>::default();
        let (mut screen, into) = (keys.try_clone().expect("a descriptor"), Arc::clone(&shown));
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut buffer) {
                let more = buffer.get(..count).unwrap_or_default();
                into.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(more);
            }
        });
        Self { child, keys, theirs: Some(theirs), left: None, shown, reader }
    }

    /// All that was shown.
    pub fn bytes(&self) -> Vec<u8> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The same as text.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    /// Waits until that was shown.
    pub fn sees(&self, text: &str) {
        wait_for(&format!("`{text}` in {:?}", self.shown()), || {
            self.shown().contains(text).then_some(())
        });
    }

    /// Types these bytes.
    pub fn types(&self, keys: impl AsRef<[u8]>) {
        (&self.keys).write_all(keys.as_ref()).expect("a terminal");
    }

    /// The window has so many rows and columns from here on.
    pub fn resize(&self, size: (u16, u16)) {
        set_size(&self.keys, size);
    }

    /// The modes that a command finds, or has left.
    pub fn modes(&self) -> Modes {
        let now = |theirs| Modes::of(&tcgetattr(theirs).expect("modes"));
        self.left.or_else(|| self.theirs.as_ref().map(now)).expect("a terminal")
    }

    /// Waits until keys are passed on as they are.
    pub fn is_raw(&self) {
        wait_for("raw mode", || self.modes().is_raw().then_some(()));
    }

    /// The process id of the command.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the command's end: its exit status, and all that was shown.
    pub fn end(&mut self) -> (Option<i32>, String) {
        let what = format!("the command's end after {:?}", self.shown());
        let status = wait_for(&what, || self.child.try_wait().expect("a child"));
        self.left = Some(self.modes());
        self.theirs = None;
        // What was written last may not have been read yet.
        wait_for("the terminal's end", || self.reader.is_finished().then_some(()));
        (status.code(), self.shown())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn set_size(terminal: &File, (rows, columns): (u16, u16)) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).expect("a size");
}

/// What a terminal does with what passes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Modes {
    bits: [u32; 4],
}

impl Modes {
    fn of(modes: &Termios) -> Self {
        let local = modes.local_modes.bits();
        let (input, output) = (modes.input_modes.bits(), modes.output_modes.bits());
        Self { bits: [input, output, modes.control_modes.bits(), local] }
    }

    const fn is_raw(self) -> bool {
        let [.., local] = self.bits;
        local & (LocalModes::ICANON.bits() | LocalModes::ISIG.bits()) == 0
    }
}
