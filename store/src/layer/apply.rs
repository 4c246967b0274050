//! Apply: a layer's entries into a folder that nobody else uses yet.
//!
//! Every path is resolved by the kernel inside the folder, its parents without following links out; the last part is
//! never followed. Used for the directory form and for archives that ADD unpacks.
//!
//! # Errors
//! `LayerEntry` for what is hostile or broken, `Apply` for what the disk refuses.

use std::{
    collections::{BTreeMap, HashSet},
    ffi::OsStr,
    fs::File,
    io::{self, BufRead, Read},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use buildd_fs::path::{open_in_root, open_root};
use rustix::{
    fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};

use super::{
    Applied, Entry, EntryKind, LayerWriter, OPAQUE_XATTR, Time,
    parse::{broken, each_change, opaque_root},
};
use crate::error::{Error, Result};

/// Applies a tar stream to the end of its bytes.
pub fn apply_tar(stream: impl BufRead, target: &mut dyn LayerWriter) -> Result<Applied> {
    let applied = each_change(stream, &mut |change, body| target.entry(change, body.data))?;
    target.finish()?;
    Ok(applied)
}

/// Writes entries into a folder in the directory form.
#[derive(Debug)]
pub struct DirectoryWriter {
    root: OwnedFd,
    /// Folders' numbers and times, set at the end because writing into a folder changes them.
    folders: BTreeMap<PathBuf, (u64, Time)>,
    /// What stands for a removed path.
    whiteouts: Whiteouts,
    /// Paths of this layer and the folders above them, where whiteouts remove what is older.
    made: HashSet<PathBuf>,
}

/// What a whiteout does in the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whiteouts {
    /// It becomes a character device 0:0, for overlayfs.
    Mark,
    /// It removes what is there, for a tree that nothing lies below.
    Remove,
    /// It is an ordinary file name of an archive and is refused.
    Refuse,
}

impl DirectoryWriter {
    /// Writes into `root`, a folder that nobody else uses now.
    pub fn new(root: &Path, whiteouts: Whiteouts) -> Result<Self> {
        let fd = open_root(root).map_err(Error::file("open", root))?;
        Ok(Self { root: fd, folders: BTreeMap::new(), whiteouts, made: HashSet::new() })
    }

    /// Opens the folder an entry goes into; missing ones are made 0755, root's.
    fn parent(&self, path: &Path, shown: &str) -> Result<OwnedFd> {
        let fail = |source| Error::Apply { entry: shown.to_owned(), source };
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        match open_in_root(self.root.as_fd(), path, flags, Mode::empty()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other.map_err(fail),
        }
        let above =
            self.parent(path.parent().ok_or_else(|| broken(shown, "its parent is a dangling link"))?, shown)?;
        let name = path.file_name().ok_or_else(|| broken(shown, "its parent has no name"))?;
        match rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(fail(error.into())),
        }
        open_in_root(self.root.as_fd(), path, flags, Mode::empty()).map_err(fail)
    }

    /// Removes what this layer did not make in a folder.
    fn clear(&self, path: &Path) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let folder = match open_in_root(self.root.as_fd(), path, flags, Mode::empty()) {
            Ok(folder) => folder,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        for child in rustix::fs::Dir::read_from(&folder)? {
            let child = child?;
            let name = OsStr::from_bytes(child.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            match self.made.contains(&path.join(name)) {
                true => self.clear(&path.join(name))?,
                false => remove(&folder, name)?,
            }
        }
        Ok(())
    }

    fn hardlink(&self, parent: &OwnedFd, name: &OsStr, target: &Path) -> io::Result<()> {
        let found = open_in_root(self.root.as_fd(), target, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())
            .map_err(|e| {
            io::Error::new(
                e.kind(),
                format!("hard link to {}: {e}", target.display().to_string().escape_debug()),
            )
        })?;
        if FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode) == FileType::Directory {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "hard link to a folder"));
        }
        let folder = open_in_root(
            self.root.as_fd(),
            target.parent().unwrap_or(Path::new("")),
            OFlags::PATH | OFlags::DIRECTORY,
            Mode::empty(),
        )?;
        let file = target.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let (from, to) =
            (rustix::fs::fstat(&found)?, rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW));
        if to.is_ok_and(|to| (to.st_dev, to.st_ino) == (from.st_dev, from.st_ino)) {
            return Ok(());
        }
        remove(parent, name)?;
        Ok(rustix::fs::linkat(&folder, file, parent, name, AtFlags::empty())?)
    }
}

