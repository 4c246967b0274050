//! Layer: one change set, as a stream of entries.
//!
//! A layer comes as a tar (imports, pulls) or is made by a step; either way it passes through `Entry`. In the directory
//! form a whiteout is a character device 0:0 and an opaque folder has the xattr `trusted.overlay.opaque`, so that the
//! kernel's overlay stacks layers as they lie.
//!
//! # Sources
//! image-spec "layer"; spec archives-and-layers section 5.

mod apply;
mod blob;
mod erofs;
mod external;
mod file;
mod head;
mod id;
mod large;
mod loose;
mod parse;
mod probe;
mod read;
mod tree;
mod write;

use std::{collections::BTreeMap, ffi::OsString, io::Read, path::PathBuf};

use crate::error::Result;

pub use apply::{DirectoryWriter, Whiteouts, apply_tar};
pub use blob::Blob;
pub use external::ExternalBytes;
pub(crate) use external::{data_file_of, layer_of_data_file};
pub use file::{LayerFileWriter, adopt_tar};
pub use head::open_tar;
pub(crate) use head::{check_index, data_file, is_plain, mount_layer, sync_layer};
pub use id::LayerId;
pub use large::LARGE;
pub use loose::LooseFile;
pub use loose::{Extent, LooseFileWriter};
pub use parse::Applied;
pub use parse::broken;
pub use probe::{LayerFormat, LayerRules, Probed, probe};
pub use read::{describe, read_directory};
pub use write::{ExportOptions, TarWriter, write_tar};

/// Prefix of a whiteout's name in a tar.
pub const WHITEOUT: &str = ".wh.";
/// Name that makes its folder opaque in a tar.
pub const OPAQUE: &str = ".wh..wh..opq";
/// Xattr that makes a folder opaque on disk.
pub(crate) const OPAQUE_XATTR: &str = "trusted.overlay.opaque";

/// A time as files have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Time {
    /// Seconds since 1970.
    pub seconds: i64,
    /// And nanoseconds.
    pub nanos: u32,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A folder; merges with one that is there.
    Directory,
    /// A folder that hides what the layers below have in it.
    OpaqueDirectory,
    /// The mark in a tar that makes its folder opaque; the folder has an entry of its own, or none.
    Opaque,
    /// A file of so many bytes.
    File {
        /// Bytes.
        size: u64,
    },
    /// A symbolic link, to be kept as written.
    Symlink(PathBuf),
    /// Another name of an entry of this layer or below.
    Hardlink(PathBuf),
    /// A character device.
    Char(u32, u32),
    /// A block device.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
    /// The path is gone.
    Whiteout,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative path without `.` and `..`; empty is the root itself.
    pub path: PathBuf,
    /// What is there now.
    pub kind: EntryKind,
    /// Permission bits, with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last change.
    pub mtime: Time,
    /// Extended attributes.
    pub xattrs: BTreeMap<OsString, Vec<u8>>,
}

impl Entry {
    /// A folder as parents are made: 0755, root's.
    pub fn directory(path: PathBuf) -> Self {
        Self {
            path,
            kind: EntryKind::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            xattrs: BTreeMap::new(),
        }
    }
}

/// Where a layer's entries are written to, in one of its forms.
pub trait LayerWriter {
    /// Adds one entry; `data` gives a file's bytes. Of entries with one path the last one counts.
    fn entry(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<()>;

    /// The same of a file whose bytes lie in a client's layer file: a writer may leave them there.
    fn entry_external(&mut self, entry: &Entry, data: &mut dyn Read, lies: ExternalBytes<'_>) -> Result<()> {
        let _ = lies;
        self.entry(entry, data)
    }

    /// Ends the layer: from now on it can be mounted.
    fn finish(&mut self) -> Result<()>;
}

/// Whether an extended attribute belongs into an image: what overlayfs keeps for itself never does.
pub fn keeps_xattr(name: &str) -> bool {
    name == "security.capability" || (name.starts_with("user.") && !name.starts_with("user.overlay."))
}

#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
mod testsuite;
