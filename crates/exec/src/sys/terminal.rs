//! Pseudo terminals: the child's side, and ours, through which its keys go and its output comes.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{InputModes, OptionalActions, Winsize, tcgetattr, tcsetattr, tcsetwinsize};
use sortie_model::spec::WindowSize;

/// Both sides of a pseudo terminal. Neither is anybody's controlling terminal yet.
#[derive(Debug)]
pub struct PseudoTerminal {
    /// Ours: what is written to it is typed, what is read from it was written there.
    pub ours: OwnedFd,
    /// The child's. Once nobody has it open any more, ours is at its end.
    pub child: OwnedFd,
}

impl PseudoTerminal {
    /// Opens a new one, in the modes in which a login finds it: lines are edited, as UTF-8, and
    /// echoed.
    ///
    /// # Errors
    /// The operating system's: above all when there are too many of them.
    pub fn open(size: WindowSize) -> Result<Self, Errno> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let ours = openpt(flags)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        // Asked of our side, so that it is found wherever terminals are mounted.
        let child = ioctl_tiocgptpeer(&ours, flags)?;
        let mut modes = tcgetattr(&child)?;
        modes.input_modes |= InputModes::IUTF8;
        tcsetattr(&child, OptionalActions::Now, &modes)?;
        resize(&ours, size)?;
        Ok(Self { ours, child })
    }
}

/// Gives a terminal's window another size; its foreground processes are told (`SIGWINCH`).
///
/// # Errors
/// The operating system's.
pub fn resize(terminal: impl AsFd, size: WindowSize) -> Result<(), Errno> {
    let WindowSize { rows, columns, width, height } = size;
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: width, ws_ypixel: height };
    tcsetwinsize(terminal, size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_one_has_its_size_and_edits_lines_of_utf8() {
        let size = WindowSize { rows: 30, columns: 100, width: 800, height: 600 };
        let terminal = PseudoTerminal::open(size).expect("a terminal");
        let found = |terminal: &PseudoTerminal| {
            let found = rustix::termios::tcgetwinsize(&terminal.child).expect("a size");
            (found.ws_row, found.ws_col, found.ws_xpixel, found.ws_ypixel)
        };
        assert_eq!(found(&terminal), (30, 100, 800, 600));
        resize(&terminal.ours, WindowSize::default()).expect("a size");
        assert_eq!(found(&terminal), (24, 80, 0, 0));
        let modes = tcgetattr(&terminal.child).expect("modes");
        assert!(modes.input_modes.contains(InputModes::IUTF8));
        assert!(modes.local_modes.contains(rustix::termios::LocalModes::ICANON));
    }
}
