//! Mounts: what the daemon's snapshotter answered, carried out on this machine.
//!
//! Used by `image mount`, and by `run` to read the passwd file of an image.

use std::{io, path::Path};

use anyhow::{Context as _, Result, bail};
use buildd_api::containerd::containerd::types;
use buildd_fs::mounts::{self, Mount};

/// Mounts all of them at the target, one upon the other; undoes what was done if one fails.
pub(crate) fn mount_all(mounts: &[types::Mount], target: &Path) -> Result<()> {
    let of = |m: &types::Mount| Mount {
        kind: m.r#type.clone(),
        source: m.source.clone(),
        options: m.options.clone(),
    };
    let mounts: Vec<Mount> = mounts.iter().map(of).collect();
    mounts::mount_all(&mounts, target).context("use the daemon's snapshot")
}

/// Whether something is mounted at a folder.
pub(crate) fn is_mount(dir: &Path) -> bool {
    mounts::is_mount(dir)
}

/// Unmounts the topmost mount at the target.
pub(crate) fn unmount(target: &Path) -> Result<()> {
    match mounts::unmount(target) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => bail!("nothing is mounted there"),
        done => Ok(done?),
    }
}