impl LayerWriter for DirectoryWriter {
    fn entry(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<()> {
        let shown = || entry.path.display().to_string();
        let hides = matches!(entry.kind, EntryKind::Whiteout | EntryKind::Opaque);
        if hides && self.whiteouts == Whiteouts::Refuse {
            return Err(broken(shown(), "a whiteout has no place in this archive"));
        }
        if entry.kind == EntryKind::Opaque && self.whiteouts == Whiteouts::Remove {
            return self.clear(&entry.path).map_err(|source| Error::Apply { entry: shown(), source });
        }
        if entry.path.as_os_str().is_empty() {
            // The root itself is as we make it: only that it hides what lies below could matter.
            return if entry.kind == EntryKind::Opaque { Err(opaque_root()) } else { Ok(()) };
        }
        if entry.kind == EntryKind::Opaque {
            let folder = self.parent(&entry.path, &shown())?;
            return mark_opaque(&folder).map_err(|source| Error::Apply { entry: shown(), source });
        }
        let name = entry.path.file_name().ok_or_else(|| broken(shown(), "it has no name"))?.to_owned();
        let parent = self.parent(entry.path.parent().unwrap_or(Path::new("")), &shown())?;
        let made = match &entry.kind {
            EntryKind::Whiteout if self.whiteouts == Whiteouts::Remove => remove(&parent, &name),
            EntryKind::Hardlink(target) => self.hardlink(&parent, &name, target),
            _ => make(&parent, &name, entry, data),
        };
        made.map_err(|source| Error::Apply { entry: shown(), source })?;
        if matches!(entry.kind, EntryKind::Directory | EntryKind::OpaqueDirectory) {
            let made = rustix::fs::statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW);
            let made = made.map_err(|error| Error::Apply { entry: shown(), source: error.into() })?;
            self.folders.insert(entry.path.clone(), (made.st_ino, entry.mtime));
        }
        if self.whiteouts == Whiteouts::Remove && !hides {
            self.made.extend(entry.path.ancestors().map(Path::to_owned));
        }
        Ok(())
    }

    /// Sets the folders' times, but of those that a later entry replaced: another folder may be where their path leads now, or none.
    fn finish(&mut self) -> Result<()> {
        let nowhere = |error: &io::Error| {
            matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP))
        };
        for (path, (number, mtime)) in std::mem::take(&mut self.folders).into_iter().rev() {
            let shown = path.display().to_string();
            let set = || -> io::Result<()> {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
                match open_in_root(self.root.as_fd(), &path, flags, Mode::empty()) {
                    Ok(fd) if rustix::fs::fstat(&fd)?.st_ino != number => Ok(()),
                    Ok(fd) => Ok(rustix::fs::futimens(&fd, &timestamps(mtime))?),
                    Err(error) if nowhere(&error) => Ok(()),
                    Err(error) => Err(error),
                }
            };
            set().map_err(|source| Error::Apply { entry: shown, source })?;
        }
        Ok(())
    }
}

fn timestamps(mtime: Time) -> Timestamps {
    let time = Timespec { tv_sec: mtime.seconds, tv_nsec: i64::from(mtime.nanos) };
    Timestamps { last_access: time, last_modification: time }
}

