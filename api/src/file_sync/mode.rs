//! Mode bits: Go's `os.FileMode`, which the packets carry, to and from `st_mode`.
//!
//! Used by both ends wherever a stat is written or read.

/// Mask of the permission bits, the same in both worlds.
const PERMISSIONS: u32 = 0o777;
const GO_DIRECTORY: u32 = 1 << 31;
const GO_SYMLINK: u32 = 1 << 27;
const GO_DEVICE: u32 = 1 << 26;
const GO_FIFO: u32 = 1 << 25;
const GO_SOCKET: u32 = 1 << 24;
const GO_SETUID: u32 = 1 << 23;
const GO_SETGID: u32 = 1 << 22;
const GO_CHARACTER: u32 = 1 << 21;
const GO_STICKY: u32 = 1 << 20;
const GO_SPECIAL: u32 = GO_SETUID | GO_SETGID | GO_STICKY;

const UNIX_KIND: u32 = 0o170_000;
const UNIX_SETUID: u32 = 0o4000;
const UNIX_SETGID: u32 = 0o2000;
const UNIX_STICKY: u32 = 0o1000;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file (or, with a link name, a further name of one).
    File,
    /// A folder.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character device.
    Character,
    /// A block device.
    Block,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

impl Kind {
    /// Its Go bits and its `S_IFMT` bits.
    const fn bits(self) -> (u32, u32) {
        match self {
            Self::File => (0, 0o100_000),
            Self::Directory => (GO_DIRECTORY, 0o040_000),
            Self::Symlink => (GO_SYMLINK, 0o120_000),
            Self::Character => (GO_DEVICE | GO_CHARACTER, 0o020_000),
            Self::Block => (GO_DEVICE, 0o060_000),
            Self::Fifo => (GO_FIFO, 0o010_000),
            Self::Socket => (GO_SOCKET, 0o140_000),
        }
    }

    const ALL: [Self; 7] =
        [Self::File, Self::Directory, Self::Symlink, Self::Character, Self::Block, Self::Fifo, Self::Socket];

    /// The kind of a Go mode; None if the bits name none or several, or an unknown bit is set.
    pub fn of_go(mode: u32) -> Option<Self> {
        let bits = mode & !(PERMISSIONS | GO_SPECIAL);
        Self::ALL.into_iter().find(|kind| kind.bits().0 == bits)
    }
}

/// A Go mode from `st_mode`; an unknown kind becomes a regular file.
pub fn go_from_unix(mode: u32) -> u32 {
    let kind = Kind::ALL.into_iter().find(|kind| kind.bits().1 == mode & UNIX_KIND).unwrap_or(Kind::File);
    let mut go = kind.bits().0 | mode & PERMISSIONS;
    for (unix, bit) in [(UNIX_SETUID, GO_SETUID), (UNIX_SETGID, GO_SETGID), (UNIX_STICKY, GO_STICKY)] {
        if mode & unix != 0 {
            go |= bit;
        }
    }
    go
}

/// `st_mode` (kind, special and permission bits) from a Go mode; None if [`Kind::of_go`] is.
pub fn unix_from_go(mode: u32) -> Option<u32> {
    let mut unix = Kind::of_go(mode)?.bits().1 | mode & PERMISSIONS;
    for (bit, go) in [(UNIX_SETUID, GO_SETUID), (UNIX_SETGID, GO_SETGID), (UNIX_STICKY, GO_STICKY)] {
        if mode & go != 0 {
            unix |= bit;
        }
    }
    Some(unix)
}

#[cfg(test)]
mod tests;
