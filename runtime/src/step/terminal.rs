//! Terminal: a step's streams through a terminal of the container's own, in the helper.
//!
//! Its threads start after the container: that is made by forking.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    thread::JoinHandle,
};

use rustix::termios::{Winsize, tcsetwinsize};

use crate::console::copy;

/// The master of a container's terminal.
pub(super) struct Terminal {
    master: OwnedFd,
    copying: JoinHandle<()>,
}

impl Terminal {
    /// Copies between the terminal, the step's input and our standard output.
    pub(super) fn start(master: OwnedFd, input: Option<File>) -> io::Result<Self> {
        let (from, to) = (File::from(master.try_clone()?), File::from(master.try_clone()?));
        let out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        if let Some(input) = input {
            std::thread::spawn(move || copy(input, to));
        }
        let copying = std::thread::spawn(move || copy(from, out));
        Ok(Self { master, copying })
    }

    /// The master, for its size.
    pub(super) fn size(&self) -> io::Result<Size> {
        Ok(Size(self.master.try_clone()?))
    }

    /// Waits until everything that was shown has been copied.
    pub(super) fn finish(self) {
        let _ = self.copying.join();
    }
}

/// What changes a terminal's size.
pub(super) struct Size(OwnedFd);

impl Size {
    /// Sets it; a terminal that is gone has none.
    pub(super) fn set(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let _ = tcsetwinsize(&self.0, size);
    }
}