/// Makes anything but a hard link.
fn make(parent: &OwnedFd, name: &OsStr, entry: &Entry, data: &mut dyn Read) -> io::Result<()> {
    let folder = matches!(entry.kind, EntryKind::Directory | EntryKind::OpaqueDirectory);
    let (present, hidden) = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => (Some(FileType::from_raw_mode(stat.st_mode)), stat.st_rdev == 0),
        Err(rustix::io::Errno::NOENT) => (None, false),
        Err(error) => return Err(error.into()),
    };
    // The folder takes the place of what the whiteout removed: it does not merge with it.
    let opaque = entry.kind == EntryKind::OpaqueDirectory
        || (folder && hidden && present == Some(FileType::CharacterDevice));
    if present.is_some() && !(folder && present == Some(FileType::Directory)) {
        remove(parent, name)?;
    }
    let mode = Mode::from_raw_mode(entry.mode);
    let node = |kind, device| rustix::fs::mknodat(parent, name, kind, Mode::from_raw_mode(0o600), device);
    let mut file = None;
    match &entry.kind {
        EntryKind::Directory | EntryKind::OpaqueDirectory => {
            if present != Some(FileType::Directory) {
                rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700))?;
            }
        }
        EntryKind::File { size } => file = Some(write_file(parent, name, *size, data)?),
        EntryKind::Symlink(target) => rustix::fs::symlinkat(target, parent, name)?,
        EntryKind::Char(major, minor) => {
            node(FileType::CharacterDevice, rustix::fs::makedev(*major, *minor))?
        }
        EntryKind::Block(major, minor) => node(FileType::BlockDevice, rustix::fs::makedev(*major, *minor))?,
        EntryKind::Fifo => node(FileType::Fifo, 0)?,
        EntryKind::Whiteout => return Ok(node(FileType::CharacterDevice, 0)?),
        EntryKind::Hardlink(_) | EntryKind::Opaque => return Err(io::ErrorKind::InvalidInput.into()),
    }
    let owner = (Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)));
    rustix::fs::chownat(parent, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
    if matches!(entry.kind, EntryKind::Symlink(_)) {
        return Ok(rustix::fs::utimensat(parent, name, &timestamps(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)?);
    }
    match (&file, folder) {
        (Some(file), _) => set_xattrs(file, entry, false)?,
        (None, true) => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            set_xattrs(&File::from(rustix::fs::openat(parent, name, flags, Mode::empty())?), entry, opaque)?;
        }
        (None, false) => {}
    }
    match &file {
        Some(file) => rustix::fs::fchmod(file, mode)?,
        // Just made by us in a folder that nobody else uses, and not a link.
        None => rustix::fs::chmodat(parent, name, mode, AtFlags::empty())?,
    }
    Ok(rustix::fs::utimensat(parent, name, &timestamps(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn write_file(parent: &OwnedFd, name: &OsStr, size: u64, data: &mut dyn Read) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))?);
    let copied = io::copy(&mut data.take(size), &mut file)?;
    if copied != size {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{copied} of {size} bytes")));
    }
    Ok(file)
}

fn set_xattrs(file: &File, entry: &Entry, opaque: bool) -> io::Result<()> {
    if opaque {
        rustix::fs::fsetxattr(file, OPAQUE_XATTR, b"y", XattrFlags::empty())?;
    }
    for (name, value) in &entry.xattrs {
        match rustix::fs::fsetxattr(file, name.as_os_str(), value, XattrFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOTSUP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Makes a folder hide what lies below it; `folder` is open as a path only.
fn mark_opaque(folder: &OwnedFd) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = rustix::fs::openat(folder, ".", flags, Mode::empty())?;
    Ok(rustix::fs::fsetxattr(&open, OPAQUE_XATTR, b"y", XattrFlags::empty())?)
}

/// Removes whatever has the name, and all below it.
fn remove(parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => return Ok(()),
        Err(rustix::io::Errno::ISDIR) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    for child in rustix::fs::Dir::read_from(&folder)? {
        let child = child?;
        let child = OsStr::from_bytes(child.file_name().to_bytes());
        if child != "." && child != ".." {
            remove(&folder, child)?;
        }
    }
    Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}
