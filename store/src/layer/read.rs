//! Read: a folder in the directory form as a layer's entries, sorted.
//!
//! Walks what a step wrote (the upper directory of its overlay), never what lies below it. Files with several names come
//! as one file and hard links to it.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::{self, Read},
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

use super::{Entry, EntryKind, OPAQUE_XATTR, Time, keeps_xattr};
use crate::error::{Error, Result};

/// Largest value or list of extended attributes; agrees with the kernel.
const MAX_XATTR: usize = 64 << 10;

/// Gives every entry below `root` to `take`, with a reader of its bytes if it is a file.
pub fn read_directory(root: &Path, take: &mut dyn FnMut(&Entry, &mut dyn Read) -> Result<()>) -> Result<()> {
    let mut walk = Walk { root, seen: HashMap::new(), take };
    walk.folder(Path::new(""))
}

struct Walk<'a> {
    root: &'a Path,
    /// First name of a file with several.
    seen: HashMap<(u64, u64), PathBuf>,
    take: &'a mut dyn FnMut(&Entry, &mut dyn Read) -> Result<()>,
}

impl Walk<'_> {
    fn folder(&mut self, path: &Path) -> Result<()> {
        let full = self.root.join(path);
        let list =
            || -> io::Result<Vec<_>> { fs::read_dir(&full)?.map(|entry| Ok(entry?.file_name())).collect() };
        let mut names = list().map_err(Error::file("list", &full))?;
        names.sort_unstable_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        for name in names {
            let child = path.join(name);
            let folder = self.entry(&child)?;
            if folder {
                self.folder(&child)?;
            }
        }
        Ok(())
    }

    /// Whether it was a folder.
    fn entry(&mut self, path: &Path) -> Result<bool> {
        let full = self.root.join(path);
        let Some((mut entry, meta)) = describe(&full, path.to_owned())? else { return Ok(false) };
        let several = meta.nlink() > 1 && !meta.is_dir() && entry.kind != EntryKind::Whiteout;
        if several {
            if let Some(first) = self.seen.get(&(meta.dev(), meta.ino())) {
                entry.kind = EntryKind::Hardlink(first.clone());
            } else {
                self.seen.insert((meta.dev(), meta.ino()), path.to_owned());
            }
        }
        match entry.kind {
            EntryKind::File { .. } => {
                let mut file = File::open(&full).map_err(Error::file("open", &full))?;
                (self.take)(&entry, &mut file)?;
            }
            _ => (self.take)(&entry, &mut io::empty())?,
        }
        Ok(meta.is_dir())
    }
}

/// What lies at `full`, as an entry named `path`; None for a socket, which has no place in a layer.
pub fn describe(full: &Path, path: PathBuf) -> Result<Option<(Entry, fs::Metadata)>> {
    let fail = |operation: &'static str| Error::file(operation, full);
    let meta = fs::symlink_metadata(full).map_err(fail("read"))?;
    let kind = meta.file_type();
    if kind.is_socket() {
        return Ok(None);
    }
    let mut entry = Entry {
        path,
        kind: EntryKind::Directory,
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
        mtime: Time { seconds: meta.mtime(), nanos: meta.mtime_nsec().try_into().unwrap_or_default() },
        xattrs: BTreeMap::new(),
    };
    let device = || (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
    if kind.is_file() || kind.is_dir() {
        entry.xattrs = xattrs(full).map_err(fail("read the attributes of"))?;
    }
    let opaque = entry.xattrs.remove(std::ffi::OsStr::new(OPAQUE_XATTR)).is_some_and(|value| value == b"y");
    entry.kind = if kind.is_dir() {
        if opaque { EntryKind::OpaqueDirectory } else { EntryKind::Directory }
    } else if kind.is_symlink() {
        EntryKind::Symlink(fs::read_link(full).map_err(fail("read"))?)
    } else if kind.is_char_device() {
        match device() {
            (0, 0) => EntryKind::Whiteout,
            (major, minor) => EntryKind::Char(major, minor),
        }
    } else if kind.is_block_device() {
        let (major, minor) = device();
        EntryKind::Block(major, minor)
    } else if kind.is_fifo() {
        EntryKind::Fifo
    } else {
        EntryKind::File { size: meta.len() }
    };
    Ok(Some((entry, meta)))
}

/// The attributes that belong into an image, and the mark of an opaque folder.
fn xattrs(path: &Path) -> io::Result<BTreeMap<std::ffi::OsString, Vec<u8>>> {
    let mut found = BTreeMap::new();
    // Most files have none: those are not worth a large buffer.
    let mut few = [0_u8; 256];
    let list = match rustix::fs::llistxattr(path, &mut few) {
        Ok(length) => few[..length].to_vec(),
        Err(rustix::io::Errno::NOTSUP) => return Ok(found),
        Err(rustix::io::Errno::RANGE) => {
            let mut many = vec![0_u8; MAX_XATTR];
            let length = rustix::fs::llistxattr(path, &mut many)?;
            many.truncate(length);
            many
        }
        Err(error) => return Err(error.into()),
    };
    for name in list.split(|b| *b == 0).filter(|name| !name.is_empty()) {
        let Ok(name) = std::str::from_utf8(name) else { continue };
        if name == OPAQUE_XATTR || keeps_xattr(name) {
            let mut value = vec![0_u8; MAX_XATTR];
            let length = rustix::fs::lgetxattr(path, name, &mut value)?;
            value.truncate(length);
            found.insert(name.into(), value);
        }
    }
    Ok(found)
}
