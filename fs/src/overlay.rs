//! Overlay: layer files and overlays over layers, mounted through the kernel's mount API.
//!
//! Options are set one by one (`fsconfig`), so that no string is cut at a page. `redirect_dir`, `metacopy` and `index`
//! are off: then the upper folder alone is the change.
//!
//! # Concurrency
//! A `MountGuard` owns its mount point and takes it down when dropped; after a crash, `sweep` at start does.

use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
};

/// A mount, or the end of one, that failed.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// Something could not be mounted.
    #[error("mount {what} at {}", target.display())]
    Mount {
        /// "overlay", "layer", …
        what: &'static str,
        /// Where.
        target: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A mount could not be taken down.
    #[error("unmount {}", target.display())]
    Unmount {
        /// The mount point.
        target: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// More layers than an overlay may have.
    #[error("mount overlay at {}: {count} layers, overlayfs stacks at most {MAX_LOWERS}", target.display())]
    TooManyLayers {
        /// Where it would be mounted.
        target: PathBuf,
        /// How many layers.
        count: usize,
    },
    /// A file or folder that mounting needs could not be handled.
    #[error("{operation} {}", path.display())]
    File {
        /// "create folder", "read", …
        operation: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl OverlayError {
    /// What could not be mounted, and where.
    pub fn mount(what: &'static str, target: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let target = target.into();
        move |source| Self::Mount { what, target, source }
    }

    /// A mount point that stays.
    pub fn unmount(target: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let target = target.into();
        move |source| Self::Unmount { target, source }
    }

    /// What the kernel said; none if it was not asked.
    pub fn cause(&self) -> Option<&io::Error> {
        match self {
            Self::Mount { source, .. } | Self::Unmount { source, .. } | Self::File { source, .. } => {
                Some(source)
            }
            Self::TooManyLayers { .. } => None,
        }
    }
}

type Result<T, E = OverlayError> = std::result::Result<T, E>;

/// Most layers that overlayfs stacks.
pub const MAX_LOWERS: usize = 500;

/// What an overlay is made of.
#[derive(Clone, Debug)]
pub struct Overlay {
    /// Layer folders, the nearest (uppermost) first.
    pub lowers: Vec<PathBuf>,
    /// Where changes go and the overlay's own work folder; None makes it read-only.
    pub upper: Option<(PathBuf, PathBuf)>,
}

/// A mount that ends with its guard.
#[derive(Debug)]
pub struct MountGuard {
    target: PathBuf,
    mounted: bool,
}

impl MountGuard {
    /// Mounts an overlay at `target`, a folder of ours that is made and removed with the mount. A lone read-only layer
    /// has nothing to be stacked on: an empty folder beside `target` takes the second place.
    pub fn overlay(overlay: &Overlay, target: &Path) -> Result<Self> {
        fs::create_dir_all(target).map_err(|source| OverlayError::File {
            operation: "create folder",
            path: target.to_owned(),
            source,
        })?;
        let mut guard = Self { target: target.to_owned(), mounted: false };
        let detached = stacked(overlay, target)?;
        move_mount(detached.as_fd(), "", rustix::fs::CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .map_err(|error| OverlayError::mount("overlay", target)(error.into()))?;
        guard.mounted = true;
        Ok(guard)
    }

    /// The mount point.
    pub fn path(&self) -> &Path {
        &self.target
    }

    /// Takes the mount down now and says if that failed.
    pub fn close(mut self) -> Result<()> {
        self.end().map_err(OverlayError::unmount(self.target.clone()))
    }

    fn end(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.mounted) {
            unmount(&self.target, UnmountFlags::DETACH)?;
        }
        match fs::remove_dir(&self.target) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for MountGuard {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::warn!(target = %self.target.display(), %error, "unmount");
        }
    }
}

/// A layer file, mounted without a place in the tree; `data` is the file that has its external data, if any.
pub fn erofs(path: &Path, data: Option<&Path>) -> io::Result<OwnedFd> {
    let context = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let fs = context.as_fd();
    fsconfig_set_string(fs, "source", path)?;
    if let Some(data) = data {
        fsconfig_set_string(fs, "device", data)?;
    }
    fsconfig_set_flag(fs, "ro")?;
    fsconfig_create(fs)?;
    Ok(fsmount(fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)?)
}

/// Gives a mount its place.
pub fn attach(mount: &OwnedFd, target: &Path) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(move_mount(mount.as_fd(), "", rustix::fs::CWD, target, flags)?)
}

/// Takes away what is mounted at `target`, and the folder; whoever uses the tree keeps it.
pub fn detach(target: &Path) -> Result<()> {
    unmount(target, UnmountFlags::DETACH).map_err(|error| OverlayError::unmount(target)(error.into()))?;
    fs::remove_dir(target).map_err(OverlayError::unmount(target))
}

/// An overlay that has no place in the tree yet; errors name `target`.
pub fn stacked(overlay: &Overlay, target: &Path) -> Result<OwnedFd> {
    if overlay.lowers.len() > MAX_LOWERS {
        return Err(OverlayError::TooManyLayers { target: target.to_owned(), count: overlay.lowers.len() });
    }
    detached(overlay).map_err(OverlayError::mount("overlay", target))
}

/// The same without a bound.
pub fn detached(overlay: &Overlay) -> io::Result<OwnedFd> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let fs = context.as_fd();
    for lower in &overlay.lowers {
        fsconfig_set_string(fs, "lowerdir+", lower)?;
    }
    for option in ["redirect_dir", "metacopy", "index"] {
        fsconfig_set_string(fs, option, "off")?;
    }
    let mut attributes = MountAttrFlags::empty();
    match &overlay.upper {
        Some((upper, work)) => {
            fsconfig_set_string(fs, "upperdir", upper)?;
            fsconfig_set_string(fs, "workdir", work)?;
            // Nothing a step writes is synced: storage.md, "what is acknowledged is durable".
            fsconfig_set_flag(fs, "volatile")?;
        }
        None => attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY,
    }
    fsconfig_create(fs)?;
    Ok(fsmount(fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// What is mounted below `dir`, in the order of the kernel's table.
pub fn points_below(dir: &Path) -> Result<Vec<PathBuf>> {
    let table = "/proc/self/mountinfo";
    let text = fs::read_to_string(table).map_err(|source| OverlayError::File {
        operation: "read",
        path: table.into(),
        source,
    })?;
    let points = text.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    Ok(points.map(PathBuf::from).filter(|point| point.starts_with(dir)).collect())
}

/// Takes down what a crash left mounted below `dir`.
pub fn sweep(dir: &Path) -> Result<()> {
    for point in points_below(dir)?.into_iter().rev() {
        unmount(&point, UnmountFlags::DETACH).map_err(|error| OverlayError::unmount(&point)(error.into()))?;
    }
    Ok(())
}

/// mountinfo writes blanks as `\040`.
fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                out.push(char::from(code));
                rest = &rest[at + 4..];
            }
            None => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out + rest
}
