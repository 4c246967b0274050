//! Write behind: a file whose bytes are on their way to the disk while more of them come.
//!
//! Without it, everything a layer has is still in memory when it must become durable, and the sync that comes last waits for all of it: of
//! a pull of 512 MB a quarter of the time was that wait.

use std::{
    fs::File,
    io::{self, Seek, SeekFrom, Write},
};

use buildd_fs::sys::start_writeback;

/// Bytes that may wait before the disk begins with them.
const BEHIND: u64 = 8 << 20;

/// Writes to a file and lets the kernel begin to store what is written. It makes nothing durable: a sync must follow.
#[derive(Debug)]
pub(crate) struct WriteBehind {
    file: File,
    /// Bytes since the disk last began.
    behind: u64,
}

impl WriteBehind {
    /// Writes where `file` stands.
    pub(crate) fn new(file: File) -> Self {
        Self { file, behind: 0 }
    }

    /// The file.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// The file, to be written to past our counting.
    pub(crate) fn file_mut(&mut self) -> &mut File {
        &mut self.file
    }

    /// Lets the disk begin with the last bytes too; the sync that follows waits less, the longer it comes after.
    pub(crate) fn start(&mut self) {
        if self.behind >= BEHIND / 8 {
            start_writeback(&self.file);
        }
        self.behind = 0;
    }
}

impl Write for WriteBehind {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.behind += count as u64;
        if self.behind >= BEHIND {
            self.start();
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for WriteBehind {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}
