//! Paths inside a root: names from images and contexts never lead out of it.
//!
//! Resolution is the kernel's (`openat2` with `RESOLVE_IN_ROOT`): an absolute link or a `..` ends at the root, also while
//! somebody else changes the tree.

use std::{
    ffi::OsString,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Component, Path, PathBuf},
};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};

/// Most symbolic links that are followed in one path; agrees with the kernel.
const MAX_LINKS: usize = 40;

/// The path of an open file or mount for this process, however deep it lies or if it has no place at all; good as long as it is open.
pub fn through(open: impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", open.as_fd().as_raw_fd()))
}

/// Opens a root to resolve in.
pub fn open_root(root: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(CWD, root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Opens `path` as seen by a process whose root is `root`.
pub fn open_in_root(root: BorrowedFd<'_>, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match openat2(root, relative(path), flags | OFlags::CLOEXEC, mode, resolve) {
            // The kernel cannot be sure after a rename elsewhere; it asks to try again.
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// Opens a folder inside a root, made as the caller's where it or a parent is missing; `path` has no links, as `resolve` answers.
pub fn make_folders(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let mut walked = PathBuf::new();
    let mut here = open_in_root(root, &walked, flags, Mode::empty())?;
    for part in path {
        match rustix::fs::mkdirat(&here, part, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        walked.push(part);
        here = open_in_root(root, &walked, flags, Mode::empty())?;
    }
    Ok(here)
}

/// `path` without leading slashes; the root itself is `.`.
fn relative(path: &Path) -> PathBuf {
    let bytes = path.as_os_str().as_bytes();
    let start = bytes.iter().position(|b| *b != b'/').unwrap_or(bytes.len());
    let rest = &bytes[start..];
    if rest.is_empty() { PathBuf::from(".") } else { PathBuf::from(std::ffi::OsStr::from_bytes(rest)) }
}

/// `path` with `.`, `..` and doubled slashes taken out as text, relative to a root it cannot leave.
pub fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => cleaned.push(name),
            Component::ParentDir => {
                cleaned.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    cleaned
}

/// Where `path` really is inside `root`: every link followed inside the root, parts that do not exist kept as written.
/// The answer is relative to the root. With `Follow::Parents` the last part is left as it is.
pub fn resolve(root: &Path, path: &Path, follow: Follow) -> io::Result<PathBuf> {
    let root = open_root(root)?;
    let mut pending: Vec<OsString> = parts(path);
    pending.reverse();
    let mut resolved = PathBuf::new();
    let mut links = 0;
    while let Some(part) = pending.pop() {
        if part == ".." {
            resolved.pop();
            continue;
        }
        let candidate = resolved.join(&part);
        if pending.is_empty() && follow == Follow::Parents {
            return Ok(candidate);
        }
        let Some(target) = read_link(root.as_fd(), &candidate)? else {
            resolved = candidate;
            continue;
        };
        links += 1;
        if links > MAX_LINKS {
            return Err(io::Error::from(rustix::io::Errno::LOOP));
        }
        if target.is_absolute() {
            resolved = PathBuf::new();
        }
        pending.extend(parts(&target).into_iter().rev());
    }
    Ok(resolved)
}

/// Whether the last part of a path is followed if it is a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// It is.
    All,
    /// It is not.
    Parents,
}

fn parts(path: &Path) -> Vec<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        })
        .collect()
}

/// The target of a link, None for anything else, also for nothing.
fn read_link(root: BorrowedFd<'_>, path: &Path) -> io::Result<Option<PathBuf>> {
    let fd = match open_in_root(root, path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()) {
        Ok(fd) => fd,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let stat = rustix::fs::fstat(&fd)?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::Symlink {
        return Ok(None);
    }
    let target = rustix::fs::readlinkat(&fd, "", Vec::new())?;
    Ok(Some(PathBuf::from(std::ffi::OsStr::from_bytes(target.as_bytes()))))
}

#[cfg(test)]
mod tests;
