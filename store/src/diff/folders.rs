//! Folders: what stands behind the mounts that a client sends, read from their options.
//!
//! Binds and overlays only, for that is what `Snapshots` answers. Paths are of this machine and absolute; whoever may call us may read and
//! write them anyway.

use std::path::{Path, PathBuf};

use buildd_fs::{mounts::Mount, overlay::MAX_LOWERS};

use crate::error::{Error, Result};

/// The folders behind a set of mounts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Folders {
    upper: Option<PathBuf>,
    lowers: Vec<PathBuf>,
}

impl Folders {
    /// Reads the mounts; none at all are the empty tree.
    pub(super) fn of(mounts: &[Mount]) -> Result<Self> {
        match mounts {
            [] => Ok(Self::default()),
            [mount] => Self::of_one(mount),
            [_, second, ..] => Err(refused(second, "one mount makes a tree here")),
        }
    }

    fn of_one(mount: &Mount) -> Result<Self> {
        let has = |wanted: &[&str]| mount.options.iter().any(|option| wanted.contains(&option.as_str()));
        if mount.kind == "bind" || (mount.kind != "overlay" && has(&["bind", "rbind"])) {
            let folder = absolute(mount, &mount.source)?;
            return Ok(match has(&["ro"]) {
                true => Self { upper: None, lowers: vec![folder] },
                false => Self { upper: Some(folder), lowers: Vec::new() },
            });
        }
        if mount.kind != "overlay" {
            return Err(refused(mount, "only binds and overlays have folders behind them"));
        }
        let option =
            |name: &str| mount.options.iter().find_map(|option| option.strip_prefix(name)?.strip_prefix('='));
        let lowers = option("lowerdir").ok_or_else(|| refused(mount, "an overlay needs a lowerdir"))?;
        let lowers: Vec<&str> = lowers.split(':').collect();
        if lowers.len() > MAX_LOWERS {
            return Err(refused(mount, "it has too many lower folders"));
        }
        let upper = option("upperdir").filter(|_| !has(&["ro"]));
        Ok(Self {
            upper: upper.map(|upper| absolute(mount, upper)).transpose()?,
            lowers: lowers.into_iter().map(|lower| absolute(mount, lower)).collect::<Result<_>>()?,
        })
    }

    /// The folder that takes changes.
    pub(super) fn writable(&self) -> Result<&Path> {
        self.upper.as_deref().ok_or_else(|| Error::Precondition {
            what: "mount",
            name: self.lowers.first().map(|lower| lower.display().to_string()).unwrap_or_default(),
            reason: "is read-only: a layer is unpacked into an active snapshot".to_owned(),
        })
    }

    /// The folders below the one that takes changes.
    pub(super) fn lowers(&self) -> &[PathBuf] {
        &self.lowers
    }

    /// All folders, the nearest first; empty ones say nothing and are left out.
    pub(super) fn stack(self) -> Result<Vec<PathBuf>> {
        let mut stack = Vec::new();
        for folder in self.upper.into_iter().chain(self.lowers) {
            if !super::is_empty(&folder)? {
                stack.push(folder);
            }
        }
        Ok(stack)
    }
}

fn absolute(mount: &Mount, path: &str) -> Result<PathBuf> {
    match Path::new(path).is_absolute() {
        true => Ok(PathBuf::from(path)),
        false => Err(refused(mount, "its paths must be absolute")),
    }
}

fn refused(mount: &Mount, reason: &str) -> Error {
    let name = format!("{} {}", mount.kind, mount.source);
    Error::Invalid { what: "mount", name, reason: reason.to_owned() }
}
